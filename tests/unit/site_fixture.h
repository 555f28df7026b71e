/* tests/unit/site_fixture.h - a VM's write-back between an edge (commit_fixture.h) and an on-prem daemon
 * (onprem_fixture.h), each of which can end and start again.
 */
#ifndef ISTHMUS_SITE_FIXTURE_H
#define ISTHMUS_SITE_FIXTURE_H

#include "commit_fixture.h"
#include "onprem_fixture.h"

#include "writeback.h"
#include "writeback_impl.h"

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { SECONDS = 30 };

struct site {
    struct world *w;
    struct onprem *o;
    struct upkeep *upkeep;
    struct worker *worker;
    struct writeback *wb;
    struct writeback_conf conf;
    struct writeback_wait wait, leave;
    struct writeback_status status;
    unsigned slots;
    sem_t done, left, down; /* of wait, of leave; the edge is down */
};

/* --- the edge's side, up and down ---*/

static void start_writeback(struct fixture *f, void *arg)
{
    struct site *s = arg;
    struct upkeep_conf u = {.loop = f->loop,
                            .journal = f->journal,
                            .map = s->w->map,
                            .commit = s->w->commit,
                            .store = s->w->store,
                            .worker = s->worker,
                            .master = s->w->master,
                            .vm = "vm",
                            .spool = f->dir,
                            .objects = 1};

    memcpy(u.id, f->id, sizeof u.id);
    memset(u.writer, s->w->writer, sizeof u.writer);
    s->upkeep = upkeep_new(&u);
    s->conf.loop = f->loop;
    s->conf.link_loop = s->o->net;
    s->conf.peer = s->o->peer;
    s->conf.map = s->w->map;
    s->conf.commit = s->w->commit;
    s->conf.upkeep = s->upkeep;
    s->conf.log = f->log;
    s->conf.store = s->w->store;
    s->conf.master = u.master;
    memcpy(s->conf.id, f->id, sizeof s->conf.id);
    s->conf.vm = "vm";
    s->conf.spool = f->dir;
    s->wb = writeback_new(&s->conf);
}

static void on_upkeep_stopped(void *arg)
{
    sem_post(&((struct site *)arg)->down);
}

static void on_writeback_stopped(void *arg)
{
    struct site *s = arg;

    upkeep_stop(s->upkeep, on_upkeep_stopped, s);
}

static void stop_writeback(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    writeback_stop(s->wb, on_writeback_stopped, s);
}

static void wait_for(sem_t *sem)
{
    while (sem_wait(sem) < 0)
        ;
}

static void edge_up(struct site *s)
{
    on_loop(s->w->f, start_writeback, s);
}

static void edge_down(struct site *s)
{
    on_loop(s->w->f, stop_writeback, s);
    wait_for(&s->down);
}

static void edge_restart(struct site *s)
{
    edge_down(s);
    world_close(s->w);
    world_open(s->w);
    edge_up(s);
}

static struct site *site_new(enum wb_policy policy)
{
    struct site *s = xcalloc(1, sizeof *s);

    srand(51);
    s->w = world_new();
    s->o = onprem_new(AREA);
    s->worker = worker_new("worker");
    sem_init(&s->done, 0, 0);
    sem_init(&s->left, 0, 0);
    sem_init(&s->down, 0, 0);
    s->conf.disks[0] = "sda";
    s->conf.disks[1] = "sdb";
    s->conf.disks[2] = "sdc";
    memcpy(s->conf.numbers, "\0\1\2", 3);
    s->conf.ndisks = ONPREM_DISKS;
    s->conf.policy = policy;
    s->conf.interval_ms = 3600000;
    s->conf.bytes = UINT64_MAX;
    s->slots = 1;
    s->conf.slots = &s->slots;
    edge_up(s);
    return s;
}

static void site_free(struct site *s)
{
    edge_down(s);
    assert_int_equal(s->slots, 1);
    onprem_free(s->o);
    worker_free(&s->worker);
    world_free(s->w);
    sem_destroy(&s->done);
    sem_destroy(&s->left);
    sem_destroy(&s->down);
    free(s);
}

/* --- asking, waiting ---*/

static void on_wait_done(struct writeback_wait *w)
{
    sem_post(&container_of(w, struct site, wait)->done);
}

static void on_leave_done(struct writeback_wait *w)
{
    sem_post(&container_of(w, struct site, leave)->left);
}

static void ask_now(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    s->wait.done = on_wait_done;
    writeback_now(s->wb, &s->wait);
}

static void now_begin(struct site *s)
{
    on_loop(s->w->f, ask_now, s);
}

static int now_end(struct site *s)
{
    wait_for(&s->done);
    return s->wait.status;
}

static int write_back(struct site *s)
{
    now_begin(s);
    return now_end(s);
}

static void take_status(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    writeback_status(s->wb, &s->status);
}

static struct writeback_status *status(struct site *s)
{
    on_loop(s->w->f, take_status, s);
    return &s->status;
}

#define UNTIL(s, what)                                                                                       \
    do {                                                                                                     \
        unsigned left_ = SECONDS * 1000;                                                                     \
        bool so_ = false;                                                                                    \
        while (!so_ && left_--) {                                                                            \
            pthread_mutex_lock(&(s)->o->lock);                                                               \
            so_ = (what);                                                                                    \
            pthread_mutex_unlock(&(s)->o->lock);                                                             \
            if (!so_)                                                                                        \
                usleep(1000);                                                                                \
        }                                                                                                    \
        assert_true(so_);                                                                                    \
    } while (0)
#define UNTIL_STATUS(s, what)                                                                                \
    do {                                                                                                     \
        unsigned left_ = SECONDS * 200;                                                                      \
        struct writeback_status *st = status(s);                                                             \
        while (!(what) && left_--) {                                                                         \
            usleep(5000);                                                                                    \
            st = status(s);                                                                                  \
        }                                                                                                    \
        assert_true(what);                                                                                   \
    } while (0)

/* What the map says, asked on its loop. */
struct said {
    struct map *map;
    struct map_state state;
    unsigned known; /* blocks of disk 0 */
};

static void ask_map(struct fixture *f, void *arg)
{
    struct said *said = arg;

    (void)f;
    said->state = *map_state(said->map);
    for (uint64_t block = 0; block < AREA / 8; block++)
        said->known += map_knows(said->map, 0, block);
}

static struct said said_of(struct site *s)
{
    struct said said = {.map = s->w->map};

    on_loop(s->w->f, ask_map, &said);
    return said;
}

/* The source disk has what the guest wrote until now, and the edge has let go of it. */
static void expect_home(struct site *s)
{
    struct said said = said_of(s);

    assert_memory_equal(s->o->image[0], s->w->f->model, AREA * 512);
    assert_int_equal(said.state.applied, said.state.committed);
    assert_int_equal(s->o->state.applied, said.state.applied);
    assert_int_equal(said.known, 0);
}

#endif
