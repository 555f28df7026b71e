/* target/login.c - the login phase (RFC 7143 sections 6 and 11.12): requests and responses in pieces, who
 * logs in to what, keys, stages.
 *
 *   SECURITY ──T──► OPERATIONAL ──T──► full feature; each of the first two may be left out.
 *
 * The first request names initiator and target; the connection moves to the VM's loop right then, and all
 * that follows happens there. A refused login is answered with a status and closed. Time is bounded by the
 * connection's timer, work by LOGIN_REQUESTS_MAX, memory by LOGIN_TEXT_MAX each way.
 */
#include "login.h"
#include "login_parts.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

#include <stdarg.h>
#include <stdio.h>

static const char part[] = "target";
enum { LOGIN_REQUESTS_MAX = 128, VERSION = 0 };

void login_start(struct conn *c)
{
    struct login *l = xcalloc(1, sizeof *l);
    const struct target_conf *conf = &c->target->conf;

    l->out.cap = LOGIN_TEXT_MAX;
    l->out.bytes = xmalloc(LOGIN_TEXT_MAX);
    params_init(&c->params, conf->first_burst_bytes, conf->max_burst_bytes);
    c->login = l;
}

void login_free(struct login **pl)
{
    struct login *l = *pl;

    if (!l)
        return;
    *pl = NULL;
    if (l->vm)
        vm_unref(l->vm);
    free(l->in);
    free(l->out.bytes);
    free(l);
}

/* Responses. */

static struct out *response_new(const struct login *l, uint8_t flags, enum login_status status, uint32_t len)
{
    struct out *o = out_new(ISCSI_LOGIN_RESPONSE, flags, get32(l->bhs + AT_ITT), len);

    o->bhs[AT_VERSION_MAX] = o->bhs[AT_VERSION_MIN] = VERSION;
    memcpy(o->bhs + AT_ISID, l->isid, sizeof l->isid);
    put16(o->bhs + AT_TSIH, l->tsih);
    memcpy(o->bhs + AT_EXP_CMD_SN, l->bhs + AT_CMD_SN, 4); /* until there is a session */
    memcpy(o->bhs + AT_MAX_CMD_SN, l->bhs + AT_CMD_SN, 4);
    put16(o->bhs + AT_LOGIN_STATUS, (uint16_t)status);
    return o;
}

/* Refuses the login and closes once that has been sent. */
void login_fail(struct conn *c, enum login_status status, const char *format, ...)
{
    struct login *l = c->login;
    struct out *o = response_new(l, 0, status, 0);
    char why[200];
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    log_peer(c->ctx, "login of %s to %s from %s refused, status %04x: %s",
             *l->initiator ? l->initiator : "an initiator", l->discovery ? "discovery" : l->target, c->peer,
             (unsigned)status, why);
    metric_add(c->target->m_logins_failed, 1);
    l->failed = true;
    o->bhs[AT_FLAGS] = l->bhs[AT_FLAGS] & 0x0c; /* the stage it was in */
    o->close_after = true;
    send_out(c, &o);
}

static unsigned csg(const struct login *l)
{
    return l->bhs[AT_FLAGS] >> 2 & 3;
}

static unsigned nsg(const struct login *l)
{
    return l->bhs[AT_FLAGS] & 3;
}

/* The last response of the login: o becomes it, and what follows is full feature phase. */
static void succeed(struct conn *c, struct out **o)
{
    struct login *l = c->login;
    uint32_t *v = c->params.value;
    struct vm *vm = l->vm;

    if (v[KEY_FirstBurstLength] > v[KEY_MaxBurstLength])
        v[KEY_FirstBurstLength] = v[KEY_MaxBurstLength];
    l->vm = NULL;
    session_start(c, vm, l->initiator, l->isid, l->tsih, l->cid, get32(l->bhs + AT_CMD_SN));
    put16((*o)->bhs + AT_TSIH, c->session->tsih);
    metric_add(c->target->m_logins_ok, 1);
    log_peer(c->ctx, "login of %s to %s from %s", l->initiator, vm ? vm->spec.name : "discovery", c->peer);
    send_out(c, o);
    conn_enter(c, CONN_FULL_FEATURE);
    send_run(c); /* digests begin with the PDU after this one */
    if (!conn_open(c))
        return;
    if (!STAILQ_EMPTY(&c->outs)) {
        conn_close(c, "responses of the login were not read");
        return;
    }
    c->header_digest = v[KEY_HeaderDigest];
    c->data_digest = v[KEY_DataDigest];
    login_free(&c->login);
}

