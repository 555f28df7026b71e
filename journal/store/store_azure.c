/* journal/store/store_azure.c - opening an Azure Blob store, and handing requests to their operations.
 *
 * Loop thread, opening at start-up.
 */
#include "store_azure.h"

#include "azure_impl.h"
#include "check.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

enum { CONNECT_MS = 10000 };

static struct azure *of(struct store *s)
{
    return container_of(s, struct azure, store);
}

static void azure_start(struct store *s, struct store_req *r)
{
    static void (*const operations[STORE_OPS])(struct azure *, struct store_req *) = {
        azure_put_start, azure_get_start, azure_head_start, azure_list_start, azure_delete_start};

    operations[r->op](of(s), r);
}

static void azure_cancel(struct store *s, struct store_req *r)
{
    struct azure_op *op = r->backend;

    (void)s;
    op->cancel(op);
}

static void azure_free(struct store *store)
{
    struct azure *a = of(store);

    azure_auth_free(&a->auth);
    store_http_free(&a->http);
    free(a->account);
    free(a->container);
    free(a->prefix);
    free(a->origin);
    free(a->base);
    free(a);
}

static const struct store_ops azure_ops = {
    .name = "azure", .start = azure_start, .cancel = azure_cancel, .free = azure_free};

/* --- opening --- */

static bool name_ok(const char *name, size_t max, const char *signs)
{
    size_t n = strlen(name);

    return n >= 3 && n <= max && strspn(name, signs) == n;
}

/* azure://account/container/prefix */
static int parse_url(struct azure *a, const char *url, struct why *why)
{
    const char *account = url + strlen("azure://"), *container, *prefix;

    container = account + strcspn(account, "/");
    a->account = xstrndup(account, (size_t)(container - account));
    container += *container == '/';
    prefix = container + strcspn(container, "/");
    a->container = xstrndup(container, (size_t)(prefix - container));
    if (!name_ok(a->account, 24, "abcdefghijklmnopqrstuvwxyz0123456789") ||
        !name_ok(a->container, 63, "abcdefghijklmnopqrstuvwxyz0123456789-"))
        return why_set(why, -EINVAL,
                       "the store '%s' names no account and container: azure://ACCOUNT/CONTAINER/PREFIX, in "
                       "small letters and digits",
                       url);
    return store_web_prefix(url, prefix + (*prefix == '/'), &a->prefix, why);
}

/* Azure has the account in the host's name; a server of one's own has it in the path. */
static bool account_in_path(const struct azure *a, const struct store_conf *c, const char *host)
{
    size_t n = strlen(a->account);

    if (strcmp(c->style, "auto") != 0)
        return strcmp(c->style, "path") == 0;
    return strncmp(host, a->account, n) != 0 || host[n] != '.';
}

static int parse_endpoint(struct azure *a, const struct store_conf *c, struct why *why)
{
    CLEANUP_FREE char *usual = xasprintf("https://%s.blob.core.windows.net", a->account);
    const char *endpoint = c->endpoint[0] ? c->endpoint : usual, *host;
    size_t n;
    int rc = store_web_endpoint(endpoint, &host, &n, why);

    if (rc != 0)
        return rc;
    a->origin = xasprintf("%.*s", (int)(host + n - endpoint), endpoint);
    a->base = account_in_path(a, c, host) ? xasprintf("/%s/%s", a->account, a->container)
                                          : xasprintf("/%s", a->container);
    return 0;
}

static int open_azure(struct azure *a, struct loop *loop, const struct store_conf *c, struct why *why)
{
    struct store_http_conf http = {.ca = c->ca, .connections = c->connections, .connect_ms = CONNECT_MS};
    int rc;

    a->part_bytes = c->part_bytes;
    rc = parse_url(a, c->url, why);
    if (rc == 0)
        rc = parse_endpoint(a, c, why);
    if (rc != 0)
        return rc;
    a->http = store_http_new(loop, &http, why);
    if (!a->http)
        return -EINVAL;
    a->auth = azure_auth_new(loop, c, why);
    if (!a->auth)
        return -EINVAL;
    /* A SAS token or an identity's token alone is enough for whoever reads it on the way. */
    if (azure_auth_bearer(a->auth) && strncmp(a->origin, "https://", 8) != 0)
        return why_set(why, -EINVAL, "%s must not go over http: give the store an https endpoint",
                       azure_auth_words(a->auth));
    return 0;
}

struct store *store_azure_new(struct loop *loop, const struct store_conf *c, struct why *why)
{
    struct azure *a = xcalloc(1, sizeof(*a));

    if (open_azure(a, loop, c, why) != 0) {
        azure_free(&a->store);
        return NULL;
    }
    store_init(&a->store, &azure_ops, loop, c->url, c->connections);
    return &a->store;
}
