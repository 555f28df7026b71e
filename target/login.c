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

#include "check.h"
#include "log.h"
#include "login_auth.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

static const char part[] = "target";
enum { LOGIN_REQUESTS_MAX = 128, LOGIN_TEXT_MAX = 16384, VERSION = 0 };

struct login {
    unsigned requests;
    uint8_t bhs[BHS_BYTES]; /* of the request being answered */
    uint8_t isid[6];
    uint16_t tsih, cid;
    char *in; /* the request's text, so far */
    uint32_t in_len;
    struct text out; /* its answer: `sent` bytes of it have left */
    size_t sent;
    bool failed, identified, answered_first, declared;
    bool discovery;
    char initiator[ISCSI_NAME_MAX + 1], target[ISCSI_NAME_MAX + 1];
    struct vm *vm; /* a reference, or NULL */
    struct auth auth;
};

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

static void fail(struct conn *c, enum login_status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Refuses the login and closes once that has been sent. */
static void fail(struct conn *c, enum login_status status, const char *format, ...)
{
    struct login *l = c->login;
    struct out *o = response_new(l, 0, status, 0);
    char why[200];
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    log_info(c->ctx, "login of %s to %s from %s refused, status %04x: %s",
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
    log_info(c->ctx, "login of %s to %s from %s", l->initiator, vm ? vm->spec.name : "discovery", c->peer);
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
    if (nsg(l) == STAGE_FULL_FEATURE) {
        succeed(c, &o);
        return;
    }
    conn_enter(c, CONN_OPERATIONAL);
    send_out(c, &o);
}

/* Keys. */

/* Fills a name that is declared; false if it is not one. */
static bool name_take(char name[ISCSI_NAME_MAX + 1], const char *value)
{
    size_t n = strlen(value);

    if (!n || n > ISCSI_NAME_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)value[i]) || strchr("\"\\", value[i]))
            return false;
    memcpy(name, value, n + 1);
    return true;
}

/* Who logs in to what: looked for in a copy, because reading keys cuts them up. */
static bool names_read(struct conn *c)
{
    struct login *l = c->login;
    CLEANUP_FREE char *text = xmalloc(l->in_len + 1u);
    char *p = text, *end = text + l->in_len;
    const char *name, *value;
    bool bad = false;

    memcpy(text, l->in, l->in_len + 1u);
    while (keys_next(&p, end, &name, &value, &bad)) {
        switch (keys_find(name)) {
        case KEY_InitiatorName:
            bad = !name_take(l->initiator, value);
            break;
        case KEY_TargetName:
            bad = !name_take(l->target, value);
            break;
        case KEY_SessionType:
            l->discovery = strcmp(value, "Discovery") == 0;
            if (!l->discovery && strcmp(value, "Normal") != 0) {
                fail(c, LOGIN_SESSION_TYPE, "its session type is neither Normal nor Discovery");
                return false;
            }
            break;
        default:
            break;
        }
        if (bad)
            break;
    }
    if (bad)
        fail(c, LOGIN_INITIATOR_ERROR, "the text of the request is broken");
    return !bad;
}

/* A key whose value is not negotiated by the table; false: the login fails. */
static bool text_key(struct conn *c, enum key_id id, const char *value, struct auth_keys *auth)
{
    struct login *l = c->login;
    bool security = c->state == CONN_SECURITY;

    switch (id) {
    case KEY_InitiatorName:
    case KEY_TargetName:
    case KEY_SessionType:
        return !l->answered_first;
    case KEY_InitiatorAlias:
        return true;
    case KEY_AuthMethod:
        auth->method = value;
        return security;
    case KEY_CHAP_A:
        auth->a = value;
        return security;
    case KEY_CHAP_I:
        auth->i = value;
        return security;
    case KEY_CHAP_C:
        auth->c = value;
        return security;
    case KEY_CHAP_N:
        auth->n = value;
        return security;
    case KEY_CHAP_R:
        auth->r = value;
        return security;
    case KEY_TaskReporting:
        text_add(&l->out, keys_name(id), "%s", keys_list_has(value, "RFC3720") ? "RFC3720" : "Reject");
        return !security;
    default: /* ours to declare, or for later */
        text_add(&l->out, keys_name(id), "Reject");
        return true;
    }
}

