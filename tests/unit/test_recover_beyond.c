/* links: journal store */
/* What is behind the cut that a recovery comes to: left over by a crash, or lost.
 */
#include "recover_fixture.h"

static void nothing_is_said_to_be_nothing(void **state)
{
    struct history *h = history_new(0, 0);
    struct recover_result r = recover(h, UINT64_MAX, -ENOENT);

    (void)state;
    assert_true(r.unwritten);
    history_free(h);
}

/* Enough for three of them. */
static void put_objects(struct world *w, unsigned tag)
{
    for (unsigned at = 0; at < 100; at++)
        put(w->f, at * 128, 128, tag + at + 1);
}

/* A commit of several objects is begun, and the edge dies when the second one is in the store and the first
 * one is not. */
static void begin_a_cut_and_die(struct history *h, unsigned i)
{
    struct world *w = h->w;

    put_objects(w, i * 1000);
    on_loop(w->f, ask, w);
    wait_held(w);
    while (files(h, "/log/") < i)
        usleep(1000);
    world_close(w);
    wait_done(w);
    world_open(w);
}

/* Each leaves an object that went ahead. */
static void a_first_cut_that_never_ended_is_nothing(void **state)
{
    struct history *h = history_new(0, 0);
    struct world *w = h->w;
    struct recover_result r;

    (void)state;
    world_close(w);
    w->hold = "/log/0000000000000001";
    world_open(w);
    for (unsigned i = 1; i <= 5; i++)
        begin_a_cut_and_die(h, i);
    w->hold = NULL;
    r = recover(h, UINT64_MAX, -ENOENT);
    assert_int_equal(r.beyond, 5);
    assert_true(r.unwritten);
    assert_false(r.damaged);
    assert_int_equal(files(h, "/log/"), 5); /* in nobody's way: */
    memset(w->f->model, 0, AREA * 512);
    random_puts(w, 50, 90000); /* it begins */
    assert_int_equal(commit_and_wait(w), 0);
    expect_store(w);
    r = recover(h, UINT64_MAX, 0);
    assert_false(r.damaged);
    expect_store(w);
    history_free(h);
}

/* Of an edge that has lost the VM by then: its objects behind the cut, and the next epoch. */
static void leave_objects_of_a_lost_edge(struct history *h, unsigned n)
{
    struct world *w = h->w;
    unsigned all = files(h, "/log/");
    char name[MAP_NAME_MAX];
    struct vmobj v;

    map_object_name(name, w->f->id, h->seq[1] + 1);
    world_close(w);
    w->hold = name;
    world_open(w);
    for (unsigned i = 1; i <= n; i++)
        begin_a_cut_and_die(h, all + i);
    w->hold = NULL;
    v = entry_now(w, NULL);
    v.since = h->seq[1] + 1;
    v.epoch++; /* of an edge that has written nothing */
    entry_swap(w, &v);
}

/* Nor is what an edge has left that had lost the VM by then, however much: none of it is missed, or in the
 * way. */
static void what_a_lost_edge_has_left_is_nothing(void **state)
{
    struct history *h = history_new(1, 0);
    unsigned all = files(h, "/log/");
    struct recover_result r;

    (void)state;
    leave_objects_of_a_lost_edge(h, 4);
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.beyond, 4);
    assert_false(r.damaged);
    assert_int_equal(files(h, "/log/"), all + 4);
    expect_cut_is(h, 1);
    play(h, 2);
    r = recover(h, UINT64_MAX, 0);
    assert_false(r.damaged);
    expect_cut_is(h, 2);
    history_free(h);
}

/* Nor is it missed together with the beginning of a cut of the edge after it. */
static void nor_is_it_beside_a_cut_that_never_ended(void **state)
{
    struct history *h = history_new(1, 0);
    struct world *w = h->w;
    unsigned all = files(h, "/log/");
    struct recover_result r;
    CLEANUP_FREE char *command = NULL;

    (void)state;
    leave_objects_of_a_lost_edge(h, 5);
    recover(h, UINT64_MAX, 0);
    put_objects(w, 70000); /* three, in the place of one that was left */
    assert_int_equal(commit_and_wait(w), 0);
    assert_int_equal(files(h, "/log/"), all + 5 + 3 - 1);
    command = xasprintf("tail -n +%u | head -n 1", all + 3);
    the_log_without(h, command);
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.unfinished, 2);
    assert_int_equal(r.beyond, 2 + 4);
    assert_false(r.damaged);
    expect_cut_is(h, 1);
    history_free(h);
}

/* Of a cut that did end so much may be lost that no more is left than a first cut leaves that did not. */
static void a_log_without_its_beginning_is_not_nothing(void **state)
{
    static const char *const lost[] = {"head -n 1", "head -n -2", "tail -n 1", "cat"};

    (void)state;
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        struct history *h = history_new(1, 0);
        struct recover_result r;

        the_log_without(h, lost[i]);
        r = recover(h, UINT64_MAX, -ENOENT);
        assert_true(r.damaged);
        assert_false(r.unwritten);
        assert_non_null(strstr(said, "held a whole cut at record 60 or later"));
        history_free(h);
    }
}

/* The same of what was written since a discard. */
static void nor_is_it_after_a_discard(void **state)
{
    struct history *h = history_new(1, 0);

    (void)state;
    h->w->floor = h->seq[1];
    recover(h, UINT64_MAX, 0);
    random_puts(h->w, 60, 90000);
    assert_int_equal(commit_and_wait(h->w), 0);
    the_log_without(h, "tail -n 1");
    recover(h, UINT64_MAX, -ENOENT);
    assert_non_null(strstr(said, "held a whole cut at record 120 or later"));
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_to_be_nothing),
        cmocka_unit_test(a_first_cut_that_never_ended_is_nothing),
        cmocka_unit_test(what_a_lost_edge_has_left_is_nothing),
        cmocka_unit_test(nor_is_it_beside_a_cut_that_never_ended),
        cmocka_unit_test(a_log_without_its_beginning_is_not_nothing),
        cmocka_unit_test(nor_is_it_after_a_discard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
