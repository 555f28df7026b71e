/* cache/readahead.c - telling streams apart and saying how far ahead of each to fetch.
 *
 * A stream is where somebody reads on. A read that starts near a stream's position belongs to it; any other
 * begins a new one in place of the one that rested longest. The first read of a stream is only widened if it
 * missed; from the second on, the window doubles each time the reader comes within half a window of what was
 * asked for, but never beyond what the stream has read already: a short file must not fetch a long one's
 * worth. Widening that nobody uses is given up, and tried again now and then.
 */
#include "readahead.h"

#include "check.h"
#include "mem.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    STREAMS = 16,
    BLOCK = 4096,
    NEAR_MIN = 16,    /* blocks: how far from its position a read still belongs to a stream */
    SCORE_MAX = 1024, /* widened blocks remembered, decayed by half when more */
    USE_SHARE = 8,    /* widening pays if one of this many is used */
    PROBE_EVERY = 32, /* misses: one is widened to see whether it pays again */
    LINE_MIN = 64,    /* blocks: a line that was never busy looks slow; it must be given a chance */
};

struct stream {
    uint64_t start; /* where it began */
    uint64_t next;  /* after the last block read */
    uint64_t ahead; /* after the last block asked for */
    uint64_t used;  /* when, in reads; 0: never */
    uint32_t window;
};

struct readahead {
    struct readahead_limits limits;
    uint32_t max; /* blocks ahead, as the line is now */
    uint64_t clock;
    struct stream streams[STREAMS];
    unsigned last; /* the stream of the last read: looked at first */
    uint32_t widened, useful, since_probe;
};

struct readahead *readahead_new(const struct readahead_limits *limits)
{
    struct readahead *ra = xcalloc(1, sizeof(*ra));

    ra->limits = *limits;
    readahead_set_bdp(ra, 0);
    return ra;
}

void readahead_free(struct readahead **ra)
{
    free(*ra);
    *ra = NULL;
}

void readahead_set_bdp(struct readahead *ra, uint64_t bytes)
{
    uint64_t blocks = bytes / BLOCK * 2;

    ra->max = ra->limits.max_blocks;
    if (bytes == 0)
        return;
    if (blocks < LINE_MIN)
        blocks = LINE_MIN;
    if (blocks < ra->max)
        ra->max = (uint32_t)blocks;
}

uint32_t readahead_max_blocks(const struct readahead *ra)
{
    return ra->max;
}

void readahead_used(struct readahead *ra, uint32_t blocks)
{
    ra->useful += blocks;
    if (ra->useful > ra->widened)
        ra->useful = ra->widened;
}

/* ---- streams */

static bool belongs(const struct stream *s, uint64_t first, uint32_t count)
{
    uint64_t reach = s->next + NEAR_MIN;

    if (s->used == 0 || first + count + NEAR_MIN < s->next)
        return false;
    if (s->window > 0 && s->ahead > reach)
        reach = s->ahead;
    return first <= reach;
}

static struct stream *find(struct readahead *ra, uint64_t first, uint32_t count)
{
    if (belongs(&ra->streams[ra->last], first, count))
        return &ra->streams[ra->last];
    for (unsigned i = 0; i < STREAMS; i++) {
        if (belongs(&ra->streams[i], first, count)) {
            ra->last = i;
            return &ra->streams[i];
        }
    }
    return NULL;
}

static struct stream *oldest(struct readahead *ra)
{
    unsigned best = 0;

    for (unsigned i = 1; i < STREAMS; i++)
        if (ra->streams[i].used < ra->streams[best].used)
            best = i;
    ra->last = best;
    return &ra->streams[best];
}

/* ---- a lone miss */

static bool widening_pays(struct readahead *ra)
{
    if (ra->widened < SCORE_MAX / 2 || ra->useful * USE_SHARE >= ra->widened)
        return true;
    if (++ra->since_probe < PROBE_EVERY)
        return false;
    ra->since_probe = 0;
    return true;
}

static void widen(struct readahead *ra, struct stream *s, uint64_t first, uint32_t count, uint64_t *from,
                  uint32_t *n)
{
    uint32_t miss = ra->limits.miss_blocks;
    uint64_t end;

    if (miss == 0 || count >= miss || !widening_pays(ra))
        return;
    *from = first / miss * miss;
    end = (first + count + miss - 1) / miss * miss;
    *n = (uint32_t)(end - *from);
    if (s->ahead < end)
        s->ahead = end;
    ra->widened += *n - count;
    if (ra->widened > SCORE_MAX) {
        ra->widened /= 2;
        ra->useful /= 2;
    }
}

/* Only where something missed: reads of what is in memory must not push streams out. */
static void begin(struct readahead *ra, uint64_t first, uint32_t count, uint64_t *from, uint32_t *n)
{
    struct stream *s = oldest(ra);

    s->start = first;
    s->next = first + count;
    s->ahead = s->next;
    s->window = 0;
    s->used = ra->clock;
    widen(ra, s, first, count, from, n);
}

/* ---- a stream read on */

static void go_on(struct readahead *ra, struct stream *s, uint64_t first, uint64_t end, bool missed,
                  uint64_t *from, uint32_t *n)
{
    uint64_t grown, proven;

    s->used = ra->clock;
    if (end <= s->next) { /* again, or a little back */
        if (missed)
            widen(ra, s, first, (uint32_t)(end - first), from, n);
        return;
    }
    s->next = end;
    if (s->ahead < end)
        s->ahead = end;
    if (s->ahead - end > s->window / 2)
        return;
    if (s->window == 0)
        grown = missed ? ra->limits.miss_blocks * 2 : ra->limits.miss_blocks;
    else
        grown = s->window * 2;
    proven = s->next - s->start > ra->limits.miss_blocks ? s->next - s->start : ra->limits.miss_blocks;
    if (grown > proven)
        grown = proven;
    s->window = grown < ra->max ? (uint32_t)grown : ra->max;
    if (s->window == 0)
        return;
    /* A reader who missed may have overtaken what was dropped: ask again from where he is. */
    *from = missed ? end : s->ahead;
    if (end + s->window <= *from)
        return;
    *n = (uint32_t)(end + s->window - *from);
    s->ahead = end + s->window;
}

void readahead_read(struct readahead *ra, uint64_t first, uint32_t count, int missed, uint64_t *from,
                    uint32_t *n)
{
    struct stream *s = find(ra, first, count);

    *from = 0;
    *n = 0;
    ra->clock++;
    if (s)
        go_on(ra, s, first, first + count, missed != 0, from, n);
    else if (missed)
        begin(ra, first, count, from, n);
}
