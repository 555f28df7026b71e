/* links: journal store */
/* Dead space in the store is reclaimed: what is live in objects that are mostly dead moves along with the
 * commits, and the disk stays what it is: now, after a crash between any two steps, and recovered from the
 * store alone.
 */
#include "recover_fixture.h"

#include "audit.h"
#include "metric.h"

#include <unistd.h>

enum { DEAD = 25, PIECE = 8 };

static void set_move(struct fixture *f, void *arg)
{
    struct world *w = arg;

    (void)f;
    commit_set_move(w->commit, DEAD);
}

/* Pieces of noise all over the first half of the disk: what was there dies bit by bit. */
static void scatter(struct world *w, unsigned n, unsigned tag)
{
    struct burst b = {.n = 0};

    for (unsigned i = 0; i < n; i++)
        burst_put(&b, w->f, (uint64_t)rand() % (AREA / 2 / PIECE) * PIECE, PIECE, tag + i + 1);
    burst_end(&b);
}

static void fill(struct world *w)
{
    for (unsigned at = 0; at < AREA; at += 256)
        put(w->f, at, 256, 100000 + at);
    assert_int_equal(commit_and_wait(w), 0);
}

static uint64_t moved(const struct world *w)
{
    (void)w;
    return metric_sum("isthmus_commit_moved_bytes_total", "vm=\"vm\"");
}

struct tally {
    unsigned objects, mostly_dead;
    uint64_t data, live;
};

static void tally_one(void *arg, const struct map_object *o)
{
    struct tally *t = arg;

    t->objects++;
    t->data += o->live_sectors ? o->data_sectors : 0; /* without life it is removed by the next checkpoints */
    t->live += o->live_sectors;
    t->mostly_dead += o->live_sectors && o->live_sectors * 2 < o->data_sectors;
}

static struct tally tally(const struct world *w)
{
    struct tally t = {0};

    map_objects_each(w->map, tally_one, &t);
    return t;
}

/* Without moving the disk's second half, never written again, would keep every old object alive. */
static void play_rounds(struct world *w, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        scatter(w, 250, i * 1000);
        if (i % 5 == 4)
            put(w->f, (uint64_t)rand() % (AREA - 700), 700, 0);
        assert_int_equal(commit_and_wait(w), 0);
    }
}

static struct tally play_all(struct world *w, bool moving)
{
    struct tally t;

    srand(7);
    if (moving)
        on_loop(w->f, set_move, w);
    fill(w);
    play_rounds(w, 60);
    expect_store(w);
    t = tally(w);
    print_message("%u objects, %lu of %lu sectors live, %u mostly dead, %lu KiB moved\n", t.objects, t.live,
                  t.data, t.mostly_dead, moved(w) >> 10);
    return t;
}

static void space_stays_bounded_and_the_disk_what_it_is(void **state)
{
    struct world *w = world_new();
    struct tally without, with;

    (void)state;
    without = play_all(w, false);
    assert_int_equal(moved(w), 0);
    world_free(w);
    w = world_new();
    with = play_all(w, true);
    assert_true(moved(w) > 0);
    assert_int_equal(with.live, without.live);
    assert_true(with.data < with.live * 5 / 2);
    assert_true(with.data - with.live < (without.data - without.live) * 2 / 3);
    world_close(w);
    world_open(w); /* and the map on disk says the same */
    expect_store(w);
    world_free(w);
}

static void nothing_is_moved_when_it_does_not_pay(void **state)
{
    struct world *w = world_new();
    uint64_t before = moved(w);

    (void)state;
    srand(8);
    fill(w);
    play_rounds(w, 10); /* it was not asked for */
    assert_int_equal(moved(w), before);
    expect_store(w);
    world_free(w);
}

static void recovered_from_the_store_alone(void **state)
{
    struct history *h = history_new(0, 0);
    struct world *w = h->w;
    struct recover_result r;
    struct audit_result a;
    struct recover_conf conf = {.master = &w->master, .vm = "vm", .through = UINT64_MAX};
    uint64_t before = moved(w);

    (void)state;
    on_loop(w->f, set_move, w);
    fill(w);
    play_rounds(w, 12);
    checkpoint(w);
    play_rounds(w, 12);
    assert_true(moved(w) > before);
    conf.entry = entry_now(w, NULL);
    world_close(w);
    remove_tree(w->f->dir);
    assert_int_equal(fixture_open_journal(w->f), 0);
    on_loop(w->f, open_store, w);
    conf.journal = w->f->journal;
    conf.store = w->store;
    assert_int_equal(audit_vm(&conf, &a, &w->f->why), 0);
    assert_int_equal(a.faults, 0);
    assert_int_equal(map_delete(w->f->journal, conf.entry.id, &w->f->why), 0);
    assert_int_equal(recover_vm(&conf, &r, &w->f->why), 0);
    on_loop(w->f, free_store, w);
    journal_close(&w->f->journal);
    world_open(w);
    expect_store(w);
    history_free(h);
}

/* The edge dies when `lost` of the last objects of a cut, which carry what was moved, are not in the store,
 * and its journal has seen none of the cut. */
static void die_with_a_cut_put(unsigned lost)
{
    struct world *w = world_new();
    CLEANUP_FREE char *remove =
        xasprintf("cd '%s'/vms/*/log && ls | tail -n %u | xargs -r rm", w->store_dir, lost);
    uint64_t before;

    srand(11 + lost);
    on_loop(w->f, set_move, w);
    fill(w);
    play_rounds(w, 12);
    scatter(w, 700, 70000);
    world_close(w);
    copy_tree(w->f->dir, w->saved);
    world_open(w);
    on_loop(w->f, set_move, w);
    before = moved(w);
    assert_int_equal(commit_and_wait(w), 0);
    assert_true(moved(w) > before);
    expect_store(w);
    world_close(w);
    copy_tree(w->saved, w->f->dir);
    assert_int_equal(system(remove), 0);
    world_open(w);
    on_loop(w->f, set_move, w);
    scatter(w, 50, 80000);
    assert_int_equal(commit_and_wait(w), 0);
    assert_false(w->fenced);
    expect_store(w);
    play_rounds(w, 5);
    expect_store(w);
    world_free(w);
}

static void a_crash_between_put_and_map_harms_nothing(void **state)
{
    (void)state;
    for (unsigned lost = 0; lost < 3; lost++)
        die_with_a_cut_put(lost);
}

/* An object that is to be moved is damaged: the commit goes on without. */
static void a_damaged_object_does_not_stop_commits(void **state)
{
    struct world *w = world_new();
    CLEANUP_FREE char *command = xasprintf(
        "for f in '%s'/vms/*/log/*; do printf x | dd of=\"$f\" bs=1 seek=150 conv=notrunc status=none; done",
        w->store_dir);
    uint64_t committed;

    (void)state;
    srand(9);
    fill(w);
    play_rounds(w, 6);
    assert_int_equal(system(command), 0);
    on_loop(w->f, set_move, w);
    committed = map_state(w->map)->committed;
    scatter(w, 100, 50000);
    assert_int_equal(commit_and_wait(w), 0);
    assert_true(map_state(w->map)->committed > committed);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(space_stays_bounded_and_the_disk_what_it_is),
        cmocka_unit_test(nothing_is_moved_when_it_does_not_pay),
        cmocka_unit_test(recovered_from_the_store_alone),
        cmocka_unit_test(a_crash_between_put_and_map_harms_nothing),
        cmocka_unit_test(a_damaged_object_does_not_stop_commits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
