/* journal/store/store_conf.h - the section that names an object store, and opening it.
 *
 *     store {
 *         url = "s3://bucket/prefix"        # or "azure://account/container/prefix", "dir:/path"
 *         endpoint = "https://s3.example:443"
 *         region = "eu-central-1"
 *     }
 *
 * README.md says what each key means. Secrets are in files of mode 0600, never in the section itself.
 */
#ifndef ISTHMUS_STORE_CONF_H
#define ISTHMUS_STORE_CONF_H

#include "conf.h"
#include "store.h"

/* The keys, for a table of options: cfg_opt_t store[] = {STORE_CONF_OPTIONS, CFG_END()}; */
#define STORE_CONF_OPTIONS                                                                                   \
    CFG_STR("url", "", CFGF_NONE), CFG_STR("endpoint", "", CFGF_NONE), CFG_STR("region", "", CFGF_NONE),     \
        CFG_STR("ca", "", CFGF_NONE), CFG_STR("style", "auto", CFGF_NONE), CONF_COUNT("connections", 16),    \
        CONF_SIZE("part", "16M"), CFG_STR("access_key", "", CFGF_NONE),                                      \
        CFG_STR("secret_key_file", "", CFGF_NONE), CFG_STR("credentials_file", "", CFGF_NONE),               \
        CFG_STR("profile", "", CFGF_NONE), CFG_STR("role_arn", "", CFGF_NONE),                               \
        CFG_STR("web_identity_token_file", "", CFGF_NONE), CFG_STR("sse", "", CFGF_NONE),                    \
        CFG_STR("sse_key", "", CFGF_NONE), CFG_STR("account_key_file", "", CFGF_NONE),                       \
        CFG_STR("sas_file", "", CFGF_NONE), CFG_STR("client_id", "", CFGF_NONE),                             \
        CFG_STR("layers", "", CFGF_NONE)

/* What the section says; "" where it says nothing. Strings are borrowed: from the cfg_t, for the call. */
struct store_conf {
    const char *url;      /* "": no store */
    const char *endpoint; /* "http[s]://host[:port]" instead of the provider's */
    const char *region;
    const char *ca;       /* file of PEM certificates to trust instead of the system's */
    const char *style;    /* s3: "path", "virtual" (bucket.host) or "auto" (path with an endpoint) */
    unsigned connections; /* requests in flight, 1 to 256 */
    uint64_t part_bytes;  /* larger objects are put in parts of this size; 5 MiB to 1 GiB */
    /* s3: who we are (s3_auth.h) */
    const char *access_key, *secret_key_file;
    const char *credentials_file, *profile;
    const char *role_arn, *web_identity_token_file;
    const char *sse, *sse_key; /* "", "AES256" or "aws:kms" with the key's id or "" */
    /* azure */
    const char *account_key_file, *sas_file, *client_id;
    const char *layers; /* store_wrap.h: delay and fail */
};

/* 0, or -EINVAL with a sentence that names file and line. */
int store_conf_read(cfg_t *section, struct store_conf *, struct why *);
/* For tools and tests: every key at its default. */
void store_conf_default(struct store_conf *, const char *url);

/* The store that conf names, with its layers, and with retries over them. */
struct store *store_open(struct loop *, const struct store_conf *, struct why *);
/* The store that conf names, bare: no retries, no layers. Reads small files (secrets, certificates): for
 * start-up. NULL with why. Whether it answers, and can do what is needed, is not looked at here. */
struct store *store_open_plain(struct loop *, const struct store_conf *, struct why *);

#endif
