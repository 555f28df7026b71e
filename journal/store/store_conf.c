/* journal/store/store_conf.c - see store_conf.h. At start-up, on one thread.
 */
#include "store_conf.h"

#include "store_azure.h"
#include "store_dir.h"
#include "store_retry.h"
#include "store_s3.h"
#include "store_wrap.h"

#include <errno.h>
#include <string.h>

enum { CONNECTIONS_MAX = 256 };
#define PART_MIN (5ull << 20)
#define PART_MAX (1ull << 30)

static struct store *open_dir(struct loop *loop, const struct store_conf *c, struct why *why)
{
    return store_dir_new(loop, c->url + strlen("dir:"), c->connections, why);
}

static const struct kind {
    const char *prefix;
    struct store *(*open)(struct loop *, const struct store_conf *, struct why *);
} kinds[] = {{"dir:", open_dir}, {"s3://", store_s3_new}, {"azure://", store_azure_new}};

static const struct kind *find(const char *url)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(url, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
            return &kinds[i];
    return NULL;
}

static const char forms[] = "use s3://BUCKET/PREFIX, azure://ACCOUNT/CONTAINER/PREFIX or dir:/PATH";

static void read_strings(cfg_t *s, struct store_conf *c)
{
    c->url = cfg_getstr(s, "url");
    c->endpoint = cfg_getstr(s, "endpoint");
    c->region = cfg_getstr(s, "region");
    c->ca = cfg_getstr(s, "ca");
    c->style = cfg_getstr(s, "style");
    c->access_key = cfg_getstr(s, "access_key");
    c->secret_key_file = cfg_getstr(s, "secret_key_file");
    c->credentials_file = cfg_getstr(s, "credentials_file");
    c->profile = cfg_getstr(s, "profile");
    c->role_arn = cfg_getstr(s, "role_arn");
    c->web_identity_token_file = cfg_getstr(s, "web_identity_token_file");
    c->sse = cfg_getstr(s, "sse");
    c->sse_key = cfg_getstr(s, "sse_key");
    c->account_key_file = cfg_getstr(s, "account_key_file");
    c->sas_file = cfg_getstr(s, "sas_file");
    c->client_id = cfg_getstr(s, "client_id");
    c->layers = cfg_getstr(s, "layers");
}

int store_conf_read(cfg_t *section, struct store_conf *c, struct why *why)
{
    struct why layers;

    read_strings(section, c);
    c->connections = (unsigned)cfg_getint(section, "connections");
    c->part_bytes = conf_bytes(section, "part");
    if (c->url[0] && !find(c->url))
        return conf_refuse(section, why, "the store '%s' is unknown: %s", c->url, forms);
    if (c->connections == 0 || c->connections > CONNECTIONS_MAX)
        return conf_refuse(section, why, "connections must be 1 to %d", CONNECTIONS_MAX);
    if (c->part_bytes < PART_MIN || c->part_bytes > PART_MAX)
        return conf_refuse(section, why, "part must be 5M to 1G");
    if (strcmp(c->style, "auto") != 0 && strcmp(c->style, "path") != 0 && strcmp(c->style, "virtual") != 0)
        return conf_refuse(section, why, "style must be auto, path or virtual, not '%s'", c->style);
    if (c->sse[0] && strcmp(c->sse, "AES256") != 0 && strcmp(c->sse, "aws:kms") != 0)
        return conf_refuse(section, why, "sse must be AES256 or aws:kms, not '%s'", c->sse);
    if (c->sse_key[0] && strcmp(c->sse, "aws:kms") != 0)
        return conf_refuse(section, why, "sse_key needs sse = \"aws:kms\"");
    if (store_wrap_check(c->layers, &layers) != 0)
        return conf_refuse(section, why, "%s", layers.text);
    return 0;
}

void store_conf_default(struct store_conf *c, const char *url)
{
    *c = (struct store_conf){
        .url = url,
        .endpoint = "",
        .region = "",
        .ca = "",
        .style = "auto",
        .connections = 16,
        .part_bytes = 16ull << 20,
        .access_key = "",
        .secret_key_file = "",
        .credentials_file = "",
        .profile = "",
        .role_arn = "",
        .web_identity_token_file = "",
        .sse = "",
        .sse_key = "",
        .account_key_file = "",
        .sas_file = "",
        .client_id = "",
        .layers = "",
    };
}

struct store *store_open_plain(struct loop *loop, const struct store_conf *c, struct why *why)
{
    const struct kind *kind = find(c->url);

    if (kind)
        return kind->open(loop, c, why);
    why_set(why, -EINVAL, "the store '%s' is unknown: %s", c->url, forms);
    return NULL;
}

struct store *store_open(struct loop *loop, const struct store_conf *c, struct why *why)
{
    struct store *s = store_open_plain(loop, c, why);

    if (!s)
        return NULL;
    if (store_wrap(&s, c->layers, why) != 0) {
        store_free(&s);
        return NULL;
    }
    return store_retry_new(s, NULL);
}
