/* links: journal store */
/* A VM's map comes back from the store alone: with and without a checkpoint, and to an earlier cut where
 * something is missing or damaged.
 */
#include "recover_fixture.h"

#include "discard.h"
#include "upkeep.h"

/* An edge whose disks are gone, and the store as it is. */
static struct recover_result recover(struct history *h, uint64_t through, int expected)
{
    struct world *w = h->w;
    struct fixture *f = w->f;
    struct recover_result result;
    struct aead_key master;
    struct recover_conf conf = {
        .store = NULL, .master = &master, .vm = "vm", .floor = h->floor, .through = through};

    memset(master.bytes, 9, sizeof master.bytes);
    memcpy(conf.id, f->id, sizeof conf.id);
    world_close(w);
    remove_tree(f->dir);
    assert_int_equal(fixture_open_journal(f), 0);
    w->store = store_dir_new(f->loop, w->store_dir, 16, &f->why);
    conf.journal = f->journal;
    conf.store = w->store;
    assert_int_equal(recover_vm(&conf, &result, &f->why), expected);
    if (expected == 0)
        assert_int_equal(recover_clear_beyond(&conf, &result, &f->why), 0);
    on_loop(f, free_store, w);
    journal_close(&f->journal);
    world_open(w);
    return result;
}

static void expect_cut_is(struct history *h, unsigned i)
{
    memcpy(h->w->f->model, h->model[i], AREA * 512);
    assert_int_equal(map_state(h->w->map)->committed, h->seq[i]);
    expect_store(h->w);
}

static void from_the_log_alone(void **state)
{
    struct history *h = history_new(CUTS, 0);
    struct recover_result r = recover(h, UINT64_MAX, 0);

    (void)state;
    assert_int_equal(r.checkpoint, 0);
    assert_false(r.damaged);
    assert_int_equal(r.beyond, 0);
    expect_cut_is(h, CUTS);
    random_puts(h->w, 50, 90000); /* and it goes on */
    assert_int_equal(commit_and_wait(h->w), 0);
    expect_store(h->w);
    history_free(h);
}

static void from_a_checkpoint_and_the_log(void **state)
{
    struct history *h = history_new(CUTS, 4);
    struct recover_result r = recover(h, UINT64_MAX, 0);

    (void)state;
    assert_int_equal(r.checkpoint, h->seq[4]);
    assert_true(r.objects > 0);
    expect_cut_is(h, CUTS);
    history_free(h);
}

static void to_an_earlier_cut(void **state)
{
    struct history *h = history_new(CUTS, 4);

    (void)state;
    recover(h, h->seq[3] + 1, 0);
    expect_cut_is(h, 3);
    history_free(h);
}

static char *path_of(struct history *h, const char *name)
{
    return xasprintf("find '%s' -name '%s*' -type f | head -1", h->w->store_dir, strrchr(name, '/') + 1);
}

/* shell on the file that holds an object. */
static void damage(struct history *h, const char *name, const char *how)
{
    CLEANUP_FREE char *find = path_of(h, name);
    CLEANUP_FREE char *command = xasprintf("f=$(%s) && test -n \"$f\" && %s", find, how);

    assert_int_equal(system(command), 0);
}

static void a_missing_object_ends_it_there(void **state)
{
    struct history *h = history_new(CUTS, 0);
    char name[MAP_NAME_MAX];
    struct recover_result r;

    (void)state;
    map_object_name(name, h->w->f->id, h->seq[3] + 1);
    damage(h, name, "rm \"$f\"");
    r = recover(h, UINT64_MAX, 0);
    assert_true(r.beyond > 0);
    expect_cut_is(h, 3);
    random_puts(h->w, 50, 90000);
    assert_int_equal(commit_and_wait(h->w), 0);
    expect_store(h->w);
    history_free(h);
}

static const char spoil[] = "printf XXXXXXXXXXXXXXXX | dd of=\"$f\" bs=1 seek=300 conv=notrunc status=none";

/* How many files of the store have this in their path. */
static unsigned files(struct history *h, const char *part)
{
    CLEANUP_FREE char *command = xasprintf("find '%s' -type f -path '*%s*' | wc -l", h->w->store_dir, part);
    FILE *f = popen(command, "r");
    char line[32] = "";

    assert_non_null(fgets(line, sizeof line, f));
    pclose(f);
    return (unsigned)strtoul(line, NULL, 10);
}

