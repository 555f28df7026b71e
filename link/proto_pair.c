/* link/proto_pair.c - the bodies of the messages of proto_pair.h.
 *
 * Any thread; no state. The pieces of a PUT stay where they are.
 */
#include "proto_pair.h"

#include "proto_in.h"
#include "runs.h"

enum {
    WORD_BYTES = PAIR_ID_BYTES + 8 + 8 + 1 + 1 + 2 + 4,
    MARK_BYTES = PAIR_ID_BYTES + 8 + 8,
    RESERVE_BYTES = PAIR_ID_BYTES + 8 + 8 + 1 + 7, /* before the state */
    REMAINS_BYTES = PAIR_ID_BYTES + 8 + 8 + 8 + 4 + 1 + 3,
    HERE_BYTES = 8,
    SECTOR_BYTES = 512
};
enum { PIECE_WRITE = 1, PIECE_ZERO = 2 };
static const uint64_t sectors_max = INT64_MAX / SECTOR_BYTES;

const char *pair_role_name(enum pair_role role)
{
    static const char *const names[] = {
        [PAIR_UNKNOWN] = "unknown", [PAIR_OUT] = "out", [PAIR_SOLE] = "sole", [PAIR_BOTH] = "both"};

    return names[role];
}

static void read_id(struct reader *r, uint8_t id[PAIR_ID_BYTES])
{
    const uint8_t *p = read_bytes(r, PAIR_ID_BYTES);

    if (p)
        memcpy(id, p, PAIR_ID_BYTES);
    else
        memset(id, 0, PAIR_ID_BYTES);
}

struct buf *pair_put_word(const struct pair_word *w)
{
    struct buf *b = buf_new(WORD_BYTES);
    uint8_t *p = b->data;

    memset(p, 0, WORD_BYTES);
    memcpy(p, w->writer, PAIR_ID_BYTES);
    put64(p + 16, w->instance);
    put64(p + 24, w->epoch);
    p[32] = (uint8_t)w->role;
    p[33] = w->granted;
    put16(p + 34, (uint16_t)w->generation);
    return b;
}

int pair_get_word(const uint8_t *bytes, uint32_t n, struct pair_word *w)
{
    static const uint8_t zeros[4];
    struct reader r = reader_of(bytes, n);
    uint8_t role, granted;
    const uint8_t *rest;

    read_id(&r, w->writer);
    w->instance = read64(&r);
    w->epoch = read64(&r);
    role = read8(&r);
    granted = read8(&r);
    w->generation = read16(&r);
    rest = read_bytes(&r, sizeof zeros);
    if (role < PAIR_UNKNOWN || role > PAIR_BOTH || granted > 1 || w->generation == 0 || !rest ||
        memcmp(rest, zeros, sizeof zeros) != 0)
        r.bad = true;
    w->role = (enum pair_role)role;
    w->granted = granted;
    return finish(&r);
}

struct buf *pair_put_begin(const struct pair_begin *b)
{
    struct buf *out = buf_new(PAIR_ID_BYTES + 8 + 8 + PAIR_ID_BYTES + 1 + PROTO_NAME_MAX);
    uint8_t *p = out->data;

    CHECK(b->first > 0 && proto_name_ok(b->name));
    memcpy(p, b->vm, PAIR_ID_BYTES);
    put64(p + 16, b->stream);
    put64(p + 24, b->first);
    memcpy(p + 32, b->writer, PAIR_ID_BYTES);
    trim(out, put_text(p + 48, b->name));
    return out;
}

int pair_get_begin(const uint8_t *p, uint32_t n, struct pair_begin *b)
{
    struct reader r = reader_of(p, n);

    read_id(&r, b->vm);
    b->stream = read64(&r);
    b->first = read64(&r);
    read_id(&r, b->writer);
    read_name(&r, b->name);
    if (b->first == 0)
        r.bad = true;
    return finish(&r);
}

