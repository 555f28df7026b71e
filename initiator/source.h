/* initiator/source.h - one configured disk: its datastore, and the reads that the edges want of it.
 *
 * Waiting reads that touch or overlap become one large read of the datastore (up to 1 MiB); demand goes
 * first, and background never takes the last places. What is in memory is bounded per disk and, by the
 * budget, for all disks together. Loop thread.
 */
#ifndef ISTHMUS_SOURCE_H
#define ISTHMUS_SOURCE_H

#include "datastore.h"
#include "link.h"

#include <bsd/sys/tree.h>

struct source;

/* Bytes that all disks together may have in flight. Embedded in its owner; outlives the sources. */
TAILQ_HEAD(sources, source);
struct source_budget {
    uint64_t max, used;
    struct sources waiting;
};
void source_budget_init(struct source_budget *, uint64_t max_bytes);

struct source_events {
    void (*opened)(void *arg, struct source *, int status, const struct why *); /* as in datastore.h */
    void (*resized)(void *arg, struct source *);
    void (*taken)(void *arg, struct source *, const struct why *); /* as in datastore.h; may be NULL */
    void (*gone)(void *arg, struct source *); /* the last word after source_close; it is freed now */
    void *arg;
};

/* Embedded in its owner, who fills the first part and must not touch it until done(). */
struct source_read {
    uint64_t offset; /* multiple of 4096, as is bytes; the last block of the disk is padded with zeros */
    uint32_t bytes;  /* at most 1 MiB */
    enum link_class class;
    /* Once, from the loop. status 0: data (borrowed for the call). Else -errno and why. */
    void (*done)(struct source_read *, int status, const struct why *why, const uint8_t *data);

    struct { /* private */
        TAILQ_ENTRY(source_read) entry;
        RB_ENTRY(source_read) node;
        uint64_t number;
        bool alone; /* was part of a fetch that failed: now by itself, to see whether it is the cause */
    } in;
};

/* -EINVAL with why for a URL that cannot be meant. conf is copied. */
int source_open(struct source **, struct loop *, struct source_budget *, const struct datastore_conf *,
                const struct source_events *, struct why *);
/* Takes *s. Reads end with -ECANCELED or what they were about to end with; then gone(). */
void source_close(struct source **s);

void source_read(struct source *, struct source_read *);

/* For who writes to it, past the reads; NULL once it is closed. */
struct datastore *source_datastore(const struct source *);
const char *source_name(const struct source *);
const struct datastore_info *source_info(const struct source *); /* NULL until opened */
const struct why *source_trouble(const struct source *);         /* NULL while it works */

#endif
