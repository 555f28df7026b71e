/* target/session.c - I_T nexuses: the CmdSN window, reinstatement, and the VM as a SCSI device. On the VM's
 * loop; target->sessions is for status and under a lock. */
#include "session.h"

#include "check.h"
#include "forward.h"
#include "log.h"
#include "mem.h"
#include "scsi_reserve.h"
#include "wire.h"

#include <stdio.h>

static const char part[] = "target";
enum { GOING_MS = 2000, HELD_BYTES_MAX = 1 << 20 };
static const char *const op_names[OP_KINDS] = {"read", "write", "flush", "zero", "other"};

struct device *device_find(struct shard *sh, const struct vm *vm)
{
    struct device *d;

    TAILQ_FOREACH (d, &sh->devices, entry)
        if (!d->going && d->far == vm->far && !strcmp(d->name, vm->spec.name))
            break;
    return d;
}

struct device *device_get(struct shard *s, struct vm *vm)
{
    struct device *d = device_find(s, vm);
    const char *name = vm->spec.name, *path = vm->far ? ",path=\"forwarded\"" : "";

    if (d) {
        d->vm = vm;
        return d;
    }
    d = xcalloc(1, sizeof *d);
    d->vm = vm;
    memcpy(d->name, name, sizeof d->name);
    d->far = vm->far;
    TAILQ_INIT(&d->sessions);
    range_init(&d->ranges);
    TAILQ_INIT(&d->fences);
    LIST_INIT(&d->gone);
    TAILQ_INSERT_TAIL(&s->devices, d, entry);
    if (!vm->far)
        scsi_reserve_load(d, s);
    d->m_sessions = metric_new(METRIC_GAUGE, "isthmus_iscsi_sessions", "Initiators logged in.", "vm=\"%s\"%s",
                               name, path);
    for (int i = 0; i < OP_KINDS; i++)
        d->m_commands[i] =
            metric_new(METRIC_COUNTER, "isthmus_iscsi_commands_total", "SCSI commands started.",
                       "vm=\"%s\",op=\"%s\"%s", name, op_names[i], path);
    for (int i = 0; i < OP_ZERO; i++)
        d->m_seconds[i] = metric_new(METRIC_HISTOGRAM, "isthmus_iscsi_command_seconds",
                                     "From a command's arrival to its answer.", "vm=\"%s\",op=\"%s\"%s", name,
                                     op_names[i], path);
    d->m_read_bytes = metric_new(METRIC_COUNTER, "isthmus_iscsi_bytes_total", "Data of reads and writes.",
                                 "vm=\"%s\",direction=\"read\"%s", name, path);
    d->m_written_bytes = metric_new(METRIC_COUNTER, "isthmus_iscsi_bytes_total", "Data of reads and writes.",
                                    "vm=\"%s\",direction=\"write\"%s", name, path);
    d->m_errors = metric_new(METRIC_COUNTER, "isthmus_iscsi_errors_total",
                             "Commands that ended with CHECK CONDITION.", "vm=\"%s\"%s", name, path);
    return d;
}

void device_free(struct device **pd)
{
    struct device *d = *pd;

    *pd = NULL;
    if (d->going_timer.loop)
        timer_free(&d->going_timer);
    forward_device_free(d);
    still_free(&d->still);
    scsi_reserve_free(d);
    metric_free(&d->m_sessions);
    for (int i = 0; i < OP_KINDS; i++)
        metric_free(&d->m_commands[i]);
    for (int i = 0; i < OP_ZERO; i++)
        metric_free(&d->m_seconds[i]);
    metric_free(&d->m_read_bytes);
    metric_free(&d->m_written_bytes);
    metric_free(&d->m_errors);
    free(d);
}

void device_leave(struct shard *s, struct device *d)
{
    d->going = true;
    if (d->nsessions)
        return;
    TAILQ_REMOVE(&s->devices, d, entry);
    device_free(&d);
}

struct session *session_find(struct shard *sh, struct vm *vm, uint16_t tsih)
{
    struct device *d;
    struct session *s;

    TAILQ_FOREACH (d, &sh->devices, entry)
        if (d->vm == vm)
            TAILQ_FOREACH (s, &d->sessions, peer)
                if (s->tsih == tsih)
                    return s;
    return NULL;
}

unsigned session_count(struct shard *sh, struct vm *vm)
{
    struct device *d;
    struct session *s;
    unsigned n = 0;

    TAILQ_FOREACH (d, &sh->devices, entry)
        if (d->vm == vm)
            TAILQ_FOREACH (s, &d->sessions, peer)
                n++;
    return n;
}

