/* common/wire.h - big-endian fields, and a reader that cannot run past its end.
 */
#ifndef ISTHMUS_WIRE_H
#define ISTHMUS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void put24(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 16);
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}

static inline void put64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}

static inline uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t get24(const uint8_t *p)
{
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

static inline uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

static inline uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

/* Takes fields off the front of a run of bytes. A read past the end yields zeros and sets `bad`; callers
 * read everything and test `bad` once. */
struct reader {
    const uint8_t *p, *end;
    bool bad;
};

static inline struct reader reader_of(const void *bytes, size_t n)
{
    /* No bytes may be NULL, to which C adds nothing, not even 0. */
    return (struct reader){bytes, n ? (const uint8_t *)bytes + n : bytes, false};
}

/* n bytes in place, or NULL. */
static inline const uint8_t *read_bytes(struct reader *r, size_t n)
{
    if ((size_t)(r->end - r->p) < n) {
        r->bad = true;
        r->p = r->end;
        return NULL;
    }
    r->p += n;
    return r->p - n;
}

static inline uint8_t read8(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 1);
    return p ? *p : 0;
}

static inline uint16_t read16(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 2);
    return p ? get16(p) : 0;
}

static inline uint32_t read32(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 4);
    return p ? get32(p) : 0;
}

static inline uint64_t read64(struct reader *r)
{
    const uint8_t *p = read_bytes(r, 8);
    return p ? get64(p) : 0;
}

#endif
