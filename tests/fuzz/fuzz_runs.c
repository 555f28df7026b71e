/* links: link; covers: link/runs */
/* A read's answer from the other daemon: decoded into pages of just that size, and what was decoded
 * survives another trip.
 */
#include "check.h"
#include "fuzz.h"
#include "mem.h"
#include "proto.h"

#include <string.h>

enum { BLOCKS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint8_t *pages[BLOCKS], *plain, *again[BLOCKS];
    bool zero[BLOCKS], zero_again[BLOCKS];
    uint32_t nblocks;

    if (n < 1)
        return 0;
    nblocks = p[0] % BLOCKS + 1u;
    for (uint32_t i = 0; i < nblocks; i++) {
        pages[i] = xcalloc(1, PROTO_BLOCK);
        again[i] = xcalloc(1, PROTO_BLOCK);
    }
    plain = xcalloc(nblocks, PROTO_BLOCK);
    if (!runs_decode(p + 1, (uint32_t)n - 1, pages, zero, nblocks)) {
        struct buf *b;

        for (uint32_t i = 0; i < nblocks; i++)
            if (!zero[i])
                memcpy(plain + i * PROTO_BLOCK, pages[i], PROTO_BLOCK);
        b = runs_encode(plain, nblocks * PROTO_BLOCK, p[0] & 0x80);
        CHECK(!runs_decode(b->data, b->len, again, zero_again, nblocks));
        for (uint32_t i = 0; i < nblocks; i++)
            CHECK(zero_again[i] || !memcmp(again[i], plain + i * PROTO_BLOCK, PROTO_BLOCK));
        buf_unref(&b);
    }
    for (uint32_t i = 0; i < nblocks; i++) {
        free(pages[i]);
        free(again[i]);
    }
    free(plain);
    return 0;
}
