/* two-ports - one initiator port of libiscsi that is logged in by two portals at once, and does as it is
 * told.
 *
 *   two-ports URL1 URL2 STEP...
 *
 * A step is "PORT [conflicts] VERB [ARGUMENT...]": PORT 1 or 2 says by which of the two. It must end with
 * GOOD, or after "conflicts" with RESERVATION CONFLICT; the first that does not ends all with a sentence and
 * status 1.
 *
 *   read, write             the LUN's first sector
 *   register OLD NEW [all]  REGISTER with APTPL; all: with ALL_TG_PT; "brief" instead: without APTPL
 *   reserve KEY TYPE        RESERVE
 *   full                    READ FULL STATUS: prints "registered KEY@PORT...", * for holders
 *   groups                  REPORT TARGET PORT GROUPS: prints "groups TAG=STATE..."
 *   port                    INQUIRY, page 83h: prints "port N", the relative target port of this path
 *   identity                the same page: prints "identity HEX", the NAA id of the LUN
 *   preempt MINE ITS TYPE   PREEMPT
 *   told ASCQ               TEST UNIT READY: a unit attention, which is this one
 *   login                   a new login: the target closes the session that was there
 *
 * INITIATOR names the initiator.
 */
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 6, ANSWER_MAX = 4096, SECTOR = 512 };

static struct path {
    struct iscsi_context *iscsi;
    struct iscsi_url *url;
} paths[2];

static _Noreturn void die(const char *step, const struct path *p, const char *what)
{
    fprintf(stderr, "two-ports: %s: %s (%s)\n", step, what,
            p->iscsi ? iscsi_get_error(p->iscsi) : "no session");
    exit(1);
}

