/* journal/pair_life.c - a pair's half begins and ends, and what is shown of it.
 */
#include "check.h"
#include "mem.h"
#include "pair_impl.h"

#include <stdio.h>
#include <string.h>

void pair_status(const struct pair *p, struct pair_status *s)
{
    uint64_t now = pair_now(p);
    struct arbiter_edge me = pair_me(p);
    const struct arbiter_place *other = arbiter_other(&p->record, &me);

    *s = (struct pair_status){.name = p->name,
                              .self = p->self,
                              .other = p->other,
                              .role = p->role,
                              .other_writer = other ? other->writer : NULL,
                              .epoch = p->record.epoch,
                              .generation = p->record.generation,
                              .own_generation = p->conf.generation,
                              .other_generation = p->theirs.generation,
                              .other_answers = pair_hears(p)};
    s->blocked = p->role == PAIR_UNKNOWN || (p->role == PAIR_BOTH && !lease_gate_open(p->conf.gate, now));
    s->preparing = p->preparing || p->unsettled;
    s->inheriting = p->inherit_due || p->inheriting;
    s->forcing = p->force.step != FORCE_NONE;
    s->refused = p->force.refused;
    s->forced_epoch = p->record.forced.epoch;
    s->forced_at_s = p->record.forced.at_s;
    s->forced_edge = p->record.forced.name;
    s->why = p->why;
}

static void make_metrics(struct pair *p)
{
    p->m_role =
        metric_new(METRIC_GAUGE, "isthmus_pair_role",
                   "What this edge is in its pair: 1 unknown, 2 no member, 3 the only member, 4 both are.",
                   "pair=\"%s\"", p->name);
    p->m_epoch =
        metric_new(METRIC_GAUGE, "isthmus_pair_epoch", "Epoch of the pair's record.", "pair=\"%s\"", p->name);
    p->m_generation =
        metric_new(METRIC_GAUGE, "isthmus_pair_generation",
                   "As which generation the pair's record lets its members write.", "pair=\"%s\"", p->name);
    p->m_degraded = metric_new(METRIC_GAUGE, "isthmus_pair_degraded",
                               "This edge is the only member: nothing is mirrored.", "pair=\"%s\"", p->name);
    p->m_blocked =
        metric_new(METRIC_GAUGE, "isthmus_pair_blocked",
                   "This edge serves nothing until the other answers or the record says who goes on.",
                   "pair=\"%s\"", p->name);
    p->m_forced = metric_new(METRIC_GAUGE, "isthmus_pair_forced_epoch",
                             "Epoch at which an edge was last made the only member by force, 0: never.",
                             "pair=\"%s\"", p->name);
    p->m_requests =
        metric_new(METRIC_COUNTER, "isthmus_pair_store_requests_total",
                   "Requests to the object store about the pair's record.", "pair=\"%s\"", p->name);
}

struct pair *pair_new(const struct pair_conf *conf)
{
    struct pair *p = xcalloc(1, sizeof *p);

    p->conf = *conf;
    snprintf(p->name, sizeof p->name, "%s", conf->name);
    snprintf(p->self, sizeof p->self, "%s", conf->self);
    snprintf(p->other, sizeof p->other, "%s", conf->other);
    arbiter_key(p->key, p->name);
    loop_random(conf->loop, &p->instance, sizeof p->instance);
    p->instance |= 1; /* 0 is nobody's */
    p->role = PAIR_UNKNOWN;
    p->fresh = true;
    p->lease.length_ns = conf->lease_ns;
    p->started_ns = pair_now(p);
    lease_give(&p->lease, p->started_ns); /* the process before this one may have given one just now */
    p->rest_ms = PAIR_REST_MIN_MS;
    make_metrics(p);
    timer_init(&p->timer, conf->loop, pair_on_timer);
    timer_set_ms(&p->timer, 0);
    pair_set_gate(p);
    return p;
}

static void on_stopped(struct task *t)
{
    struct pair *p = container_of(t, struct pair, task);
    void (*done)(void *arg) = p->stopped;
    void *arg = p->stopped_arg;

    timer_free(&p->timer);
    metric_free(&p->m_role);
    metric_free(&p->m_epoch);
    metric_free(&p->m_generation);
    metric_free(&p->m_degraded);
    metric_free(&p->m_blocked);
    metric_free(&p->m_forced);
    metric_free(&p->m_requests);
    explicit_bzero(&p->conf.master, sizeof p->conf.master);
    free(p);
    done(arg);
}

void pair_look_stopped(struct pair *p)
{
    if (p->pinging || p->asking || p->bidding)
        return;
    p->task.run = on_stopped;
    loop_post(p->conf.loop, &p->task);
}

void pair_stop(struct pair *p, void (*done)(void *arg), void *arg)
{
    p->stopping = true;
    p->stopped = done;
    p->stopped_arg = arg;
    timer_stop(&p->timer);
    pair_bid_farewell(p);
    if (p->pinging)
        link_call_cancel(&p->ping);
    if (p->asking)
        store_cancel(&p->req);
    pair_look_stopped(p);
}
