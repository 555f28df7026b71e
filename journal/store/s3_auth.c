/* journal/store/s3_auth.c - see s3_auth.h. A fetch runs only while somebody waits for it.
 *
 *      FILE   read the file (pool)
 *      WEB    read the token's file (pool) ──► POST to STS
 *      ROLE   PUT for a session token ──► GET the role's name ──► GET its credentials
 *
 * What the services answer is parsed in s3_auth_parse.c.
 */
#include "s3_auth.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "s3_auth_parse.h"
#include "store_web.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char part[] = "store";

enum { CONNECT_MS = 3000 };
#define IMDS      "http://169.254.169.254"
#define IMDS_PATH "/latest/meta-data/iam/security-credentials/"

enum source { FIXED, FILE_, WEB, ROLE };

struct s3_auth {
    struct store_grant grant;
    enum source source;
    struct s3_auth_key key; /* access NULL: none yet */
    bool reading, stopped;

    char *file, *profile;  /* FILE_; WEB: the token's file */
    char *endpoint, *role; /* WEB, ROLE: where to ask; WEB: the role's ARN */
    char *session;         /* ROLE: the token of IMDSv2 */
    struct work work;
    int work_status;
    struct why work_why;
    struct s3_auth_key work_key;
    char *work_text; /* WEB: the token */
    struct store_http *http;
    struct store_http_call call;
    char *url, *body;
    struct iovec iov;
};

/* --- the end of a fetch --- */

static void forget(struct s3_auth *a)
{
    store_http_clear(&a->call);
    memset(&a->call, 0, sizeof(a->call));
    free(a->url);
    secret_free(&a->body);
    secret_free(&a->session);
    secret_free(&a->work_text);
    a->url = NULL;
}

static void fetched(struct s3_auth *a, int status, const struct why *why)
{
    forget(a);
    store_grant_end(&a->grant, status, why);
}

static void take_key(struct s3_auth *a, struct s3_auth_key *key)
{
    int64_t left_s = key->left_s;
    struct why why;

    if (left_s == 0) {
        s3_auth_key_clear(key);
        why_set(&why, 0, "the credentials that were given for the object store have expired already");
        fetched(a, -EACCES, &why);
        return;
    }
    s3_auth_key_clear(&a->key);
    a->key = *key;
    memset(key, 0, sizeof(*key));
    store_grant_set(&a->grant, left_s);
    log_info(NULL, "credentials %s for the object store from %s", a->key.access,
             a->source == ROLE  ? "the instance's role"
             : a->source == WEB ? "the web identity"
                                : a->file);
    fetched(a, 0, NULL);
}

/* --- asking services --- */

static void ask(struct s3_auth *a, const char *method, char *url, void (*done)(struct store_http_call *))
{
    free(a->url);
    a->url = url;
    a->call.method = method;
    a->call.url = a->url;
    a->call.done = done;
    store_http_start(a->http, &a->call);
}

/* The answer's status, with a sentence that says what was asked for. */
static int answered(const struct s3_auth *a, const char *what, struct why *why)
{
    const struct store_http_call *c = &a->call;
    char code[100] = "";

    if (a->stopped || c->status == -ECANCELED)
        return why_set(why, -ECANCELED, "cancelled");
    if (c->status != 0)
        return why_set(why, c->status, "no credentials for the object store: %s: %s", what, c->why.text);
    if (c->code == 200)
        return 0;
    s3_auth_parse_refusal(c->text, c->text_len, code, sizeof(code));
    return why_set(why, c->code >= 500 || c->code == 429 ? -EIO : -EACCES,
                   "no credentials for the object store: %s was answered %d%s%s", what, c->code,
                   code[0] ? " " : "", code);
}

static void on_sts(struct store_http_call *c)
{
    struct s3_auth *a = container_of(c, struct s3_auth, call);
    struct s3_auth_key key = {0};
    struct why why;
    int status = answered(a, "AssumeRoleWithWebIdentity", &why);

    if (status == 0)
        status = s3_auth_parse_sts(c->text, c->text_len, store_http_date_s(c), &key, &why);
    if (status == 0)
        take_key(a, &key);
    else
        fetched(a, status, &why);
}

static void on_key(struct store_http_call *c)
{
    struct s3_auth *a = container_of(c, struct s3_auth, call);
    struct s3_auth_key key = {0};
    struct why why;
    int status = answered(a, "the credentials of the instance's role", &why);

    if (status == 0)
        status = s3_auth_parse_role(c->text, c->text_len, store_http_date_s(c), &key, &why);
    if (status == 0)
        take_key(a, &key);
    else
        fetched(a, status, &why);
}

