/* links: journal store link pki common */
/* A VM's cuts reach its source disks: what is sent is the map at the cut to the sector, whatever is written
 * meanwhile, and every step may fail, be taken back, or be cut off by a restart.
 */
#include "commit_fixture.h"
#include "onprem_fixture.h"

#include "writeback.h"
#include "writeback_impl.h"

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

/* --- the tests ---*/

static void what_was_written_comes_home(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned round = 1; round <= 3; round++) {
        random_puts(s->w, 150, round * 1000);
        assert_int_equal(write_back(s), 0);
        expect_home(s);
        if (round == 2)
            edge_restart(s);
    }
    assert_int_equal(write_back(s), 0); /* nothing new */
    assert_int_equal(s->o->calls[PROTO_WB_END], 3);
    assert_true(s->o->state.applied_instant_ms > UINT64_C(1700000000000));
    site_free(s);
}

/* What is sent is the state at the cut, although newer objects take its place in the map. */
static void commits_go_on_while_it_is_sent(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    uint8_t *at_cut = xmalloc(AREA * 512);

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        random_puts(s->w, 300, round * 10000);
        memcpy(at_cut, s->w->f->model, AREA * 512);
        ONPREM_SET(s->o, s->o->mute = PROTO_WB_OFFER);
        now_begin(s);
        UNTIL(s, s->o->nmuted > 0);
        random_puts(s->w, 300, round * 10000 + 5000);
        assert_int_equal(commit_and_wait(s->w), 0);
        random_puts(s->w, 20, round * 10000 + 7000); /* in the journal only */
        onprem_do(s->o, onprem_unmute_run);
        assert_int_equal(now_end(s), 0);
        assert_memory_equal(s->o->image[0], at_cut, AREA * 512);
    }
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    free(at_cut);
    site_free(s);
}

/* A write to any of the VM's disks. */
static void put_on(struct site *s, uint8_t disk, uint64_t lba, uint32_t n, unsigned tag)
{
    struct put *p = xcalloc(1, sizeof *p);

    p->f = s->w->f;
    sem_init(&p->done, 0, 0);
    p->append = (struct vmlog_append){.type = RECORD_WRITE,
                                      .disk = disk,
                                      .lba = lba,
                                      .nsectors = n,
                                      .done = put_done,
                                      .visible = put_visible,
                                      .data = buf_new((size_t)n * 512)};
    fill_sectors(p->append.data->data, lba, n, tag);
    p->task.run = put_start;
    loop_post(s->w->f->loop, &p->task);
    put_end(p);
}

static void all_disks_of_a_vm(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    uint8_t expected[16 * 512];

    (void)state;
    for (uint8_t disk = 0; disk < ONPREM_DISKS; disk++)
        for (unsigned i = 0; i < 20; i++)
            put_on(s, disk, i * 100 + disk * 3u, 16, 1 + disk * 100u + i);
    assert_int_equal(write_back(s), 0);
    for (uint8_t disk = 0; disk < ONPREM_DISKS; disk++)
        for (unsigned i = 0; i < 20; i++) {
            fill_sectors(expected, i * 100 + disk * 3u, 16, 1 + disk * 100u + i);
            assert_memory_equal(s->o->image[disk] + (i * 100 + disk * 3) * 512, expected, sizeof expected);
        }
    assert_int_equal(s->o->attach.ndisks, ONPREM_DISKS);
    assert_string_equal(s->o->attach.disks[2], "sdc");
    site_free(s);
}

/* Whatever the edge was about when it ended, the next start finishes it. */
static void a_restart_at_each_step(void **state)
{
    static const uint8_t steps[] = {PROTO_VM_ATTACH, PROTO_WB_BEGIN, PROTO_WB_OFFER,  PROTO_WB_DATA,
                                    PROTO_WB_ZERO,   PROTO_WB_END,   PROTO_WB_APPLIED};
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned i = 0; i < sizeof steps; i++) {
        random_puts(s->w, 200, i * 1000);
        put(s->w->f, 1000 * i, 8, 0);
        if (steps[i] == PROTO_VM_ATTACH)
            ONPREM_SET(s->o, s->o->known = false);
        ONPREM_SET(s->o, s->o->mute = steps[i]);
        if (steps[i] == PROTO_VM_ATTACH)
            edge_restart(s);
        now_begin(s);
        UNTIL(s, s->o->nmuted > 0);
        random_puts(s->w, 10, i * 1000 + 500);
        edge_restart(s);
        assert_int_equal(now_end(s), -ECANCELED);
        onprem_do(s->o, onprem_unmute_run);
        assert_int_equal(write_back(s), 0);
        expect_home(s);
    }
    site_free(s);
}

