/* tests/unit/upkeep_fixture.h - the upkeep of the world's VM: checkpoints when a test wants them, and what
 * the source disks have.
 */
#ifndef ISTHMUS_UPKEEP_FIXTURE_H
#define ISTHMUS_UPKEEP_FIXTURE_H

#include "recover_fixture.h"

#include "upkeep.h"

struct keeper {
    struct world *w;
    struct upkeep *upkeep;
    int writer; /* as whom it keeps it */
    struct commit_turn turn;
    struct work idle;
    uint64_t through, committed; /* to be dropped */
    struct map_change *change;
    sem_t done;
};

static inline void start_upkeep(struct fixture *f, void *arg)
{
    struct keeper *k = arg;
    struct upkeep_conf c = {.loop = f->loop,
                            .journal = f->journal,
                            .map = k->w->map,
                            .commit = k->w->commit,
                            .store = k->w->store,
                            .worker = k->w->worker,
                            .master = k->w->master,
                            .epoch = k->w->epoch,
                            .vm = "vm",
                            .spool = f->dir,
                            .objects = 1};

    memcpy(c.id, f->id, sizeof c.id);
    memset(c.writer, k->writer, sizeof c.writer);
    k->upkeep = upkeep_new(&c);
}

static inline void on_keeper(void *arg)
{
    sem_post(&((struct keeper *)arg)->done);
}

static inline void stop_upkeep(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    upkeep_stop(k->upkeep, on_keeper, k);
}

static inline void keeper_wait(struct keeper *k)
{
    while (sem_wait(&k->done) < 0)
        ;
}

static inline void look(struct fixture *f, void *arg)
{
    (void)f;
    upkeep_look(((struct keeper *)arg)->upkeep);
}

static inline void read_checkpoint(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    k->through = map_state(k->w->map)->checkpoint;
    k->committed = map_state(k->w->map)->committed;
}

/* Of what is committed now. */
static inline void checkpoint_now(struct keeper *k)
{
    on_loop(k->w->f, look, k);
    do {
        usleep(1000);
        on_loop(k->w->f, read_checkpoint, k);
    } while (k->through != k->committed);
}

static inline void drop_run(struct commit_turn *t)
{
    struct keeper *k = container_of(t, struct keeper, turn);
    struct map_state state = *map_state(k->w->map);

    state.applied = k->through;
    CHECK(map_drop(k->w->map, k->through, &state, &k->change, &k->w->f->why) == 0);
}

static inline void drop_done(struct commit_turn *t)
{
    struct keeper *k = container_of(t, struct keeper, turn);

    map_install(k->w->map, &k->change);
    sem_post(&k->done);
}

static inline void take_turn(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    k->turn = (struct commit_turn){.run = drop_run, .done = drop_done};
    commit_take_turn(k->w->commit, &k->turn);
}

/* As write-back does it: the source disks are at this cut. */
static inline void confirm(struct keeper *k, uint64_t through)
{
    k->through = through;
    on_loop(k->w->f, take_turn, k);
    keeper_wait(k);
}

static inline void nothing_run(struct commit_turn *t)
{
    (void)t;
}

static inline void nothing_done(struct commit_turn *t)
{
    sem_post(&container_of(t, struct keeper, turn)->done);
}

static inline void idle_run(struct work *w)
{
    (void)w;
}

static inline void idle_done(struct work *w)
{
    sem_post(&container_of(w, struct keeper, idle)->done);
}

static inline void take_empty_turn(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    k->turn = (struct commit_turn){.run = nothing_run, .done = nothing_done};
    commit_take_turn(k->w->commit, &k->turn);
}

static inline void give_empty_work(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    k->idle = (struct work){.run = idle_run, .done = idle_done};
    worker_do(k->w->worker, f->loop, &k->idle);
}

/* The round that a look has begun is over: its turn, then its work with the store. */
static inline void round_is_over(struct keeper *k)
{
    on_loop(k->w->f, take_empty_turn, k);
    keeper_wait(k);
    on_loop(k->w->f, give_empty_work, k);
    keeper_wait(k);
}

static inline struct keeper *keeper_new(struct world *w)
{
    struct keeper *k = xcalloc(1, sizeof *k);

    k->w = w;
    k->writer = w->writer;
    sem_init(&k->done, 0, 0);
    on_loop(w->f, start_upkeep, k);
    return k;
}

static inline void keeper_free(struct keeper *k)
{
    on_loop(k->w->f, stop_upkeep, k);
    keeper_wait(k);
    sem_destroy(&k->done);
    free(k);
}

#endif
