/* target/chap.c - challenge handshake: digests by libcrypto, encodings, a comparison in constant time.
 * Any thread; no state of its own. Whether a challenge comes back to us (reflection) is the login's check. */
#include "chap.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    unsigned algorithm;
    const EVP_MD *(*md)(void);
    size_t bytes;
} algorithms[] = {
    {5, EVP_md5, 16},
    {6, EVP_sha1, 20},
    {7, EVP_sha256, 32},
    {8, EVP_sha3_256, 32},
};
enum { ALGORITHMS = sizeof algorithms / sizeof algorithms[0] };

unsigned chap_choose(const char *list)
{
    const char *p = list;

    while (*p) {
        char *end;
        unsigned long n = strtoul(p, &end, 10);

        if (end == p)
            return 0;
        for (unsigned i = 0; i < ALGORITHMS; i++)
            if (algorithms[i].algorithm == n && (*end == ',' || !*end))
                return algorithms[i].algorithm;
        p = end + strcspn(end, ",");
        p += *p == ',';
    }
    return 0;
}

size_t chap_digest_bytes(unsigned algorithm)
{
    for (unsigned i = 0; i < ALGORITHMS; i++)
        if (algorithms[i].algorithm == algorithm)
            return algorithms[i].bytes;
    return 0;
}

size_t chap_compute(unsigned algorithm, uint8_t id, const char *secret, const uint8_t *challenge, size_t n,
                    uint8_t digest[CHAP_DIGEST_MAX])
{
    uint8_t in[1 + CHAP_SECRET_MAX + CHAP_CHALLENGE_MAX];
    size_t len = strlen(secret);
    unsigned out = 0;
    int ok = 0;

    if (len > CHAP_SECRET_MAX || n > CHAP_CHALLENGE_MAX)
        return 0;
    in[0] = id;
    memcpy(in + 1, secret, len);
    memcpy(in + 1 + len, challenge, n);
    for (unsigned i = 0; i < ALGORITHMS; i++)
        if (algorithms[i].algorithm == algorithm)
            ok = EVP_Digest(in, 1 + len + n, digest, &out, algorithms[i].md(), NULL);
    OPENSSL_cleanse(in, sizeof in);
    return ok == 1 ? out : 0;
}

bool chap_verify(const struct chap *c, const char *user, const char *secret, const char *name,
                 const char *response)
{
    uint8_t want[CHAP_DIGEST_MAX] = {0}, got[CHAP_DIGEST_MAX] = {0};
    size_t n = chap_compute(c->algorithm, c->id, secret, c->challenge, sizeof c->challenge, want);
    int m = chap_decode(response, got, sizeof got);
    size_t len = strlen(user);
    bool same_digest = CRYPTO_memcmp(want, got, sizeof want) == 0;
    bool same_name = strlen(name) == len && CRYPTO_memcmp(user, name, len) == 0;

    OPENSSL_cleanse(want, sizeof want);
    return n > 0 && m > 0 && (size_t)m == n && same_digest && same_name;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode_hex(const char *s, uint8_t *out, size_t max)
{
    size_t digits = strlen(s), n = (digits + 1) / 2;

    if (!digits || n > max)
        return -1;
    memset(out, 0, n);
    for (size_t i = 0; i < digits; i++) {
        size_t nibble = i + (digits & 1); /* an odd number of digits: the first stands alone */
        int v = hex_digit(s[i]);

        if (v < 0)
            return -1;
        out[nibble / 2] = (uint8_t)(out[nibble / 2] | (nibble & 1 ? v : v << 4));
    }
    return (int)n;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c ? strchr(digits, c) : NULL;

    return p ? (int)(p - digits) : -1;
}

static int decode_base64(const char *s, uint8_t *out, size_t max)
{
    size_t chars = strlen(s), pad = 0, n = 0;
    uint32_t bits = 0;
    unsigned have = 0;

    if (!chars || chars % 4)
        return -1;
    while (pad < 2 && s[chars - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < chars - pad; i++) {
        int v = base64_digit(s[i]);

        if (v < 0)
            return -1;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            if (n == max)
                return -1;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    return (int)n;
}

int chap_decode(const char *s, uint8_t *out, size_t max)
{
    if (s[0] != '0')
        return -1;
    if (s[1] == 'x' || s[1] == 'X')
        return decode_hex(s + 2, out, max);
    if (s[1] == 'b' || s[1] == 'B')
        return decode_base64(s + 2, out, max);
    return -1;
}

void chap_encode(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    *out++ = '0';
    *out++ = 'x';
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = 0;
}