/* Both with one name and ISID. */
static void login(struct path *p, const char *text)
{
    const char *name = getenv("INITIATOR");

    p->iscsi = iscsi_create_context(name ? name : "iqn.2026-11.org.isthmus.test:two-ports");
    if (!p->iscsi)
        die("login", p, "no memory");
    p->url = iscsi_parse_full_url(p->iscsi, text);
    if (!p->url)
        die("login", p, "not a URL");
    iscsi_set_isid_random(p->iscsi, 0x731573, 7);
    iscsi_set_session_type(p->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_noautoreconnect(p->iscsi, 1);
    if (iscsi_full_connect_sync(p->iscsi, p->url->portal, p->url->lun) != 0)
        die("login", p, text);
}

static uint64_t be(const unsigned char *p, unsigned n)
{
    uint64_t value = 0;

    while (n--)
        value = value << 8 | *p++;
    return value;
}

/* --- commands --- */

static struct scsi_task *read_or_write(const struct path *p, bool writes)
{
    static unsigned char sector[SECTOR];
    int lun = p->url->lun;

    return writes ? iscsi_write16_sync(p->iscsi, lun, 0, sector, SECTOR, SECTOR, 0, 0, 0, 0, 0)
                  : iscsi_read16_sync(p->iscsi, lun, 0, SECTOR, SECTOR, 0, 0, 0, 0, 0);
}

static struct scsi_task *reserve_out(const struct path *p, enum scsi_persistent_out_sa action, int type,
                                     const char *key, const char *service_key, const char *how)
{
    struct scsi_persistent_reserve_out_basic basic = {
        .reservation_key = strtoull(key, NULL, 0),
        .service_action_reservation_key = strtoull(service_key, NULL, 0),
        .all_tg_pt = !strcmp(how, "all"),
        .aptpl = action == SCSI_PERSISTENT_RESERVE_REGISTER && strcmp(how, "brief") != 0};

    return iscsi_persistent_reserve_out_sync(p->iscsi, p->url->lun, (int)action,
                                             SCSI_PERSISTENT_RESERVE_SCOPE_LU, type, &basic);
}

static struct scsi_task *target_port_groups(const struct path *p)
{
    unsigned char cdb[12] = {0xa3, 0x0a, [8] = ANSWER_MAX >> 8};
    struct scsi_task *task = scsi_create_task(sizeof cdb, cdb, SCSI_XFER_READ, ANSWER_MAX);

    return task ? iscsi_scsi_command_sync(p->iscsi, p->url->lun, task, NULL) : NULL;
}

/* --- answers --- */

static void show_full(const unsigned char *p, size_t n)
{
    printf("registered");
    for (size_t at = 8; at + 24 <= n; at += 24 + be(p + at + 20, 4))
        printf(" %#" PRIx64 "@%u%s", be(p + at, 8), (unsigned)be(p + at + 18, 2), p[at + 12] & 1 ? "*" : "");
    printf("\n");
}

static void show_groups(const unsigned char *p, size_t n)
{
    printf("groups");
    for (size_t at = 4; at + 8 <= n; at += 8 + (size_t)4 * p[at + 7])
        printf(" %u=%s", (unsigned)be(p + at + 2, 2),
               (p[at] & 15) == 0   ? "optimized"
               : (p[at] & 15) == 1 ? "non-optimized"
               : (p[at] & 15) == 3 ? "unavailable"
                                   : "otherwise");
    printf("\n");
}

static void show_port(const unsigned char *p, size_t n)
{
    for (size_t at = 4; at + 8 <= n; at += (size_t)4 + p[at + 3])
        if ((p[at + 1] & 0x3f) == 0x14) /* of the target port, relative identifier */
            printf("port %u\n", (unsigned)be(p + at + 6, 2));
}

static void show_identity(const unsigned char *p, size_t n)
{
    for (size_t at = 4; at + 4 <= n; at += (size_t)4 + p[at + 3])
        if ((p[at + 1] & 0x3f) == 0x03) /* of the logical unit, NAA */
            printf("identity %0*" PRIx64 "\n", 2 * p[at + 3], be(p + at + 4, p[at + 3]));
}

/* --- steps --- */

/* Nothing was asked: what comes then is the end of the connection. */
static void expect_closed(const char *step, const struct path *p)
{
    struct pollfd wait = {.fd = iscsi_get_fd(p->iscsi), .events = POLLIN};

    while (poll(&wait, 1, 10000) == 1)
        if (iscsi_service(p->iscsi, wait.revents) != 0)
            return;
    die(step, p, "the session that was is still there");
}

static void leave(struct path *p)
{
    iscsi_destroy_url(p->url);
    iscsi_destroy_context(p->iscsi);
}

static void login_again(const char *step, struct path *p, const char *url)
{
    struct path old = *p;

    login(p, url);
    expect_closed(step, &old);
    leave(&old);
}

static void expect_told(const char *step, const struct path *p, const char *ascq)
{
    struct scsi_task *task = iscsi_testunitready_sync(p->iscsi, p->url->lun);

    if (!task || task->status != SCSI_STATUS_CHECK_CONDITION ||
        task->sense.key != SCSI_SENSE_UNIT_ATTENTION || task->sense.ascq != strtol(ascq, NULL, 0))
        die(step, p, "it was not told so");
    scsi_free_scsi_task(task);
}

static struct scsi_task *run(const char *step, const struct path *p, char **word, unsigned n,
                             void (**show)(const unsigned char *, size_t))
{
    if (n == 1 && (!strcmp(word[0], "read") || !strcmp(word[0], "write")))
        return read_or_write(p, !strcmp(word[0], "write"));
    if ((n == 3 || n == 4) && !strcmp(word[0], "register"))
        return reserve_out(p, SCSI_PERSISTENT_RESERVE_REGISTER, 0, word[1], word[2], n == 4 ? word[3] : "");
    if (n == 3 && !strcmp(word[0], "reserve"))
        return reserve_out(p, SCSI_PERSISTENT_RESERVE_RESERVE, atoi(word[2]), word[1], "0", "");
    if (n == 1 && !strcmp(word[0], "full")) {
        *show = show_full;
        return iscsi_persistent_reserve_in_sync(p->iscsi, p->url->lun,
                                                SCSI_PERSISTENT_RESERVE_READ_FULL_STATUS, ANSWER_MAX);
    }
    if (n == 1 && !strcmp(word[0], "groups")) {
        *show = show_groups;
        return target_port_groups(p);
    }
    if (n == 4 && !strcmp(word[0], "preempt"))
        return reserve_out(p, SCSI_PERSISTENT_RESERVE_PREEMPT, atoi(word[3]), word[1], word[2], "");
    if (n == 1 && (!strcmp(word[0], "port") || !strcmp(word[0], "identity"))) {
        *show = *word[0] == 'p' ? show_port : show_identity;
        return iscsi_inquiry_sync(p->iscsi, p->url->lun, 1, 0x83, 255);
    }
    die(step, p, "not a step");
}

static void play(const char *step, char **urls)
{
    void (*show)(const unsigned char *, size_t) = NULL;
    char text[200], *word[WORDS_MAX], *rest = text, *w;
    int wanted = SCSI_STATUS_GOOD;
    struct scsi_task *task;
    unsigned n = 0, first = 1;
    struct path *p;

    snprintf(text, sizeof text, "%s", step);
    while (n < WORDS_MAX && (w = strsep(&rest, " ")))
        word[n++] = w;
    if (n < 2 || (strcmp(word[0], "1") != 0 && strcmp(word[0], "2") != 0))
        die(step, &paths[0], "it does not begin with 1 or 2");
    p = &paths[word[0][0] - '1'];
    if (!strcmp(word[1], "conflicts")) {
        wanted = SCSI_STATUS_RESERVATION_CONFLICT;
        first = 2;
    }
    if (!strcmp(word[1], "login")) {
        login_again(step, p, urls[p - paths]);
        return;
    }
    if (!strcmp(word[1], "told") && n == 3) {
        expect_told(step, p, word[2]);
        return;
    }
    task = run(step, p, word + first, n - first, &show);
    if (!task || task->status != wanted)
        die(step, p, "it did not end so");
    if (show)
        show(task->datain.data, (size_t)task->datain.size);
    scsi_free_scsi_task(task);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: two-ports URL1 URL2 STEP...\n");
        return 2;
    }
    for (int i = 0; i < 2; i++)
        login(&paths[i], argv[1 + i]);
    for (int i = 3; i < argc; i++)
        play(argv[i], argv + 1);
    for (int i = 0; i < 2; i++)
        leave(&paths[i]);
    return 0;
}
