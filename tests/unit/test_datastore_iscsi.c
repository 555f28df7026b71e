/* links: datastore */
/* iSCSI LUNs on a real tgt: CHAP, a target that dies or hangs while reads are pending, a LUN that is not
 * there. */
#include "tgt_fixture.h"

static void a_lun_is_read(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_lun("", 1);
    WAIT(seen.opened);
    assert_int_equal(ds->ops->info(ds)->bytes, DISK_BYTES);
    assert_int_equal(ds->ops->info(ds)->block_bytes, 512);
    assert_true(ds->ops->info(ds)->identity[0]);
    start_reads(ds, 0, 128 << 10, 256);
    end_reads();
    start_reads(ds, 4096, 1 << 20, 16);
    end_reads();
    close_ds(&ds);
}

static void chap_right_and_wrong(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(true, true);
    ds = open_lun("joe%hush-hush-12@", 1);
    WAIT(seen.opened);
    start_reads(ds, 0, 4096, 4);
    end_reads();
    close_ds(&ds);
    ds = open_lun("joe%wrong-wrong-1@", 1);
    WAIT(seen.refused);
    assert_non_null(strstr(seen.why.text, "check user and secret"));
    assert_null(strstr(seen.why.text, "wrong-wrong"));
    assert_int_equal(seen.opened, 0);
    close_ds(&ds);
}

static void a_missing_lun_is_said_and_waited_for(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, false);
    ds = open_lun("", 1);
    start_reads(ds, 0, 4096, 4);
    WAIT(seen.refused);
    assert_non_null(strstr(seen.why.text, "LUN 1"));
    add_lun(image);
    WAIT(seen.opened);
    end_reads();
    close_ds(&ds);
}

static void reads_survive_the_death_of_the_target(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_lun("", 1);
    WAIT(seen.opened);
    for (int round = 0; round < 3; round++) {
        start_reads(ds, 0, 128 << 10, 200);
        WAIT(nended > 10);
        stop_program(&tgtd);
        WAIT(ds->ops->trouble(ds));
        start_target(false, true);
        end_reads();
        assert_null(ds->ops->trouble(ds));
    }
    close_ds(&ds);
}

static void reads_survive_a_target_that_hangs(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_lun("", 1);
    WAIT(seen.opened);
    kill(tgtd, SIGSTOP);
    start_reads(ds, 0, 4096, 64);
    WAIT(ds->ops->trouble(ds));
    kill(tgtd, SIGCONT);
    end_reads();
    close_ds(&ds);
}

static void a_resize_is_noticed(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_lun("", 1);
    WAIT(seen.opened);
    stop_program(&tgtd);
    write_image(image, 2 * DISK_BYTES);
    start_target(false, true);
    WAIT(seen.resized);
    assert_int_equal(ds->ops->info(ds)->bytes, 2 * DISK_BYTES);
    start_reads(ds, 2 * DISK_BYTES - 65536, 65536, 1);
    end_reads();
    close_ds(&ds);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_lun_is_read),
        CASE(chap_right_and_wrong),
        CASE(a_missing_lun_is_said_and_waited_for),
        CASE(reads_survive_the_death_of_the_target),
        CASE(reads_survive_a_target_that_hangs),
        CASE(a_resize_is_noticed),
    };

    if (!find_program("tgtd") || geteuid() != 0) {
        print_message("needs tgtd, as root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
