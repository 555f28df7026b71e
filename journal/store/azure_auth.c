/* journal/store/azure_auth.c - see azure_auth.h. What is read and answered is parsed in azure_auth_parse.c.
 */
#include "azure_auth.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "store_web.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char part[] = "store";

enum { CONNECT_MS = 3000, SECRET_MAX = 4096 };
#define IMDS "http://169.254.169.254"
#define IMDS_QUERY                                                                                           \
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F"

/* A secret and how long it is good. */
struct found {
    uint8_t key[AZURE_KEY_MAX];
    size_t key_bytes;
    char *text;
    int64_t left_s;
};

struct azure_auth {
    struct store_grant grant;
    enum azure_way way;
    struct found now;
    unsigned version;
    char *words;
    char *file;      /* where the key or the SAS token is read from; or */
    const char *env; /* the environment's variable that has it */
    struct work work;
    int work_status;
    struct why work_why;
    struct found work_found;
    bool stopped;
    struct store_http *http; /* of the metadata service */
    struct store_http_call call;
    char *url;
};

static void found_clear(struct found *f)
{
    OPENSSL_cleanse(f->key, sizeof(f->key));
    secret_free(&f->text);
    memset(f, 0, sizeof(*f));
}

static void take(struct azure_auth *a, struct found *f)
{
    found_clear(&a->now);
    a->now = *f;
    memset(f, 0, sizeof(*f));
    a->version++;
    store_grant_set(&a->grant, a->now.left_s);
}

/* --- keys and SAS tokens --- */

/* from: for sentences, where text is from. */
static int find_in_text(enum azure_way way, const char *text, const char *from, struct found *f,
                        struct why *why)
{
    struct why inner;
    const char *sas;

    memset(f, 0, sizeof(*f));
    if (way == AZURE_SHARED_KEY) {
        f->key_bytes = azure_key_decode(text, f->key);
        f->left_s = STORE_GRANT_FOREVER;
        return f->key_bytes > 0
                   ? 0
                   : why_set(why, -EACCES, "%s holds no account key: it is base64 on one line", from);
    }
    sas = azure_auth_parse_sas(text, time(NULL), &f->left_s, &inner);
    if (!sas)
        return why_set(why, -EACCES, "%s: %s", from, inner.text);
    f->text = xstrdup(sas);
    return 0;
}

static int find(const struct azure_auth *a, struct found *f, struct why *why)
{
    char text[SECRET_MAX];
    int rc;

    if (a->env)
        return find_in_text(a->way, getenv(a->env), a->env, f, why);
    rc = conf_read_secret(a->file, text, sizeof(text), why);
    if (rc == 0)
        rc = find_in_text(a->way, text, a->file, f, why);
    OPENSSL_cleanse(text, sizeof(text));
    return rc;
}

static void run_read(struct work *w)
{
    struct azure_auth *a = container_of(w, struct azure_auth, work);

    a->work_status = find(a, &a->work_found, &a->work_why);
}

static void on_read(struct work *w)
{
    struct azure_auth *a = container_of(w, struct azure_auth, work);

    if (a->work_status == 0)
        take(a, &a->work_found);
    if (a->stopped)
        a->work_status = why_set(&a->work_why, -ECANCELED, "cancelled");
    store_grant_end(&a->grant, a->work_status, &a->work_why);
}

/* --- the managed identity --- */

static int take_token(struct azure_auth *a, struct why *why)
{
    const struct store_http_call *c = &a->call;
    struct found f = {0};
    struct why inner;
    int status;

    if (c->status == -ECANCELED)
        return why_set(why, -ECANCELED, "cancelled");
    if (c->status != 0)
        return why_set(why, c->status, "no token of the managed identity: %s", c->why.text);
    status = azure_auth_parse_token(c->text, c->text_len, &f.text, &f.left_s, &inner);
    if (c->code == 200 && status == 0) {
        take(a, &f);
        log_info(NULL, "a token of the managed identity for the object store, good for %lld s",
                 (long long)a->now.left_s);
        return 0;
    }
    found_clear(&f);
    /* 404 and 410: the service is being updated. */
    return why_set(why, c->code == 404 || c->code == 410 || c->code == 429 || c->code >= 500 ? -EIO : -EACCES,
                   "no token of the managed identity: the metadata service answered %d: %s", c->code,
                   status != 0 ? inner.text : "a token");
}

static void on_token(struct store_http_call *c)
{
    struct azure_auth *a = container_of(c, struct azure_auth, call);
    struct why why = {""};
    int status = take_token(a, &why);

    if (a->call.text)
        OPENSSL_cleanse(a->call.text, a->call.text_len);
    store_http_clear(&a->call);
    memset(&a->call, 0, sizeof(a->call));
    store_grant_end(&a->grant, status, &why);
}

/* --- for the grant --- */

