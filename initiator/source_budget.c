/* initiator/source_budget.c - the bytes that all disks together may have in flight; who has to wait for some
 * is served in turn.
 */
#include "check.h"
#include "source_impl.h"

bool source_budget_take(struct source *s, uint64_t bytes)
{
    struct source_budget *b = s->budget;

    if (b->used == 0 || b->used + bytes <= b->max) {
        b->used += bytes;
        return true;
    }
    if (!s->wants_budget) {
        s->wants_budget = true;
        TAILQ_INSERT_TAIL(&b->waiting, s, budget_entry);
    }
    return false;
}

void source_budget_leave(struct source *s)
{
    if (s->wants_budget)
        TAILQ_REMOVE(&s->budget->waiting, s, budget_entry);
    s->wants_budget = false;
}

void source_budget_give(struct source_budget *b, uint64_t bytes)
{
    struct source *s;

    CHECK(b->used >= bytes);
    b->used -= bytes;
    while ((s = TAILQ_FIRST(&b->waiting)) && b->used + FETCH_MAX <= b->max) {
        source_budget_leave(s);
        source_pump(s);
    }
}

void source_budget_init(struct source_budget *b, uint64_t max_bytes)
{
    b->max = max_bytes < FETCH_MAX ? FETCH_MAX : max_bytes;
    b->used = 0;
    TAILQ_INIT(&b->waiting);
}
