/* journal/pair_force.c - an operator says that the only member is lost for good with its disks: this edge,
 * which is out, becomes the only member.
 *
 *   call ──► wait ──► clear ──► take ──► the record says so: the process ends, and starts again as that
 *     └────────┴── somebody lives: nothing has happened
 *
 * The call is a change of the record that says only that somebody asks. Whoever is a member, and sees it,
 * changes the record again: a sole member looks at it every few leases. The record is taken by a swap of the
 * very call, so an answer that comes before that wins; then this process ends, too, for what it had kept is
 * gone by then, and starts again as what it was. docs/pair.md, "By force".
 */
#include "pair_impl.h"

#include "check.h"
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char part[] = "pair";

enum {
    WAIT_LEASES = PAIR_LOOK_LEASES + 1, /* for an answer: the next look of a sole member, */
    WAIT_MS = 2 * PAIR_TIMEOUT_MS,      /* and requests of its that take long */
    CALLS_MAX = 5                       /* that found a record which had just changed */
};

/* Who is a member; there is one in every record, and this edge is not. */
static const struct arbiter_place *member(const struct pair *p)
{
    struct arbiter_edge me = pair_me(p);

    return arbiter_other(&p->record, &me);
}

/* What it was, with its disks; not another that was set up under its name. */
static bool member_answers(const struct pair *p)
{
    return pair_hears(p) && memcmp(p->theirs.writer, member(p)->writer, ARBITER_WRITER_BYTES) == 0;
}

int pair_may_force(const struct pair *p, struct arbiter_place *lost, struct why *why)
{
    struct arbiter_edge me = pair_me(p);

    if (p->stopping || p->lost)
        return why_set(why, -ESHUTDOWN, "this edge is stopping");
    if (p->role != PAIR_OUT)
        return why_set(why, -EINVAL,
                       "this edge is '%s': only one that is 'out' can be made the only member by force",
                       pair_role_name(p->role));
    if (arbiter_judge(&p->record, &me) != ARBITER_NOT)
        return why_set(why, -EINVAL,
                       "the pair's record counts this edge as a member: it waits for that to be true");
    if (p->force.step)
        return why_set(why, -EALREADY, "that has begun already");
    if (member_answers(p))
        return why_set(why, -EBUSY, "%s answers over the link: it lives, and has its disks", member(p)->name);
    *lost = *member(p);
    return 0;
}

static void new_change(struct pair *p, uint8_t change[sizeof p->wanted.change])
{
    loop_random(p->conf.loop, change, sizeof p->wanted.change);
}

int pair_force(struct pair *p, struct why *why)
{
    struct arbiter_place lost;
    int err = pair_may_force(p, &lost, why);

    if (err)
        return err;
    log_warn(NULL, "pair %s: this edge is to be the only member by force: %s is asked whether it lives",
             p->name, lost.name);
    new_change(p, p->force.change);
    p->force.step = FORCE_CALL;
    p->force.calls = 0;
    p->force.refused.text[0] = '\0';
    p->ask_ns = 0;
    p->rest_ms = PAIR_REST_MIN_MS;
    pair_step(p);
    return 0;
}

static void end(struct pair *p)
{
    if (p->force.step >= FORCE_CLEAR) {
        pair_lose(p, p->force.refused.text);
    } else {
        p->force.step = FORCE_NONE;
        log_warn(NULL, "pair %s: nothing is done by force: %s", p->name, p->force.refused.text);
    }
}

static void refuse(struct pair *p, const char *what)
{
    why_set(&p->force.refused, -EBUSY, "%s %s: it lives, and this edge stays out", member(p)->name, what);
    end(p);
}

void pair_force_ends(struct pair *p)
{
    if (p->force.step)
        refuse(p, "has taken this edge in");
}

static bool is_called(const struct pair *p)
{
    return memcmp(p->record.change, p->force.change, sizeof p->force.change) == 0;
}

static void begin_to_wait(struct pair *p)
{
    p->force.step = FORCE_WAIT;
    p->force.until_ns = pair_now(p) + WAIT_LEASES * p->conf.lease_ns + WAIT_MS * UINT64_C(1000000);
    pair_ask_later(p, PAIR_POLL_MS);
}

static void call(struct pair *p)
{
    struct arbiter_edge me = pair_me(p);

    if (p->force.calls++ == CALLS_MAX) {
        refuse(p, "changes the pair's record");
        return;
    }
    new_change(p, p->force.change);
    p->wanted = p->record;
    arbiter_call(&p->wanted, &me, p->force.change);
    pair_record_swap(p);
}

static void take(struct pair *p)
{
    uint8_t change[sizeof p->wanted.change];
    struct arbiter_edge me = pair_me(p);

    new_change(p, change);
    p->wanted = p->record;
    arbiter_force(&p->wanted, &me, time(NULL), change);
    log_warn(NULL, "pair %s, epoch %" PRIu64 ": %s has not answered: this edge takes its place by force",
             p->name, p->wanted.epoch, member(p)->name);
    pair_record_swap(p);
}

static void say_how_long(struct pair *p, uint64_t now)
{
    why_set(&p->why, 0, "%s does not answer in the pair's record: it is waited for %u s longer",
            member(p)->name, (unsigned)((p->force.until_ns - now) / UINT64_C(1000000000)) + 1);
}

void pair_cleared(struct pair *p, int status, const struct why *why)
{
    if (p->force.step != FORCE_CLEAR)
        return;
    if (status) {
        p->force.refused = *why;
        end(p);
        return;
    }
    p->force.step = FORCE_TAKE;
    p->ask_ns = 0;
    pair_step(p);
}

/* Nothing that this run has heard counts any more: it could only be taken in anew. */
static void clear(struct pair *p)
{
    p->force.step = FORCE_CLEAR;
    p->ready = 0;
    p->conf.clear(p->conf.arg);
}

bool pair_force_step(struct pair *p)
{
    uint64_t now = pair_now(p);

    if (!p->force.step)
        return false;
    if (p->force.step == FORCE_CALL && is_called(p))
        begin_to_wait(p);
    if (p->force.step < FORCE_TAKE && member_answers(p))
        refuse(p, "answers over the link");
    else if (p->force.step != FORCE_CALL && !is_called(p))
        refuse(p, "has answered in the pair's record");
    else if (p->force.step == FORCE_WAIT && now < p->force.until_ns)
        say_how_long(p, now);
    if (!p->force.step)
        return false;
    if (p->force.step == FORCE_WAIT && now >= p->force.until_ns)
        clear(p);
    else if (p->force.step == FORCE_CLEAR || now < p->ask_ns)
        return true;
    else if (p->force.step == FORCE_CALL)
        call(p);
    else if (p->force.step == FORCE_WAIT)
        pair_record_read(p);
    else
        take(p);
    return true;
}