static void a_damaged_object_ends_it_there(void **state)
{
    struct history *h = history_new(CUTS, 0);
    char name[MAP_NAME_MAX];
    struct recover_result r;
    unsigned all = files(h, "/log/");

    (void)state;
    map_object_name(name, h->w->f->id, h->seq[2] + 1);
    damage(h, name, spoil);
    r = recover(h, UINT64_MAX, 0);
    assert_true(r.damaged);
    expect_cut_is(h, 2);
    assert_int_equal(files(h, "/lost/0000000000000001/log/"), r.beyond); /* not one is thrown away */
    assert_int_equal(files(h, "/log/"), all);
    history_free(h);
}

/* With the damaged object whole again all of it is there again. */
static void what_was_put_aside_can_be_put_back(void **state)
{
    struct history *h = history_new(CUTS, 4);
    struct recover_conf conf = {.store = NULL, .vm = "vm"};
    CLEANUP_FREE char *keep = xasprintf("cp \"$f\" '%s'", h->w->saved);
    CLEANUP_FREE char *back = xasprintf("cp '%s' \"$f\"", h->w->saved);
    CLEANUP_FREE char *all_back = xasprintf(
        "cd '%s'/vms/*/ && mkdir -p map && cp lost/*/log/* log/ && cp lost/*/map/* map/", h->w->store_dir);
    char object[MAP_NAME_MAX], part_of_it[MAP_NAME_MAX];
    uint64_t n, bytes;
    struct why why;

    (void)state;
    map_object_name(object, h->w->f->id, h->seq[2] + 1);
    checkpoint_name(part_of_it, h->w->f->id, h->seq[4], 0);
    damage(h, part_of_it, spoil);
    damage(h, object, keep);
    damage(h, object, spoil);
    recover(h, UINT64_MAX, 0);
    expect_cut_is(h, 2);
    assert_true(files(h, "/lost/0000000000000001/map/") == 2);
    assert_int_equal(files(h, "/vms/*/map/") - files(h, "/lost/*/map/"), 0);
    assert_int_equal(system(all_back), 0);
    damage(h, object, back);
    recover(h, UINT64_MAX, 0);
    expect_cut_is(h, CUTS);

    memcpy(conf.id, h->w->f->id, sizeof conf.id);
    conf.store = h->w->store;
    assert_int_equal(recover_lost(&conf, false, &n, &bytes, &why), 0);
    assert_true(n == files(h, "/lost/") && n > 0 && bytes > 0);
    assert_int_equal(recover_lost(&conf, true, &n, &bytes, &why), 0);
    assert_int_equal(files(h, "/lost/"), 0);
    expect_cut_is(h, CUTS);
    history_free(h);
}

/* A checkpoint of the time after the cut would lead into the history that was left. */
static void what_goes_on_from_an_earlier_cut_is_what_comes_back(void **state)
{
    struct history *h = history_new(CUTS, 4);
    uint64_t left = h->seq[4];

    (void)state;
    recover(h, h->seq[3], 0);
    assert_true(files(h, "/lost/0000000000000001/log/") > 0);
    expect_cut_is(h, 3);
    free(h->model[4]);
    random_puts(h->w, 10, 70000);
    assert_int_equal(commit_and_wait(h->w), 0);
    h->seq[4] = map_state(h->w->map)->committed;
    assert_true(h->seq[4] < left);
    h->model[4] = xmalloc(AREA * 512);
    memcpy(h->model[4], h->w->f->model, AREA * 512);
    recover(h, UINT64_MAX, 0);
    expect_cut_is(h, 4);
    history_free(h);
}

static void what_a_checkpoint_needs_and_is_missing_is_told(void **state)
{
    struct history *h = history_new(CUTS, CUTS);
    char name[MAP_NAME_MAX];
    struct recover_result r;

    (void)state;
    map_object_name(name, h->w->f->id, h->seq[CUTS - 1] + 1);
    damage(h, name, "rm \"$f\"");
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.state.committed, h->seq[CUTS]);
    assert_int_equal(r.missing, 1);
    assert_true(r.damaged);
    history_free(h);
}

static void a_damaged_checkpoint_is_passed_over(void **state)
{
    struct history *h = history_new(CUTS, 4);
    char name[MAP_NAME_MAX];
    struct recover_result r;

    (void)state;
    checkpoint_name(name, h->w->f->id, h->seq[4], 0);
    damage(h, name, "truncate -s -5 \"$f\"");
    r = recover(h, UINT64_MAX, 0);
    assert_true(r.damaged);
    assert_int_equal(r.checkpoint, 0);
    expect_cut_is(h, CUTS);
    history_free(h);
}

