/* journal/frames.h - sectors of log objects, fetched by ranges and opened: what the map points to becomes
 * bytes.
 *
 * Three steps, each its caller's to start: frames_plan() (any thread) joins neighbouring frames of an object
 * to ranges; frames_fetch() (the store's loop) gets them all side by side; frames_open() (a pool thread)
 * checks and unpacks them to where each use wants its sectors. Objects never change, so what opens is right.
 */
#ifndef ISTHMUS_FRAMES_H
#define ISTHMUS_FRAMES_H

#include "map.h"
#include "store.h"

/* Damage may be of the way, not of the object: who reads looks so many times more before he believes it. */
enum { FRAMES_WRONG_MAX = 5 };

/* Sectors of one frame. */
struct frame_use {
    uint64_t object; /* its first SEQ */
    uint32_t frame_at, frame_bytes, frame_sector, nsectors;
    uint8_t *to;
    uint64_t tag; /* the owner's */
};

struct frames {
    struct store *store;
    struct map *map;
    const struct aead_key *master;
    const uint8_t *id;      /* VMLOG_ID_BYTES */
    struct frame_use *uses; /* the owner's, sorted by frames_plan() */
    unsigned nuses;
    /* Every range is in, or has failed. On the store's loop; not before frames_fetch() has returned, unless
     * there is nothing to fetch. */
    void (*fetched)(struct frames *);
    int status;     /* of the first step that failed: -ENOENT, -EBADMSG, -ECANCELED, or what the store says */
    struct why why; /* with the object's name */
    uint64_t bytes; /* fetched */

    struct frame_range *ranges; /* private, as is */
    unsigned nranges, left;
};

/* -ENOENT: the map does not know an object. Sets status, too. */
int frames_plan(struct frames *);
void frames_fetch(struct frames *);
/* Ends it soon, with -ECANCELED. */
void frames_cancel(struct frames *);
/* Blocking. Sets status, too. */
int frames_open(struct frames *);
/* Frees what was fetched; the rest is the owner's. Nothing is under way any more. */
void frames_end(struct frames *);

#endif
