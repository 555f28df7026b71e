/* link/proto_wb.c - the bodies of the messages of proto_wb.h.
 *
 * Any thread; no state. The lists of offer, data and zero stay where they are: get checks every row once, and
 * who handles the message reads them from there.
 */
#include "proto_wb.h"

#include "proto_in.h"

enum {
    HEAD_BYTES = WB_ID_BYTES + 8 + 8,
    OFFER_ROW_BYTES = 8 + WB_HASH_BYTES,
    DATA_ROW_BYTES = 8 + 1,
    ZERO_ROW_BYTES = 8 + 8,
    STATE_HELD = 1,
    STATE_ALARM = 2,
    STATE_UNREACHABLE = 4,
    STATE_FLAGS = STATE_HELD | STATE_ALARM | STATE_UNREACHABLE,
    CLOUD_COUNTS = 1
};
static const uint64_t sectors_max = INT64_MAX / 512; /* of a disk: an offset in bytes fits in off_t */

static uint8_t *put_id(uint8_t *p, const uint8_t *vm, uint64_t epoch)
{
    memcpy(p, vm, WB_ID_BYTES);
    put64(p + WB_ID_BYTES, epoch);
    return p + WB_ID_BYTES + 8;
}

static uint8_t *put_head(uint8_t *p, const struct wb_head *h)
{
    p = put_id(p, h->vm, h->epoch);
    put64(p, h->target);
    return p + 8;
}

static void read_id(struct reader *r, uint8_t *vm, uint64_t *epoch)
{
    const uint8_t *p = read_bytes(r, WB_ID_BYTES);

    if (p)
        memcpy(vm, p, WB_ID_BYTES);
    *epoch = read64(r);
}

static void read_head(struct reader *r, struct wb_head *h)
{
    read_id(r, h->vm, &h->epoch);
    h->target = read64(r);
}

/* The head of a message that is about a stage. */
static void read_stage_head(struct reader *r, struct wb_head *h)
{
    read_head(r, h);
    if (h->target == 0)
        r->bad = true;
}

static bool span_ok(uint64_t lba, uint64_t nsectors)
{
    return nsectors > 0 && nsectors <= sectors_max && lba <= sectors_max - nsectors;
}

/* ---- what a VM is, and where it is ---- */

struct buf *wb_put_attach(const struct wb_attach *a)
{
    struct buf *b = buf_new(WB_ID_BYTES + 8 + 1 + 1 + 8 + (WB_DISKS_MAX + 1) * (1 + PROTO_NAME_MAX));
    uint8_t *p = put_id(b->data, a->vm, a->epoch);

    CHECK(a->ndisks > 0 && a->ndisks <= WB_DISKS_MAX && proto_name_ok(a->name));
    *p++ = (uint8_t)a->policy;
    p = put_text(p, a->name);
    *p++ = (uint8_t)a->ndisks;
    for (unsigned i = 0; i < a->ndisks; i++) {
        CHECK(proto_name_ok(a->disks[i]));
        p = put_text(p, a->disks[i]);
    }
    put64(p, a->base);
    trim(b, p + 8);
    return b;
}

int wb_get_attach(const uint8_t *p, uint32_t n, struct wb_attach *a)
{
    struct reader r = reader_of(p, n);

    read_id(&r, a->vm, &a->epoch);
    a->policy = read8(&r);
    read_name(&r, a->name);
    a->ndisks = read8(&r);
    if ((a->policy != WB_WRITE_BACK && a->policy != WB_CLOUD_PERSIST) || a->ndisks == 0 ||
        a->ndisks > WB_DISKS_MAX)
        return -EBADMSG;
    for (unsigned i = 0; i < a->ndisks; i++)
        read_name(&r, a->disks[i]);
    a->base = read64(&r);
    return finish(&r);
}

struct buf *wb_put_head(const struct wb_head *h)
{
    struct buf *b = buf_new(HEAD_BYTES);

    put_head(b->data, h);
    return b;
}

int wb_get_head(const uint8_t *p, uint32_t n, struct wb_head *h)
{
    struct reader r = reader_of(p, n);

    read_head(&r, h);
    return finish(&r);
}

struct buf *wb_put_begin(const struct wb_begin *q)
{
    struct buf *b = buf_new(HEAD_BYTES + 8 + 8);
    uint8_t *p = put_head(b->data, &q->head);

    put64(p, q->base);
    put64(p + 8, q->instant_ms);
    return b;
}

int wb_get_begin(const uint8_t *p, uint32_t n, struct wb_begin *q)
{
    struct reader r = reader_of(p, n);

    read_stage_head(&r, &q->head);
    q->base = read64(&r);
    q->instant_ms = read64(&r);
    if (q->base >= q->head.target)
        r.bad = true;
    return finish(&r);
}

