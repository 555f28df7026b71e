/* link/proto_in.h - what the bodies of messages are made of: texts, names, and that nothing is left over.
 *
 * A name or text is a byte of length and its bytes. For who writes bodies, or rows that are made like them; any
 * thread.
 */
#ifndef ISTHMUS_PROTO_IN_H
#define ISTHMUS_PROTO_IN_H

#include "check.h"
#include "proto.h"
#include "wire.h"

#include <errno.h>

static inline uint8_t *put_text(uint8_t *p, const char *text)
{
    size_t n = strlen(text);

    CHECK(n <= 255);
    *p++ = (uint8_t)n;
    memcpy(p, text, n);
    return p + n;
}

/* Reads a text of at most max - 1 bytes; sets r->bad if it is longer or has a zero byte in it. */
static inline void read_text(struct reader *r, char *out, size_t max)
{
    uint8_t n = read8(r);
    const uint8_t *p = read_bytes(r, n);

    out[0] = 0;
    if (!p || n >= max || memchr(p, 0, n)) {
        r->bad = true;
        return;
    }
    memcpy(out, p, n);
    out[n] = 0;
}

/* The same for people: one line, no escapes of a terminal. */
static inline void read_line(struct reader *r, char *out, size_t max)
{
    read_text(r, out, max);
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

static inline void read_name(struct reader *r, char name[PROTO_NAME_MAX + 1])
{
    read_text(r, name, PROTO_NAME_MAX + 1);
    if (!r->bad && !proto_name_ok(name))
        r->bad = true;
}

static inline int finish(const struct reader *r)
{
    return r->bad || r->p != r->end ? -EBADMSG : 0;
}

static inline void trim(struct buf *b, const uint8_t *end)
{
    b->len = (uint32_t)(end - b->data);
}

#endif
