/* tests/unit/writeback_fixture.h - an edge's side of write-back over a real link, an on-prem daemon's parts
 * with disks in files, and what those should hold.
 *
 * world_up() and world_down() start and end the on-prem side and the link; what is on the disk stays. A cut
 * is a list of pieces; its bytes come from the piece's seed.
 */
#ifndef ISTHMUS_WRITEBACK_FIXTURE_H
#define ISTHMUS_WRITEBACK_FIXTURE_H

#include "proto_wb.h"
#include "serve_fixture.h"
#include "stage.h"
#include "writeback.h"

#include <sys/stat.h>

enum { IMAGE_BYTES = 1 << 20, IMAGE_BLOCKS = IMAGE_BYTES / PROTO_BLOCK, DISKS_MAX = 64 };

static struct writeback *writeback;
static unsigned ndisks = 2;
static uint8_t *model[DISKS_MAX]; /* what a disk should hold */
static char data_dir[96];
static struct aead_key rest_key = {{1, 2, 3, 4, 5, 6, 7, 8}};
static const uint8_t vm_id[WB_ID_BYTES] = "vm of a test...";
static uint64_t epoch = 1;
static const char *second_url; /* of disk1, if it is not its image's file */

/* ---- the world ---- */

static void image_path(char *path, size_t n, unsigned disk)
{
    snprintf(path, n, "%s/disk%u.img", dir, disk);
}

static void make_images(void)
{
    char path[128];

    for (unsigned i = 0; i < DISKS_MAX; i++) {
        if (!model[i])
            model[i] = xmalloc(IMAGE_BYTES);
        for (uint64_t at = 0; at < IMAGE_BYTES; at += 8)
            memcpy(model[i] + at, &at, 8);
        if (i >= ndisks)
            continue;
        image_path(path, sizeof path, i);
        write_image(path, IMAGE_BYTES);
    }
}

static void expect_disks(void)
{
    uint8_t *bytes = xmalloc(IMAGE_BYTES);
    char path[128];

    for (unsigned i = 0; i < ndisks; i++) {
        int fd;

        image_path(path, sizeof path, i);
        fd = open(path, O_RDONLY);
        assert_int_equal(read(fd, bytes, IMAGE_BYTES), IMAGE_BYTES);
        close(fd);
        for (unsigned block = 0; block < IMAGE_BLOCKS; block++)
            if (memcmp(bytes + (size_t)block * PROTO_BLOCK, model[i] + (size_t)block * PROTO_BLOCK,
                       PROTO_BLOCK))
                fail_msg("block %u of disk %u is not what it should be", block, i);
    }
    free(bytes);
}

static void add_disk(unsigned i)
{
    char path[128], url[136], name[16];

    image_path(path, sizeof path, i);
    snprintf(url, sizeof url, "file:%s", path);
    if (i == 1 && second_url)
        snprintf(url, sizeof url, "%s", second_url);
    snprintf(name, sizeof name, "disk%u", i);
    serve_disk(name, url);
}

/* 0 or -errno of the stage. */
static int try_up(struct why *why)
{
    struct stage *stage;
    struct wb_disks disks;
    int err = stage_open(&stage, data_dir, &rest_key, why);

    if (err)
        return err;
    serve = serve_new(loop, 64 << 20, false);
    disks = serve_disks(serve);
    for (unsigned i = 0; i < ndisks; i++)
        add_disk(i);
    assert_int_equal(writeback_open(&writeback, loop, &stage, &disks, why), 0);
    serve_writeback(serve, writeback);
    serve_link_up(no_notice);
    return 0;
}

static void world_up(void)
{
    struct why why = {""};

    if (try_up(&why) != 0)
        fail_msg("%s", why.text);
}

static unsigned nclosed;

static void on_closed(void *arg)
{
    (void)arg;
    nclosed++;
}

static void world_down(void)
{
    serve_link_down();
    nclosed = 0;
    writeback_close(&writeback, on_closed, NULL);
    serve_close(&serve, on_closed, NULL);
    WAIT(nclosed == 2);
}

/* The data directory is new, the disks are as they were made. */
static int world_new(void **state)
{
    char command[160];

    (void)state;
    snprintf(data_dir, sizeof data_dir, "%s/data", dir);
    snprintf(command, sizeof command, "rm -rf %s", data_dir);
    assert_int_equal(run_program(command), 0);
    assert_int_equal(mkdir(data_dir, 0700), 0);
    make_images();
    epoch = 1;
    world_up();
    return 0;
}

static int world_end(void **state)
{
    (void)state;
    world_down();
    return 0;
}

/* ---- an edge's calls ---- */

static struct wb_state now; /* of the last answer that was a state */

static int ask(uint8_t type, struct buf *body)
{
    start_call(type, LINK_CONTROL, body);
    return end_call();
}

/* The same for what is answered with a state. */
static int end_state(void)
{
    int status = end_call();

    if (status == 0) {
        assert_int_equal(wb_get_state(call.reply->data, call.reply->len, &now), 0);
        buf_unref(&call.reply);
    }
    return status;
}

static struct wb_head head_of(uint64_t target)
{
    struct wb_head h = {.epoch = epoch, .target = target};

    memcpy(h.vm, vm_id, WB_ID_BYTES);
    return h;
}

static int attach_at(enum wb_policy policy, uint64_t base)
{
    static struct wb_attach a;

    a = (struct wb_attach){.epoch = epoch, .policy = policy, .name = "web", .ndisks = ndisks, .base = base};
    memcpy(a.vm, vm_id, WB_ID_BYTES);
    for (unsigned i = 0; i < ndisks; i++)
        snprintf(a.disks[i], sizeof a.disks[i], "disk%u", i);
    start_call(PROTO_VM_ATTACH, LINK_CONTROL, wb_put_attach(&a));
    return end_state();
}