static void on_going_timer(struct timer *t)
{
    struct device *d = container_of(t, struct device, going_timer);
    struct session *s, *next;

    for (s = TAILQ_FIRST(&d->sessions); s; s = next) {
        next = TAILQ_NEXT(s, peer);
        if (s->since_ns > d->asked_ns)
            continue; /* the VM has come back meanwhile */
        drop_tell(s->conn);
        conn_close(s->conn, "VM %s %s", d->name, d->going ? "is being deleted" : "is not served now");
    }
}

void session_vm_going(struct shard *sh, struct vm *vm, enum vm_going how)
{
    struct device *d = device_find(sh, vm);
    struct session *s, *next;

    if (!d)
        return;
    if (how == VM_GONE && !d->nsessions) {
        device_leave(sh, d);
        return;
    }
    d->going = how == VM_GONE;
    if (!d->going_timer.loop)
        timer_init(&d->going_timer, sh->loop, on_going_timer);
    if (how != VM_ASKED) {
        d->asked_ns = loop_now_ns(sh->loop);
        timer_set_ms(&d->going_timer, GOING_MS);
    }
    for (s = TAILQ_FIRST(&d->sessions); s; s = next) {
        next = TAILQ_NEXT(s, peer);
        logout_ask(s->conn);
    }
}

bool session_is(const struct session *s, const char *initiator, const uint8_t isid[6], uint16_t group)
{
    return s->conn->group == group && !memcmp(s->isid, isid, 6) && !strcmp(s->initiator, initiator);
}

/* The same initiator port logs in again by the same portal group: what it had there is over (RFC 7143 6.3.5).
 */
static void reinstate(struct device *d, const struct session *fresh)
{
    struct session *s, *next;

    for (s = TAILQ_FIRST(&d->sessions); s; s = next) {
        next = TAILQ_NEXT(s, peer);
        if (session_is(s, fresh->initiator, fresh->isid, fresh->conn->group))
            conn_close(s->conn, "replaced by a new login of the same initiator port (%s)", fresh->conn->ctx);
    }
}

static uint16_t tsih_new(struct target *t)
{
    uint16_t v;

    do
        v = (uint16_t)(atomic_fetch_add(&t->last_tsih, 1) + 1);
    while (!v);
    return v;
}

void session_start(struct conn *c, struct vm *vm, const char *initiator, const uint8_t isid[6], uint16_t tsih,
                   uint16_t cid, uint32_t cmd_sn)
{
    struct session *s = xcalloc(1, sizeof *s);

    s->conn = c;
    s->vm = vm;
    snprintf(s->initiator, sizeof s->initiator, "%s", initiator);
    memcpy(s->isid, isid, 6);
    s->tsih = tsih ? tsih : tsih_new(c->target);
    s->cid = cid;
    s->exp_cmd_sn = cmd_sn;
    s->max_cmd_sn = cmd_sn + c->target->conf.window - 1;
    TAILQ_INIT(&s->held);
    s->since_ns = loop_now_ns(c->shard->loop);
    if (vm) {
        s->device = device_get(c->shard, vm);
        reinstate(s->device, s);
        TAILQ_INSERT_TAIL(&s->device->sessions, s, peer);
        s->device->nsessions++;
        metric_add(s->device->m_sessions, 1);
        atomic_fetch_add(&vm->sessions, 1);
        s->capacity_generation = atomic_load(&vm->capacity_generation);
    }
    c->session = s;
    if (vm && vm->far)
        forward_start(s);
    else if (vm && s->device->still && !c->forwarded)
        forward_still(s); /* its login was under way */
    pthread_mutex_lock(&c->target->lock);
    TAILQ_INSERT_TAIL(&c->target->sessions, s, all);
    pthread_mutex_unlock(&c->target->lock);
}

static void held_free(struct session *s, struct held *h)
{
    TAILQ_REMOVE(&s->held, h, entry);
    s->held_bytes -= h->data_len;
    buf_unref(&h->data);
    free(h);
}