/* The next piece of the answer; with its last one the stage ends if both sides want that. */
static void respond(struct conn *c)
{
    struct login *l = c->login;
    uint32_t max = c->params.value[KEY_MaxRecvDataSegmentLength];
    size_t left = l->out.len - l->sent;
    uint32_t n;
    uint8_t flags = (uint8_t)(csg(l) << 2);
    struct out *o;

    if (max > ISCSI_LOGIN_SEGMENT)
        max = ISCSI_LOGIN_SEGMENT;
    n = (uint32_t)(left < max ? left : max);
    o = response_new(l, flags, LOGIN_SUCCESS, n);
    if (n)
        memcpy(o->data, l->out.bytes + l->sent, n);
    l->sent += n;
    if (n < left) {
        o->bhs[AT_FLAGS] |= ISCSI_CONTINUE;
        send_out(c, &o);
        return;
    }
    l->out.len = l->sent = 0;
    if (!(l->bhs[AT_FLAGS] & ISCSI_LOGIN_TRANSIT) ||
        (c->state == CONN_SECURITY && l->auth.state != AUTH_PASSED &&
         (auth_required(&l->auth) || l->auth.state != AUTH_START))) {
        send_out(c, &o);
        return;
    }
    o->bhs[AT_FLAGS] = (uint8_t)(ISCSI_LOGIN_TRANSIT | flags | nsg(l));
    if (nsg(l) == STAGE_FULL_FEATURE && l->vm && atomic_load(&l->vm->fenced)) {
        free(o);
        login_fail(c, LOGIN_SERVICE_UNAVAILABLE, "another edge has taken the VM over meanwhile");
        return;
    }
    if (nsg(l) == STAGE_FULL_FEATURE) {
        succeed(c, &o);
        return;
    }
    conn_enter(c, CONN_OPERATIONAL);
    send_out(c, &o);
}

/* A whole request, on the loop where the session will be. */
static void process(struct conn *c)
{
    struct login *l = c->login;
    struct auth_keys auth = {0};
    const char *why;

    if (csg(l) == STAGE_OPERATIONAL && c->state == CONN_SECURITY) {
        if (auth_required(&l->auth)) {
            login_fail(c, LOGIN_AUTHENTICATION_FAILURE, "CHAP is required, and the initiator leaves it out");
            return;
        }
        conn_enter(c, CONN_OPERATIONAL);
    }
    if (!login_keys(c, &auth))
        return;
    why = auth_answer(&l->auth, c->shard->loop, &auth, &l->out);
    if (!why && (l->bhs[AT_FLAGS] & ISCSI_LOGIN_TRANSIT) && c->state == CONN_SECURITY &&
        l->auth.state == AUTH_START && auth_required(&l->auth))
        why = "CHAP is required, and the initiator leaves it out";
    if (why) {
        login_fail(c, LOGIN_AUTHENTICATION_FAILURE, "%s", why);
        return;
    }
    login_declare(c);
    l->in_len = 0;
    if (l->out.full)
        login_fail(c, LOGIN_INITIATOR_ERROR, "too many keys");
    else
        respond(c);
}

/* Who logs in to what. */

/* A session handle: of the session that this login replaces. */
static bool handle_ok(struct conn *c)
{
    struct login *l = c->login;
    struct session *s = l->vm ? session_find(c->shard, l->vm, l->tsih) : NULL;

    if (!s || !session_is(s, l->initiator, l->isid, c->group))
        login_fail(c, LOGIN_NO_SESSION, "it has no session %u", l->tsih);
    else if (s->cid != l->cid)
        login_fail(c, LOGIN_TOO_MANY_CONNECTIONS, "a session has one connection");
    else
        return true;
    return false;
}

/* Until the object store has said whose the VM is, or on-prem where the source disks are. */
static void await(struct conn *c, const struct vm *vm, const char *whom)
{
    struct login *l = c->login;

    if (!l->waiting)
        log_peer(c->ctx, "login of %s to %s from %s waits for %s", l->initiator, vm->spec.name, c->peer,
                 whom);
    l->waiting = true;
}

static struct admission no(enum login_status status, const char *why)
{
    return (struct admission){ADMIT_NO, status, why};
}

static struct admission later(const char *whom)
{
    return (struct admission){ADMIT_LATER, LOGIN_SUCCESS, whom};
}

