/* links: journal store */
/* A VM's map comes back from the store alone: with and without a checkpoint, and to an earlier cut where
 * something is missing or damaged.
 */
#include "recover_fixture.h"

#include "discard.h"

static void from_the_log_alone(void **state)
{
    struct history *h = history_new(CUTS, 0);
    struct recover_result r = recover(h, UINT64_MAX, 0);

    (void)state;
    assert_int_equal(r.newest.cut, 0);
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
    assert_int_equal(r.newest.cut, h->seq[4]);
    assert_true(r.objects > 0);
    expect_cut_is(h, CUTS);
    history_free(h);
}

static void what_came_since_is_read_on(void **state)
{
    struct history *h = history_new(CUTS, 2);
    struct recover_result r;

    (void)state;
    h->first = h->seq[4];
    r = recover(h, UINT64_MAX, 0);
    assert_int_equal(r.newest.cut, h->seq[2]);
    assert_true(r.objects > 0);
    assert_int_equal(r.beyond, 0);
    expect_cut_is(h, CUTS);
    random_puts(h->w, 50, 90000); /* and it goes on */
    assert_int_equal(commit_and_wait(h->w), 0);
    expect_store(h->w);
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

/* With its entry, and the damaged object whole again, all of it is there again. */
static void what_was_put_aside_can_be_put_back(void **state)
{
    struct history *h = history_new(CUTS, 4);
    struct recover_conf conf = {.vm = "vm"};
    struct vmobj entry = entry_now(h->w, NULL);
    CLEANUP_FREE char *keep = xasprintf("cp \"$f\" '%s'", h->w->saved);
    CLEANUP_FREE char *back = xasprintf("cp '%s' \"$f\"", h->w->saved);
    CLEANUP_FREE char *all_back = xasprintf(
        "cd '%s'/vms/*/ && mkdir -p map && cp lost/*/log/* log/ && cp lost/*/map/* map/ && cp lost/*/vm .",
        h->w->store_dir);
    char object[MAP_NAME_MAX], part_of_it[MAP_NAME_MAX];
    uint64_t n, bytes;
    struct why why;

    (void)state;
    map_object_name(object, h->w->f->id, h->seq[2] + 1);
    checkpoint_name(part_of_it, h->w->f->id, &entry.newest, 0);
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

    conf.entry = entry_now(h->w, NULL);
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
    struct vmobj entry = entry_now(h->w, NULL);
    char name[MAP_NAME_MAX];
    struct recover_result r;

    (void)state;
    checkpoint_name(name, h->w->f->id, &entry.newest, 0);
    damage(h, name, "truncate -s -5 \"$f\"");
    r = recover(h, UINT64_MAX, 0);
    assert_true(r.damaged);
    assert_int_equal(r.newest.cut, 0);
    expect_cut_is(h, CUTS);
    history_free(h);
}

/* The object as another program writes it, whose format has another number. */
static void format_plus(struct world *w, const char *name, int more)
{
    uint8_t *bytes = xmalloc(CHECKPOINT_PART_MAX);
    struct store_req r = {.op = STORE_GET, .timeout_ms = 5000, .key = name};

    r.get.buf = bytes;
    r.get.cap = CHECKPOINT_PART_MAX;
    r.get.whole = true;
    assert_int_equal(store_wait(w->store, &r, NULL), 0);
    bytes[9] = (uint8_t)(bytes[9] + more);
    put_object(w, name, bytes, r.len);
    free(bytes);
}

/* What a newer program wrote, an object or a checkpoint, is no damage: nothing is cut off. */
static void what_is_newer_than_this_program_is_refused(void **state)
{
    struct history *h = history_new(CUTS, 2);
    struct vmobj entry = entry_now(h->w, NULL);
    char names[2][MAP_NAME_MAX];

    (void)state;
    map_object_name(names[0], h->w->f->id, h->seq[3] + 1);
    checkpoint_name(names[1], h->w->f->id, &entry.newest, CHECKPOINT_END);
    for (int i = 0; i < 2; i++) {
        format_plus(h->w, names[i], 2);
        recover(h, UINT64_MAX, -ENOTSUP);
        assert_non_null(strstr(refusal.text, names[i]));
        assert_non_null(strstr(refusal.text, " and this program, of generation 1, reads"));
        format_plus(h->w, names[i], -2);
    }
    recover(h, UINT64_MAX, 0);
    expect_cut_is(h, CUTS);
    assert_int_equal(files(h, "/lost/"), 0);
    history_free(h);
}

static void an_old_object_put_back_is_noticed(void **state)
{
    struct history *h = history_new(2, 0);
    char name[MAP_NAME_MAX];
    struct recover_result r;
    struct vmobj v;

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
    v = entry_now(h->w, NULL);
    v.epoch = v.since = 0; /* its epoch alone would tell */
    entry_swap(h->w, &v);
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
    w->floor = h->seq[4];
    r = recover(h, UINT64_MAX, 0); /* with all its objects and a checkpoint still there */
    assert_int_equal(r.state.committed, w->floor);
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
    assert_int_equal(discard_objects(w->store, w->f->id, w->floor, NULL, &why), 0);
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

/* A later cut that is lost is said, too, if a checkpoint of it was named. */
static void a_checkpoint_whose_cut_is_lost_is_said(void **state)
{
    struct history *h = history_new(3, 0);
    struct vmobj v = entry_now(h->w, NULL);
    struct recover_result r;

    (void)state;
    v.whole = h->seq[3];
    entry_swap(h->w, &v);
    the_log_without(h, "tail -n 1");
    r = recover(h, UINT64_MAX, 0);
    assert_true(r.damaged);
    expect_cut_is(h, 2);
    assert_int_equal(entry_now(h->w, NULL).whole, h->seq[2]); /* from there it goes on */
    r = recover(h, UINT64_MAX, 0);
    assert_false(r.damaged);
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_the_log_alone),
        cmocka_unit_test(from_a_checkpoint_and_the_log),
        cmocka_unit_test(what_came_since_is_read_on),
        cmocka_unit_test(to_an_earlier_cut),
        cmocka_unit_test(a_missing_object_ends_it_there),
        cmocka_unit_test(a_damaged_object_ends_it_there),
        cmocka_unit_test(what_was_put_aside_can_be_put_back),
        cmocka_unit_test(what_goes_on_from_an_earlier_cut_is_what_comes_back),
        cmocka_unit_test(what_a_checkpoint_needs_and_is_missing_is_told),
        cmocka_unit_test(a_damaged_checkpoint_is_passed_over),
        cmocka_unit_test(what_is_newer_than_this_program_is_refused),
        cmocka_unit_test(an_old_object_put_back_is_noticed),
        cmocka_unit_test(what_was_discarded_stays_away),
        cmocka_unit_test(an_edge_that_stays_forgets_what_is_discarded),
        cmocka_unit_test(a_checkpoint_whose_cut_is_lost_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
