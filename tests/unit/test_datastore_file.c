/* links: datastore */
/* The file datastore and what is common to all: URLs, secrets, bounds, closing. */
#include "datastore_fixture.h"

static void secrets_are_not_shown(void **state)
{
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"iscsi://joe%hush@host:3260/iqn.x:y/1", "iscsi://joe%***@host:3260/iqn.x:y/1"},
        {"iscsi://joe%h@u/sh@host/iqn.x:y/1", "iscsi://joe%***@host/iqn.x:y/1"},
        {"iscsi://a%b@h/i/0?target_user=u&target_password=hush&x=1",
         "iscsi://a%***@h/i/0?target_user=u&target_password=***&x=1"},
        {"iscsi://host/iqn.x:y/1", "iscsi://host/iqn.x:y/1"},
        {"file:/a@b", "file:/a@b"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *shown = datastore_url_redact(cases[i].url);
        assert_null(strstr(shown, "hush"));
        assert_null(strstr(shown, "sh@host"));
        assert_string_equal(shown, cases[i].shown);
        assert_int_equal(datastore_url_has_secret(cases[i].url), i < 3);
        free(shown);
    }
}

static void a_bad_url_is_refused_with_a_sentence(void **state)
{
    static const char *const bad[] = {"",
                                      "/disk.img",
                                      "ftp://host/x",
                                      "iscsi://host",
                                      "iscsi://",
                                      "iscsi://h/iqn.x:y",
                                      "nbd+unix:///x",
                                      "nbd://",
                                      "file:disk",
                                      "iscsi:",
                                      "iscsi://j%hush@h/i"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct why why = {""};
        assert_int_equal(datastore_url_check(bad[i], &why), -EINVAL);
        assert_true(why.text[0]);
        assert_null(strstr(why.text, "hush"));
    }
}

static struct datastore *open_image(void)
{
    char url[128];
    struct datastore *ds;

    snprintf(url, sizeof url, "file:%s", image);
    ds = open_url(url);
    assert_null(ds->ops->info(ds));
    WAIT(seen.opened);
    assert_int_equal(ds->ops->info(ds)->bytes, DISK_BYTES);
    assert_null(ds->ops->trouble(ds));
    return ds;
}

static void a_file_is_read(void **state)
{
    struct datastore *ds = open_image();

    (void)state;
    start_reads(ds, 0, 128 << 10, 256);
    end_reads();
    start_reads(ds, DISK_BYTES - 4096, 4096, 2);
    WAIT(nended == 2);
    assert_int_equal(nfailed, 1);
    assert_int_equal(readings[1].io.status, -EINVAL);
    close_ds(&ds);
}

static void closing_ends_what_is_pending(void **state)
{
    struct datastore *ds = open_image();

    (void)state;
    start_reads(ds, 0, 64 << 10, 200);
    datastore_close(&ds);
    WAIT(nended == 200);
    assert_true(nfailed > 100);
    assert_int_equal(nwrong, 0);
}

static void a_missing_file_is_said_and_waited_for(void **state)
{
    char url[160], path[128], made[128];
    struct datastore *ds;

    (void)state;
    snprintf(path, sizeof path, "%s/later.img", dir);
    snprintf(made, sizeof made, "%s/made.img", dir);
    write_image(made, DISK_BYTES);
    snprintf(url, sizeof url, "file:%s", path);
    ds = open_url(url);
    start_reads(ds, 0, 4096, 8);
    WAIT(seen.refused);
    assert_non_null(strstr(seen.why.text, path));
    assert_non_null(ds->ops->trouble(ds));
    assert_int_equal(rename(made, path), 0); /* whole at once */
    WAIT(seen.opened);
    end_reads();
    close_ds(&ds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(a_bad_url_is_refused_with_a_sentence),
        cmocka_unit_test_setup_teardown(a_file_is_read, fixture_begin, fixture_end),
        cmocka_unit_test_setup_teardown(closing_ends_what_is_pending, fixture_begin, fixture_end),
        cmocka_unit_test_setup_teardown(a_missing_file_is_said_and_waited_for, fixture_begin, fixture_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
