/* target/scsi_reserve.c - RESERVE, RELEASE, and what PERSISTENT RESERVE OUT changes. On the VM's loop.
 *
 * RESERVE(6) and (10) (SPC-2) belong to a session and end with it. They and registrations keep each other
 * out: REPORT CAPABILITIES says CRH 0. The rules of the persistent ones are in reserve.c; here are bytes,
 * unit attentions, aborts, and the order of changes: one after the other for a LUN, each stable (APTPL), and
 * with the mirror of a pair, before it holds and is answered. PREEMPT AND ABORT is answered when no write of
 * whom it removed is in the volume any more: what its sender reads then stays.
 */
#include "scsi_reserve.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "mirror.h"
#include "reserve_store.h"
#include "scsi.h"
#include "wire.h"

static const char part[] = "target";
enum { LONG_ID = 0x02, EXTENT = 0x01, THIRD_PARTY = 0x10 };

/* A PERSISTENT RESERVE OUT, until it is answered. */
struct change {
    TAILQ_ENTRY(change) entry;
    struct command *cmd;
    struct reserve_request request;
};

/* A LUN's, made when it is first asked to change. */
struct reserved {
    struct device *device;
    int lun;
    struct reserve now, after; /* after: what the first of changes will make of it */
    struct reserve_notices notices;
    TAILQ_HEAD(, change) changes; /* the first is being saved, or is on its way to the mirror */
    unsigned result;              /* of the first */
    struct fence fence;           /* the first waits for aborted writes */
    bool stored;                  /* the journal has a value */
    struct reserve_save save;
};

static struct reserved *reserved_of(const struct command *cmd)
{
    return cmd->conn->session->device->reserved[cmd->lun];
}

static struct reserved *reserved_new(struct device *d, int lun)
{
    struct reserved *l = xcalloc(1, sizeof *l);

    l->device = d;
    l->lun = lun;
    reserve_init(&l->now);
    TAILQ_INIT(&l->changes);
    d->reserved[lun] = l;
    return l;
}

const struct reserve *scsi_reserve_now(const struct command *cmd)
{
    const struct reserved *l = reserved_of(cmd);

    return l ? &l->now : NULL;
}

static bool load(const struct vm *vm, const struct shard *s, uint8_t number, struct reserve *r)
{
    const struct buf *kept = vm->reserved[number];

    if (!vm->taken)
        return s->target->reservations && reserve_store_get(s->target->reservations, &vm->spec, number, r);
    if (!kept)
        return false;
    if (reserve_get(r, kept->data, kept->len, 0) == 0)
        return true;
    log_error(vm->spec.name, "what was kept of the reservations of disk %u cannot be read", number);
    return false;
}

void scsi_reserve_load(struct device *d, const struct shard *s)
{
    CLEANUP_FREE struct reserve *r = xmalloc(sizeof *r);

    for (unsigned lun = 0; lun < VM_DISKS_MAX; lun++)
        if (d->vm->volumes[lun] && load(d->vm, s, volume_disk(d->vm->volumes[lun]), r)) {
            struct reserved *l = reserved_new(d, (int)lun);

            l->now = *r;
            l->stored = true;
        }
}

void scsi_reserve_forget(struct device *d, unsigned lun)
{
    CHECK(!d->reserved[lun] || TAILQ_EMPTY(&d->reserved[lun]->changes));
    free(d->reserved[lun]);
    d->reserved[lun] = NULL;
    d->reserved_by[lun] = NULL;
}

void scsi_reserve_free(struct device *d)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        scsi_reserve_forget(d, i);
}

/* The class of this very CDB. */
static enum reserve_class class_of(const struct command *cmd)
{
    const uint8_t *cdb = cmd->cdb;

    if (cmd->op->class == RESERVE_STARTS)
        return cdb[4] >> 4 == 0 && cdb[4] & 1 ? RESERVE_STATUS : RESERVE_WRITES;
    if (cmd->op->class == RESERVE_PREVENTS)
        return cdb[4] & 3 ? RESERVE_WRITES : RESERVE_FREE;
    return cmd->op->class;
}

bool scsi_reserve_conflicts_on(const struct command *cmd, int lun, enum reserve_class class)
{
    const struct session *s = cmd->conn->session, *old = s->device->reserved_by[lun];
    const struct reserved *r = s->device->reserved[lun];

    if (old)
        return (old != s || class == RESERVE_PERSISTENT) && reserve_conflicts_old(class);
    return r && r->now.type && reserve_conflicts(&r->now, class, s->initiator, s->isid, s->conn->group);
}

