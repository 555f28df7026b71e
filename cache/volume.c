/* cache/volume.c - a disk as its initiator sees it. Reads go down the tiers; writes go to the log, and into
 * the RAM tier in the order of the log. The volume itself holds no data.
 */
#include "check.h"
#include "map.h"
#include "mem.h"
#include "metric.h"
#include "tier_peer.h"
#include "volume_peer.h"
#include "wire.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct volume {
    struct loop *loop;
    struct vmlog *log;
    const struct map *map;
    struct tier *top, *peer;
    uint8_t disk;
    uint64_t sectors;
    uint32_t block_bytes;
    uint8_t naa[8];
    char serial[17];
    uint64_t in_flight; /* I/Os not answered yet */
    const struct lease_gate *gate;
    TAILQ_HEAD(, io) held; /* reads that wait for it, oldest first */
    struct timer held_timer;
    struct metric *read_seconds, *read_bytes;

    struct task closing;
    bool tiers_idle;
    void (*closed)(void *arg);
    void *closed_arg;
};

enum { HELD_POLL_MS = 10 };

static void on_held(struct timer *t);

/* NAA 3h: locally assigned (SPC-4 7.8.6.5.5). The same on every edge and for ever: it comes from the VM's
 * id and the disk's number alone. */
void volume_make_naa(const uint8_t *vm_id, uint8_t disk, uint8_t naa[8])
{
    uint8_t text[VMLOG_ID_BYTES + 1], hash[SHA256_DIGEST_LENGTH];

    memcpy(text, vm_id, VMLOG_ID_BYTES);
    text[VMLOG_ID_BYTES] = disk;
    SHA256(text, sizeof text, hash);
    memcpy(naa, hash, 8);
    naa[0] = (uint8_t)(0x30 | (naa[0] & 0x0f));
}

static uint64_t blocks_of(uint64_t sectors)
{
    return (sectors + BLOCK_SECTORS - 1) / BLOCK_SECTORS;
}

struct volume *volume_new(const struct volume_conf *conf)
{
    struct volume *v = xcalloc(1, sizeof *v);

    v->loop = conf->loop;
    v->log = conf->log;
    v->map = conf->map;
    v->disk = conf->disk;
    v->top = conf->top;
    v->sectors = conf->sectors;
    v->block_bytes = conf->block_bytes;
    v->gate = conf->gate;
    TAILQ_INIT(&v->held);
    timer_init(&v->held_timer, v->loop, on_held);
    volume_make_naa(conf->vm_id, v->disk, v->naa);
    snprintf(v->serial, sizeof v->serial, "%016lx", get64(v->naa));
    v->read_seconds = metric_new(METRIC_HISTOGRAM, "isthmus_tier_read_seconds",
                                 "How long a tier and those below it took to answer a read",
                                 "vm=\"%s\",tier=\"ram\"", conf->vm);
    v->read_bytes = metric_new(METRIC_COUNTER, "isthmus_tier_bytes_total", "Bytes a tier has handed upwards",
                               "vm=\"%s\",tier=\"ram\",direction=\"read\"", conf->vm);
    return v;
}

static void volume_free(struct volume *v)
{
    timer_free(&v->held_timer);
    tier_stack_free(&v->top);
    metric_free(&v->read_seconds);
    metric_free(&v->read_bytes);
    free(v);
}

static void on_closed(struct task *t)
{
    struct volume *v = container_of(t, struct volume, closing);
    void (*closed)(void *arg) = v->closed;
    void *arg = v->closed_arg;

    volume_free(v);
    closed(arg);
}

static void close_if_idle(struct volume *v)
{
    if (!v->closed || !v->tiers_idle || v->in_flight)
        return;
    v->closing.run = on_closed;
    loop_post(v->loop, &v->closing);
}

static void on_tiers_idle(void *arg)
{
    struct volume *v = arg;

    v->tiers_idle = true;
    close_if_idle(v);
}

void volume_close(struct volume *v, void (*done)(void *arg), void *arg)
{
    v->closed = done;
    v->closed_arg = arg;
    if (!TAILQ_EMPTY(&v->held))
        timer_set_ms(&v->held_timer, 0);
    tier_stack_quiesce(v->top);
    tier_ram_stop(v->top, on_tiers_idle, v);
}

/* An I/O is answered. */
static void leave(struct io *io, int status)
{
    struct volume *v = io->volume;

    io->status = status;
    v->in_flight--;
    io->done(io);
    close_if_idle(v);
}