static void an_old_object_put_back_is_noticed(void **state)
{
    struct history *h = history_new(2, 0);
    char name[MAP_NAME_MAX];
    struct recover_result r;

    (void)state;
    /* the same numbers, written by a log that took another way after cut 1 */
    map_object_name(name, h->w->f->id, h->seq[1] + 1);
    CLEANUP_FREE char *keep = xasprintf("cp \"$f\" '%s'", h->w->saved);
    damage(h, name, keep);
    recover(h, h->seq[1], 0);
    play(h, 3); /* in the place of cut 2 */
    play(h, 4);
    CLEANUP_FREE char *back = xasprintf("cp '%s' \"$f\"", h->w->saved);
    damage(h, name, back);
    r = recover(h, UINT64_MAX, 0);
    assert_true(r.state.committed <= h->seq[2]);
    assert_true(r.beyond > 0);
    history_free(h);
}

static void what_was_discarded_stays_away(void **state)
{
    struct history *h = history_new(4, 2);
    struct world *w = h->w;
    struct recover_result r;
    struct why why;

    (void)state;
    h->floor = h->seq[4];
    r = recover(h, UINT64_MAX, 0); /* with all its objects and a checkpoint still there */
    assert_int_equal(r.state.committed, h->floor);
    assert_int_equal(r.objects, 0);
    memset(w->f->model, 0, AREA * 512);
    expect_store(w);
    recover(h, h->seq[3], -ENOENT);

    r = recover(h, UINT64_MAX, 0);
    random_puts(w, 60, 90000);
    assert_int_equal(commit_and_wait(w), 0);
    expect_store(w);
    CLEANUP_FREE char *count =
        xasprintf("test $(find '%s' -type f -path '*/map/*' | wc -l) -ge 2", w->store_dir);
    assert_int_equal(system(count), 0);
    assert_int_equal(discard_objects(w->store, w->f->id, h->floor, NULL, &why), 0);
    CLEANUP_FREE char *none =
        xasprintf("test $(find '%s' -type f -path '*/map/*' | wc -l) = 0", w->store_dir);
    assert_int_equal(system(none), 0);
    expect_store(w); /* what was written afterwards is there */
    r = recover(h, UINT64_MAX, 0);
    assert_true(r.objects > 0);
    expect_store(w);
    history_free(h);
}

/* On the map's loop, as nobody else may change it meanwhile. */
static void discard_all(struct fixture *f, void *arg)
{
    struct history *h = arg;
    uint64_t live, bytes;
    unsigned objects;
    struct why why;

    (void)f;
    assert_int_equal(discard_map(h->w->map, h->seq[3], &why), 0);
    map_sums(h->w->map, &live, &bytes, &objects);
    assert_int_equal(live + bytes + objects, 0);
    assert_int_equal(map_state(h->w->map)->last, h->seq[3]);
}

static void an_edge_that_stays_forgets_what_is_discarded(void **state)
{
    struct history *h = history_new(3, 2);

    (void)state;
    for (int again = 0; again < 2; again++)
        on_loop(h->w->f, discard_all, h);
    history_free(h);
}

static void nothing_is_said_to_be_nothing(void **state)
{
    struct history *h = history_new(0, 0);
    struct recover_result r = recover(h, UINT64_MAX, -ENOENT);

    (void)state;
    assert_true(recover_is_unwritten(&r));
    history_free(h);
}

static void the_log_without(struct history *h, const char *which)
{
    CLEANUP_FREE char *command = xasprintf("cd '%s'/vms/*/log && rm $(ls | %s)", h->w->store_dir, which);

    assert_int_equal(system(command), 0);
}

/* The edge died in the middle of a VM's first commit: with the last objects, or one that others went ahead
 * of, not put. */
static void a_first_cut_that_never_ended_is_nothing(void **state)
{
    static const char *const missing[] = {"tail -n 1", "tail -n 4 | sed -n '1p;$p'"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct history *h = history_new(0, 0);
        struct recover_result r;

        random_puts(h->w, 250, 1000);
        assert_int_equal(commit_and_wait(h->w), 0);
        the_log_without(h, missing[i]);
        r = recover(h, UINT64_MAX, -ENOENT);
        assert_true(r.beyond >= 2);
        assert_true(recover_is_unwritten(&r));
        history_free(h);
    }
}

static void a_log_without_its_beginning_is_not_nothing(void **state)
{
    struct history *h = history_new(CUTS, 0);
    struct recover_result r;

    (void)state;
    the_log_without(h, "head -n 1");
    r = recover(h, UINT64_MAX, -ENOENT);
    assert_true(r.beyond >= CUTS - 1);
    assert_false(recover_is_unwritten(&r));
    history_free(h);
}

/* --- what the source disks have ---*/