void session_end(struct conn *c)
{
    struct session *s = c->session;
    struct device *d;

    if (!s)
        return;
    while (!TAILQ_EMPTY(&s->held))
        held_free(s, TAILQ_FIRST(&s->held));
    pthread_mutex_lock(&c->target->lock);
    TAILQ_REMOVE(&c->target->sessions, s, all);
    pthread_mutex_unlock(&c->target->lock);
    d = s->device;
    if (!d)
        return;
    TAILQ_REMOVE(&d->sessions, s, peer);
    session_unreserve(d, -1, s);
    metric_sub(d->m_sessions, 1);
    atomic_fetch_sub(&s->vm->sessions, 1);
    if (s->forward)
        forward_end(s);
}

void session_move(struct session *s, struct vm *vm)
{
    struct device *from = s->device, *to = device_get(s->conn->shard, vm);
    struct vm *far = s->vm;

    atomic_fetch_add(&vm->refs, 1);
    TAILQ_REMOVE(&from->sessions, s, peer);
    from->nsessions--;
    metric_sub(from->m_sessions, 1);
    atomic_fetch_sub(&far->sessions, 1);
    pthread_mutex_lock(&s->conn->target->lock); /* status looks at it */
    s->vm = vm;
    pthread_mutex_unlock(&s->conn->target->lock);
    vm_unref(far);
    s->device = to;
    TAILQ_INSERT_TAIL(&to->sessions, s, peer);
    to->nsessions++;
    metric_add(to->m_sessions, 1);
    atomic_fetch_add(&vm->sessions, 1);
    s->capacity_generation = atomic_load(&vm->capacity_generation);
}

void session_free(struct session **ps)
{
    struct session *s = *ps;
    struct device *d;

    if (!s)
        return;
    *ps = NULL;
    forward_free(&s->forward);
    d = s->device;
    if (d && --d->nsessions == 0) {
        d->vm = NULL;
        if (d->going) {
            TAILQ_REMOVE(&s->conn->shard->devices, d, entry);
            device_free(&d);
        }
    }
    if (s->vm)
        vm_unref(s->vm);
    free(s);
}

void session_stamp(struct session *s, uint8_t *bhs)
{
    uint32_t max = s->exp_cmd_sn + s->conn->target->conf.window - 1 - s->in_window;

    if ((int32_t)(max - s->max_cmd_sn) > 0) /* it never goes back */
        s->max_cmd_sn = max;
    put32(bhs + AT_EXP_CMD_SN, s->exp_cmd_sn);
    put32(bhs + AT_MAX_CMD_SN, s->max_cmd_sn);
}

uint32_t session_ttt(struct session *s)
{
    if (++s->next_ttt == ISCSI_TAG_NONE)
        s->next_ttt = 1;
    return s->next_ttt;
}

struct mode *session_mode(struct session *s, int lun)
{
    return s->device && lun >= 0 && lun < VM_DISKS_MAX ? &s->device->mode[lun] : NULL;
}

void session_attention(struct device *d, int lun, uint16_t what, const struct session *except)
{
    struct session *s;

    TAILQ_FOREACH (s, &d->sessions, peer) {
        if (s == except)
            continue;
        for (int i = 0; i < VM_DISKS_MAX; i++)
            if (lun < 0 || lun == i)
                s->attention[i] |= what;
    }
}

void session_lun_came(struct shard *sh, struct vm *vm, unsigned lun)
{
    struct device *d = device_find(sh, vm);
    struct session *s;

    if (!d)
        return;
    session_attention(d, -1, UA_LUNS, NULL);
    TAILQ_FOREACH (s, &d->sessions, peer)
        s->attention[lun] = 0;
}

void session_unreserve(struct device *d, int lun, const struct session *s)
{
    for (int i = 0; i < VM_DISKS_MAX; i++)
        if ((lun < 0 || lun == i) && (!s || d->reserved_by[i] == s))
            d->reserved_by[i] = NULL;
}

/* What a PDU in rx asks for; a SCSI command's number may have still to come (in_order false). */
static void session_serve(struct conn *c, bool in_order)
{
    switch (c->rx.bhs[0] & ISCSI_OPCODE_MASK) {
    case ISCSI_SCSI_COMMAND:
        command_arrived(c, in_order);
        break;
    case ISCSI_TASK_MANAGEMENT:
        tmf_request(c);
        break;
    case ISCSI_NOP_OUT:
        nop_out(c);
        break;
    case ISCSI_TEXT_REQUEST:
        text_request(c);
        break;
    case ISCSI_LOGOUT_REQUEST:
        logout_request(c);
        break;
    }
}

/* A place in the order; NULL: the same number twice, and the first one counts. */
static struct held *held_new(struct session *s, uint32_t cmd_sn)
{
    struct held *h, *after = NULL;

