/* links: link common */
/* Frames and chunks: whole or in pieces, interleaved, and every kind of wrong. */
#include "frame.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct bytes {
    uint8_t p[400 * 1024];
    size_t n;
};

static struct {
    unsigned n, lane[16];
    struct frame frames[16];
    uint8_t first[16], last[16];
} got;

static int on_frame(void *arg, unsigned lane, const struct frame *f, struct buf **body, struct why *why)
{
    (void)arg, (void)why;
    if (got.n == 16)
        return 0;
    got.lane[got.n] = lane;
    got.frames[got.n] = *f;
    got.first[got.n] = *body ? (*body)->data[0] : 0;
    got.last[got.n++] = *body ? (*body)->data[(*body)->len - 1] : 0;
    return 0;
}

static void chunk(struct bytes *b, unsigned lane, const void *p, size_t n)
{
    b->p[b->n] = (uint8_t)lane;
    b->p[b->n + 1] = 0;
    put16(b->p + b->n + 2, (uint16_t)n);
    memcpy(b->p + b->n + 4, p, n);
    b->n += 4 + n;
}

static int feed(const struct bytes *b, size_t step, bool greeted, struct why *why)
{
    struct frame_in in = {.greeted = greeted};
    int rc = 0;

    memset(&got, 0, sizeof(got));
    for (size_t at = 0; at < b->n && rc == 0; at += step) {
        size_t n = b->n - at < step ? b->n - at : step;
        uint8_t *copy = xmalloc(n);

        memcpy(copy, b->p + at, n);
        rc = frame_in_feed(&in, copy, n, on_frame, NULL, why);
        free(copy);
    }
    frame_in_clear(&in);
    return rc;
}

static size_t make(uint8_t *out, struct frame f, uint8_t fill)
{
    frame_put(out, &f);
    memset(out + FRAME_HEAD_BYTES, fill, f.len);
    return FRAME_HEAD_BYTES + f.len;
}

static struct bytes b;

/* A demand call comes whole while a migration frame is half way. */
static void lanes_interleave(void **state)
{
    uint8_t big[40000], small[64];
    size_t nbig = make(big, (struct frame){.kind = FRAME_REPLY, .len = 30000, .id = 7}, 'b');
    size_t nsmall = make(small, (struct frame){.kind = FRAME_CALL, .type = 2, .len = 10, .id = 8}, 's');
    const size_t steps[] = {1, 3, 17, 4096, sizeof(b.p)};
    struct why why;

    (void)state;
    b.n = 0;
    chunk(&b, 5, big, 16000);
    chunk(&b, 1, small, 20);
    chunk(&b, 5, big + 16000, 1);
    chunk(&b, 1, small + 20, nsmall - 20);
    chunk(&b, 5, big + 16001, nbig - 16001);
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        assert_int_equal(feed(&b, steps[i], true, &why), 0);
        assert_int_equal(got.n, 2);
        assert_true(got.lane[0] == 1 && got.frames[0].id == 8 && got.first[0] == 's' && got.last[0] == 's');
        assert_true(got.lane[1] == 5 && got.frames[1].id == 7 && got.first[1] == 'b' && got.last[1] == 'b');
    }
}

static void expect_refused(unsigned lane, struct frame f, bool greeted)
{
    uint8_t raw[FRAME_HEAD_BYTES];
    struct why why = {""};

    frame_put(raw, &f);
    b.n = 0;
    chunk(&b, lane, raw, sizeof(raw));
    assert_int_equal(feed(&b, 7, greeted, &why), -EPROTO);
    assert_true(why.text[0]);
    assert_int_equal(got.n, 0);
}

