/* tests/sim/broken_pair.c - broken variants (broken.h) of the pair.
 */
#include "broken.h"

#include "sim_edge.h"

#include "check.h"
#include "keep.h"
#include "mem.h"
#include "mirror.h"
#include "pair_impl.h"
#include "vm_store.h"
#include "vms_pair_impl.h"

#include <errno.h>
#include <string.h>

/* --- the mirrored log --- */

uint64_t __real_vmlog_follow(struct vmlog *, struct vmlog_follower *);
uint64_t __wrap_vmlog_follow(struct vmlog *, struct vmlog_follower *);
uint64_t __wrap_vmlog_follow(struct vmlog *log, struct vmlog_follower *follower)
{
    uint64_t first = __real_vmlog_follow(log, follower);

    if (follower && broken == BROKEN_MIRROR_NOT_AWAITED)
        follower->has = UINT64_MAX;
    if (follower && broken == BROKEN_MIRROR_UNSYNCED)
        follower->stable = UINT64_MAX;
    return first;
}

void __real_vmlog_forget(struct vmlog *, uint64_t through);
void __wrap_vmlog_forget(struct vmlog *, uint64_t through);
void __wrap_vmlog_forget(struct vmlog *log, uint64_t through)
{
    __real_vmlog_forget(log, broken == BROKEN_KEPT_TRIMMED ? vmlog_last(log) : through);
}

/* --- states and leases --- */

struct pair *__real_pair_new(const struct pair_conf *);
struct pair *__wrap_pair_new(const struct pair_conf *);
struct pair *__wrap_pair_new(const struct pair_conf *conf)
{
    struct pair_conf other = *conf;

    if (broken == BROKEN_LEASE_LONG && strcmp(conf->self, conf->other) > 0)
        other.lease_ns *= 2;
    return __real_pair_new(&other);
}

static bool answers_ping;

bool __real_pair_keeps(const struct pair *);
bool __wrap_pair_keeps(const struct pair *);
bool __wrap_pair_keeps(const struct pair *p)
{
    if (broken == BROKEN_KEEPS_ON && !answers_ping)
        return p->role == PAIR_OUT || p->role == PAIR_BOTH;
    return __real_pair_keeps(p);
}

void __real_pair_request(struct pair *, struct link_request *);
void __wrap_pair_request(struct pair *, struct link_request *);
void __wrap_pair_request(struct pair *p, struct link_request *r)
{
    answers_ping = true;
    __real_pair_request(p, r);
    answers_ping = false;
    if (broken == BROKEN_TAKES_EARLY)
        p->lease.given_ns = 0;
}

void broken_answer(struct link_call *call)
{
    struct pair *p = container_of(call, struct pair, ping);

    if (broken == BROKEN_LEASE_FROM_ANSWER && call->type == PROTO_PAIR_PING)
        p->ping_sent_ns = pair_now(p);
}

/* --- taking over, taking in --- */

int __real_vm_store_take(const struct vm_store *, const struct vm_spec *, const struct vmobj *,
                         const char *etag, struct why *);
int __wrap_vm_store_take(const struct vm_store *, const struct vm_spec *, const struct vmobj *,
                         const char *etag, struct why *);
int __wrap_vm_store_take(const struct vm_store *s, const struct vm_spec *spec, const struct vmobj *entry,
                         const char *etag, struct why *why)
{
    char now[ENTRY_ETAG];

    if (broken == BROKEN_ANY_ETAG && broken_etag(s, spec, etag, now))
        etag = now;
    return broken == BROKEN_FENCE_SKIPPED ? 0 : __real_vm_store_take(s, spec, entry, etag, why);
}

int __real_keep_look(struct journal *, const uint8_t id[VMLOG_ID_BYTES], const uint8_t writer[16],
                     uint64_t *from, bool *joined, struct why *);
int __wrap_keep_look(struct journal *, const uint8_t id[VMLOG_ID_BYTES], const uint8_t writer[16],
                     uint64_t *from, bool *joined, struct why *);
int __wrap_keep_look(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], const uint8_t writer[16],
                     uint64_t *from, bool *joined, struct why *why)
{
    int err = broken == BROKEN_NOT_JOINED ? -ENOENT : __real_keep_look(j, id, writer, from, joined, why);

    *joined = *joined || broken == BROKEN_NOT_CLEARED;
    return err;
}

void __real_commit_through(struct commit *, struct commit_wait *, uint64_t seq);
void __wrap_commit_through(struct commit *, struct commit_wait *, uint64_t seq);
void __wrap_commit_through(struct commit *c, struct commit_wait *w, uint64_t seq)
{
    __real_commit_through(c, w, broken == BROKEN_TAKEN_IN_EARLY ? 0 : seq);
}

struct volume *__real_volume_new(const struct volume_conf *);
struct volume *__wrap_volume_new(const struct volume_conf *);
struct volume *__wrap_volume_new(const struct volume_conf *conf)
{
    struct volume_conf other = *conf;

    if (broken == BROKEN_GATE)
        other.gate = NULL;
    return __real_volume_new(&other);
}

void __real_vms_pair_clear(void *);
void __wrap_vms_pair_clear(void *);
void __wrap_vms_pair_clear(void *arg)
{
    const struct vms_pair *p = arg;
    const struct why why = {""};

    if (broken == BROKEN_NOT_CLEARED)
        pair_cleared(p->pair, 0, &why);
    else
        __real_vms_pair_clear(arg);
}

bool __real_vms_pair_status(const struct vms *, struct pair_status *);
bool __wrap_vms_pair_status(const struct vms *, struct pair_status *);
bool __wrap_vms_pair_status(const struct vms *vms, struct pair_status *s)
{
    bool paired = __real_vms_pair_status(vms, s);

    if (broken == BROKEN_RECOVERS_ANY) {
        s->other_writer = NULL;
        s->inheriting = false;
    }
    return paired;
}
