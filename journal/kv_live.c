/* journal/kv_live.c - how much of each segment lives, by the groups its keys belong to.
 *
 * A key of KV_DATA begins with a group (a VM) and a number that mostly rises (that of a record). Each segment
 * knows the bytes that live in it of each group, and between which numbers they are: a range is erased
 * without looking at keys, but where it ends within a segment's numbers. Only who writes is here.
 */
#include "check.h"
#include "kv_rocks_impl.h"
#include "mem.h"

#include <string.h>

static void head_of(uint8_t head[KEY_HEAD_BYTES], const uint8_t *key, size_t key_len)
{
    memset(head, 0, KEY_HEAD_BYTES);
    memcpy(head, key, key_len < KEY_HEAD_BYTES ? key_len : KEY_HEAD_BYTES);
}

static struct group *group_of(struct segment *s, const uint8_t head[KEY_HEAD_BYTES])
{
    for (size_t i = s->ngroups; i-- > 0;)
        if (memcmp(s->groups[i].first, head, KEY_GROUP_BYTES) == 0)
            return &s->groups[i];
    return NULL;
}

void live_add(struct segment *s, const uint8_t *key, size_t key_len, uint32_t bytes)
{
    uint8_t head[KEY_HEAD_BYTES];
    struct group *g;

    head_of(head, key, key_len);
    g = group_of(s, head);
    if (!g) {
        s->groups = xrealloc(s->groups, (s->ngroups + 1) * sizeof *s->groups);
        g = &s->groups[s->ngroups++];
        g->live = 0;
        memcpy(g->first, head, sizeof head);
        memcpy(g->last, head, sizeof head);
    }
    if (memcmp(head, g->first, sizeof head) < 0)
        memcpy(g->first, head, sizeof head);
    if (memcmp(head, g->last, sizeof head) > 0)
        memcpy(g->last, head, sizeof head);
    g->live += bytes;
    s->live += bytes;
    s->dead_in = 0;
}

static void take(struct kv_rocks *r, struct segment *s, struct group *g, uint64_t bytes)
{
    bytes = bytes < g->live ? bytes : g->live; /* a damaged index may say anything */
    g->live -= bytes;
    s->live -= bytes;
    if (g->live == 0)
        *g = s->groups[--s->ngroups];
    if (s->live == 0 && bytes > 0) {
        s->dead_in = segments_current(r)->number;
        r->some_dead = true;
    }
}

void live_drop(struct kv_rocks *r, const uint8_t *key, size_t key_len, const struct place *p)
{
    uint8_t head[KEY_HEAD_BYTES];

    head_of(head, key, key_len);
    for (size_t i = r->nsegments; i-- > 0;) {
        struct segment *s = r->segments[i];
        struct group *g;

        if (s->number != p->segment)
            continue;
        g = group_of(s, head);
        if (g)
            take(r, s, g, p->len);
        return;
    }
}

/* --- ranges ---------------------------------------------------------------------------------------------*/

/* Where all keys that begin with `head` are: before bound (-1), behind it or at it (1), on both sides (0). */
static int side(const uint8_t head[KEY_HEAD_BYTES], const uint8_t *bound, size_t len)
{
    int order = memcmp(head, bound, len < KEY_HEAD_BYTES ? len : KEY_HEAD_BYTES);

    if (order != 0)
        return order < 0 ? -1 : 1;
    return len <= KEY_HEAD_BYTES ? 1 : 0;
}

struct part_of {
    uint64_t segment, bytes;
};

static int add_bytes(void *arg, const uint8_t *key, size_t key_len, const struct place *p)
{
    struct part_of *part = arg;

    (void)key, (void)key_len;
    if (p->segment == part->segment)
        part->bytes += p->len;
    return 0;
}

/* The range begins or ends among the group's numbers: its keys there are looked at. */
static int erase_part(struct kv_rocks *r, struct segment *s, struct group *g, const struct op *op)
{
    struct part_of part = {.segment = s->number};
    uint8_t end[KEY_HEAD_BYTES + 16];
    struct op within = *op;
    int err;

    memcpy(end, g->last, KEY_HEAD_BYTES);
    memset(end + KEY_HEAD_BYTES, 0xff, 16);
    if (side(g->first, op->key, op->key_len) == 1) {
        within.key = g->first;
        within.key_len = KEY_HEAD_BYTES;
    }
    if (side(g->last, op->value, op->value_len) == -1) {
        within.value = end;
        within.value_len = sizeof end;
    }
    err = index_places(r, within.key, within.key_len, within.value, within.value_len, add_bytes, &part);
    if (err == 0)
        take(r, s, g, part.bytes);
    return err;
}

int live_erase(struct kv_rocks *r, const struct op *op)
{
    int err = 0;

    for (size_t i = 0; i < r->nsegments; i++) {
        struct segment *s = r->segments[i];

        for (size_t k = s->ngroups; err == 0 && k-- > 0;) {
            struct group *g = &s->groups[k];

            if (side(g->last, op->key, op->key_len) == -1 || side(g->first, op->value, op->value_len) == 1)
                continue;
            if (side(g->first, op->key, op->key_len) == 1 && side(g->last, op->value, op->value_len) == -1)
                take(r, s, g, g->live);
            else
                err = erase_part(r, s, g, op);
        }
    }
    return err;
}