/* Every key of the request; false when the login has failed. */
static bool keys_read(struct conn *c, struct auth_keys *auth)
{
    struct login *l = c->login;
    char *p = l->in, *end = l->in + l->in_len;
    unsigned when = c->state == CONN_SECURITY ? IN_SECURITY : IN_OPERATIONAL;
    const char *name, *value;
    bool bad = false;

    while (keys_next(&p, end, &name, &value, &bad)) {
        enum key_id id = keys_find(name);
        bool good = true;

        if (id == KEY_COUNT) {
            text_add(&l->out, name, "NotUnderstood");
        } else if (keys_kind(id) != KEY_TEXT) {
            good = keys_negotiate(&c->params, id, value, when, &l->out);
        } else {
            good = !(c->params.seen & UINT64_C(1) << id) && text_key(c, id, value, auth);
            c->params.seen |= UINT64_C(1) << id;
        }
        if (!good) {
            fail(c, LOGIN_INITIATOR_ERROR, "key %s is out of range, repeated, or not for this stage", name);
            return false;
        }
    }
    if (bad || l->out.full) {
        fail(c, LOGIN_INITIATOR_ERROR, bad ? "the text of the request is broken" : "too many keys");
        return false;
    }
    return true;
}

/* What we say unasked. */
static void declare(struct conn *c)
{
    struct login *l = c->login;

    if (!l->answered_first && l->vm) {
        text_add(&l->out, "TargetPortalGroupTag", "%d", ISCSI_PORTAL_GROUP);
        text_add(&l->out, "TargetAlias", "%s", l->vm->spec.name);
    }
    l->answered_first = true;
    if (c->state == CONN_OPERATIONAL && !l->declared) {
        l->declared = true;
        text_add(&l->out, "MaxRecvDataSegmentLength", "%u", c->params.offer[KEY_MaxRecvDataSegmentLength]);
    }
}

/* A whole request, on the loop where the session will be. */
static void process(struct conn *c)
{
    struct login *l = c->login;
    struct auth_keys auth = {0};
    const char *why;

    if (csg(l) == STAGE_OPERATIONAL && c->state == CONN_SECURITY) {
        if (auth_required(&l->auth)) {
            fail(c, LOGIN_AUTHENTICATION_FAILURE, "CHAP is required, and the initiator leaves it out");
            return;
        }
        conn_enter(c, CONN_OPERATIONAL);
    }
    if (!keys_read(c, &auth))
        return;
    why = auth_answer(&l->auth, c->shard->loop, &auth, &l->out);
    if (!why && (l->bhs[AT_FLAGS] & ISCSI_LOGIN_TRANSIT) && c->state == CONN_SECURITY &&
        l->auth.state == AUTH_START && auth_required(&l->auth))
        why = "CHAP is required, and the initiator leaves it out";
    if (why) {
        fail(c, LOGIN_AUTHENTICATION_FAILURE, "%s", why);
        return;
    }
    declare(c);
    l->in_len = 0;
    if (l->out.full)
        fail(c, LOGIN_INITIATOR_ERROR, "too many keys");
    else
        respond(c);
}

/* Who logs in to what. */

/* A session handle: of the session that this login replaces. */
static bool handle_ok(struct conn *c)
{
    struct login *l = c->login;
    struct session *s = l->vm ? session_find(c->shard, l->vm, l->tsih) : NULL;

    if (!s || memcmp(s->isid, l->isid, sizeof l->isid) != 0 || strcmp(s->initiator, l->initiator) != 0)
        fail(c, LOGIN_NO_SESSION, "it has no session %u", l->tsih);
    else if (s->cid != l->cid)
        fail(c, LOGIN_TOO_MANY_CONNECTIONS, "a session has one connection");
    else
        return true;
    return false;
}

