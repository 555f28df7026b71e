/* target/login_keys.c - the keys of a login's requests: who logs in to what, what is negotiated, what we say
 * unasked. On the connection's loop. It sends nothing but a refusal.
 */
#include "login_parts.h"

#include "mem.h"

#include <ctype.h>
#include <string.h>

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
bool login_names(struct conn *c)
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
                login_fail(c, LOGIN_SESSION_TYPE, "its session type is neither Normal nor Discovery");
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
        login_fail(c, LOGIN_INITIATOR_ERROR, "the text of the request is broken");
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

static bool key_refused(struct conn *c, const char *name)
{
    login_fail(c, LOGIN_INITIATOR_ERROR, "key %s is out of range, repeated, or not for this stage", name);
    return false;
}

/* Every key of the request; false when the login has failed. */
bool login_keys(struct conn *c, struct auth_keys *auth)
{
    struct login *l = c->login;
    char *p = l->in, *end = l->in + l->in_len;
    unsigned when = c->state == CONN_SECURITY ? IN_SECURITY : IN_OPERATIONAL;
    const char *name, *value, *first_burst = NULL;
    bool bad = false;

    while (keys_next(&p, end, &name, &value, &bad)) {
        enum key_id id = keys_find(name);
        bool good = true;

        if (id == KEY_FirstBurstLength && !first_burst) {
            first_burst = value; /* it may not exceed MaxBurstLength, which may still come */
            continue;
        }
        if (l->discovery && keys_kind(id) == KEY_DIGEST && keys_list_has(value, "None"))
            c->params.offer[id] =
                0; /* few initiators can take a digest there: who leaves the choice gets none */
        if (id == KEY_COUNT) {
            text_add(&l->out, name, "NotUnderstood");
        } else if (keys_kind(id) != KEY_TEXT) {
            good = keys_negotiate(&c->params, id, value, when, &l->out);
        } else {
            good = !(c->params.seen & UINT64_C(1) << id) && text_key(c, id, value, auth);
            c->params.seen |= UINT64_C(1) << id;
        }
        if (!good)
            return key_refused(c, name);
    }
    if (first_burst && !keys_negotiate(&c->params, KEY_FirstBurstLength, first_burst, when, &l->out))
        return key_refused(c, keys_name(KEY_FirstBurstLength));
    if (bad || l->out.full) {
        login_fail(c, LOGIN_INITIATOR_ERROR, bad ? "the text of the request is broken" : "too many keys");
        return false;
    }
    return true;
}

/* What we say unasked. */
void login_declare(struct conn *c)
{
    struct login *l = c->login;

    if (!l->answered_first && l->vm) {
        text_add(&l->out, "TargetPortalGroupTag", "%u", c->group);
        text_add(&l->out, "TargetAlias", "%s", l->vm->spec.name);
    }
    l->answered_first = true;
    if (c->state == CONN_OPERATIONAL && !l->declared) {
        l->declared = true;
        text_add(&l->out, "MaxRecvDataSegmentLength", "%u", c->params.offer[KEY_MaxRecvDataSegmentLength]);
    }
}
