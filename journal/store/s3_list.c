/* journal/store/s3_list.c - list, and delete many.
 *
 * Keys are asked for in URL encoding, so that no key of somebody else makes the answer unreadable. What is no
 * key of ours is passed over.
 */
#include "check.h"
#include "mem.h"
#include "s3_impl.h"
#include "store_xml.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ask {
    struct s3_op op; /* first */
    struct store_req *req;
    struct s3_call call;
    /* list */
    bool more, encoded, bad;
    char *next;
    char key[3 * STORE_KEY_MAX + 512]; /* of the entry being read */
    uint64_t size;
    /* delete */
    char *body;
    struct iovec iov;
    size_t refused;
    char refused_code[64], refused_key[STORE_KEY_MAX + 1];
};

static void cancel(struct s3_op *op)
{
    s3_call_cancel(&container_of(op, struct ask, op)->call);
}

static struct ask *ask_new(struct s3 *s, struct store_req *r)
{
    struct ask *a = xcalloc(1, sizeof(*a));

    a->op.cancel = cancel;
    a->req = r;
    a->call.s3 = s;
    a->call.http.text_max = S3_TEXT_MAX;
    r->backend = &a->op;
    return a;
}

static void end(struct ask *a, int status)
{
    struct store_req *r = a->req;

    s3_call_clear(&a->call);
    free(a->body);
    free(a->next);
    free(a);
    store_finish(r, status);
}

/* --- list --- */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void decode(char *s)
{
    char *to = s;

    for (; *s; s++) {
        int high = *s == '%' ? digit(s[1]) : -1, low = high >= 0 ? digit(s[2]) : -1;

        if (low >= 0) {
            *to++ = (char)(high << 4 | low);
            s += 2;
        } else {
            *to++ = *s == '+' ? ' ' : *s;
        }
    }
    *to = '\0';
}

/* EncodingType may come after the entries: it is looked at first. */
static void on_encoding(void *arg, const char *path, const char *value)
{
    struct ask *a = arg;

    if (strcmp(path, "ListBucketResult/EncodingType") == 0)
        a->encoded = strcmp(value, "url") == 0;
}

static void take_entry(struct ask *a)
{
    struct store_req *r = a->req;
    const char *prefix = a->call.s3->prefix, *key;
    size_t n = strlen(prefix), count = r->page->count;

    if (a->encoded)
        decode(a->key);
    key = a->key + n;
    if (strncmp(a->key, prefix, n) != 0 || strncmp(key, r->list.prefix, strlen(r->list.prefix)) != 0 ||
        count == r->list.limit || (count > 0 && strcmp(r->page->entries[count - 1].key, key) >= 0))
        a->bad = true;
    else if (store_key_ok(key))
        store_page_add(&r->page, key, a->size);
}

static void on_entry(void *arg, const char *path, const char *value)
{
    static const char root[] = "ListBucketResult/";
    struct ask *a = arg;

    if (strncmp(path, root, sizeof(root) - 1) != 0)
        return;
    path += sizeof(root) - 1;
    if (strcmp(path, "IsTruncated") == 0)
        a->more = strcmp(value, "true") == 0;
    else if (strcmp(path, "NextContinuationToken") == 0 && !a->next && strlen(value) <= STORE_TOKEN_MAX)
        a->next = xstrdup(value);
    else if (strcmp(path, "Contents/Key") == 0)
        snprintf(a->key, sizeof(a->key), "%s", value);
    else if (strcmp(path, "Contents/Size") == 0)
        a->size = strtoull(value, NULL, 10);
    else if (strcmp(path, "Contents") == 0)
        take_entry(a);
}

static int take_page(struct ask *a)
{
    const struct store_http_call *h = &a->call.http;
    struct store_req *r = a->req;

    if (h->status != 0 || h->code != 200)
        return s3_failure(r, &a->call);
    r->clock_s = store_http_date_s(h);
    r->page = store_page_new(r->list.limit);
    if (!store_xml_is(h->text, h->text_len, "ListBucketResult") ||
        store_xml_each(h->text, h->text_len, on_encoding, a) != 0 ||
        store_xml_each(h->text, h->text_len, on_entry, a) != 0 || a->bad || (a->more && !a->next))
        return why_set(&r->why, -EBADMSG, "%s lists its objects in a way that cannot be understood",
                       a->call.s3->store.name);
    if (a->more) {
        r->page->next = a->next;
        a->next = NULL;
    }
    return 0;
}

