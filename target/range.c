/* target/range.c - ranges of blocks that commands hold. A list in order of arrival: who waits looks at all
 * that came before. Reads and writes look at nobody while nothing atomic is there. On the VM's loop.
 */
#include "range.h"

#include "check.h"
#include "session.h"

static struct range_table *table(const struct command *cmd)
{
    return &cmd->conn->session->device->ranges;
}

static struct command *owner(struct range_hold *r)
{
    return container_of(r, struct command, range);
}

void range_init(struct range_table *t)
{
    TAILQ_INIT(&t->all);
}

/* Whether the later one has to wait. */
static bool conflict(enum range_kind later, enum range_kind earlier)
{
    if (later == RANGE_READ || earlier == RANGE_READ)
        return earlier == RANGE_ATOMIC;
    return later == RANGE_ALONE || earlier == RANGE_ALONE;
}

static bool overlap(struct range_hold *a, struct range_hold *b)
{
    return owner(a)->io_lun == owner(b)->io_lun && a->first < b->end && b->first < a->end;
}

/* Whether one that came before it is in its way. */
static bool blocked(struct range_table *t, struct range_hold *r)
{
    for (struct range_hold *o = TAILQ_FIRST(&t->all); o != r; o = TAILQ_NEXT(o, entry))
        if (conflict(r->kind, o->kind) && overlap(r, o))
            return true;
    return false;
}

static void hold(struct range_table *t, struct command *cmd, enum range_kind kind)
{
    struct range_hold *r = &cmd->range;

    *r = (struct range_hold){
        .first = cmd->io.lba, .end = cmd->io.lba + cmd->io.nsectors, .held = true, .kind = kind};
    TAILQ_INSERT_TAIL(&t->all, r, entry);
    t->n[kind]++;
}

/* Reads that are under way, or will be, where an atomic write is. */
static void tear(struct range_table *t, struct range_hold *r)
{
    for (struct range_hold *o = TAILQ_FIRST(&t->all); o != r; o = TAILQ_NEXT(o, entry))
        if (o->kind == RANGE_READ && overlap(r, o))
            o->torn = true;
}

bool range_enter(struct command *cmd, enum range_kind kind)
{
    struct range_table *t = table(cmd);
    struct range_hold *r = &cmd->range;

    if (r->held) /* the second I/O of one that holds them alone */
        return true;
    if (kind == RANGE_READ && !t->n[RANGE_ATOMIC])
        return true;
    hold(t, cmd, kind);
    if (kind == RANGE_ATOMIC && t->n[RANGE_READ])
        tear(t, r);
    if (t->n[RANGE_ATOMIC] || t->n[RANGE_ALONE])
        r->waits = blocked(t, r);
    t->nwaiting += r->waits;
    return !r->waits;
}

bool range_is_atomic(struct command *cmd)
{
    struct range_table *t = table(cmd);
    struct range_hold *o;

    if (t->n[RANGE_ATOMIC])
        TAILQ_FOREACH (o, &t->all, entry)
            if (o->kind == RANGE_ATOMIC && overlap(&cmd->range, o))
                return true;
    return false;
}

void range_linger(struct command *cmd)
{
    if (!cmd->range.held)
        hold(table(cmd), cmd, RANGE_READ);
}

void range_leave(struct command *cmd)
{
    struct range_hold *r = &cmd->range;
    struct range_table *t;

    if (!r->held)
        return;
    t = table(cmd);
    TAILQ_REMOVE(&t->all, r, entry);
    t->n[r->kind]--;
    t->nwaiting -= r->waits;
    r->held = r->waits = r->torn = false;
    if (!t->nwaiting)
        return;
    TAILQ_FOREACH (r, &t->all, entry)
        if (r->waits)
            conn_post_turn(owner(r)->conn);
}

void range_feed(struct conn *c)
{
    struct range_table *t = c->session && c->session->device ? &c->session->device->ranges : NULL;
    struct range_hold *r;

    if (!t)
        return;
    r = t->nwaiting ? TAILQ_FIRST(&t->all) : NULL;
    while (r) {
        if (!r->waits || owner(r)->conn != c || blocked(t, r)) {
            r = TAILQ_NEXT(r, entry);
            continue;
        }
        r->waits = false;
        t->nwaiting--;
        command_go_on(owner(r)); /* the list may be another one now */
        r = t->nwaiting ? TAILQ_FIRST(&t->all) : NULL;
    }
}
