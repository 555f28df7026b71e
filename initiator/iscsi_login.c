/* initiator/iscsi_login.c - an iSCSI session from IDLE to PROBING: resolve, connect, log in, follow a
 * redirection.
 *
 * Loop thread, mostly with libiscsi on the stack: failures are noted by iscsi_session_give_up().
 */
#include "check.h"
#include "crc32c.h"
#include "iscsi_session_inside.h"
#include "log.h"
#include "resolve.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "iscsi";

enum { REDIRECTS_MAX = 4 };

static void on_login(struct iscsi_context *context, int status, void *data, void *arg);

static void on_connect(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct iscsi_session *s = arg;

    (void)data;
    if (s->destroying)
        return;
    if (status != SCSI_STATUS_GOOD || s->state != CONNECTING) {
        iscsi_session_give_up(s, false, "cannot reach %s port %u: %s", s->host, s->port,
                              iscsi_get_error(context));
        return;
    }
    iscsi_session_enter(s, LOGIN);
    if (iscsi_login_async(context, on_login, s) != 0)
        iscsi_session_give_up(s, false, "cannot log in to %s: %s", s->target->iqn, iscsi_get_error(context));
}

/* Login status (RFC 7143, 11.13.5), which libiscsi hands over in its text only, in parentheses at the end. */
static unsigned login_status(const char *text)
{
    const char *p = strrchr(text, '(');
    unsigned status = 0;

    if (p)
        sscanf(p, "(%u)", &status);
    return status;
}

static void login_failed(struct iscsi_session *s, const char *text)
{
    const struct iscsi_target *t = s->target;
    unsigned status = login_status(text);
    char reason[160];

    switch (status) {
    case 0x0201:
        snprintf(reason, sizeof reason, "authentication failure; check user and secret");
        break;
    case 0x0202:
        snprintf(reason, sizeof reason, "not authorized; allow initiator %.80s on the target", t->initiator);
        break;
    case 0x0203:
        snprintf(reason, sizeof reason, "no such target; check the name, and that %.80s may see it",
                 t->initiator);
        break;
    case 0x0204:
        snprintf(reason, sizeof reason, "the target was removed");
        break;
    default:
        snprintf(reason, sizeof reason, "%.150s", text);
    }
    iscsi_session_give_up(s, status >> 8 == 2, "cannot log in to %s at %s port %u: %s", t->iqn, s->host,
                          s->port, reason);
}

/* "address:port[,tag]", with brackets around an IPv6 address: go there for this once. */
static void follow(struct iscsi_session *s, const char *address)
{
    char host[sizeof s->host];
    unsigned port = 3260;
    int n = address[0] == '[' ? sscanf(address, "[%255[^]]]:%u", host, &port)
                              : sscanf(address, "%255[^:,]:%u", host, &port);

    if (n < 1 || port == 0 || port > 65535 || s->redirects >= REDIRECTS_MAX) {
        iscsi_session_give_up(s, true, "%s at %s sends us elsewhere, to no usable address", s->target->iqn,
                              s->host);
        return;
    }
    log_info(s->id, "%s port %u sends us to %s port %u", s->host, s->port, host, port);
    snprintf(s->host, sizeof s->host, "%s", host);
    s->port = port;
    s->redirects++;
    iscsi_session_give_up(s, false, "moved");
    s->lost_why.text[0] = '\0';
}

static void on_login(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct iscsi_session *s = arg;

    (void)data;
    if (s->destroying || s->lost)
        return;
    if (status == SCSI_STATUS_REDIRECT) {
        follow(s, iscsi_get_target_address(context));
    } else if (status != SCSI_STATUS_GOOD) {
        login_failed(s, iscsi_get_error(context));
    } else {
        iscsi_session_heard(s);
        iscsi_session_enter(s, PROBING);
        iscsi_ask_all(s);
    }
}

static void set_secrets(struct iscsi_session *s)
{
    const struct iscsi_target *t = s->target;

    if (t->user[0])
        iscsi_set_initiator_username_pwd(s->context, t->user, t->secret);
    if (t->target_user[0])
        iscsi_set_target_username_pwd(s->context, t->target_user, t->target_secret);
}

/* The same initiator port (name and ISID) at every login: the target then ends what was left of the session
 * before, and knows its registration again. Another for each disk and session. */
static void set_port(struct iscsi_session *s)
{
    const struct iscsi_target *t = s->target;
    uint32_t hash = crc32c(crc32c(0, t->disk, strlen(t->disk)), t->iqn, strlen(t->iqn));

    hash = crc32c(hash, &t->lun, sizeof t->lun);
    iscsi_set_isid_random(s->context, hash & 0xffffff, hash >> 24 << 8 | s->number);
}

static void on_resolved(void *arg, int status, const char *address, const struct why *why)
{
    struct iscsi_session *s = arg;
    char portal[300];

    s->resolve = NULL;
    if (status) {
        iscsi_session_give_up(s, false, "%s", why->text);
        iscsi_session_settle(s);
        return;
    }
    iscsi_session_enter(s, CONNECTING);
    s->context = iscsi_create_context(s->target->initiator);
    CHECK(s->context);
    iscsi_set_noautoreconnect(s->context, 1);
    iscsi_set_targetname(s->context, s->target->iqn);
    iscsi_set_session_type(s->context, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(s->context, ISCSI_HEADER_DIGEST_NONE_CRC32C);
    set_port(s);
    set_secrets(s);
    snprintf(portal, sizeof portal, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, s->port);
    s->serving = true;
    if (iscsi_connect_async(s->context, portal, on_connect, s) != 0)
        iscsi_session_give_up(s, false, "cannot reach %s port %u: %s", s->host, s->port,
                              iscsi_get_error(s->context));
    s->serving = false;
    iscsi_session_settle(s);
}

void iscsi_login_start(struct iscsi_session *s)
{
    if (s->redirects == 0) {
        snprintf(s->host, sizeof s->host, "%s", s->target->host);
        s->port = s->target->port;
    }
    iscsi_session_enter(s, RESOLVING);
    s->lost_why.text[0] = '\0';
    s->resolve = resolve_start(s->loop, s->host, s->fails, on_resolved, s);
}
