/* links: datastore */
/* iSCSI LUNs on a real tgt: CHAP, a target that dies or hangs while reads are pending, a LUN that is not
 * there. */
#include "datastore_fixture.h"

static const char iqn[] = "iqn.2026-11.test:disk";
static pid_t tgtd;
static uint16_t port;
static int control;

static void admin(const char *arguments)
{
    char command[400];

    snprintf(command, sizeof command, "tgtadm -C %d --lld iscsi %s", control, arguments);
    assert_int_equal(run_program(command), 0);
}

static void add_lun(const char *path)
{
    char text[200];

    snprintf(text, sizeof text, "--op new --mode logicalunit --tid 1 --lun 1 -b %s", path);
    admin(text);
}

static void start_target(bool chap, bool lun)
{
    char command[200];

    snprintf(command, sizeof command, "tgtd -f -C %d --iscsi portal=127.0.0.1:%u", control, port);
    tgtd = start_program(command);
    WAIT(answers(port));
    snprintf(command, sizeof command, "--op new --mode target --tid 1 -T %s", iqn);
    admin(command);
    if (lun)
        add_lun(image);
    if (chap) {
        admin("--op new --mode account --user joe --password hush-hush-12");
        admin("--op bind --mode account --tid 1 --user joe");
    }
    admin("--op bind --mode target --tid 1 -I ALL");
}

static struct datastore *open_lun(const char *user, int lun)
{
    char url[200];

    snprintf(url, sizeof url, "iscsi://%s127.0.0.1:%u/%s/%d", user, port, iqn, lun);
    return open_url(url);
}

static int begin(void **state)
{
    port = free_port();
    control = port % 32767; /* tgtd takes no more */
    return fixture_begin(state);
}

static int end(void **state)
{
    char path[64];

    stop_program(&tgtd);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/var/run/tgtd/socket.%d%s", control, i ? ".lock" : "");
        unlink(path);
    }
    return fixture_end(state);
}

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
