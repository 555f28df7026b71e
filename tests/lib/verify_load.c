/* verify-load - writes that can be recognised again: does an acknowledged write outlive the target?
 *
 *   verify-load prepare FILE SECTORS       a source disk whose sectors carry write number 0
 *   verify-load run URL STATE SECTORS [SEED]   checks what STATE remembers, then loads until the target dies
 *   verify-load check URL STATE SECTORS    checks only
 *
 * Every sector carries its address, the number of the write that made it and a checksum over a pattern made
 * from both. STATE (a mapped file) remembers for each sector the last acknowledged number and the one in
 * flight; there is never more than one in flight for a sector, so after a crash it may hold exactly one of
 * the two. Whichever was read stays: a later read may not go back. Prints "checked N lost N acknowledged N",
 * and exits 1 if anything was lost, 2 if the target refused something. A lost connection is the expected end
 * of `run`, and a unit attention is no refusal. One thread.
 */
#include "stamp.h"

#include <fcntl.h>
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    SECTOR = STAMP_SECTOR,
    DEPTH = 32,
    WRITE_SECTORS_MAX = 96,
    CHECK_SECTORS = 1024,
    LOGIN_SECONDS = 30,
};

struct sector_state {
    uint32_t acked;   /* number of the last acknowledged write; bit 31: it was of zeros */
    uint32_t pending; /* the one in flight, likewise; 0: none */
};
#define ZEROS 0x80000000U

struct state {
    uint32_t next_write; /* numbers given so far, over all runs */
    uint32_t acknowledged;
    struct sector_state sectors[];
};

struct write {
    struct scsi_task *task; /* ours to free, whether or not libiscsi calls back with it */
    bool busy, zeros, fua;
    uint32_t lba, nsectors, number;
    uint8_t data[WRITE_SECTORS_MAX * SECTOR];
};

static struct state *state;
static uint32_t nsectors;
static struct iscsi_context *iscsi;
static int lun;
static struct write writes[DEPTH];
static struct scsi_task *flush; /* one at a time */
static unsigned in_flight;
static bool connection_lost, refused;
static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)((random_state >> 33) % n);
}

/* Does the sector hold exactly what that write put there? */
static bool holds(const uint8_t *p, uint32_t lba, uint32_t write)
{
    return write & ZEROS ? stamp_is_zero(p) : stamp_is(p, 0, lba, write);
}

static int prepare(const char *path, uint32_t count)
{
    FILE *f = fopen(path, "w");
    struct stamp s;

    if (f == NULL) {
        perror(path);
        return 1;
    }
    for (uint32_t lba = 0; lba < count; lba++) {
        stamp_make(&s, 0, lba, 0);
        fwrite(&s, sizeof s, 1, f);
    }
    return fclose(f) != 0;
}

static void state_open(const char *path)
{
    size_t bytes = sizeof *state + (size_t)nsectors * sizeof *state->sectors;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
        (state = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED) {
        perror(path);
        exit(2);
    }
    close(fd);
}

/* Tries until the target answers: it may be starting. */
static void login(const char *url_text)
{
    for (int tenths = 0;; tenths++) {
        struct iscsi_url *url;

        iscsi = iscsi_create_context("iqn.2026-11.org.isthmus.test:verify-load");
        url = iscsi != NULL ? iscsi_parse_full_url(iscsi, url_text) : NULL;
        if (url == NULL) {
            fprintf(stderr, "verify-load: not an iSCSI URL\n");
            exit(2);
        }
        lun = url->lun;
        iscsi_set_noautoreconnect(iscsi, 1);
        iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
        if (iscsi_full_connect_sync(iscsi, url->portal, url->lun) == 0) {
            iscsi_destroy_url(url);
            return;
        }
        if (tenths == LOGIN_SECONDS * 10) {
            fprintf(stderr, "verify-load: no login within %d s: %s\n", LOGIN_SECONDS, iscsi_get_error(iscsi));
            exit(2);
        }
        iscsi_destroy_url(url);
        iscsi_destroy_context(iscsi);
        usleep(100000);
    }
}