void volume_grow(struct volume *v, uint64_t sectors)
{
    CHECK(sectors >= v->sectors);
    v->sectors = sectors;
    tier_ram_set_nblocks(v->top, blocks_of(sectors));
}

static void on_read(struct block_req *req)
{
    struct io *io = container_of(req, struct io, req);

    metric_observe_ns(io->volume->read_seconds, loop_now_ns(io->volume->loop) - io->since_ns);
    if (req->status)
        io_release(io);
    leave(io, req->status);
}

static bool read_now(struct volume *v, struct io *io)
{
    uint64_t first = io->lba / BLOCK_SECTORS, last = (io->lba + io->nsectors - 1) / BLOCK_SECTORS;

    io->nblocks = (uint32_t)(last - first + 1);
    io->blocks = io->few;
    if (io->nblocks > sizeof io->few / sizeof *io->few)
        io->blocks = xmalloc(io->nblocks * sizeof *io->blocks);
    memset(io->blocks, 0, io->nblocks * sizeof *io->blocks);
    io->req = (struct block_req){
        .first = first, .count = io->nblocks, .class = TIER_DEMAND, .blocks = io->blocks, .done = on_read};
    metric_add(v->read_bytes, (uint64_t)io->nsectors * SECTOR_BYTES);
    io->since_ns = loop_now_ns(v->loop);
    if (!tier_read(v->top, &io->req)) {
        v->in_flight++;
        return false;
    }
    io->status = io->req.status;
    metric_observe_ns(v->read_seconds, 0);
    if (io->status)
        io_release(io);
    return true;
}

/* An edge that may not serve now makes its readers wait: it looks whether it may, again and again. */
static void on_held(struct timer *t)
{
    struct volume *v = container_of(t, struct volume, held_timer);
    struct io *io;

    while ((io = TAILQ_FIRST(&v->held)) &&
           (v->closed || io->cancelled || lease_gate_open(v->gate, loop_now_ns(v->loop)))) {
        TAILQ_REMOVE(&v->held, io, held_entry);
        io->held = false;
        if (v->closed || io->cancelled)
            leave(io, -ECANCELED);
        else if (read_now(v, io))
            leave(io, io->status);
        else
            v->in_flight--; /* it was counted again */
    }
    if (!TAILQ_EMPTY(&v->held))
        timer_set_ms(t, HELD_POLL_MS);
}

static bool submit_read(struct volume *v, struct io *io)
{
    if (!v->gate || (TAILQ_EMPTY(&v->held) && lease_gate_open(v->gate, loop_now_ns(v->loop))))
        return read_now(v, io);
    v->in_flight++;
    io->held = true;
    io->cancelled = false;
    if (TAILQ_EMPTY(&v->held))
        timer_set_ms(&v->held_timer, HELD_POLL_MS);
    TAILQ_INSERT_TAIL(&v->held, io, held_entry);
    return false;
}

static void on_visible(struct vmlog_append *append)
{
    struct io *io = container_of(append, struct io, append);

    tier_ram_written(io->volume->top, append->lba, append->nsectors,
                     append->data ? append->data->data + append->data_offset : NULL);
}

static void on_appended(struct vmlog_append *append)
{
    leave(container_of(append, struct io, append), 0);
}

static void submit_write(struct volume *v, struct io *io)
{
    bool zero = io->op == IO_ZERO;

    io->append = (struct vmlog_append){.type = zero ? RECORD_ZERO : RECORD_WRITE,
                                       .disk = v->disk,
                                       .fua = io->fua,
                                       .lba = io->lba,
                                       .nsectors = io->nsectors,
                                       .data = zero ? NULL : io->data,
                                       .data_offset = io->data_offset,
                                       .visible = on_visible,
                                       .done = on_appended};
    if (v->peer)
        tier_peer_written(v->peer, io->lba, io->nsectors);
    v->in_flight++;
    vmlog_append(v->log, &io->append);
}

static void on_flushed(struct vmlog_flush *flush)
{
    leave(container_of(flush, struct io, flush), 0);
}

static void submit_flush(struct volume *v, struct io *io)
{
    io->flush = (struct vmlog_flush){.done = on_flushed};
    v->in_flight++;
    vmlog_flush(v->log, &io->flush);
}