static int attach_as(enum wb_policy policy)
{
    return attach_at(policy, 0);
}

static int simple(uint8_t type, uint64_t target)
{
    struct wb_head h = head_of(target);

    start_call(type, LINK_CONTROL, type == PROTO_VM_CLEAR_ALARM ? wb_put_clear_alarm(&h) : wb_put_head(&h));
    return end_state();
}

static int begin_cut(uint64_t base, uint64_t target)
{
    struct wb_begin b = {.head = head_of(target), .base = base, .instant_ms = 1764370800000 + target};

    start_call(PROTO_WB_BEGIN, LINK_CONTROL, wb_put_begin(&b));
    return end_state();
}

/* ---- cuts ---- */

struct piece {
    uint8_t disk;
    enum wb_kind kind;
    uint64_t lba, nsectors;
    uint8_t seed;
};

static void piece_bytes(const struct piece *p, uint8_t block[PROTO_BLOCK])
{
    uint32_t x = p->seed * 2654435761u + 1;

    memset(block, 0, PROTO_BLOCK);
    for (unsigned i = 0; i < p->nsectors * 512; i++) {
        x = x * 1664525 + 1013904223;
        block[i] = (uint8_t)(x >> 24);
    }
}

static void piece_hash(const struct piece *p, uint8_t hash[WB_HASH_BYTES])
{
    uint8_t block[PROTO_BLOCK];

    piece_bytes(p, block);
    wb_hash(block, (size_t)p->nsectors * 512, hash);
}

static int send_data(uint64_t target, const struct piece *p)
{
    struct wb_head h = head_of(target);
    uint8_t block[PROTO_BLOCK], n = (uint8_t)p->nsectors;

    piece_bytes(p, block);
    return ask(PROTO_WB_DATA, wb_put_data(&h, p->disk, 1, &p->lba, &n, block, false));
}

static int send_zero(uint64_t target, const struct piece *p)
{
    struct wb_head h = head_of(target);

    return ask(PROTO_WB_ZERO, wb_put_zero(&h, p->disk, 1, &p->lba, &p->nsectors));
}

static int send_piece(uint64_t target, const struct piece *p)
{
    int status = p->kind == WB_PIECE_DATA ? send_data(target, p) : send_zero(target, p);

    if (status == 0)
        buf_unref(&call.reply);
    return status;
}

/* Pieces are in order of disk and LBA. */
static struct buf *end_of(uint64_t target, const struct piece *pieces, unsigned n)
{
    struct wb_end end = {.head = head_of(target), .pieces = n};
    struct wb_digest *digest = wb_digest_new();
    uint8_t hash[WB_HASH_BYTES];

    for (unsigned i = 0; i < n; i++) {
        const struct piece *p = &pieces[i];

        if (p->kind == WB_PIECE_DATA)
            piece_hash(p, hash);
        wb_digest_add(digest, p->disk, p->kind, p->lba, p->nsectors, p->kind == WB_PIECE_DATA ? hash : NULL);
    }
    wb_digest_end(&digest, end.digest);
    return wb_put_end(&end);
}

static int end_cut(uint64_t target, const struct piece *pieces, unsigned n)
{
    start_call(PROTO_WB_END, LINK_CONTROL, end_of(target, pieces, n));
    return end_state();
}

static void in_model(const struct piece *pieces, unsigned n)
{
    uint8_t block[PROTO_BLOCK];

    for (unsigned i = 0; i < n; i++) {
        const struct piece *p = &pieces[i];
        uint8_t *at = model[p->disk] + p->lba * 512;

        if (p->kind == WB_PIECE_ZERO) {
            memset(at, 0, (size_t)p->nsectors * 512);
        } else {
            piece_bytes(p, block);
            memcpy(at, block, (size_t)p->nsectors * 512);
        }
    }
}

static void stage_cut(uint64_t base, uint64_t target, const struct piece *pieces, unsigned n)
{
    assert_int_equal(begin_cut(base, target), 0);
    assert_int_equal(now.target, target);
    for (unsigned i = 0; i < n; i++)
        if (send_piece(target, &pieces[i]) != 0)
            fail_msg("piece %u: %s", i, call.why.text);
    if (end_cut(target, pieces, n) != 0)
        fail_msg("%s", call.why.text);
    assert_true(now.stage >= WB_STAGE_STAGED || now.applied == target);
}

static void write_back(uint64_t base, uint64_t target, const struct piece *pieces, unsigned n)
{
    stage_cut(base, target, pieces, n);
    assert_int_equal(simple(PROTO_WB_APPLIED, target), 0);
    in_model(pieces, n);
}

/* ---- a cut ---- */

/* Blocks, pieces of blocks at both ends, zeros short and long, two disks; in order. */
static const struct piece some_cut[] = {
    {0, WB_PIECE_DATA, 0, 8, 1},   {0, WB_PIECE_DATA, 8, 8, 2},     {0, WB_PIECE_DATA, 16, 8, 3},
    {0, WB_PIECE_DATA, 27, 3, 4},  {0, WB_PIECE_DATA, 30, 1, 5},    {0, WB_PIECE_ZERO, 31, 9, 0},
    {0, WB_PIECE_DATA, 800, 8, 6}, {0, WB_PIECE_ZERO, 900, 700, 0}, {1, WB_PIECE_DATA, 0, 8, 7},
    {1, WB_PIECE_ZERO, 8, 1, 0},   {1, WB_PIECE_DATA, 2040, 8, 8},
};
#define PIECES(list) (list), (sizeof(list) / sizeof((list)[0]))

#endif
