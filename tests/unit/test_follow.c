/* links: journal */
/* A log that another journal must have, too: nothing is seen, acknowledged or stable before both have it; and
 * a log that is kept for another edge: its numbers are those that came.
 */
#include "cut.h"
#include "journal_fixture.h"

enum { WRITES = 8 };

static struct follow {
    struct vmlog_follower follower;
    uint64_t appended, synced; /* what it was told of last */
    struct vmlog_append writes[WRITES];
    struct buf *data;
    unsigned visible, done;
    struct vmlog_flush flush;
    bool flushed;
    uint64_t first;
} w;

static void on_append(struct vmlog_follower *follower, const struct vmlog_append *a)
{
    (void)follower;
    assert_int_equal(a->seq, w.appended ? w.appended + 1 : a->seq);
    w.appended = a->seq;
}

static void on_sync(struct vmlog_follower *follower, uint64_t seq)
{
    assert_true(seq <= follower->has);
    w.synced = seq;
}

static void on_visible(struct vmlog_append *a)
{
    (void)a;
    w.visible++;
}

static void on_done(struct vmlog_append *a)
{
    (void)a;
    w.done++;
}

static void on_flush(struct vmlog_flush *f)
{
    (void)f;
    w.flushed = true;
}

static void write_one(struct fixture *f, unsigned i, bool fua)
{
    w.writes[i] = (struct vmlog_append){.type = RECORD_WRITE,
                                        .lba = i,
                                        .nsectors = 1,
                                        .fua = fua,
                                        .data = w.data,
                                        .done = on_done,
                                        .visible = on_visible};
    vmlog_append(f->log, &w.writes[i]);
}

static void follow(struct fixture *f, void *arg)
{
    (void)arg;
    w.first = vmlog_follow(f->log, &w.follower);
}

static void write_three(struct fixture *f, void *arg)
{
    (void)arg;
    write_one(f, 0, false);
    write_one(f, 1, false);
    write_one(f, 2, true);
}

static void nothing(struct fixture *f, void *arg)
{
    (void)f;
    (void)arg;
}

/* Whatever our own journal still has to do for what was written is done. */
static void settle(struct fixture *f)
{
    struct why why;

    assert_int_equal(journal_meta_put(f->journal, "settle", "x", 1, &why), 0);
    on_loop(f, nothing, NULL);
    on_loop(f, nothing, NULL);
}

static void has(struct fixture *f, void *arg)
{
    w.follower.has = *(const uint64_t *)arg;
    vmlog_followed(f->log);
}

static void is_stable(struct fixture *f, void *arg)
{
    w.follower.stable = *(const uint64_t *)arg;
    vmlog_followed(f->log);
}

static void flush_it(struct fixture *f, void *arg)
{
    (void)arg;
    w.flush = (struct vmlog_flush){.done = on_flush};
    vmlog_flush(f->log, &w.flush);
}

static void unfollow(struct fixture *f, void *arg)
{
    (void)arg;
    vmlog_follow(f->log, NULL);
}

static struct fixture *begin(void)
{
    struct fixture *f = fixture_new();

    fixture_open(f);
    memset(&w, 0, sizeof w);
    w.follower.append = on_append;
    w.follower.sync = on_sync;
    w.data = buf_new(512);
    memset(w.data->data, 7, 512);
    return f;
}

static void end(struct fixture *f)
{
    on_loop(f, close_log, NULL);
    journal_close(&f->journal);
    buf_unref(&w.data);
    fixture_free(f);
}

static void nothing_counts_before_both_have_it(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, follow, NULL);
    assert_int_equal(w.first, 1);
    on_loop(f, write_three, NULL);
    settle(f);
    assert_int_equal(w.appended, 3);
    assert_int_equal(w.visible, 0);
    assert_int_equal(vmlog_last(f->log), 0);
    on_loop(f, has, &(uint64_t){1});
    settle(f);
    assert_int_equal(w.visible, 1);
    assert_int_equal(w.done, 1);
    on_loop(f, has, &(uint64_t){3});
    settle(f);
    assert_int_equal(w.visible, 3);
    assert_int_equal(w.done, 2); /* the third wants to be stable in both */
    assert_int_equal(w.synced, 3);
    on_loop(f, is_stable, &(uint64_t){3});
    settle(f);
    assert_int_equal(w.done, 3);
    end(f);
}

static void a_flush_waits_for_both(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, follow, NULL);
    on_loop(f, write_three, NULL);
    on_loop(f, has, &(uint64_t){2});
    settle(f);
    on_loop(f, flush_it, NULL);
    settle(f);
    assert_int_equal(w.synced, 2);
    assert_false(w.flushed);
    on_loop(f, is_stable, &(uint64_t){2});
    settle(f);
    assert_true(w.flushed);
    assert_int_equal(w.done, 2);
    on_loop(f, unfollow, NULL);
    settle(f);
    assert_int_equal(w.done, 3);
    end(f);
}

static void nobody_waits_for_who_is_gone(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, write_three, NULL);
    settle(f);
    assert_int_equal(w.done, 3);
    on_loop(f, follow, NULL);
    assert_int_equal(w.first, 4); /* what was before is not its business */
    on_loop(f, flush_it, NULL);
    settle(f);
    assert_true(w.flushed);
    memset(w.writes, 0, sizeof w.writes);
    w.done = 0;
    on_loop(f, write_three, NULL);
    settle(f);
    assert_int_equal(w.done, 0);
    on_loop(f, unfollow, NULL);
    settle(f);
    assert_int_equal(w.done, 3);
    assert_int_equal(vmlog_last(f->log), 6);
    end(f);
}

static void keep_from_five(struct fixture *f, void *arg)
{
    (void)arg;
    cut_resume(f->log, 4);
    vmlog_keep_order(f->log);
    write_three(f, NULL);
}

static void forget_six(struct fixture *f, void *arg)
{
    (void)arg;
    vmlog_forget(f->log, 6);
    vmlog_forget(f->log, 5); /* was said already */
}

static void look_at(struct fixture *f, void *arg)
{
    struct vmlog_piece pieces[4];
    uint32_t covered;
    unsigned n = vmlog_pieces(f->log, 0, 0, 3, pieces, 4, &covered);

    *(unsigned *)arg = n == 2 && pieces[0].kind == PIECE_ABSENT && pieces[0].nsectors == 2 &&
                       pieces[1].kind == PIECE_DATA && pieces[1].seq == 7;
}

static void a_kept_log_has_the_numbers_that_came(void **state)
{
    struct fixture *f = begin();
    unsigned ok = 0;

    (void)state;
    on_loop(f, keep_from_five, NULL);
    settle(f);
    assert_int_equal(w.writes[0].seq, 5);
    assert_int_equal(w.done, 3);
    on_loop(f, forget_six, NULL);
    on_loop(f, look_at, &ok);
    assert_true(ok);
    settle(f);
    on_loop(f, close_log, NULL);
    if (vmlog_open(&f->log, f->journal, f->loop, f->id, "vm", &f->why) != 0) /* taken over */
        fail_msg("%s", f->why.text);
    on_loop(f, look_at, &ok);
    assert_true(ok);
    assert_int_equal(vmlog_last(f->log), 7);
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_counts_before_both_have_it),
        cmocka_unit_test(a_flush_waits_for_both),
        cmocka_unit_test(nobody_waits_for_who_is_gone),
        cmocka_unit_test(a_kept_log_has_the_numbers_that_came),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