struct buf *pair_put_mark(const struct pair_mark *m)
{
    struct buf *b = buf_new(MARK_BYTES);

    memcpy(b->data, m->vm, PAIR_ID_BYTES);
    put64(b->data + 16, m->stream);
    put64(b->data + 24, m->seq);
    return b;
}

int pair_get_mark(const uint8_t *p, uint32_t n, struct pair_mark *m)
{
    struct reader r = reader_of(p, n);

    read_id(&r, m->vm);
    m->stream = read64(&r);
    m->seq = read64(&r);
    return finish(&r);
}

struct buf *pair_put_reserve(const struct pair_reserve *v)
{
    struct buf *b = buf_new(RESERVE_BYTES + v->len);
    uint8_t *p = b->data;

    CHECK(v->disk < PAIR_DISKS && v->len > 0 && v->len <= PAIR_RESERVE_MAX);
    memset(p, 0, RESERVE_BYTES);
    memcpy(p, v->vm, PAIR_ID_BYTES);
    put64(p + 16, v->stream);
    put64(p + 24, v->number);
    p[32] = v->disk;
    memcpy(p + RESERVE_BYTES, v->state, v->len);
    return b;
}

int pair_get_reserve(const uint8_t *p, uint32_t n, struct pair_reserve *v)
{
    static const uint8_t zeros[7];
    struct reader r = reader_of(p, n);
    const uint8_t *rest;

    read_id(&r, v->vm);
    v->stream = read64(&r);
    v->number = read64(&r);
    v->disk = read8(&r);
    rest = read_bytes(&r, sizeof zeros);
    if (!rest || memcmp(rest, zeros, sizeof zeros) != 0 || v->disk >= PAIR_DISKS)
        return -EBADMSG;
    v->state = r.p;
    v->len = (uint32_t)(r.end - r.p);
    return v->len == 0 || v->len > PAIR_RESERVE_MAX ? -EBADMSG : 0;
}

struct buf *pair_put_hand(const struct pair_hand *h)
{
    struct buf *b = buf_new(PAIR_ID_BYTES + 8 + 1 + PAIR_ETAG_MAX);

    memcpy(b->data, h->vm, PAIR_ID_BYTES);
    put64(b->data + 16, h->seq);
    trim(b, put_text(b->data + 24, h->etag));
    return b;
}

int pair_get_hand(const uint8_t *p, uint32_t n, struct pair_hand *h)
{
    struct reader r = reader_of(p, n);

    read_id(&r, h->vm);
    h->seq = read64(&r);
    read_text(&r, h->etag, sizeof h->etag);
    return finish(&r);
}

struct buf *pair_put_remains(const struct pair_remains *v)
{
    struct buf *b = buf_new(REMAINS_BYTES);
    uint8_t *p = b->data;

    CHECK(v->disk < PAIR_DISKS && v->count > 0 && v->count <= PAIR_REMAINS_BLOCKS);
    memset(p, 0, REMAINS_BYTES);
    memcpy(p, v->vm, PAIR_ID_BYTES);
    put64(p + 16, v->epoch);
    put64(p + 24, v->seq);
    put64(p + 32, v->first);
    put32(p + 40, v->count);
    p[44] = v->disk;
    return b;
}

int pair_get_remains(const uint8_t *p, uint32_t n, struct pair_remains *v)
{
    static const uint8_t zeros[3];
    struct reader r = reader_of(p, n);
    const uint8_t *rest;

    read_id(&r, v->vm);
    v->epoch = read64(&r);
    v->seq = read64(&r);
    v->first = read64(&r);
    v->count = read32(&r);
    v->disk = read8(&r);
    rest = read_bytes(&r, sizeof zeros);
    if (!rest || memcmp(rest, zeros, sizeof zeros) != 0 || v->disk >= PAIR_DISKS || v->count == 0 ||
        v->count > PAIR_REMAINS_BLOCKS || v->first > sectors_max)
        r.bad = true;
    return finish(&r);
}

