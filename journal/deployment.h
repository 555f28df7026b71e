/* journal/deployment.h - the object "deployment": whose the store's prefix is, and in which format all of it
 * is.
 *
 * Put once, when the first edge of a deployment starts, and never changed; docs/log.md has the bytes. Every
 * edge reads it before it touches anything: a prefix of another deployment has another key.
 */
#ifndef ISTHMUS_DEPLOYMENT_H
#define ISTHMUS_DEPLOYMENT_H

#include "aead.h"
#include "store.h"

#include <stdatomic.h>

enum {
    DEPLOYMENT_FORMAT = 1,
    DEPLOYMENT_ID_BYTES = 16,
    DEPLOYMENT_HEAD_BYTES = 48,
    DEPLOYMENT_CHECK_BYTES = 16,
    DEPLOYMENT_BYTES = DEPLOYMENT_HEAD_BYTES + DEPLOYMENT_CHECK_BYTES + AEAD_TAG_BYTES
};

struct deployment {
    uint8_t id[DEPLOYMENT_ID_BYTES];
};

/* Pure. salt is random and never used before. */
void deployment_seal(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES],
                     const struct deployment *, uint8_t out[DEPLOYMENT_BYTES]);
/* -EBADMSG: altered, or of another key; -ENOTSUP: a newer format. */
int deployment_open(const struct aead_key *master, const uint8_t *bytes, size_t n, struct deployment *,
                    struct why *);

/* Blocking, on a thread that may wait (store_wait.h); one try, of some seconds. -ENOENT: there is none yet.
 */
int deployment_read(struct store *, const struct aead_key *master, const atomic_bool *stop,
                    struct deployment *, struct why *);
/* The same, and what the first edge does: looks whether the store can do what is needed (store_probe.h), then
 * puts the object. 0, or what the store said; what waiting cannot mend: deployment_is_final(). *ours, set
 * also when it fails: the object is there and of this key, so what is in the store may be believed. */
int deployment_enter(struct store *, const struct aead_key *master, const atomic_bool *stop,
                     struct deployment *, bool *ours, struct why *);
bool deployment_is_final(int err);

#endif
