/* initiator/datastore.c - chooses the datastore by the URL's scheme, and keeps secrets out of sight.
 *
 * Loop thread. What a scheme's URL looks like beyond "scheme:" is the business of its own file.
 */
#include "datastore.h"

#include "ds_base.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct datastore_ops *const all[] = {&datastore_iscsi, &datastore_nbd, &datastore_nbd_unix,
                                                  &datastore_file};

static const struct datastore_ops *find_ops(const char *url)
{
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        size_t n = strlen(all[i]->scheme);
        if (strncmp(url, all[i]->scheme, n) == 0 && url[n] == ':')
            return all[i];
    }
    return NULL;
}

int datastore_url_check(const char *url, struct why *why)
{
    CLEANUP_FREE char *shown = datastore_url_redact(url);
    const struct datastore_ops *ops = find_ops(url);

    if (!ops)
        return why_set(why, -EINVAL,
                       "'%s' is no datastore URL: use iscsi://HOST/IQN/LUN, nbd://HOST/EXPORT, "
                       "nbd+unix:///EXPORT?socket=PATH or file:PATH",
                       shown);
    if (ops == &datastore_iscsi)
        return ds_iscsi_url_check(url, why);
    if (ops == &datastore_file)
        return ds_file_url_check(url, why);
    return ds_nbd_url_check(url, why);
}

int datastore_open(struct datastore **d, struct loop *loop, const struct datastore_conf *conf,
                   const struct datastore_events *events, struct why *why)
{
    int err = datastore_url_check(conf->url, why);

    return err ? err : find_ops(conf->url)->open(d, loop, conf, events, why);
}

void datastore_close(struct datastore **d)
{
    struct datastore *gone = *d;

    *d = NULL;
    if (gone)
        gone->ops->close(gone);
}

/* The user part of url, from after "://" to the last '@' (a secret may hold '@' and '/': rather hide too much
 * than too little); NULL if there is none. */
static const char *find_user(const char *url, const char **end)
{
    const char *p = strncmp(url, "file:", 5) == 0 ? NULL : strstr(url, "://");

    *end = p ? strrchr(p, '@') : NULL;
    return *end ? p + 3 : NULL;
}

static const char *find_secret(const char *url, const char **end)
{
    const char *user = find_user(url, end);
    size_t n;

    if (!user)
        return NULL;
    n = strcspn(user, "%:");
    return user + n < *end ? user + n + 1 : NULL;
}

/* Query parameters that hold a secret (mutual CHAP). */
static const char secret_key[] = "target_password=";

bool datastore_url_has_secret(const char *url)
{
    const char *end;

    return find_secret(url, &end) || strstr(url, secret_key);
}

char *datastore_url_redact(const char *url)
{
    const char *end, *secret = find_secret(url, &end);
    char *shown = secret ? xasprintf("%.*s***%s", (int)(secret - url), url, end) : xstrdup(url);
    char *p = strstr(shown, secret_key);

    if (p) {
        char *value = p + strlen(secret_key);
        size_t n = strcspn(value, "&");
        char *more = xasprintf("%.*s***%s", (int)(value - shown), shown, value + n);
        free(shown);
        shown = more;
    }
    return shown;
}
