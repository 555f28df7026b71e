/* cache/vm_peer.h - a VM that is handed over, and the edges' memories (docs/pair.md, "Peer cache"). On
 * vm->loop.
 */
#ifndef ISTHMUS_VM_PEER_H
#define ISTHMUS_VM_PEER_H

#include "remains.h"
#include "vm_life.h"

/* It was the other edge's up to the record before its `since`: over `next`, of that disk, what is left there.
 */
struct tier *vm_over_peer(struct vm *, const struct vm_disk *, struct tier *next);
/* It is the other edge's since this record, and nobody writes here any more: what is left here. To be freed.
 */
struct remains_vm *vm_remains(const struct vm *, uint64_t seq);

#endif
