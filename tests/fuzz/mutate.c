/* tests/fuzz/mutate.c - libFuzzer's mutator and crossover for inputs that are programs (program.h): steps
 * come, go, change places and change inside, so that what a connection has reached is not lost with every
 * change.
 *
 * A step that is made anew is made by the target, right but for small things. One thread.
 */
#include "fuzz.h"
#include "program.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_BYTES = 256 << 10, GROW_BYTES = 64, TEXT_BYTES = 6000 };

struct step {
    uint8_t kind;
    uint32_t len;
    uint8_t *p;
};

/* The program that is worked on. Its bytes are in the arena, every change gets new ones. */
static struct {
    uint8_t begin;
    unsigned n;
    struct step steps[PROGRAM_STEPS];
    uint8_t arena[ARENA_BYTES];
    size_t used;
    uint64_t seed;
} work;

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static uint32_t random_below(uint32_t n)
{
    return n ? (uint32_t)(next(&work.seed) % n) : 0;
}

uint32_t make_random(struct maker *m, uint32_t below)
{
    return below ? (uint32_t)(next(&m->seed) % below) : 0;
}

void make_step(struct maker *m, uint8_t kind, const void *bytes, size_t n)
{
    if ((size_t)(m->end - m->at) < STEP_HEAD_BYTES + n || n > UINT16_MAX)
        return;
    m->at[0] = kind;
    put16(m->at + 1, (uint16_t)n);
    if (n)
        memcpy(m->at + STEP_HEAD_BYTES, bytes, n);
    m->at += STEP_HEAD_BYTES + n;
}

static uint8_t *arena(size_t n)
{
    uint8_t *p = work.arena + work.used;

    if (n > ARENA_BYTES - work.used)
        return NULL;
    work.used += n;
    return p;
}

static void insert(unsigned at, struct step s)
{
    if (work.n == PROGRAM_STEPS)
        return;
    memmove(work.steps + at + 1, work.steps + at, (work.n - at) * sizeof s);
    work.steps[at] = s;
    work.n++;
}

static struct step drop(unsigned at)
{
    struct step s = work.steps[at];

    work.n--;
    memmove(work.steps + at, work.steps + at + 1, (work.n - at) * sizeof s);
    return s;
}

/* The steps of an input from number `from` on, put in at `at`. */
static void insert_all(struct program in, unsigned from, unsigned at)
{
    struct program bytes;
    uint8_t kind;

    for (unsigned i = 0; take_step(&in, &kind, &bytes); i++)
        if (i >= from && work.n < PROGRAM_STEPS) {
            size_t n = (size_t)(bytes.end - bytes.p);
            struct step s = {.kind = kind, .len = (uint32_t)n, .p = arena(n)};

            if (!s.p)
                return;
            if (n)
                memcpy(s.p, bytes.p, n);
            insert(at++, s);
        }
}

static void open_program(const uint8_t *p, size_t n, uint64_t seed)
{
    struct program in = {p, p + n};

    work.n = 0;
    work.used = 0;
    work.seed = seed * 0x9e3779b97f4a7c15u + 1;
    work.begin = take8(&in);
    insert_all(in, 0, 0);
}

static size_t close_program(uint8_t *out, size_t max)
{
    struct maker m = {.at = out + 1, .end = out + max};

    out[0] = work.begin;
    for (unsigned i = 0; i < work.n; i++)
        make_step(&m, work.steps[i].kind, work.steps[i].p, work.steps[i].len);
    return (size_t)(m.at - out);
}

/* --- changes --- */

static void made_anew(void)
{
    static uint8_t made[TEXT_BYTES * 2];
    struct maker m = {.at = made, .end = made + sizeof made, .seed = work.seed};

    next(&work.seed);
    program_make(&m);
    insert_all((struct program){made, m.at}, 0, random_below(work.n + 1));
}