struct buf *pair_put_remains_answer(uint64_t here, const uint8_t *const *pages)
{
    struct buf *b = runs_encode_pages(HERE_BYTES, pages, (uint32_t)__builtin_popcountll(here));

    put64(b->data, here);
    return b;
}

int pair_get_remains_answer(const uint8_t *p, uint32_t n, uint32_t count, uint64_t *here,
                            uint8_t *const *pages, bool *zero)
{
    uint8_t *to[PAIR_REMAINS_BLOCKS];
    bool is_zero[PAIR_REMAINS_BLOCKS];
    struct reader r = reader_of(p, n);
    uint32_t given = 0;
    uint64_t bits = read64(&r);

    CHECK(count > 0 && count <= PAIR_REMAINS_BLOCKS);
    if (r.bad || (count < 64 && bits >> count))
        return -EBADMSG;
    for (uint32_t i = 0; i < count; i++)
        if (bits >> i & 1)
            to[given++] = pages[i];
    if (runs_decode(r.p, (uint32_t)(r.end - r.p), to, is_zero, given))
        return -EBADMSG;
    given = 0;
    for (uint32_t i = 0; i < count; i++)
        if (bits >> i & 1)
            zero[i] = is_zero[given++];
    *here = bits;
    return 0;
}

void pair_put_head(uint8_t *p, const uint8_t vm[PAIR_ID_BYTES], uint64_t stream, uint64_t number)
{
    memcpy(p, vm, PAIR_ID_BYTES);
    put64(p + 16, stream);
    put64(p + 24, number);
}

void pair_put_piece(uint8_t *p, const struct pair_piece *piece)
{
    put64(p, piece->seq);
    put64(p + 8, piece->lba);
    put32(p + 16, piece->nsectors);
    put32(p + 20, piece->from);
    put32(p + 24, piece->sectors);
    p[28] = piece->type;
    p[29] = piece->disk;
    p[30] = p[31] = 0;
}

int pair_get_put(const uint8_t *p, uint32_t n, struct pair_put *put)
{
    struct reader r = reader_of(p, n);

    read_id(&r, put->vm);
    put->stream = read64(&r);
    put->number = read64(&r);
    put->pieces = r.p;
    put->len = (uint32_t)(r.end - r.p);
    if (put->len < PAIR_PIECE_BYTES)
        r.bad = true;
    return r.bad ? -EBADMSG : 0;
}

/* A write's data lies within the record; what zeroes has none. */
static bool piece_ok(const struct pair_piece *piece)
{
    if (piece->seq == 0 || piece->disk >= PAIR_DISKS || piece->nsectors == 0 || piece->lba > sectors_max ||
        piece->nsectors > sectors_max - piece->lba)
        return false;
    if (piece->type == PIECE_ZERO)
        return piece->from == 0 && piece->sectors == 0;
    return piece->type == PIECE_WRITE && piece->nsectors <= PAIR_RECORD_SECTORS_MAX && piece->sectors > 0 &&
           piece->from < piece->nsectors && piece->sectors <= piece->nsectors - piece->from;
}

int pair_next_piece(struct pair_put *put, struct pair_piece *piece)
{
    struct reader r = reader_of(put->pieces, put->len);

    if (put->len == 0)
        return 0;
    piece->seq = read64(&r);
    piece->lba = read64(&r);
    piece->nsectors = read32(&r);
    piece->from = read32(&r);
    piece->sectors = read32(&r);
    piece->type = read8(&r);
    piece->disk = read8(&r);
    if (read16(&r) != 0 || r.bad || !piece_ok(piece))
        return -EBADMSG;
    piece->data = read_bytes(&r, (size_t)piece->sectors * SECTOR_BYTES);
    if (!piece->data)
        return -EBADMSG;
    put->pieces = r.p;
    put->len = (uint32_t)(r.end - r.p);
    return 1;
}
