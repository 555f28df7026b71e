/* links: cache */
/* What a VM may be called, and its entry in the catalog. */
#include "mem.h"
#include "vm_spec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct vm_spec good(void)
{
    struct vm_spec s = {.name = "web-1",
                        .iqn = "iqn.2026-11.org.isthmus:web-1",
                        .ndisks = 2,
                        .storage = WB_WRITE_BACK,
                        .home = true,
                        .floor = 77,
                        .prefers = "edge-b",
                        .task = 3};

    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        s.id[i] = (uint8_t)(i * 16);
    s.next_number = 2;
    for (unsigned i = 0; i < 2; i++) {
        s.disks[i].number = (uint8_t)i;
        snprintf(s.disks[i].onprem, sizeof s.disks[i].onprem, "dc1");
        snprintf(s.disks[i].disk, sizeof s.disks[i].disk, "web-1-%u", i);
        s.disks[i].sectors = (5ull << 40) + i;
        s.disks[i].block_bytes = 512;
    }
    return s;
}

static void set_chap(struct vm_spec *s, const char *user, const char *secret)
{
    snprintf(s->chap_user, sizeof s->chap_user, "%s", user);
    snprintf(s->chap_secret, sizeof s->chap_secret, "%s", secret);
}

static void a_spec_comes_back_from_json(void **state)
{
    struct vm_spec s = good(), back;
    bool deleting = true;
    struct why why;
    char *json;

    (void)state;
    set_chap(&s, "u\"ser", "a secret of some length");
    json = vm_spec_to_json(&s, false);
    assert_int_equal(vm_spec_from_json(json, strlen(json), &back, &deleting, &why), 0);
    assert_false(deleting);
    assert_memory_equal(s.id, back.id, sizeof s.id);
    assert_string_equal(s.name, back.name);
    assert_string_equal(s.iqn, back.iqn);
    assert_string_equal(s.chap_user, back.chap_user);
    assert_string_equal(s.chap_secret, back.chap_secret);
    assert_int_equal(back.ndisks, 2);
    assert_int_equal(back.storage, WB_WRITE_BACK);
    assert_true(back.home);
    assert_int_equal(back.floor, 77);
    assert_int_equal(back.task, 3);
    assert_string_equal(back.prefers, "edge-b");
    assert_false(back.paused);
    assert_string_equal(back.disks[1].disk, "web-1-1");
    assert_int_equal(back.disks[1].sectors, (5ull << 40) + 1);
    free(json);
}

/* LUN 1 was removed, another came as LUN 3: its number was never anybody's. */
static void gaps_and_numbers_are_kept(void **state)
{
    struct vm_spec s = good(), back;
    bool deleting;
    struct why why;
    char *json;

    (void)state;
    s.disks[3] = s.disks[1];
    s.disks[3].number = 2;
    memset(&s.disks[1], 0, sizeof s.disks[1]);
    s.ndisks = 4;
    s.next_number = 3;
    assert_int_equal(vm_spec_check(&s, &why), 0);
    assert_int_equal(vm_spec_disks(&s), 2);
    json = vm_spec_to_json(&s, false);
    assert_int_equal(vm_spec_from_json(json, strlen(json), &back, &deleting, &why), 0);
    assert_memory_equal(&back, &s, sizeof s);
    free(json);
    memset(&s.disks[0], 0, sizeof s.disks[0]);
    memset(&s.disks[3], 0, sizeof s.disks[3]);
    assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
}

/* Format 1: disks are LUNs 0, 1, ..., and numbers the same. */
static void an_older_entry_is_read(void **state)
{
    static const char old[] =
        "{\"format\":1,\"name\":\"web-1\",\"iqn\":\"iqn.x:y\",\"chap_user\":\"\",\"chap_secret\":\"\","
        "\"mutual_user\":\"\",\"mutual_secret\":\"\",\"deleting\":false,\"epoch\":0,\"since\":0,\"storage\":"
        "1,"
        "\"paused\":false,\"home\":false,\"id\":\"00112233445566778899aabbccddeeff\",\"disks\":["
        "{\"onprem\":\"dc1\",\"disk\":\"a\",\"sectors\":8,\"block_bytes\":512},"
        "{\"onprem\":\"dc1\",\"disk\":\"b\",\"sectors\":8,\"block_bytes\":512}]}";
    struct vm_spec s;
    bool deleting;
    struct why why;

    (void)state;
    assert_int_equal(vm_spec_from_json(old, strlen(old), &s, &deleting, &why), 0);
    assert_int_equal(s.ndisks, 2);
    assert_int_equal(s.next_number, 2);
    assert_int_equal(s.disks[1].number, 1);
    assert_string_equal(s.disks[1].disk, "b");
    assert_string_equal(s.prefers, "");
}

