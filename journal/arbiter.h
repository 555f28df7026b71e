/* journal/arbiter.h - the record that decides who of a pair may go on: object "pairs/NAME". Pure.
 *
 * Changed only by compare-and-swap, one epoch at a time; docs/pair.md has the bytes. Two edges at most have a
 * place in it; a place that is no member any more keeps whose VMs may have to be taken over.
 */
#ifndef ISTHMUS_ARBITER_H
#define ISTHMUS_ARBITER_H

#include "aead.h"
#include "why.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ARBITER_FORMAT = 1,
    ARBITER_NAME_MAX = 63, /* of an edge, and of a pair */
    ARBITER_WRITER_BYTES = 16,
    ARBITER_PLACES = 2,
    ARBITER_HEAD_BYTES = 32,
    ARBITER_PLACE_BYTES = 1 + ARBITER_NAME_MAX + ARBITER_WRITER_BYTES + 1,
    ARBITER_FORCED_BYTES = 8 + 8 + 1 + ARBITER_NAME_MAX,
    ARBITER_PLAIN_BYTES = 8 + 16 + ARBITER_PLACES * ARBITER_PLACE_BYTES + 8 + ARBITER_FORCED_BYTES,
    ARBITER_BYTES = ARBITER_HEAD_BYTES + ARBITER_PLAIN_BYTES + AEAD_TAG_BYTES,
    ARBITER_KEY_MAX = 6 + ARBITER_NAME_MAX + 1
};

struct arbiter_place {
    char name[ARBITER_NAME_MAX + 1]; /* empty: nobody's yet */
    uint8_t writer[ARBITER_WRITER_BYTES];
    bool member;
};

struct arbiter {
    uint64_t epoch;      /* rises by one with each change */
    unsigned generation; /* as which the members may write; never falls */
    uint8_t change[16];  /* random: which change this is, so that two never have the same bytes */
    struct arbiter_place places[ARBITER_PLACES];
    bool called; /* who is no member asks whether anybody who is one lives */
    struct {     /* when an operator last made an edge the only member that was none; epoch 0: never */
        uint64_t epoch;
        int64_t at_s; /* since 1970, by that edge's clock */
        char name[ARBITER_NAME_MAX + 1];
    } forced;
};

/* An edge of the pair. */
struct arbiter_edge {
    const char *name;
    const uint8_t *writer;
    unsigned generation; /* of its program */
};

/* "pairs/NAME" */
void arbiter_key(char key[ARBITER_KEY_MAX], const char *pair);
/* salt is random and never used before; pair's name is sealed in, so that records cannot be exchanged. */
void arbiter_seal(const struct aead_key *master, const char *pair, const uint8_t salt[AEAD_SALT_BYTES],
                  const struct arbiter *, uint8_t out[ARBITER_BYTES]);
/* 0; -EBADMSG: altered, or of another key or pair; -ENOTSUP: a newer format. */
int arbiter_open(const struct aead_key *master, const char *pair, const uint8_t *bytes, size_t n,
                 struct arbiter *, struct why *);

/* What a record means for an edge. */
enum arbiter_verdict {
    ARBITER_SOLE,     /* the only member */
    ARBITER_BOTH,     /* a member, as is the other */
    ARBITER_NOT,      /* no member; the other is one */
    ARBITER_STRANDED, /* no member, and the only member is what this edge was before it lost its data */
    ARBITER_FOREIGN   /* places are taken by two edges of other names */
};
enum arbiter_verdict arbiter_judge(const struct arbiter *, const struct arbiter_edge *);
/* The place that is not this edge's; NULL if it is nobody's. Of an edge that lost its data: its old place. */
const struct arbiter_place *arbiter_other(const struct arbiter *, const struct arbiter_edge *);

/* Each of these changes ends a call, and raises the generation, if all members allow for more: nobody is a
 * member whose program cannot read what the record allows.
 *
 * The first record: this edge alone. change is random. */
void arbiter_first(struct arbiter *, const struct arbiter_edge *, const uint8_t change[16]);
/* This edge, a member, goes on alone (or stays so: whatever was sent before then finds another record). */
void arbiter_alone(struct arbiter *, const struct arbiter_edge *, const uint8_t change[16]);
/* This edge, no member, asks for an answer of whoever is one: any change of the record. The generation stays.
 */
void arbiter_call(struct arbiter *, const struct arbiter_edge *, const uint8_t change[16]);
/* This edge, no member, becomes the only one: an operator says that whoever was is lost. */
void arbiter_force(struct arbiter *, const struct arbiter_edge *, int64_t at_s, const uint8_t change[16]);
/* This edge, the only member, takes the other in. */
void arbiter_join(struct arbiter *, const struct arbiter_edge *, const struct arbiter_edge *other,
                  const uint8_t change[16]);

#endif
