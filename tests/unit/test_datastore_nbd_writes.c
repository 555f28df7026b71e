/* links: datastore */
/* NBD exports of a real nbdkit are written: with and without zeroing, read-only, full, with a disk that
 * fails, and with a server that dies before it was flushed. */
#include "metric.h"
#include "nbdkit_fixture.h"

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
    expect_pattern(image, 0, 4096, 7);
    expect_zeros(image, 4096, 4 << 20);
    expect_pattern(image, (4 << 20) + 4096, (12 << 20) - 4096, 7);
    expect_pattern(image, 16 << 20, 16 << 20, 0);
}

static void what_is_written_is_read_and_flushed(void **state)
{
    struct datastore *ds;
    uint64_t before = allocated_bytes(image);

    (void)state;
    serve_image("", "");
    ds = open_export();
    write_all_of_it(ds);
    assert_true(allocated_bytes(image) <= before - (3 << 20));
    assert_int_equal(act(ds, DATASTORE_MARK, 0, 0), 0);
    assert_int_equal(deed.mark_len, 0);
    assert_int_equal(act(ds, DATASTORE_WRITE, DISK_BYTES, 4096), -EINVAL);
    ds->ops->hold(ds, 1);
    assert_false(ds->ops->held(ds));
    close_ds(&ds);
}

static void servers_that_can_less_will_do(void **state)
{
    static const char *const cases[] = {
        "--filter=nozero",
        "--filter=multi-conn --filter=fua multi-conn-mode=disable fuamode=discard",
        "--filter=nozero --filter=multi-conn multi-conn-mode=disable",
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *parameters = strstr(cases[i], " multi-conn-mode");
        char *filters = xstrndup(cases[i], parameters ? (size_t)(parameters - cases[i]) : strlen(cases[i]));
        struct datastore *ds;

        write_image(image, DISK_BYTES);
        serve_image(filters, parameters ? parameters : "");
        ds = open_export();
        write_all_of_it(ds);
        close_ds(&ds);
        stop_program(&server);
        free(filters);
    }
}

static void read_only_is_said(void **state)
{
    struct datastore *ds;

    (void)state;
    serve_image("-r", "");
    ds = open_export();
    assert_true(ds->ops->info(ds)->read_only);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EROFS);
    assert_non_null(strstr(deed.why.text, "reading only"));
    close_ds(&ds);
    stop_program(&server);

    assert_int_equal(truncate(image, DISK_BYTES - 100), 0); /* its last sector could not be kept */
    serve_image("", "");
    ds = open_export();
    assert_int_equal(ds->ops->info(ds)->bytes, DISK_BYTES);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EROFS);
    assert_non_null(strstr(deed.why.text, "no multiple of 512"));
    close_ds(&ds);
}

static void a_full_disk_is_said_at_once(void **state)
{
    struct datastore *ds;
    char parameters[200];

    (void)state;
    snprintf(parameters, sizeof parameters, "error=ENOSPC error-rate=100%% error-pread-rate=0 error-file=%s",
             failing);
    serve_image("--filter=error", parameters);
    ds = open_export();
    close(open(failing, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -ENOSPC);
    assert_int_equal(act(ds, DATASTORE_ZERO, 0, 4096), -ENOSPC);
    assert_int_equal(deed.in.tries, 0);
    start_reads(ds, 0, 4096, 8);
    end_reads();
    unlink(failing);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    close_ds(&ds);
}

static void errors_are_tried_again_and_told(void **state)
{
    struct datastore *ds;
    char parameters[200];

    (void)state;
    snprintf(parameters, sizeof parameters, "error-pwrite=EIO error-pwrite-rate=100%% error-pwrite-file=%s",
             failing);
    serve_image("--filter=error", parameters);
    ds = open_export();
    close(open(failing, O_CREAT | O_WRONLY, 0600));
    start_writes(ds, 0, 4096, 64, 7);
    WAIT(metric_sum("isthmus_datastore_errors_total", "vm1-root") >= 8);
    unlink(failing); /* before the last try */
    end_writes();
    expect_pattern(image, 0, 64 * 4096, 7);
    close(open(failing, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(act(ds, DATASTORE_WRITE, 8192, 4096), -EIO);
    assert_non_null(strstr(deed.why.text, "cannot write 4096 bytes at 8192"));
    close_ds(&ds);
}

/* A plugin of our own, whose flush fails once. */
static void a_failed_flush_is_a_loss(void **state)
{
    char script[96], command[200], text[600];
    struct datastore *ds;
    FILE *f;

    (void)state;
    snprintf(script, sizeof script, "%s/plugin.sh", dir);
    f = fopen(script, "w");
    assert_non_null(f);
    snprintf(text, sizeof text,
             "#!/bin/sh\n"
             "case $1 in\n"
             "get_size) echo 1M ;;\n"
             "can_write|can_flush) exit 0 ;;\n"
             "pread) head -c $3 /dev/zero ;;\n"
             "pwrite) cat >/dev/null ;;\n"
             "flush) if rm %s; then echo EIO the cache failed >&2; exit 1; fi ;;\n"
             "*) exit 2 ;;\n"
             "esac\n",
             failing);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(script, 0700), 0);
    close(open(failing, O_CREAT | O_WRONLY, 0600));
    snprintf(command, sizeof command, "sh %s", script);
    start_server(command);
    ds = open_export();
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    assert_int_equal(ds->ops->generation(ds), 0);
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), -EIO);
    assert_int_equal(ds->ops->generation(ds), 1);
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(ds->ops->generation(ds), 1);
    close_ds(&ds);
}

static void writes_survive_the_death_of_the_server(void **state)
{
    struct datastore *ds;
    uint64_t generation;

    (void)state;
    serve_image("--filter=delay", "wdelay=20ms");
    ds = open_export();
    for (unsigned round = 0; round < 3; round++) {
        generation = ds->ops->generation(ds);
        start_writes(ds, 0, 128 << 10, 200, round + 1);
        WAIT(nwritten > 10);
        stop_program(&server);
        WAIT(ds->ops->trouble(ds));
        WAIT(ds->ops->generation(ds) > generation); /* each connection notices by itself */
        serve_image("--filter=delay", "wdelay=20ms");
        end_writes();
        assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
        expect_pattern(image, 0, 200 * (128 << 10), round + 1);
    }
    generation = ds->ops->generation(ds);
    stop_program(&server); /* nothing is unflushed */
    WAIT(ds->ops->trouble(ds));
    assert_int_equal(ds->ops->generation(ds), generation);
    close_ds(&ds);
}

/* A server that forgets: that the generation rises is all there is to know it by. */
static void what_a_server_forgets_is_known(void **state)
{
    struct datastore *ds;

    (void)state;
    start_server("memory 32M");
    ds = open_export();
    start_writes(ds, 0, 64 << 10, 8, 0);
    end_writes();
    assert_int_equal(ds->ops->generation(ds), 0);
    stop_program(&server);
    start_server("memory 32M");
    start_reads(ds, 0, 4096, 1);
    WAIT(nended == 1);
    assert_int_equal(nwrong, 1);
    assert_int_equal(ds->ops->generation(ds), 1);
    close_ds(&ds);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_is_written_is_read_and_flushed),
        CASE(servers_that_can_less_will_do),
        CASE(read_only_is_said),
        CASE(a_full_disk_is_said_at_once),
        CASE(errors_are_tried_again_and_told),
        CASE(a_failed_flush_is_a_loss),
        CASE(writes_survive_the_death_of_the_server),
        CASE(what_a_server_forgets_is_known),
    };

    if (!find_program("nbdkit")) {
        print_message("needs nbdkit\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
