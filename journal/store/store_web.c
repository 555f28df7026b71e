/* journal/store/store_web.c - see store_web.h.
 */
#include "store_web.h"

#include "check.h"
#include "mem.h"
#include "store.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_MAX = 200 };

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

char *store_web_encode(const char *text, bool path)
{
    char *encoded = xmalloc(3 * strlen(text) + 1), *to = encoded;

    for (; *text; text++) {
        if (unreserved(*text) || (path && *text == '/'))
            *to++ = *text;
        else
            to += sprintf(to, "%%%02X", (uint8_t)*text);
    }
    *to = '\0';
    return encoded;
}

bool store_web_etag(const char *text, char etag[STORE_ETAG_MAX + 1])
{
    size_t n = text ? strlen(text) : 0;

    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
        text++;
        n -= 2;
    }
    etag[0] = '\0';
    if (n == 0 || n > STORE_ETAG_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] >= 0x7f || text[i] == '"')
            return false;
    memcpy(etag, text, n);
    etag[n] = '\0';
    return true;
}

bool store_web_size(const struct store_http_call *h, uint64_t *bytes)
{
    bool part = h->code == 206 || h->code == 416;
    const char *text = store_http_answer(h, part ? "Content-Range" : "Content-Length");
    char *rest;

    if (part && text)
        text = strchr(text, '/');
    if (part && text)
        text++;
    if (!text || text[0] < '0' || text[0] > '9')
        return false;
    *bytes = strtoull(text, &rest, 10);
    return *rest == '\0';
}

void store_web_digest(const EVP_MD *md, const struct iovec *iov, size_t niov, uint64_t offset, uint64_t bytes,
                      uint8_t *sum)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    CHECK(ctx && EVP_DigestInit_ex(ctx, md, NULL) == 1);
    for (size_t i = 0; i < niov && bytes > 0; i++) {
        size_t n;

        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        n = iov[i].iov_len - (size_t)offset;
        if (n > bytes)
            n = (size_t)bytes;
        CHECK(EVP_DigestUpdate(ctx, (const uint8_t *)iov[i].iov_base + offset, n) == 1);
        bytes -= n;
        offset = 0;
    }
    CHECK(EVP_DigestFinal_ex(ctx, sum, NULL) == 1);
    EVP_MD_CTX_free(ctx);
}

/* --- errors --- */

void store_web_plain(const char *from, char *to, size_t max)
{
    size_t n = 0;

    for (; *from && *from != '\n' && n + 1 < max; from++)
        to[n++] = *from >= ' ' && *from < 0x7f ? *from : ' ';
    while (n > 0 && (to[n - 1] == '.' || to[n - 1] == ' '))
        n--;
    to[n] = '\0';
}

struct parse {
    struct store_web_error *error;
    const char *detail;
};

static void on_element(void *arg, const char *path, const char *value)
{
    static const char root[] = "Error/";
    struct parse *p = arg;
    struct store_web_error *e = p->error;

    if (strncmp(path, root, sizeof(root) - 1) != 0)
        return;
    path += sizeof(root) - 1;
    if (strcmp(path, "Code") == 0)
        store_web_plain(value, e->code, sizeof(e->code));
    else if (strcmp(path, "Message") == 0)
        store_web_plain(value, e->message, sizeof(e->message));
    else if (strcmp(path, p->detail) == 0)
        store_web_plain(value, e->detail, sizeof(e->detail));
}

void store_web_error(const struct store_http_call *h, const char *detail, struct store_web_error *e)
{
    struct parse p = {.error = e, .detail = detail};

    memset(e, 0, sizeof(*e));
    store_xml_each(h->text, h->text_len, on_element, &p);
}

/* --- URLs --- */

int store_web_endpoint(const char *endpoint, const char **host, size_t *n, struct why *why)
{
    bool http = strncmp(endpoint, "http://", 7) == 0;

    if (!http && strncmp(endpoint, "https://", 8) != 0)
        return why_set(why, -EINVAL,
                       "the store's endpoint '%s' must be http://HOST or https://HOST, with :PORT if needed",
                       endpoint);
    *host = endpoint + (http ? 7 : 8);
    *n = strcspn(*host, "/?#");
    if (*n > 0 && !memchr(*host, '@', *n) && strspn(*host + *n, "/") == strlen(*host + *n))
        return 0;
    return why_set(why, -EINVAL, "the store's endpoint '%s' must be no more than a host and a port",
                   endpoint);
}

int store_web_prefix(const char *url, const char *in_url, char **prefix, struct why *why)
{
    size_t n = strlen(in_url);

    while (n > 0 && in_url[n - 1] == '/')
        n--;
    *prefix = xasprintf("%.*s%s", (int)n, in_url, n > 0 ? "/" : "");
    if (n == 0)
        return 0;
    (*prefix)[n] = '\0';
    if (n > PREFIX_MAX || !store_key_ok(*prefix))
        return why_set(
            why, -EINVAL,
            "the prefix in '%s' must be names joined by '/', of letters, digits and signs, at most %d long",
            url, PREFIX_MAX);
    (*prefix)[n] = '/';
    return 0;
}
