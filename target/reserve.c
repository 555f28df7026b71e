/* target/reserve.c - registrations and reservations of one LUN. Pure; SPC-4 5.13. */
#include "reserve.h"

#include "check.h"

#include <string.h>

/* Which class of command of others conflicts with which reservation (SPC-4 table 66, SBC-3 table 13). With
 * REGISTRANTS and ALL the registered are not others. */
static const struct {
    bool old, write_exclusive, exclusive_access;
} conflicts[RESERVE_CLASSES] = {
    [RESERVE_FREE] = {false, false, false},      [RESERVE_STATUS] = {true, false, false},
    [RESERVE_READS] = {true, false, true},       [RESERVE_WRITES] = {true, true, true},
    [RESERVE_PERSISTENT] = {true, false, false},
};

void reserve_init(struct reserve *r)
{
    memset(r, 0, sizeof *r);
    r->holder = RESERVE_NOBODY;
}

bool reserve_type_valid(uint8_t type)
{
    return type == 1 || type == 3 || (type >= 5 && type <= 8);
}

bool reserve_all_hold(uint8_t type)
{
    return type == RESERVE_WRITE_EXCLUSIVE_ALL || type == RESERVE_EXCLUSIVE_ACCESS_ALL;
}

static bool registrants_only(uint8_t type)
{
    return type == RESERVE_WRITE_EXCLUSIVE_REGISTRANTS || type == RESERVE_EXCLUSIVE_ACCESS_REGISTRANTS;
}

static bool port_is(const struct reserve_port *p, const char *name, const uint8_t isid[6])
{
    return !memcmp(p->isid, isid, 6) && !strcmp(p->name, name);
}

int reserve_find(const struct reserve *r, const char *name, const uint8_t isid[6], uint16_t target)
{
    for (unsigned i = 0; i < r->n; i++)
        if (r->registrants[i].nexus.target == target &&
            port_is(&r->registrants[i].nexus.initiator, name, isid))
            return (int)i;
    return RESERVE_NOBODY;
}

static int find(const struct reserve *r, const struct reserve_port *initiator, uint16_t target)
{
    return reserve_find(r, initiator->name, initiator->isid, target);
}

bool reserve_holds(const struct reserve *r, int registrant)
{
    return registrant != RESERVE_NOBODY && r->type && (registrant == r->holder || reserve_all_hold(r->type));
}

bool reserve_conflicts(const struct reserve *r, enum reserve_class class, const char *name,
                       const uint8_t isid[6], uint16_t target)
{
    bool excludes = r->type == RESERVE_EXCLUSIVE_ACCESS || r->type == RESERVE_EXCLUSIVE_ACCESS_REGISTRANTS ||
                    r->type == RESERVE_EXCLUSIVE_ACCESS_ALL;
    int mine;

    if (!r->type || !(excludes ? conflicts[class].exclusive_access : conflicts[class].write_exclusive))
        return false;
    mine = reserve_find(r, name, isid, target);
    return !(reserve_holds(r, mine) || (mine != RESERVE_NOBODY && registrants_only(r->type)));
}

bool reserve_conflicts_old(enum reserve_class class)
{
    return conflicts[class].old;
}

/* --- what the service actions are made of --- */

static void tell(struct reserve_notices *notices, const struct reserve_nexus *nexus, uint8_t what)
{
    CHECK(notices->n < RESERVE_REGISTRANTS_MAX);
    notices->each[notices->n].nexus = *nexus;
    notices->each[notices->n++].what = what;
}

static void tell_others(const struct reserve *r, int except, struct reserve_notices *notices, uint8_t what)
{
    for (int i = 0; i < (int)r->n; i++)
        if (i != except)
            tell(notices, &r->registrants[i].nexus, what);
}

static void release(struct reserve *r)
{
    r->type = RESERVE_NONE;
    r->holder = RESERVE_NOBODY;
}

/* Takes registrant i out. A reservation that only it held goes with it. */
static void forget(struct reserve *r, int i)
{
    r->n--;
    memmove(&r->registrants[i], &r->registrants[i + 1], (r->n - (unsigned)i) * sizeof *r->registrants);
    if (r->holder == i || r->n == 0)
        release(r);
    else if (r->holder > i)
        r->holder--;
}

