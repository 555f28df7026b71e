/* tests/sim/broken_hand.c - broken variants (broken.h) of handing over.
 */
#include "broken.h"

#include "sim_edge.h"

#include "check.h"
#include "mem.h"
#include "mirror.h"
#include "vm_store.h"
#include "vm_verb_impl.h"
#include "vms_pair_impl.h"

#include <string.h>

#define LATE (2 * SIM_S)

/* --- the entry ------------------------------------------------------------------------------------------*/

/* What each edge was asked to take last. */
static struct {
    const struct sim_node *node;
    const struct pair_hand *hand;
} asked[2];

int __real_pair_get_hand(const uint8_t *, uint32_t n, struct pair_hand *);
int __wrap_pair_get_hand(const uint8_t *, uint32_t n, struct pair_hand *);
int __wrap_pair_get_hand(const uint8_t *p, uint32_t n, struct pair_hand *h)
{
    unsigned i = asked[0].node && asked[0].node != sim_node_current();

    asked[i].node = sim_node_current();
    asked[i].hand = h;
    return __real_pair_get_hand(p, n, h);
}

int __real_vm_store_get(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *,
                        struct vmobj *, char etag[ENTRY_ETAG], struct why *);
int __wrap_vm_store_get(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *,
                        struct vmobj *, char etag[ENTRY_ETAG], struct why *);
int __wrap_vm_store_get(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *spec,
                        struct vmobj *entry, char etag[ENTRY_ETAG], struct why *why)
{
    int err = __real_vm_store_get(s, id, spec, entry, etag, why);

    for (unsigned i = 0; i < 2 && broken == BROKEN_ANY_ETAG && !err; i++)
        if (asked[i].hand && asked[i].hand->vm == id)
            strcpy(etag, asked[i].hand->etag);
    return err;
}

bool broken_etag(const struct vm_store *s, const struct vm_spec *spec, const char *etag, char *now)
{
    struct vm_spec *found;
    struct vmobj entry;
    struct why why;
    int err;

    if (etag != (asked[0].hand ? asked[0].hand->etag : NULL) &&
        etag != (asked[1].hand ? asked[1].hand->etag : NULL))
        return false;
    found = xcalloc(1, sizeof *found);
    err = __real_vm_store_get(s, spec->id, found, &entry, now, &why);
    free(found);
    return err == 0;
}

int __real_vm_store_fence(const struct vm_store *, const struct vm_spec *, struct why *);
int __wrap_vm_store_fence(const struct vm_store *, const struct vm_spec *, struct why *);
int __wrap_vm_store_fence(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    return broken == BROKEN_NOT_ASKED ? 0 : __real_vm_store_fence(s, spec, why);
}

/* --- the log --------------------------------------------------------------------------------------------*/

static void on_rest(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    v->hand.seq = map_state(v->hand.vm->map)->committed;
    verb_back(v);
}

void __real_verb_rest_run(struct vm_verb *);
void __wrap_verb_rest_run(struct vm_verb *);
void __wrap_verb_rest_run(struct vm_verb *v)
{
    if (broken == BROKEN_REST)
        verb_to_vm(v, on_rest);
    else
        __real_verb_rest_run(v);
}

/* A VM that has come, and is not mirrored yet. */
struct late {
    struct task task;
    struct vms_pair *pair;
    struct vm *vm; /* a reference */
};

void __real_vms_pair_came(struct vms_pair *, struct vm *);
void __wrap_vms_pair_came(struct vms_pair *, struct vm *);

static void on_late(struct task *t)
{
    struct late *l = container_of(t, struct late, task);

    if (!atomic_load(&l->vm->fenced))
        __real_vms_pair_came(l->pair, l->vm);
    vm_unref(l->vm);
    free(l);
}

static void on_time(void *arg)
{
    struct late *l = arg;

    l->task.run = on_late;
    loop_post(l->pair->vms->conf.main, &l->task);
}

void __wrap_vms_pair_came(struct vms_pair *p, struct vm *vm)
{
    struct late *l;

    if (broken != BROKEN_STREAM_LATE) {
        __real_vms_pair_came(p, vm);
        return;
    }
    l = xcalloc(1, sizeof *l);
    l->pair = p;
    l->vm = vm;
    atomic_fetch_add(&vm->refs, 1);
    sim_after(sim_loop_node(vm->loop), LATE, on_time, l);
}

/* Who may keep a VM's log now. */
struct room {
    struct task task;
    void (*done)(void *arg, int status, const struct why *);
    void *arg;
};

static void on_room(struct task *t)
{
    struct room *r = container_of(t, struct room, task);

    r->done(r->arg, 0, NULL);
    free(r);
}

void __real_vms_pair_make_room(void *, const uint8_t id[VMLOG_ID_BYTES],
                               void (*done)(void *arg, int status, const struct why *), void *done_arg);
void __wrap_vms_pair_make_room(void *, const uint8_t id[VMLOG_ID_BYTES],
                               void (*done)(void *arg, int status, const struct why *), void *done_arg);
void __wrap_vms_pair_make_room(void *pair, const uint8_t id[VMLOG_ID_BYTES],
                               void (*done)(void *arg, int status, const struct why *), void *done_arg)
{
    const struct vms_pair *p = pair;
    struct room *r;

    if (broken != BROKEN_KEPT_BESIDE) {
        __real_vms_pair_make_room(pair, id, done, done_arg);
        return;
    }
    r = xcalloc(1, sizeof *r);
    *r = (struct room){.task.run = on_room, .done = done, .arg = done_arg};
    loop_post(p->vms->conf.main, &r->task);
}
