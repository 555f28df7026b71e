/* initiator/datastore.h - where a source disk lives: an iSCSI LUN, an NBD export, a file. One contract.
 *
 * Everything on the loop given at open. A datastore that cannot be reached is tried again for ever, with
 * bounded jittered back-off; I/O waits meanwhile. An I/O ends with an error only when the datastore itself
 * gave a final answer about it (medium error, out of range): -EIO with a sentence naming the LUN, the sense
 * and what to do.
 */
#ifndef ISTHMUS_DATASTORE_H
#define ISTHMUS_DATASTORE_H

#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <stdint.h>

struct datastore;

struct datastore_info {
    uint64_t bytes;
    uint32_t block_bytes;
    bool read_only;
    char identity[128];
};

struct datastore_io {
    uint64_t offset; /* bytes, a multiple of block_bytes; as is len */
    uint32_t len;
    uint8_t *data;   /* read into; borrowed until done() */
    void (*done)(struct datastore_io *);
    int status;
    struct why why;
    void *private_;  /* for the datastore */
};

struct datastore_events {
    /* Answered once, when it first is known: ready (status 0), or a final refusal (bad URL, no such LUN, access
     * denied) that keeps being retried slowly. */
    void (*opened)(void *arg, int status, const struct why *);
    void (*resized)(void *arg, const struct datastore_info *);
    void *arg;
};

struct datastore_ops {
    const char *scheme; /* "iscsi", "nbd", "nbd+unix", "file" */
    /* Parses and starts. -EINVAL with why for a URL that cannot be meant. */
    int (*open)(struct datastore **, struct loop *, const char *url, const struct datastore_events *,
                struct why *);
    void (*read)(struct datastore *, struct datastore_io *);
    const struct datastore_info *(*info)(struct datastore *); /* NULL until opened */
    void (*close)(struct datastore *); /* pending I/O ends with -ECANCELED first */
};

struct datastore {
    const struct datastore_ops *ops;
};

/* Chooses by scheme. url may hold a secret: never logged whole. */
int datastore_open(struct datastore **, struct loop *, const char *url, const struct datastore_events *,
                   struct why *);

/* The url with any secret replaced by ***, for people; the caller frees it. */
char *datastore_url_redact(const char *url);

extern const struct datastore_ops datastore_iscsi, datastore_nbd, datastore_file;

#endif
