/* links: common */
/* Each mistake in a configuration file is one sentence with its file and line; values arrive as meant. */
#include "conf.h"
#include "mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/isthmus-conf-XXXXXX";
static char *file;

static cfg_opt_t iscsi_opts[] = {CONF_PORTALS("listen", "{0.0.0.0:3260}"),
                                 CFG_STR("iqn_prefix", "iqn.2026-11.org.isthmus", CFGF_NONE), CFG_END()};
static cfg_opt_t cache_opts[] = {CONF_SIZE("ram", "1G"), CONF_DURATION("age", "10s"), CFG_END()};
static cfg_opt_t edge_opts[] = {CONF_ADDRESS_REQUIRED("address"), CONF_COUNT("connections", 2), CFG_END()};
static cfg_opt_t opts[] = {CONF_REQUIRED("data"),
                           CONF_LOG_LEVEL("log_level", "info"),
                           CONF_COUNT("loops", 0),
                           CFG_SEC("iscsi", iscsi_opts, CFGF_NONE),
                           CFG_SEC("cache", cache_opts, CFGF_NONE),
                           CONF_NAMED_SECTION("edge", edge_opts),
                           CFG_END()};

static int load_bytes(cfg_t **cfg, const char *text, size_t n, struct why *why)
{
    FILE *f = fopen(file, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return conf_load(cfg, file, opts, why);
}

static void test_values_and_defaults(void **state)
{
    cfg_t *cfg;
    struct why why = {""};

    (void)state;
    assert_int_equal(load_bytes(&cfg,
#define TEXT                                                                                                 \
    "# a comment\ndata = \"/var\"\nloops = 3\niscsi { listen = {\"127.0.0.1:1\", \"[::1]:2\"} }\n"           \
    "cache { age = \"50ms\" }\nedge \"a\" { address = \"edge-a.example.org:7260\" }\n"                       \
    "edge b { address = \"[2001:db8::1]:7260\" connections = 4 }\n"
                                TEXT, strlen(TEXT), &why),
                     0);
    assert_string_equal(cfg_getstr(cfg, "data"), "/var");
    assert_string_equal(cfg_getstr(cfg, "log_level"), "info");
    assert_int_equal(cfg_getint(cfg, "loops"), 3);
    assert_int_equal(cfg_size(cfg, "iscsi|listen"), 2);
    assert_string_equal(cfg_getnstr(cfg, "iscsi|listen", 1), "[::1]:2");
    assert_int_equal(conf_bytes(cfg, "cache|ram"), 1ull << 30);
    assert_int_equal(conf_ns(cfg, "cache|age"), 50000000);
    assert_int_equal(cfg_size(cfg, "edge"), 2);
    assert_string_equal(cfg_title(cfg_getnsec(cfg, "edge", 1)), "b");
    assert_int_equal(cfg_getint(cfg_getnsec(cfg, "edge", 0), "connections"), 2);
    assert_int_equal(conf_refuse(cfg_getnsec(cfg, "edge", 1), &why, "no %s", "way"), -EINVAL);
    if (!strstr(why.text, ".conf:7: no way"))
        fail_msg("%s", why.text);
    conf_free(&cfg);
    assert_null(cfg);
}

static void test_each_mistake_has_its_line(void **state)
{
    static const struct {
        const char *text, *says;
    } mistakes[] = {
        {"data = x\ndatum = y\n", ":2: no such option 'datum'"},
        {"data = x\n\ncache {\n  ram = \"1G\"\n  colour = red\n}\n", ":5: no such option 'colour'"},
        {"data = x\ncache { ram = \"lots\" }\n",
         ":2: 'ram' is a size such as \"512M\" or \"8G\", not \"lots\""},
        {"data = x\ncache { ram = \"99999999999999999999G\" }\n", ":2: 'ram' is a size"},
        {"data = x\ncache { age = \"5 fortnights\" }\n", ":2: 'age' is a duration"},
        {"data = x\nloops = many\n", ":2: invalid integer value for option 'loops'"},
        {"data = x\nloops = -1\n", ":2: 'loops' is a number from 0 to 65535, not -1"},
        {"data = x\nlog_level = loud\n", ":2: 'log_level' is error, warn, info or debug, not \"loud\""},
        {"data = x\niscsi {\n listen = {\"127.0.0.1:1\", \"nowhere\"}\n}\n", ":3: 'listen' is an address"},
        {"data = x\niscsi { listen = {\"1.2.3.4:99999\"} }\n", ":2: 'listen' is an address"},
        {"data = x\niscsi { listen = {\"1.2.3.4:1,0\"} }\n", ":2: 'listen' is an address"},
        {"data = x\niscsi { listen = {1.2.3.4:1,2} }\n", "not \"2\""},
        {"data = x\nedge \"a\" {\n connections = 1\n}\n", ":4: edge \"a\" needs the key 'address'"},
        {"data = x\nedge \"a/b\" { address = \"h:1\" }\n", ":2: a name of edge is letters"},
        {"data = x\nedge \"a\" { address = \"h:1\" }\nedge \"a\" { address = \"h:1\" }\n",
         ":3: found duplicate title"},
        {"# one\n // two\n/* three\n four */ data = x # five\ncolour = \"#\"\n",
         ":5: no such option 'colour'"},
        {"loops = 1\n", ": the key 'data' is missing"},
        {"", ": the key 'data' is missing"},
        {"data = x\ncache {\n", ": a section, a list or a comment is not closed"},
        {"data = x\niscsi { listen = {\n", ": "},
        {"data = x\n/* cache\n", ": "},
        {"data = \"x\n", ": "},
        {"data = x\ncache = 3\n", ":2: "},
        {"}\n", ":1: "},
        {"data = x\ncache { ram = }\n", ":2: "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        cfg_t *cfg = NULL;
        struct why why = {""};
        int err = load_bytes(&cfg, mistakes[i].text, strlen(mistakes[i].text), &why);

        if (err != -EINVAL || strncmp(why.text, file, strlen(file)) != 0 ||
            !strstr(why.text, mistakes[i].says))
            fail_msg("%s\nwas refused (%d) with: %s", mistakes[i].text, err, why.text);
        assert_null(cfg);
        assert_null(strchr(why.text, '\n'));
    }
}

static void test_files_that_are_no_configuration(void **state)
{
    cfg_t *cfg;
    struct why why = {""};

    (void)state;
    assert_int_equal(conf_load(&cfg, "/nonexistent/x.conf", opts, &why), -ENOENT);
    assert_string_equal(why.text,
                        "cannot read the configuration /nonexistent/x.conf: No such file or directory");
    assert_int_equal(conf_load(&cfg, dir, opts, &why), -EINVAL);
    assert_non_null(strstr(why.text, "not a regular file"));
    assert_int_equal(load_bytes(&cfg, "data = x\0", 9, &why), -EINVAL);
    assert_non_null(strstr(why.text, "zero byte"));

    CLEANUP_FREE char *big = xmalloc(CONF_FILE_MAX + 1);
    memset(big, '\n', CONF_FILE_MAX + 1);
    assert_int_equal(load_bytes(&cfg, big, CONF_FILE_MAX + 1, &why), -EFBIG);
    assert_int_equal(load_bytes(&cfg, big, CONF_FILE_MAX, &why), -EINVAL);
    assert_non_null(strstr(why.text, "the key 'data' is missing"));
}

/* Whatever bytes a file holds, the answer is 0 or a sentence. */
static void test_noise_is_refused(void **state)
{
    static const char alphabet[] = "data={}\"'\\\n #/*+,$cacheramedge\xff\x80\t0";
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        char text[80];
        size_t n = (size_t)round % sizeof(text);
        cfg_t *cfg;
        struct why why = {""};

        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
        }
        if (load_bytes(&cfg, text, n, &why) == 0)
            conf_free(&cfg);
        else
            assert_true(why.text[0] != '\0');
    }
}