static void on_list(struct s3_call *c)
{
    struct ask *a = container_of(c, struct ask, call);

    end(a, take_page(a));
}

void s3_list_start(struct s3 *s, struct store_req *r)
{
    CLEANUP_FREE char *prefix = xasprintf("%s%s", s->prefix, r->list.prefix), *after = NULL, *from = NULL;
    CLEANUP_FREE char *coded = store_web_encode(prefix, false);
    struct ask *a = ask_new(s, r);

    if (r->list.token) {
        from = store_web_encode(r->list.token, false);
    } else if (r->list.after && r->list.after[0]) {
        CLEANUP_FREE char *plain = xasprintf("%s%s", s->prefix, r->list.after);
        after = store_web_encode(plain, false);
    }
    a->call.query = xasprintf("%s%s%sencoding-type=url&list-type=2&max-keys=%zu&prefix=%s%s%s",
                              from ? "continuation-token=" : "", from ? from : "", from ? "&" : "",
                              r->list.limit, coded, after ? "&start-after=" : "", after ? after : "");
    a->call.http.method = "GET";
    a->call.done = on_list;
    s3_call_start(&a->call);
}

/* --- delete --- */

static void on_refused(void *arg, const char *path, const char *value)
{
    struct ask *a = arg;

    if (strcmp(path, "DeleteResult/Error/Key") == 0)
        snprintf(a->refused_key, sizeof(a->refused_key), "%.*s", STORE_KEY_MAX, value);
    else if (strcmp(path, "DeleteResult/Error/Code") == 0)
        snprintf(a->refused_code, sizeof(a->refused_code), "%.63s", value);
    else if (strcmp(path, "DeleteResult/Error") == 0 && strcmp(a->refused_code, "NoSuchKey") != 0)
        a->refused++;
}

static int take_deleted(struct ask *a)
{
    const struct store_http_call *h = &a->call.http;
    struct store_req *r = a->req;
    bool denied;

    if (h->status != 0 || h->code != 200)
        return s3_failure(r, &a->call);
    r->clock_s = store_http_date_s(h);
    if (!store_xml_is(h->text, h->text_len, "DeleteResult"))
        return s3_failure(r, &a->call);
    store_xml_each(h->text, h->text_len, on_refused, a);
    if (a->refused > r->del.nkeys)
        a->refused = r->del.nkeys;
    r->ndeleted = r->del.nkeys - a->refused;
    if (a->refused == 0)
        return 0;
    denied = strcmp(a->refused_code, "AccessDenied") == 0;
    return why_set(&r->why, denied ? -EACCES : -EIO, "%s did not delete %zu of %zu objects, as %s: %s",
                   a->call.s3->store.name, a->refused, r->del.nkeys, a->refused_key, a->refused_code);
}

static void on_deleted(struct s3_call *c)
{
    struct ask *a = container_of(c, struct ask, call);

    end(a, take_deleted(a));
}

static char *delete_body(const struct s3 *s, const struct store_req *r, size_t *len)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, len);

    CHECK(f);
    fputs("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>", f);
    for (size_t i = 0; i < r->del.nkeys; i++) {
        CLEANUP_FREE char *key = store_xml_escape(r->del.keys[i]), *prefix = store_xml_escape(s->prefix);
        fprintf(f, "<Object><Key>%s%s</Key></Object>", prefix, key);
    }
    fputs("</Delete>", f);
    CHECK(fclose(f) == 0);
    return text;
}

void s3_delete_start(struct s3 *s, struct store_req *r)
{
    struct ask *a = ask_new(s, r);
    uint8_t md5[16];
    char base64[25];
    size_t len = 0;

    a->body = delete_body(s, r, &len);
    a->iov = (struct iovec){.iov_base = a->body, .iov_len = len};
    a->call.query = xstrdup("delete=");
    a->call.http.method = "POST";
    a->call.http.body = &a->iov;
    a->call.http.niov = 1;
    a->call.http.body_bytes = len;
    CHECK(EVP_Digest(a->body, len, md5, NULL, EVP_md5(), NULL) == 1);
    EVP_EncodeBlock((uint8_t *)base64, md5, sizeof(md5));
    s3_sum(a->body, len, a->call.sum);
    s3_call_header(&a->call, "content-md5", "%s", base64);
    s3_call_header(&a->call, "content-type", "application/xml");
    a->call.done = on_deleted;
    s3_call_start(&a->call);
}
