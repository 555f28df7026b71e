/* link/frame.c - encodes and decodes frames and chunks; every bound of the protocol is checked here.
 *
 * Any thread. Deliberately knows no call table: whether an id is in use is for calls.c.
 */
#include "frame.h"

#include "check.h"
#include "wire.h"

#include <errno.h>

/* One line per kind: which fields it may use, where it may come, how long its body may be. */
static const struct kind {
    const char *name;
    uint32_t max;
    bool steers; /* lane 0 */
    bool type, class, code, id;
} kinds[] = {
    [FRAME_HELLO] = {"HELLO", FRAME_HELLO_MAX, .steers = true},
    [FRAME_CALL] = {"CALL", LINK_FRAME_MAX, .type = true, .id = true},
    [FRAME_REPLY] = {"REPLY", LINK_FRAME_MAX, .code = true, .id = true},
    [FRAME_NOTICE] = {"NOTICE", LINK_FRAME_MAX, .type = true},
    [FRAME_PING] = {"PING", 0, .steers = true, .id = true},
    [FRAME_PONG] = {"PONG", 0, .steers = true, .id = true},
    [FRAME_CANCEL] = {"CANCEL", 0, .steers = true, .id = true},
    [FRAME_PROMOTE] = {"PROMOTE", 0, .steers = true, .class = true, .id = true},
    [FRAME_BYE] = {"BYE", FRAME_BYE_MAX, .steers = true},
};

void frame_put(uint8_t out[FRAME_HEAD_BYTES], const struct frame *f)
{
    put24(out, f->len);
    out[3] = f->kind;
    out[4] = f->type;
    out[5] = f->class;
    put16(out + 6, f->code);
    put64(out + 8, f->id);
}

int frame_get(const uint8_t in[FRAME_HEAD_BYTES], unsigned lane, struct frame *f, struct why *why)
{
    const struct kind *k;

    *f = (struct frame){get24(in), in[3], in[4], in[5], get16(in + 6), get64(in + 8)};
    if (f->kind >= sizeof(kinds) / sizeof(kinds[0]) || !kinds[f->kind].name)
        return why_set(why, -EPROTO, "it sent a frame of unknown kind %u", f->kind);
    k = &kinds[f->kind];
    if (f->len > k->max)
        return why_set(why, -EPROTO, "it sent a %s frame of %u bytes where at most %u are allowed", k->name,
                       f->len, k->max);
    if (k->steers != (lane == 0) || (f->kind == FRAME_NOTICE && lane != frame_lane_of(LINK_CONTROL)))
        return why_set(why, -EPROTO, "it sent a %s frame on lane %u", k->name, lane);
    if ((f->type != 0) != k->type || (f->class && !k->class) || f->class >= LINK_CLASSES ||
        (f->code && !k->code) || f->code > 4095 || (f->id && !k->id))
        return why_set(why, -EPROTO,
                       "it sent a %s frame with fields that it may not have (type %u, class %u, code %u)",
                       k->name, f->type, f->class, f->code);
    return 0;
}

struct buf *frame_put_hello(const struct frame_hello *h)
{
    struct buf *b = buf_new(FRAME_HELLO_MIN);

    put32(b->data, FRAME_MAGIC);
    put16(b->data + 4, h->version_min);
    put16(b->data + 6, h->version_max);
    put16(b->data + 8, h->window);
    put16(b->data + 10, h->index);
    put64(b->data + 12, h->instance);
    put32(b->data + 20, 0);
    return b;
}

int frame_get_hello(const uint8_t *p, uint32_t n, struct frame_hello *h, struct why *why)
{
    if (n < FRAME_HELLO_MIN || get32(p) != FRAME_MAGIC)
        return why_set(why, -EPROTO, "it did not greet as an Isthmus daemon does");
    h->version_min = get16(p + 4);
    h->version_max = get16(p + 6);
    h->window = get16(p + 8);
    h->index = get16(p + 10);
    h->instance = get64(p + 12);
    if (h->version_min > h->version_max || h->version_min == 0 || h->window < 4)
        return why_set(why, -EPROTO, "its greeting makes no sense (versions %u to %u, window %u)",
                       h->version_min, h->version_max, h->window);
    return 0;
}

/* The head of a chunk is complete. */
static int begin_chunk(struct frame_in *in, struct why *why)
{
    unsigned len = get16(in->chunk_head + 2);

    in->lane = in->chunk_head[0];
    if (in->lane >= FRAME_LANES || in->chunk_head[1] != 0 || len == 0 || len > FRAME_CHUNK_MAX)
        return why_set(why, -EPROTO, "it sent a chunk that cannot be (lane %u, flags %u, %u bytes)", in->lane,
                       in->chunk_head[1], len);
    in->chunk_left = len;
    return 0;
}

static int begin_body(struct frame_in *in, struct frame_lane *l, struct why *why)
{
    int rc = frame_get(l->head, in->lane, &l->frame, why);

    if (rc)
        return rc;
    if (!in->greeted && l->frame.kind != FRAME_HELLO && l->frame.kind != FRAME_BYE)
        return why_set(why, -EPROTO, "it sent a %s frame before its greeting", kinds[l->frame.kind].name);
    if (in->greeted && l->frame.kind == FRAME_HELLO)
        return why_set(why, -EPROTO, "it greeted twice");
    l->in_body = true;
    l->have = 0;
    l->body = l->frame.len ? buf_new(l->frame.len) : NULL;
    return 0;
}

/* Gives up to n bytes to the lane's frame and says in *used how many it took. */
static int feed_lane(struct frame_in *in, const uint8_t *p, size_t n, size_t *used, frame_on *on, void *arg,
                     struct why *why)
{
    struct frame_lane *l = &in->lanes[in->lane];
    size_t want = (l->in_body ? l->frame.len : FRAME_HEAD_BYTES) - l->have;
    size_t take = n < want ? n : want;
    int rc;

    if (take)
        memcpy((l->in_body ? l->body->data : l->head) + l->have, p, take);
    l->have += (unsigned)take;
    *used = take;
    if (take < want)
        return 0;
    if (!l->in_body && (rc = begin_body(in, l, why)))
        return rc;
    if (l->have < l->frame.len)
        return 0;
    l->in_body = false;
    l->have = 0;
    rc = on(arg, in->lane, &l->frame, &l->body, why);
    buf_unref(&l->body);
    return rc;
}

int frame_in_feed(struct frame_in *in, const uint8_t *p, size_t n, frame_on *on, void *arg, struct why *why)
{
    size_t used;
    int rc;

    while (n > 0) {
        if (in->chunk_left == 0) {
            in->chunk_head[in->chunk_have++] = *p++;
            n--;
            if (in->chunk_have == FRAME_CHUNK_HEAD_BYTES) {
                in->chunk_have = 0;
                if ((rc = begin_chunk(in, why)))
                    return rc;
            }
            continue;
        }
        rc = feed_lane(in, p, n < in->chunk_left ? n : in->chunk_left, &used, on, arg, why);
        if (rc)
            return rc;
        p += used;
        n -= used;
        in->chunk_left -= (unsigned)used;
    }
    return 0;
}

void frame_in_clear(struct frame_in *in)
{
    for (unsigned i = 0; i < FRAME_LANES; i++)
        buf_unref(&in->lanes[i].body);
    memset(in, 0, sizeof(*in));
}
