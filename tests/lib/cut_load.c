/* tests/lib/cut_load.c - see cut_load.h.
 */
#include "cut_load.h"
#include "stamp.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    DEPTH_MAX = 64,
    OP_SECTORS_MAX = 1024,
    READ_SECTORS = 1024,
    FILL_MS = 60000,
    COMMAND_SECONDS = 60,
    LATE_MS = 3000, /* for what is under way when the time is over */
};

struct cut_session {
    struct iscsi_context *iscsi;
};

volatile sig_atomic_t cut_stopping;

struct load;

struct op {
    struct load *load;
    enum { OP_FREE, OP_WRITE, OP_UNMAP, OP_SAME, OP_READ, OP_FLUSH } what;
    uint8_t disk;
    uint32_t lba, nsectors, number;
    uint8_t *data;
};

struct load {
    struct iscsi_context *iscsi;
    struct cut_model *m;
    struct op ops[DEPTH_MAX];
    unsigned depth, in_flight;
    bool flushing, over, filling;
    uint8_t fill_disk;
    uint32_t fill_lba;
    uint8_t *busy[CUT_DISKS_MAX]; /* by sector: something is under way there */
    uint64_t random_state;
    struct cut_load_result *result;
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint32_t random_below(struct load *l, uint32_t n)
{
    l->random_state = l->random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((l->random_state >> 33) % n);
}

/* --- the session ----------------------------------------------------------------------------------------*/

static bool try_login(struct cut_session *s, const char *text, char *why, size_t n)
{
    struct iscsi_url *url;
    bool good;

    s->iscsi = iscsi_create_context("iqn.2026-11.org.isthmus.test:cut-check");
    url = s->iscsi ? iscsi_parse_full_url(s->iscsi, text) : NULL;
    if (!url) {
        fprintf(stderr, "cut-check: %s is no iSCSI URL\n", text);
        exit(2);
    }
    iscsi_set_noautoreconnect(s->iscsi, 1);
    iscsi_set_session_type(s->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_timeout(s->iscsi, COMMAND_SECONDS);
    good = iscsi_full_connect_sync(s->iscsi, url->portal, url->lun) == 0;
    if (!good) {
        snprintf(why, n, "%s", iscsi_get_error(s->iscsi));
        iscsi_destroy_context(s->iscsi);
    }
    iscsi_destroy_url(url);
    return good;
}

struct cut_session *cut_login(const char *url, unsigned seconds)
{
    struct cut_session *s = calloc(1, sizeof *s);
    uint64_t until = now_ms() + seconds * 1000;
    char why[200] = "";

    while (s && !try_login(s, url, why, sizeof why)) {
        if (now_ms() > until || cut_stopping) {
            if (!cut_stopping)
                fprintf(stderr, "cut-check: no login within %u s: %s\n", seconds, why);
            free(s);
            return NULL;
        }
        usleep(10000);
    }
    return s;
}

void cut_logout(struct cut_session **session)
{
    if (!*session)
        return;
    iscsi_destroy_context((*session)->iscsi);
    free(*session);
    *session = NULL;
}

int cut_read_disks(struct cut_session *s, struct cut_model *m)
{
    for (unsigned d = 0; d < m->ndisks; d++)
        for (uint32_t lba = 0, n; lba < m->disks[d].nsectors; lba += n) {
            struct scsi_task *task;

            n = m->disks[d].nsectors - lba < READ_SECTORS ? m->disks[d].nsectors - lba : READ_SECTORS;
            task = iscsi_read16_sync(s->iscsi, (int)d, lba, n * STAMP_SECTOR, STAMP_SECTOR, 0, 0, 0, 0, 0);
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

/* --- what comes back ------------------------------------------------------------------------------------*/

static void check_read(struct load *l, const struct op *o, const struct scsi_task *task)
{
    const struct cut_disk *d = &l->m->disks[o->disk];

    if (task->datain.size != (int)(o->nsectors * STAMP_SECTOR)) {
        l->result->refused = true;
        return;
    }
    for (uint32_t i = 0; i < o->nsectors; i++) {
        const uint8_t *sector = task->datain.data + (size_t)i * STAMP_SECTOR;
        uint32_t shown = d->shown[o->lba + i];
        bool good = shown == CUT_ZEROS ? stamp_is_zero(sector) : stamp_is(sector, d->id, o->lba + i, shown);

        if (!good && l->result->stale++ < 5)
            fprintf(stderr, "cut-check: a read of disk %u, sector %u does not hold write %u\n", o->disk,
                    o->lba + i, shown);
    }
}

static void op_good(struct load *l, const struct op *o, const struct scsi_task *task)
{
    bool zeros = o->what == OP_UNMAP || o->what == OP_SAME;

    if (o->what == OP_FLUSH) {
        cut_flush(l->m, true);
        return;
    }
    if (o->what == OP_READ) {
        check_read(l, o, task);
        return;
    }
    l->result->acknowledged++;
    cut_done(l->m, o->number);
    for (uint32_t i = 0; i < o->nsectors; i++)
        l->m->disks[o->disk].shown[o->lba + i] = zeros ? CUT_ZEROS : o->number;
}

static void on_done(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct op *o = arg;
    struct load *l = o->load;

    l->in_flight--;
    if (status == SCSI_STATUS_GOOD) {
        op_good(l, o, data);
    } else {
        if (status == SCSI_STATUS_CHECK_CONDITION) {
            fprintf(stderr, "cut-check: refused: %s\n", iscsi_get_error(context));
            l->result->refused = true;
        }
        l->result->died = true;
    }
    if (o->what == OP_FLUSH)
        l->flushing = false;
    else if (status == SCSI_STATUS_GOOD)
        memset(l->busy[o->disk] + o->lba, 0, o->nsectors);
    o->what = OP_FREE;
    if (data)
        scsi_free_scsi_task(data);
}

/* --- what is sent ---------------------------------------------------------------------------------------*/

/* A place where nothing is under way, or false: try again later. Half of them are in a small part. */
static bool find_place(struct load *l, struct op *o)
{
    uint32_t sizes = random_below(l, 32), all;

    o->disk = (uint8_t)random_below(l, l->m->ndisks);
    all = l->m->disks[o->disk].nsectors;
    if (random_below(l, 2))
        all /= 8;
    o->nsectors = 1 + random_below(l, sizes == 0 ? OP_SECTORS_MAX : sizes < 8 ? 96 : 16);
    if (o->nsectors > all)
        o->nsectors = all;
    o->lba = random_below(l, all - o->nsectors + 1);
    if (random_below(l, 2) && o->nsectors >= 8) { /* as a file system does it */
        o->lba -= o->lba % 8;
        o->nsectors -= o->nsectors % 8;
    }
    return !memchr(l->busy[o->disk] + o->lba, 1, o->nsectors);
}

static struct scsi_task *send_write(struct load *l, struct op *o)
{
    for (uint32_t i = 0; i < o->nsectors; i++)
        stamp_make((struct stamp *)(void *)(o->data + (size_t)i * STAMP_SECTOR), l->m->disks[o->disk].id,
                   o->lba + i, o->number);
    return iscsi_write16_task(l->iscsi, o->disk, o->lba, o->data, o->nsectors * STAMP_SECTOR, STAMP_SECTOR, 0,
                              0, random_below(l, 16) == 0, 0, 0, on_done, o);
}

static struct scsi_task *send(struct load *l, struct op *o)
{
    static uint8_t zeros[STAMP_SECTOR];
    struct unmap_list piece = {.lba = o->lba, .num = o->nsectors};

    switch (o->what) {
    case OP_WRITE:
        return send_write(l, o);
    case OP_UNMAP:
        return iscsi_unmap_task(l->iscsi, o->disk, 0, 0, &piece, 1, on_done, o);
    case OP_SAME:
        return iscsi_writesame16_task(l->iscsi, o->disk, o->lba, zeros, STAMP_SECTOR, o->nsectors, 0,
                                      (int)random_below(l, 2), 0, 0, on_done, o);
    case OP_READ:
        return iscsi_read16_task(l->iscsi, o->disk, o->lba, o->nsectors * STAMP_SECTOR, STAMP_SECTOR, 0, 0, 0,
                                 0, 0, on_done, o);
    case OP_FLUSH:
        return iscsi_synchronizecache16_task(l->iscsi, o->disk, 0, 0, 0, 0, on_done, o);
    case OP_FREE:
        break;
    }
    return NULL;
}

static void choose(struct load *l, struct op *o)
{
    uint32_t kind = random_below(l, 64);

    o->what = OP_FREE;
    if (kind == 0 && !l->flushing) {
        o->what = OP_FLUSH;
        o->disk = 0;
        l->flushing = true;
        cut_flush(l->m, false);
        return;
    }
    if (!find_place(l, o))
        return;
    o->what = kind < 6 ? OP_READ : kind < 9 ? OP_UNMAP : kind < 12 ? OP_SAME : OP_WRITE;
    if (o->what != OP_READ)
        o->number = cut_begin(l->m, o->disk, o->what != OP_WRITE, o->lba, o->nsectors);
    memset(l->busy[o->disk] + o->lba, 1, o->nsectors);
}

static void choose_next(struct load *l, struct op *o)
{
    uint32_t left;

    if (l->fill_lba == l->m->disks[l->fill_disk].nsectors) {
        l->fill_lba = 0;
        l->over = ++l->fill_disk == l->m->ndisks;
        if (l->over)
            return;
    }
    left = l->m->disks[l->fill_disk].nsectors - l->fill_lba;
    o->what = OP_WRITE;
    o->disk = l->fill_disk;
    o->lba = l->fill_lba;
    o->nsectors = left < OP_SECTORS_MAX ? left : OP_SECTORS_MAX;
    o->number = cut_begin(l->m, o->disk, false, o->lba, o->nsectors);
    l->fill_lba += o->nsectors;
}

static void start_ops(struct load *l)
{
    for (unsigned i = 0; i < l->depth && !l->result->died && !l->over; i++) {
        struct op *o = &l->ops[i];

        if (o->what != OP_FREE)
            continue;
        if (l->filling)
            choose_next(l, o);
        else
            choose(l, o);
        if (o->what == OP_FREE)
            continue;
        l->in_flight++;
        if (!send(l, o)) {
            l->in_flight--;
            l->result->died = true;
        }
    }
}

static void begin(struct load *l)
{
    for (unsigned i = 0; i < l->depth; i++) {
        l->ops[i].load = l;
        l->ops[i].data = malloc(OP_SECTORS_MAX * STAMP_SECTOR);
    }
    for (unsigned d = 0; d < l->m->ndisks; d++)
        l->busy[d] = calloc(l->m->disks[d].nsectors, 1);
}

/* Commands that are lost with the connection are answered by the context's end: with it, `l` may go. */
static void end(struct load *l)
{
    iscsi_destroy_context(l->iscsi);
    for (unsigned i = 0; i < l->depth; i++)
        free(l->ops[i].data);
    for (unsigned d = 0; d < l->m->ndisks; d++)
        free(l->busy[d]);
}

static void run(struct load *l, struct cut_session *s, uint64_t until)
{
    memset(l->result, 0, sizeof *l->result);
    begin(l);
    while (!l->result->died && (!l->over || l->in_flight > 0)) {
        struct pollfd p = {.fd = iscsi_get_fd(l->iscsi)};

        start_ops(l);
        p.events = (short)iscsi_which_events(l->iscsi);
        if (poll(&p, 1, 50) < 0 || iscsi_service(l->iscsi, p.revents) < 0)
            l->result->died = true;
        l->over = l->over || cut_stopping || now_ms() >= until;
        if (now_ms() >= until + LATE_MS)
            break;
    }
    if (!l->result->died)
        iscsi_logout_sync(l->iscsi);
    end(l);
    free(s);
}

void cut_load(struct cut_session *s, struct cut_model *m, unsigned depth, unsigned milliseconds,
              uint64_t seed, struct cut_load_result *result)
{
    struct load l = {.iscsi = s->iscsi,
                     .m = m,
                     .depth = depth < DEPTH_MAX ? depth : DEPTH_MAX,
                     .random_state = seed,
                     .result = result};

    run(&l, s, now_ms() + milliseconds);
}

void cut_fill(struct cut_session *s, struct cut_model *m, struct cut_load_result *result)
{
    struct load l = {.iscsi = s->iscsi, .m = m, .depth = 4, .filling = true, .result = result};

    run(&l, s, now_ms() + FILL_MS);
}