static void a_step_that_is_refused_is_tried_again(void **state)
{
    static const struct {
        uint8_t type;
        int err;
    } refusals[] = {{PROTO_WB_BEGIN, -ESTALE}, {PROTO_WB_BEGIN, -EIO},   {PROTO_WB_OFFER, -EINVAL},
                    {PROTO_WB_DATA, -ENOSPC},  {PROTO_WB_ZERO, -EIO},    {PROTO_WB_END, -EAGAIN},
                    {PROTO_WB_END, -EIO},      {PROTO_WB_APPLIED, -EIO}, {PROTO_WB_STATE, -EIO},
                    {PROTO_VM_ATTACH, -EIO}};
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        random_puts(s->w, 200, i * 1000);
        put(s->w->f, 1000, 8, 0);
        ONPREM_SET(s->o, s->o->fail[refusals[i].type] = refusals[i].err);
        if (refusals[i].type == PROTO_VM_ATTACH)
            ONPREM_SET(s->o, s->o->known = false);
        if (refusals[i].type == PROTO_VM_ATTACH || refusals[i].type == PROTO_WB_STATE)
            edge_restart(s);
        assert_int_equal(write_back(s), 0);
        assert_int_equal(s->o->fail[refusals[i].type], 0);
        expect_home(s);
    }
    site_free(s);
}

static void what_on_prem_lost_is_sent_again(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 200, 0);
    ONPREM_SET(s->o, s->o->lose = 7);
    assert_int_equal(write_back(s), 0);
    assert_int_equal(s->o->calls[PROTO_WB_END], 2);
    expect_home(s);
    site_free(s);
}

