/* target/groups.c - which portal groups there are. */
#include "groups.h"

#include "check.h"

#include <string.h>

static unsigned place(const struct groups *g, uint16_t tag)
{
    unsigned at = 0;

    while (at < g->n && g->tags[at] < tag)
        at++;
    return at;
}

bool groups_have(const struct groups *g, uint16_t tag)
{
    unsigned at = place(g, tag);

    return at < g->n && g->tags[at] == tag;
}

void groups_add(struct groups *g, uint16_t tag)
{
    unsigned at = place(g, tag);

    if (groups_have(g, tag))
        return;
    CHECK(g->n < GROUPS_MAX);
    memmove(&g->tags[at + 1], &g->tags[at], (g->n - at) * sizeof *g->tags);
    g->tags[at] = tag;
    g->n++;
}
