/* common/keyring.h - the keys of what is at rest: one generation for each start of the process.
 *
 * A generation is a number and a random salt, from which its key is derived out of the master key. The
 * sealer counts nonces from zero under the newest generation; openers read what any generation sealed.
 * docs/journal.md says how sealed values look.
 */
#ifndef ISTHMUS_KEYRING_H
#define ISTHMUS_KEYRING_H

#include "aead.h"

#include <stddef.h>
#include <stdint.h>

enum {
    SEAL_OVERHEAD = 4 + 8 + AEAD_TAG_BYTES,                     /* generation, nonce; tag */
    KEYRING_ENTRY_BYTES = AEAD_SALT_BYTES + AEAD_TAG_BYTES + 16 /* salt, sealed check value */
};

struct keyring;
/* label: at most 15 characters; separates the uses of one master key. */
struct keyring *keyring_new(const struct aead_key *master, const char *label);
void keyring_free(struct keyring **);

/* At start-up only. A generation as stored: 0, -EBADMSG if the master key does not open its check value or
 * numbers do not rise. */
int keyring_add(struct keyring *, uint32_t generation, const void *entry, size_t n);
/* A new newest generation with this salt; entry gets what is to be stored before its first use. */
uint32_t keyring_grow(struct keyring *, const uint8_t salt[AEAD_SALT_BYTES],
                      uint8_t entry[KEYRING_ENTRY_BYTES]);

/* Seals under the newest generation. One thread at a time. out gets n + SEAL_OVERHEAD bytes. */
void keyring_seal(struct keyring *, const void *key, size_t key_len, const void *in, size_t n, void *out);

/* Opens sealed values; one thread at a time has it. take/give from any thread. */
struct opener {
    struct opener *next; /* private */
    struct {
        uint32_t generation; /* 0: none */
        struct aead *aead;
    } slot[16];
    uint8_t scratch[65536];
};
struct opener *keyring_take(struct keyring *);
void keyring_give(struct keyring *, struct opener *);
/* out has room for `room` bytes. Returns the length, or -EBADMSG. */
int keyring_open(struct keyring *, struct opener *, const void *key, size_t key_len, const void *sealed,
                 size_t n, void *out, size_t room);

#endif
