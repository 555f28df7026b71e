/* links: cache */
/* A volume over the real RAM tier, the real journal and a slow base: random overlapping reads, writes, zeroes
 * and flushes at once. Every sector of a read must be at least as new as the newest write answered before the
 * read was submitted, at least as new as any earlier read saw, and no newer than the newest write submitted.
 * Then everything is closed and opened again, with an empty cache, and every sector must be the newest.
 */
#include "check.h"
#include "mem.h"
#include "ram.h"
#include "readahead.h"
#include "tier_journal.h"
#include "volume.h"
#include "wire.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { SECTORS = 2048, IN_FLIGHT = 24, ROUNDS = 60000, MOST = 40 };

/* --- the base: block n is zero when n % 7 == 3, else every sector says BASE; answers come late --- */

struct base {
    struct tier tier;
    bool mute;              /* keeps requests */
    struct block_req *kept; /* by tier_private */
};

struct base_answer {
    struct timer timer;
    struct block_req *req;
};

static void on_base_due(struct timer *t)
{
    struct base_answer *a = container_of(t, struct base_answer, timer);
    struct block_req *req = a->req;

    for (uint32_t i = 0; i < req->count; i++) {
        if ((req->first + i) % 7 == 3)
            req->blocks[i]->zero = true;
        else
            memset(req->blocks[i]->data, 0, BLOCK_BYTES);
    }
    req->status = 0;
    timer_free(&a->timer);
    free(a);
    req->done(req);
}

static bool base_read(struct tier *t, struct block_req *req)
{
    struct base_answer *a = xcalloc(1, sizeof *a);
    struct base *b = container_of(t, struct base, tier);

    if (b->mute) {
        req->tier_private = b->kept;
        b->kept = req;
        free(a);
        return false;
    }
    a->req = req;
    timer_init(&a->timer, t->loop, on_base_due);
    timer_set_ms(&a->timer, (unsigned)random() % 4);
    return false;
}

static void base_answer_kept(struct base *b)
{
    while (b->kept) {
        struct block_req *req = b->kept;

        b->kept = req->tier_private;
        base_read(&b->tier, req);
    }
}

static void base_free(struct tier *t)
{
    free(container_of(t, struct base, tier));
}

static const struct tier_ops base_ops = {.name = "base", .read = base_read, .free = base_free};

/* --- the world --- */

static const uint8_t vm_id[VMLOG_ID_BYTES] = "volume test vm 1";

static struct world {
    char dir[64];
    struct loop *loop;
    struct journal *journal;
    struct vmlog *log;
    struct ram *ram;
    struct volume *volume;
    struct base *base;
    unsigned started, running, wanted;
    /* by sector: number of the newest write submitted, zeroing among them, write answered, number seen */
    uint32_t submitted[SECTORS], zeroed[SECTORS], answered[SECTORS], seen[SECTORS];
    uint32_t numbers;
} w;

struct one {
    struct io io;
    uint32_t number;
    uint32_t floor[MOST];
    struct task again;
};

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void world_open(void)
{
    struct journal_conf conf = {.path = w.dir, .key = {{1}}, .max_bytes = 64 << 20};
    const struct readahead_limits limits = {.miss_blocks = 4, .max_blocks = 16};
    struct readahead *readahead = readahead_new(&limits);
    struct base *base = xcalloc(1, sizeof *base);
    struct tier *top;
    struct why why;

    w.loop = loop_new("test");
    assert_int_equal(journal_open(&w.journal, &conf, &why), 0);
    assert_int_equal(vmlog_open(&w.log, w.journal, w.loop, vm_id, "test", &why), 0);
    w.ram = ram_new(w.loop, 4 << 20);
    w.base = base;
    base->tier = (struct tier){.ops = &base_ops, .loop = w.loop};
    top = tier_journal_new(w.loop, &base->tier, w.log, 0, "test");
    top = tier_ram_new(w.ram, top, 0, SECTORS / BLOCK_SECTORS, readahead, "test");
    w.volume = volume_new(&(struct volume_conf){.loop = w.loop,
                                                .log = w.log,
                                                .top = top,
                                                .sectors = SECTORS,
                                                .block_bytes = 512,
                                                .vm_id = vm_id,
                                                .vm = "test"});
}

