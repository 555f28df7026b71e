/* links: link; covers: link/frame */
/* The stream of chunks and frames: however it is cut into pieces, the same frames come out.
 */
#include "check.h"
#include "frame.h"
#include "fuzz.h"
#include "mem.h"

#include <string.h>

struct seen {
    struct frame_in in;
    uint64_t sum;
    unsigned frames;
};

static void mix(struct seen *s, uint64_t v)
{
    s->sum = (s->sum ^ v) * UINT64_C(0x100000001b3);
}

static int on_frame(void *arg, unsigned lane, const struct frame *f, struct buf **body, struct why *why)
{
    struct seen *s = arg;
    struct frame_hello hello;
    uint8_t head[FRAME_HEAD_BYTES];
    struct frame again;

    frame_put(head, f);
    CHECK(!frame_get(head, lane, &again, why) && again.id == f->id && again.len == f->len);
    CHECK((*body ? (*body)->len : 0) == f->len);
    if (f->kind == FRAME_HELLO) {
        int rc = frame_get_hello(*body ? (*body)->data : NULL, f->len, &hello, why);

        if (rc)
            return rc;
        s->in.greeted = true;
    }
    s->frames++;
    mix(s, lane);
    mix(s, f->kind);
    mix(s, f->id);
    for (uint32_t i = 0; i < f->len; i++)
        mix(s, (*body)->data[i]);
    if (f->id & 1) /* some owners keep the body */
        buf_unref(body);
    return 0;
}

/* In pieces of `step` bytes, each in memory of its own. */
static int feed(struct seen *s, const uint8_t *p, size_t n, size_t step)
{
    struct why why;
    int rc = 0;

    memset(s, 0, sizeof *s);
    for (size_t at = 0; at < n && !rc; at += step) {
        size_t piece = n - at < step ? n - at : step;
        uint8_t *copy = xmalloc(piece);

        memcpy(copy, p + at, piece);
        rc = frame_in_feed(&s->in, copy, piece, on_frame, s, &why);
        CHECK(!rc || strnlen(why.text, sizeof why.text) < sizeof why.text);
        free(copy);
    }
    frame_in_clear(&s->in);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct seen whole, pieces;
    int rc;

    if (n < 1)
        return 0;
    rc = feed(&whole, p + 1, n - 1, n);
    CHECK(rc == feed(&pieces, p + 1, n - 1, p[0] % 64 + 1u));
    CHECK(whole.sum == pieces.sum && whole.frames == pieces.frames);
    return 0;
}
