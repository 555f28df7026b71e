/* journal/store/store_s3.c - opening an S3 store, and handing requests to their operations.
 *
 * Loop thread, opening at start-up.
 */
#include "store_s3.h"

#include "check.h"
#include "mem.h"
#include "s3_impl.h"

#include <errno.h>
#include <string.h>

enum { CONNECT_MS = 10000 };

static struct s3 *of(struct store *s)
{
    return container_of(s, struct s3, store);
}

static void s3_start(struct store *s, struct store_req *r)
{
    static void (*const operations[STORE_OPS])(struct s3 *, struct store_req *) = {
        s3_put_start, s3_get_start, s3_head_start, s3_list_start, s3_delete_start};

    operations[r->op](of(s), r);
}

static void s3_cancel(struct store *s, struct store_req *r)
{
    struct s3_op *op = r->backend;

    (void)s;
    op->cancel(op);
}

static void s3_free(struct store *store)
{
    struct s3 *s = of(store);

    s3_auth_free(&s->auth);
    store_http_free(&s->http);
    free(s->bucket);
    free(s->prefix);
    free(s->origin);
    free(s->host);
    free(s->base);
    free(s->region);
    free(s->sse);
    free(s->sse_key);
    free(s);
}

static const struct store_ops s3_ops = {
    .name = "s3", .start = s3_start, .cancel = s3_cancel, .free = s3_free};

/* --- opening --- */

static bool bucket_ok(const char *bucket)
{
    size_t n = strlen(bucket);

    return n >= 3 && n <= 63 && bucket[0] != '.' && bucket[0] != '-' &&
           strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == n;
}

/* s3://bucket/prefix */
static int parse_url(struct s3 *s, const char *url, struct why *why)
{
    const char *bucket = url + strlen("s3://");
    size_t n = strcspn(bucket, "/");

    s->bucket = xstrndup(bucket, n);
    if (!bucket_ok(s->bucket))
        return why_set(why, -EINVAL, "the store '%s' names no bucket: s3://BUCKET/PREFIX", url);
    return store_web_prefix(url, bucket + n + (bucket[n] == '/'), &s->prefix, why);
}

/* Where the bucket is: origin, host and base. */
static int parse_endpoint(struct s3 *s, const struct store_conf *c, struct why *why)
{
    CLEANUP_FREE char *usual =
        xasprintf("https://s3.%s.amazonaws.com%s", s->region, strncmp(s->region, "cn-", 3) == 0 ? ".cn" : "");
    const char *endpoint = c->endpoint[0] ? c->endpoint : usual, *host;
    bool https = strncmp(endpoint, "https://", 8) == 0, virtual_host;
    size_t n;
    int rc = store_web_endpoint(endpoint, &host, &n, why);

    if (rc != 0)
        return rc;
    if (strcmp(c->style, "auto") == 0)
        virtual_host = !c->endpoint[0] && !(https && strchr(s->bucket, '.'));
    else
        virtual_host = strcmp(c->style, "virtual") == 0;
    s->host = xasprintf("%s%s%.*s", virtual_host ? s->bucket : "", virtual_host ? "." : "", (int)n, host);
    s->origin = xasprintf("%s://%s", https ? "https" : "http", s->host);
    s->base = virtual_host ? xstrdup("/") : xasprintf("/%s/", s->bucket);
    return 0;
}

static const char *region_of(const struct store_conf *c)
{
    static const char *const names[] = {"AWS_REGION", "AWS_DEFAULT_REGION"};

    if (c->region[0])
        return c->region;
    for (int i = 0; i < 2; i++)
        if (getenv(names[i]) && getenv(names[i])[0])
            return getenv(names[i]);
    return "us-east-1";
}

static int open_s3(struct s3 *s, struct loop *loop, const struct store_conf *c, struct why *why)
{
    struct store_http_conf http = {.ca = c->ca, .connections = c->connections, .connect_ms = CONNECT_MS};
    int rc;

    s->region = xstrdup(region_of(c));
    s->sse = xstrdup(c->sse);
    s->sse_key = xstrdup(c->sse_key);
    s->part_bytes = c->part_bytes;
    if (!store_key_ok(s->region) || strlen(s->region) > 60)
        return why_set(why, -EINVAL, "the store's region '%s' is none", s->region);
    if (strlen(s->sse_key) >= S3_HEADER_MAX)
        return why_set(why, -EINVAL, "the store's sse_key is too long");
    rc = parse_url(s, c->url, why);
    if (rc == 0)
        rc = parse_endpoint(s, c, why);
    if (rc != 0)
        return rc;
    s->http = store_http_new(loop, &http, why);
    if (!s->http)
        return -EINVAL;
    s->auth = s3_auth_new(loop, c, s->region, why);
    return s->auth ? 0 : -EINVAL;
}

struct store *store_s3_new(struct loop *loop, const struct store_conf *c, struct why *why)
{
    struct s3 *s = xcalloc(1, sizeof(*s));

    if (open_s3(s, loop, c, why) != 0) {
        s3_free(&s->store);
        return NULL;
    }
    store_init(&s->store, &s3_ops, loop, c->url, c->connections);
    return &s->store;
}
