/* link/proto_forward.c - the bodies of the messages of proto_forward.h.
 *
 * Any thread; no state. Data stays where it is.
 */
#include "proto_forward.h"

#include "proto_in.h"

enum {
    DATA_BYTES = 8 + 8 + 4 + 4,
    COMMAND_BYTES = DATA_BYTES + 8 + 1 + 3 + 8 + 16 + 4,
    ANSWER_BYTES = 1 + 1 + 2 + 4 + 4 + 4,
    FETCH_BYTES = 8 + 8 + 4 + 4,
    TASK_BYTES = 8 + 8 + 8 + 1 + 7 + 8,
    MARK_BYTES = 8 + 8,
    READS = 1,
    WRITES = 2,
    SHUT_MAX = 2
};

static const char address_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:[]-";

static void read_into(struct reader *r, uint8_t *out, size_t n)
{
    const uint8_t *p = read_bytes(r, n);

    if (p)
        memcpy(out, p, n);
    else
        memset(out, 0, n);
}

static void read_zeros(struct reader *r, size_t n)
{
    const uint8_t *p = read_bytes(r, n);

    for (size_t i = 0; p && i < n; i++)
        if (p[i])
            r->bad = true;
}

/* What is left. */
static const uint8_t *read_rest(struct reader *r, uint32_t *n, uint32_t max)
{
    *n = (uint32_t)(r->end - r->p);
    if (*n > max)
        r->bad = true;
    return read_bytes(r, *n);
}

/* --- a VM, portals, a session ---------------------------------------------------------------------------*/

struct buf *forward_put_vm(const struct forward_vm *v)
{
    struct buf *b;

    if (v->len > FORWARD_TEXT_MAX)
        return NULL;
    b = buf_new(FORWARD_ID_BYTES + 8 + v->len);
    memcpy(b->data, v->vm, FORWARD_ID_BYTES);
    memset(b->data + FORWARD_ID_BYTES, 0, 8);
    b->data[FORWARD_ID_BYTES] = v->shut;
    memcpy(b->data + FORWARD_ID_BYTES + 8, v->text, v->len);
    return b;
}

int forward_get_vm(const uint8_t *p, uint32_t n, struct forward_vm *v)
{
    struct reader r = reader_of(p, n);

    read_into(&r, v->vm, FORWARD_ID_BYTES);
    v->shut = read8(&r);
    read_zeros(&r, 7);
    v->text = read_rest(&r, &v->len, FORWARD_TEXT_MAX);
    if (v->shut > SHUT_MAX || v->len == 0)
        r.bad = true;
    return finish(&r);
}

struct buf *forward_put_portals(const struct forward_portals *f)
{
    struct buf *b = buf_new(1 + sizeof f->each);
    uint8_t *p = b->data;

    CHECK(f->n <= FORWARD_PORTALS_MAX);
    *p++ = (uint8_t)f->n;
    for (unsigned i = 0; i < f->n; i++) {
        put16(p, f->each[i].group);
        p = put_text(p + 2, f->each[i].address);
    }
    trim(b, p);
    return b;
}

int forward_get_portals(const uint8_t *p, uint32_t n, struct forward_portals *f)
{
    struct reader r = reader_of(p, n);

    memset(f, 0, sizeof *f);
    f->n = read8(&r);
    if (f->n > FORWARD_PORTALS_MAX)
        return -EBADMSG;
    for (unsigned i = 0; i < f->n; i++) {
        f->each[i].group = read16(&r);
        read_text(&r, f->each[i].address, sizeof f->each[i].address);
        if (f->each[i].group == 0 ||
            strspn(f->each[i].address, address_characters) != strlen(f->each[i].address))
            r.bad = true; /* it goes to initiators as it is */
    }
    return finish(&r);
}

struct buf *forward_put_open(const struct forward_open *o)
{
    struct buf *b = buf_new(sizeof *o + 3);
    uint8_t *p = b->data;

    memcpy(p, o->vm, FORWARD_ID_BYTES);
    put16(p + 16, o->group);
    memcpy(p + 18, o->isid, 6);
    p[24] = o->moved;
    p = put_text(p + 25, o->initiator);
    p = put_text(p, o->address);
    trim(b, put_text(p, o->portal));
    return b;
}

int forward_get_open(const uint8_t *p, uint32_t n, struct forward_open *o)
{
    struct reader r = reader_of(p, n);
    uint8_t moved;

    read_into(&r, o->vm, FORWARD_ID_BYTES);
    o->group = read16(&r);
    read_into(&r, o->isid, 6);
    moved = read8(&r);
    o->moved = moved;
    read_line(&r, o->initiator, sizeof o->initiator);
    read_line(&r, o->address, sizeof o->address);
    read_line(&r, o->portal, sizeof o->portal);
    if (o->group == 0 || moved > 1 || !*o->initiator)
        r.bad = true;
    return finish(&r);
}

/* --- commands -------------------------------------------------------------------------------------------*/

static uint8_t *put_head(uint8_t *p, const struct forward_data *d)
{
    put64(p, d->session);
    put64(p + 8, d->number);
    put32(p + 16, d->bytes);
    put32(p + 20, d->from);
    return p + DATA_BYTES;
}

static void read_head(struct reader *r, struct forward_data *d)
{
    d->session = read64(r);
    d->number = read64(r);
    d->bytes = read32(r);
    d->from = read32(r);
    if (d->number == 0 || d->bytes > FORWARD_BYTES_MAX || d->from > d->bytes)
        r->bad = true;
}

static void read_data(struct reader *r, struct forward_data *d)
{
    d->data = read_rest(r, &d->len, FORWARD_PIECE);
    if (r->bad || d->len > d->bytes - d->from)
        r->bad = true;
}