/* Initiators give up a target that is not found, and try one again that cannot serve now: who starts the
 * cloud VM while it runs on-prem shall see that at once, and a run-on-prem that is called off lets the
 * initiator come back by itself. */
struct admission login_admission(struct shard *sh, struct vm *vm)
{
    enum vm_shut shut = (enum vm_shut)atomic_load(&vm->shut);
    enum writeback_place place = (enum writeback_place)atomic_load(&vm->place);

    if (atomic_load(&vm->deleting))
        return no(LOGIN_TARGET_REMOVED, "the VM is being deleted");
    if (atomic_load(&vm->fenced))
        return no(LOGIN_TARGET_REMOVED, "another edge has taken the VM over");
    if (atomic_load(&vm->handing))
        return later("the other edge, which takes the VM over");
    if (!atomic_load(&vm->admitted))
        return later("the object store");
    if (shut == VM_HOME)
        return no(LOGIN_NOT_FOUND, "the VM runs on-prem: isthmusctl run-in-cloud brings it here");
    if (shut == VM_BUSY)
        return no(LOGIN_SERVICE_UNAVAILABLE, "a task keeps initiators out for now");
    if (place == WRITEBACK_OTHER)
        return no(LOGIN_SERVICE_UNAVAILABLE, "the source disks are at another history than the VM's log");
    if (place == WRITEBACK_UNKNOWN)
        return later("on-prem to say at which cut the source disks are");
    if (session_count(sh, vm) >= sh->target->conf.max_sessions_per_vm)
        return no(LOGIN_OUT_OF_RESOURCES, "it has as many sessions as are allowed");
    return (struct admission){ADMIT_YES, LOGIN_SUCCESS, ""};
}

/* While the login waited the VM was handed over: it goes on with what is exported here now. */
static void follow(struct conn *c)
{
    struct login *l = c->login;
    struct vm *now = atomic_load(&l->vm->fenced) ? vms_find_iqn(c->target->conf.vms, l->target) : NULL;
    bool moved = now && now != l->vm && now->loop == l->vm->loop;

    if (moved) {
        struct vm *old = l->vm;

        l->vm = now;
        now = old;
    }
    if (now)
        vm_unref(now);
}

static bool vm_admits(struct conn *c, struct vm *vm)
{
    struct admission a = login_admission(c->shard, vm);

    if (a.what == ADMIT_NO)
        login_fail(c, a.status, "%s", a.why);
    else if (a.what == ADMIT_LATER)
        await(c, vm, a.why);
    return a.what == ADMIT_YES;
}

/* On the loop where the session will be, with initiator and target known. */
static void admit(struct conn *c)
{
    struct login *l = c->login;
    const struct target_conf *conf = &c->target->conf;
    struct auth *a = &l->auth;

    if (l->vm) {
        const struct vm_spec *spec;

        follow(c);
        spec = &l->vm->spec;
        if (!vm_admits(c, l->vm))
            return;
        l->waiting = false;
        a->user = spec->chap_user;
        a->secret = spec->chap_secret;
        a->mutual_user = spec->mutual_user;
        a->mutual_secret = spec->mutual_secret;
    } else {
        a->user = conf->discovery_user;
        a->secret = conf->discovery_secret;
        a->mutual_user = conf->discovery_mutual_user;
        a->mutual_secret = conf->discovery_mutual_secret;
    }
    if (l->tsih && !handle_ok(c))
        return;
    process(c);
}

void login_moved(struct conn *c)
{
    admit(c);
}

bool login_waits(struct conn *c)
{
    if (!c->login || !c->login->waiting)
        return false;
    admit(c);
    if (conn_open(c))
        conn_post_turn(c);
    return true;
}

/* The first request is complete. */
static void identify(struct conn *c)
{
    struct login *l = c->login;
    struct target *t = c->target;

    if (!login_names(c))
        return;
    l->identified = true;
    if (!*l->initiator) {
        login_fail(c, LOGIN_MISSING_PARAMETER, "InitiatorName is missing");
        return;
    }
    if (l->discovery) {
        admit(c);
        return;
    }
    if (!*l->target) {
        login_fail(c, LOGIN_MISSING_PARAMETER, "TargetName is missing");
        return;
    }
    l->vm = vms_find_iqn(t->conf.vms, l->target);
    if (!l->vm) {
        login_fail(c, LOGIN_NOT_FOUND, "there is no such target");
        return;
    }
    for (unsigned i = 0; i < t->conf.nloops; i++)
        if (t->shards[i].loop == l->vm->loop && &t->shards[i] != c->shard) {
            conn_move(c, &t->shards[i]); /* login_moved() goes on */
            return;
        }
    admit(c);
}

