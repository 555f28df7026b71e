/* control/tasks.h - verbs as tasks: numbered, kept over restarts, watched, cancelled.
 *
 * A task is written to the journal's named values ("task/ID") before its verb begins and when it has ended.
 * One that a stop or a crash of the edge cut short is asked for again at the next start, as the same task.
 * The last TASKS_KEPT that ended are remembered. Main loop; callbacks too.
 */
#ifndef ISTHMUS_TASKS_H
#define ISTHMUS_TASKS_H

#include "vm_verb.h"

enum { TASKS_KEPT = 100 };

enum tasks_state { TASK_RUNNING, TASK_WAITING, TASK_DONE, TASK_FAILED, TASK_CANCELLED };

struct tasks_info {
    uint64_t id;
    struct vm_verb_ask ask;
    enum tasks_state state;
    uint64_t bytes, bytes_done;  /* bytes 0: not counted */
    int64_t eta_s;               /* -1: nobody knows */
    uint64_t started_s, ended_s; /* Unix time, for people; ended_s 0: it has not */
    struct why text;             /* what it does or waits for; why it failed */
};

struct tasks;

struct tasks_conf {
    struct vms *vms;
    struct journal *journal;
    struct loop *main;
};

/* Blocking: after vms_open(), before the target starts. What had not ended goes on. */
int tasks_open(struct tasks **, const struct tasks_conf *, struct why *);
/* After vms_close() was done. done() comes later. */
void tasks_close(struct tasks *, void (*done)(void *arg), void *arg);

/* done(): the task's id once it is written down; or 0 with -errno (as vm_verb_check; -EIO) and why. What is
 * asked for again is the same task as long as that has not ended; force is added to it. */
void tasks_start(struct tasks *, const struct vm_verb_ask *,
                 void (*done)(void *arg, uint64_t id, int status, const struct why *), void *arg);
/* 0: it will end soon. -ENOENT; -EALREADY: it has ended; -EBUSY: it is in its last step. */
int tasks_cancel(struct tasks *, uint64_t id, struct why *);

bool tasks_get(const struct tasks *, uint64_t id, struct tasks_info *);
/* The newest first. */
void tasks_each(const struct tasks *, void (*each)(void *arg, const struct tasks_info *), void *arg);

#endif
