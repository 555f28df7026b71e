/* journal/arbiter.c - see arbiter.h; docs/pair.md has the bytes and the moves.
 */
#include "arbiter.h"
#include "check.h"
#include "generation.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char magic[8] = {'I', 'S', 'T', 'H', 'P', 'A', 'I', 'R'}, label[] = "isthmus pair object";

void arbiter_key(char key[ARBITER_KEY_MAX], const char *pair)
{
    snprintf(key, ARBITER_KEY_MAX, "pairs/%s", pair);
}

/* What is sealed in: the head in the clear, and the pair's name. */
static size_t seal_over(uint8_t aad[ARBITER_HEAD_BYTES + ARBITER_NAME_MAX], const uint8_t *head,
                        const char *pair)
{
    size_t n = strnlen(pair, ARBITER_NAME_MAX);

    memcpy(aad, head, ARBITER_HEAD_BYTES);
    memcpy(aad + ARBITER_HEAD_BYTES, pair, n);
    return ARBITER_HEAD_BYTES + n;
}

static void put_name(uint8_t *p, const char *name)
{
    size_t n = strlen(name);

    p[0] = (uint8_t)n;
    memcpy(p + 1, name, n);
}

static bool name_read(char name[ARBITER_NAME_MAX + 1], const uint8_t *p)
{
    if (p[0] > ARBITER_NAME_MAX || memchr(p + 1, 0, p[0]))
        return false;
    memcpy(name, p + 1, p[0]);
    name[p[0]] = '\0';
    return true;
}

void arbiter_seal(const struct aead_key *master, const char *pair, const uint8_t salt[AEAD_SALT_BYTES],
                  const struct arbiter *a, uint8_t out[ARBITER_BYTES])
{
    uint8_t plain[ARBITER_PLAIN_BYTES] = {0}, aad[ARBITER_HEAD_BYTES + ARBITER_NAME_MAX], *p = plain + 24;
    struct aead *aead = aead_new_derived(master, salt, label);

    memset(out, 0, ARBITER_HEAD_BYTES);
    memcpy(out, magic, sizeof magic);
    put16(out + 8, ARBITER_FORMAT);
    put16(out + 10, (uint16_t)a->generation);
    memcpy(out + 16, salt, AEAD_SALT_BYTES);
    put64(plain, a->epoch);
    memcpy(plain + 8, a->change, sizeof a->change);
    for (int i = 0; i < ARBITER_PLACES; i++, p += ARBITER_PLACE_BYTES) {
        const struct arbiter_place *place = &a->places[i];

        put_name(p, place->name);
        memcpy(p + 1 + ARBITER_NAME_MAX, place->writer, ARBITER_WRITER_BYTES);
        p[ARBITER_PLACE_BYTES - 1] = place->member;
    }
    p[0] = a->called;
    put64(p + 8, a->forced.epoch);
    put64(p + 16, (uint64_t)a->forced.at_s);
    put_name(p + 24, a->forced.name);
    aead_seal(aead, 0, aad, seal_over(aad, out, pair), plain, sizeof plain, out + ARBITER_HEAD_BYTES);
    aead_free(&aead);
}

static bool place_read(struct arbiter_place *place, const uint8_t *p)
{
    memset(place, 0, sizeof *place);
    if (!name_read(place->name, p) || p[ARBITER_PLACE_BYTES - 1] > 1)
        return false;
    memcpy(place->writer, p + 1 + ARBITER_NAME_MAX, ARBITER_WRITER_BYTES);
    place->member = p[ARBITER_PLACE_BYTES - 1];
    return *place->name || !place->member;
}

/* It opened, so an edge wrote it: this tells what a broken edge could have written from what none does. */
static bool makes_sense(const struct arbiter *a)
{
    const struct arbiter_place *p = a->places;

    return a->epoch > 0 && (p[0].member || p[1].member) && strcmp(p[0].name, p[1].name) != 0 &&
           a->forced.epoch <= a->epoch && !a->forced.epoch == !*a->forced.name;
}

int arbiter_open(const struct aead_key *master, const char *pair, const uint8_t *bytes, size_t n,
                 struct arbiter *a, struct why *why)
{
    uint8_t plain[ARBITER_PLAIN_BYTES], aad[ARBITER_HEAD_BYTES + ARBITER_NAME_MAX];
    const uint8_t *tail = plain + 24 + ARBITER_PLACES * ARBITER_PLACE_BYTES;
    struct aead *aead;
    int rc;