static void add(struct reserve *r, const struct reserve_port *initiator, uint16_t target, uint64_t key)
{
    CHECK(r->n < RESERVE_REGISTRANTS_MAX);
    r->registrants[r->n++] =
        (struct registrant){.nexus = {.initiator = *initiator, .target = target}, .key = key};
}

static void reserve(struct reserve *r, int by, uint8_t type)
{
    r->type = type;
    r->holder = reserve_all_hold(type) ? RESERVE_NOBODY : by;
}

/* --- the service actions; mine: the registration of who asks --- */

/* The target ports that a registration is for: what is asked with ALL_TG_PT is as if it had come through each
 * of them. */
static unsigned targets_of(const struct reserve_request *q, const uint16_t **targets)
{
    *targets = q->ntargets ? q->targets : &q->from.target;
    return q->ntargets ? q->ntargets : 1;
}

static void leave(struct reserve *r, const struct reserve_request *q, struct reserve_notices *notices)
{
    const uint16_t *targets;
    unsigned n = targets_of(q, &targets);
    bool released = false;

    for (unsigned t = 0; t < n; t++) {
        int mine = find(r, &q->from.initiator, targets[t]);

        if (mine == RESERVE_NOBODY)
            continue;
        released = released || (r->holder == mine && registrants_only(r->type));
        forget(r, mine);
    }
    if (released)
        tell_others(r, RESERVE_NOBODY, notices, RESERVE_TELL_RELEASED);
}

/* Those named by SPEC_I_PT are new, each at every target port, and not the one who asks. */
static bool named_ok(const struct reserve *r, const struct reserve_request *q)
{
    const uint16_t *targets;
    unsigned n = targets_of(q, &targets);

    for (unsigned i = 0; i < q->nports; i++) {
        const struct reserve_port *p = &q->ports[i];

        if (port_is(p, q->from.initiator.name, q->from.initiator.isid))
            return false;
        for (unsigned t = 0; t < n; t++)
            if (find(r, p, targets[t]) != RESERVE_NOBODY)
                return false;
        for (unsigned k = 0; k < i; k++)
            if (port_is(p, q->ports[k].name, q->ports[k].isid))
                return false;
    }
    return true;
}

static enum reserve_result enter(struct reserve *r, const struct reserve_request *q, unsigned registered)
{
    const uint16_t *targets;
    unsigned n = targets_of(q, &targets);

    if (!named_ok(r, q))
        return RESERVE_BAD_PORTS;
    if (n * (1 + q->nports) - registered > RESERVE_REGISTRANTS_MAX - r->n)
        return RESERVE_FULL;
    for (unsigned t = 0; t < n; t++) {
        int mine = find(r, &q->from.initiator, targets[t]);

        if (mine != RESERVE_NOBODY)
            r->registrants[mine].key = q->service_key;
        else
            add(r, &q->from.initiator, targets[t], q->service_key);
        for (unsigned i = 0; i < q->nports; i++)
            add(r, &q->ports[i], targets[t], q->service_key);
    }
    return RESERVE_GOOD;
}

static enum reserve_result do_register(struct reserve *r, const struct reserve_request *q,
                                       struct reserve_notices *notices)
{
    enum reserve_result result = RESERVE_GOOD;
    const uint16_t *targets;
    unsigned n = targets_of(q, &targets), registered = 0;

    for (unsigned t = 0; t < n; t++) {
        int mine = find(r, &q->from.initiator, targets[t]);

        if (q->action == RESERVE_REGISTER &&
            q->key != (mine == RESERVE_NOBODY ? 0 : r->registrants[mine].key))
            return RESERVE_CONFLICT;
        registered += mine != RESERVE_NOBODY;
    }
    if (q->nports && registered)
        return RESERVE_BAD_PORTS;
    if (!registered && !q->service_key)
        return RESERVE_GOOD;
    if (q->service_key)
        result = enter(r, q, registered);
    else
        leave(r, q, notices);
    if (result == RESERVE_GOOD) {
        r->aptpl = q->aptpl;
        r->generation++;
    }
    return result;
}

static enum reserve_result do_reserve(struct reserve *r, const struct reserve_request *q, int mine)
{
    if (!r->type)
        reserve(r, mine, q->type);
    return reserve_holds(r, mine) && r->type == q->type ? RESERVE_GOOD : RESERVE_CONFLICT;
}

