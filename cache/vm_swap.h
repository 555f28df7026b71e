/* cache/vm_swap.h - a VM in the catalog whose insides are closed and opened again; used by verbs only.
 *
 * The catalog never holds a VM that is half open: an empty one stands in for it, on the same loop, and nobody
 * can log in to that. Main loop.
 */
#ifndef ISTHMUS_VM_SWAP_H
#define ISTHMUS_VM_SWAP_H

#include "vm_life.h"

/* An empty VM of the same definition takes vm's place and is returned. What vm had open is closed once its
 * last reference is gone; then closed(). */
struct vm *vm_empty(struct vm *, void (*closed)(void *arg), void *arg);

/* Opens an empty VM of the catalog as its definition says: done() gets what has taken its place, shut as it
 * was; or NULL with why (-ECANCELED: the edge is stopping). */
void vm_fill(struct vm *empty, void (*done)(void *arg, struct vm *, int status, const struct why *),
             void *arg);

#endif