    if (n < ARBITER_HEAD_BYTES || memcmp(bytes, magic, sizeof magic) != 0)
        return why_set(why, -EBADMSG, "it is not a pair's record");
    if (get16(bytes + 8) != ARBITER_FORMAT)
        return why_set(why, -ENOTSUP, "its format is %u and this program knows format %d", get16(bytes + 8),
                       ARBITER_FORMAT);
    if (n != ARBITER_BYTES)
        return why_set(why, -EBADMSG, "it has %zu bytes and not %d", n, ARBITER_BYTES);
    aead = aead_new_derived(master, bytes + 16, label);
    rc =
        aead_open(aead, 0, aad, seal_over(aad, bytes, pair), bytes + ARBITER_HEAD_BYTES, sizeof plain, plain);
    aead_free(&aead);
    if (rc < 0)
        return why_set(why, -EBADMSG, "it was sealed with another key or for another pair, or altered");
    memset(a, 0, sizeof *a);
    a->epoch = get64(plain);
    a->generation = get16(bytes + 10) ? get16(bytes + 10) : 1; /* 0: from before there were any */
    memcpy(a->change, plain + 8, sizeof a->change);
    for (int i = 0; i < ARBITER_PLACES; i++)
        if (!place_read(&a->places[i], plain + 24 + (size_t)i * ARBITER_PLACE_BYTES))
            rc = -EBADMSG;
    a->called = tail[0] == 1;
    a->forced.epoch = get64(tail + 8);
    a->forced.at_s = (int64_t)get64(tail + 16);
    if (tail[0] > 1 || !name_read(a->forced.name, tail + 24))
        rc = -EBADMSG;
    if (rc == 0 && !makes_sense(a))
        rc = -EBADMSG;
    return rc ? why_set(why, rc, "it says what no edge writes") : 0;
}

static int place_of(const struct arbiter *a, const char *name)
{
    for (int i = 0; i < ARBITER_PLACES; i++)
        if (strcmp(a->places[i].name, name) == 0)
            return i;
    return -1;
}

enum arbiter_verdict arbiter_judge(const struct arbiter *a, const struct arbiter_edge *e)
{
    int mine = place_of(a, e->name), free_place = place_of(a, "");
    const struct arbiter_place *place = mine >= 0 ? &a->places[mine] : NULL, *other;

    if (!place)
        return free_place >= 0 ? ARBITER_NOT : ARBITER_FOREIGN;
    other = &a->places[1 - mine];
    if (memcmp(place->writer, e->writer, ARBITER_WRITER_BYTES) == 0 && place->member)
        return other->member ? ARBITER_BOTH : ARBITER_SOLE;
    return other->member ? ARBITER_NOT : ARBITER_STRANDED;
}

const struct arbiter_place *arbiter_other(const struct arbiter *a, const struct arbiter_edge *e)
{
    for (int i = 0; i < ARBITER_PLACES; i++)
        if (*a->places[i].name && strcmp(a->places[i].name, e->name) != 0)
            return &a->places[i];
    return NULL;
}

static void raise_to(struct arbiter *a, unsigned generation)
{
    if (a->generation < generation)
        a->generation = generation;
}

static void fill(struct arbiter_place *place, const struct arbiter_edge *e, bool member)
{
    memset(place, 0, sizeof *place);
    CHECK(*e->name && strlen(e->name) <= ARBITER_NAME_MAX);
    strcpy(place->name, e->name);
    memcpy(place->writer, e->writer, ARBITER_WRITER_BYTES);
    place->member = member;
}

void arbiter_first(struct arbiter *a, const struct arbiter_edge *e, const uint8_t change[16])
{
    memset(a, 0, sizeof *a);
    a->epoch = 1;
    a->generation = e->generation;
    memcpy(a->change, change, sizeof a->change);
    fill(&a->places[0], e, true);
}

static void next(struct arbiter *a, const uint8_t change[16])
{
    a->epoch++;
    a->called = false;
    memcpy(a->change, change, sizeof a->change);
}

void arbiter_alone(struct arbiter *a, const struct arbiter_edge *e, const uint8_t change[16])
{
    int mine = place_of(a, e->name);

    CHECK(mine >= 0 && a->places[mine].member);
    next(a, change);
    a->places[1 - mine].member = false;
    raise_to(a, generation_before(e->generation)); /* it cannot write as anything older */
}

void arbiter_join(struct arbiter *a, const struct arbiter_edge *e, const struct arbiter_edge *other,
                  const uint8_t change[16])
{
    int mine = place_of(a, e->name);

    CHECK(arbiter_judge(a, e) == ARBITER_SOLE && strcmp(e->name, other->name) != 0);
    next(a, change);
    fill(&a->places[1 - mine], other, true);
    raise_to(a, e->generation < other->generation ? e->generation : other->generation);
}

void arbiter_call(struct arbiter *a, const struct arbiter_edge *e, const uint8_t change[16])
{
    CHECK(arbiter_judge(a, e) == ARBITER_NOT);
    next(a, change);
    a->called = true;
}

void arbiter_force(struct arbiter *a, const struct arbiter_edge *e, int64_t at_s, const uint8_t change[16])
{
    int mine;

    CHECK(arbiter_judge(a, e) == ARBITER_NOT);
    mine = place_of(a, e->name);
    if (mine < 0)
        mine = place_of(a, "");
    next(a, change);
    fill(&a->places[mine], e, true);
    a->places[1 - mine].member = false;
    a->forced.epoch = a->epoch;
    a->forced.at_s = at_s;
    strcpy(a->forced.name, e->name);
    raise_to(a, generation_before(e->generation));
}
