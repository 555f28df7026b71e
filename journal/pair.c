/* journal/pair.c - see pair.h. The states: what is believed when, and what it leads to.
 *
 * Everything that happens (a timer, a ping, an answer, the record) ends in pair_step(), which looks at what
 * is true now. Roles change in pair_become() only.
 */
#include "pair.h"
#include "check.h"
#include "log.h"
#include "mem.h"
#include "pair_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "pair";

enum {
    IDLE_PART = 4,        /* of a lease: how much longer an edge waits that serves nothing */
    SOON_LEASES = 20,     /* for how long an edge that is out, and was about to be taken in, looks often */
    RESTARTED_LEASES = 2, /* a member that was restarted gives the other so long to go on alone */
    REST_MAX_MS = 5000,   /* between tries at the store that fail, at most */
    POLL_MAX_MS = 60000
};

struct arbiter_edge pair_me(const struct pair *p)
{
    return (struct arbiter_edge){p->self, p->conf.writer, p->conf.generation};
}

void pair_set_gate(struct pair *p)
{
    uint64_t until = 0;

    if (p->role == PAIR_SOLE && !p->lost)
        until = UINT64_MAX;
    else if (p->role == PAIR_BOTH && !p->claiming && !p->lost)
        until = lease_until(&p->lease);
    atomic_store_explicit(&p->conf.gate->until_ns, until, memory_order_release);
    metric_set(p->m_blocked, p->role == PAIR_UNKNOWN || (p->role == PAIR_BOTH && until <= pair_now(p)));
}

bool pair_keeps(const struct pair *p)
{
    return !p->lost && !p->stopping && !p->swapped && (p->role == PAIR_OUT || p->role == PAIR_BOTH);
}

/* --- roles ----------------------------------------------------------------------------------------------*/

static void end_claim(struct pair *p)
{
    p->claiming = p->swapped = p->broken = false;
    p->rest_ms = PAIR_REST_MIN_MS;
}

void pair_ask_later(struct pair *p, unsigned ms)
{
    p->ask_ns = pair_now(p) + ms * UINT64_C(1000000);
}

static void rest(struct pair *p, unsigned max_ms)
{
    pair_ask_later(p, p->rest_ms);
    p->rest_ms = p->rest_ms * 2 < max_ms ? p->rest_ms * 2 : max_ms;
}

void pair_become(struct pair *p, enum pair_role role)
{
    bool changed = p->role != role;

    end_claim(p);
    p->preparing = p->prepared = p->told = false;
    p->role = role;
    pair_set_gate(p);
    metric_set(p->m_role, (uint64_t)role);
    metric_set(p->m_epoch, p->record.epoch);
    metric_set(p->m_generation, p->record.generation);
    metric_set(p->m_degraded, role == PAIR_SOLE);
    if (!changed)
        return;
    if (role == PAIR_SOLE)
        log_warn(NULL, "pair %s, epoch %" PRIu64 ": this edge is the only member: degraded", p->name,
                 p->record.epoch);
    else
        log_info(NULL, "pair %s, epoch %" PRIu64 ": this edge is %s", p->name, p->record.epoch,
                 role == PAIR_BOTH ? "a member, as is the other" : pair_role_name(role));
}

void pair_lose(struct pair *p, const char *sentence)
{
    struct why why;

    if (p->lost)
        return;
    p->lost = true;
    atomic_store(&p->conf.gate->until_ns, 0);
    why_set(&why, -ESTALE, "pair %s, epoch %" PRIu64 ": %s", p->name, p->record.epoch, sentence);
    p->conf.lost(p->conf.arg, &why);
}

static void become_sole(struct pair *p)
{
    const struct arbiter_place *other;
    struct arbiter_edge me = pair_me(p);

    if (p->role == PAIR_SOLE)
        return;
    other = arbiter_other(&p->record, &me);
    p->unsettled = false;
    p->partner = 0;
    lease_drop(&p->lease);
    pair_become(p, PAIR_SOLE);
    p->inherit_due = other != NULL;
    p->look_ns = pair_now(p) + p->conf.lease_ns;
    p->conf.sole(p->conf.arg);
}

