/* links: journal store */
/* Checkpoints and the removal of what is dead: what an older checkpoint leads to stays, and who has lost the
 * VM harms nobody, however late what it has sent is done.
 */
#include "upkeep_fixture.h"

static bool is_there(struct history *h, uint64_t first)
{
    struct map_object o;

    return map_object(h->w->map, first, &o) == 0;
}

/* Cuts 1 and 2, each with a checkpoint, the source disks at 2 before its checkpoint is made; then cuts up to
 * n. */
static void live(struct history *h, unsigned n)
{
    struct keeper *k = keeper_new(h->w);

    for (unsigned i = 1; i <= n; i++) {
        play(h, i);
        if (i == 2)
            confirm(k, h->seq[2]);
        checkpoint_now(k);
        /* checkpoint 1 leads to what has left the map since */
        assert_int_equal(is_there(h, 1), i <= 2);
    }
    keeper_free(k);
}

static void lose_newest_checkpoint(struct history *h)
{
    struct vmobj entry = entry_now(h->w, NULL);
    char name[MAP_NAME_MAX];

    checkpoint_name(name, h->w->f->id, &entry.newest, CHECKPOINT_END);
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
    lose_newest_checkpoint(h);
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.newest.cut, h->seq[1]);
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
    lose_newest_checkpoint(h);
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.newest.cut, h->seq[3]);
    assert_int_equal(r.state.applied, h->seq[2]);
    expect_cut_over(h, 4, 2);
    random_puts(h->w, 50, 90000); /* and it goes on */
    assert_int_equal(commit_and_wait(h->w), 0);
    expect_store_over(h->w, h->model[2]);
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

/* --- in the midst of a cut ---*/

static void hold_second_object(struct fixture *f, void *arg)
{
    struct world *w = arg;

    (void)f;
    w->gate->hold = "/log/";
    w->gate->pass = 1;
}

static void read_last(struct fixture *f, void *arg)
{
    struct keeper *k = arg;

    (void)f;
    k->through = map_state(k->w->map)->last;
}

/* A cut is given up when the map has the first of its objects: as of no cut, so no checkpoint is made of it.
 * The object may be behind the cut that a recovery comes to, and goes then. */
static void no_checkpoint_in_the_midst_of_a_cut(void **state)
{
    struct history *h = history_new(1, 0);
    struct world *w = h->w;
    struct keeper *k = keeper_new(w);

    (void)state;
    on_loop(w->f, hold_second_object, w);
    random_puts(w, 60, 5000);
    on_loop(w->f, ask, w);
    wait_held(w);
    do {
        usleep(1000);
        on_loop(w->f, read_last, k);
    } while (k->through == h->seq[1]);
    keeper_free(k);
    world_close(w);
    wait_done(w); /* the commit that was asked for */
    world_open(w);
    assert_true(map_state(w->map)->last > map_state(w->map)->committed);
    k = keeper_new(w);
    on_loop(w->f, look, k);
    round_is_over(k);
    assert_int_equal(files(h, "/map/"), 0);
    keeper_free(k);
    recover(h, UINT64_MAX, 0);
    expect_cut_is(h, 1);
    history_free(h);
}

/* An object beside the log, as a cut leaves that never ended. */
static void leave_over(struct history *h, uint64_t first)
{
    char from[MAP_NAME_MAX], to[MAP_NAME_MAX];

    map_object_name(from, h->w->f->id, 1);
    map_object_name(to, h->w->f->id, first);
    CLEANUP_FREE char *copy = xasprintf("cp \"$f\" \"${f%%/*}%s\"", strrchr(to, '/'));
    damage(h, from, copy);
}

static unsigned of_name(struct history *h, uint64_t first)
{
    char name[MAP_NAME_MAX];

    map_object_name(name, h->w->f->id, first);
    return files(h, strstr(name, "/log/"));
}

