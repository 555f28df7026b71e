/* cache/vm_verb.h - what a user does with a VM: bring it here, send it home, throw away, flush, ...
 *
 * One verb at a time works on a VM. Each may be asked for again after a crash at any of its steps: it goes on
 * from whatever it finds. docs/operating.md says what they do, docs/log.md the order of a discard's steps.
 * Main loop; all calls and callbacks.
 */
#ifndef ISTHMUS_VM_VERB_H
#define ISTHMUS_VM_VERB_H

#include "vm.h"

enum vm_verb_kind {
    VERB_RUN_IN_CLOUD,
    VERB_RUN_ON_PREM,
    VERB_DISCARD,
    VERB_FLUSH,
    VERB_COMMIT,
    VERB_STORAGE,
    VERB_PAUSE,
    VERB_RESUME,
    VERB_CLEAR_ALARM,
    VERB_HAND_OVER,
    VERB_PREFER,
    VERB_KINDS
};

struct vm_verb_ask {
    enum vm_verb_kind kind;
    char vm[VM_NAME_MAX + 1];
    uint64_t task;          /* its number, never used for another; 0: it has none */
    enum wb_policy storage; /* RUN_IN_CLOUD (0: as it was), STORAGE */
    bool again;             /* it may have done a part of it before this start */
    bool force;             /* RUN_ON_PREM, DISCARD: initiators that do not log out are dropped */
    bool commit;            /* RUN_ON_PREM of a cloud-persist VM: what it wrote goes home with it, */
    bool discard;           /* or is thrown away */
    char prefers[PROTO_NAME_MAX + 1]; /* PREFER: an edge */
};

/* As in the REST API: "run-in-cloud". */
const char *vm_verb_name(enum vm_verb_kind);
/* false: there is none of that name. */
bool vm_verb_of(const char *name, enum vm_verb_kind *);

struct vm_verb;

/* Whether it can begin: 0, -ENOENT, -EBUSY (another verb, an initiator), -EINVAL, with why. */
int vm_verb_check(struct vms *, const struct vm_verb_ask *, struct why *);
/* done(): 0; -ECANCELED: the VM is as it was before; -ESHUTDOWN: the edge stops, ask again at its next start;
 * or what went wrong, with why. The verb is gone then. */
struct vm_verb *vm_verb_start(struct vms *, const struct vm_verb_ask *,
                              void (*done)(void *arg, int status, const struct why *), void *arg);
/* 0: done() comes later, mostly with -ECANCELED; -EBUSY with why: it is in its last step. */
int vm_verb_cancel(struct vm_verb *, struct why *);
/* Asked again, now with force. */
void vm_verb_force(struct vm_verb *);

struct vm_verb_report {
    bool waiting;               /* for somebody or something else */
    uint64_t bytes, bytes_done; /* bytes 0: not counted */
    struct why text;            /* what it does, or waits for */
};
void vm_verb_report(const struct vm_verb *, struct vm_verb_report *);

#endif