    TAILQ_FOREACH (h, &s->held, entry) {
        if (h->cmd_sn == cmd_sn)
            return NULL;
        if ((int32_t)(cmd_sn - h->cmd_sn) > 0)
            after = h;
    }
    h = xcalloc(1, sizeof *h);
    h->cmd_sn = cmd_sn;
    if (after)
        TAILQ_INSERT_AFTER(&s->held, after, h, entry);
    else
        TAILQ_INSERT_HEAD(&s->held, h, entry);
    return h;
}

/* Keep it until the numbers before it have come. */
static void session_hold(struct conn *c, uint32_t cmd_sn)
{
    struct session *s = c->session;
    bool command = (c->rx.bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_SCSI_COMMAND;
    struct held *h;

    if (!command && s->held_bytes + c->rx.data_len > HELD_BYTES_MAX) {
        conn_close(c, "more than %d bytes of requests out of order", HELD_BYTES_MAX);
        return;
    }
    h = held_new(s, cmd_sn);
    if (!h)
        return;
    memcpy(h->bhs, c->rx.bhs, BHS_BYTES);
    if (command) {
        unsigned before = c->commands.n;

        session_serve(c, false);
        if (c->commands.n > before) /* else it was refused, and only its number counts */
            h->command = TAILQ_LAST(&c->commands.all, command_list);
    } else {
        h->data = c->rx.data;
        h->data_len = c->rx.data_len;
        s->held_bytes += h->data_len;
        c->rx.data = NULL;
    }
}

void session_skip(struct conn *c, uint32_t cmd_sn)
{
    struct held *h = held_new(c->session, cmd_sn);

    if (h)
        h->bhs[0] = ISCSI_SCSI_COMMAND;
}

/* The numbers that have come into order; a logout among them is the last. */
static void session_release(struct conn *c)
{
    struct session *s = c->session;
    struct held *h;

    while (c->state == CONN_FULL_FEATURE && (h = TAILQ_FIRST(&s->held)) && h->cmd_sn == s->exp_cmd_sn) {
        s->exp_cmd_sn++;
        if ((h->bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_SCSI_COMMAND) {
            struct command *cmd = h->command;

            held_free(s, h);
            if (cmd)
                command_start(cmd);
            continue;
        }
        memcpy(c->rx.bhs, h->bhs, BHS_BYTES);
        c->rx.data_len = h->data_len;
        c->rx.data = h->data;
        h->data = NULL;
        held_free(s, h);
        session_serve(c, true);
        buf_unref(&c->rx.data);
    }
}

void session_pdu(struct conn *c)
{
    struct session *s = c->session;
    uint8_t opcode = c->rx.bhs[0] & ISCSI_OPCODE_MASK;
    uint32_t cmd_sn = get32(c->rx.bhs + AT_CMD_SN);

    switch (opcode) {
    case ISCSI_SCSI_COMMAND:
    case ISCSI_TASK_MANAGEMENT:
    case ISCSI_NOP_OUT:
    case ISCSI_TEXT_REQUEST:
    case ISCSI_LOGOUT_REQUEST:
        break;
    case ISCSI_SNACK:
        send_reject(c, REJECT_SNACK);
        return;
    case ISCSI_LOGIN_REQUEST:
    case ISCSI_DATA_OUT: /* of a discovery session */
        send_reject(c, REJECT_PROTOCOL_ERROR);
        return;
    default: /* the target's own, or reserved */
        send_reject(c, opcode >= ISCSI_NOP_IN ? REJECT_PROTOCOL_ERROR : REJECT_NOT_SUPPORTED);
        return;
    }
    if (c->rx.bhs[0] & ISCSI_IMMEDIATE) {
        session_serve(c, true);
        buf_unref(&c->rx.data);
        session_release(c); /* of what ABORT TASK has skipped */
        return;
    }
    if ((int32_t)(cmd_sn - s->exp_cmd_sn) < 0 || (int32_t)(cmd_sn - s->max_cmd_sn) > 0) {
        log_peer(c->ctx, "request %02x with CmdSN %u outside %u..%u dropped", opcode, cmd_sn, s->exp_cmd_sn,
                 s->max_cmd_sn);
        return;
    }
    if (cmd_sn != s->exp_cmd_sn) {
        session_hold(c, cmd_sn);
        return;
    }
    s->exp_cmd_sn++;
    session_serve(c, true);
    buf_unref(&c->rx.data);
    session_release(c);
}
