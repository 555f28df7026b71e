/* links: control */
/* Verbs over REST: each is a task, that can be looked at and cancelled. */
#include "rest_fixture.h"

static void end_done(void)
{
    fake_end(0, "");
}

static void end_cancelled(void)
{
    fake_end(-ECANCELED, "");
}

static void test_verbs_are_tasks(void **state)
{
    (void)state;
    assert_int_equal(
        api("POST", "/v1/vms", "{\"name\":\"v\",\"disks\":[\"dc1:d\"],\"storage\":\"write-back\"}"), 201);
    assert_int_equal(last_spec.storage, WB_WRITE_BACK);
    assert_int_equal(api("GET", "/v1/vms/v", ""), 200);
    assert_says("\"storage\": \"write-back\"");
    assert_says("\"trouble\": \"the bucket is gone\"");
    assert_int_equal(api("POST", "/v1/vms/v/flush", ""), 202);
    assert_says("\"id\": 1,");
    assert_says("\"kind\": \"flush\"");
    assert_says("\"eta_s\": null");
    assert_int_equal(api("POST", "/v1/vms/v/flush", "{}"), 202);
    assert_says("\"id\": 1,");
    assert_int_equal(api("POST", "/v1/vms/v/storage", "{\"storage\":\"cloud-persist\"}"), 409);
    assert_says("task 1 (flush) works on VM v");
    on_loop(loop, end_done);
    assert_int_equal(api("GET", "/v1/tasks/1", ""), 200);
    assert_says("\"state\": \"done\"");
    assert_int_equal(api("DELETE", "/v1/tasks/1", ""), 409);

    assert_int_equal(api("POST", "/v1/vms/v/discard", "{\"sure\":true,\"force\":true}"), 202);
    assert_true(fake_verbs[1].ask.force);
    assert_int_equal(api("DELETE", "/v1/tasks/2", ""), 202);
    assert_true(fake_verbs[1].cancelled);
    on_loop(loop, end_cancelled);
    assert_int_equal(api("GET", "/v1/tasks", ""), 200);
    assert_says("\"state\": \"cancelled\"");
    fake_refusal = -EINVAL;
    assert_int_equal(api("POST", "/v1/vms/v/run-on-prem", ""), 422);
    assert_says("VM v will not");
    fake_refusal = 0;
    assert_int_equal(api("DELETE", "/v1/vms/v", ""), 200);
}

static void test_malformed_verbs_are_refused(void **state)
{
    static const struct {
        const char *method, *path, *body;
        int code;
    } bad[] = {
        {"POST", "/v1/vms/w/", "", 404},
        {"POST", "/v1/vms/w", "", 404},
        {"POST", "/v1/vms//flush", "", 404},
        {"POST", "/v1/vms/w/dance", "", 404},
        {"POST", "/v1/vms/w/flush/flush", "", 404},
        {"POST", "/v1/vms/absent/flush", "", 404},
        {"POST", "/v1/vms/w/flush", "[", 400},
        {"POST", "/v1/vms/w/flush", "{\"colour\":1}", 400},
        {"POST", "/v1/vms/w/flush", "{\"force\":1}", 400},
        {"POST", "/v1/vms/w/storage", "", 400},
        {"POST", "/v1/vms/w/storage", "{\"storage\":\"tape\"}", 400},
        {"POST", "/v1/vms/w/discard", "", 400},
        {"POST", "/v1/vms/w/run-on-prem", "{\"discard\":true}", 400},
        {"GET", "/v1/tasks/", "", 404},
        {"GET", "/v1/tasks/0", "", 404},
        {"GET", "/v1/tasks/-1", "", 404},
        {"GET", "/v1/tasks/1x", "", 404},
        {"GET", "/v1/tasks/99999999999999999999999", "", 404},
        {"DELETE", "/v1/tasks/77", "", 404},
        {"PUT", "/v1/tasks/1", "", 405},
    };
    unsigned begun = fake_begun;

    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"w\",\"disks\":[\"dc1:d\"]}"), 201);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (api(bad[i].method, bad[i].path, bad[i].body) != bad[i].code)
            fail_msg("%s %s %s: %.200s", bad[i].method, bad[i].path, bad[i].body, answer_text);
    assert_int_equal(fake_begun, begun);
    assert_int_equal(api("DELETE", "/v1/vms/w", ""), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs_are_tasks),
        cmocka_unit_test(test_malformed_verbs_are_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
