/* links: journal store */
/* A VM's entry is changed by whose it is, bit by bit, by several at once; what somebody else says in it
 * stays.
 */
#include "commit_fixture.h"

#include "store_wrap.h"

#include <pthread.h>

static int change(struct world *w, const struct entry_edit *e, struct vmobj *now)
{
    struct entry_access a = entry_access(w);

    return entry_change(&a, e, now, &w->f->why);
}

static bool has_text(struct world *w, const char *expected)
{
    struct entry_access a = entry_access(w);
    char etag[ENTRY_ETAG];
    struct buf *text;
    struct vmobj v;
    bool same;

    assert_int_equal(entry_read(&a, w->f->id, &v, &text, etag, &w->f->why), 0);
    same = text->len == strlen(expected) && memcmp(text->data, expected, text->len) == 0;
    vmobj_wipe(&text);
    return same;
}

static void each_says_its_part(void **state)
{
    struct world *w = world_new();
    struct entry_edit e = {.mine = entry_of(w, 1, 0), .checkpoint = {.cut = 70, .upload = 7}, .whole = 70};
    struct vmobj now;

    (void)state;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(change(w, &e, &now), 0);
        assert_true(checkpoint_same(&now.newest, &e.checkpoint));
        assert_int_equal(now.before.cut, 0);
    }
    e.checkpoint = (struct checkpoint_id){.cut = 90, .epoch = UINT64_MAX, .upload = UINT32_MAX};
    e.whole = 60; /* that was known */
    assert_int_equal(change(w, &e, &now), 0);
    now = entry_now(w, NULL);
    assert_true(checkpoint_same(&now.newest, &e.checkpoint));
    assert_int_equal(now.before.cut, 70);
    assert_int_equal(now.before.upload, 7);
    assert_int_equal(now.whole, 70);
    assert_true(has_text(w, "{}"));
    e = (struct entry_edit){.mine = entry_of(w, 1, 1), .text = "{\"a\": 1}"};
    e.mine.since = 91;
    assert_int_equal(change(w, &e, &now), 0); /* to the next epoch, too */
    now = entry_now(w, NULL);
    assert_int_equal(now.epoch, 1);
    assert_int_equal(now.since, 91);
    assert_int_equal(now.newest.cut, 90);
    assert_int_equal(now.whole, 70);
    assert_true(has_text(w, "{\"a\": 1}"));
    world_free(w);
}

static void nobody_changes_what_is_not_his(void **state)
{
    struct world *w = world_new();
    struct entry_edit e = {.mine = entry_of(w, 2, 0), .text = "{\"a\": 1}"};
    const char *key;
    char name[MAP_NAME_MAX];
    struct store_req r = {.op = STORE_DELETE, .timeout_ms = 5000};
    struct vmobj now;

    (void)state;
    assert_int_equal(change(w, &e, &now), -ESTALE);
    e.mine = entry_of(w, 1, 2); /* it is not the one before */
    assert_int_equal(change(w, &e, &now), -ESTALE);
    e.mine = entry_of(w, 1, 1);
    e.text = NULL; /* only the catalog brings the next epoch */
    e.whole = 5;
    assert_int_equal(change(w, &e, &now), -ESTALE);
    assert_true(has_text(w, "{}"));
    assert_int_equal(entry_now(w, NULL).whole, 0);
    vmobj_name(name, w->f->id);
    key = name;
    r.del.keys = &key;
    r.del.nkeys = 1;
    assert_int_equal(store_wait(w->store, &r, NULL), 0);
    e.mine = entry_of(w, 1, 0);
    assert_int_equal(change(w, &e, &now), -ENOENT);
    world_free(w);
}

static void *change_text(void *arg)
{
    struct world *w = arg;
    struct entry_edit e = {.mine = entry_of(w, 1, 0), .text = "{\"a\": 1}"};
    struct vmobj now;

    w->status = change(w, &e, &now);
    return NULL;
}

static void of_two_at_once_both_are_in_it(void **state)
{
    struct world *w = world_new();
    struct entry_edit e = {.mine = entry_of(w, 1, 0), .checkpoint = {.cut = 70, .upload = 7}};
    struct vmobj now;
    pthread_t thread;

    (void)state;
    world_close(w);
    w->hold = "/vm";
    world_open(w);
    pthread_create(&thread, NULL, change_text, w);
    wait_held(w);
    assert_int_equal(change(w, &e, &now), 0);
    on_loop(w->f, open_gate, w);
    pthread_join(thread, NULL);
    assert_int_equal(w->status, 0);
    assert_int_equal(entry_now(w, NULL).newest.cut, 70);
    assert_true(has_text(w, "{\"a\": 1}"));
    world_free(w);
}

static void lose_answers(struct fixture *f, void *arg)
{
    struct world *w = arg;

    assert_int_equal(store_wrap(&w->store, "fail:op=put,how=lost,error=EIO", &f->why), 0);
}

static void an_answer_that_is_lost_is_found(void **state)
{
    struct world *w = world_new();
    struct entry_edit e = {
        .mine = entry_of(w, 1, 0), .text = "{\"a\": 1}", .checkpoint = {.cut = 70, .upload = 7}, .whole = 70};
    struct vmobj now;

    (void)state;
    on_loop(w->f, lose_answers, w);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(change(w, &e, &now), 0);
        assert_int_equal(now.newest.upload, 7);
        assert_int_equal(now.before.upload, 0);
        e.text = NULL;
        e.patient = true;
    }
    assert_true(has_text(w, "{\"a\": 1}"));
    world_free(w);
}

static void what_is_newer_than_this_program_is_refused(void **state)
{
    struct world *w = world_new();
    struct vmobj v = entry_of(w, 1, 0), found;
    uint8_t salt[AEAD_SALT_BYTES] = {1};
    struct buf *sealed = vmobj_seal(&w->master, salt, &v, "{}", 2);
    int err;

    (void)state;
    sealed->data[9]++;
    assert_null(vmobj_open(&w->master, v.id, sealed->data, sealed->len, &found, &err, &w->f->why));
    assert_int_equal(err, -ENOTSUP);
    sealed->data[9]--;
    sealed->data[100] ^= 1; /* what it says of checkpoints is sealed, too */
    assert_null(vmobj_open(&w->master, v.id, sealed->data, sealed->len, &found, &err, &w->f->why));
    assert_int_equal(err, -EBADMSG);
    buf_unref(&sealed);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_says_its_part),
        cmocka_unit_test(nobody_changes_what_is_not_his),
        cmocka_unit_test(of_two_at_once_both_are_in_it),
        cmocka_unit_test(an_answer_that_is_lost_is_found),
        cmocka_unit_test(what_is_newer_than_this_program_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