static void on_volume_closed(void *arg)
{
    (void)arg;
    loop_stop(w.loop);
}

static void world_close(void)
{
    volume_close(w.volume, on_volume_closed, NULL);
    loop_run(w.loop);
    vmlog_close(&w.log);
    journal_close(&w.journal);
    ram_free(&w.ram);
    loop_free(&w.loop);
}

/* --- one I/O --- */

static void submit(struct one *o);

static void check_read(struct one *o)
{
    struct iovec iov[MOST / BLOCK_SECTORS + 3];
    uint8_t bytes[MOST * SECTOR_BYTES], *at = bytes;
    int n = io_iov(&o->io, 0, o->io.nsectors * SECTOR_BYTES, iov, MOST / BLOCK_SECTORS + 3);

    for (int i = 0; i < n; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    for (uint32_t i = 0; i < o->io.nsectors; i++) {
        uint64_t lba = o->io.lba + i;
        const uint8_t *sector = bytes + i * SECTOR_BYTES;
        uint32_t number = get32(sector);

        if (number == 0) { /* never written, or zeroed since */
            assert_true(o->floor[i] == 0 || w.zeroed[lba] >= o->floor[i]);
            continue;
        }
        assert_int_equal(get32(sector + 4), lba);
        assert_int_equal(get32(sector + SECTOR_BYTES - 4), number);
        assert_true(number >= o->floor[i]);
        assert_true(number <= w.submitted[lba]);
        if (w.seen[lba] < number)
            w.seen[lba] = number;
    }
    io_release(&o->io);
}

static void on_io(struct io *io)
{
    struct one *o = container_of(io, struct one, io);

    assert_int_equal(io->status, 0);
    if (io->op == IO_READ)
        check_read(o);
    if (io->op == IO_WRITE || io->op == IO_ZERO)
        for (uint32_t i = 0; i < io->nsectors; i++)
            if (w.answered[io->lba + i] < o->number)
                w.answered[io->lba + i] = o->number;
    buf_unref(&io->data);
    submit(o);
}

static void on_again(struct task *t)
{
    on_io(&container_of(t, struct one, again)->io);
}

static void stamp(struct one *o)
{
    o->number = ++w.numbers;
    for (uint32_t i = 0; i < o->io.nsectors; i++)
        w.submitted[o->io.lba + i] = o->number;
    for (uint32_t i = 0; o->io.op == IO_ZERO && i < o->io.nsectors; i++)
        w.zeroed[o->io.lba + i] = o->number;
    if (o->io.op == IO_ZERO)
        return;
    o->io.data = buf_new(o->io.nsectors * SECTOR_BYTES);
    memset(o->io.data->data, 0, o->io.data->len);
    for (uint32_t i = 0; i < o->io.nsectors; i++) {
        uint8_t *sector = o->io.data->data + i * SECTOR_BYTES;

        put32(sector, o->number);
        put32(sector + 4, (uint32_t)(o->io.lba + i));
        put32(sector + SECTOR_BYTES - 4, o->number);
    }
}

static void submit(struct one *o)
{
    unsigned kind = (unsigned)random() % 10;

    if (w.started >= w.wanted) {
        free(o);
        if (--w.running == 0)
            loop_stop(w.loop);
        return;
    }
    w.started++;
    o->io = (struct io){.done = on_io};
    o->io.op = kind < 5 ? IO_READ : kind < 8 ? IO_WRITE : kind == 8 ? IO_ZERO : IO_FLUSH;
    o->io.fua = random() % 8 == 0;
    if (o->io.op != IO_FLUSH) {
        o->io.nsectors = 1 + (uint32_t)random() % MOST;
        o->io.lba = (uint64_t)random() % (SECTORS - o->io.nsectors);
    }
    if (o->io.op == IO_WRITE || o->io.op == IO_ZERO)
        stamp(o);
    for (uint32_t i = 0; o->io.op == IO_READ && i < o->io.nsectors; i++) {
        uint64_t lba = o->io.lba + i;

        o->floor[i] = w.answered[lba] > w.seen[lba] ? w.answered[lba] : w.seen[lba];
    }
    if (volume_submit(w.volume, &o->io)) {
        o->again.run = on_again;
        loop_post(w.loop, &o->again);
    }
}

static void start(struct task *t)
{
    (void)t;
    for (unsigned i = 0; i < w.running; i++)
        submit(xcalloc(1, sizeof(struct one)));
}

static void run(unsigned ios, unsigned in_flight)
{
    struct task task = {.run = start};

    w.wanted = ios;
    w.started = 0;
    w.running = in_flight;
    loop_post(w.loop, &task);
    loop_run(w.loop);
}

/* --- whole-disk check --- */

static void on_sync(struct io *io)
{
    (void)io;
    loop_stop(w.loop);
}

/* Reads every sector, one read at a time, and compares it with the newest write. */
static void check_all(void)
{
    for (uint64_t lba = 0; lba < SECTORS; lba++) {
        struct io io = {.op = IO_READ, .lba = lba, .nsectors = 1, .done = on_sync};
        struct iovec iov[2];
        uint32_t number;

        if (!volume_submit(w.volume, &io))
            loop_run(w.loop);
        assert_int_equal(io.status, 0);
        assert_int_equal(io_iov(&io, 0, SECTOR_BYTES, iov, 2), 1);
        number = get32(iov[0].iov_base);
        assert_int_equal(number, w.zeroed[lba] == w.submitted[lba] ? 0 : w.submitted[lba]);
        io_release(&io);
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/isthmus-volume-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    pool_start(2);
    world_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close();
    pool_stop();
    return nftw(w.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void no_read_goes_back_in_time(void **state)
{
    (void)state;
    srandom(1);
    run(ROUNDS, IN_FLIGHT);
    check_all();
    world_close();
    world_open();
    check_all();
}

static void a_read_in_memory_is_answered_at_once(void **state)
{
    struct io io = {.op = IO_READ, .lba = 16, .nsectors = 16, .done = on_sync};
    struct iovec iov[4];

    (void)state;
    assert_false(volume_submit(w.volume, &io));
    loop_run(w.loop);
    io_release(&io);
    io = (struct io){.op = IO_READ, .lba = 17, .nsectors = 15, .done = on_sync};
    assert_true(volume_submit(w.volume, &io));
    assert_true(io_iov(&io, 100, 1000, iov, 4) >= 1);
    assert_int_equal(iov[0].iov_base, io.blocks[0]->data + SECTOR_BYTES + 100);
    io_release(&io);
}

static void on_started(struct task *t)
{
    struct one *o = container_of(t, struct one, again);

    if (volume_submit(w.volume, &o->io))
        loop_stop(w.loop); /* read ahead already */
}

/* One I/O on the loop, until it is answered. */
static void do_io(struct io io)
{
    struct one o = {.io = io};

    o.io.done = on_sync;
    o.again.run = on_started;
    loop_post(w.loop, &o.again);
    loop_run(w.loop);
    assert_int_equal(o.io.status, 0);
    buf_unref(&o.io.data);
    io_release(&o.io);
}

/* With the base out of reach, what the log holds whole is still read, though read-ahead goes beyond it. */
static void what_is_here_does_not_wait_for_what_is_far(void **state)
{
    struct io write = {.op = IO_WRITE, .lba = 65, .nsectors = 23, .data = buf_new(23 * SECTOR_BYTES)};

    (void)state;
    memset(write.data->data, 7, write.data->len);
    do_io(write);
    world_close();
    world_open();
    w.base->mute = true;
    do_io((struct io){.op = IO_READ, .lba = 72, .nsectors = 8});
    do_io((struct io){.op = IO_READ, .lba = 80, .nsectors = 8});
    assert_true(w.base->kept);
    w.base->mute = false;
    base_answer_kept(w.base);
}

static void an_identity_is_the_same_for_ever(void **state)
{
    char serial[17];

    (void)state;
    assert_int_equal(volume_naa(w.volume)[0] >> 4, 3);
    snprintf(serial, sizeof serial, "%s", volume_serial(w.volume));
    world_close();
    world_open();
    assert_string_equal(serial, volume_serial(w.volume));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_read_goes_back_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_in_memory_is_answered_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_here_does_not_wait_for_what_is_far, setup, teardown),
        cmocka_unit_test_setup_teardown(an_identity_is_the_same_for_ever, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
