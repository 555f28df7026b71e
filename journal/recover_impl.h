/* journal/recover_impl.h - shared by recover.c and recover_beyond.c only.
 */
#ifndef ISTHMUS_RECOVER_IMPL_H
#define ISTHMUS_RECOVER_IMPL_H

#include "logobj.h"
#include "recover.h"

enum { RECOVER_TIMEOUT_MS = 60000 };

struct front;

struct recovery {
    const struct recover_conf *conf;
    struct recover_result *result;
    struct map *map;
    struct front *fronts;
    unsigned nfronts, room;
    uint8_t *bytes;
    uint64_t next; /* where the log ended: nothing usable has this first SEQ */
};

/* recover.c */
void recover_tell(struct recovery *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* An object, whole or its beginning, into r->bytes; its length or -errno. */
int64_t recover_get(struct recovery *, const char *name, size_t cap, bool whole, struct why *);
/* Has the store ever held a whole cut of what counts? */
bool recover_was_written(const struct recover_conf *);
/* Was it put by an edge that had lost the VM by then? It does not count, whatever it holds. */
bool recover_is_left_over(const struct recover_conf *, const struct logobj_head *);
/* The names under a VM's folder, "/log/" or "/map/", behind `after`: each() gets page by page. */
void recover_prefix(char prefix[MAP_NAME_MAX], const uint8_t *id, const char *folder);
int recover_pages(struct recovery *, const char *prefix, const char *after,
                  int (*each)(void *arg, const struct store_page *), void *arg, struct why *);

/* recover_beyond.c */
/* Counts what is behind the cut, and says what of it no crash can have left. */
int recover_look_beyond(struct recovery *, struct why *);
/* Are the objects there that the map needs? Those that are not are told. */
int recover_look_behind(struct recovery *, struct why *);

#endif
