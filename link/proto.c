/* link/proto.c - the bodies of the messages of proto.h.
 *
 * Any thread; no state. A body must be used up exactly.
 */
#include "proto_in.h"

#include <ctype.h>

enum { STAT_READ_ONLY = 1 };

bool proto_name_ok(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > PROTO_NAME_MAX || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];

        if (c >= 0x80 || (!isalnum(c) && c != '.' && c != '_' && c != '-'))
            return false;
    }
    return true;
}

struct buf *proto_put_stat_call(const char *name)
{
    struct buf *b = buf_new(1 + PROTO_NAME_MAX);

    CHECK(proto_name_ok(name));
    trim(b, put_text(b->data, name));
    return b;
}

int proto_get_stat_call(const uint8_t *p, uint32_t n, char name[PROTO_NAME_MAX + 1])
{
    struct reader r = reader_of(p, n);

    read_name(&r, name);
    return finish(&r);
}

struct buf *proto_put_stat(const struct proto_stat *s)
{
    struct buf *b = buf_new(1 + PROTO_NAME_MAX + 8 + 4 + 1 + 1 + sizeof(s->identity));
    uint8_t *p;

    CHECK(proto_name_ok(s->name));
    p = put_text(b->data, s->name);
    put64(p, s->bytes);
    put32(p + 8, s->block_bytes);
    p[12] = s->read_only ? STAT_READ_ONLY : 0;
    trim(b, put_text(p + 13, s->identity));
    return b;
}

int proto_get_stat(const uint8_t *p, uint32_t n, struct proto_stat *s)
{
    struct reader r = reader_of(p, n);
    uint8_t flags;

    read_name(&r, s->name);
    s->bytes = read64(&r);
    s->block_bytes = read32(&r);
    flags = read8(&r);
    s->read_only = flags & STAT_READ_ONLY;
    read_line(&r, s->identity, sizeof(s->identity));
    if ((s->block_bytes != 512 && s->block_bytes != 4096) || s->bytes % s->block_bytes != 0 ||
        s->bytes > INT64_MAX || (flags & ~STAT_READ_ONLY))
        r.bad = true;
    return finish(&r);
}

struct buf *proto_put_read(const struct proto_read *q)
{
    struct buf *b = buf_new(1 + PROTO_NAME_MAX + 8 + 4);
    uint8_t *p;

    CHECK(proto_name_ok(q->name));
    p = put_text(b->data, q->name);
    put64(p, q->offset);
    put32(p + 8, q->bytes);
    trim(b, p + 12);
    return b;
}

int proto_get_read(const uint8_t *p, uint32_t n, struct proto_read *q)
{
    struct reader r = reader_of(p, n);

    read_name(&r, q->name);
    q->offset = read64(&r);
    q->bytes = read32(&r);
    if (q->bytes == 0 || q->bytes > PROTO_READ_MAX || q->bytes % PROTO_BLOCK || q->offset % PROTO_BLOCK ||
        q->offset > INT64_MAX - PROTO_READ_MAX)
        r.bad = true;
    return finish(&r);
}
