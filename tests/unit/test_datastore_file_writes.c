/* links: datastore */
/* Files and block devices are written: zeros give space back, a full disk is said, what was not flushed is
 * known to be lost, and somebody else's write shows in the mark. */
#include "datastore_fixture.h"

#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <utime.h>

static struct datastore *open_path(const char *path)
{
    char url[160];
    struct datastore *ds;

    snprintf(url, sizeof url, "file:%s", path);
    ds = open_url(url);
    WAIT(seen.opened);
    return ds;
}

static void what_is_written_is_read_and_flushed(void **state)
{
    struct datastore *ds = open_path(image);

    (void)state;
    assert_false(ds->ops->info(ds)->read_only);
    assert_false(ds->ops->info(ds)->reserves);
    start_writes(ds, 0, 64 << 10, 256, 7);
    start_reads(ds, 20 << 20, 64 << 10, 100); /* meanwhile */
    end_reads();
    end_writes();
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(ds->ops->generation(ds), 0);
    expect_pattern(image, 0, 16 << 20, 7);
    expect_pattern(image, 16 << 20, 16 << 20, 0);
    assert_int_equal(act(ds, DATASTORE_WRITE, DISK_BYTES, 4096), -EINVAL);
    ds->ops->hold(ds, 1);
    assert_false(ds->ops->held(ds));
    close_ds(&ds);
}

static void zeros_give_the_space_back(void **state)
{
    struct datastore *ds = open_path(image);
    uint64_t before = allocated_bytes(image);

    (void)state;
    assert_int_equal(act(ds, DATASTORE_ZERO, 512, 16 << 20), 0);
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_true(allocated_bytes(image) <= before - (15 << 20));
    expect_pattern(image, 0, 512, 0);
    expect_zeros(image, 512, 16 << 20);
    expect_pattern(image, (16 << 20) + 512, 4096, 0);
    close_ds(&ds);
}

static void a_file_that_may_not_be_written_is_read_only(void **state)
{
    struct datastore *ds;

    (void)state;
    assert_int_equal(mount(image, image, NULL, MS_BIND, NULL), 0);
    assert_int_equal(mount(image, image, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
    ds = open_path(image);
    assert_true(ds->ops->info(ds)->read_only);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EROFS);
    assert_non_null(strstr(deed.why.text, image));
    assert_int_equal(act(ds, DATASTORE_ZERO, 0, 4096), -EROFS);
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    start_reads(ds, 0, 4096, 8);
    end_reads();
    close_ds(&ds);
    assert_int_equal(umount(image), 0);
}

static void the_mark_shows_somebody_elses_write(void **state)
{
    struct datastore *ds = open_path(image);
    struct datastore_io mine;
    struct utimbuf long_ago = {.actime = 1, .modtime = 1000000000};
    char other[128];
    int fd;

    (void)state;
    /* so that a write later in this tick of the clock shows, too */
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(utime(image, &long_ago), 0);
    assert_int_equal(act(ds, DATASTORE_MARK, 0, 0), 0);
    mine = deed;
    assert_true(mine.mark_len > 0);

    start_reads(ds, 1 << 20, 64 << 10, 32);
    end_reads();
    close_ds(&ds);
    ds = open_path(image);
    assert_int_equal(act(ds, DATASTORE_MARK, 0, 0), 0);
    assert_int_equal(deed.mark_len, mine.mark_len);
    assert_memory_equal(deed.mark, mine.mark, mine.mark_len);

    fd = open(image, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 5), 1);
    close(fd);
    assert_int_equal(act(ds, DATASTORE_MARK, 0, 0), 0);
    assert_memory_not_equal(deed.mark, mine.mark, mine.mark_len);

    assert_int_equal(utime(image, &long_ago), 0); /* and another file of the same size and time */
    snprintf(other, sizeof other, "%s/other", dir);
    write_image(other, DISK_BYTES);
    assert_int_equal(utime(other, &long_ago), 0);
    assert_int_equal(rename(other, image), 0);
    assert_int_equal(act(ds, DATASTORE_MARK, 0, 0), 0);
    assert_memory_not_equal(deed.mark, mine.mark, mine.mark_len);
    close_ds(&ds);
}