bool scsi_reserve_conflicts(const struct command *cmd)
{
    if (cmd->op->class == RESERVE_FREE)
        return false;
    return scsi_reserve_conflicts_on(cmd, cmd->lun, class_of(cmd));
}

/* --- RESERVE and RELEASE --- */

/* Neither third parties nor extents. */
static bool old_ok(struct command *cmd)
{
    const struct reserved *r = reserved_of(cmd);

    if (cmd->cdb[1] & (THIRD_PARTY | EXTENT | (cmd->op->cdb_bytes == 10 ? LONG_ID : 0))) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, -1);
        return false;
    }
    if (cmd->op->cdb_bytes == 10 && get16(cmd->cdb + 7)) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 7, -1);
        return false;
    }
    if (r && (r->now.n || !TAILQ_EMPTY(&r->changes))) { /* registered, or about to be */
        command_conflict(cmd);
        return false;
    }
    return true;
}

void scsi_reserve(struct command *cmd)
{
    struct session *s = cmd->conn->session, **by = &s->device->reserved_by[cmd->lun];

    if (!old_ok(cmd))
        return;
    if (*by && *by != s) {
        command_conflict(cmd);
        return;
    }
    *by = s;
    command_good(cmd);
}

/* GOOD also for who holds none. */
void scsi_release(struct command *cmd)
{
    if (!old_ok(cmd))
        return;
    session_unreserve(cmd->conn->session->device, cmd->lun, cmd->conn->session);
    command_good(cmd);
}

/* --- changes by PERSISTENT RESERVE OUT --- */

static bool is_nexus(const struct session *s, const struct reserve_nexus *n)
{
    return session_is(s, n->initiator.name, n->initiator.isid, n->target);
}

/* Unit attentions and aborts for whom the change concerns; who is not logged in learns nothing. */
static void notify(struct device *d, int lun, const struct reserve_notices *notices)
{
    struct session *s;

    for (unsigned i = 0; i < notices->n; i++) {
        uint8_t what = notices->each[i].what;

        TAILQ_FOREACH (s, &d->sessions, peer) {
            if (!is_nexus(s, &notices->each[i].nexus))
                continue;
            if (what & RESERVE_TELL_PREEMPTED)
                s->attention[lun] |= UA_PREEMPTED;
            if (what & RESERVE_TELL_RELEASED)
                s->attention[lun] |= UA_RELEASED;
            if (what & RESERVE_TELL_UNREGISTERED)
                s->attention[lun] |= UA_UNREGISTERED;
            if (what & RESERVE_TELL_ABORT) {
                command_abort_lun(s->conn, lun);
                conn_post_turn(s->conn);
            }
        }
    }
}

/* In a pair both edges' journals have all: who gives a VM to the other may have to take it over again. */
static bool must_keep(const struct target *t, const struct reserve *r)
{
    return t->conf.journal && (t->conf.twin || (r->aptpl && r->n));
}

static void serve(struct reserved *);

/* The writes of whom the first of changes has removed, whether they are still logged in or not. */
static bool awaits(const struct fence *f, const struct command *cmd)
{
    const struct reserved *l = container_of(f, const struct reserved, fence);

    if (cmd->lun != l->lun || (cmd->io.op != IO_WRITE && cmd->io.op != IO_ZERO))
        return false;
    for (unsigned i = 0; i < l->notices.n; i++)
        if (l->notices.each[i].what & RESERVE_TELL_ABORT &&
            is_nexus(cmd->conn->session, &l->notices.each[i].nexus))
            return true;
    return false;
}

static void complete(struct reserved *l)
{
    struct change *ch = TAILQ_FIRST(&l->changes);
    struct command *cmd = ch->cmd;

    TAILQ_REMOVE(&l->changes, ch, entry);
    free(ch);
    cmd->at = l->result;
    command_back(cmd);
}

static void on_fence_opened(struct fence *f)
{
    struct reserved *l = container_of(f, struct reserved, fence);

    complete(l);
    serve(l);
}