static void test_sizes_durations_addresses_names(void **state)
{
    char host[CONF_HOST_MAX + 1];
    uint16_t port;
    uint64_t n;
    struct sockaddr_storage address;
    socklen_t len;
    struct why why;

    (void)state;
    assert_true(conf_parse_size("8G", &n) && n == 8ull << 30);
    assert_true(conf_parse_size("4096", &n) && n == 4096);
    assert_false(conf_parse_size("", &n) || conf_parse_size("G", &n) || conf_parse_size("1.5G", &n));
    assert_false(conf_parse_size("-1", &n) || conf_parse_size("8388608T", &n) || conf_parse_size("1GB", &n));
    assert_true(conf_parse_duration("2m", &n) && n == 120000000000ull);
    assert_false(conf_parse_duration("10", &n) || conf_parse_duration("s", &n));
    assert_true(conf_address("[fe80::1%eth0]:1", host, &port) && port == 1);
    assert_string_equal(host, "fe80::1%eth0");
    assert_true(conf_address("a.b:0", host, &port) && port == 0);
    assert_false(conf_address("::1:1", host, &port) || conf_address(":1", host, &port));
    assert_false(conf_address("[]:1", host, &port) || conf_address("h:", host, &port));
    assert_false(conf_address("h:1x", host, &port) || conf_address("a b:1", host, &port));
    assert_int_equal(conf_sockaddr("[::1]:9", &address, &len, &why), 0);
    assert_int_equal(address.ss_family, AF_INET6);
    assert_int_equal(conf_sockaddr("localhost:9", &address, &len, &why), -EINVAL);
    assert_true(conf_name_ok("vm1-root.x_Y"));
    assert_false(conf_name_ok("") || conf_name_ok(".a") || conf_name_ok("-a") || conf_name_ok("a/b"));
    assert_false(conf_name_ok("a23456789012345678901234567890123456789012345678901234567890abcd"));
}

static void test_secrets_are_private(void **state)
{
    struct why why = {""};
    char text[16];
    cfg_t *cfg;

    (void)state;
    load_bytes(&cfg, "0123456789\nrest", 15, NULL);
    assert_int_equal(chmod(file, 0640), 0);
    assert_int_equal(conf_private(file, &why), -EACCES);
    assert_non_null(strstr(why.text, "chmod 600"));
    assert_int_equal(conf_read_secret(file, text, sizeof(text), &why), -EACCES);
    assert_int_equal(chmod(file, 0600), 0);
    assert_int_equal(conf_private(file, &why), 0);
    assert_int_equal(conf_read_secret(file, text, sizeof(text), &why), 0);
    assert_string_equal(text, "0123456789");
    assert_int_equal(conf_read_secret(file, text, 10, &why), -EINVAL);
    assert_int_equal(conf_read_secret(dir, text, sizeof(text), &why), -EINVAL);
    load_bytes(&cfg, "\nx", 2, NULL);
    assert_int_equal(conf_read_secret(file, text, sizeof(text), &why), -EINVAL);
    assert_non_null(strstr(why.text, "is empty"));
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    file = xasprintf("%s/x.conf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(file);
    free(file);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_and_defaults),
        cmocka_unit_test(test_each_mistake_has_its_line),
        cmocka_unit_test(test_files_that_are_no_configuration),
        cmocka_unit_test(test_noise_is_refused),
        cmocka_unit_test(test_sizes_durations_addresses_names),
        cmocka_unit_test(test_secrets_are_private),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