/* On-prem has a cut whole when the edge dies; it finishes alone, and the edge learns of it. */
static void on_prem_finishes_alone(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 200, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL(s, s->o->state.stage == WB_STAGE_STAGED);
    edge_down(s);
    assert_int_equal(now_end(s), -ECANCELED);
    world_close(s->w);
    world_open(s->w);
    edge_up(s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    assert_int_equal(said_of(s).state.applied, 0);
    onprem_do(s->o, onprem_apply_run);
    UNTIL_STATUS(s, st->applied == 200);
    expect_home(s);
    edge_down(s); /* and once more, applied while it was away */
    world_close(s->w);
    world_open(s->w);
    random_puts(s->w, 100, 1000);
    edge_up(s);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    site_free(s);
}

static void drop_second(struct fixture *f, void *arg)
{
    struct site *s = arg;
    struct map_change *c;

    vmlog_discard(f->log, 1);
    assert_int_equal(map_drop_disk(s->w->map, 1, &c, &f->why), 0);
    map_install(s->w->map, &c);
}

/* A disk was removed while on-prem still has a cut of all three to apply: it is applied as it is, then
 * on-prem hears of the disks there are, and what comes for the last one goes to the right place. */
static void other_disks_than_before(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    uint8_t expected[8 * 512];

    (void)state;
    random_puts(s->w, 200, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL(s, s->o->state.stage == WB_STAGE_STAGED);
    edge_down(s);
    assert_int_equal(now_end(s), -ECANCELED);
    s->conf.disks[1] = "sdc";
    memcpy(s->conf.numbers, "\0\2", 2);
    s->conf.ndisks = 2;
    edge_up(s);
    on_loop(s->w->f, drop_second, s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    onprem_do(s->o, onprem_apply_run);
    UNTIL(s, s->o->attach.ndisks == 2);
    assert_string_equal(s->o->attach.disks[1], "sdc");
    ONPREM_SET(s->o, s->o->hold_apply = false);
    assert_int_equal(s->o->attach.base, 200);
    put_on(s, 2, 64, 8, 9001);
    assert_int_equal(write_back(s), 0);
    fill_sectors(expected, 64, 8, 9001);
    assert_memory_equal(s->o->image[1] + 64 * 512, expected, sizeof expected); /* the second of the list */
    assert_int_equal(s->o->calls[PROTO_VM_DETACH], 1);
    site_free(s);
}

static void an_alarm_stops_it(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 50, 0);
    assert_int_equal(write_back(s), 0);
    ONPREM_SET(s->o, s->o->alarm = true);
    random_puts(s->w, 50, 100);
    assert_int_equal(write_back(s), -EBUSY);
    assert_non_null(strstr(s->wait.why.text, "somebody else"));
    assert_int_equal(write_back(s), -EBUSY);
    UNTIL_STATUS(s, st->alarm);
    edge_restart(s);
    UNTIL_STATUS(s, st->alarm);
    ONPREM_SET(s->o, s->o->alarm = false);
    edge_restart(s);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    site_free(s);
}

static atomic_uint placed;

static void on_placed(void *arg)
{
    (void)arg;
    atomic_fetch_add(&placed, 1);
}

/* The edge opens the VM, which knows so much of where the source disks are. */
static void edge_up_at(struct site *s, atomic_int *place, enum writeback_place was)
{
    atomic_store(place, was);
    atomic_store(&placed, 0);
    s->conf.place = place;
    s->conf.placed = on_placed;
    edge_up(s);
}

static void whether_the_source_disks_fit(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    atomic_int place;

    (void)state;
    edge_down(s);
    ONPREM_SET(s->o, s->o->known = true; s->o->state.applied = 51; memcpy(s->o->state.vm, s->w->f->id, 16));
    edge_up_at(s, &place, WRITEBACK_UNKNOWN);
    UNTIL_STATUS(s, st->alarm);
    assert_int_equal(atomic_load(&place), WRITEBACK_OTHER);
    assert_int_equal(atomic_load(&placed), 1);
    ONPREM_SET(s->o, s->o->state.applied = 0);
    edge_down(s);
    edge_up_at(s, &place, WRITEBACK_FITS);
    UNTIL_STATUS(s, st->attached && !st->alarm);
    assert_int_equal(atomic_load(&placed), 0);
    edge_down(s);
    edge_up_at(s, &place, WRITEBACK_UNKNOWN);
    UNTIL_STATUS(s, st->attached && atomic_load(&place) == WRITEBACK_FITS);
    assert_int_equal(atomic_load(&placed), 1);
    site_free(s);
}

static void another_history_at_on_prem(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 50, 0);
    edge_down(s);
    ONPREM_SET(s->o, s->o->known = true; s->o->state.applied = 51; memcpy(s->o->state.vm, s->w->f->id, 16));
    edge_up(s);
    UNTIL_STATUS(s, st->alarm);
    assert_int_equal(commit_and_wait(s->w), 0);
    assert_int_equal(write_back(s), -EBUSY);
    assert_non_null(strstr(s->wait.why.text, "another history"));
    assert_int_equal(s->o->calls[PROTO_WB_BEGIN], 0);
    edge_down(s);
    /* as many records again, written by the edge that took the VM over at 40 */
    random_puts(s->w, 50, 100);
    assert_int_equal(commit_and_wait(s->w), 0);
    s->conf.epoch = 1;
    s->conf.since = 41;
    edge_up(s);
    UNTIL_STATUS(s, st->alarm);
    edge_down(s);
    s->conf.since = 52; /* it had all that on-prem has */
    edge_up(s);
    UNTIL_STATUS(s, st->applied == 51);
    edge_down(s);
    ONPREM_SET(s->o, s->o->state.epoch = 2);
    edge_up(s);
    UNTIL_STATUS(s, st->alarm && strstr(st->why.text, "another edge"));
    site_free(s);
}

static void cloud_persist_sends_nothing_unless_asked(void **state)
{
    struct site *s = site_new(WB_CLOUD_PERSIST);

    (void)state;
    edge_down(s);
    s->conf.interval_ms = 1;
    edge_up(s);
    random_puts(s->w, 50, 0);
    assert_int_equal(commit_and_wait(s->w), 0);
    UNTIL_STATUS(s, st->attached);
    edge_restart(s);
    UNTIL(s, s->o->calls[PROTO_WB_STATE] >= 2);
    assert_int_equal(s->o->policy, WB_CLOUD_PERSIST);
    assert_int_equal(s->o->calls[PROTO_WB_BEGIN], 0);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    UNTIL(s, s->o->policy == WB_CLOUD_PERSIST);
    site_free(s);
}

/* A short outage is waited for with what was sent; a long one is not. */
static void an_outage_in_the_midst_of_it(void **state)
{
    static const uint8_t steps[] = {PROTO_WB_BEGIN, PROTO_WB_OFFER, PROTO_WB_END, PROTO_WB_APPLIED};
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned i = 0; i < 2 * sizeof steps; i++) {
        bool longer = i >= sizeof steps;
        unsigned begun = s->o->calls[PROTO_WB_BEGIN];

        if (i == sizeof steps) {
            edge_down(s);
            s->conf.outage_ms = 1;
            edge_up(s);
        }
        random_puts(s->w, 150, i * 1000);
        ONPREM_SET(s->o, s->o->mute = steps[i % sizeof steps]);
        now_begin(s);
        UNTIL(s, s->o->nmuted > 0);
        onprem_do(s->o, onprem_cut);
        if (longer && steps[i % sizeof steps] != PROTO_WB_APPLIED)
            UNTIL_STATUS(s, st->step == WRITEBACK_IDLE && !st->link_up && *st->why.text);
        onprem_do(s->o, onprem_heal);
        assert_int_equal(now_end(s), 0);
        expect_home(s);
        if (!longer && steps[i] == PROTO_WB_OFFER)
            assert_int_equal(s->o->calls[PROTO_WB_BEGIN], begun + 1);
    }
    site_free(s);
}