static void sector_report(const uint8_t *p, uint32_t lba, const struct sector_state *s)
{
    struct stamp found;

    memcpy(&found, p, sizeof found);
    fprintf(stderr, "verify-load: sector %u: acknowledged write %u%s, in flight %u%s, found ", lba,
            s->acked & ~ZEROS, s->acked & ZEROS ? " (zeros)" : "", s->pending & ~ZEROS,
            s->pending & ZEROS ? " (zeros)" : "");
    if (stamp_is_zero(p))
        fprintf(stderr, "zeros\n");
    else if (found.magic == STAMP_MAGIC)
        fprintf(stderr, "write %u of sector %" PRIu64 "\n", found.write, found.lba);
    else
        fprintf(stderr, "bytes of nobody\n");
}

/* What was to be told has been told, and nothing was done: it is said again. */
static bool told(int status, const struct scsi_task *task)
{
    return status == SCSI_STATUS_CHECK_CONDITION && task != NULL &&
           task->sense.key == SCSI_SENSE_UNIT_ATTENTION;
}

/* NULL or with its status; an edge of a pair may become the owner in the midst of a check. */
static struct scsi_task *read_sectors(uint32_t lba, uint32_t n)
{
    for (;;) {
        struct scsi_task *task = iscsi_read16_sync(iscsi, lun, lba, n * SECTOR, SECTOR, 0, 0, 0, 0, 0);

        if (task == NULL || !told(task->status, task))
            return task;
        scsi_free_scsi_task(task);
    }
}

/* Reads every sector back; returns how many hold neither of the two allowed contents. */
static uint32_t check_all(void)
{
    uint32_t lost = 0;

    for (uint32_t lba = 0; lba < nsectors; lba += CHECK_SECTORS) {
        uint32_t n = nsectors - lba < CHECK_SECTORS ? nsectors - lba : CHECK_SECTORS;
        struct scsi_task *task = read_sectors(lba, n);

        if (task == NULL || task->status != SCSI_STATUS_GOOD || task->datain.size != (int)(n * SECTOR)) {
            fprintf(stderr, "verify-load: read at sector %u: %s\n", lba, iscsi_get_error(iscsi));
            exit(2);
        }
        for (uint32_t i = 0; i < n; i++) {
            struct sector_state *s = &state->sectors[lba + i];
            const uint8_t *p = task->datain.data + (size_t)i * SECTOR;

            if (s->pending != 0 && holds(p, lba + i, s->pending)) {
                s->acked = s->pending;
            } else if (!holds(p, lba + i, s->acked)) {
                if (lost++ < 10)
                    sector_report(p, lba + i, s);
            }
            s->pending = 0;
        }
        scsi_free_scsi_task(task);
    }
    return lost;
}

static void write_send(struct write *);

static void task_free(struct scsi_task **task)
{
    if (*task)
        scsi_free_scsi_task(*task);
    *task = NULL;
}

static void on_written(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct write *w = arg;

    w->busy = false;
    in_flight--;
    if (told(status, data)) {
        task_free(&w->task);
        write_send(w);
        return;
    }
    if (status == SCSI_STATUS_GOOD) {
        state->acknowledged++;
        for (uint32_t lba = w->lba; lba < w->lba + w->nsectors; lba++) {
            state->sectors[lba].acked = state->sectors[lba].pending;
            state->sectors[lba].pending = 0;
        }
    } else {
        if (status == SCSI_STATUS_CHECK_CONDITION) {
            fprintf(stderr, "verify-load: write refused: %s\n", iscsi_get_error(context));
            refused = true;
        }
        connection_lost = true;
    }
    task_free(&w->task);
}

