/* tests/unit/store_gate.h - an object store that holds one put back until a test lets it go: it comes late.
 */
#ifndef ISTHMUS_STORE_GATE_H
#define ISTHMUS_STORE_GATE_H

#include "check.h"
#include "mem.h"
#include "store_backend.h"

#include <errno.h>
#include <semaphore.h>
#include <string.h>

struct store_gate {
    struct store store; /* first */
    struct store *inner;
    const char *hold; /* puts of keys that contain this; NULL: none */
    unsigned pass;    /* but not the first so many */
    struct gated *held;
    sem_t *reached; /* one is held */
};

struct gated {
    struct store_req *req;
    struct store_req inner;
    bool below; /* it has gone on */
};

static inline void gate_end(struct gated *g, int status)
{
    struct store_req *r = g->req;

    free(g);
    store_finish(r, status);
}

static inline void gate_on_answer(struct store_req *inner)
{
    struct gated *g = container_of(inner, struct gated, inner);

    store_answer_move(g->req, inner);
    gate_end(g, inner->status);
}

static inline void gate_go_on(struct store_gate *s, struct gated *g)
{
    g->below = true;
    store_ask_copy(&g->inner, g->req, gate_on_answer);
    g->inner.timeout_ms = store_left_ms(g->req);
    store_submit(s->inner, &g->inner);
}

static inline void gate_start(struct store *store, struct store_req *r)
{
    struct store_gate *s = container_of(store, struct store_gate, store);
    struct gated *g = xcalloc(1, sizeof *g);

    g->req = r;
    r->backend = g;
    if (r->op != STORE_PUT || !s->hold || s->held || !strstr(r->key, s->hold) || s->pass-- > 0) {
        gate_go_on(s, g);
        return;
    }
    s->held = g;
    s->pass = 0;
    sem_post(s->reached);
}

static inline void gate_cancel(struct store *store, struct store_req *r)
{
    struct store_gate *s = container_of(store, struct store_gate, store);
    struct gated *g = r->backend;

    if (g->below) {
        store_cancel(&g->inner);
        return;
    }
    s->held = NULL;
    gate_end(g, -ECANCELED);
}

static inline void gate_free(struct store *store)
{
    struct store_gate *s = container_of(store, struct store_gate, store);

    store_free(&s->inner);
    free(s);
}

/* Takes inner. On its loop. */
static inline struct store_gate *store_gate_new(struct store *inner, const char *hold, unsigned pass,
                                                sem_t *reached)
{
    static const struct store_ops ops = {
        .name = "gate", .start = gate_start, .cancel = gate_cancel, .free = gate_free};
    struct store_gate *s = xcalloc(1, sizeof *s);

    store_init(&s->store, &ops, inner->loop, inner->name, inner->inflight_max);
    s->inner = inner;
    s->hold = hold;
    s->pass = pass;
    s->reached = reached;
    return s;
}

/* What is held goes on, and nothing is held any more. On its loop. */
static inline void store_gate_open(struct store_gate *s)
{
    struct gated *g = s->held;

    s->hold = NULL;
    s->held = NULL;
    if (g)
        gate_go_on(s, g);
}

#endif