static enum reserve_result do_release(struct reserve *r, const struct reserve_request *q, int mine,
                                      struct reserve_notices *notices)
{
    if (!reserve_holds(r, mine))
        return RESERVE_GOOD;
    if (r->type != q->type)
        return RESERVE_BAD_RELEASE;
    if (registrants_only(r->type) || reserve_all_hold(r->type))
        tell_others(r, mine, notices, RESERVE_TELL_RELEASED);
    release(r);
    return RESERVE_GOOD;
}

static enum reserve_result do_clear(struct reserve *r, int mine, struct reserve_notices *notices)
{
    tell_others(r, mine, notices, RESERVE_TELL_PREEMPTED);
    release(r);
    r->n = 0;
    r->generation++;
    return RESERVE_GOOD;
}

/* Removes who has that key (0: all); *mine is kept when it takes the reservation over. */
static bool remove_key(struct reserve *r, uint64_t key, int *mine, bool keep, uint8_t what,
                       struct reserve_notices *notices)
{
    bool any = false;

    for (int i = (int)r->n - 1; i >= 0; i--) {
        if (key && r->registrants[i].key != key)
            continue;
        any = true;
        if (i == *mine && keep)
            continue;
        if (i != *mine)
            tell(notices, &r->registrants[i].nexus, what);
        forget(r, i);
        if (i == *mine)
            *mine = RESERVE_NOBODY;
        else if (i < *mine)
            --*mine;
    }
    return any;
}

static enum reserve_result do_preempt(struct reserve *r, const struct reserve_request *q, int mine,
                                      struct reserve_notices *notices)
{
    uint8_t what = RESERVE_TELL_UNREGISTERED, old = r->type;
    bool all = reserve_all_hold(r->type);
    bool takes = all ? !q->service_key
                     : r->holder != RESERVE_NOBODY && r->registrants[r->holder].key == q->service_key;

    if (!q->service_key && !all)
        return RESERVE_BAD_KEY;
    if (q->action == RESERVE_PREEMPT_ABORT)
        what |= RESERVE_TELL_ABORT;
    if (!remove_key(r, q->service_key, &mine, takes, what, notices))
        return RESERVE_CONFLICT;
    if (takes) {
        release(r);
        reserve(r, mine, q->type);
        if (old != q->type)
            tell_others(r, mine, notices, RESERVE_TELL_RELEASED);
    }
    r->generation++;
    return RESERVE_GOOD;
}

static enum reserve_result do_move(struct reserve *r, const struct reserve_request *q, int mine)
{
    const struct reserve_port *to = &q->ports[0];
    int at = find(r, to, q->targets[0]);

    if (r->holder != mine)
        return RESERVE_CONFLICT;
    if (!q->service_key)
        return RESERVE_BAD_KEY;
    if (at == mine)
        return RESERVE_BAD_TARGET;
    if (at == RESERVE_NOBODY) {
        if (r->n == RESERVE_REGISTRANTS_MAX)
            return RESERVE_FULL;
        at = (int)r->n;
        add(r, to, q->targets[0], q->service_key);
    }
    r->registrants[at].key = q->service_key;
    r->holder = at;
    if (q->unregister)
        forget(r, mine);
    r->aptpl = q->aptpl;
    r->generation++;
    return RESERVE_GOOD;
}

enum reserve_result reserve_out(struct reserve *r, const struct reserve_request *q,
                                struct reserve_notices *notices)
{
    int mine = find(r, &q->from.initiator, q->from.target);

    notices->n = 0;
    if (q->action == RESERVE_REGISTER || q->action == RESERVE_REGISTER_IGNORE)
        return do_register(r, q, notices);
    if (mine == RESERVE_NOBODY || r->registrants[mine].key != q->key)
        return RESERVE_CONFLICT;
    switch (q->action) {
    case RESERVE_RESERVE:
        return do_reserve(r, q, mine);
    case RESERVE_RELEASE:
        return do_release(r, q, mine, notices);
    case RESERVE_CLEAR:
        return do_clear(r, mine, notices);
    case RESERVE_MOVE:
        return do_move(r, q, mine);
    default:
        return do_preempt(r, q, mine, notices);
    }
}
