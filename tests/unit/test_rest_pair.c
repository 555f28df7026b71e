/* links: control */
/* The pair over REST: what it is, its VMs in it, failing over, and taking the place of the other by force. */
#include "rest_fixture.h"

static void test_pair(void **state)
{
    (void)state;
    assert_int_equal(api("GET", "/v1/pair", ""), 404);
    pair = (struct pair_status){.name = "p1",
                                .self = "edge-a",
                                .other = "edge-b",
                                .role = PAIR_SOLE,
                                .epoch = 7,
                                .why = {"the store is away"}};
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_non_null(strstr(answer_text, "\"role\": \"sole\""));
    assert_non_null(strstr(answer_text, "\"degraded\": true"));
    assert_non_null(strstr(answer_text, "\"epoch\": 7"));
    assert_non_null(strstr(answer_text, "\"waits_for\": \"the store is away\""));
    pair = (struct pair_status){0};
}

static void test_force(void **state)
{
    (void)state;
    assert_int_equal(api("GET", "/v1/pair/force", ""), 404);
    pair = (struct pair_status){.name = "p1", .self = "edge-a", .other = "edge-b", .role = PAIR_OUT};
    assert_int_equal(api("GET", "/v1/pair/force", ""), 200);
    assert_says("\"lost\": \"edge-b\"");
    assert_says("\"cut\": 77");
    assert_says("\"put_at\": 1795447231");
    assert_says("\"whose\": \"nobody\"");
    assert_says("\"deleting\": true");
    assert_says("\"unreadable\": 1");
    assert_int_equal(api("POST", "/v1/pair/force", ""), 422);
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": false}"), 422);
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true, \"x\": 1}"), 422);
    losing.broken = true;
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true}"), 409);
    assert_says("the store is away");
    losing.broken = false;
    assert_false(losing.forced);
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true}"), 202);
    assert_true(losing.forced);
    pair.role = PAIR_SOLE;
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true}"), 422);
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_says("\"forced\": null");
    pair.forced_epoch = 5;
    pair.forced_at_s = 1795447231;
    pair.forced_edge = "edge-a";
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_says("\"at\": 1795447231");
    pair = (struct pair_status){0};
}

/* What the last answer says of a VM. */
static void assert_pair_vm(const char *name, const char *owner, bool mirrored, const char *why)
{
    json_t *json = json_loads(answer_text, 0, NULL), *vm, *found = NULL;
    json_t *wanted = json_pack("{ss ss sb ss ss}", "name", name, "owner", owner, "mirrored", (int)mirrored,
                               "prefers", "edge-b", "why", why);
    size_t i;

    json_array_foreach(json_object_get(json, "vms"), i, vm)
    {
        if (strcmp(json_string_value(json_object_get(vm, "name")), name) == 0) {
            assert_null(found);
            found = vm;
        }
    }
    assert_true(json_equal(found, wanted));
    json_decref(wanted);
    json_decref(json);
}

static void end_done(void)
{
    fake_end(0, "");
}

static void test_vms_of_a_pair(void **state)
{
    static const char *const names[] = {"unmirrored", "astray", "far2"};
    char body[128];

    (void)state;
    pair = (struct pair_status){.name = "p1", .self = "edge-a", .other = "edge-b", .role = PAIR_BOTH};
    for (int i = 0; i < 3; i++) {
        snprintf(body, sizeof body, "{\"name\":\"%s\",\"disks\":[\"dc1:d\"],\"prefers\":\"edge-b\"}",
                 names[i]);
        assert_int_equal(api("POST", "/v1/vms", body), 201);
        assert_string_equal(last_spec.prefers, "edge-b");
    }
    catalog.vm[catalog.n - 1]->far = true;
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_pair_vm("unmirrored", "edge-a", false, "");
    assert_pair_vm("astray", "edge-a", true, "failback is off here");
    assert_pair_vm("far2", "edge-b", true, "");
    pair.role = PAIR_UNKNOWN;
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_pair_vm("astray", "", true, "");
    pair.role = PAIR_BOTH;
    assert_int_equal(api("POST", "/v1/vms/far2/hand-over", ""), 409);
    assert_says("ask that one");
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"x\",\"disks\":[\"dc1:d\"],\"prefers\":\"a b\"}"),
                     400);
    assert_int_equal(api("POST", "/v1/vms/astray/prefer", ""), 400);
    assert_int_equal(api("POST", "/v1/vms/astray/prefer", "{\"edge\":\"-\"}"), 400);
    assert_int_equal(api("POST", "/v1/vms/astray/prefer", "{\"edge\":\"edge-a\"}"), 202);
    assert_string_equal(fake_verbs[(fake_begun - 1) % FAKE_VERBS].ask.prefers, "edge-a");
    on_loop(loop, end_done);
    assert_int_equal(api("POST", "/v1/pair/fail-over", ""), 200);
    assert_says("\"failing_over\": true");
    assert_says("\"vms_here\": 5");
    assert_int_equal(api("DELETE", "/v1/pair/fail-over", ""), 200);
    assert_says("\"failing_over\": false");
    pair.role = PAIR_SOLE;
    assert_int_equal(api("POST", "/v1/pair/fail-over", ""), 422);
    assert_int_equal(api("DELETE", "/v1/vms/astray", ""), 200);
    assert_int_equal(api("DELETE", "/v1/vms/unmirrored", ""), 200);
    free(catalog.vm[--catalog.n]);
    pair = (struct pair_status){0};
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_vms_of_a_pair),
        cmocka_unit_test(test_force),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
