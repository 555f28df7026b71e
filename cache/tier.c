/* cache/tier.c - what is done to a whole stack of tiers. */
#include "tier.h"

#include <stddef.h>

void tier_stack_quiesce(struct tier *top)
{
    for (struct tier *t = top; t; t = t->next)
        if (t->ops->quiesce)
            t->ops->quiesce(t);
}

void tier_stack_free(struct tier **top)
{
    struct tier *t = *top;

    *top = NULL;
    while (t) {
        struct tier *next = t->next;

        t->ops->free(t);
        t = next;
    }
}
