/* tests/unit/on_loop.h - runs a function on a loop's own thread, and returns when it has. */
#ifndef ISTHMUS_ON_LOOP_H
#define ISTHMUS_ON_LOOP_H

#include "check.h"
#include "loop.h"

#include <semaphore.h>

struct on_loop {
    struct task task;
    void (*f)(void);
    sem_t done;
};

static inline void on_loop_run(struct task *t)
{
    struct on_loop *o = container_of(t, struct on_loop, task);

    o->f();
    sem_post(&o->done);
}

static inline void on_loop(struct loop *l, void (*f)(void))
{
    struct on_loop o = {.task.run = on_loop_run, .f = f};

    sem_init(&o.done, 0, 0);
    loop_post(l, &o.task);
    sem_wait(&o.done);
    sem_destroy(&o.done);
}

#endif
