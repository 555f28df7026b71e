/* initiator/source_impl.h - shared by source.c and source_budget.c only.
 */
#ifndef ISTHMUS_SOURCE_IMPL_H
#define ISTHMUS_SOURCE_IMPL_H

#include "metric.h"
#include "source.h"

enum { FETCH_MAX = 1 << 20 }; /* bytes of one fetch */

enum line { DEMAND, BACKGROUND, LINES };

TAILQ_HEAD(reads, source_read);
RB_HEAD(read_tree, source_read);

struct source {
    struct loop *loop;
    char *name;
    struct datastore *ds;
    struct source_budget *budget;
    bool wants_budget;
    TAILQ_ENTRY(source) budget_entry;
    struct source_events events;
    struct reads lines[LINES];
    struct read_tree tree;
    unsigned nwaiting;
    uint64_t numbers;
    TAILQ_HEAD(, fetch) fetches;
    unsigned nfetches[LINES];
    struct reads refused; /* answered without a fetch, from the task, with in.number for -status */
    struct task task;
    bool posted, closing;
    struct metric *requests[LINES], *reply_bytes, *raw_bytes;
};

/* Starts what may be started. */
void source_pump(struct source *);

/* false: it is called when there is room (source_pump). */
bool source_budget_take(struct source *, uint64_t bytes);
void source_budget_leave(struct source *);
void source_budget_give(struct source_budget *, uint64_t bytes);

#endif
