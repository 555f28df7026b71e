/* journal/kv_move.c - giving disk space back: segments that nothing points to, and those that little points
 * to.
 *
 * A segment is removed when the index's files know of the batch that took the last of its values away: until
 * then a power cut could bring the values back. When more than half of what is on disk is dead, the values
 * that are not are written anew, out of the segment that has the fewest, two bytes looked at for each byte
 * written: so what is dead never outgrows what lives by much, and nothing is moved while nothing is written
 * (but when the disk is full: move_in_need).
 */
#include "check.h"
#include "kv_rocks_impl.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "journal";

enum { MOVE_PER_BYTE = 2, MOVE_DEBT_MAX = 8 << 20 };

void remove_dead(struct kv_rocks *r)
{
    bool left = false;

    if (!r->some_dead || !index_flushed(r))
        return;
    for (size_t i = 0; i + 1 < r->nsegments;) {
        struct segment *s = r->segments[i];

        if (s->dead_in == 0 || s == r->victim || s->dead_in >= r->durable) {
            left |= s->dead_in != 0;
            i++;
            continue;
        }
        segments_remove(r, s);
    }
    r->some_dead = left;
}

void move_choose(struct kv_rocks *r, bool in_need)
{
    uint64_t bytes = 0, live = 0;
    struct segment *best = NULL;

    for (size_t i = 0; i + 1 < r->nsegments; i++) {
        struct segment *s = r->segments[i];

        if (s->live == 0)
            continue;
        bytes += s->bytes;
        live += s->live;
        if (!s->stuck && (!best || s->live * best->bytes < best->live * s->bytes))
            best = s;
    }
    if (in_need ? best && best->bytes < 2 * best->live : bytes <= 2 * live + r->spare_bytes)
        best = NULL;
    r->victim = best;
    r->victim_at = SEGMENT_HEADER_BYTES;
}

static void give_up(struct kv_rocks *r, int err)
{
    log_error(NULL, "segment %016" PRIx64 " of the journal at %s cannot be compacted: %s", r->victim->number,
              r->path, strerror(-err));
    r->victim->stuck = true;
    r->victim = NULL;
}

/* The whole batch at victim_at, to be freed. */
static int read_batch(struct kv_rocks *r, int fd, uint8_t **bytes, uint32_t *len)
{
    uint8_t header[BATCH_HEADER_BYTES];
    int err = read_at(fd, header, sizeof header, r->victim_at);

    if (err)
        return err;
    *len = batch_length(header, get64(header + 8));
    if (*len == 0 || *len > r->victim->bytes - r->victim_at)
        return -EBADMSG;
    *bytes = xmalloc(*len);
    return read_at(fd, *bytes, *len, r->victim_at);
}

static int move_values(struct kv_rocks *r, const uint8_t *bytes, uint32_t len)
{
    uint32_t next = 0;
    struct op op;
    int err = 0;

    batch_reset(&r->moving);
    while (err == 0 && next != len && batch_next(bytes, len, &next, &op)) {
        struct place p;

        if (op.what != OP_PUT || op.space != KV_DATA)
            continue;
        err = index_place(r, op.key, op.key_len, &p);
        if (err == 0 && p.segment == r->victim->number && p.at == r->victim_at + op.value_at)
            memcpy(batch_add(&r->moving, OP_PUT, KV_DATA, op.key, op.key_len, op.value_len), op.value,
                   op.value_len);
        err = err == -ENOENT ? 0 : err;
    }
    if (err || r->moving.nops == 0)
        return err;
    metric_add(r->m_moved, r->moving.len);
    err = store_append(r, &r->moving, APPLY_REPLACING);
    STEP("journal.move", "values of a segment are written anew");
    return err;
}

static int move_batch(struct kv_rocks *r, uint32_t *looked_at)
{
    uint8_t *bytes = NULL;
    struct segment *s;
    int err;

    s = segments_use(r, r->victim->number, &err);
    if (!s)
        return err;
    err = read_batch(r, s->fd, &bytes, looked_at);
    segment_leave(r, s);
    if (err == 0)
        err = batch_whole(bytes, *looked_at) ? move_values(r, bytes, *looked_at) : -EBADMSG;
    free(bytes);
    return err;
}

/* One batch of the victim; false: no more of it. */
static bool move_step(struct kv_rocks *r)
{
    uint32_t n = 0;
    int err = move_batch(r, &n);

    if (atomic_load(&r->broken))
        return false;
    if (err) {
        give_up(r, err);
        return false;
    }
    r->victim_at += n;
    r->move_bytes -= n < r->move_bytes ? n : r->move_bytes;
    if (r->victim_at < r->victim->bytes)
        return true;
    if (r->victim->live > 0)
        give_up(r, -EBADMSG);
    return false;
}

void move_some(struct kv_rocks *r, uint64_t written)
{
    if (!r->victim)
        return;
    r->move_bytes += MOVE_PER_BYTE * written;
    if (r->move_bytes > MOVE_DEBT_MAX)
        r->move_bytes = MOVE_DEBT_MAX;
    while (r->move_bytes > 0 && r->victim && !atomic_load(&r->broken))
        if (!move_step(r))
            move_choose(r, false);
}

/* The disk is full: at once whatever takes less space elsewhere, a segment at a time. */
void move_in_need(struct kv_rocks *r)
{
    move_choose(r, true);
    if ((!r->victim && !r->some_dead) ||
        !index_has_room(r, 4 * r->index_bytes + (r->victim ? 2 * r->victim->live : 0))) {
        r->victim = NULL;
        return;
    }
    while (r->victim && move_step(r))
        ;
    r->victim = NULL;
    if (!atomic_load(&r->broken) && store_roll(r, true) == 0)
        remove_dead(r);
}
