/* journal/store/azure_sign.h - Azure Storage's Shared Key: what is signed, and the signature.
 *
 * Pure functions, any thread. The version of the string to sign is that of 2015-02-21 and later (an empty
 * body's Content-Length is empty).
 */
#ifndef ISTHMUS_AZURE_SIGN_H
#define ISTHMUS_AZURE_SIGN_H

#include <stddef.h>
#include <stdint.h>

enum { AZURE_KEY_MAX = 128, AZURE_SIGNATURE = 45, AZURE_DATE = 30, AZURE_SIGNED_MAX = 16 };

struct azure_pair {
    const char *name; /* in lower case */
    const char *value;
};

struct azure_to_sign {
    const char *method;
    const char *account;
    const char *path;                            /* encoded, as it is sent, from '/' on */
    struct azure_pair query[AZURE_SIGNED_MAX];   /* not encoded */
    struct azure_pair headers[AZURE_SIGNED_MAX]; /* those that matter are picked */
    size_t nquery, nheaders;
    uint64_t body_bytes;
};

/* "Mon, 23 Nov 2026 15:20:31 GMT" */
void azure_date(int64_t unix_s, char date[AZURE_DATE]);
/* Base64 of an account's key into bytes; their number, 0 if it is none. */
size_t azure_key_decode(const char *base64, uint8_t key[AZURE_KEY_MAX]);
/* The string to sign. Sorts queries and headers. The caller frees it. */
char *azure_string_to_sign(struct azure_to_sign *);
void azure_sign(const uint8_t *key, size_t key_bytes, const char *text, char signature[AZURE_SIGNATURE]);

#endif
