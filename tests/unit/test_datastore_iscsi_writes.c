/* links: datastore */
/* LUNs of a real tgt are written: zeros with and without UNMAP, write protection, a target that dies or is
 * reset before it was flushed. */
#include "metric.h"
#include "tgt_fixture.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

static struct datastore *open_disk(void)
{
    struct datastore *ds = open_lun("", 1);

    WAIT(seen.opened);
    return ds;
}

static void write_all_of_it(struct datastore *ds)
{
    assert_false(ds->ops->info(ds)->read_only);
    start_writes(ds, 0, 64 << 10, 256, 7);
    start_reads(ds, 20 << 20, 64 << 10, 100); /* meanwhile */
    end_reads();
    end_writes();
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(act(ds, DATASTORE_ZERO, 4096, 4 << 20), 0);
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(ds->ops->generation(ds), 0);
    assert_int_equal(metric_sum("isthmus_datastore_errors_total", "vm1-root"), 0); /* no form was refused */
    expect_pattern(image, 0, 4096, 7);
    expect_zeros(image, 4096, 4 << 20);
    expect_pattern(image, (4 << 20) + 4096, (12 << 20) - 4096, 7);
    expect_pattern(image, 16 << 20, 16 << 20, 0);
}

static void what_is_written_is_read_and_flushed(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk();
    write_all_of_it(ds);
    assert_int_equal(act(ds, DATASTORE_MARK, 0, 0), 0);
    assert_int_equal(deed.mark_len, 0);
    assert_int_equal(act(ds, DATASTORE_WRITE, DISK_BYTES, 4096), -EINVAL);
    close_ds(&ds);
}

static void zeros_give_the_space_back(void **state)
{
    uint64_t before = allocated_bytes(image);
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    admin("--op update --mode logicalunit --tid 1 --lun 1 --params thin_provisioning=1");
    ds = open_disk();
    write_all_of_it(ds);
    assert_true(allocated_bytes(image) <= before - (3 << 20));
    close_ds(&ds);
}

static void write_protection_is_said(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    admin("--op update --mode logicalunit --tid 1 --lun 1 --params readonly=1");
    ds = open_disk();
    assert_true(ds->ops->info(ds)->read_only);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EROFS);
    assert_non_null(strstr(deed.why.text, "write-protected"));
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    close_ds(&ds);
}

/* It becomes so under our hands: the target's word is final. */
static void write_protection_is_found(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk();
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    admin("--op update --mode logicalunit --tid 1 --lun 1 --params readonly=1");
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EROFS);
    close_ds(&ds);
}

static void writes_survive_the_death_of_the_target(void **state)
{
    struct datastore *ds;
    uint64_t generation;

    (void)state;
    start_target(false, true);
    ds = open_disk();
    for (unsigned round = 0; round < 3; round++) {
        generation = ds->ops->generation(ds);
        start_writes(ds, 0, 128 << 10, 200, round + 1);
        WAIT(nwritten > 10);
        stop_program(&tgtd);
        WAIT(ds->ops->trouble(ds));
        assert_true(ds->ops->generation(ds) > generation);
        start_target(false, true);
        end_writes();
        assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
        expect_pattern(image, 0, 200 * (128 << 10), round + 1);
    }
    generation = ds->ops->generation(ds);
    stop_program(&tgtd); /* nothing is unflushed */
    WAIT(ds->ops->trouble(ds));
    assert_int_equal(ds->ops->generation(ds), generation);
    close_ds(&ds);
}

static void a_reset_may_lose_what_was_not_flushed(void **state)
{
    struct iscsi_context *other = iscsi_create_context("iqn.2026-11.test:other");
    struct datastore *ds;
    char portal[40];

    (void)state;
    start_target(false, true);
    ds = open_disk();
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    assert_int_equal(ds->ops->generation(ds), 0);
    snprintf(portal, sizeof portal, "127.0.0.1:%u", port);
    iscsi_set_targetname(other, iqn);
    iscsi_set_session_type(other, ISCSI_SESSION_NORMAL);
    assert_int_equal(iscsi_full_connect_sync(other, portal, 1), 0);
    assert_int_equal(iscsi_task_mgmt_lun_reset_sync(other, 1), 0);
    iscsi_destroy_context(other);
    start_reads(ds, 0, 4096, 8);
    WAIT(nended == 8);
    assert_int_equal(nfailed, 0);
    assert_true(ds->ops->generation(ds) > 0);
    close_ds(&ds);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_is_written_is_read_and_flushed),
        CASE(zeros_give_the_space_back),
        CASE(write_protection_is_said),
        CASE(write_protection_is_found),
        CASE(writes_survive_the_death_of_the_target),
        CASE(a_reset_may_lose_what_was_not_flushed),
    };

    if (!find_program("tgtd") || geteuid() != 0) {
        print_message("needs tgtd, as root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
