/* common/aead.h - AES-128-GCM for what is at rest, and the keys for it.
 *
 * NIST SP 800-38D: a nonce must never repeat under one key. Callers derive a fresh key for every run of the
 * process (aead_derive with a random salt that is stored with the data) and count nonces from zero.
 */
#ifndef ISTHMUS_AEAD_H
#define ISTHMUS_AEAD_H

#include "why.h"

#include <stddef.h>
#include <stdint.h>

enum { AEAD_KEY_BYTES = 16, AEAD_TAG_BYTES = 16, AEAD_NONCE_BYTES = 12, AEAD_SALT_BYTES = 16 };

struct aead_key {
    uint8_t bytes[AEAD_KEY_BYTES];
};

/* A key ready for use. Not thread safe: one per thread. */
struct aead;
struct aead *aead_new(const struct aead_key *);
void aead_free(struct aead **);

/* out gets n bytes of ciphertext and then the tag (n + AEAD_TAG_BYTES); in and out may be the same. */
void aead_seal(struct aead *, uint64_t nonce, const void *aad, size_t aad_len, const void *in, size_t n,
               void *out);
/* in holds n bytes of ciphertext and the tag; out gets n bytes. 0, or -EBADMSG if anything was altered (out
 * is then zeroed). */
int aead_open(struct aead *, uint64_t nonce, const void *aad, size_t aad_len, const void *in, size_t n,
              void *out);

/* HKDF-SHA256 (RFC 5869) of a master key. label separates uses. */
void aead_derive(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES], const char *label,
                 struct aead_key *out);
/* A key derived like that, ready for use. */
struct aead *aead_new_derived(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES],
                              const char *label);

/* Reads a master key: "/path" to a file of mode 0600 or less that holds 32 hex digits, or "command:PROGRAM
 * ARGS" whose standard output is that (a KMS). Blocking: at start-up only. 0 or -errno with why. */
int aead_key_load(const char *source, struct aead_key *out, struct why *why);

#endif
