/* tests/lib/hostile_r2t.c - R2Ts: as many at once as were agreed on, in their order; answered out of it,
 * again, or with another's tag.
 */
#include "hostile.h"

#include <stdio.h>

enum { BURST = 4096, BURST_BLOCKS = BURST / 512, BURSTS = 12, PHASE_ERROR = 0x0b4b00 };
static uint8_t data[BURSTS * BURST];

/* A write of so many bursts, and its first n R2Ts: each with a tag of its own, in order. There is no other
 * before one of them is answered. most: MaxOutstandingR2T. */
static struct raw *with_r2ts(const char *most, uint16_t bursts, struct raw_r2t *r, uint32_t n)
{
    char keys[200];
    struct raw *c;
    uint32_t itt;

    snprintf(keys, sizeof keys, "InitialR2T=Yes|ImmediateData=No|MaxBurstLength=4096|MaxOutstandingR2T=%s|",
             most);
    c = session(1, keys);
    itt = raw_command(c, ISCSI_FINAL | RAW_WRITE, bursts * BURST,
                      raw_cdb10(0x2a, 0, (uint16_t)(bursts * BURST_BLOCKS)), 10, NULL, 0);
    for (uint32_t i = 0; i < n; i++) {
        r[i] = want_r2t(c, itt);
        want(r[i].sn == i && r[i].offset == BURST * i && r[i].len == BURST, "R2T %u for %u at %u", r[i].sn,
             r[i].len, r[i].offset);
        for (uint32_t j = 0; j < i; j++)
            want(r[i].ttt != r[j].ttt, "R2Ts %u and %u have one tag", i, j);
    }
    want_quiet(c);
    return c;
}

/* The first or the second half of what an R2T asks for. */
static void half(struct raw *c, const struct raw_r2t *r, uint32_t which)
{
    uint32_t offset = r->offset + BURST / 2 * which;

    raw_data_out(c, r->itt, r->ttt, which, offset, which == 1, data + offset, BURST / 2);
}

static void whole(struct raw *c, const struct raw_r2t *r)
{
    half(c, r, 0);
    half(c, r, 1);
}

static void as_many_as_agreed(void)
{
    static const struct {
        const char *offer;
        uint32_t n;
    } all[] = {{"1", 1}, {"3", 3}, {"8", 8}, {"65535", 8}};

    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        struct raw_r2t r[BURSTS];
        struct raw *c = with_r2ts(all[k].offer, BURSTS, r, all[k].n);
        uint8_t in[sizeof data];
        struct raw_answer a;

        pattern(data, sizeof data, (uint8_t)(30 + k));
        for (uint32_t i = 0, next = all[k].n; i < BURSTS; i++, next++) {
            half(c, &r[i], 0);
            want_quiet(c); /* half an answer is none */
            half(c, &r[i], 1);
            if (next >= BURSTS)
                continue;
            r[next] = want_r2t(c, r[0].itt);
            want(r[next].sn == next && r[next].offset == BURST * next, "the next R2T, %u, is at %u",
                 r[next].sn, r[next].offset);
        }
        want_good(c, r[0].itt);
        a = raw_exchange(c, raw_cdb10(0x28, 0, BURSTS * BURST_BLOCKS), 10, NULL, 0, in, sizeof in);
        want_is_good(&a);
        want(!memcmp(in, data, sizeof in), "other bytes than were written");
        hang_up(&c);
    }
}

/* DataSequenceInOrder is Yes: an R2T has its turn when the one before has all of its data. */
static void other_first(void)
{
    for (int amid = 0; amid < 2; amid++) {
        struct raw_r2t r[3];
        struct raw *c = with_r2ts("3", 3, r, 3);

        if (amid)
            half(c, &r[0], 0);
        whole(c, &r[1]);
        whole(c, &r[2]);
        half(c, &r[0], 1);
        want_sense(c, r[0].itt, PHASE_ERROR);
        want_quiet(c);
        want_same(c, 0, 3 * BURST_BLOCKS, 14);
        hang_up(&c);
    }
}

static void answered_twice(void)
{
    struct raw_r2t r;
    struct raw *c = with_r2ts("1", 1, &r, 1);

    whole(c, &r);
    want_good(c, r.itt);
    raw_data_out(c, r.itt, r.ttt, 0, 0, true, data, BURST);
    want_reject(c, REJECT_INVALID_FIELD);
    want_same(c, 0, 16, 3);
}

/* Of the R2T before: its tag is not good any more. */
static void old_tag(void)
{
    struct raw_r2t first, second;
    struct raw *c = with_r2ts("1", 2, &first, 1);

    whole(c, &first);
    second = want_r2t(c, first.itt);
    want(second.ttt != first.ttt && second.offset == BURST && second.sn == first.sn + 1, "a strange R2T");
    raw_data_out(c, first.itt, first.ttt, 0, BURST, true, data, BURST);
    want_reject(c, REJECT_INVALID_FIELD);
    whole(c, &second);
    want_good(c, first.itt);
}

const struct hostile_case hostile_r2t[] = {
    {"r2t_parallel", "a write of 12 bursts with MaxOutstandingR2T 1, 3, 8, 65535",
     "so many R2Ts at once (8 at most), in order; one more for each that is answered", as_many_as_agreed},
    {"r2t_order", "the second of three R2Ts answered before the first, and amid it",
     "b/4b/00, one answer: DataSequenceInOrder is Yes", other_first},
    {"r2t_twice", "an R2T answered again when its command is done", "GOOD, then Reject 09", answered_twice},
    {"r2t_old_tag", "the TTT of the R2T before", "Reject 09; the right one is taken", old_tag},
    {0},
};
