/* journal/store/azure_sign.c - see azure_sign.h.
 */
#include "azure_sign.h"

#include "check.h"
#include "mem.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* By hand: strftime would write the names in the locale's language. */
void azure_date(int64_t unix_s, char date[AZURE_DATE])
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = unix_s;
    struct tm tm;

    gmtime_r(&t, &tm);
    snprintf(date, AZURE_DATE, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", days + (size_t)tm.tm_wday * 3,
             (unsigned)tm.tm_mday % 100, months + (size_t)tm.tm_mon * 3,
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
             (unsigned)tm.tm_sec % 100);
}

size_t azure_key_decode(const char *base64, uint8_t key[AZURE_KEY_MAX])
{
    size_t len = strlen(base64), padding = 0;
    int n;

    while (padding < 2 && padding < len && base64[len - 1 - padding] == '=')
        padding++;
    if (len == 0 || len % 4 != 0 || len / 4 * 3 > AZURE_KEY_MAX ||
        strspn(base64, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") != len - padding)
        return 0;
    n = EVP_DecodeBlock(key, (const uint8_t *)base64, (int)len);
    return n < 0 ? 0 : (size_t)n - padding;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct azure_pair *)a)->name, ((const struct azure_pair *)b)->name);
}

static const char *header(const struct azure_to_sign *s, const char *name)
{
    for (size_t i = 0; i < s->nheaders; i++)
        if (strcmp(s->headers[i].name, name) == 0)
            return s->headers[i].value;
    return "";
}

char *azure_string_to_sign(struct azure_to_sign *s)
{
    /* Date stays empty: x-ms-date is there instead. */
    static const char *const standard[] = {"content-encoding",
                                           "content-language",
                                           "",
                                           "content-md5",
                                           "content-type",
                                           "date",
                                           "if-modified-since",
                                           "if-match",
                                           "if-none-match",
                                           "if-unmodified-since",
                                           "range"};
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    CHECK(f);
    qsort(s->headers, s->nheaders, sizeof(s->headers[0]), by_name);
    qsort(s->query, s->nquery, sizeof(s->query[0]), by_name);
    fprintf(f, "%s\n", s->method);
    for (size_t i = 0; i < sizeof(standard) / sizeof(standard[0]); i++) {
        if (standard[i][0])
            fputs(header(s, standard[i]), f);
        else if (s->body_bytes > 0)
            fprintf(f, "%llu", (unsigned long long)s->body_bytes);
        fputc('\n', f);
    }
    for (size_t i = 0; i < s->nheaders; i++)
        if (strncmp(s->headers[i].name, "x-ms-", 5) == 0)
            fprintf(f, "%s:%s\n", s->headers[i].name, s->headers[i].value);
    fprintf(f, "/%s%s", s->account, s->path);
    for (size_t i = 0; i < s->nquery; i++)
        fprintf(f, "\n%s:%s", s->query[i].name, s->query[i].value);
    CHECK(fclose(f) == 0);
    return text;
}

void azure_sign(const uint8_t *key, size_t key_bytes, const char *text, char signature[AZURE_SIGNATURE])
{
    uint8_t mac[32];

    CHECK(HMAC(EVP_sha256(), key, (int)key_bytes, (const uint8_t *)text, strlen(text), mac, NULL));
    CHECK(EVP_EncodeBlock((uint8_t *)signature, mac, sizeof(mac)) == AZURE_SIGNATURE - 1);
}