/* Requests. */

/* The header of a request, now in login->bhs; false when the login has failed. */
static bool header_ok(struct conn *c)
{
    struct login *l = c->login;
    const uint8_t *b = l->bhs;
    bool transit = b[AT_FLAGS] & ISCSI_LOGIN_TRANSIT, more = b[AT_FLAGS] & ISCSI_CONTINUE;
    unsigned stage = c->state == CONN_SECURITY ? STAGE_SECURITY : STAGE_OPERATIONAL;

    if (l->requests == 1) {
        memcpy(l->isid, b + AT_ISID, sizeof l->isid);
        l->tsih = get16(b + AT_TSIH);
        l->cid = get16(b + AT_CID);
        c->stat_sn = get32(b + AT_EXP_STAT_SN);
    }
    if (b[AT_VERSION_MIN] > VERSION)
        login_fail(c, LOGIN_UNSUPPORTED_VERSION, "iSCSI version %u at least is wanted", b[AT_VERSION_MIN]);
    else if (l->requests > LOGIN_REQUESTS_MAX)
        login_fail(c, LOGIN_INITIATOR_ERROR, "more than %d requests", LOGIN_REQUESTS_MAX);
    else if (memcmp(l->isid, b + AT_ISID, sizeof l->isid) != 0 || l->tsih != get16(b + AT_TSIH) ||
             l->cid != get16(b + AT_CID))
        login_fail(c, LOGIN_INITIATOR_ERROR, "ISID, TSIH or CID changed");
    else if (csg(l) != stage && (csg(l) != STAGE_OPERATIONAL || l->answered_first))
        login_fail(c, LOGIN_INITIATOR_ERROR, "stage %u, but the login is in %u", csg(l), stage);
    else if (transit && (more || nsg(l) <= csg(l) || nsg(l) == 2))
        login_fail(c, LOGIN_INITIATOR_ERROR, "from stage %u to %u is not a transition%s", csg(l), nsg(l),
                   more ? " of a request that goes on" : "");
    else
        return true;
    return false;
}

/* This piece of text into login->in, which gets one byte more than it holds. */
static bool collect(struct conn *c)
{
    struct login *l = c->login;
    uint32_t n = c->rx.data_len;

    if (l->in_len + n > LOGIN_TEXT_MAX) {
        login_fail(c, LOGIN_INITIATOR_ERROR, "more than %d bytes of keys", LOGIN_TEXT_MAX);
        return false;
    }
    l->in = xrealloc(l->in, l->in_len + n + 1);
    if (n)
        memcpy(l->in + l->in_len, c->rx.data->data, n);
    l->in_len += n;
    l->in[l->in_len] = 0;
    return true;
}

void login_pdu(struct conn *c)
{
    struct login *l = c->login;

    if (l->failed)
        return;
    if (l->waiting) {
        conn_close(c, "it talks before its login was answered");
        return;
    }
    if ((c->rx.bhs[AT_OPCODE] & ISCSI_OPCODE_MASK) != ISCSI_LOGIN_REQUEST) {
        if (!l->requests) {
            conn_close(c, "it begins with request %02x, not with a login", c->rx.bhs[AT_OPCODE]);
            return;
        }
        put32(l->bhs + AT_ITT, get32(c->rx.bhs + AT_ITT));
        login_fail(c, LOGIN_INVALID_REQUEST, "request %02x during login", c->rx.bhs[AT_OPCODE]);
        return;
    }
    l->requests++;
    memcpy(l->bhs, c->rx.bhs, BHS_BYTES);
    if (!header_ok(c))
        return;
    if (l->sent < l->out.len) { /* it asks for the rest of our answer */
        if (c->rx.data_len || l->bhs[AT_FLAGS] & ISCSI_CONTINUE)
            login_fail(c, LOGIN_INITIATOR_ERROR, "it talks while our answer goes on");
        else
            respond(c);
        return;
    }
    if (!collect(c))
        return;
    if (l->bhs[AT_FLAGS] & ISCSI_CONTINUE) {
        struct out *o = response_new(l, (uint8_t)(csg(l) << 2), LOGIN_SUCCESS, 0);

        send_out(c, &o);
    } else if (l->identified) {
        process(c);
    } else {
        identify(c);
    }
}
