/* target/scsi_reserve.c - RESERVE, RELEASE, PERSISTENT RESERVE IN and OUT. On the VM's loop.
 *
 * RESERVE(6) and (10) (SPC-2) belong to a session and end with it. They and registrations keep each other
 * out: REPORT CAPABILITIES says CRH 0. The rules of the persistent ones are in reserve.c; here are bytes,
 * unit attentions, aborts, and the order of changes: one after the other for a LUN, each stable (APTPL)
 * before it holds and is answered. PREEMPT AND ABORT is answered when no write of whom it removed is in the
 * volume any more: what its sender reads then stays.
 */
#include "scsi_reserve.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "reserve_store.h"
#include "scsi.h"
#include "wire.h"

static const char part[] = "target";
enum { LONG_ID = 0x02, EXTENT = 0x01, THIRD_PARTY = 0x10, RELATIVE_PORT = 1 };
enum { LIST_BYTES = 24, LIST_MAX = LIST_BYTES + 4 + RESERVE_PORTS_MAX * RESERVE_TRANSPORT_ID_MAX };
enum { SPEC_I_PT = 0x08, ALL_TG_PT = 0x04, APTPL = 0x01, MOVE_UNREG = 0x02, MOVE_APTPL = 0x01 };
enum { AT_KEY = 0, AT_SERVICE_KEY = 8, AT_OPTIONS = 20, AT_MOVE_OPTIONS = 17, AT_MOVE_PORT = 18 };

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
    TAILQ_HEAD(, change) changes; /* the first is being saved */
    unsigned result, fences;      /* of the first; aborted writes it waits for */
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

void scsi_reserve_load(struct device *d, const struct shard *s)
{
    CLEANUP_FREE struct reserve *r = xmalloc(sizeof *r);

    for (unsigned lun = 0; s->target->reservations && lun < VM_DISKS_MAX; lun++)
        if (reserve_store_get(s->target->reservations, &d->vm->spec, lun, r)) {
            struct reserved *l = reserved_new(d, (int)lun);

            l->now = *r;
            l->stored = true;
        }
}

