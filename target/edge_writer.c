/* target/edge_writer.c - see edge_writer.h. */
#include "edge_writer.h"

#include <errno.h>
#include <string.h>

static int on_writer(void *arg, const char *key, const void *value, size_t n)
{
    (void)key;
    if (n != LOGOBJ_WRITER_BYTES)
        return -EBADMSG;
    memcpy(arg, value, n);
    return 1;
}

int edge_writer(struct journal *journal, struct loop *loop, uint8_t writer[LOGOBJ_WRITER_BYTES],
                struct why *why)
{
    int rc = journal_meta_each(journal, "writer", on_writer, writer, why);

    if (rc)
        return rc > 0 ? 0 : rc;
    loop_random(loop, writer, LOGOBJ_WRITER_BYTES);
    return journal_meta_put(journal, "writer", writer, LOGOBJ_WRITER_BYTES, why);
}