static void set_policy(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    writeback_set_policy(s->wb, s->conf.policy, s->conf.paused);
}

static void early_enough(void **state)
{
    const uint64_t second = 1000000000;

    (void)state;
    assert_int_equal(wb_begin_age_ns(300000, 0), 300 * second);
    assert_int_equal(wb_begin_age_ns(300000, 20 * second), 270 * second);
    assert_int_equal(wb_begin_age_ns(300000, 3000 * second), 150 * second);
}

static void when_it_is_time(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    edge_down(s);
    s->conf.interval_ms = 300;
    edge_up(s);
    random_puts(s->w, 50, 0);
    UNTIL_STATUS(s, st->applied == 50);
    edge_down(s);
    s->conf.interval_ms = 3600000;
    s->conf.bytes = 1 << 20;
    edge_up(s);
    put(s->w->f, 0, 1000, 1);
    assert_int_equal(commit_and_wait(s->w), 0);
    put(s->w->f, 1000, 1200, 2);
    assert_int_equal(status(s)->applied, 50);
    assert_int_equal(commit_and_wait(s->w), 0);
    UNTIL_STATUS(s, st->applied == 52);
    s->conf.paused = true;
    on_loop(s->w->f, set_policy, s);
    put(s->w->f, 4000, 3000, 3);
    assert_int_equal(commit_and_wait(s->w), 0);
    edge_restart(s);
    UNTIL_STATUS(s, st->attached);
    assert_int_equal(status(s)->applied, 52);
    assert_true(status(s)->unapplied_bytes >= 3000 * 512);
    s->conf.paused = false;
    on_loop(s->w->f, set_policy, s);
    UNTIL_STATUS(s, st->applied == 53);
    expect_home(s);
    site_free(s);
}

static void cancel_now(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    writeback_cancel(s->wb, &s->wait);
}

static void a_change_of_mind(void **state)
{
    struct site *s = site_new(WB_CLOUD_PERSIST);

    (void)state;
    random_puts(s->w, 300, 0);
    ONPREM_SET(s->o, s->o->mute = PROTO_WB_DATA);
    now_begin(s);
    UNTIL(s, s->o->nmuted > 0);
    on_loop(s->w->f, cancel_now, s);
    assert_int_equal(now_end(s), -ECANCELED);
    UNTIL(s, s->o->policy == WB_CLOUD_PERSIST && s->o->state.stage == WB_STAGE_NONE);
    UNTIL_STATUS(s, st->step == WRITEBACK_IDLE);
    for (unsigned i = 0; i < AREA * 512; i++)
        assert_int_equal(s->o->image[0][i], 0);
    onprem_do(s->o, onprem_unmute_run);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    site_free(s);
}

/* What on-prem has whole it applies, whatever the policy has become; then it learns of that. */
static void cloud_persist_from_now_on(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 100, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    s->conf.policy = WB_CLOUD_PERSIST;
    on_loop(s->w->f, set_policy, s);
    edge_restart(s);
    assert_int_equal(now_end(s), -ECANCELED);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    assert_int_equal(s->o->policy, WB_WRITE_BACK);
    onprem_do(s->o, onprem_apply_run);
    UNTIL(s, s->o->policy == WB_CLOUD_PERSIST);
    expect_home(s);
    site_free(s);
}