/* On the loop where the session will be, with initiator and target known. */
static void admit(struct conn *c)
{
    struct login *l = c->login;
    const struct target_conf *conf = &c->target->conf;
    struct auth *a = &l->auth;

    if (l->vm) {
        const struct vm_spec *spec = &l->vm->spec;

        if (atomic_load(&l->vm->deleting)) {
            fail(c, LOGIN_TARGET_REMOVED, "the VM is being deleted");
            return;
        }
        if (session_count(c->shard, l->vm) >= conf->max_sessions_per_vm) {
            fail(c, LOGIN_OUT_OF_RESOURCES, "it has %u sessions, the most allowed",
                 conf->max_sessions_per_vm);
            return;
        }
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

/* The first request is complete. */
static void identify(struct conn *c)
{
    struct login *l = c->login;
    struct target *t = c->target;

    if (!names_read(c))
        return;
    l->identified = true;
    if (!*l->initiator) {
        fail(c, LOGIN_MISSING_PARAMETER, "InitiatorName is missing");
        return;
    }
    if (l->discovery) {
        admit(c);
        return;
    }
    if (!*l->target) {
        fail(c, LOGIN_MISSING_PARAMETER, "TargetName is missing");
        return;
    }
    l->vm = vms_find_iqn(t->conf.vms, l->target);
    if (!l->vm) {
        fail(c, LOGIN_NOT_FOUND, "there is no such target");
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
        fail(c, LOGIN_UNSUPPORTED_VERSION, "iSCSI version %u at least is wanted", b[AT_VERSION_MIN]);
    else if (l->requests > LOGIN_REQUESTS_MAX)
        fail(c, LOGIN_INITIATOR_ERROR, "more than %d requests", LOGIN_REQUESTS_MAX);
    else if (memcmp(l->isid, b + AT_ISID, sizeof l->isid) != 0 || l->tsih != get16(b + AT_TSIH) ||
             l->cid != get16(b + AT_CID))
        fail(c, LOGIN_INITIATOR_ERROR, "ISID, TSIH or CID changed");
    else if (csg(l) != stage && (csg(l) != STAGE_OPERATIONAL || l->answered_first))
        fail(c, LOGIN_INITIATOR_ERROR, "stage %u, but the login is in %u", csg(l), stage);
    else if (transit && (more || nsg(l) <= csg(l) || nsg(l) == 2))
        fail(c, LOGIN_INITIATOR_ERROR, "from stage %u to %u is not a transition%s", csg(l), nsg(l),
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
        fail(c, LOGIN_INITIATOR_ERROR, "more than %d bytes of keys", LOGIN_TEXT_MAX);
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
    if ((c->rx.bhs[AT_OPCODE] & ISCSI_OPCODE_MASK) != ISCSI_LOGIN_REQUEST) {
        if (!l->requests) {
            conn_close(c, "it begins with request %02x, not with a login", c->rx.bhs[AT_OPCODE]);
            return;
        }
        put32(l->bhs + AT_ITT, get32(c->rx.bhs + AT_ITT));
        fail(c, LOGIN_INVALID_REQUEST, "request %02x during login", c->rx.bhs[AT_OPCODE]);
        return;
    }
    l->requests++;
    memcpy(l->bhs, c->rx.bhs, BHS_BYTES);
    if (!header_ok(c))
        return;
    if (l->sent < l->out.len) { /* it asks for the rest of our answer */
        if (c->rx.data_len || l->bhs[AT_FLAGS] & ISCSI_CONTINUE)
            fail(c, LOGIN_INITIATOR_ERROR, "it talks while our answer goes on");
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