static void a_newer_or_damaged_entry_is_refused(void **state)
{
    static const char newer[] = "{\"format\":3,\"name\":\"web-1\"}",
                      damaged[] = "{\"format\":1,\"name\":\"web-1\"}";
    struct vm_spec s;
    struct why why;
    bool deleting;

    (void)state;
    assert_int_equal(vm_spec_from_json(newer, strlen(newer), &s, &deleting, &why), -EBADMSG);
    assert_non_null(strstr(why.text, "format 3"));
    assert_int_equal(vm_spec_from_json(damaged, strlen(damaged), &s, &deleting, &why), -EBADMSG);
    assert_int_equal(vm_spec_from_json("[", 1, &s, &deleting, &why), -EBADMSG);
}

/* One byte more than there is room for, which would cut a letter of two bytes in half. */
static void a_text_too_long_is_refused_not_cut(void **state)
{
    static const char format[] =
        "{\"format\":1,\"name\":\"web-1\",\"iqn\":\"iqn.x:y\",\"chap_user\":\"%0*d\\u00e4\","
        "\"chap_secret\":\"\",\"mutual_user\":\"\",\"mutual_secret\":\"\",\"deleting\":false,\"epoch\":0,"
        "\"since\":0,\"storage\":1,\"paused\":false,\"home\":false,"
        "\"id\":\"00112233445566778899aabbccddeeff\",\"disks\":[]}";
    struct vm_spec s;
    struct why why;
    bool deleting;

    (void)state;
    for (int i = 0; i < 2; i++) {
        char *json = xasprintf(format, VM_SECRET_MAX - 2 + i, 0);

        assert_int_equal(vm_spec_from_json(json, strlen(json), &s, &deleting, &why), i ? -EBADMSG : 0);
        free(json);
    }
}

/* An edge's name, or none. */
static void who_is_preferred_is_a_name(void **state)
{
    static const char *const bad[] = {"a b", "-", "../x"};
    struct vm_spec s = good(), back;
    struct why why;
    bool deleting;
    char *json;

    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(s.prefers, sizeof s.prefers, "%s", bad[i]);
        assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
        json = vm_spec_to_json(&s, false);
        assert_int_equal(vm_spec_from_json(json, strlen(json), &back, &deleting, &why), -EBADMSG);
        free(json);
    }
}

static void what_cannot_work_is_refused_with_a_sentence(void **state)
{
    struct vm_spec s = good();
    struct why why = {""};

    (void)state;
    assert_int_equal(vm_spec_check(&s, &why), 0);
    snprintf(s.name, sizeof s.name, "../etc");
    assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
    s = good();
    snprintf(s.iqn, sizeof s.iqn, "iqn.2026-11.org:UPPER");
    assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
    s = good();
    s.ndisks = 0;
    assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
    s = good();
    set_chap(&s, "u", "short");
    assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
    assert_non_null(strstr(why.text, "12"));
    assert_null(strstr(why.text, "short"));
    s = good();
    set_chap(&s, "u", "");
    assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
    s = good();
    set_chap(&s, "u", "the same secret");
    snprintf(s.mutual_user, sizeof s.mutual_user, "m");
    snprintf(s.mutual_secret, sizeof s.mutual_secret, "the same secret");
    assert_int_equal(vm_spec_check(&s, &why), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spec_comes_back_from_json),
        cmocka_unit_test(who_is_preferred_is_a_name),
        cmocka_unit_test(gaps_and_numbers_are_kept),
        cmocka_unit_test(an_older_entry_is_read),
        cmocka_unit_test(a_newer_or_damaged_entry_is_refused),
        cmocka_unit_test(a_text_too_long_is_refused_not_cut),
        cmocka_unit_test(what_cannot_work_is_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
