/* target/still.h - the commands of a VM that is being handed to the other edge wait: none is refused, none
 * fails.
 *
 * What has been looked at is executed to its end; what comes later is parked in its session (forward.h), or,
 * if it came by the other edge, sent back there to come again. Belongs to the device, on the VM's loop.
 */
#ifndef ISTHMUS_STILL_H
#define ISTHMUS_STILL_H

struct device;
struct shard;
struct still; /* device->still */
struct vm;

/* done() later, when all that was under way has its answer; not after still_end(). */
void still_begin(struct shard *, struct device *, void (*done)(void *arg), void *arg);
/* They go on here (far NULL), or are forwarded as those of `far`, and sessions from the other edge end. */
void still_end(struct shard *, struct device *, struct vm *far);
/* device_free(). NULL is allowed. */
void still_free(struct still **);

#endif
