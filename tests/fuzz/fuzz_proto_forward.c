/* links: link; covers: link/proto_forward */
/* What an edge sends on to the owner of a VM, and its answers: what is accepted is written again as the same
 * bytes, and data lies within its message and its command.
 */
#include "check.h"
#include "fuzz.h"
#include "proto_forward.h"

#include <string.h>

static void same(struct buf *b, const uint8_t *p, uint32_t n)
{
    CHECK(b && b->len == n && !memcmp(b->data, p, n));
    buf_unref(&b);
}

static void commands(const uint8_t *p, uint32_t n)
{
    struct forward_command command;
    struct forward_answer answer;
    struct forward_data data;
    struct forward_fetch fetch;

    if (!forward_get_data(p, n, &data)) {
        CHECK(data.from + data.len <= data.bytes && data.bytes <= FORWARD_BYTES_MAX);
        same(forward_put_data(&data), p, n);
    }
    if (!forward_get_command(p, n, &command)) {
        CHECK(command.data.from + command.data.len == command.data.bytes);
        same(forward_put_command(&command), p, n);
    }
    if (!forward_get_answer(p, n, &answer)) {
        CHECK(answer.len <= answer.bytes && answer.bytes <= answer.in_len);
        same(forward_put_answer(&answer), p, n);
    }
    if (!forward_get_fetch(p, n, &fetch))
        same(forward_put_fetch(&fetch), p, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    uint32_t n = (uint32_t)size;
    struct forward_portals portals;
    struct forward_task task;
    struct forward_open open;
    struct forward_mark mark;
    struct forward_vm vm;

    if (!forward_get_vm(p, n, &vm))
        same(forward_put_vm(&vm), p, n);
    if (!forward_get_portals(p, n, &portals))
        same(forward_put_portals(&portals), p, n);
    if (!forward_get_open(p, n, &open)) {
        struct buf *b = forward_put_open(&open);

        CHECK(b->len == n); /* what a terminal would take ill is another byte now */
        buf_unref(&b);
    }
    if (!forward_get_task(p, n, &task))
        same(forward_put_task(&task), p, n);
    if (!forward_get_mark(p, n, &mark))
        same(forward_put_mark(&mark), p, n);
    commands(p, n);
    return 0;
}
