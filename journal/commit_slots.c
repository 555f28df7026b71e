/* journal/commit_slots.c - how many objects all VMs of a loop may have on their way at once: who finds none
 * free is called when one is.
 */
#include "commit_impl.h"

bool commit_slot_take(struct commit *c)
{
    struct commit_slots *s = c->conf.slots;

    if (s->free) {
        s->free--;
        return true;
    }
    if (!c->waiting_for_slot)
        TAILQ_INSERT_TAIL(&s->waiting, c, slot_entry);
    c->waiting_for_slot = true;
    return false;
}

void commit_slot_leave(struct commit *c)
{
    if (c->waiting_for_slot)
        TAILQ_REMOVE(&c->conf.slots->waiting, c, slot_entry);
    c->waiting_for_slot = false;
}

void commit_slot_give(struct commit *c)
{
    struct commit_slots *s = c->conf.slots;
    struct commit *next = TAILQ_FIRST(&s->waiting);

    s->free++;
    if (next && next != c) {
        commit_slot_leave(next);
        commit_moved(next);
    }
}