static void ask_again(struct s3_auth *a)
{
    store_http_clear(&a->call);
    memset(&a->call, 0, sizeof(a->call));
    store_http_header(&a->call, "X-aws-ec2-metadata-token", "%s", a->session);
}

static void on_name(struct store_http_call *c)
{
    struct s3_auth *a = container_of(c, struct s3_auth, call);
    struct why why;
    int status = answered(a, "the name of the instance's role", &why);
    char *role, *url;

    if (status == 0 && (c->text_len == 0 || strlen(c->text) != c->text_len))
        status = why_set(&why, -EACCES, "no credentials for the object store: the instance has no role");
    if (status != 0) {
        fetched(a, status, &why);
        return;
    }
    c->text[strcspn(c->text, "\r\n")] = '\0';
    role = store_web_encode(c->text, false);
    url = xasprintf("%s" IMDS_PATH "%s", a->endpoint, role);
    free(role);
    ask_again(a);
    ask(a, "GET", url, on_key);
}

static void on_session(struct store_http_call *c)
{
    struct s3_auth *a = container_of(c, struct s3_auth, call);
    struct why why;
    int status = answered(a, "the instance's metadata service", &why);

    if (status == 0 && (strlen(c->text) != c->text_len || strpbrk(c->text, "\r\n")))
        status = why_set(&why, -EACCES,
                         "no credentials for the object store: no token from the instance's metadata");
    if (status != 0) {
        fetched(a, status, &why);
        return;
    }
    a->session = xstrdup(c->text);
    ask_again(a);
    ask(a, "GET", xasprintf("%s" IMDS_PATH, a->endpoint), on_name);
}

static void ask_sts(struct s3_auth *a)
{
    CLEANUP_FREE char *role = store_web_encode(a->role, false),
                      *token = store_web_encode(a->work_text, false);

    a->body =
        xasprintf("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=isthmus&RoleArn=%s"
                  "&WebIdentityToken=%s",
                  role, token);
    a->iov = (struct iovec){.iov_base = a->body, .iov_len = strlen(a->body)};
    a->call.body = &a->iov;
    a->call.niov = 1;
    a->call.body_bytes = a->iov.iov_len;
    store_http_header(&a->call, "Content-Type", "application/x-www-form-urlencoded");
    ask(a, "POST", xasprintf("%s/", a->endpoint), on_sts);
}

/* --- reading files --- */

static void run_read(struct work *w)
{
    struct s3_auth *a = container_of(w, struct s3_auth, work);

    if (a->source == WEB)
        a->work_status = s3_auth_read_token(a->file, &a->work_text, &a->work_why);
    else
        a->work_status = s3_auth_read_file(a->file, a->profile, &a->work_key, &a->work_why);
}

static void on_read(struct work *w)
{
    struct s3_auth *a = container_of(w, struct s3_auth, work);

    a->reading = false;
    if (a->stopped && a->work_status == 0) {
        s3_auth_key_clear(&a->work_key);
        a->work_status = why_set(&a->work_why, -ECANCELED, "cancelled");
    }
    if (a->work_status != 0)
        fetched(a, a->work_status, &a->work_why);
    else if (a->source == WEB)
        ask_sts(a);
    else
        take_key(a, &a->work_key);
}

static void fetch(struct store_grant *g)
{
    struct s3_auth *a = container_of(g, struct s3_auth, grant);

    a->stopped = false;
    if (a->source == ROLE) {
        store_http_header(&a->call, "X-aws-ec2-metadata-token-ttl-seconds", "21600");
        ask(a, "PUT", xasprintf("%s/latest/api/token", a->endpoint), on_session);
        return;
    }
    a->reading = true;
    a->work.run = run_read;
    a->work.done = on_read;
    loop_work(g->loop, &a->work);
}

static void stop(struct store_grant *g)
{
    struct s3_auth *a = container_of(g, struct s3_auth, grant);

    a->stopped = true;
    if (!a->reading)
        store_http_cancel(&a->call);
}

/* --- for the store --- */

struct store_grant *s3_auth_grant(struct s3_auth *a)
{
    return &a->grant;
}

struct s3_key s3_auth_key(const struct s3_auth *a)
{
    CHECK(a->key.access);
    return (struct s3_key){.access = a->key.access, .secret = a->key.secret, .token = a->key.token};
}

bool s3_auth_refused(struct s3_auth *a, const char *access)
{
    if (a->source == FIXED)
        return false;
    if (!a->key.access || strcmp(a->key.access, access) != 0)
        return true; /* there is another one already */
    return store_grant_renew(&a->grant);
}

/* --- where they come from --- */

static const char *set_or_env(const char *value, const char *name)
{
    const char *env = value[0] ? value : getenv(name);

    return env ? env : "";
}

