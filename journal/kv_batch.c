/* journal/kv_batch.c - a batch as it is in a segment file: a header, then operations. Pure.
 *
 * The checksum is taken of each operation while it is still in the processor's cache.
 */
#include "check.h"
#include "crc32c.h"
#include "kv_rocks_impl.h"
#include "mem.h"
#include "wire.h"

static const uint32_t batch_magic = 0x49534254; /* "ISBT" */

enum { BATCH_ROOM = 64 << 10, BATCH_KEEP = 8 << 20, BATCH_MAX = 1 << 30 };

void batch_init(struct kv_batch *b)
{
    b->len = b->summed = BATCH_HEADER_BYTES;
    b->crc = b->nops = 0;
}

void batch_reset(struct kv_batch *b)
{
    if (b->room > BATCH_KEEP) {
        free(b->bytes);
        b->bytes = NULL;
        b->room = 0;
    }
    batch_init(b);
}

static void sum(struct kv_batch *b)
{
    if (b->len > b->summed)
        b->crc = crc32c(b->crc, b->bytes + b->summed, b->len - b->summed);
    b->summed = b->len;
}

/* Where the value goes, to be filled before the next call. */
void *batch_add(struct kv_batch *b, enum op_what what, enum kv_space space, const void *key, size_t key_len,
                size_t value_len)
{
    size_t n = OP_HEADER_BYTES + key_len + value_len;
    uint8_t *p;

    CHECK(key_len < INDEX_KEY_MAX && n <= BATCH_MAX && b->len <= BATCH_MAX);
    sum(b);
    if (b->len + n > b->room) {
        b->room = b->room ? b->room : BATCH_ROOM;
        while (b->len + n > b->room)
            b->room *= 2;
        b->bytes = xrealloc(b->bytes, b->room);
    }
    p = b->bytes + b->len;
    p[0] = (uint8_t)what;
    p[1] = (uint8_t)space;
    put16(p + 2, (uint16_t)key_len);
    put32(p + 4, (uint32_t)value_len);
    memcpy(p + OP_HEADER_BYTES, key, key_len);
    b->len += n;
    b->nops++;
    return p + OP_HEADER_BYTES + key_len;
}

void batch_seal(struct kv_batch *b, uint64_t number)
{
    CHECK(b->nops > 0);
    sum(b);
    put32(b->bytes, batch_magic);
    put32(b->bytes + 4, (uint32_t)b->len);
    put64(b->bytes + 8, number);
    put32(b->bytes + 16, b->nops);
    put32(b->bytes + 20, b->crc);
    put32(b->bytes + 24, 0);
    put32(b->bytes + 28, crc32c(0, b->bytes, 28));
}

uint32_t batch_length(const uint8_t *header, uint64_t number)
{
    uint32_t len = get32(header + 4);

    if (get32(header) != batch_magic || get64(header + 8) != number ||
        get32(header + 28) != crc32c(0, header, 28) || len <= BATCH_HEADER_BYTES)
        return 0;
    return len;
}

bool batch_whole(const uint8_t *bytes, uint32_t len)
{
    return get32(bytes + 20) == crc32c(0, bytes + BATCH_HEADER_BYTES, len - BATCH_HEADER_BYTES);
}

bool batch_next(const uint8_t *bytes, uint32_t len, uint32_t *at, struct op *op)
{
    const uint8_t *p;

    if (*at == 0)
        *at = BATCH_HEADER_BYTES;
    if (len - *at < OP_HEADER_BYTES)
        return false;
    p = bytes + *at;
    op->what = (enum op_what)p[0];
    op->space = (enum kv_space)p[1];
    op->key_len = get16(p + 2);
    op->value_len = get32(p + 4);
    if (op->key_len >= INDEX_KEY_MAX || len - *at - OP_HEADER_BYTES < op->key_len ||
        len - *at - OP_HEADER_BYTES - op->key_len < op->value_len)
        return false;
    op->key = p + OP_HEADER_BYTES;
    op->value = op->key + op->key_len;
    op->value_at = *at + OP_HEADER_BYTES + op->key_len;
    *at = op->value_at + op->value_len;
    return true;
}
