/* links: control */
/* The boot scripts that an edge gives to iPXE, without a token. */
#include "rest_fixture.h"

static void test_boot_scripts(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"b.1\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(ask(open_http, "GET", "/boot/b.1.ipxe", NULL, ""), 200);
    assert_int_equal(strncmp(answer_text, "#!ipxe\n", 7), 0);
    assert_says("set initiator-iqn iqn.2026-11.test:initiator:b.1\n");
    assert_says("sanboot --keep iscsi:edge.test::3260:0:iqn.2026-11.test:b.1 ||");
    assert_null(strstr(answer_text, "login"));
    assert_int_equal(ask(open_http, "GET", "/boot/b.1.ipxe?initiator=iqn.1999-01.x:me", NULL, ""), 200);
    assert_says("set initiator-iqn iqn.1999-01.x:me\n");
    assert_int_equal(ask(open_http, "GET", "/boot/b.1.ipxe?initiator=a%0ashell", NULL, ""), 400);
    assert_int_equal(ask(open_http, "GET", "/boot/none.ipxe", NULL, ""), 404);
    assert_says("#!ipxe\necho");
    assert_int_equal(ask(open_http, "GET", "/boot/b.1", NULL, ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/b.1", ""), 200);

    assert_int_equal(
        api("POST", "/v1/vms",
            "{\"name\":\"c\",\"disks\":[\"d:d\"],\"chap_user\":\"u\",\"chap_secret\":\"topsecret-123\"}"),
        201);
    assert_int_equal(ask(open_http, "GET", "/boot/c.ipxe", NULL, ""), 200);
    assert_says("\nlogin\n");
    assert_null(strstr(answer_text, "topsecret"));
    assert_int_equal(api("DELETE", "/v1/vms/c", ""), 200);
}

static void test_boot_scripts_name_both_edges(void **state)
{
    (void)state;
    other_portals[0] = "10.0.0.2:3260";
    other_portals[1] = "10.0.0.3:3260";
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"mine\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(ask(open_http, "GET", "/boot/mine.ipxe", NULL, ""), 200);
    assert_says("sanboot --keep iscsi:edge.test::3260:0:iqn.2026-11.test:mine "
                "iscsi:10.0.0.2::3260:0:iqn.2026-11.test:mine ||");
    assert_int_equal(ask(open_http, "GET", "/boot/mine.ipxe?paths=1", NULL, ""), 200);
    assert_says("sanboot --keep iscsi:edge.test::3260:0:iqn.2026-11.test:mine ||");
    assert_int_equal(ask(open_http, "GET", "/boot/mine.ipxe?paths=3", NULL, ""), 400);

    other_portals[0] = "[fd00::2]:3261";
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"far1\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(ask(open_http, "GET", "/boot/far1.ipxe", NULL, ""), 200);
    assert_says("sanboot --keep iscsi:[fd00::2]::3261:0:iqn.2026-11.test:far1 "
                "iscsi:edge.test::3260:0:iqn.2026-11.test:far1 ||");
    other_portals[0] = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boot_scripts),
        cmocka_unit_test(test_boot_scripts_name_both_edges),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