struct keeper {
    struct world *w;
    struct worker *worker;
    struct upkeep *upkeep;
    int writer; /* as whom it keeps it */
    struct commit_turn turn;
    struct work idle;
    uint64_t through, committed; /* to be dropped */
    struct map_change *change;
    sem_t done;
};

static void start_upkeep(struct fixture *f, void *arg)
{
    struct keeper *k = arg;
    struct upkeep_conf c = {.loop = f->loop,
                            .journal = f->journal,
                            .map = k->w->map,
                            .commit = k->w->commit,
                            .store = k->w->store,
                            .worker = k->worker,
                            .vm = "vm",
                            .spool = f->dir,
                            .objects = 1};

    memset(c.master.bytes, 9, sizeof c.master.bytes);
    memcpy(c.id, f->id, sizeof c.id);
    memset(c.writer, k->writer, sizeof c.writer);
    k->upkeep = upkeep_new(&c);
}

static void on_keeper(void *arg)
{
    sem_post(&((struct keeper *)arg)->done);
}

static void stop_upkeep(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    upkeep_stop(k->upkeep, on_keeper, k);
}

static void keeper_wait(struct keeper *k)
{
    while (sem_wait(&k->done) < 0)
        ;
}

static void look(struct fixture *f, void *arg)
{
    (void)f;
    upkeep_look(((struct keeper *)arg)->upkeep);
}

static void read_checkpoint(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    k->through = map_state(k->w->map)->checkpoint;
    k->committed = map_state(k->w->map)->committed;
}

/* Of what is committed now. */
static void checkpoint_now(struct keeper *k)
{
    on_loop(k->w->f, look, k);
    do {
        usleep(1000);
        on_loop(k->w->f, read_checkpoint, k);
    } while (k->through != k->committed);
}

static void drop_run(struct commit_turn *t)
{
    struct keeper *k = container_of(t, struct keeper, turn);
    struct map_state state = *map_state(k->w->map);

    state.applied = k->through;
    CHECK(map_drop(k->w->map, k->through, &state, &k->change, &k->w->f->why) == 0);
}

static void drop_done(struct commit_turn *t)
{
    struct keeper *k = container_of(t, struct keeper, turn);

    map_install(k->w->map, &k->change);
    sem_post(&k->done);
}

static void take_turn(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    k->turn = (struct commit_turn){.run = drop_run, .done = drop_done};
    commit_take_turn(k->w->commit, &k->turn);
}

/* As write-back does it: the source disks are at this cut. */
static void confirm(struct keeper *k, uint64_t through)
{
    k->through = through;
    on_loop(k->w->f, take_turn, k);
    keeper_wait(k);
}

static void nothing_run(struct commit_turn *t)
{
    (void)t;
}

static void nothing_done(struct commit_turn *t)
{
    sem_post(&container_of(t, struct keeper, turn)->done);
}

static void idle_run(struct work *w)
{
    (void)w;
}

static void idle_done(struct work *w)
{
    sem_post(&container_of(w, struct keeper, idle)->done);
}

static void take_empty_turn(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    k->turn = (struct commit_turn){.run = nothing_run, .done = nothing_done};
    commit_take_turn(k->w->commit, &k->turn);
}

static void give_empty_work(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    k->idle = (struct work){.run = idle_run, .done = idle_done};
    worker_do(k->worker, f->loop, &k->idle);
}

/* The round that a look has begun is over: its turn, then its work with the store. */
static void round_is_over(struct keeper *k)
{
    on_loop(k->w->f, take_empty_turn, k);
    keeper_wait(k);
    on_loop(k->w->f, give_empty_work, k);
    keeper_wait(k);
}

static bool is_there(struct history *h, uint64_t first)
{
    struct map_object o;

    return map_object(h->w->map, first, &o) == 0;
}

/* Cuts 1 and 2, each with a checkpoint, the source disks at 2 before its checkpoint is made; then cuts up to
 * n. */
static void live(struct history *h, unsigned n)
{
    struct keeper k = {.w = h->w, .worker = worker_new("worker"), .writer = h->w->writer};

    sem_init(&k.done, 0, 0);
    on_loop(h->w->f, start_upkeep, &k);
    for (unsigned i = 1; i <= n; i++) {
        play(h, i);
        if (i == 2)
            confirm(&k, h->seq[2]);
        checkpoint_now(&k);
        /* checkpoint 1 leads to what has left the map since */
        assert_int_equal(is_there(h, 1), i <= 2);
    }
    on_loop(h->w->f, stop_upkeep, &k);
    keeper_wait(&k);
    worker_free(&k.worker);
    sem_destroy(&k.done);
}

