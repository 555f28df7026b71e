/* tests/lib/cut_load.c - see cut_load.h.
 */
#include "cut_load.h"
#include "cut_session.h"
#include "stamp.h"

#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEPTH_MAX = 64,
    OP_SECTORS_MAX = 1024,
    FILL_MS = 60000,
    LATE_MS = 3000,        /* for what is under way when the time is over, */
    PATHS_LATE_MS = 60000, /* and with several paths */
};

struct load;

struct op {
    struct load *load;
    enum { OP_FREE, OP_WRITE, OP_UNMAP, OP_SAME, OP_READ, OP_FLUSH } what;
    uint8_t disk;
    uint32_t lba, nsectors, number;
    uint8_t *data;
    struct scsi_task *task; /* while it is sent */
    bool again;             /* to be sent once more: its path was lost, or it was told to */
};

struct load {
    struct cut_session *session;
    struct cut_model *m;
    struct op ops[DEPTH_MAX];
    unsigned depth, in_flight;
    unsigned waiting; /* of ops: to be sent again */
    bool flushing, over, filling, path_lost;
    uint64_t answered_ms, path_ms; /* when there was an answer last, and when this path was taken */
    uint8_t fill_disk;
    uint32_t fill_lba;
    uint8_t *busy[CUT_DISKS_MAX]; /* by sector: something is under way there */
    uint64_t random_state;
    struct cut_load_result *result;
};

