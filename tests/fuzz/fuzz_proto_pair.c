/* links: link; covers: link/proto_pair */
/* The messages between the edges of a pair: what is accepted is written again as the same bytes, and pieces
 * lie within their message and their record.
 */
#include "check.h"
#include "fuzz.h"
#include "proto_pair.h"

#include <string.h>

static void same(struct buf *b, const uint8_t *p, uint32_t n)
{
    CHECK(b->len == n && !memcmp(b->data, p, n));
    buf_unref(&b);
}

static void pieces(const uint8_t *p, uint32_t n)
{
    uint8_t head[PAIR_PIECE_BYTES];
    struct pair_piece piece;
    struct pair_put put;

    if (pair_get_put(p, n, &put))
        return;
    pair_put_head(head, put.vm, put.stream, put.number);
    CHECK(!memcmp(head, p, PAIR_PUT_HEAD_BYTES));
    for (;;) {
        const uint8_t *at = put.pieces;

        if (pair_next_piece(&put, &piece) <= 0)
            return;
        pair_put_piece(head, &piece);
        CHECK(!memcmp(head, at, PAIR_PIECE_BYTES));
        CHECK(piece.data == at + PAIR_PIECE_BYTES && piece.data + piece.sectors * 512 <= p + n);
        CHECK(piece.from + piece.sectors <= piece.nsectors);
    }
}

/* The first byte: how many blocks were asked for. */
static void remains_answer(const uint8_t *p, uint32_t n)
{
    static uint8_t blocks[PAIR_REMAINS_BLOCKS][PROTO_BLOCK];
    const uint8_t *given[PAIR_REMAINS_BLOCKS];
    uint8_t *pages[PAIR_REMAINS_BLOCKS];
    bool zero[PAIR_REMAINS_BLOCKS] = {false};
    uint32_t count, k = 0;
    uint64_t here, again;
    struct buf *b;

    if (n == 0)
        return;
    count = 1 + p[0] % PAIR_REMAINS_BLOCKS;
    for (unsigned i = 0; i < PAIR_REMAINS_BLOCKS; i++)
        pages[i] = blocks[i];
    if (pair_get_remains_answer(p + 1, n - 1, count, &here, pages, zero))
        return;
    for (uint32_t i = 0; i < count; i++)
        if (here >> i & 1)
            given[k++] = zero[i] ? NULL : blocks[i];
    b = pair_put_remains_answer(here, given);
    CHECK(!pair_get_remains_answer(b->data, b->len, count, &again, pages, zero) && again == here);
    buf_unref(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint32_t len = (uint32_t)n;
    struct pair_word word;
    struct pair_begin begin;
    struct pair_mark mark;
    struct pair_reserve reserve;
    struct pair_hand hand;
    struct pair_remains remains;

    if (!pair_get_word(p, len, &word))
        same(pair_put_word(&word), p, len);
    if (!pair_get_begin(p, len, &begin))
        same(pair_put_begin(&begin), p, len);
    if (!pair_get_mark(p, len, &mark))
        same(pair_put_mark(&mark), p, len);
    if (!pair_get_reserve(p, len, &reserve)) {
        CHECK(reserve.len <= PAIR_RESERVE_MAX && reserve.state + reserve.len == p + len);
        same(pair_put_reserve(&reserve), p, len);
    }
    if (!pair_get_hand(p, len, &hand))
        same(pair_put_hand(&hand), p, len);
    if (!pair_get_remains(p, len, &remains))
        same(pair_put_remains(&remains), p, len);
    remains_answer(p, len);
    pieces(p, len);
    return 0;
}
