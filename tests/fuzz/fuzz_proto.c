/* links: link; covers: link/proto */
/* The bodies of messages between the daemons: what is accepted is written again as the same bytes.
 */
#include "check.h"
#include "fuzz.h"
#include "proto.h"

#include <string.h>

static void same(struct buf *b, const uint8_t *p, uint32_t n)
{
    CHECK(b->len == n && !memcmp(b->data, p, n));
    buf_unref(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char name[PROTO_NAME_MAX + 1];
    struct proto_stat stat;
    struct proto_read read;
    uint32_t len = (uint32_t)n;

    if (!proto_get_stat_call(p, len, name))
        same(proto_put_stat_call(name), p, len);
    if (!proto_get_read(p, len, &read)) {
        CHECK(read.offset + read.bytes <= INT64_MAX);
        same(proto_put_read(&read), p, len);
    }
    if (!proto_get_stat(p, len, &stat)) { /* its text may have been cleaned: compare the second trip */
        struct buf *b = proto_put_stat(&stat);
        struct proto_stat again;

        CHECK(b->len == len && !proto_get_stat(b->data, b->len, &again));
        same(proto_put_stat(&again), b->data, b->len);
        buf_unref(&b);
    }
    return 0;
}
