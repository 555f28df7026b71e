/* initiator/iscsi_target.c - from iscsi://[user[%secret]@]host[:port]/iqn/lun to what a session needs.
 */
#include "check.h"
#include "ds_base.h"
#include "iscsi_session.h"
#include "mem.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <string.h>
#include <unistd.h>

/* libiscsi's parser, whose own error text may hold the secret and is not shown. */
static struct iscsi_url *parse(const char *url, struct iscsi_context **context, struct why *why)
{
    CLEANUP_FREE char *shown = datastore_url_redact(url);
    struct iscsi_url *u;

    *context = iscsi_create_context("iqn.2026-11.org.isthmus:parse");
    CHECK(*context);
    u = iscsi_parse_full_url(*context, url);
    if (u && u->portal[0] && u->target[0] && u->lun >= 0)
        return u;
    why_set(why, -EINVAL, "'%s' is no iSCSI URL: use iscsi://[user%%secret@]HOST[:PORT]/IQN/LUN", shown);
    if (u)
        iscsi_destroy_url(u);
    iscsi_destroy_context(*context);
    return NULL;
}

/* "host", "host:port", "[address]" or "[address]:port". */
static int split_portal(const char *portal, char **host, unsigned *port)
{
    const char *end, *p = portal;
    char *stop;

    *port = 3260;
    if (*p == '[') {
        end = strchr(++p, ']');
        if (!end)
            return -EINVAL;
        *host = xstrndup(p, (size_t)(end - p));
        end++;
    } else {
        end = p + strcspn(p, ":,");
        *host = xstrndup(p, (size_t)(end - p));
    }
    if (*end != ':')
        return **host ? 0 : -EINVAL;
    *port = (unsigned)strtoul(end + 1, &stop, 10);
    return **host && *stop == '\0' && *port >= 1 && *port <= 65535 ? 0 : -EINVAL;
}

int ds_iscsi_url_check(const char *url, struct why *why)
{
    struct iscsi_context *context;
    struct iscsi_url *u = parse(url, &context, why);
    CLEANUP_FREE char *host = NULL;
    unsigned port;
    int err;

    if (!u)
        return -EINVAL;
    err = split_portal(u->portal, &host, &port);
    if (err)
        why_set(why, err, "'%s' is no host or host:port to reach an iSCSI target at", u->portal);
    iscsi_destroy_url(u);
    iscsi_destroy_context(context);
    return err;
}

static char *initiator_name(void)
{
    char host[65] = "onprem";

    gethostname(host, sizeof host - 1);
    for (char *p = host; *p; p++) {
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
        else if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789.-", *p))
            *p = '-';
    }
    return xasprintf("iqn.2026-11.org.isthmus:%s", host);
}

int iscsi_target_set(struct iscsi_target *t, const char *url, struct why *why)
{
    struct iscsi_context *context;
    struct iscsi_url *u = parse(url, &context, why);
    int err;

    if (!u)
        return -EINVAL;
    err = split_portal(u->portal, &t->host, &t->port);
    t->initiator = initiator_name();
    t->iqn = xstrdup(u->target);
    t->lun = u->lun;
    t->user = xstrdup(u->user);
    t->secret = xstrdup(u->passwd);
    t->target_user = xstrdup(u->target_user);
    t->target_secret = xstrdup(u->target_passwd);
    explicit_bzero(u->passwd, sizeof u->passwd);
    explicit_bzero(u->target_passwd, sizeof u->target_passwd);
    iscsi_destroy_url(u);
    iscsi_destroy_context(context);
    return err;
}

void iscsi_target_clear(struct iscsi_target *t)
{
    secret_free(&t->secret);
    secret_free(&t->target_secret);
    free(t->initiator);
    free(t->host);
    free(t->iqn);
    free(t->user);
    free(t->target_user);
}