/* A file of 8 MiB on a disk of 1 MiB. */
static void make_thin(char *path, size_t size)
{
    char place[80];

    snprintf(place, sizeof place, "%s/small", dir);
    assert_int_equal(mkdir(place, 0700), 0);
    assert_int_equal(mount("small", place, "tmpfs", 0, "size=1m"), 0);
    snprintf(path, size, "%s/thin", place);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(truncate(path, 8 << 20), 0);
}

static void drop_thin(void)
{
    char place[80];

    snprintf(place, sizeof place, "%s/small", dir);
    assert_int_equal(umount2(place, MNT_DETACH), 0);
}

static void a_full_disk_is_said_at_once(void **state)
{
    char path[128];
    struct datastore *ds;

    (void)state;
    make_thin(path, sizeof path);
    ds = open_path(path);
    start_writes(ds, 0, 64 << 10, 32, 3);
    WAIT(nwritten == nwrites);
    assert_in_range(nrefused, 16, 31);
    assert_int_equal(writes[31].status, -ENOSPC);
    assert_non_null(strstr(failure.text, path));
    assert_int_equal(act(ds, DATASTORE_ZERO, 0, 2 << 20), 0); /* and there is room again */
    start_writes(ds, 0, 64 << 10, 8, 4);
    end_writes();
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    expect_pattern(path, 0, 512 << 10, 4);
    close_ds(&ds);
    drop_thin();
}

/* A loop device over the thin file takes what it has no room for, and says so when it is flushed. */
static int attach(const char *path, char *device, size_t size)
{
    int number, loop_fd, control = open("/dev/loop-control", O_RDWR), backing = open(path, O_RDWR);
    struct loop_config config = {.fd = (uint32_t)backing, .info.lo_flags = LO_FLAGS_AUTOCLEAR};

    for (int tries = 0; tries < 100; tries++) {
        number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        snprintf(device, size, "/dev/loop%d", number);
        loop_fd = open(device, O_RDWR | O_CLOEXEC);
        if (loop_fd >= 0 && ioctl(loop_fd, LOOP_CONFIGURE, &config) == 0) {
            close(control);
            close(backing);
            return loop_fd;
        }
        close(loop_fd);
    }
    close(control);
    close(backing);
    return -1;
}

static void a_failed_flush_is_a_loss(void **state)
{
    char path[128], device[32];
    struct datastore *ds;
    int loop_fd;

    (void)state;
    make_thin(path, sizeof path);
    loop_fd = attach(path, device, sizeof device);
    if (loop_fd < 0) {
        drop_thin();
        skip();
    }
    ds = open_path(device);
    assert_false(ds->ops->info(ds)->read_only);
    assert_int_equal(act(ds, DATASTORE_MARK, 0, 0), 0);
    assert_int_equal(deed.mark_len, 0);
    start_writes(ds, 0, 64 << 10, 8, 5);
    end_writes();
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(ds->ops->generation(ds), 0);
    expect_pattern(path, 0, 512 << 10, 5);

    start_writes(ds, 1 << 20, 64 << 10, 32, 6);
    end_writes();
    assert_int_not_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(ds->ops->generation(ds), 1);
    assert_non_null(strstr(deed.why.text, "flush"));
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(ds->ops->generation(ds), 1);

    assert_int_equal(act(ds, DATASTORE_ZERO, 0, 8 << 20), 0);
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_true(allocated_bytes(path) < 64 << 10);
    close_ds(&ds);
    close(loop_fd);
    drop_thin();
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_is_written_is_read_and_flushed),
        CASE(zeros_give_the_space_back),
        CASE(a_file_that_may_not_be_written_is_read_only),
        CASE(the_mark_shows_somebody_elses_write),
        CASE(a_full_disk_is_said_at_once),
        CASE(a_failed_flush_is_a_loss),
    };

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        print_message("needs root, to mount\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