/* NULL: whoever asked fills them in. */
static void put_bytes(uint8_t *p, const uint8_t *data, uint32_t n)
{
    if (data && n)
        memcpy(p, data, n);
}

struct buf *forward_put_data(const struct forward_data *d)
{
    struct buf *b = buf_new(DATA_BYTES + d->len);

    put_bytes(put_head(b->data, d), d->data, d->len);
    return b;
}

int forward_get_data(const uint8_t *p, uint32_t n, struct forward_data *d)
{
    struct reader r = reader_of(p, n);

    read_head(&r, d);
    read_data(&r, d);
    return finish(&r);
}

struct buf *forward_put_command(const struct forward_command *c)
{
    struct buf *b = buf_new(COMMAND_BYTES + c->data.len);
    uint8_t *p = put_head(b->data, &c->data);

    put64(p, c->below);
    memset(p + 8, 0, 4);
    p[8] = (uint8_t)((c->reads ? READS : 0) | (c->writes ? WRITES : 0));
    memcpy(p + 12, c->lun, 8);
    memcpy(p + 20, c->cdb, 16);
    put32(p + 36, c->edtl);
    put_bytes(p + 40, c->data.data, c->data.len);
    return b;
}

int forward_get_command(const uint8_t *p, uint32_t n, struct forward_command *c)
{
    struct reader r = reader_of(p, n);
    uint8_t flags;
    uint32_t most;

    read_head(&r, &c->data);
    c->below = read64(&r);
    flags = read8(&r);
    read_zeros(&r, 3);
    read_into(&r, c->lun, 8);
    read_into(&r, c->cdb, 16);
    c->edtl = read32(&r);
    most = c->edtl < FORWARD_BYTES_MAX ? c->edtl : FORWARD_BYTES_MAX;
    read_data(&r, &c->data);
    c->reads = flags & READS;
    c->writes = flags & WRITES;
    if (flags & ~(READS | WRITES) || c->below > c->data.number ||
        c->data.from + c->data.len != c->data.bytes || c->data.bytes != (c->writes ? most : 0))
        r.bad = true;
    return finish(&r);
}

struct buf *forward_put_answer(const struct forward_answer *a)
{
    struct buf *b = buf_new(ANSWER_BYTES + a->response_len + a->len);
    uint8_t *p = b->data;

    CHECK(a->response_len <= FORWARD_RESPONSE_MAX);
    p[0] = a->status;
    p[1] = a->response_len;
    p[2] = p[3] = 0;
    put32(p + 4, a->out_bytes);
    put32(p + 8, a->in_len);
    put32(p + 12, a->bytes);
    put_bytes(p + ANSWER_BYTES, a->response, a->response_len);
    put_bytes(p + ANSWER_BYTES + a->response_len, a->data, a->len);
    return b;
}

int forward_get_answer(const uint8_t *p, uint32_t n, struct forward_answer *a)
{
    struct reader r = reader_of(p, n);

    a->status = read8(&r);
    a->response_len = read8(&r);
    read_zeros(&r, 2);
    a->out_bytes = read32(&r);
    a->in_len = read32(&r);
    a->bytes = read32(&r);
    a->response = read_bytes(&r, a->response_len);
    a->data = read_rest(&r, &a->len, FORWARD_PIECE);
    if (a->response_len > FORWARD_RESPONSE_MAX || a->bytes > FORWARD_BYTES_MAX || a->bytes > a->in_len ||
        a->len > a->bytes)
        r.bad = true;
    return finish(&r);
}

struct buf *forward_put_fetch(const struct forward_fetch *f)
{
    struct buf *b = buf_new(FETCH_BYTES);

    put64(b->data, f->session);
    put64(b->data + 8, f->number);
    put32(b->data + 16, f->from);
    put32(b->data + 20, f->len);
    return b;
}

int forward_get_fetch(const uint8_t *p, uint32_t n, struct forward_fetch *f)
{
    struct reader r = reader_of(p, n);

    f->session = read64(&r);
    f->number = read64(&r);
    f->from = read32(&r);
    f->len = read32(&r);
    if (f->number == 0 || f->len == 0 || f->len > FORWARD_PIECE || f->from > FORWARD_BYTES_MAX)
        r.bad = true;
    return finish(&r);
}

/* --- task management, marks -----------------------------------------------------------------------------*/

struct buf *forward_put_task(const struct forward_task *t)
{
    struct buf *b = buf_new(TASK_BYTES);
    uint8_t *p = b->data;

    put64(p, t->session);
    put64(p + 8, t->number);
    put64(p + 16, t->referenced);
    memset(p + 24, 0, 8);
    p[24] = t->function;
    memcpy(p + 32, t->lun, 8);
    return b;
}

int forward_get_task(const uint8_t *p, uint32_t n, struct forward_task *t)
{
    struct reader r = reader_of(p, n);

    t->session = read64(&r);
    t->number = read64(&r);
    t->referenced = read64(&r);
    t->function = read8(&r);
    read_zeros(&r, 7);
    read_into(&r, t->lun, 8);
    if (t->number == 0 || t->function > 0x7f)
        r.bad = true;
    return finish(&r);
}

struct buf *forward_put_mark(const struct forward_mark *m)
{
    struct buf *b = buf_new(MARK_BYTES);

    put64(b->data, m->session);
    put64(b->data + 8, m->number);
    return b;
}

int forward_get_mark(const uint8_t *p, uint32_t n, struct forward_mark *m)
{
    struct reader r = reader_of(p, n);

    m->session = read64(&r);
    m->number = read64(&r);
    return finish(&r);
}
