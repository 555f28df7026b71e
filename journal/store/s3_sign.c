/* journal/store/s3_sign.c - see s3_sign.h. Pure functions.
 */
#include "s3_sign.h"

#include "check.h"
#include "mem.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUM = 32 };

void s3_date(int64_t unix_s, char date[S3_DATE])
{
    time_t t = unix_s;
    struct tm tm;

    gmtime_r(&t, &tm);
    CHECK(strftime(date, S3_DATE, "%Y%m%dT%H%M%SZ", &tm) == S3_DATE - 1);
}

void s3_hex(const uint8_t *bytes, size_t n, char *hex)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * n] = '\0';
}

void s3_sum(const void *bytes, size_t n, char hex[S3_SUM_HEX])
{
    uint8_t sum[SUM];

    CHECK(EVP_Digest(bytes, n, sum, NULL, EVP_sha256(), NULL) == 1);
    s3_hex(sum, SUM, hex);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct s3_header *)a)->name, ((const struct s3_header *)b)->name);
}

static void mac(const uint8_t key[SUM], const char *text, uint8_t out[SUM])
{
    CHECK(HMAC(EVP_sha256(), key, SUM, (const uint8_t *)text, strlen(text), out, NULL));
}

/* The key of this day, region and service. */
static void signing_key(const struct s3_key *key, const char *day, const char *region, uint8_t out[SUM])
{
    char *first = xasprintf("AWS4%s", key->secret);

    CHECK(HMAC(EVP_sha256(), first, (int)strlen(first), (const uint8_t *)day, strlen(day), out, NULL));
    secret_free(&first);
    mac(out, region, out);
    mac(out, "s3", out);
    mac(out, "aws4_request", out);
}

void s3_sign(struct s3_to_sign *s, const struct s3_key *key, char authorization[S3_AUTHORIZATION_MAX])
{
    char names[512] = "", day[9], sum[S3_SUM_HEX], signature[S3_SUM_HEX];
    CLEANUP_FREE char *headers = xstrdup(""), *canonical = NULL, *text = NULL;
    uint8_t daily[SUM], signed_[SUM];

    qsort(s->headers, s->nheaders, sizeof(s->headers[0]), by_name);
    for (size_t i = 0; i < s->nheaders; i++) {
        char *more = xasprintf("%s%s:%s\n", headers, s->headers[i].name, s->headers[i].value);

        free(headers);
        headers = more;
        CHECK(strlen(names) + strlen(s->headers[i].name) + 2 < sizeof(names));
        strcat(names, i > 0 ? ";" : "");
        strcat(names, s->headers[i].name);
    }
    canonical = xasprintf("%s\n%s\n%s\n%s\n%s\n%s", s->method, s->path, s->query, headers, names, s->sum);
    s3_sum(canonical, strlen(canonical), sum);
    snprintf(day, sizeof(day), "%.8s", s->date);
    text = xasprintf("AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", s->date, day, s->region, sum);
    signing_key(key, day, s->region, daily);
    mac(daily, text, signed_);
    OPENSSL_cleanse(daily, sizeof(daily));
    s3_hex(signed_, SUM, signature);
    snprintf(authorization, S3_AUTHORIZATION_MAX,
             "AWS4-HMAC-SHA256 Credential=%s/%s/%s/s3/aws4_request,SignedHeaders=%s,Signature=%s",
             key->access, day, s->region, names, signature);
}