static uint32_t random_below(struct load *l, uint32_t n)
{
    l->random_state = l->random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((l->random_state >> 33) % n);
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

static void answered(struct load *l)
{
    uint64_t now = cut_now_ms();

    if (now - l->answered_ms > l->result->stall_ms)
        l->result->stall_ms = (unsigned)(now - l->answered_ms);
    l->answered_ms = now;
}

/* With several paths an initiator sends it again: here, if the target says so; at the next path, if this one
 * is lost. */
static bool is_again(struct load *l, int status, const struct scsi_task *task)
{
    if (l->session->npaths < 2)
        return false;
    if (status == SCSI_STATUS_BUSY)
        return true;
    if (status == SCSI_STATUS_CHECK_CONDITION)
        return task && (task->sense.key == SCSI_SENSE_UNIT_ATTENTION ||
                        task->sense.key == SCSI_SENSE_COMMAND_ABORTED ||
                        (task->sense.key == SCSI_SENSE_NOT_READY && task->sense.ascq >> 8 == 0x04));
    l->path_lost = true;
    return true;
}

static void on_done(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct op *o = arg;
    struct load *l = o->load;

    l->in_flight--;
    if (status == SCSI_STATUS_GOOD) {
        answered(l);
        op_good(l, o, data);
    } else if (is_again(l, status, data)) {
        o->again = true;
        l->waiting++;
        if (data)
            scsi_free_scsi_task(data);
        return;
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
    return iscsi_write16_task(l->session->iscsi, o->disk, o->lba, o->data, o->nsectors * STAMP_SECTOR,
                              STAMP_SECTOR, 0, 0, random_below(l, 16) == 0, 0, 0, on_done, o);
}

static struct scsi_task *send(struct load *l, struct op *o)
{
    static uint8_t zeros[STAMP_SECTOR];
    struct unmap_list piece = {.lba = o->lba, .num = o->nsectors};

    switch (o->what) {
    case OP_WRITE:
        return send_write(l, o);
    case OP_UNMAP:
        return iscsi_unmap_task(l->session->iscsi, o->disk, 0, 0, &piece, 1, on_done, o);
    case OP_SAME:
        return iscsi_writesame16_task(l->session->iscsi, o->disk, o->lba, zeros, STAMP_SECTOR, o->nsectors, 0,
                                      (int)random_below(l, 2), 0, 0, on_done, o);
    case OP_READ:
        return iscsi_read16_task(l->session->iscsi, o->disk, o->lba, o->nsectors * STAMP_SECTOR, STAMP_SECTOR,
                                 0, 0, 0, 0, 0, on_done, o);
    case OP_FLUSH:
        return iscsi_synchronizecache16_task(l->session->iscsi, o->disk, 0, 0, 0, 0, on_done, o);
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

/* What the op is about next; false: nothing now. */
static bool op_ready(struct load *l, struct op *o)
{
    if (o->again) {
        o->again = false;
        l->waiting--;
        return true;
    }
    if (o->what != OP_FREE || l->over)
        return false;
    if (l->filling)
        choose_next(l, o);
    else
        choose(l, o);
    return o->what != OP_FREE;
}

static void start_ops(struct load *l)
{
    for (unsigned i = 0; i < l->depth && !l->result->died && !l->path_lost; i++) {
        struct op *o = &l->ops[i];

        if (!op_ready(l, o))
            continue;
        l->in_flight++;
        o->task = send(l, o);
        if (!o->task) {
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
    cut_session_close(l->session);
    for (unsigned i = 0; i < l->depth; i++)
        free(l->ops[i].data);
    for (unsigned d = 0; d < l->m->ndisks; d++)
        free(l->busy[d]);
}

static void lost(struct load *l)
{
    if (l->session->npaths < 2)
        l->result->died = true;
    l->path_lost = true;
}

/* What had no answer is told so by the end of its session; not so if the target had asked for a logout: then
 * libiscsi forgets it without a word. */
static void take_back(struct load *l)
{
    for (unsigned i = 0; i < l->depth; i++)
        if (l->ops[i].what != OP_FREE && !l->ops[i].again) {
            scsi_free_scsi_task(l->ops[i].task);
            l->ops[i].again = true;
            l->in_flight--;
            l->waiting++;
        }
}

static void next_path(struct load *l, uint64_t until)
{
    uint64_t now = cut_now_ms(), end = until + PATHS_LATE_MS;

    fprintf(stderr, "path %u lost after %u ms without an answer: %s\n", l->session->at,
            (unsigned)(now - l->answered_ms), iscsi_get_error(l->session->iscsi));
    cut_session_close(l->session);
    take_back(l);
    l->result->switches++;
    l->path_lost = false;
    if (now >= end || !cut_next_path(l->session, (unsigned)((end - now) / 1000)))
        l->result->died = true;
    l->path_ms = cut_now_ms();
}

static bool is_silent(const struct load *l)
{
    uint64_t since = l->answered_ms > l->path_ms ? l->answered_ms : l->path_ms;

    return l->session->npaths > 1 && l->in_flight && cut_now_ms() - since >= CUT_PATIENCE_MS;
}

static void serve(struct load *l)
{
    struct pollfd p = {.fd = iscsi_get_fd(l->session->iscsi)};

    p.events = (short)iscsi_which_events(l->session->iscsi);
    if (poll(&p, 1, 50) < 0 || iscsi_service(l->session->iscsi, p.revents) < 0)
        lost(l);
    if (is_silent(l))
        lost(l);
}

static void run(struct load *l, struct cut_session *s, uint64_t until)
{
    uint64_t late = until + (s->npaths > 1 ? PATHS_LATE_MS : LATE_MS);

    memset(l->result, 0, sizeof *l->result);
    l->session = s;
    l->answered_ms = cut_now_ms();
    begin(l);
    while (!l->result->died && (!l->over || l->in_flight > 0 || l->waiting > 0)) {
        start_ops(l);
        serve(l);
        if (l->path_lost && !l->result->died)
            next_path(l, until);
        l->over = l->over || cut_stopping || cut_now_ms() >= until;
        if (cut_now_ms() >= late) {
            l->result->died |= s->npaths > 1;
            break;
        }
    }
    if (!l->result->died)
        iscsi_logout_sync(s->iscsi);
    end(l);
    free(s);
}

void cut_load(struct cut_session *s, struct cut_model *m, unsigned depth, unsigned milliseconds,
              uint64_t seed, struct cut_load_result *result)
{
    struct load l = {
        .m = m, .depth = depth < DEPTH_MAX ? depth : DEPTH_MAX, .random_state = seed, .result = result};

    run(&l, s, cut_now_ms() + milliseconds);
}

void cut_fill(struct cut_session *s, struct cut_model *m, struct cut_load_result *result)
{
    struct load l = {.m = m, .depth = 4, .filling = true, .result = result};

    run(&l, s, cut_now_ms() + FILL_MS);
}