struct buf *wb_put_end(const struct wb_end *q)
{
    struct buf *b = buf_new(HEAD_BYTES + 8 + WB_HASH_BYTES);
    uint8_t *p = put_head(b->data, &q->head);

    put64(p, q->pieces);
    memcpy(p + 8, q->digest, WB_HASH_BYTES);
    return b;
}

int wb_get_end(const uint8_t *p, uint32_t n, struct wb_end *q)
{
    struct reader r = reader_of(p, n);
    const uint8_t *digest;

    read_stage_head(&r, &q->head);
    q->pieces = read64(&r);
    digest = read_bytes(&r, WB_HASH_BYTES);
    if (digest)
        memcpy(q->digest, digest, WB_HASH_BYTES);
    return finish(&r);
}

struct buf *wb_put_clear_alarm(const struct wb_head *h)
{
    struct buf *b = buf_new(HEAD_BYTES + 1);

    *put_head(b->data, h) = CLOUD_COUNTS;
    return b;
}

int wb_get_clear_alarm(const uint8_t *p, uint32_t n, struct wb_head *h)
{
    struct reader r = reader_of(p, n);

    read_head(&r, h);
    if (read8(&r) != CLOUD_COUNTS)
        r.bad = true;
    return finish(&r);
}

struct buf *wb_put_state(const struct wb_state *s)
{
    struct buf *b = buf_new(WB_ID_BYTES + 4 * 8 + 2 + 3 * 8 + 1 + WB_TEXT_MAX);
    uint8_t *p = put_id(b->data, s->vm, s->epoch);

    put64(p, s->applied);
    put64(p + 8, s->applied_instant_ms);
    put64(p + 16, s->target);
    p[24] = (uint8_t)s->stage;
    p[25] = (uint8_t)((s->held ? STATE_HELD : 0) | (s->alarm ? STATE_ALARM : 0) |
                      (s->unreachable ? STATE_UNREACHABLE : 0));
    put64(p + 26, s->pieces);
    put64(p + 34, s->bytes);
    put64(p + 42, s->bytes_applied);
    trim(b, put_text(p + 50, s->text));
    return b;
}

int wb_get_state(const uint8_t *p, uint32_t n, struct wb_state *s)
{
    struct reader r = reader_of(p, n);
    uint8_t flags;

    read_id(&r, s->vm, &s->epoch);
    s->applied = read64(&r);
    s->applied_instant_ms = read64(&r);
    s->target = read64(&r);
    s->stage = read8(&r);
    flags = read8(&r);
    s->held = flags & STATE_HELD;
    s->alarm = flags & STATE_ALARM;
    s->unreachable = flags & STATE_UNREACHABLE;
    s->pieces = read64(&r);
    s->bytes = read64(&r);
    s->bytes_applied = read64(&r);
    read_line(&r, s->text, sizeof s->text);
    if (s->stage > WB_STAGE_APPLYING || (flags & ~STATE_FLAGS) || (s->target != 0) != (s->stage != 0))
        r.bad = true;
    return finish(&r);
}

/* ---- offers ---- */

struct buf *wb_put_offer(const struct wb_head *h, uint8_t disk, unsigned n, const uint64_t *blocks,
                         const uint8_t (*hashes)[WB_HASH_BYTES])
{
    struct buf *b = buf_new(HEAD_BYTES + 1 + 2 + (size_t)n * OFFER_ROW_BYTES);
    uint8_t *p = put_head(b->data, h);

    CHECK(n > 0 && n <= WB_OFFER_MAX && disk < WB_DISKS_MAX);
    p[0] = disk;
    put16(p + 1, (uint16_t)n);
    p += 3;
    for (unsigned i = 0; i < n; i++, p += OFFER_ROW_BYTES) {
        put64(p, blocks[i]);
        memcpy(p + 8, hashes[i], WB_HASH_BYTES);
    }
    return b;
}

int wb_get_offer(const uint8_t *p, uint32_t n, struct wb_offer *o)
{
    struct reader r = reader_of(p, n);

    read_stage_head(&r, &o->head);
    o->disk = read8(&r);
    o->n = read16(&r);
    if (o->disk >= WB_DISKS_MAX || o->n == 0 || o->n > WB_OFFER_MAX)
        return -EBADMSG;
    o->rows = read_bytes(&r, (size_t)o->n * OFFER_ROW_BYTES);
    for (unsigned i = 0; o->rows && i < o->n; i++) {
        uint64_t block;
        const uint8_t *hash;

        wb_offer_row(o, i, &block, &hash);
        if (block > sectors_max / WB_BLOCK_SECTORS - 1)
            r.bad = true;
    }
    return finish(&r);
}

void wb_offer_row(const struct wb_offer *o, unsigned i, uint64_t *block, const uint8_t **hash)
{
    const uint8_t *p = o->rows + (size_t)i * OFFER_ROW_BYTES;

    *block = get64(p);
    *hash = p + 8;
}

