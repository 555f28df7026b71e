/* tests/unit/recover_fixture.h - a VM with a history of several cuts in its store, each of which is kept to
 * compare.
 */
#ifndef ISTHMUS_RECOVER_FIXTURE_H
#define ISTHMUS_RECOVER_FIXTURE_H

#include "commit_fixture.h"

#include "checkpoint.h"
#include "recover.h"

enum { CUTS = 6 };

struct history {
    struct world *w;
    uint8_t *model[CUTS + 1]; /* as of cut i */
    uint64_t seq[CUTS + 1];
    uint64_t floor; /* thrown away up to there */
};

static inline void play(struct history *h, unsigned i)
{
    random_puts(h->w, 60, i * 1000);
    assert_int_equal(commit_and_wait(h->w), 0);
    h->seq[i] = map_state(h->w->map)->committed;
    h->model[i] = xmalloc(AREA * 512);
    memcpy(h->model[i], h->w->f->model, AREA * 512);
}

static inline void put_object(struct world *w, const char *key, const uint8_t *bytes, size_t n)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = key};

    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(w->store, &r, NULL), 0);
}

/* As upkeep does it, without the waiting. */
static inline void checkpoint(struct world *w)
{
    FILE *spool = tmpfile();
    struct checkpoint_dead dead = {0};
    struct aead_key master;
    struct map_state state = *map_state(w->map);
    uint8_t length[4], *bytes = xmalloc(CHECKPOINT_PART_MAX);
    char name[MAP_NAME_MAX], end[MAP_NAME_MAX];
    uint32_t n = 0, before = 0;

    memset(master.bytes, 9, sizeof master.bytes);
    if (checkpoint_write(w->map, w->f->journal, w->f->loop, &master, w->f->id, &state, spool, &dead,
                         &w->f->why))
        fail_msg("%s", w->f->why.text);
    rewind(spool);
    for (uint32_t i = 0; fread(length, 4, 1, spool) == 1; i++) {
        if (i) {
            checkpoint_name(name, w->f->id, state.committed, i - 1);
            put_object(w, name, bytes, before);
        }
        n = (uint32_t)length[0] << 24 | (uint32_t)length[1] << 16 | (uint32_t)length[2] << 8 | length[3];
        assert_int_equal(fread(bytes, n, 1, spool), 1);
        before = n;
    }
    checkpoint_name(end, w->f->id, state.committed, CHECKPOINT_END);
    put_object(w, end, bytes, before);
    fclose(spool);
    free(bytes);
    free(dead.firsts);
}

static inline struct history *history_new(unsigned cuts, unsigned checkpoint_at)
{
    struct history *h = xcalloc(1, sizeof *h);

    srand(41);
    h->w = world_new();
    for (unsigned i = 1; i <= cuts; i++) {
        play(h, i);
        if (i == checkpoint_at)
            checkpoint(h->w);
    }
    return h;
}

static inline void history_free(struct history *h)
{
    world_free(h->w);
    for (unsigned i = 1; i <= CUTS; i++)
        free(h->model[i]);
    free(h);
}

#endif
