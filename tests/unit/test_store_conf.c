/* links: store */
/* The section of a configuration that names an object store: what it may say, and the sentence for what not. */
#include "store_conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static cfg_t *cfg;
static struct store_conf conf;
static struct why why;

static int load(const char *text)
{
    cfg_opt_t store[] = {STORE_CONF_OPTIONS, CFG_END()};
    cfg_opt_t options[] = {CFG_SEC("store", store, CFGF_NONE), CFG_END()};
    char path[] = "/tmp/isthmus-conf-XXXXXX";
    int rc, fd = mkstemp(path);

    assert_true(fd >= 0 && dprintf(fd, "store { %s }\n", text) > 0);
    close(fd);
    memset(&why, 0, sizeof(why));
    rc = conf_load(&cfg, path, options, &why);
    assert_int_equal(rc, 0);
    rc = store_conf_read(cfg_getsec(cfg, "store"), &conf, &why);
    unlink(path);
    return rc;
}

static void defaults_are_the_defaults(void **state)
{
    struct store_conf d;

    (void)state;
    store_conf_default(&d, "");
    assert_int_equal(load(""), 0);
    assert_string_equal(conf.url, "");
    assert_int_equal(conf.connections, d.connections);
    assert_int_equal(conf.part_bytes, d.part_bytes);
    assert_string_equal(conf.style, d.style);
    conf_free(&cfg);
}

static void mistakes_are_sentences(void **state)
{
    static const char *const wrong[][2] = {
        {"url = \"ftp://x\"", "the store 'ftp://x' is unknown: use s3://BUCKET/PREFIX"},
        {"connections = 0", "connections must be 1 to 256"},
        {"connections = 300", "connections must be 1 to 256"},
        {"part = 1M", "part must be 5M to 1G"},
        {"style = virtul", "style must be auto, path or virtual, not 'virtul'"},
        {"sse = aes", "sse must be AES256 or aws:kms, not 'aes'"},
        {"sse_key = k", "sse_key needs sse = \"aws:kms\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_not_equal(load(wrong[i][0]), 0);
        assert_non_null(strstr(why.text, wrong[i][1]));
        conf_free(&cfg);
    }
}

static void a_store_that_is_unknown_is_not_opened(void **state)
{
    struct store_conf c;

    (void)state;
    store_conf_default(&c, "nfs:/x");
    assert_null(store_open_plain(NULL, &c, &why));
    assert_non_null(strstr(why.text, "the store 'nfs:/x' is unknown"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_defaults),
        cmocka_unit_test(mistakes_are_sentences),
        cmocka_unit_test(a_store_that_is_unknown_is_not_opened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
