/* target/lun_gone.h - a LUN is taken from its initiators while they work.
 *
 * New commands find no such LUN, and the others tell that the list of LUNs has changed. What is in the volume
 * has time to come back, then reads are cancelled: what they wait for may be the WAN. Belongs to the device,
 * on the VM's loop.
 */
#ifndef ISTHMUS_LUN_GONE_H
#define ISTHMUS_LUN_GONE_H

#include <sys/queue.h>

struct device;
struct shard;
struct vm;

struct lun_gone;
LIST_HEAD(lun_gone_list, lun_gone);

/* It is out of vm->volumes. done(), later, when no command uses its volume. shard may be NULL: nobody does.
 */
void lun_gone(struct shard *, struct vm *, unsigned lun, void (*done)(void *arg), void *arg);
/* A command uses its volume no more. */
void lun_gone_look(struct device *);

#endif
