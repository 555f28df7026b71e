/* journal/store/azure_auth_parse.c - see azure_auth.h: tokens as Azure's metadata service and people write
 * them. Input of others: refused in a sentence that shows none of a secret. Any thread.
 */
#include "azure_auth.h"
#include "mem.h"
#include "store_web.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

enum { TOKEN_MAX = 16 * 1024 };

/* What goes into a header: printable, no blanks. */
static bool plain(const char *s)
{
    size_t n = 0;

    for (; s[n]; n++)
        if (s[n] <= ' ' || s[n] >= 0x7f)
            return false;
    return n > 0 && n < TOKEN_MAX;
}

/* Azure writes numbers as strings. */
static int64_t number(json_t *v)
{
    const char *text = json_string_value(v);

    return text ? strtoll(text, NULL, 10) : json_integer_value(v);
}

int azure_auth_parse_token(const char *json, size_t n, char **token, int64_t *left_s, struct why *why)
{
    json_t *root = json_loadb(json, n, 0, NULL);
    const char *text = json_string_value(json_object_get(root, "access_token"));
    const char *error = json_string_value(json_object_get(root, "error_description"));
    int64_t expires_in = number(json_object_get(root, "expires_in"));
    char shown[200];
    int rc = 0;

    store_web_plain(error ? error : "", shown, sizeof(shown));
    if (!text || !plain(text))
        rc = why_set(why, -EACCES, "%s", shown[0] ? shown : "there is no token in it");
    else if (expires_in <= 0)
        rc = why_set(why, -EACCES, "the token has expired already");
    if (rc == 0) {
        *token = xstrdup(text);
        *left_s = expires_in < INT32_MAX ? expires_in : INT32_MAX;
    }
    json_decref(root);
    return rc;
}

/* The value of a parameter; NULL if it is not there. Up to '&' or the end. */
static const char *parameter(const char *sas, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = sas; p; p = strchr(p, '&')) {
        p += *p == '&';
        if (strncmp(p, name, n) == 0 && p[n] == '=')
            return p + n + 1;
    }
    return NULL;
}

/* "2026-11-23T20:14:00Z" with ':' as "%3A" or not, also without seconds or time. */
static bool expiry(const char *value, char text[32], int64_t *unix_s)
{
    struct tm tm = {0};
    size_t n = 0;

    for (; *value && *value != '&' && n + 1 < 32; value++) {
        if (strncasecmp(value, "%3a", 3) == 0) {
            text[n++] = ':';
            value += 2;
        } else {
            text[n++] = *value;
        }
    }
    text[n] = '\0';
    if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) && !strptime(text, "%Y-%m-%dT%H:%M", &tm) &&
        !strptime(text, "%Y-%m-%d", &tm))
        return false;
    *unix_s = timegm(&tm);
    return true;
}

const char *azure_auth_parse_sas(const char *text, int64_t now_s, int64_t *left_s, struct why *why)
{
    const char *sas = text + (text[0] == '?'), *until;
    int64_t expires_s = 0;
    char shown[32];

    if (!plain(sas) || strpbrk(sas, "?#\"<>\\") || !parameter(sas, "sig") || !parameter(sas, "sv")) {
        why_set(why, 0, "this is no SAS token: one has sv=... and sig=... joined by '&'");
        return NULL;
    }
    *left_s = STORE_GRANT_FOREVER;
    until = parameter(sas, "se");
    if (!until)
        return sas; /* a stored policy may say it */
    if (!expiry(until, shown, &expires_s)) {
        why_set(why, 0, "the SAS token's expiry (se) cannot be read");
        return NULL;
    }
    *left_s = expires_s - now_s;
    if (*left_s > 0)
        return sas;
    why_set(why, 0, "the SAS token has expired at %s", shown);
    return NULL;
}
