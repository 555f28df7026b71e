/* common/worker.h - one thread of its own for work that waits for other machines.
 *
 * The pool (loop_work) is for what ends soon: a disk, a computation. Upkeep, recovery and write-back wait for
 * an object store for as long as it is away, one after the other; they must not take the pool's threads.
 * First come, first served.
 */
#ifndef ISTHMUS_WORKER_H
#define ISTHMUS_WORKER_H

#include "loop.h"

struct worker;

/* name: as a loop's. */
struct worker *worker_new(const char *name);
/* As loop_work(), but run() is on the worker's thread and may wait. Any thread. */
void worker_do(struct worker *, struct loop *, struct work *);
/* Waits for what was given. NULL is allowed. */
void worker_free(struct worker **);

#endif