static int fixed(struct s3_auth *a, const char *access, const char *secret, const char *token)
{
    a->source = FIXED;
    store_grant_set(&a->grant, STORE_GRANT_FOREVER);
    a->key.access = xstrdup(access);
    a->key.secret = xstrdup(secret);
    a->key.token = token && token[0] ? xstrdup(token) : NULL;
    return 0;
}

static int from_conf(struct s3_auth *a, const struct store_conf *c, struct why *why)
{
    char secret[256];
    int rc;

    if (!c->secret_key_file[0])
        return why_set(why, -EINVAL, "the store has an access_key but no secret_key_file");
    rc = conf_read_secret(c->secret_key_file, secret, sizeof(secret), why);
    if (rc == 0)
        rc = fixed(a, c->access_key, secret, NULL);
    explicit_bzero(secret, sizeof(secret));
    return rc;
}

static int with_http(struct s3_auth *a, const struct store_conf *c, bool direct, struct why *why)
{
    struct store_http_conf conf = {.connections = 1, .connect_ms = CONNECT_MS, .direct = direct};

    conf.ca = direct ? NULL : c->ca;
    a->http = store_http_new(a->grant.loop, &conf, why);
    return a->http ? 0 : -EINVAL;
}

static int from_web(struct s3_auth *a, const struct store_conf *c, const char *token_file, const char *role,
                    const char *region, struct why *why)
{
    const char *endpoint = getenv("AWS_ENDPOINT_URL_STS");

    a->source = WEB;
    a->file = xstrdup(token_file);
    a->role = xstrdup(role);
    a->endpoint = endpoint ? xstrdup(endpoint)
                           : xasprintf("https://sts.%s.amazonaws.com%s", region,
                                       strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    return with_http(a, c, false, why);
}

static int from_file(struct s3_auth *a, const char *file, const char *profile, struct why *why)
{
    a->source = FILE_;
    a->file = xstrdup(file);
    a->profile = xstrdup(profile[0] ? profile : "default");
    store_grant_set(&a->grant, STORE_GRANT_FOREVER);
    return s3_auth_read_file(a->file, a->profile, &a->key, why);
}

static int from_role(struct s3_auth *a, const struct store_conf *c, struct why *why)
{
    const char *endpoint = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    size_t n;

    a->source = ROLE;
    a->endpoint = xstrdup(endpoint ? endpoint : IMDS);
    for (n = strlen(a->endpoint); n > 0 && a->endpoint[n - 1] == '/'; n--)
        a->endpoint[n - 1] = '\0';
    return with_http(a, c, true, why);
}

static int choose(struct s3_auth *a, const struct store_conf *c, const char *region, struct why *why)
{
    const char *key = set_or_env("", "AWS_ACCESS_KEY_ID"), *secret = set_or_env("", "AWS_SECRET_ACCESS_KEY");
    const char *token_file = set_or_env(c->web_identity_token_file, "AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *role = set_or_env(c->role_arn, "AWS_ROLE_ARN"), *home = getenv("HOME");
    const char *file = set_or_env(c->credentials_file, "AWS_SHARED_CREDENTIALS_FILE");
    CLEANUP_FREE char *usual = xasprintf("%s/.aws/credentials", home ? home : "");

    if (c->access_key[0] || c->secret_key_file[0])
        return from_conf(a, c, why);
    if (c->credentials_file[0])
        return from_file(a, file, set_or_env(c->profile, "AWS_PROFILE"), why);
    if (!c->web_identity_token_file[0] && key[0] && secret[0])
        return fixed(a, key, secret, getenv("AWS_SESSION_TOKEN"));
    if (token_file[0] && role[0])
        return from_web(a, c, token_file, role, region, why);
    if (token_file[0])
        return why_set(why, -EINVAL, "the store has a web_identity_token_file but no role_arn");
    if (!file[0] && home && access(usual, F_OK) == 0)
        file = usual;
    if (file[0])
        return from_file(a, file, set_or_env(c->profile, "AWS_PROFILE"), why);
    return from_role(a, c, why);
}

struct s3_auth *s3_auth_new(struct loop *loop, const struct store_conf *c, const char *region,
                            struct why *why)
{
    struct s3_auth *a = xcalloc(1, sizeof(*a));

    store_grant_init(&a->grant, loop, fetch, stop);
    if (choose(a, c, region, why) != 0)
        s3_auth_free(&a);
    return a;
}

void s3_auth_free(struct s3_auth **ap)
{
    struct s3_auth *a = *ap;

    if (!a)
        return;
    store_http_free(&a->http);
    s3_auth_key_clear(&a->key);
    free(a->file);
    free(a->profile);
    free(a->endpoint);
    free(a->role);
    free(a);
    *ap = NULL;
}