static void wrong_frames_are_refused(void **state)
{
    (void)state;
    expect_refused(1, (struct frame){.kind = 0, .id = 1}, true);
    expect_refused(1, (struct frame){.kind = 10, .id = 1}, true);
    expect_refused(1, (struct frame){.kind = 255, .id = 1}, true);
    expect_refused(1, (struct frame){.kind = FRAME_CALL, .type = 1, .len = LINK_FRAME_MAX + 1}, true);
    expect_refused(1, (struct frame){.kind = FRAME_CALL, .type = 0, .id = 1}, true);
    expect_refused(1, (struct frame){.kind = FRAME_CALL, .type = 1, .code = 5}, true);
    expect_refused(1, (struct frame){.kind = FRAME_CALL, .type = 1, .class = 1}, true);
    expect_refused(0, (struct frame){.kind = FRAME_CALL, .type = 1, .id = 1}, true);
    expect_refused(1, (struct frame){.kind = FRAME_REPLY, .code = 5000, .id = 1}, true);
    expect_refused(1, (struct frame){.kind = FRAME_PING, .id = 1}, true);
    expect_refused(0, (struct frame){.kind = FRAME_PING, .len = 1, .id = 1}, true);
    expect_refused(0, (struct frame){.kind = FRAME_PROMOTE, .class = LINK_CLASSES, .id = 1}, true);
    expect_refused(0, (struct frame){.kind = FRAME_BYE, .len = FRAME_BYE_MAX + 1}, true);
    expect_refused(3, (struct frame){.kind = FRAME_NOTICE, .type = 1}, true);
    expect_refused(0, (struct frame){.kind = FRAME_HELLO, .len = 24}, true);
    expect_refused(0, (struct frame){.kind = FRAME_HELLO, .len = FRAME_HELLO_MAX + 1}, false);
    expect_refused(1, (struct frame){.kind = FRAME_CALL, .type = 1, .id = 1}, false);
    expect_refused(0, (struct frame){.kind = FRAME_PING, .id = 1}, false);
}

static void wrong_chunks_are_refused(void **state)
{
    const uint8_t heads[][4] = {{6, 0, 0, 1}, {255, 0, 0, 1}, {0, 1, 0, 1}, {0, 0, 0, 0}, {1, 0, 0xff, 0xff}};
    struct why why;

    (void)state;
    for (unsigned i = 0; i < sizeof(heads) / 4; i++) {
        memcpy(b.p, heads[i], 4);
        b.n = 4;
        assert_int_equal(feed(&b, 1, true, &why), -EPROTO);
    }
}

static void hello_round_trip(void **state)
{
    struct frame_hello h = {1, 3, 512, 4, 0x1122334455667788}, h2;
    struct buf *p = frame_put_hello(&h);
    struct why why;

    (void)state;
    assert_int_equal(frame_get_hello(p->data, p->len, &h2, &why), 0);
    assert_true(h2.version_max == 3 && h2.window == 512 && h2.index == 4 && h2.instance == h.instance);
    assert_int_equal(frame_get_hello(p->data, p->len - 1, &h2, &why), -EPROTO);
    p->data[0] ^= 1;
    assert_int_equal(frame_get_hello(p->data, p->len, &h2, &why), -EPROTO);
    buf_unref(&p);
}

static void noise_does_no_harm(void **state)
{
    uint64_t seed = 7;
    struct why why;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        b.n = 0;
        for (int i = 0; i < 6; i++) {
            uint8_t raw[80];
            size_t n = make(raw, (struct frame){.kind = FRAME_CALL, .type = 1, .len = 20, .id = 3}, 1);

            chunk(&b, 1 + (unsigned)i % 5, raw, n);
        }
        for (int flips = 0; flips < 3; flips++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            b.p[(seed >> 33) % b.n] = (uint8_t)(seed >> 20);
        }
        feed(&b, 1 + (seed >> 40) % 50, true, &why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes_interleave),         cmocka_unit_test(wrong_frames_are_refused),
        cmocka_unit_test(wrong_chunks_are_refused), cmocka_unit_test(hello_round_trip),
        cmocka_unit_test(noise_does_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
