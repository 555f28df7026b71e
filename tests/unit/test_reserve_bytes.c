/* links: target */
/* Persistent reservations as they are kept, and initiator ports as SCSI names them. */
#include "reserve.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct reserve_port port(unsigned i)
{
    struct reserve_port p = {.isid = {0x80, 1, 2, 3, 4, (uint8_t)i}};

    snprintf(p.name, sizeof p.name, "iqn.2026-11.test:initiator-%u", i);
    return p;
}

static void kept_as_bytes(void **state)
{
    static uint8_t bytes[RESERVE_SAVED_MAX];
    static struct reserve r, back;
    size_t n;

    (void)state;
    reserve_init(&r);
    r.type = 5;
    r.holder = 6;
    r.aptpl = true;
    r.generation = 0x12345678;
    while (r.n < RESERVE_REGISTRANTS_MAX) {
        r.registrants[r.n] = (struct registrant){.nexus = {port(r.n), (uint16_t)(1 + r.n)}, .key = r.n + 5};
        r.n++;
    }
    r.registrants[3].nexus.target = 65535;
    n = reserve_put(&r, bytes);
    assert_true(n <= sizeof bytes);
    assert_int_equal(reserve_get(&back, bytes, n, 1), 0);
    assert_int_equal(back.n, r.n);
    assert_int_equal(back.holder, 6);
    assert_int_equal(back.type, 5);
    assert_true(back.aptpl);
    assert_int_equal(back.generation, 0x12345678);
    for (unsigned i = 0; i < r.n; i++) {
        assert_int_equal(back.registrants[i].key, r.registrants[i].key);
        assert_int_equal(back.registrants[i].nexus.target, r.registrants[i].nexus.target);
        assert_string_equal(back.registrants[i].nexus.initiator.name, r.registrants[i].nexus.initiator.name);
        assert_memory_equal(back.registrants[i].nexus.initiator.isid, r.registrants[i].nexus.initiator.isid,
                            6);
    }
    for (size_t cut = 0; cut < n; cut++) { /* on the heap, so that a read past the end is seen */
        uint8_t *part = malloc(cut ? cut : 1);

        memcpy(part, bytes, cut);
        assert_int_equal(reserve_get(&back, part, cut, 1), -EBADMSG);
        free(part);
    }
    bytes[2] = 7; /* all hold it, and yet there is a holder */
    assert_int_equal(reserve_get(&back, bytes, n, 1), -EBADMSG);
    bytes[2] = 2;
    assert_int_equal(reserve_get(&back, bytes, n, 1), -EBADMSG);
    bytes[2] = 5;
    bytes[3] = 2;
    assert_int_equal(reserve_get(&back, bytes, n, 1), -EBADMSG);
    bytes[3] = 0;
    bytes[7] = 1;
    assert_int_equal(reserve_get(&back, bytes, n, 1), -EBADMSG);
    bytes[7] = 0;
    bytes[12 + 14] = bytes[12 + 15] = 0; /* no target port has that tag */
    assert_int_equal(reserve_get(&back, bytes, n, 1), -EBADMSG);
    bytes[1] = RESERVE_FORMAT + 1;
    assert_int_equal(reserve_get(&back, bytes, n, 1), -EPROTONOSUPPORT);
}

/* For the other edge of a pair, which keeps it without APTPL, too, and that there is nobody any more. */
static void nobody_as_bytes(void **state)
{
    static uint8_t bytes[RESERVE_SAVED_MAX];
    static struct reserve r, back;

    (void)state;
    reserve_init(&r);
    r.generation = 7;
    assert_int_equal(reserve_put(&r, bytes), 12);
    assert_int_equal(reserve_get(&back, bytes, 12, 1), 0);
    assert_false(back.aptpl);
    assert_int_equal(back.n, 0);
    assert_int_equal(back.holder, RESERVE_NOBODY);
    assert_int_equal(back.generation, 7);
    assert_int_equal(reserve_get_sent(&back, bytes, 12), 0);
    bytes[2] = 7; /* all hold it, and there is nobody */
    assert_int_equal(reserve_get(&back, bytes, 12, 1), -EBADMSG);
}