/* What came of the first change. false: it waits for writes. */
static bool finish(struct reserved *l, unsigned result)
{
    const struct conn *c = TAILQ_FIRST(&l->changes)->cmd->conn;

    l->result = result;
    if (result == RESERVE_GOOD) {
        l->now = l->after;
        l->stored = must_keep(c->target, &l->now);
        notify(l->device, l->lun, &l->notices);
        if (l->notices.n)
            log_info(c->ctx, "reservations of LUN %d changed by %s: %u registered, type %u", l->lun,
                     c->session->initiator, l->now.n, l->now.type);
    }
    l->fence.awaits = awaits;
    l->fence.opened = on_fence_opened;
    if (result == RESERVE_GOOD && l->notices.n && fence_raise(&l->fence, l->device, c->shard))
        return false;
    complete(l);
    return true;
}

static void give(struct vm *vm, int lun, const struct reserve *r, void (*done)(void *arg, bool has),
                 void *arg)
{
    CLEANUP_FREE uint8_t *bytes = xmalloc(RESERVE_SAVED_MAX);
    size_t n = reserve_put(r, bytes);

    mirror_reserve(vm->mirror, volume_disk(vm->volumes[lun]), bytes, (uint32_t)n, done, arg);
}

/* Of disks without any, too: the other edge may have some from an earlier time. */
void scsi_reserve_mirror(struct shard *s, struct vm *vm)
{
    static const struct reserve none = {.holder = RESERVE_NOBODY};
    struct device *d = device_find(s, vm);

    if (!d) {
        d = device_get(s, vm);
        d->vm = NULL; /* until somebody logs in */
    }
    for (int lun = 0; lun < VM_DISKS_MAX; lun++)
        if (vm->volumes[lun])
            give(vm, lun, d->reserved[lun] ? &d->reserved[lun]->now : &none, NULL, NULL);
}

static void on_mirrored(void *arg, bool has);

/* What the first change makes goes to the other edge of the pair. false: there is none that has to have it.
 */
static bool mirror_first(struct reserved *l)
{
    struct vm *vm = TAILQ_FIRST(&l->changes)->cmd->conn->session->vm;

    if (vm->mirror)
        give(vm, l->lun, &l->after, on_mirrored, l);
    return vm->mirror;
}

/* Nobody waited for it any more: another may have been taken in since, which was told what was before. */
static void on_mirrored(void *arg, bool has)
{
    struct reserved *l = arg;

    if (!has && mirror_first(l))
        return;
    if (finish(l, RESERVE_GOOD))
        serve(l);
}

static void on_saved(struct reserve_save *save)
{
    struct reserved *l = container_of(save, struct reserved, save);

    if (save->status)
        log_error(l->device->name, "reservations of LUN %d could not be saved: %s", l->lun, save->why.text);
    else if (mirror_first(l))
        return;
    if (finish(l, save->status ? RESERVE_NOT_SAVED : RESERVE_GOOD))
        serve(l);
}

/* The changes that wait, up to one that others must have before it holds. One that was aborted meanwhile is
 * none. */
static void serve(struct reserved *l)
{
    struct change *ch;

    while ((ch = TAILQ_FIRST(&l->changes))) {
        const struct conn *c = ch->cmd->conn;
        enum reserve_result result = RESERVE_CONFLICT;
        bool keep;

        l->after = l->now;
        if (!ch->cmd->aborted)
            result = reserve_out(&l->after, &ch->request, &l->notices);
        keep = must_keep(c->target, &l->after);
        if (result == RESERVE_GOOD && (l->stored || keep)) {
            l->save.done = on_saved;
            reserve_store_save(&l->save, c->shard->loop, c->target->conf.journal, &c->session->vm->spec,
                               volume_disk(scsi_volume(ch->cmd)), keep ? &l->after : NULL);
            return;
        }
        if (result == RESERVE_GOOD && mirror_first(l))
            return;
        if (!finish(l, result))
            return;
    }
}

void scsi_reserve_change(struct command *cmd, const struct reserve_request *request,
                         void (*answer)(struct command *))
{
    struct reserved *l = reserved_of(cmd);
    struct change *ch = xcalloc(1, sizeof *ch);

    if (!l)
        l = reserved_new(cmd->conn->session->device, cmd->lun);
    ch->cmd = cmd;
    ch->request = *request;
    command_leave(cmd, answer);
    TAILQ_INSERT_TAIL(&l->changes, ch, entry);
    if (ch == TAILQ_FIRST(&l->changes))
        serve(l);
}
