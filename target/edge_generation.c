/* target/edge_generation.c - see edge_generation.h. The note is a named value of the journal, "generation":
 * 4 bytes.
 */
#include "edge_generation.h"
#include "generation.h"
#include "wire.h"

#include <errno.h>

static const char name[] = "generation";

static int on_note(void *arg, const char *key, const void *value, size_t n)
{
    (void)key;
    if (n != 4)
        return 1;
    *(unsigned *)arg = get32(value);
    return 0;
}

int edge_generation(struct journal *j, bool alone, struct why *why)
{
    unsigned newest = generation_newest(), noted = 0;
    uint8_t value[4];
    int rc = journal_meta_each(j, name, on_note, &noted, why);

    if (rc)
        return rc < 0
                   ? rc
                   : why_set(why, -EBADMSG, "the note of its generation in the journal has another length");
    if (noted > newest)
        return why_set(
            why, -EPROTONOSUPPORT,
            "this edge has written as generation %u, and this isthmus-edge is of generation %u: it cannot "
            "read that, a newer one must be installed here",
            noted, newest);
    if (!alone)
        return 0;
    put32(value, newest);
    rc = noted < newest ? journal_meta_put(j, name, value, sizeof value, why) : 0;
    if (rc == 0)
        generation_write(newest);
    return rc;
}
