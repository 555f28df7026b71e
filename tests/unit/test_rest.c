/* links: control */
/* VMs over REST: made, looked at, deleted, recovered, and their disks; who may ask, and what is malformed. */
#include "metric.h"
#include "rest_fixture.h"

static void test_a_token_is_asked(void **state)
{
    static const char *const wrong[] = {NULL, "", "0123456789abcdef", "0123456789abcdef0123456789abcdeF",
                                        "0123456789abcdef0123456789abcdef0"};
    CLEANUP_FREE char *long_one = xmalloc(2000);

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(ask(control, "GET", "/v1/status", wrong[i], ""), 401);
        assert_says("{\"error\": \"this needs the edge's token");
    }
    memset(long_one, '0', 1999);
    long_one[1999] = '\0';
    assert_int_equal(ask(control, "GET", "/v1/vms/x", long_one, ""), 401);
    assert_int_equal(api("GET", "/v1/vms", ""), 200);
    assert_int_equal(ask(open_http, "GET", "/v1/vms", token, ""), 404);
}

static void test_a_vm_from_creation_to_deletion(void **state)
{
    json_t *json;

    (void)state;
    assert_int_equal(
        api("POST", "/v1/vms",
            "{\"name\":\"vm1\",\"disks\":[\"dc1:vm1-root\",\"dc1:vm1-data\"],\"chap_user\":\"u\","
            "\"chap_secret\":\"topsecret-123\",\"block_bytes\":4096}"),
        201);
    assert_says("\"iqn\": \"iqn.2026-11.test:vm1\"");
    assert_int_equal(last_spec.ndisks, 2);
    assert_string_equal(last_spec.disks[1].disk, "vm1-data");
    assert_int_equal(last_spec.disks[1].block_bytes, 4096);
    assert_string_equal(last_spec.chap_secret, "topsecret-123");
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"vm1\",\"disks\":[\"dc1:x\"]}"), 409);
    assert_says("there is a VM vm1 already");
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"vm2\",\"disks\":[\"dc1:absent\"]}"), 422);
    assert_says("dc1 has no disk absent");

    assert_int_equal(api("GET", "/v1/vms/vm1", ""), 200);
    assert_null(strstr(answer_text, "topsecret"));
    json = json_loads(answer_text, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "chap_user")), "u");
    json_t *disk = json_array_get(json_object_get(json, "disks"), 0);
    assert_string_equal(json_string_value(json_object_get(disk, "source")), "dc1:vm1-root");
    assert_int_equal(json_integer_value(json_object_get(disk, "bytes")), 1024 * 1024);
    json_decref(json);

    assert_int_equal(api("DELETE", "/v1/vms/vm1?force=2", ""), 400);
    assert_int_equal(api("DELETE", "/v1/vms/vm1", ""), 200);
    assert_int_equal(api("DELETE", "/v1/vms/vm1", ""), 404);
    assert_int_equal(api("GET", "/v1/vms/vm1", ""), 404);
}

static void test_disks_come_and_go(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"vm1\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:more\"}"), 201);
    assert_says("\"lun\": 1");
    assert_string_equal(last_disk.onprem, "dc1");
    assert_string_equal(last_disk.disk, "more");
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"lun\":5,\"block_bytes\":4096}"),
                     201);
    assert_says("\"lun\": 5");
    assert_int_equal(last_disk.block_bytes, 4096);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"lun\":7}"), 409);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"lun\":64}"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1\"}"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"size\":1}"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "no"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks/1", "{\"disk\":\"dc1:m\"}"), 404);
    assert_int_equal(api("POST", "/v1/vms/none/disks", "{\"disk\":\"dc1:m\"}"), 404);
    assert_int_equal(api("POST", "/v1/vms/vm1", "{\"disk\":\"dc1:m\"}"), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1", ""), 409);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1?force=1", ""), 200);
    assert_says("\"removed\": 1");
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/9?force=1", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1x", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1?force=2", ""), 400);
    assert_int_equal(api("DELETE", "/v1/vms/none/disks/1", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1", ""), 200);
}

static void test_a_busy_vm_wants_force(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"busy\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(api("GET", "/v1/vms/busy", ""), 200);
    assert_says("\"initiator\": \"iqn.x:i\"");
    assert_int_equal(api("DELETE", "/v1/vms/busy", ""), 409);
    assert_int_equal(api("DELETE", "/v1/vms/busy?force=1", ""), 200);
}

static void test_recovery(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/recover", "{}"), 200);
    assert_string_equal(recovery.name, "");
    assert_true(recovery.through == UINT64_MAX);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":\"web\",\"cut\":7}"), 200);
    assert_string_equal(recovery.name, "web");
    assert_int_equal(recovery.through, 7);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":\"absent\"}"), 404);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":\"a b\"}"), 400);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":7}"), 400);
    assert_int_equal(api("POST", "/v1/recover", "[1"), 400);
}

