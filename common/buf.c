#include "buf.h"
#include "check.h"
#include "mem.h"

struct buf *buf_new(size_t len)
{
    struct buf *b;

    CHECK(len <= UINT32_MAX);
    b = xmalloc(sizeof *b + len);
    atomic_init(&b->refs, 1);
    b->len = (uint32_t)len;
    return b;
}

struct buf *buf_ref(struct buf *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void buf_unref(struct buf **b)
{
    if (*b && atomic_fetch_sub_explicit(&(*b)->refs, 1, memory_order_acq_rel) == 1)
        free(*b);
    *b = NULL;
}