bool volume_submit(struct volume *v, struct io *io)
{
    CHECK(!v->closed && io->op <= IO_FLUSH);
    io->volume = v;
    io->blocks = NULL;
    io->nblocks = 0;
    io->held = false;
    switch (io->op) {
    case IO_READ:
        CHECK(io->nsectors && io->nsectors <= IO_SECTORS_MAX && io->lba + io->nsectors <= v->sectors);
        return submit_read(v, io);
    case IO_WRITE:
        CHECK(io->nsectors && io->nsectors <= IO_SECTORS_MAX && io->lba + io->nsectors <= v->sectors);
        submit_write(v, io);
        return false;
    case IO_ZERO:
        CHECK(io->nsectors && io->lba + io->nsectors <= v->sectors);
        submit_write(v, io);
        return false;
    case IO_FLUSH:
        submit_flush(v, io);
        return false;
    }
    return false;
}

void volume_cancel(struct io *io)
{
    struct volume *v = io->volume;

    CHECK(io->op == IO_READ);
    if (io->held) {
        TAILQ_REMOVE(&v->held, io, held_entry);
        TAILQ_INSERT_HEAD(&v->held, io, held_entry);
        io->cancelled = true;
        timer_set_ms(&v->held_timer, 0);
        return;
    }
    tier_ram_cancel(io->volume->top, &io->req);
}

int io_iov(const struct io *io, uint32_t from, uint32_t n, struct iovec *iov, int max)
{
    uint64_t at = io->lba % BLOCK_SECTORS * SECTOR_BYTES + from;
    int used = 0;

    CHECK(from + n <= io->nsectors * SECTOR_BYTES);
    while (n) {
        uint8_t *p = io->blocks[at / BLOCK_BYTES]->data + at % BLOCK_BYTES;
        uint32_t take = BLOCK_BYTES - (uint32_t)(at % BLOCK_BYTES);

        if (take > n)
            take = n;
        if (used && (uint8_t *)iov[used - 1].iov_base + iov[used - 1].iov_len == p) {
            iov[used - 1].iov_len += take;
        } else {
            CHECK(used < max);
            iov[used++] = (struct iovec){p, take};
        }
        at += take;
        n -= take;
    }
    return used;
}

void io_release(struct io *io)
{
    for (uint32_t i = 0; i < io->nblocks; i++)
        if (io->blocks[i])
            block_unref(io->blocks[i]);
    if (io->blocks != io->few)
        free(io->blocks);
    io->blocks = NULL;
    io->nblocks = 0;
}

/* What the log does not hold: zeros in the map? It knows blocks, so a part of one is what the block is. */
static uint64_t alike_in_map(const struct volume *v, uint64_t lba, uint64_t nsectors, bool *zero)
{
    uint64_t first = lba / BLOCK_SECTORS, end = (lba + nsectors + BLOCK_SECTORS - 1) / BLOCK_SECTORS;
    uint64_t n = map_zeros(v->map, v->disk, first, end - first, zero);
    uint64_t alike = (first + n) * BLOCK_SECTORS - lba;

    return alike < nsectors ? alike : nsectors;
}

bool volume_mapped(struct volume *v, uint64_t lba, uint64_t nsectors, uint64_t *same)
{
    struct vmlog_piece pieces[64];
    uint32_t most = nsectors < UINT32_MAX ? (uint32_t)nsectors : UINT32_MAX, covered;
    unsigned n = vmlog_pieces(v->log, v->disk, lba, most, pieces, sizeof pieces / sizeof *pieces, &covered);
    uint64_t alike = 0, whole = 0;
    bool zero = false;

    *same = 0;
    for (unsigned i = 0; i < n && alike == whole; i++) {
        bool is_zero = pieces[i].kind == PIECE_ZERO;

        alike = whole = pieces[i].nsectors;
        if (pieces[i].kind == PIECE_ABSENT && v->map)
            alike = alike_in_map(v, lba + *same, whole, &is_zero);
        if (i == 0)
            zero = is_zero;
        else if (is_zero != zero)
            break;
        *same += alike;
    }
    return !zero;
}

void volume_over_peer(struct volume *v, struct tier *peer)
{
    v->peer = peer;
}

struct ram_remains volume_remains(const struct volume *v)
{
    return tier_ram_remains(v->top, v->sectors / BLOCK_SECTORS);
}

uint8_t volume_disk(const struct volume *v)
{
    return v->disk;
}

uint64_t volume_sectors(const struct volume *v)
{
    return v->sectors;
}

uint32_t volume_block_bytes(const struct volume *v)
{
    return v->block_bytes;
}

const uint8_t *volume_naa(const struct volume *v)
{
    return v->naa;
}

const char *volume_serial(const struct volume *v)
{
    return v->serial;
}
