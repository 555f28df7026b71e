/* target/chap.h - CHAP (RFC 1994 as profiled by RFC 7143 section 12.1) with MD5, SHA-1, SHA-256, SHA3-256.
 *
 * Pure but for the randomness it is given. Nothing here logs.
 */
#ifndef ISTHMUS_CHAP_H
#define ISTHMUS_CHAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHAP_CHALLENGE_BYTES = 32, CHAP_DIGEST_MAX = 32, CHAP_CHALLENGE_MAX = 1024, CHAP_SECRET_MAX = 255 };

struct chap {
    unsigned algorithm; /* 5 MD5, 6 SHA-1, 7 SHA-256, 8 SHA3-256; 0: none chosen yet */
    uint8_t id;
    uint8_t challenge[CHAP_CHALLENGE_BYTES]; /* ours: used for one answer only */
};

/* The first algorithm of the initiator's list that we have, or 0. */
unsigned chap_choose(const char *list);
/* Bytes of its digest. */
size_t chap_digest_bytes(unsigned algorithm);
/* H(id, secret, challenge); returns the length of the digest, 0 if that cannot be computed. */
size_t chap_compute(unsigned algorithm, uint8_t id, const char *secret, const uint8_t *challenge, size_t n,
                    uint8_t digest[CHAP_DIGEST_MAX]);
/* Whether name and response (as on the wire) are what user with secret answers. Constant time in both. */
bool chap_verify(const struct chap *, const char *user, const char *secret, const char *name,
                 const char *response);
/* Reads "0x..." or "0b..." (base64); returns the length, or -1 if it is neither or longer than max. */
int chap_decode(const char *s, uint8_t *out, size_t max);
/* "0x" and hex digits; out must hold 2 * n + 3. */
void chap_encode(const uint8_t *bytes, size_t n, char *out);

#endif
