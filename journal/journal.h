/* journal/journal.h - the store that holds the logs of all VMs of an edge, and its group commit.
 *
 * One log in files with RocksDB as its index (kv.h), two threads of its own: the writer puts whatever all VMs
 * have queued into one batch; the syncer makes it stable when a guest asked. Values are sealed with
 * AES-128-GCM (aead.h). docs/journal.md specifies keys and values byte by byte. When the disk fails or is
 * full, nothing is acknowledged, the operator is told, and the store is opened again until it works: writes
 * wait.
 */
#ifndef ISTHMUS_JOURNAL_H
#define ISTHMUS_JOURNAL_H

#include "aead.h"
#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <stdint.h>

struct journal;

struct journal_conf {
    const char *path;    /* directory; made if missing */
    struct aead_key key; /* the master key at rest */
    uint64_t max_bytes;  /* bound on live payload plus index of all logs (at least 32 MiB); writes slow
                          * down from 3/4 on */
};

/* Blocking: at start-up. 0 or -errno with why: not ours, newer format, wrong key, locked by another, ... */
int journal_open(struct journal **, const struct journal_conf *, struct why *);
/* The same over another store (kv.h): tests, simulations. Takes it, also when it fails. conf->path is for
 * messages. */
struct kv;
int journal_open_on(struct journal **, const struct journal_conf *, struct kv *, struct why *);
/* Waits for what was queued. After every vmlog is closed. */
void journal_close(struct journal **);

uint64_t journal_bytes(const struct journal *); /* live, as counted against max_bytes; any thread */
bool journal_throttled(const struct journal *); /* any thread */
bool journal_failed(const struct journal *);    /* the disk refuses; being retried; any thread */

/* Small named values of the edge itself (the VM catalog), sealed like the rest, fsynced before returning.
 * Blocking: from start-up or loop_work. key at most 200 bytes. */
int journal_meta_put(struct journal *, const char *key, const void *value, size_t n, struct why *);
int journal_meta_delete(struct journal *, const char *key, struct why *);
/* each() for every key with that prefix, in order; non-zero from it stops and is returned. -EBADMSG: altered.
 */
int journal_meta_each(struct journal *, const char *prefix,
                      int (*each)(void *arg, const char *key, const void *value, size_t n), void *arg,
                      struct why *);

#endif