static void become_both(struct pair *p)
{
    if (p->role == PAIR_BOTH)
        return;
    pair_force_ends(p);
    if (p->lost)
        return;
    p->partner = p->ready;
    p->since_ns = pair_now(p);
    pair_become(p, PAIR_BOTH);
    p->conf.both(p->conf.arg);
}

static void become_out(struct pair *p)
{
    if (p->role == PAIR_OUT)
        return;
    if (p->role != PAIR_UNKNOWN) {
        pair_lose(p, "the other edge is the only member: this one stops, and starts again as no member");
        return;
    }
    lease_drop(&p->lease);
    pair_become(p, PAIR_OUT);
    p->conf.out(p->conf.arg);
}

/* --- the record -----------------------------------------------------------------------------------------*/

/* A member, with the other: what now? */
static void is_both(struct pair *p)
{
    if (p->claiming) {
        p->swapped = true;
        pair_set_gate(p);
        pair_record_alone(p);
    } else if (p->unsettled) { /* the other was taken in: by this edge, just now */
        p->unsettled = false;
        metric_set(p->m_role, PAIR_BOTH);
        metric_set(p->m_epoch, p->record.epoch);
        metric_set(p->m_generation, p->record.generation);
        metric_set(p->m_degraded, 0);
        log_info(NULL, "pair %s, epoch %" PRIu64 ": both edges are members", p->name, p->record.epoch);
        p->conf.both(p->conf.arg);
    } else if (p->role == PAIR_OUT && !p->ready) {
        why_set(&p->why, 0,
                "the record says that this edge was taken in, but that was before it started: the "
                "other edge must take it in again");
    } else if (p->role == PAIR_OUT) {
        become_both(p);
    } else if (p->role == PAIR_UNKNOWN) {
        why_set(&p->why, 0, "this edge was restarted: the other may go on alone");
        pair_ask_later(p, PAIR_POLL_MS);
    }
}

void pair_record_is(struct pair *p)
{
    struct arbiter_edge me = pair_me(p);
    enum arbiter_verdict verdict = arbiter_judge(&p->record, &me);

    p->conf.writes(p->conf.arg, p->record.generation);
    metric_set(p->m_forced, p->record.forced.epoch);
    if (p->role != PAIR_OUT)
        p->rest_ms = PAIR_REST_MIN_MS;
    why_set(&p->why, 0, "%s", "");
    if (verdict == ARBITER_SOLE && p->role == PAIR_OUT) {
        pair_lose(p, "this edge was made the only member by force: it starts again as that");
        return;
    }
    if (verdict == ARBITER_SOLE && (p->unsettled || p->fresh || p->record.called)) {
        if (p->record.called)
            log_warn(NULL, "pair %s: the other edge asks in the record whether this one lives: it does",
                     p->name);
        if (p->role != PAIR_SOLE) {
            p->swapped = true; /* what was sent may yet happen: this makes sure that it does not */
            pair_set_gate(p);
        }
        pair_record_alone(p);
        return;
    }
    if (verdict == ARBITER_SOLE)
        become_sole(p);
    else if (verdict == ARBITER_BOTH)
        is_both(p);
    else if (verdict == ARBITER_NOT)
        become_out(p);
    else
        why_set(&p->why, 0,
                verdict == ARBITER_STRANDED ? "the only member is this edge as it was before it lost its data"
                                            : "both places in the pair's record are other edges'");
    if (verdict == ARBITER_STRANDED || verdict == ARBITER_FOREIGN) {
        if (p->role != PAIR_UNKNOWN)
            pair_lose(p, p->why.text);
        else if (p->rest_ms == PAIR_REST_MIN_MS)
            log_error(NULL, "pair %s: %s: nothing is served here", p->name, p->why.text);
        rest(p, POLL_MAX_MS);
    }
    if (p->role == PAIR_OUT && p->force.step)
        pair_ask_later(p, PAIR_POLL_MS);
    else if (p->role == PAIR_OUT)
        rest(p, POLL_MAX_MS);
    if (!p->asking)
        pair_step(p);
}

