/* tests/lib/cut_session.c - logging in, at one path or the next, and looking at the disks; see cut_load.h.
 */
#include "cut_session.h"
#include "stamp.h"

#include <errno.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_SECTORS = 1024,
    COMMAND_SECONDS = 60,
    PATH_MS = 2000 /* for a login, if there is another path */
};

volatile sig_atomic_t cut_stopping;

uint64_t cut_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void cut_session_close(struct cut_session *s)
{
    if (s->iscsi)
        iscsi_destroy_context(s->iscsi);
    s->iscsi = NULL;
}

/* --- logging in -----------------------------------------------------------------------------------------*/

struct login {
    bool ended;
    int status;
};

static void on_login(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct login *l = arg;

    (void)context, (void)data;
    l->ended = true;
    l->status = status;
}

/* Between two paths somebody waits for what had no answer: that is not given up. */
static bool is_stopping(const struct cut_session *s)
{
    return cut_stopping && !s->used;
}

static bool try_login(struct cut_session *s, char *why, size_t n)
{
    const char *text = s->paths[s->at];
    uint64_t end = cut_now_ms() + (s->npaths > 1 ? PATH_MS : COMMAND_SECONDS * 1000);
    struct login login = {0};
    struct iscsi_url *url;

    s->iscsi = iscsi_create_context("iqn.2026-11.org.isthmus.test:cut-check");
    url = s->iscsi ? iscsi_parse_full_url(s->iscsi, text) : NULL;
    if (!url) {
        fprintf(stderr, "cut-check: %s is no iSCSI URL\n", text);
        exit(2);
    }
    iscsi_set_targetname(s->iscsi, url->target);
    iscsi_set_noautoreconnect(s->iscsi, 1);
    iscsi_set_session_type(s->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_timeout(s->iscsi, COMMAND_SECONDS);
    snprintf(why, n, "no answer");
    if (iscsi_full_connect_async(s->iscsi, url->portal, url->lun, on_login, &login) != 0)
        login = (struct login){true, SCSI_STATUS_ERROR};
    while (!login.ended && cut_now_ms() < end && !is_stopping(s)) {
        struct pollfd p = {.fd = iscsi_get_fd(s->iscsi)};

        p.events = (short)iscsi_which_events(s->iscsi);
        if (poll(&p, 1, 50) < 0 || iscsi_service(s->iscsi, p.revents) < 0)
            break;
    }
    iscsi_destroy_url(url);
    if (login.ended && login.status == SCSI_STATUS_GOOD)
        return true;
    if (*iscsi_get_error(s->iscsi))
        snprintf(why, n, "%s", iscsi_get_error(s->iscsi));
    cut_session_close(s); /* it may answer the login: that is ours until here */
    return false;
}

static bool log_in(struct cut_session *s, unsigned seconds)
{
    uint64_t until = cut_now_ms() + seconds * UINT64_C(1000);
    char why[200] = "";

    while (!try_login(s, why, sizeof why)) {
        if (cut_now_ms() > until || is_stopping(s)) {
            if (!is_stopping(s))
                fprintf(stderr, "cut-check: no login within %u s: %s\n", seconds, why);
            return false;
        }
        s->at = (s->at + 1) % s->npaths;
        usleep(10000);
    }
    s->used = true;
    return true;
}

struct cut_session *cut_login(char *const *urls, unsigned nurls, unsigned seconds)
{
    struct cut_session *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->paths = urls;
    s->npaths = nurls;
    if (!log_in(s, seconds)) {
        free(s);
        return NULL;
    }
    return s;
}

bool cut_next_path(struct cut_session *s, unsigned seconds)
{
    s->at = (s->at + 1) % s->npaths;
    return log_in(s, seconds);
}

void cut_logout(struct cut_session **session)
{
    if (!*session)
        return;
    cut_session_close(*session);
    free(*session);
    *session = NULL;
}

/* --- looking --------------------------------------------------------------------------------------------*/

/* NULL or with its status. What is told by a unit attention, as that another edge is the owner, is no answer.
 */
static struct scsi_task *read_sectors(struct cut_session *s, unsigned disk, uint32_t lba, uint32_t n)
{
    for (;;) {
        struct scsi_task *task =
            iscsi_read16_sync(s->iscsi, (int)disk, lba, n * STAMP_SECTOR, STAMP_SECTOR, 0, 0, 0, 0, 0);

        if (!task || task->status != SCSI_STATUS_CHECK_CONDITION ||
            task->sense.key != SCSI_SENSE_UNIT_ATTENTION)
            return task;
        scsi_free_scsi_task(task);
    }
}

int cut_read_disks(struct cut_session *s, struct cut_model *m)
{
    for (unsigned d = 0; d < m->ndisks; d++)
        for (uint32_t lba = 0, n; lba < m->disks[d].nsectors; lba += n) {
            struct scsi_task *task;

            n = m->disks[d].nsectors - lba < READ_SECTORS ? m->disks[d].nsectors - lba : READ_SECTORS;
            task = read_sectors(s, d, lba, n);
            if (!task || (task->status != SCSI_STATUS_GOOD && task->status != SCSI_STATUS_CHECK_CONDITION))
                return -EPIPE;
            if (task->status != SCSI_STATUS_GOOD || task->datain.size != (int)(n * STAMP_SECTOR)) {
                fprintf(stderr, "cut-check: read of disk %u at sector %u: %s\n", d, lba,
                        iscsi_get_error(s->iscsi));
                return -EIO;
            }
            cut_show(m, (uint8_t)d, lba, task->datain.data, n);
            scsi_free_scsi_task(task);
        }
    return 0;
}
