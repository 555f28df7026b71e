/* links: datastore */
/* NBD exports of a real nbdkit: TCP and Unix, errors that pass and errors that stay, a server that dies. */
#include "nbdkit_fixture.h"

static void an_export_is_read(void **state)
{
    struct datastore *ds;

    (void)state;
    serve_image("", "");
    ds = open_export();
    assert_int_equal(ds->ops->info(ds)->bytes, DISK_BYTES);
    start_reads(ds, 0, 128 << 10, 256);
    end_reads();
    start_reads(ds, DISK_BYTES - 4096, 4096, 2);
    WAIT(nended == 2);
    assert_int_equal(readings[1].io.status, -EINVAL);
    close_ds(&ds);
}

static void a_unix_socket_will_do(void **state)
{
    struct datastore *ds;
    char command[300], url[200], path[96];

    (void)state;
    snprintf(path, sizeof path, "%s/nbd", dir);
    snprintf(url, sizeof url, "nbd+unix:///?socket=%s", path);
    ds = open_url(url);
    WAIT(ds->ops->trouble(ds));
    snprintf(command, sizeof command, "nbdkit --exit-with-parent -f -U %s file %s", path, image);
    server = start_program(command);
    WAIT(seen.opened);
    start_reads(ds, 0, 65536, 64);
    end_reads();
    close_ds(&ds);
}

static void errors_that_pass_are_not_told(void **state)
{
    struct datastore *ds;

    (void)state;
    serve_image("--filter=error", "error-pread=EIO error-pread-rate=20%");
    ds = open_export();
    start_reads(ds, 0, 65536, 16);
    WAIT(nended == 16);
    assert_true(nfailed < 4);
    assert_int_equal(nwrong, 0);
    close_ds(&ds);
}

static void an_error_that_stays_is_told_with_a_sentence(void **state)
{
    struct datastore *ds;
    char parameters[200];

    (void)state;
    snprintf(parameters, sizeof parameters, "error-pread=EIO error-pread-rate=100%% error-pread-file=%s",
             failing);
    serve_image("--filter=error", parameters);
    ds = open_export();
    close(open(failing, O_CREAT | O_WRONLY, 0600));
    start_reads(ds, 0, 4096, 4);
    WAIT(nended == 4);
    assert_int_equal(nfailed, 4);
    assert_int_equal(readings[0].io.status, -EIO);
    assert_non_null(strstr(failure.text, "vm1-root"));
    unlink(failing);
    start_reads(ds, 0, 4096, 4);
    end_reads();
    close_ds(&ds);
}

static void reads_survive_the_death_of_the_server(void **state)
{
    struct datastore *ds;

    (void)state;
    serve_image("--filter=delay", "rdelay=20ms");
    ds = open_export();
    for (int round = 0; round < 3; round++) {
        start_reads(ds, 0, 128 << 10, 200);
        WAIT(nended > 10);
        stop_program(&server);
        WAIT(ds->ops->trouble(ds));
        serve_image("--filter=delay", "rdelay=20ms");
        end_reads();
    }
    close_ds(&ds);
}

static void closing_ends_what_is_pending(void **state)
{
    struct datastore *ds;

    (void)state;
    serve_image("--filter=delay", "rdelay=200ms");
    ds = open_export();
    start_reads(ds, 0, 65536, 100);
    turn();
    datastore_close(&ds);
    WAIT(nended == 100);
    assert_int_equal(nwrong, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_export_is_read),
        CASE(a_unix_socket_will_do),
        CASE(errors_that_pass_are_not_told),
        CASE(an_error_that_stays_is_told_with_a_sentence),
        CASE(reads_survive_the_death_of_the_server),
        CASE(closing_ends_what_is_pending),
    };

    if (!find_program("nbdkit")) {
        print_message("needs nbdkit\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