/* By the first checkpoint that is beyond it. Behind that it may be in use in a moment, and stays. */
static void what_is_left_over_is_removed(void **state)
{
    struct history *h = history_new(1, 0);
    struct keeper *k = keeper_new(h->w);
    uint64_t soon = h->seq[1] + 2, later = h->seq[1] + 70, never = UINT64_MAX - 5;
    unsigned all;

    (void)state;
    leave_over(h, soon);
    leave_over(h, later);
    leave_over(h, never);
    play(h, 2);
    all = files(h, "/log/");
    checkpoint_now(k);
    assert_true(h->seq[2] >= soon && h->seq[2] < later);
    assert_int_equal(of_name(h, soon), 0);
    assert_int_equal(of_name(h, later), 1);
    play(h, 3);
    checkpoint_now(k);
    assert_true(h->seq[3] >= later);
    assert_int_equal(of_name(h, later), 0);
    assert_int_equal(of_name(h, never), 1);
    assert_true(files(h, "/log/") > all - 2);
    keeper_free(k);
    recover(h, UINT64_MAX, 0);
    expect_cut_is(h, 3);
    history_free(h);
}

/* --- who has lost the VM ---*/

/* Its entry names another writer: what this edge would put is of a history that has ended. */
static void who_has_lost_a_vm_puts_no_checkpoint(void **state)
{
    struct history *h = history_new(2, 0);
    struct keeper *k;

    (void)state;
    h->w->writer++;
    k = keeper_new(h->w);
    on_loop(h->w->f, look, k);
    round_is_over(k);
    assert_int_equal(files(h, "/map/"), 0);
    keeper_free(k);
    h->w->writer--;
    k = keeper_new(h->w);
    checkpoint_now(k);
    assert_true(files(h, "/map/") > 0);
    keeper_free(k);
    history_free(h);
}

static void taken_over(struct world *w)
{
    struct vmobj v = entry_now(w, NULL);

    v.epoch++;
    v.since = map_state(w->map)->committed + 1;
    memset(v.writer, w->writer + 1, sizeof v.writer);
    entry_swap(w, &v);
}

static void hold_map(struct fixture *f, void *arg)
{
    (void)f;
    ((struct world *)arg)->gate->hold = "/map/";
}

static void hold_entry(struct fixture *f, void *arg)
{
    (void)f;
    ((struct world *)arg)->gate->hold = "/vm";
}

/* Everything of cut 1, which has a checkpoint, is dead with cut 2: its objects would go with the next one. */
static void live_twice(struct history *h, struct keeper *k)
{
    play(h, 1);
    checkpoint_now(k);
    put(h->w->f, 0, AREA, 0);
    play(h, 2);
}

/* A part of it, or its name in the entry, is on its way when another edge takes the VM over. */
static void a_checkpoint_that_comes_late_is_nobodys(void **state)
{
    static void (*const holds[])(struct fixture *, void *) = {hold_map, hold_entry};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct history *h = history_new(0, 0);
        struct keeper *k = keeper_new(h->w);
        struct recover_result r;
        unsigned logs;

        live_twice(h, k);
        logs = files(h, "/log/");
        on_loop(h->w->f, holds[i], h->w);
        on_loop(h->w->f, look, k);
        wait_held(h->w);
        taken_over(h->w);
        on_loop(h->w->f, open_gate, h->w);
        round_is_over(k);
        assert_int_equal(files(h, "/map/"), 4); /* it is there, whole, beside the first */
        assert_int_equal(files(h, "/log/"), logs);
        assert_true(is_there(h, 1));
        keeper_free(k);
        h->w->writer++;
        r = recover(h, UINT64_MAX, 0);
        assert_int_equal(r.newest.cut, h->seq[1]);
        assert_false(r.damaged);
        expect_cut_is(h, 2);
        k = keeper_new(h->w); /* who has the VM now cleans up after it */
        checkpoint_now(k);
        assert_int_equal(files(h, "/map/"), 4);
        assert_true(files(h, "/log/") < logs);
        keeper_free(k);
        recover(h, UINT64_MAX, 0);
        expect_cut_is(h, 2);
        history_free(h);
    }
}

/* The edge dies when the first checkpoint is whole and named, and does not know of it; the second one, at the
 * same cut, says less, because the source disks have it by then. It dies again in the midst of that. */