struct buf *wb_put_wanted(const bool *wanted, unsigned n)
{
    struct buf *b = buf_new((n + 7) / 8);

    memset(b->data, 0, b->len);
    for (unsigned i = 0; i < n; i++)
        if (wanted[i])
            b->data[i / 8] |= (uint8_t)(0x80 >> i % 8);
    return b;
}

int wb_get_wanted(const uint8_t *p, uint32_t len, bool *wanted, unsigned n)
{
    if (len != (n + 7) / 8 || (n % 8 && (p[len - 1] & 0xff >> n % 8)))
        return -EBADMSG;
    for (unsigned i = 0; i < n; i++)
        wanted[i] = p[i / 8] & 0x80 >> i % 8;
    return 0;
}

/* ---- data and zeros ---- */

struct buf *wb_put_data(const struct wb_head *h, uint8_t disk, unsigned n, const uint64_t *lbas,
                        const uint8_t *nsectors, const uint8_t *data, bool thorough)
{
    struct buf *runs = runs_encode(data, n * PROTO_BLOCK, thorough), *b;
    uint8_t *p;

    CHECK(n > 0 && n <= WB_DATA_MAX && disk < WB_DISKS_MAX);
    b = buf_new(HEAD_BYTES + 1 + 1 + (size_t)n * DATA_ROW_BYTES + runs->len);
    p = put_head(b->data, h);
    *p++ = disk;
    *p++ = (uint8_t)n;
    for (unsigned i = 0; i < n; i++, p += DATA_ROW_BYTES) {
        put64(p, lbas[i]);
        p[8] = nsectors[i];
    }
    memcpy(p, runs->data, runs->len);
    buf_unref(&runs);
    return b;
}

int wb_get_data(const uint8_t *p, uint32_t n, struct wb_data *d)
{
    struct reader r = reader_of(p, n);

    read_stage_head(&r, &d->head);
    d->disk = read8(&r);
    d->n = read8(&r);
    if (d->disk >= WB_DISKS_MAX || d->n == 0 || d->n > WB_DATA_MAX)
        return -EBADMSG;
    d->rows = read_bytes(&r, (size_t)d->n * DATA_ROW_BYTES);
    for (unsigned i = 0; d->rows && i < d->n; i++) {
        uint64_t lba;
        uint8_t nsectors;

        wb_data_row(d, i, &lba, &nsectors);
        if (!span_ok(lba, nsectors) || lba % WB_BLOCK_SECTORS + nsectors > WB_BLOCK_SECTORS)
            r.bad = true;
    }
    d->runs_len = (uint32_t)(r.end - r.p);
    d->runs = read_bytes(&r, d->runs_len);
    if (d->runs_len == 0)
        r.bad = true;
    return finish(&r);
}

void wb_data_row(const struct wb_data *d, unsigned i, uint64_t *lba, uint8_t *nsectors)
{
    const uint8_t *p = d->rows + (size_t)i * DATA_ROW_BYTES;

    *lba = get64(p);
    *nsectors = p[8];
}

struct buf *wb_put_zero(const struct wb_head *h, uint8_t disk, unsigned n, const uint64_t *lbas,
                        const uint64_t *nsectors)
{
    struct buf *b = buf_new(HEAD_BYTES + 1 + 2 + (size_t)n * ZERO_ROW_BYTES);
    uint8_t *p = put_head(b->data, h);

    CHECK(n > 0 && n <= WB_ZERO_MAX && disk < WB_DISKS_MAX);
    p[0] = disk;
    put16(p + 1, (uint16_t)n);
    p += 3;
    for (unsigned i = 0; i < n; i++, p += ZERO_ROW_BYTES) {
        put64(p, lbas[i]);
        put64(p + 8, nsectors[i]);
    }
    return b;
}

int wb_get_zero(const uint8_t *p, uint32_t n, struct wb_zero *z)
{
    struct reader r = reader_of(p, n);

    read_stage_head(&r, &z->head);
    z->disk = read8(&r);
    z->n = read16(&r);
    if (z->disk >= WB_DISKS_MAX || z->n == 0 || z->n > WB_ZERO_MAX)
        return -EBADMSG;
    z->rows = read_bytes(&r, (size_t)z->n * ZERO_ROW_BYTES);
    for (unsigned i = 0; z->rows && i < z->n; i++) {
        uint64_t lba, nsectors;

        wb_zero_row(z, i, &lba, &nsectors);
        if (!span_ok(lba, nsectors))
            r.bad = true;
    }
    return finish(&r);
}

void wb_zero_row(const struct wb_zero *z, unsigned i, uint64_t *lba, uint64_t *nsectors)
{
    const uint8_t *p = z->rows + (size_t)i * ZERO_ROW_BYTES;

    *lba = get64(p);
    *nsectors = get64(p + 8);
}