void scsi_reserve_free(struct device *d)
{
    for (int i = 0; i < VM_DISKS_MAX; i++) {
        CHECK(!d->reserved[i] || TAILQ_EMPTY(&d->reserved[i]->changes));
        free(d->reserved[i]);
        d->reserved[i] = NULL;
    }
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
    return r && r->now.type && reserve_conflicts(&r->now, class, s->initiator, s->isid);
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

/* --- PERSISTENT RESERVE IN --- */

enum { READ_KEYS, READ_RESERVATION, REPORT_CAPABILITIES, READ_FULL_STATUS };

static void read_keys(const struct reserve *r, struct command *cmd)
{
    uint8_t *p = command_in(cmd, 8 + 8 * r->n);

    put32(p, r->generation);
    put32(p + 4, 8 * r->n);
    for (unsigned i = 0; i < r->n; i++)
        put64(p + 8 + 8 * i, r->registrants[i].key);
}

static void read_reservation(const struct reserve *r, struct command *cmd)
{
    uint8_t *p = command_in(cmd, r->type ? 24 : 8);

    put32(p, r->generation);
    if (!r->type)
        return;
    put32(p + 4, 16);
    if (r->holder != RESERVE_NOBODY)
        put64(p + 8, r->registrants[r->holder].key);
    p[21] = r->type;
}

static void report_capabilities(const struct reserve *r, struct command *cmd)
{
    enum { SIP_C = 0x08, ATP_C = 0x04, TMV = 0x80, PTPL_C = 0x01, PTPL_A = 0x01 };
    uint8_t *p = command_in(cmd, 8);

    put16(p, 8);
    p[2] = (uint8_t)(SIP_C | ATP_C | (cmd->conn->target->conf.journal ? PTPL_C : 0));
    p[3] = (uint8_t)(TMV | (r->aptpl ? PTPL_A : 0));
    p[4] = 0xea; /* WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX */
    p[5] = 0x01; /* EX_AC_AR */
}

static void read_full_status(const struct reserve *r, struct command *cmd)
{
    enum { EACH = 24, R_HOLDER = 0x01 };
    uint8_t id[RESERVE_TRANSPORT_ID_MAX], *start = command_in(cmd, (uint32_t)(8 + r->n * (EACH + sizeof id))),
                                          *p = start + 8;

    for (unsigned i = 0; i < r->n; i++) {
        const struct registrant *g = &r->registrants[i];
        size_t n = reserve_put_port(&g->port, id);

        put64(p, g->key);
        p[12] = g->all_ports ? 0x02 : 0;
        if (reserve_holds(r, (int)i)) {
            p[12] |= R_HOLDER;
            p[13] = r->type;
        }
        put16(p + 18, g->all_ports ? 0 : RELATIVE_PORT);
        put32(p + 20, (uint32_t)n);
        memcpy(p + EACH, id, n);
        p += EACH + n;
    }
    put32(start, r->generation);
    put32(start + 4, (uint32_t)(p - start - 8));
    cmd->in_len = (uint32_t)(p - start);
}

void scsi_persist_in(struct command *cmd)
{
    static const struct reserve none = {.holder = RESERVE_NOBODY};
    const struct reserved *l = reserved_of(cmd);
    const struct reserve *r = l ? &l->now : &none;

    switch (cmd->op->action) {
    case READ_KEYS:
        read_keys(r, cmd);
        break;
    case READ_RESERVATION:
        read_reservation(r, cmd);
        break;
    case REPORT_CAPABILITIES:
        report_capabilities(r, cmd);
        break;
    case READ_FULL_STATUS:
        read_full_status(r, cmd);
        break;
    }
    scsi_reply(cmd, get16(cmd->cdb + 7));
}

/* --- PERSISTENT RESERVE OUT --- */

uint32_t scsi_persist_out_prepare(struct command *cmd)
{
    uint32_t n = get32(cmd->cdb + 5);
    int action = cmd->op->action;

    if ((action == RESERVE_RESERVE || action == RESERVE_PREEMPT || action == RESERVE_PREEMPT_ABORT) &&
        !reserve_type_valid(cmd->cdb[2])) { /* with it the scope, which is 0 */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, -1);
        return 0;
    }
    if (n < LIST_BYTES || n > LIST_MAX) {
        command_check(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return 0;
    }
    return n;
}

static bool bad_field(struct command *cmd, uint16_t byte, int bit)
{
    command_check_field(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, false, byte, bit);
    return false;
}

/* The n bytes of TransportIDs from at. */
static bool parse_ports(struct command *cmd, struct reserve_request *q, uint32_t at, uint32_t n)
{
    while (n) {
        size_t took;

        if (q->nports == RESERVE_PORTS_MAX) {
            command_check(cmd, SENSE_REGISTRANTS_FULL);
            return false;
        }
        took = reserve_get_port(&q->ports[q->nports], cmd->data->data + at, n);
        if (!took)
            return bad_field(cmd, (uint16_t)at, -1);
        q->nports++;
        at += (uint32_t)took;
        n -= (uint32_t)took;
    }
    return true;
}

static bool parse_move(struct command *cmd, struct reserve_request *q)
{
    const uint8_t *p = cmd->data->data;

    q->aptpl = p[AT_MOVE_OPTIONS] & MOVE_APTPL;
    q->unregister = p[AT_MOVE_OPTIONS] & MOVE_UNREG;
    if (get32(p + 20) != cmd->out_bytes - LIST_BYTES) {
        command_check(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    if (get16(p + AT_MOVE_PORT) != RELATIVE_PORT)
        return bad_field(cmd, AT_MOVE_PORT, -1);
    if (!parse_ports(cmd, q, LIST_BYTES, cmd->out_bytes - LIST_BYTES))
        return false;
    return q->nports == 1 ? true : bad_field(cmd, LIST_BYTES, -1);
}

static bool parse_others(struct command *cmd, struct reserve_request *q)
{
    const uint8_t *p = cmd->data->data;
    bool names_ports = p[AT_OPTIONS] & SPEC_I_PT;
    uint32_t n = cmd->out_bytes;

    q->aptpl = p[AT_OPTIONS] & APTPL;
    q->all_ports = p[AT_OPTIONS] & ALL_TG_PT;
    if (names_ports && q->action != RESERVE_REGISTER)
        return bad_field(cmd, AT_OPTIONS, 3);
    if (names_ports ? n < LIST_BYTES + 4 || get32(p + LIST_BYTES) != n - LIST_BYTES - 4 : n != LIST_BYTES) {
        command_check(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    return !names_ports || parse_ports(cmd, q, LIST_BYTES + 4, n - LIST_BYTES - 4);
}

static bool registers(const struct reserve_request *q)
{
    return q->action == RESERVE_REGISTER || q->action == RESERVE_REGISTER_IGNORE || q->action == RESERVE_MOVE;
}

/* False: it has its answer. */
static bool parse(struct command *cmd, struct reserve_request *q)
{
    const struct session *s = cmd->conn->session;

    memset(q, 0, sizeof *q);
    if (cmd->received < cmd->out_bytes) {
        command_check(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    q->action = (enum reserve_action)cmd->op->action;
    q->type = cmd->cdb[2];
    q->key = get64(cmd->data->data + AT_KEY);
    q->service_key = get64(cmd->data->data + AT_SERVICE_KEY);
    memcpy(q->from.name, s->initiator, sizeof q->from.name);
    memcpy(q->from.isid, s->isid, 6);
    if (!(q->action == RESERVE_MOVE ? parse_move(cmd, q) : parse_others(cmd, q)))
        return false;
    if (q->aptpl && registers(q) && !cmd->conn->target->conf.journal)
        return q->action == RESERVE_MOVE ? bad_field(cmd, AT_MOVE_OPTIONS, 0) : bad_field(cmd, AT_OPTIONS, 0);
    return true;
}

enum { NOT_SAVED = RESERVE_FULL + 1 };

/* cmd->at: what came of it. */
static void answer(struct command *cmd)
{
    switch (cmd->at) {
    case RESERVE_GOOD:
        command_good(cmd);
        break;
    case RESERVE_CONFLICT:
        command_conflict(cmd);
        break;
    case RESERVE_BAD_PORTS:
        bad_field(cmd, AT_OPTIONS, 3);
        break;
    case RESERVE_BAD_KEY:
        bad_field(cmd, AT_SERVICE_KEY, -1);
        break;
    case RESERVE_BAD_TARGET:
        bad_field(cmd, LIST_BYTES, -1);
        break;
    case RESERVE_BAD_RELEASE:
        command_check(cmd, SENSE_INVALID_RELEASE);
        break;
    case RESERVE_FULL:
        command_check(cmd, SENSE_REGISTRANTS_FULL);
        break;
    case NOT_SAVED:
        command_check(cmd, SENSE_INTERNAL_TARGET_FAILURE);
        break;
    }
}

static bool session_is(const struct session *s, const struct reserve_port *p)
{
    return !memcmp(s->isid, p->isid, 6) && !strcmp(s->initiator, p->name);
}

/* Unit attentions and aborts for whom the change concerns; who is not logged in learns nothing. */
static void notify(struct device *d, int lun, const struct reserve_notices *notices)
{
    struct session *s;

    for (unsigned i = 0; i < notices->n; i++) {
        uint8_t what = notices->each[i].what;

        TAILQ_FOREACH (s, &d->sessions, peer) {
            if (!session_is(s, &notices->each[i].port))
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

static bool must_keep(const struct reserve *r)
{
    return r->aptpl && r->n;
}

static void serve(struct reserved *);

/* The aborted writes of that port that are in the volume, whether it is still logged in or not. */
static void fence(struct reserved *l, const struct shard *shard, const struct reserve_port *p)
{
    struct conn *c;
    struct command *cmd;

    TAILQ_FOREACH (c, &shard->conns, entry) {
        if (!c->session || c->session->device != l->device || !session_is(c->session, p))
            continue;
        TAILQ_FOREACH (cmd, &c->commands.all, entry)
            if (cmd->lun == l->lun && cmd->io_out && (cmd->io.op == IO_WRITE || cmd->io.op == IO_ZERO)) {
                cmd->fence = l;
                l->fences++;
            }
    }
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

/* What came of the first change. false: it waits for writes. */
static bool finish(struct reserved *l, unsigned result)
{
    const struct conn *c = TAILQ_FIRST(&l->changes)->cmd->conn;

    l->result = result;
    if (result == RESERVE_GOOD) {
        l->now = l->after;
        l->stored = must_keep(&l->now);
        notify(l->device, l->lun, &l->notices);
        for (unsigned i = 0; i < l->notices.n; i++)
            if (l->notices.each[i].what & RESERVE_TELL_ABORT)
                fence(l, c->shard, &l->notices.each[i].port);
        if (l->notices.n)
            log_info(c->ctx, "reservations of LUN %d changed by %s: %u registered, type %u", l->lun,
                     c->session->initiator, l->now.n, l->now.type);
    }
    if (l->fences)
        return false;
    complete(l);
    return true;
}

void scsi_reserve_fenced(struct reserved *l)
{
    if (--l->fences)
        return;
    complete(l);
    serve(l);
}

static void on_saved(struct reserve_save *save)
{
    struct reserved *l = container_of(save, struct reserved, save);

    if (save->status)
        log_error(l->device->name, "reservations of LUN %d could not be saved: %s", l->lun, save->why.text);
    if (finish(l, save->status ? NOT_SAVED : RESERVE_GOOD))
        serve(l);
}

/* The changes that wait, up to one that must be saved. One that was aborted meanwhile is none. */
static void serve(struct reserved *l)
{
    struct change *ch;

    while ((ch = TAILQ_FIRST(&l->changes))) {
        const struct conn *c = ch->cmd->conn;
        enum reserve_result result = RESERVE_CONFLICT;

        l->after = l->now;
        if (!ch->cmd->aborted)
            result = reserve_out(&l->after, &ch->request, &l->notices);
        if (result == RESERVE_GOOD && (l->stored || must_keep(&l->after))) {
            l->save.done = on_saved;
            reserve_store_save(&l->save, c->shard->loop, c->target->conf.journal, &c->session->vm->spec,
                               (unsigned)l->lun, &l->after);
            return;
        }
        if (!finish(l, result))
            return;
    }
}

void scsi_persist_out(struct command *cmd)
{
    struct reserved *l = reserved_of(cmd);
    struct change *ch = xcalloc(1, sizeof *ch);

    if (!parse(cmd, &ch->request)) {
        free(ch);
        return;
    }
    if (!l)
        l = reserved_new(cmd->conn->session->device, cmd->lun);
    ch->cmd = cmd;
    command_leave(cmd, answer);
    TAILQ_INSERT_TAIL(&l->changes, ch, entry);
    if (ch == TAILQ_FIRST(&l->changes))
        serve(l);
}