void pair_record_failed(struct pair *p, int err, const struct why *why)
{
    if (p->role == PAIR_SOLE) { /* it wanted only to know whether all is as it was */
        log_debug(NULL, "the pair's record (%s) cannot be looked at: %s", p->key, why->text);
        p->look_ns = pair_now(p) + p->conf.lease_ns;
        return;
    }
    why_set(&p->why, err, "the pair's record in the object store (%s): %s", p->key,
            *why->text ? why->text : strerror(-err));
    if (p->rest_ms == PAIR_REST_MIN_MS)
        log_warn(NULL, "%s", p->why.text);
    if (p->unsettled) { /* whether the other was taken in is not known: only the record tells */
        p->claiming = true;
        pair_set_gate(p);
    }
    rest(p, err == -ENOTSUP ? POLL_MAX_MS : REST_MAX_MS); /* that needs another program */
}

/* --- going alone ----------------------------------------------------------------------------------------*/

static void claim(struct pair *p, const char *why)
{
    uint64_t after = p->conf.idle(p->conf.arg) ? p->conf.lease_ns / IDLE_PART : 0;

    if (p->claiming)
        return;
    log_warn(NULL,
             "pair %s: %s: nothing is acknowledged or read here until the object store says who goes on",
             p->name, why);
    p->claiming = true;
    p->claim_ns = pair_now(p) + after;
    p->ask_ns = 0;
    p->rest_ms = PAIR_REST_MIN_MS;
    pair_set_gate(p);
}

/* The lease holds again before the record was changed by this edge: everything is as it was. */
static bool give_up_claim(struct pair *p)
{
    if (p->swapped || p->broken || p->unsettled || p->asking || !lease_holds(&p->lease, pair_now(p)))
        return false;
    log_info(NULL, "pair %s: the other edge answers again", p->name);
    end_claim(p);
    pair_set_gate(p);
    return true;
}

void pair_break(struct pair *p, const struct why *why)
{
    if (p->role == PAIR_SOLE && p->preparing) {
        p->preparing = p->prepared = p->told = false;
        p->conf.unprepare(p->conf.arg);
        return;
    }
    if (p->role != PAIR_BOTH)
        return;
    claim(p, why->text);
    p->broken = true;
    p->partner = 0;
    lease_drop(&p->lease);
    pair_step(p);
}

/* --- what is due ----------------------------------------------------------------------------------------*/

static void step_unknown(struct pair *p)
{
    uint64_t now = pair_now(p);
    struct arbiter_edge me = pair_me(p);

    if (!p->claiming && p->record.epoch && arbiter_judge(&p->record, &me) == ARBITER_BOTH &&
        now - p->started_ns >= RESTARTED_LEASES * p->conf.lease_ns)
        claim(p, "this edge was restarted, and the other has not gone on alone");
    if (now >= p->ask_ns && (!p->claiming || now >= p->claim_ns))
        pair_record_read(p);
}

/* Who has just learned that it was taken in has a lease's length to be answered. */
static void look_at_lease(struct pair *p)
{
    uint64_t now = pair_now(p);

    if (!p->claiming && !lease_holds(&p->lease, now) && now - p->since_ns >= p->conf.lease_ns)
        claim(p, "the other edge does not answer");
}

static void step_both(struct pair *p)
{
    uint64_t now;

    if (p->claiming && give_up_claim(p))
        return;
    look_at_lease(p);
    now = pair_now(p);
    if (p->claiming && now >= p->claim_ns && now >= p->ask_ns)
        pair_record_read(p);
}

