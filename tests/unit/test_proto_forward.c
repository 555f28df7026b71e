/* links: link */
/* The messages by which an edge forwards: there and back, and what none of them may be. */
#include "proto_forward.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t bytes[FORWARD_PIECE + 1];

static struct forward_command write_command(uint32_t edtl, uint32_t len)
{
    return (struct forward_command){
        .data = {.session = 7, .number = 9, .bytes = edtl, .from = edtl - len, .len = len, .data = bytes},
        .below = 4,
        .writes = true,
        .lun = {0, 3},
        .cdb = {0x8a},
        .edtl = edtl};
}

static int try_command(const struct forward_command *c)
{
    struct buf *b = forward_put_command(c);
    struct forward_command got;
    int err = forward_get_command(b->data, b->len, &got);

    if (!err) {
        assert_int_equal(got.data.number, c->data.number);
        assert_int_equal(got.data.len, c->data.len);
        assert_int_equal(got.below, c->below);
        assert_int_equal(got.edtl, c->edtl);
        assert_memory_equal(got.cdb, c->cdb, 16);
        assert_memory_equal(got.lun, c->lun, 8);
        assert_int_equal(got.reads, c->reads);
        assert_int_equal(got.writes, c->writes);
    }
    buf_unref(&b);
    return err;
}

static void commands(void **state)
{
    struct forward_command c = write_command(4096, 4096);

    (void)state;
    assert_int_equal(try_command(&c), 0);
    c.data.bytes = 2048; /* less than the write says that it brings */
    c.data.from = 0;
    c.data.len = 2048;
    assert_int_equal(try_command(&c), -EBADMSG);
    c = write_command(4096, 4096);
    c.writes = false; /* data of a command that has none */
    assert_int_equal(try_command(&c), -EBADMSG);
    c = write_command(4096, 4096);
    c.below = 10; /* it is waited for itself */
    assert_int_equal(try_command(&c), -EBADMSG);
    c = write_command(4096, 1024); /* the rest came ahead */
    assert_int_equal(try_command(&c), 0);
    c.data.from = 0; /* and is missing at the end */
    assert_int_equal(try_command(&c), -EBADMSG);
    c = write_command(FORWARD_PIECE + 1, FORWARD_PIECE + 1);
    assert_int_equal(try_command(&c), -EBADMSG);
    c = write_command(0, 0);
    c.data.number = 0;
    assert_int_equal(try_command(&c), -EBADMSG);
}

static int try_answer(const struct forward_answer *a)
{
    struct buf *b = forward_put_answer(a);
    struct forward_answer got;
    int err = forward_get_answer(b->data, b->len, &got);

    buf_unref(&b);
    return err;
}

static void answers(void **state)
{
    struct forward_answer a = {.in_len = 512, .bytes = 512, .len = 512, .data = bytes};

    (void)state;
    assert_int_equal(try_answer(&a), 0);
    a.bytes = 1024; /* more than the command had */
    assert_int_equal(try_answer(&a), -EBADMSG);
    a.in_len = 1024; /* the rest is fetched */
    assert_int_equal(try_answer(&a), 0);
    a.bytes = 256; /* more than there is */
    assert_int_equal(try_answer(&a), -EBADMSG);
}

static void portals(void **state)
{
    struct forward_portals p = {.n = 2, .each = {{.group = 1, .address = "10.0.0.1:3260"}, {.group = 7}}},
                           got;
    struct buf *b = forward_put_portals(&p);

    (void)state;
    assert_int_equal(forward_get_portals(b->data, b->len, &got), 0);
    assert_int_equal(got.n, 2);
    assert_string_equal(got.each[0].address, "10.0.0.1:3260");
    assert_string_equal(got.each[1].address, "");
    for (uint32_t n = 0; n < b->len; n++)
        assert_int_equal(forward_get_portals(b->data, n, &got), -EBADMSG);
    b->data[4] = ','; /* it would be another group for an initiator */
    assert_int_equal(forward_get_portals(b->data, b->len, &got), -EBADMSG);
    buf_unref(&b);
    p.each[1].group = 0;
    b = forward_put_portals(&p);
    assert_int_equal(forward_get_portals(b->data, b->len, &got), -EBADMSG);
    buf_unref(&b);
}

static void an_open(void **state)
{
    struct forward_open o = {
        .group = 3, .moved = true, .initiator = "iqn.x", .address = "a\033[2J", .portal = "b"};
    struct forward_open got;
    struct buf *b = forward_put_open(&o);

    (void)state;
    assert_int_equal(forward_get_open(b->data, b->len, &got), 0);
    assert_string_equal(got.initiator, "iqn.x");
    assert_string_equal(got.address, "a?[2J");
    assert_true(got.moved);
    b->data[24] = 2;
    assert_int_equal(forward_get_open(b->data, b->len, &got), -EBADMSG);
    buf_unref(&b);
    o.group = 0;
    b = forward_put_open(&o);
    assert_int_equal(forward_get_open(b->data, b->len, &got), -EBADMSG);
    buf_unref(&b);
}

static void a_vm(void **state)
{
    struct forward_vm v = {.shut = 2, .text = (const uint8_t *)"{}", .len = 2}, got;
    struct buf *b = forward_put_vm(&v);

    (void)state;
    assert_int_equal(forward_get_vm(b->data, b->len, &got), 0);
    assert_int_equal(got.len, 2);
    b->data[FORWARD_ID_BYTES] = 3;
    assert_int_equal(forward_get_vm(b->data, b->len, &got), -EBADMSG);
    buf_unref(&b);
    v.len = FORWARD_TEXT_MAX + 1;
    assert_null(forward_put_vm(&v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(commands), cmocka_unit_test(answers),
                                       cmocka_unit_test(portals), cmocka_unit_test(an_open),
                                       cmocka_unit_test(a_vm)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
