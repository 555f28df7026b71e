/* links: initiator link pki */
/* The disk of the on-prem daemon itself is full, or what is staged there is damaged. */
#include "stage_impl.h"
#include "writeback_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

/* All but 2 MiB, by a file that is named. */
static void fill_up(char *path, size_t n)
{
    struct statvfs fs;
    int fd;

    assert_int_equal(statvfs(data_dir, &fs), 0);
    snprintf(path, n, "%s/filler", data_dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)(fs.f_bavail * fs.f_frsize - (2 << 20))), 0);
    close(fd);
}

static void a_full_disk_is_said_and_nothing_is_lost(void **state)
{
    char path[128];

    (void)state;
    world_down();
    assert_int_equal(mount("small", data_dir, "tmpfs", 0, "size=64m"), 0);
    world_up();
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(0, 100), 0);
    assert_int_equal(send_piece(100, &some_cut[0]), 0);
    fill_up(path, sizeof path);
    assert_int_equal(send_piece(100, &some_cut[1]), -ENOSPC);
    assert_non_null(strstr(call.why.text, "is full"));
    assert_int_equal(send_piece(100, &some_cut[5]), -ENOSPC);
    assert_int_equal(simple(PROTO_WB_STATE, 0), 0);
    assert_int_equal(now.stage, WB_STAGE_OPEN);
    assert_int_equal(unlink(path), 0);
    for (unsigned i = 1; i < 11; i++)
        assert_int_equal(send_piece(100, &some_cut[i]), 0);
    assert_int_equal(end_cut(100, PIECES(some_cut)), 0);
    assert_int_equal(simple(PROTO_WB_APPLIED, 100), 0);
    in_model(PIECES(some_cut));
    expect_disks();
    world_down();
    assert_int_equal(umount2(data_dir, MNT_DETACH), 0);
    world_up();
}

/* What was staged goes to the disks when what comes next no longer fits. */
static void a_full_disk_does_not_keep_a_staged_cut(void **state)
{
    char path[128];

    (void)state;
    world_down();
    assert_int_equal(mount("small", data_dir, "tmpfs", 0, "size=64m"), 0);
    world_up();
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(serve_remove(serve, "disk1"), 0);
    stage_cut(0, 100, PIECES(some_cut));
    fill_up(path, sizeof path);
    add_disk(1);
    assert_int_equal(simple(PROTO_WB_APPLIED, 100), 0);
    assert_int_equal(now.applied, 100);
    in_model(PIECES(some_cut));
    expect_disks();
    world_down();
    assert_int_equal(umount2(data_dir, MNT_DETACH), 0);
    world_up();
}

/* One bit of the first piece, in a way that the database does not notice. The world is down. */
static void damage_a_piece(void)
{
    struct stage *stage;
    struct why why;
    rocksdb_iterator_t *it;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    const char *key, *value;
    size_t n, len;
    char *copy;

    assert_int_equal(stage_open(&stage, data_dir, &rest_key, &why), 0);
    it = rocksdb_create_iterator_cf(stage->db.db, stage->db.reading, stage->db.family[FAMILY_PIECES]);
    rocksdb_iter_seek_to_first(it);
    assert_true(rocksdb_iter_valid(it));
    key = rocksdb_iter_key(it, &n);
    value = rocksdb_iter_value(it, &len);
    copy = xmalloc(len);
    memcpy(copy, value, len);
    copy[len / 2] ^= 1;
    rocksdb_writebatch_put_cf(batch, stage->db.family[FAMILY_PIECES], key, n, copy, len);
    assert_int_equal(stage_db_write(&stage->db, batch, STAGE_STABLE, &why), 0);
    rocksdb_writebatch_destroy(batch);
    rocksdb_iter_destroy(it);
    free(copy);
    stage_close(&stage);
}

static void a_damaged_stage_is_given_up_at_its_end(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(0, 100), 0);
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(send_piece(100, &some_cut[i]), 0);
    world_down();
    damage_a_piece();
    world_up();
    assert_int_equal(end_cut(100, PIECES(some_cut)), -EAGAIN);
    assert_non_null(strstr(call.why.text, "damaged"));
    write_back(0, 100, PIECES(some_cut));
    expect_disks();
}

static void a_staged_cut_that_is_damaged_is_an_alarm(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(serve_remove(serve, "disk1"), 0);
    stage_cut(0, 100, PIECES(some_cut));
    world_down();
    damage_a_piece();
    world_up();
    assert_int_equal(simple(PROTO_WB_APPLIED, 100), 0);
    assert_true(now.alarm && now.applied == 0 && now.stage == WB_STAGE_APPLYING);
    assert_non_null(strstr(now.text, "damaged"));
    assert_int_equal(simple(PROTO_VM_CLEAR_ALARM, 0), 0);
    assert_true(!now.alarm && now.stage == WB_STAGE_NONE && now.applied == 0);
    write_back(0, 150, PIECES(some_cut)); /* all since the base, as an edge sends it */
    expect_disks();
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, world_new, world_end)
    const struct CMUnitTest tests[] = {
        CASE(a_damaged_stage_is_given_up_at_its_end),
        CASE(a_staged_cut_that_is_damaged_is_an_alarm),
        CASE(a_full_disk_is_said_and_nothing_is_lost),
        CASE(a_full_disk_does_not_keep_a_staged_cut),
    };

    /* Small file systems, seen by nobody else. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        puts("needs to mount file systems");
        return 77;
    }

    return cmocka_run_group_tests(tests, serve_begin, fixture_end);
}
