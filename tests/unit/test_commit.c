/* links: journal store */
/* A VM's log reaches an object store in a directory: content, cuts, restarts at bad moments, another edge.
 */
#include "commit_fixture.h"

static void the_store_gets_what_was_written(void **state)
{
    struct world *w = world_new();

    (void)state;
    srand(31);
    for (unsigned round = 1; round <= 4; round++) {
        random_puts(w, 150, round * 1000);
        assert_int_equal(commit_and_wait(w), 0);
        assert_int_equal(map_state(w->map)->committed, round * 150);
        expect_store(w);
        if (round == 2) {
            world_close(w);
            world_open(w);
            expect_store(w);
        }
    }
    assert_int_equal(commit_and_wait(w), 0); /* nothing new */
    world_free(w);
}

/* The journal as it was before a commit that the store knows of: a crash between put and map. */
static void what_the_store_has_already_is_adopted(void **state)
{
    struct world *w = world_new();

    (void)state;
    srand(32);
    random_puts(w, 100, 0);
    assert_int_equal(commit_and_wait(w), 0);
    random_puts(w, 300, 1000);
    world_close(w);
    copy_tree(w->f->dir, w->saved);
    world_open(w);
    assert_int_equal(commit_and_wait(w), 0);
    world_close(w);
    copy_tree(w->saved, w->f->dir);
    world_open(w);
    random_puts(w, 100, 5000);
    assert_int_equal(commit_and_wait(w), 0);
    assert_int_equal(map_state(w->map)->committed, 500);
    assert_false(w->fenced);
    expect_store(w);
    world_free(w);
}

static void see_lag(struct fixture *f, void *arg)
{
    struct world *w = arg;

    (void)f;
    w->lag_ns = commit_lag_ns(w->commit);
}

/* The same, and the guest writes nothing any more: who waits is told, and the journal lets go of it. */
static void adopted_whole_is_a_cut(void **state)
{
    struct world *w = world_new();

    (void)state;
    srand(34);
    random_puts(w, 60, 0);
    world_close(w);
    copy_tree(w->f->dir, w->saved);
    world_open(w);
    assert_int_equal(commit_and_wait(w), 0);
    world_close(w);
    copy_tree(w->saved, w->f->dir);
    world_open(w);
    assert_int_equal(commit_and_wait(w), 0);
    assert_int_equal(map_state(w->map)->committed, 60);
    on_loop(w->f, see_lag, w);
    assert_int_equal(w->lag_ns, 0);
    expect_store(w);
    world_free(w);
}

static void another_edge_ends_it(void **state)
{
    struct world *w = world_new();

    (void)state;
    random_puts(w, 20, 0);
    world_close(w);
    copy_tree(w->f->dir, w->saved);
    world_open(w);
    assert_int_equal(commit_and_wait(w), 0);
    world_close(w);
    copy_tree(w->saved, w->f->dir);
    w->writer = 2;
    world_open(w);
    put_entry(w, 2); /* the entry is ours, the object is not */
    assert_int_equal(commit_and_wait(w), -ESTALE);
    assert_true(w->fenced);
    assert_int_equal(commit_and_wait(w), -ESTALE);
    world_free(w);
}

/* Even where none of its objects stands in the way. */
static void an_edge_that_has_the_entry_ends_it(void **state)
{
    struct world *w = world_new();

    (void)state;
    random_puts(w, 20, 0);
    assert_int_equal(commit_and_wait(w), 0);
    random_puts(w, 20, 100);
    put_entry(w, 2);
    assert_int_equal(commit_and_wait(w), -ESTALE);
    assert_true(w->fenced);
    world_free(w);
}

static void take_back(struct fixture *f, void *arg)
{
    struct world *w = arg;

    (void)f;
    w->wait.done = on_committed;
    commit_now(w->commit, &w->wait);
    commit_cancel(w->commit, &w->wait);
    commit_cancel(w->commit, &w->wait);
}

static void who_waits_can_be_taken_back(void **state)
{
    struct world *w = world_new();

    (void)state;
    random_puts(w, 10, 0);
    on_loop(w->f, take_back, w);
    wait_done(w);
    assert_int_equal(w->status, -ECANCELED);
    assert_int_equal(commit_and_wait(w), 0);
    expect_store(w);
    world_free(w);
}

static void at_its_age(void **state)
{
    struct world *w = world_new();

    (void)state;
    random_puts(w, 10, 0);
    world_close(w);
    w->age_ms = 300;
    world_open(w);
    while (sem_wait(&w->cut) < 0)
        ;
    expect_store(w);
    world_free(w);
}

static void at_its_size(void **state)
{
    struct world *w = world_new();

    (void)state;
    w->bytes = 200000;
    world_close(w);
    world_open(w);
    put(w->f, 0, 300, 1);
    assert_int_equal(sem_trywait(&w->cut), -1);
    put(w->f, 1000, 300, 2);
    while (sem_wait(&w->cut) < 0)
        ;
    expect_store(w);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store_gets_what_was_written),
        cmocka_unit_test(what_the_store_has_already_is_adopted),
        cmocka_unit_test(adopted_whole_is_a_cut),
        cmocka_unit_test(another_edge_ends_it),
        cmocka_unit_test(an_edge_that_has_the_entry_ends_it),
        cmocka_unit_test(who_waits_can_be_taken_back),
        cmocka_unit_test(at_its_age),
        cmocka_unit_test(at_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