/* The edge knows which cut the source disks are at. */
static void on_prem_lost_its_directory(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 100, 0);
    assert_int_equal(write_back(s), 0);
    ONPREM_SET(s->o, s->o->known = false; s->o->state = (struct wb_state){0});
    random_puts(s->w, 100, 1000);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    ONPREM_SET(s->o, s->o->state.applied = 100); /* as in a backup of it */
    edge_restart(s);
    UNTIL_STATUS(s, st->alarm && strstr(st->why.text, "not the one it had"));
    site_free(s);
}

static void ask_detach(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    s->leave.done = on_leave_done;
    writeback_detach(s->wb, &s->leave);
}

static void attach_again(struct fixture *f, void *arg)
{
    (void)f;
    writeback_attach(((struct site *)arg)->wb);
}

static int detach(struct site *s)
{
    on_loop(s->w->f, ask_detach, s);
    wait_for(&s->left);
    return s->leave.status;
}

static void detached_when_nothing_is_left_to_do(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 50, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    assert_int_equal(detach(s), -EBUSY);
    assert_int_equal(now_end(s), -ECANCELED);
    onprem_do(s->o, onprem_apply_run);
    UNTIL_STATUS(s, st->applied == 50);
    assert_int_equal(detach(s), 0);
    assert_false(s->o->known);
    assert_false(status(s)->attached);
    assert_int_equal(write_back(s), -ECANCELED);
    on_loop(s->w->f, attach_again, s);
    UNTIL(s, s->o->known);
    site_free(s);
}

static void flip(struct world *w, uint64_t first)
{
    char name[MAP_NAME_MAX];
    CLEANUP_FREE char *path = NULL;
    FILE *file;
    int c;

    map_object_name(name, w->f->id, first);
    path = xasprintf("%s/%s", w->store_dir, name);
    file = fopen(path, "r+");
    assert_non_null(file);
    fseek(file, -100, SEEK_END);
    c = fgetc(file);
    fseek(file, -100, SEEK_END);
    fputc(c ^ 1, file);
    fclose(file);
}

/* Nothing is sent in place of what the store cannot give. */
static void a_damaged_object_is_an_alarm(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    put(s->w->f, 0, 600, 1);
    assert_int_equal(commit_and_wait(s->w), 0);
    flip(s->w, 1);
    assert_int_equal(write_back(s), -EBUSY);
    assert_non_null(strstr(s->wait.why.text, "/log/0000000000000001"));
    UNTIL_STATUS(s, st->alarm);
    for (unsigned i = 0; i < AREA * 512; i++)
        assert_int_equal(s->o->image[0][i], 0);
    flip(s->w, 1);
    assert_int_equal(write_back(s), 0);
    assert_false(status(s)->alarm);
    expect_home(s);
    site_free(s);
}

static void known_blocks_are_not_sent(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    put(s->w->f, 0, 4000, 1);
    memcpy(s->o->image[0], s->w->f->model, AREA * 512);
    put(s->w->f, 8000, 80, 2);
    assert_int_equal(write_back(s), 0);
    assert_int_equal(s->o->offered, 510);
    assert_int_equal(s->o->sent, 10);
    expect_home(s);
    site_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_comes_home),
        cmocka_unit_test(commits_go_on_while_it_is_sent),
        cmocka_unit_test(all_disks_of_a_vm),
        cmocka_unit_test(a_restart_at_each_step),
        cmocka_unit_test(a_step_that_is_refused_is_tried_again),
        cmocka_unit_test(what_on_prem_lost_is_sent_again),
        cmocka_unit_test(on_prem_finishes_alone),
        cmocka_unit_test(other_disks_than_before),
        cmocka_unit_test(an_alarm_stops_it),
        cmocka_unit_test(another_history_at_on_prem),
        cmocka_unit_test(whether_the_source_disks_fit),
        cmocka_unit_test(cloud_persist_sends_nothing_unless_asked),
        cmocka_unit_test(early_enough),
        cmocka_unit_test(an_outage_in_the_midst_of_it),
        cmocka_unit_test(when_it_is_time),
        cmocka_unit_test(a_change_of_mind),
        cmocka_unit_test(cloud_persist_from_now_on),
        cmocka_unit_test(on_prem_lost_its_directory),
        cmocka_unit_test(detached_when_nothing_is_left_to_do),
        cmocka_unit_test(a_damaged_object_is_an_alarm),
        cmocka_unit_test(known_blocks_are_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