/* One step's bytes by libFuzzer's own changes, its dictionary among them. */
static void bytes_changed(struct step *s)
{
    uint8_t *p = arena(s->len + GROW_BYTES);

    if (!p)
        return;
    memcpy(p, s->p, s->len);
    s->len = (uint32_t)LLVMFuzzerMutate(p, s->len, s->len + GROW_BYTES);
    s->p = p;
}

/* A number somewhere gets a value at which things end. */
static void field_changed(struct step *s)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     3,
                                     7,
                                     8,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x100,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     UINT64_MAX};
    uint64_t v = edges[random_below(sizeof edges / sizeof *edges)] + random_below(3) - 1;
    unsigned width = 1u << random_below(4);
    uint8_t bytes[8], *p = arena(s->len);
    uint32_t at;

    if (!p || s->len < width)
        return;
    memcpy(p, s->p, s->len);
    at = random_below(s->len - width + 1);
    put64(bytes, v);
    memcpy(p + at, bytes + 8 - width, width);
    s->p = p;
}

/* --- text --- */

static const char *const keys[] = {"InitiatorName",
                                   "InitiatorAlias",
                                   "TargetName",
                                   "TargetAlias",
                                   "TargetAddress",
                                   "TargetPortalGroupTag",
                                   "SessionType",
                                   "SendTargets",
                                   "AuthMethod",
                                   "CHAP_A",
                                   "CHAP_I",
                                   "CHAP_C",
                                   "CHAP_N",
                                   "CHAP_R",
                                   "HeaderDigest",
                                   "DataDigest",
                                   "MaxConnections",
                                   "InitialR2T",
                                   "ImmediateData",
                                   "MaxRecvDataSegmentLength",
                                   "MaxBurstLength",
                                   "FirstBurstLength",
                                   "DefaultTime2Wait",
                                   "DefaultTime2Retain",
                                   "MaxOutstandingR2T",
                                   "DataPDUInOrder",
                                   "DataSequenceInOrder",
                                   "ErrorRecoveryLevel",
                                   "IFMarker",
                                   "OFMarkInt",
                                   "TaskReporting",
                                   "iSCSIProtocolLevel",
                                   "X-org.test.key"};
static const char *const values[] = {"",
                                     "0",
                                     "1",
                                     "2",
                                     "8",
                                     "Yes",
                                     "No",
                                     "None",
                                     "CRC32C",
                                     "CRC32C,None",
                                     "None,CRC32C",
                                     "CHAP",
                                     "CHAP,None",
                                     "Normal",
                                     "Discovery",
                                     "All",
                                     "512",
                                     "511",
                                     "8192",
                                     "65536",
                                     "262144",
                                     "16777215",
                                     "16777216",
                                     "4294967296",
                                     "0x200",
                                     "0X1FF",
                                     "-1",
                                     "0x",
                                     "0b",
                                     "0bAAAA",
                                     "Irrelevant",
                                     "Reject",
                                     "NotUnderstood",
                                     "5",
                                     "7,5",
                                     "6,7,8",
                                     "iqn.2026-11.test:vm0",
                                     "iqn.2026-11.test:vm1",
                                     "iqn.2026-11.test:vm2",
                                     "iqn.2026-11.test:initiator",
                                     "user",
                                     "eui.0123456789abcdef"};

#define ONE_OF(list) (list)[random_below(sizeof(list) / sizeof *(list))]

/* Where pair number i of text begins, or its end. */
static uint32_t pair_at(const uint8_t *text, uint32_t n, unsigned i)
{
    uint32_t at = 0;

    for (; i && at < n; i--) {
        const uint8_t *nul = memchr(text + at, 0, n - at);

        at = nul ? (uint32_t)(nul - text) + 1 : n;
    }
    return at;
}

static uint32_t pair_made(char *out, size_t size)
{
    int n = snprintf(out, size, "%s=%s", ONE_OF(keys), ONE_OF(values));

    if (!random_below(16)) { /* a long one */
        size_t more = random_below((uint32_t)size - (uint32_t)n - 1);

        memset(out + n, 'a', more);
        n += (int)more;
        out[n] = 0;
    }
    return (uint32_t)n + 1;
}