static void a_second_upload_that_dies_leaves_the_first_whole(void **state)
{
    struct history *h = history_new(0, 0);
    struct world *w = h->w;
    struct recover_result r;
    struct keeper *k;

    (void)state;
    play(h, 1);
    world_close(w);
    copy_tree(w->f->dir, w->saved);
    world_open(w);
    k = keeper_new(w);
    checkpoint_now(k);
    keeper_free(k);
    world_close(w);
    copy_tree(w->saved, w->f->dir);
    world_open(w);
    k = keeper_new(w);
    confirm(k, h->seq[1]);
    on_loop(w->f, hold_map, w);
    w->gate->pass = 1; /* its part, not its end */
    on_loop(w->f, look, k);
    wait_held(w);
    keeper_free(k);
    assert_int_equal(files(h, "/map/"), 3);
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.newest.cut, h->seq[1]);
    assert_int_equal(r.state.applied, 0);
    assert_false(r.damaged);
    expect_cut_is(h, 1);
    history_free(h);
}

static void change_catalog(struct world *w, const char *text)
{
    struct entry_access a = entry_access(w);
    struct entry_edit e = {.mine = entry_of(w, w->writer, w->epoch), .text = text};
    struct vmobj now;

    assert_int_equal(entry_change(&a, &e, &now, &w->f->why), 0);
}

/* Between the look at the entry and the swap, which then has to begin anew. */
static void a_change_of_the_catalog_stays(void **state)
{
    struct history *h = history_new(1, 0);
    struct world *w = h->w;
    struct entry_access a = entry_access(w);
    struct keeper *k = keeper_new(w);
    char etag[ENTRY_ETAG];
    struct vmobj v;
    struct buf *text;

    (void)state;
    on_loop(w->f, hold_entry, w);
    on_loop(w->f, look, k);
    wait_held(w);
    change_catalog(w, "{\"name\": \"other\"}");
    on_loop(w->f, open_gate, w);
    round_is_over(k);
    assert_int_equal(entry_read(&a, w->f->id, &v, &text, etag, &w->f->why), 0);
    assert_int_equal(v.newest.cut, h->seq[1]);
    assert_int_equal(v.whole, h->seq[1]);
    assert_memory_equal(text->data, "{\"name\": \"other\"}", text->len);
    vmobj_wipe(&text);
    change_catalog(w, "{}");
    assert_int_equal(entry_now(w, NULL).newest.cut, h->seq[1]);
    keeper_free(k);
    history_free(h);
}

static void pause_it(struct fixture *f, void *arg)
{
    (void)f;
    upkeep_pause(((struct keeper *)arg)->upkeep, on_keeper, arg);
}

static void resume_it(struct fixture *f, void *arg)
{
    (void)f;
    upkeep_resume(((struct keeper *)arg)->upkeep);
}

/* What is under way ends, nothing else begins. */
static void while_it_pauses_the_entry_stays(void **state)
{
    struct history *h = history_new(1, 0);
    struct world *w = h->w;
    struct keeper *k = keeper_new(w);

    (void)state;
    on_loop(w->f, hold_entry, w);
    on_loop(w->f, look, k);
    wait_held(w);
    on_loop(w->f, pause_it, k);
    assert_int_not_equal(sem_trywait(&k->done), 0);
    on_loop(w->f, open_gate, w);
    keeper_wait(k);
    assert_int_equal(entry_now(w, NULL).newest.cut, h->seq[1]);
    play(h, 2);
    on_loop(w->f, look, k);
    round_is_over(k);
    assert_int_equal(entry_now(w, NULL).newest.cut, h->seq[1]);
    on_loop(w->f, resume_it, k);
    checkpoint_now(k);
    assert_int_equal(entry_now(w, NULL).newest.cut, h->seq[2]);
    keeper_free(k);
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_back_stays_for_the_older_checkpoint),
        cmocka_unit_test(what_was_written_back_is_removed_one_checkpoint_later),
        cmocka_unit_test(not_to_a_cut_that_the_source_disks_have_left),
        cmocka_unit_test(no_checkpoint_in_the_midst_of_a_cut),
        cmocka_unit_test(what_is_left_over_is_removed),
        cmocka_unit_test(who_has_lost_a_vm_puts_no_checkpoint),
        cmocka_unit_test(a_checkpoint_that_comes_late_is_nobodys),
        cmocka_unit_test(a_second_upload_that_dies_leaves_the_first_whole),
        cmocka_unit_test(a_change_of_the_catalog_stays),
        cmocka_unit_test(while_it_pauses_the_entry_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
