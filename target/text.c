/* target/text.c - text requests in full feature phase: SendTargets, MaxRecvDataSegmentLength, and the rest
 * of RFC 7143 section 11.10. On the connection's loop.
 *
 * A request may come in pieces (C bit) up to TEXT_REQUEST_MAX; an answer goes in pieces of what the initiator
 * takes, each asked for with our transfer tag. One exchange at a time: a new one ends the one before.
 */
#include "keys.h"
#include "log.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

#include <stdio.h>

static const char part[] = "target";
enum { TEXT_REQUEST_MAX = 16384, TEXT_PAIR_MAX = 320 };

struct text_exchange {
    uint32_t ttt;
    char *in; /* pieces of the request */
    uint32_t in_len;
    struct text out;
    size_t sent;
    bool answering;
};

void text_free(struct text_exchange **px)
{
    struct text_exchange *x = *px;

    if (!x)
        return;
    *px = NULL;
    free(x->in);
    free(x->out.bytes);
    free(x);
}

/* The next piece of the answer; nothing when the request has still to come. */
static void respond(struct conn *c, struct text_exchange *x, bool request_final)
{
    size_t left = x->out.len - x->sent, max = c->params.value[KEY_MaxRecvDataSegmentLength];
    uint32_t n = (uint32_t)(left < max ? left : max);
    bool last = x->answering && n == left && request_final;
    uint8_t flags = last ? ISCSI_FINAL : n < left ? ISCSI_CONTINUE : 0;
    struct out *o = out_new(ISCSI_TEXT_RESPONSE, flags, get32(c->rx.bhs + AT_ITT), n);

    memcpy(o->bhs + AT_LUN, c->rx.bhs + AT_LUN, 8);
    put32(o->bhs + AT_TTT, last ? ISCSI_TAG_NONE : x->ttt);
    if (n)
        memcpy(o->data, x->out.bytes + x->sent, n);
    x->sent += n;
    send_out(c, &o);
    if (last)
        text_free(&c->text);
}

/* Room for one more pair: the number of VMs bounds what is gathered here. */
static void pair(struct text *t, const char *key, const char *value)
{
    if (t->cap - t->len < TEXT_PAIR_MAX) {
        t->cap = t->cap * 2 + TEXT_PAIR_MAX;
        t->bytes = xrealloc(t->bytes, t->cap);
    }
    text_add(t, key, "%s", value);
}

struct listing {
    struct conn *conn;
    struct text *out;
    const char *only; /* or NULL: all */
};

static void list_address(void *arg, const char *address, uint16_t group)
{
    struct listing *l = arg;
    char value[80];

    snprintf(value, sizeof value, "%s,%u", address, group);
    pair(l->out, "TargetAddress", value);
}

/* One target with its addresses: the one we are talking at first. */
static void list_target(void *arg, const char *iqn)
{
    struct listing *l = arg;
    struct target *t = l->conn->target;
    char address[64];
    uint16_t group;

    if (l->only && strcmp(l->only, iqn) != 0)
        return;
    pair(l->out, "TargetName", iqn);
    list_address(l, l->conn->portal, l->conn->group);
    for (unsigned i = 0; i < t->nportals; i++)
        if (portal_named(t, i, l->conn->portal, address, &group) && strcmp(address, l->conn->portal) != 0)
            list_address(l, address, group);
    paths_each(t, list_address, l);
}

/* All in a discovery session; in a normal one only its own target, also by the empty name. */
static void send_targets(struct conn *c, struct text *out, const char *what)
{
    struct listing l = {.conn = c, .out = out};
    struct session *s = c->session;

    if (!s->vm && *what) {
        l.only = strcmp(what, "All") == 0 ? NULL : what;
        vms_each_iqn(c->target->conf.vms, list_target, &l);
    } else if (s->vm && (!*what || !strcmp(what, s->vm->spec.iqn))) {
        list_target(&l, s->vm->spec.iqn);
    } else if (!s->vm || !strcmp(what, "All")) {
        pair(out, "SendTargets", "Reject");
    }
}

/* false: the request is broken. */
static bool answer(struct conn *c, struct text_exchange *x)
{
    char *p = x->in, *end = x->in + x->in_len;
    const char *name, *value;
    bool bad = false, listed = false;

    while (keys_next(&p, end, &name, &value, &bad)) {
        enum key_id id = keys_find(name);

        if (id == KEY_SendTargets && listed) {
            bad = true; /* once: the list may be long */
        } else if (id == KEY_SendTargets) {
            send_targets(c, &x->out, value);
            listed = true;
        } else if (id == KEY_MaxRecvDataSegmentLength) {
            bad = !keys_negotiate(&c->params, id, value, IN_FULL_FEATURE, &x->out);
        } else if (id == KEY_COUNT) {
            pair(&x->out, name, "NotUnderstood");
        } else if (id != KEY_InitiatorAlias) {
            pair(&x->out, name, "Reject");
        }
        if (bad)
            return false;
    }
    return !bad;
}

/* This piece of the request into x->in, which gets one byte more than it holds; false: too much. */
static bool collect(struct conn *c, struct text_exchange *x)
{
    uint32_t n = c->rx.data_len;

    if (x->in_len + n > TEXT_REQUEST_MAX)
        return false;
    x->in = xrealloc(x->in, x->in_len + n + 1);
    if (n)
        memcpy(x->in + x->in_len, c->rx.data->data, n);
    x->in_len += n;
    x->in[x->in_len] = 0;
    return true;
}

static void refuse(struct conn *c, enum reject_reason reason)
{
    text_free(&c->text);
    send_reject(c, reason);
}

void text_request(struct conn *c)
{
    const uint8_t *bhs = c->rx.bhs;
    bool final = bhs[AT_FLAGS] & ISCSI_FINAL, more = bhs[AT_FLAGS] & ISCSI_CONTINUE;
    uint32_t ttt = get32(bhs + AT_TTT);
    struct text_exchange *x = c->text;

    if (get32(bhs + AT_ITT) == ISCSI_TAG_NONE || (final && more)) {
        refuse(c, REJECT_PROTOCOL_ERROR);
        return;
    }
    if (ttt == ISCSI_TAG_NONE) {
        text_free(&c->text);
        x = c->text = xcalloc(1, sizeof *x);
        x->ttt = session_ttt(c->session);
    } else if (!x || ttt != x->ttt) {
        refuse(c, REJECT_INVALID_FIELD);
        return;
    }
    if (x->answering && x->sent < x->out.len) { /* it asks for the rest of the answer */
        if (c->rx.data_len)
            refuse(c, REJECT_PROTOCOL_ERROR);
        else
            respond(c, x, final);
        return;
    }
    if (x->answering) { /* answered, but the initiator had more to say */
        x->answering = false;
        x->in_len = 0;
        x->out.len = x->sent = 0;
    }
    if (!collect(c, x)) {
        log_peer(c->ctx, "a text request of more than %d bytes", TEXT_REQUEST_MAX);
        refuse(c, REJECT_PROTOCOL_ERROR);
        return;
    }
    if (more) {
        respond(c, x, false);
        return;
    }
    x->answering = true;
    if (!answer(c, x)) {
        log_peer(c->ctx, "a text request that is not one");
        refuse(c, REJECT_PROTOCOL_ERROR);
        return;
    }
    respond(c, x, final);
}