static void test_malformed_vms_are_refused(void **state)
{
    static const struct {
        const char *body, *says;
    } bad[] = {
        {"", "this is not JSON"},
        {"{", "this is not JSON"},
        {"[]", "a JSON object"},
        {"{\"name\":\"a\",\"name\":\"b\",\"disks\":[\"d:d\"]}", "this is not JSON"},
        {"{\"disks\":[\"d:d\"]}", "a VM's name is"},
        {"{\"name\":7,\"disks\":[\"d:d\"]}", "is a string"},
        {"{\"name\":\"../x\",\"disks\":[\"d:d\"]}", "a VM's name is"},
        {"{\"name\":\"a\"}", "\\\"disks\\\" is a list"},
        {"{\"name\":\"a\",\"disks\":[]}", "\\\"disks\\\" is a list"},
        {"{\"name\":\"a\",\"disks\":[7]}", "a disk is ONPREM:DISK"},
        {"{\"name\":\"a\",\"disks\":[\"nocolon\"]}", "a disk is ONPREM:DISK"},
        {"{\"name\":\"a\",\"disks\":[\"a:b:c\"]}", "a disk is ONPREM:DISK"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"colour\":\"red\"}", "no property"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"storage\":\"tape\"}", "or \\\"cloud-persist"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"block_bytes\":1024}", "512 or 4096"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"block_bytes\":\"4096\"}", "512 or 4096"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"chap_user\":\"u\"}", "come together"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"chap_user\":\"u\",\"chap_secret\":\"short\"}", "12 to 255"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"mutual_user\":\"u\",\"mutual_secret\":\"0123456789ab\"}",
         "needs chap_user"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"mutual_user\":\"u\",\"mutual_secret\":\"0123456789ab\","
         "\"chap_user\":\"u\",\"chap_secret\":\"0123456789ab\"}",
         "must differ"},
    };
    char deep[40000];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(api("POST", "/v1/vms", bad[i].body), 400);
        assert_says(bad[i].says);
    }
    memset(deep, '[', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    assert_int_equal(api("POST", "/v1/vms", deep), 400);
    assert_int_equal(api("PUT", "/v1/vms", "{}"), 405);
    assert_int_equal(catalog.n, 0);
}

static void test_status(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"s\",\"disks\":[\"dc1:d\",\"dc2:d\",\"dc1:e\"]}"),
                     201);
    struct metric *hits = metric_new(METRIC_COUNTER, "isthmus_tier_blocks_total", "Blocks.", "%s",
                                     "vm=\"s\",tier=\"ram\",result=\"hit\"");
    metric_add(hits, 7);
    assert_int_equal(api("GET", "/v1/status", ""), 200);
    json_t *json = json_loads(answer_text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "version")), ISTHMUS_VERSION);
    assert_int_equal(json_array_size(json_object_get(json, "peers")), 2);
    assert_true(json_is_true(json_object_get(json_object_get(json, "journal"), "throttled")));
    json_t *tiers = json_object_get(json_array_get(json_object_get(json, "vms"), 0), "tiers");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(tiers, "ram"), "hit_blocks")), 7);
    json_decref(json);
    metric_free(&hits);
    assert_int_equal(api("DELETE", "/v1/vms/s", ""), 200);
}

static void stop_rest(void)
{
    rest_stop(&rest);
}

static void try_bad_token_files(void)
{
    struct rest_conf conf = {
        .vms = &catalog, .main = loop, .iqn_prefix = "iqn.x", .token_file = "/none/token"};
    struct why why = {""};
    FILE *f;

    CHECK(rest_start(&rest, control, open_http, &conf, &why) == -ENOENT &&
          strstr(why.text, "isthmusctl token new"));
    conf.token_file = token_file;
    chmod(token_file, 0644);
    CHECK(rest_start(&rest, control, open_http, &conf, &why) == -EACCES && strstr(why.text, "chmod 600"));
    chmod(token_file, 0600);
    f = fopen(token_file, "w");
    fputs("short\n", f);
    fclose(f);
    CHECK(rest_start(&rest, control, open_http, &conf, &why) == -EINVAL && strstr(why.text, "shorter"));
}

static void test_after_the_end_and_with_bad_token_files(void **state)
{
    (void)state;
    on_loop(loop, stop_rest);
    assert_int_equal(api("GET", "/v1/vms", ""), 503);
    assert_int_equal(ask(open_http, "GET", "/boot/x.ipxe", NULL, ""), 503);
    on_loop(loop, try_bad_token_files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_is_asked),
        cmocka_unit_test(test_a_vm_from_creation_to_deletion),
        cmocka_unit_test(test_disks_come_and_go),
        cmocka_unit_test(test_a_busy_vm_wants_force),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_malformed_vms_are_refused),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_after_the_end_and_with_bad_token_files),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