static void fetch(struct store_grant *g)
{
    struct azure_auth *a = container_of(g, struct azure_auth, grant);

    a->stopped = false;
    if (a->way != AZURE_IDENTITY) {
        a->work.run = run_read;
        a->work.done = on_read;
        loop_work(g->loop, &a->work);
        return;
    }
    a->call.method = "GET";
    a->call.url = a->url;
    a->call.done = on_token;
    store_http_header(&a->call, "Metadata", "true");
    store_http_start(a->http, &a->call);
}

static void stop(struct store_grant *g)
{
    struct azure_auth *a = container_of(g, struct azure_auth, grant);

    a->stopped = true;
    if (a->way == AZURE_IDENTITY)
        store_http_cancel(&a->call);
}

struct store_grant *azure_auth_grant(struct azure_auth *a)
{
    return &a->grant;
}

struct azure_secret azure_auth_secret(const struct azure_auth *a)
{
    CHECK(a->now.text || a->now.key_bytes > 0);
    return (struct azure_secret){.way = a->way,
                                 .version = a->version,
                                 .key = a->now.key,
                                 .key_bytes = a->now.key_bytes,
                                 .text = a->now.text};
}

bool azure_auth_refused(struct azure_auth *a, unsigned version)
{
    if (a->version != version)
        return true; /* there is another one already */
    return (a->file || a->way == AZURE_IDENTITY) && store_grant_renew(&a->grant);
}

bool azure_auth_bearer(const struct azure_auth *a)
{
    return a->way != AZURE_SHARED_KEY;
}

const char *azure_auth_words(const struct azure_auth *a)
{
    return a->words;
}

/* --- where it comes from --- */

/* file, or NULL and the environment's variable env. */
static int from_text(struct azure_auth *a, enum azure_way way, const char *file, const char *env,
                     struct why *why)
{
    struct found f;
    int rc;

    a->way = way;
    a->file = file ? xstrdup(file) : NULL;
    a->env = env;
    a->words =
        xasprintf("%s in %s", way == AZURE_SAS ? "the SAS token" : "the account key", file ? file : env);
    rc = find(a, &f, why);
    if (rc == 0)
        take(a, &f);
    return rc;
}

static int from_identity(struct azure_auth *a, const struct store_conf *c, struct why *why)
{
    struct store_http_conf conf = {.connections = 1, .connect_ms = CONNECT_MS, .direct = true};
    const char *endpoint = getenv("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    CLEANUP_FREE char *client = store_web_encode(c->client_id, false);
    size_t n;

    endpoint = endpoint && endpoint[0] ? endpoint : IMDS;
    for (n = strlen(endpoint); n > 0 && endpoint[n - 1] == '/';)
        n--;
    a->way = AZURE_IDENTITY;
    a->words = c->client_id[0] ? xasprintf("the managed identity %s", c->client_id)
                               : xstrdup("the managed identity");
    a->url = xasprintf("%.*s%s%s%s", (int)n, endpoint, IMDS_QUERY, client[0] ? "&client_id=" : "", client);
    a->http = store_http_new(a->grant.loop, &conf, why);
    return a->http ? 0 : -EINVAL;
}

static bool in_environment(const char *name)
{
    return getenv(name) && getenv(name)[0];
}

static int choose(struct azure_auth *a, const struct store_conf *c, struct why *why)
{
    if (c->account_key_file[0] && c->sas_file[0])
        return why_set(why, -EINVAL,
                       "the store has an account_key_file and a sas_file: only one can be used");
    if (c->account_key_file[0])
        return from_text(a, AZURE_SHARED_KEY, c->account_key_file, NULL, why);
    if (c->sas_file[0])
        return from_text(a, AZURE_SAS, c->sas_file, NULL, why);
    if (!c->client_id[0] && in_environment("AZURE_STORAGE_KEY"))
        return from_text(a, AZURE_SHARED_KEY, NULL, "AZURE_STORAGE_KEY", why);
    if (!c->client_id[0] && in_environment("AZURE_STORAGE_SAS_TOKEN"))
        return from_text(a, AZURE_SAS, NULL, "AZURE_STORAGE_SAS_TOKEN", why);
    return from_identity(a, c, why);
}

struct azure_auth *azure_auth_new(struct loop *loop, const struct store_conf *c, struct why *why)
{
    struct azure_auth *a = xcalloc(1, sizeof(*a));

    store_grant_init(&a->grant, loop, fetch, stop);
    if (choose(a, c, why) != 0)
        azure_auth_free(&a);
    return a;
}

void azure_auth_free(struct azure_auth **auth)
{
    struct azure_auth *a = *auth;

    if (!a)
        return;
    store_http_free(&a->http);
    found_clear(&a->now);
    free(a->words);
    free(a->file);
    free(a->url);
    free(a);
    *auth = NULL;
}