static void lose_checkpoint(struct history *h, unsigned i)
{
    char name[MAP_NAME_MAX];

    checkpoint_name(name, h->w->f->id, h->seq[i], CHECKPOINT_END);
    damage(h, name, "truncate -s -5 \"$f\"");
}

/* source: at which cut the source disks are. */
static void expect_cut_over(struct history *h, unsigned i, unsigned source)
{
    memcpy(h->w->f->model, h->model[i], AREA * 512);
    assert_int_equal(map_state(h->w->map)->committed, h->seq[i]);
    expect_store_over(h->w, h->model[source]);
}

/* The checkpoint before the last leads to objects that the map has let go of: they are still there. */
static void what_was_written_back_stays_for_the_older_checkpoint(void **state)
{
    struct history *h = history_new(0, 0);
    struct recover_result r;

    (void)state;
    live(h, 2);
    lose_checkpoint(h, 2);
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.checkpoint, h->seq[1]);
    assert_int_equal(r.state.applied, 0); /* it has to be asked for at on-prem */
    expect_cut_over(h, 2, 2);
    history_free(h);
}

static void what_was_written_back_is_removed_one_checkpoint_later(void **state)
{
    struct history *h = history_new(0, 0);
    struct recover_result r;

    (void)state;
    live(h, 4);
    lose_checkpoint(h, 4);
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.checkpoint, h->seq[3]);
    assert_int_equal(r.state.applied, h->seq[2]);
    expect_cut_over(h, 4, 2);
    random_puts(h->w, 50, 90000); /* and it goes on */
    assert_int_equal(commit_and_wait(h->w), 0);
    expect_store_over(h->w, h->model[2]);
    history_free(h);
}

/* What they hold beyond it could only be mixed with it. */
/* Its entry names another writer: what this edge would put is of a history that has ended. */
static void who_has_lost_a_vm_puts_no_checkpoint(void **state)
{
    struct history *h = history_new(2, 0);
    struct keeper k = {.w = h->w, .worker = worker_new("worker"), .writer = h->w->writer + 1};

    (void)state;
    sem_init(&k.done, 0, 0);
    on_loop(h->w->f, start_upkeep, &k);
    on_loop(h->w->f, look, &k);
    round_is_over(&k);
    assert_int_equal(files(h, "/map/"), 0);
    on_loop(h->w->f, stop_upkeep, &k);
    keeper_wait(&k);
    k.writer = h->w->writer;
    on_loop(h->w->f, start_upkeep, &k);
    checkpoint_now(&k);
    assert_true(files(h, "/map/") > 0);
    on_loop(h->w->f, stop_upkeep, &k);
    keeper_wait(&k);
    worker_free(&k.worker);
    sem_destroy(&k.done);
    history_free(h);
}

static void not_to_a_cut_that_the_source_disks_have_left(void **state)
{
    struct history *h = history_new(0, 0);

    (void)state;
    live(h, 2);
    assert_int_equal(recover(h, h->seq[1], -ENOENT).applied, h->seq[2]);
    recover(h, h->seq[2], 0);
    expect_cut_over(h, 2, 2);
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_the_log_alone),
        cmocka_unit_test(from_a_checkpoint_and_the_log),
        cmocka_unit_test(to_an_earlier_cut),
        cmocka_unit_test(a_missing_object_ends_it_there),
        cmocka_unit_test(a_damaged_object_ends_it_there),
        cmocka_unit_test(what_was_put_aside_can_be_put_back),
        cmocka_unit_test(what_goes_on_from_an_earlier_cut_is_what_comes_back),
        cmocka_unit_test(what_a_checkpoint_needs_and_is_missing_is_told),
        cmocka_unit_test(a_damaged_checkpoint_is_passed_over),
        cmocka_unit_test(an_old_object_put_back_is_noticed),
        cmocka_unit_test(what_was_discarded_stays_away),
        cmocka_unit_test(an_edge_that_stays_forgets_what_is_discarded),
        cmocka_unit_test(nothing_is_said_to_be_nothing),
        cmocka_unit_test(a_first_cut_that_never_ended_is_nothing),
        cmocka_unit_test(a_log_without_its_beginning_is_not_nothing),
        cmocka_unit_test(what_was_written_back_stays_for_the_older_checkpoint),
        cmocka_unit_test(what_was_written_back_is_removed_one_checkpoint_later),
        cmocka_unit_test(who_has_lost_a_vm_puts_no_checkpoint),
        cmocka_unit_test(not_to_a_cut_that_the_source_disks_have_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