/* The other may take this edge in, or be gone with that having happened: then it is looked at often, for a
 * while. A member that is heard says so itself; another that was set up in its place cannot. */
static void step_out(struct pair *p)
{
    uint64_t now = pair_now(p);
    bool hears = pair_hears(p), told = hears && p->theirs.role == PAIR_BOTH;
    bool by_member = told || (hears && p->theirs.role == PAIR_SOLE);
    bool soon = told || (p->ready && !hears && now - p->heard_ns < SOON_LEASES * p->conf.lease_ns);

    if (pair_force_step(p))
        return;
    if ((told || !by_member) && now >= (soon ? p->asked_ns + PAIR_POLL_MS * UINT64_C(1000000) : p->ask_ns)) {
        p->asked_ns = now;
        pair_record_read(p);
    }
}

/* The only member looks whether it is that, and answers who calls: pair_force.c. */
static void look_at_record(struct pair *p)
{
    if (p->asking || p->inherit_due || pair_now(p) < p->look_ns)
        return;
    p->look_ns = pair_now(p) + PAIR_LOOK_LEASES * p->conf.lease_ns;
    pair_record_read(p);
}

static bool wants_in(const struct pair *p)
{
    return pair_hears(p) && p->theirs.role == PAIR_OUT && p->theirs.generation >= p->record.generation;
}

/* Whoever was about to be taken in went away, or is another run of it by now. */
static void look_at_other(struct pair *p)
{
    if (!p->preparing || (wants_in(p) && p->theirs.instance == p->partner))
        return;
    p->preparing = p->prepared = p->told = false;
    p->conf.unprepare(p->conf.arg);
}

static void step_sole(struct pair *p)
{
    if (p->inherit_due && pair_now(p) >= lease_theirs_over(&p->lease)) {
        struct arbiter_edge me = pair_me(p);

        p->inherit_due = false;
        p->inheriting = true;
        p->conf.inherit(p->conf.arg, arbiter_other(&p->record, &me)->writer);
    }
    look_at_other(p);
    if (p->preparing && p->told && lease_holds(&p->lease, pair_now(p))) {
        p->since_ns = 0;
        p->role = PAIR_BOTH; /* from here on this edge believes no more than a member beside another */
        p->preparing = p->prepared = p->told = false;
        p->unsettled = true;
        pair_set_gate(p);
        pair_record_join(p);
    } else if (!p->preparing && wants_in(p) && !p->inherit_due && !p->inheriting &&
               pair_now(p) >= p->ask_ns) {
        p->preparing = true;
        p->partner = p->theirs.instance;
        memcpy(p->joining, p->theirs.writer, sizeof p->joining);
        lease_drop(&p->lease);
        pair_ask_later(p, PAIR_POLL_MS); /* if it fails, not again at once */
        p->conf.prepare(p->conf.arg);
    }
    if (p->role == PAIR_SOLE)
        look_at_record(p);
}

void pair_step(struct pair *p)
{
    if (p->stopping || p->lost)
        return;
    if (p->asking) {
        pair_set_gate(p);
        if (p->role == PAIR_BOTH)
            look_at_lease(p);
        else if (p->role == PAIR_SOLE)
            look_at_other(p);
        return;
    }
    if (p->role == PAIR_UNKNOWN)
        step_unknown(p);
    else if (p->role == PAIR_BOTH)
        step_both(p);
    else if (p->role == PAIR_OUT)
        step_out(p);
    else
        step_sole(p);
}

void pair_inherited(struct pair *p)
{
    p->inheriting = false;
    pair_step(p);
}

void pair_prepared(struct pair *p, bool ok)
{
    if (!p->preparing)
        return;
    if (!ok) {
        p->preparing = false;
        p->conf.unprepare(p->conf.arg);
        return;
    }
    p->prepared = true; /* the next ping says so */
}