static void on_flushed(struct iscsi_context *context, int status, void *data, void *arg)
{
    (void)context;
    (void)arg;
    in_flight--;
    if (status != SCSI_STATUS_GOOD && !told(status, data))
        connection_lost = true;
    task_free(&flush);
}

/* A place where nothing is in flight, or false: try again later. */
static bool write_place(struct write *w)
{
    w->nsectors = 1 + random_below(random_below(4) == 0 ? WRITE_SECTORS_MAX : 16);
    w->lba = random_below(nsectors - w->nsectors);
    for (uint32_t lba = w->lba; lba < w->lba + w->nsectors; lba++) {
        if (state->sectors[lba].pending != 0)
            return false;
    }
    return true;
}

static void write_send(struct write *w)
{
    static uint8_t zeros[SECTOR];

    w->busy = true;
    in_flight++;
    if (w->zeros)
        w->task =
            iscsi_writesame16_task(iscsi, lun, w->lba, zeros, SECTOR, w->nsectors, 0, 1, 0, 0, on_written, w);
    else
        w->task = iscsi_write16_task(iscsi, lun, w->lba, w->data, w->nsectors * SECTOR, SECTOR, 0, 0, w->fua,
                                     0, 0, on_written, w);
    if (w->task == NULL) {
        in_flight--;
        connection_lost = true;
    }
}

static void write_start(struct write *w)
{
    if (!write_place(w))
        return;
    w->fua = random_below(16) == 0;
    w->number = ++state->next_write;
    w->zeros = random_below(20) == 0;
    for (uint32_t i = 0; i < w->nsectors; i++) {
        struct stamp s;

        state->sectors[w->lba + i].pending = w->number | (w->zeros ? ZEROS : 0);
        stamp_make(&s, 0, w->lba + i, w->number);
        memcpy(w->data + (size_t)i * SECTOR, &s, SECTOR);
    }
    write_send(w);
}

static void load(void)
{
    uint32_t turns = 0;

    while (!connection_lost) {
        struct pollfd p = {.fd = iscsi_get_fd(iscsi)};

        for (unsigned i = 0; i < DEPTH && !connection_lost; i++) {
            if (!writes[i].busy)
                write_start(&writes[i]);
        }
        if (++turns % 64 == 0 && !flush) {
            in_flight++;
            flush = iscsi_synchronizecache16_task(iscsi, lun, 0, 0, 0, 0, on_flushed, NULL);
            if (flush == NULL) {
                in_flight--;
                break;
            }
        }
        p.events = (short)iscsi_which_events(iscsi);
        if (poll(&p, 1, 1000) < 0 || iscsi_service(iscsi, p.revents) < 0)
            break;
    }
}

int main(int argc, char **argv)
{
    bool run = argc >= 5 && strcmp(argv[1], "run") == 0;
    uint32_t lost, before;

    if (argc == 4 && strcmp(argv[1], "prepare") == 0)
        return prepare(argv[2], (uint32_t)atoi(argv[3]));
    if (!run && (argc != 5 || strcmp(argv[1], "check") != 0)) {
        fprintf(stderr, "usage: verify-load prepare FILE SECTORS | run URL STATE SECTORS [SEED] |\n"
                        "                   check URL STATE SECTORS\n");
        return 2;
    }
    nsectors = (uint32_t)atoi(argv[4]);
    random_state = argc > 5 ? strtoull(argv[5], NULL, 0) : (uint64_t)time(NULL);
    state_open(argv[3]);
    login(argv[2]);
    lost = check_all();
    before = state->acknowledged;
    if (run && lost == 0) {
        printf("loading\n");
        fflush(stdout);
        load();
    }
    printf("checked %u lost %u acknowledged %u\n", nsectors, lost, state->acknowledged - before);
    iscsi_destroy_context(iscsi);
    for (unsigned i = 0; i < DEPTH; i++)
        task_free(&writes[i].task);
    task_free(&flush);
    return lost != 0 ? 1 : refused ? 2 : 0;
}
