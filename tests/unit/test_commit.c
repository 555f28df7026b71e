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

/* From its first cut on the entry says that there is one; that is said once. */
static void the_first_cut_is_said_in_the_entry(void **state)
{
    struct world *w = world_new();
    char first[ENTRY_ETAG], later[ENTRY_ETAG];

    (void)state;
    assert_int_equal(entry_now(w, NULL).whole, 0);
    for (unsigned i = 0; i < 3; i++) {
        random_puts(w, 20, i * 100);
        assert_int_equal(commit_and_wait(w), 0);
        assert_int_equal(entry_now(w, i ? later : first).whole, 20);
        assert_true(i == 0 || strcmp(first, later) == 0);
        world_close(w);
        world_open(w);
    }
    w->floor = 60; /* all that was thrown away */
    world_close(w);
    world_open(w);
    random_puts(w, 20, 1000);
    assert_int_equal(commit_and_wait(w), 0);
    assert_int_equal(entry_now(w, NULL).whole, 80);
    world_free(w);
}

static void begin_held(struct world *w)
{
    world_close(w);
    w->hold = "/vm";
    world_open(w);
    w->hold = NULL;
    random_puts(w, 60, 0);
    on_loop(w->f, ask, w);
    wait_held(w);
    assert_int_equal(map_state(w->map)->committed, 0); /* not before it is said */
}

/* The edge dies in between: all objects are put, and nobody was told. */
static void what_is_not_said_yet_is_said_when_it_is_adopted(void **state)
{
    struct world *w = world_new();

    (void)state;
    begin_held(w);
    world_close(w);
    wait_done(w);
    assert_int_equal(w->status, -ECANCELED);
    world_open(w);
    assert_int_equal(entry_now(w, NULL).whole, 0);
    assert_int_equal(commit_and_wait(w), 0);
    assert_int_equal(entry_now(w, NULL).whole, 60);
    expect_store(w);
    world_free(w);
}

static void another_edge_may_come_between(void **state)
{
    struct world *w = world_new();

    (void)state;
    begin_held(w);
    put_entry(w, 2);
    on_loop(w->f, open_gate, w);
    wait_done(w);
    assert_int_equal(w->status, -ESTALE);
    assert_true(w->fenced);
    assert_int_equal(entry_now(w, NULL).whole, 0);
    assert_int_equal(map_state(w->map)->committed, 0);
    world_free(w);
}

/* Objects that nothing leads to have the names: of a log that took another way, or of the epoch before. */
static void what_is_left_over_is_replaced(void **state)
{
    (void)state;
    for (unsigned epoch = 0; epoch < 2; epoch++) {
        struct world *w = world_new();
        CLEANUP_FREE char *first = xasprintf("rm '%s'/vms/*/log/0000000000000001", w->store_dir);
        CLEANUP_FREE uint8_t *model = xmalloc(AREA * 512);

        random_puts(w, 20, 0);
        memcpy(model, w->f->model, AREA * 512);
        world_close(w);
        copy_tree(w->f->dir, w->saved);
        world_open(w);
        assert_int_equal(commit_and_wait(w), 0);
        random_puts(w, 20, 100);
        assert_int_equal(commit_and_wait(w), 0);
        world_close(w);
        copy_tree(w->saved, w->f->dir);
        memcpy(w->f->model, model, AREA * 512);
        w->epoch = epoch;
        if (epoch == 0)
            assert_int_equal(system(first), 0);
        world_open(w);
        put_entry(w, w->writer);
        assert_int_equal(commit_and_wait(w), 0);
        assert_int_equal(map_state(w->map)->committed, 20);
        random_puts(w, 30, 5000);
        assert_int_equal(commit_and_wait(w), 0);
        assert_int_equal(map_state(w->map)->committed, 50);
        expect_store(w);
        world_free(w);
    }
}

static void put_others(struct world *w, struct logobj_built *built)
{
    struct logobj_head h = {.first = 1, .epoch = 2};
    struct logobj_entry zero = {.kind = LOGOBJ_ZERO, .nsectors = 8, .seq = 1};
    uint8_t writer[LOGOBJ_WRITER_BYTES] = {2};
    char key[MAP_NAME_MAX];
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = key};
    struct logobj_builder *b;
    struct iovec iov;

    memcpy(h.vm, w->f->id, sizeof h.vm);
    b = logobj_begin(&w->master, &h, writer);
    logobj_add(b, &zero, NULL);
    logobj_end(&b, 1, true, built);
    map_object_name(key, w->f->id, 1);
    iov = (struct iovec){built->front->data, built->front->len};
    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(w->store, &r, NULL), 0);
}

/* The swap is on its way when another edge takes the VM over, and puts an object of its own there. */
static void and_only_if_it_is_still_there(void **state)
{
    struct world *w = world_new();
    struct logobj_built built;
    uint8_t there[1024];

    (void)state;
    random_puts(w, 20, 0);
    world_close(w);
    copy_tree(w->f->dir, w->saved);
    world_open(w);
    assert_int_equal(commit_and_wait(w), 0);
    world_close(w);
    copy_tree(w->saved, w->f->dir);
    w->epoch = 1;
    w->hold = "/log/0000000000000001";
    world_open(w);
    w->gate->pass = 1; /* the one that finds the name taken */
    put_entry(w, w->writer);
    on_loop(w->f, ask, w);
    wait_held(w);
    put_others(w, &built);
    on_loop(w->f, open_gate, w);
    wait_done(w);
    assert_int_equal(w->status, -ESTALE);
    assert_true(w->fenced);
    assert_int_equal(get_object(w, 1, 0, there, sizeof there), built.front->len);
    assert_memory_equal(there, built.front->data, built.front->len);
    logobj_built_free(&built);
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
        cmocka_unit_test(the_first_cut_is_said_in_the_entry),
        cmocka_unit_test(what_is_not_said_yet_is_said_when_it_is_adopted),
        cmocka_unit_test(another_edge_may_come_between),
        cmocka_unit_test(what_is_left_over_is_replaced),
        cmocka_unit_test(and_only_if_it_is_still_there),
        cmocka_unit_test(who_waits_can_be_taken_back),
        cmocka_unit_test(at_its_age),
        cmocka_unit_test(at_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