/* A pair comes, goes, comes again, or gets another value. */
static void text_changed(struct step *s, unsigned skip)
{
    static char pair[TEXT_BYTES];
    uint32_t n = s->len - skip, from, to, len = 0;
    uint8_t *p = arena(s->len + TEXT_BYTES), *text = s->p + skip;
    unsigned how = random_below(8), which = random_below(8);

    if (!p)
        return;
    from = pair_at(text, n, which);
    to = pair_at(text, n, which + 1);
    if (how < 4) {
        len = pair_made(pair, sizeof pair);
        to = how < 2 ? from : to;
    } else if (how < 6 && to - from < sizeof pair) {
        const uint8_t *eq = memchr(text + from, '=', to - from);
        uint32_t key = eq ? (uint32_t)(eq - text) - from : 0;

        memcpy(pair, text + from, to - from);
        len = to - from;
        if (how == 5 && key) /* else it comes twice */
            len = key + (uint32_t)snprintf(pair + key, sizeof pair - key, "=%s", ONE_OF(values)) + 1;
        else
            to = from;
    }
    memcpy(p, s->p, skip + from);
    memcpy(p + skip + from, pair, len);
    memcpy(p + skip + from + len, text + to, n - to);
    *s = (struct step){.kind = s->kind, .len = skip + from + len + n - to, .p = p};
}

/* Cut in two, as a text that goes on in the next PDU. */
static void step_cut(unsigned i, unsigned skip)
{
    struct step *s = &work.steps[i], rest = *s;
    uint32_t at = skip + random_below(s->len - skip + 1);
    uint8_t *p = arena(s->len);

    if (!p || work.n == PROGRAM_STEPS)
        return;
    memcpy(p, s->p, skip);
    memcpy(p + skip, s->p + at, s->len - at);
    rest.p = p;
    rest.len = skip + s->len - at;
    s->len = at;
    insert(i + 1, rest);
}

static void step_changed(void)
{
    unsigned i = random_below(work.n), skip;
    struct step *s = &work.steps[i];

    if (program_text(s->kind, &skip) && s->len >= skip && random_below(3)) {
        if (random_below(8))
            text_changed(s, skip);
        else
            step_cut(i, skip);
    } else if (random_below(3)) {
        bytes_changed(s);
    } else {
        field_changed(s);
    }
}

static void changed_once(void)
{
    unsigned how = random_below(16), n = work.n;

    if (!n || how < 4)
        made_anew();
    else if (how < 11)
        step_changed();
    else if (how == 11)
        drop(random_below(n));
    else if (how == 12)
        insert(random_below(n + 1), work.steps[random_below(n)]);
    else if (how == 13)
        insert(random_below(n), drop(random_below(n)));
    else if (how == 14)
        work.steps[random_below(n)].kind = (uint8_t)random_below(32);
    else
        work.begin = (uint8_t)random_below(256);
}

size_t LLVMFuzzerCustomMutator(uint8_t *p, size_t n, size_t max, unsigned seed)
{
    if (max < STEP_HEAD_BYTES + 1 || seed % 32 == 0)
        return LLVMFuzzerMutate(p, n, max);
    open_program(p, n, seed);
    for (unsigned i = 1 + random_below(4); i; i--)
        changed_once();
    return close_program(p, max);
}

/* The first steps of one, the last of the other; or some of the other within the one. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, uint8_t *out,
                                 size_t max, unsigned seed)
{
    struct program in = {b, b + nb};
    unsigned at, from;

    if (!max)
        return 0;
    open_program(a, na, seed);
    at = random_below(work.n + 1);
    from = random_below(12);
    if (random_below(2))
        work.n = at;
    take8(&in);
    insert_all(in, from, at);
    return close_program(out, max);
}
