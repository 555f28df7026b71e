/* common/pool.h - the threads behind loop_work() of real loops. See loop.h for pool_start and pool_stop.
 */
#ifndef ISTHMUS_POOL_H
#define ISTHMUS_POOL_H

#include "loop.h"

/* loop_ops.work of the real loop. Any thread. */
void pool_work(struct loop *, struct work *);

#endif