/* From before there were pairs: only what has APTPL, and somebody. */
static void the_second_format(void **state)
{
    static const uint8_t bytes[] = {0, 2, 3,    0, 0, 1, 0, 0, 0,    0, 0, 0, 0,  0,
                                    0, 7, 0x80, 1, 2, 3, 4, 1, 0x80, 1, 2, 1, 'a'};
    struct reserve back;

    (void)state;
    assert_int_equal(reserve_get(&back, bytes, sizeof bytes, 42), 0);
    assert_true(back.aptpl);
    assert_int_equal(back.holder, 0);
    assert_int_equal(back.registrants[0].nexus.target, 0x8001);
    assert_int_equal(reserve_get(&back, (const uint8_t[8]){0, 2}, 8, 42), -EBADMSG);
    assert_int_equal(reserve_get_sent(&back, bytes, sizeof bytes), -EBADMSG); /* no edge sends it */
    assert_int_equal(reserve_get_sent(&back, bytes, 1), -EBADMSG);
}

/* From before there were several target ports: all are at the one there was. */
static void the_older_format(void **state)
{
    static const uint8_t bytes[] = {0, 1, 5, 0, 0, 2, 0, 0, /* two registrants, type 5 */
                                    0, 0, 0, 0, 0, 0, 0, 7,    0x80, 1, 2, 3, 4, 1, 1 | 2, 1,   'a', 0,
                                    0, 0, 0, 0, 0, 0, 8, 0x80, 1,    2, 3, 4, 2, 0, 2,     'b', 'c'};
    struct reserve back;

    (void)state;
    assert_int_equal(reserve_get(&back, bytes, sizeof bytes, 42), 0);
    assert_int_equal(back.n, 2);
    assert_int_equal(back.holder, 0);
    assert_int_equal(back.registrants[0].key, 7);
    assert_int_equal(back.registrants[0].nexus.target, 42);
    assert_int_equal(back.registrants[1].nexus.target, 42);
    assert_string_equal(back.registrants[1].nexus.initiator.name, "bc");
    assert_int_equal(reserve_get(&back, bytes, sizeof bytes - 1, 42), -EBADMSG);
}

static void transport_ids(void **state)
{
    static const char *const bad[] = {"iqn.a:bcdefgh,i,0x8001020304", "iqn.a:bcdefgh,t,0x800102030405",
                                      "iqn.a:bcdefghijklmnopqrstuvw", ",i,0x80010203040500000000",
                                      "iqn.a:bcdef,i,0x80010203040g", "iqn.a:b,i,0x80010203040506"};
    uint8_t bytes[RESERVE_TRANSPORT_ID_MAX];
    struct reserve_port p = port(0xa5), back;
    size_t n;

    (void)state;
    n = reserve_put_port(&p, bytes);
    assert_int_equal(n % 4, 0);
    assert_int_equal(reserve_get_port(&back, bytes, n), n);
    assert_string_equal(back.name, p.name);
    assert_memory_equal(back.isid, p.isid, 6);
    assert_int_equal(reserve_get_port(&back, bytes, n - 1), 0);
    bytes[0] = 0x05; /* a name without a port */
    assert_int_equal(reserve_get_port(&back, bytes, n), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(bytes, 0, sizeof bytes);
        bytes[0] = 0x45;
        bytes[3] = 40;
        memcpy(bytes + 4, bad[i], strlen(bad[i]));
        assert_int_equal(reserve_get_port(&back, bytes, 44), 0);
    }
    memset(p.name, 'x', ISCSI_NAME_MAX);
    n = reserve_put_port(&p, bytes);
    assert_int_equal(reserve_get_port(&back, bytes, n), n);
    assert_string_equal(back.name, p.name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_as_bytes),     cmocka_unit_test(nobody_as_bytes),
        cmocka_unit_test(the_second_format), cmocka_unit_test(the_older_format),
        cmocka_unit_test(transport_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
