/* links: journal */
/* What goes to the mirror beside records. Reservations: it keeps a log only with those that were there at the
 * beginning; who waits for it has an answer when it has them, or when nobody waits for it any more. And that
 * the store has what was before the first record.
 */
#include "journal_fixture.h"

#include "cut.h"
#include "link.h"
#include "mirror.h"
#include "proto_pair.h"

enum { CALLS_MAX = 8 };

/* The link: what was called waits for the test to answer it. All on the one loop. */
static struct link_call *calls[CALLS_MAX];
static unsigned ncalls;

void link_call(struct peer *p, struct link_call *call)
{
    (void)p;
    CHECK(ncalls < CALLS_MAX);
    calls[ncalls++] = call;
}

static void end_call(struct link_call *call, int status)
{
    for (unsigned i = 0; i < ncalls; i++)
        if (calls[i] == call)
            calls[i] = NULL;
    call->status = status;
    call->why = (struct why){"no"};
    call->reply = status ? NULL : buf_new(1);
    call->done(call);
}

void link_call_cancel(struct link_call *call)
{
    end_call(call, -ECANCELED);
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    (void)p, (void)type, (void)body, (void)len;
}

/* --- the mirror's owner --- */

enum { NOTHING, HAS_NOT, HAS }; /* what became of a disk's reservations */
static struct mirror *mirror;
static int told[VMLOG_DISKS];
static unsigned kept, lost;
static bool gone;

static void on_state(void *arg, bool keeps, const struct why *why)
{
    (void)arg, (void)why;
    *(keeps ? &kept : &lost) += 1;
}

static void on_reserved(void *arg, bool has)
{
    int *one = arg;

    CHECK(*one == NOTHING);
    *one = has ? HAS : HAS_NOT;
}

static void on_gone(void *arg)
{
    (void)arg;
    gone = true;
}

static void give(uint8_t disk)
{
    static const uint8_t state[] = "reservations";

    mirror_reserve(mirror, disk, state, sizeof state, on_reserved, &told[disk]);
}

static void begin_stream(struct fixture *f)
{
    static const uint8_t writer[16];
    struct mirror_conf conf = {.loop = f->loop,
                               .link_loop = f->loop,
                               .log = f->log,
                               .writer = writer,
                               .vm = "vm",
                               .state = on_state};
    uint64_t first;

    memcpy(conf.id, f->id, sizeof conf.id);
    mirror = mirror_new(&conf, &first);
}

static void begin_with_two(struct fixture *f, void *arg)
{
    (void)arg;
    begin_stream(f);
    give(3);
    give(7);
}

static void give_one(struct fixture *f, void *arg)
{
    (void)f;
    give(*(const uint8_t *)arg);
}

struct answer {
    unsigned call;
    int status;
};

static void answer_it(struct fixture *f, void *arg)
{
    const struct answer *a = arg;

    (void)f;
    CHECK(a->call < ncalls && calls[a->call]);
    end_call(calls[a->call], a->status);
}

static void stop_it(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    mirror_stop(mirror, false, on_gone, NULL);
}

static void nothing(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
}

/* What was posted, and what that posted. */
static void settle(struct fixture *f)
{
    for (int i = 0; i < 8; i++)
        on_loop(f, nothing, NULL);
}

static void answer(struct fixture *f, unsigned call, int status)
{
    on_loop(f, answer_it, &(struct answer){call, status});
    settle(f);
}

/* Calls 0 to 2: BEGIN, and two disks'. */
static struct fixture *begin(void)
{
    struct fixture *f = fixture_new();

    fixture_open(f);
    ncalls = kept = lost = 0;
    gone = false;
    memset(told, 0, sizeof told);
    on_loop(f, begin_with_two, NULL);
    settle(f);
    assert_int_equal(ncalls, 3);
    assert_int_equal(calls[0]->type, PROTO_MIRROR_BEGIN);
    for (unsigned i = 1; i < 3; i++) {
        struct pair_reserve r;

        assert_int_equal(calls[i]->type, PROTO_MIRROR_RESERVE);
        assert_int_equal(pair_get_reserve(calls[i]->body->data, calls[i]->body->len, &r), 0);
        assert_int_equal(r.number, i - 1);
        assert_int_equal(r.disk, i == 1 ? 3 : 7);
        assert_memory_equal(r.vm, fixture_id, sizeof r.vm);
        assert_string_equal((const char *)r.state, "reservations");
    }
    return f;
}

static void end(struct fixture *f)
{
    on_loop(f, stop_it, NULL);
    settle(f);
    assert_true(gone);
    fixture_close(f);
    fixture_free(f);
}

static void it_keeps_nothing_without_them(void **state)
{
    struct fixture *f = begin();
    uint8_t disk = 5;

    (void)state;
    answer(f, 0, 0);
    answer(f, 1, 0);
    assert_int_equal(told[3], HAS);
    assert_int_equal(kept, 0);
    answer(f, 2, 0);
    assert_int_equal(told[7], HAS);
    assert_int_equal(kept, 1);
    on_loop(f, give_one, &disk); /* a change, later */
    settle(f);
    assert_int_equal(told[5], NOTHING);
    answer(f, 3, 0);
    assert_int_equal(told[5], HAS);
    assert_int_equal(kept, 1);
    assert_int_equal(lost, 0);
    end(f);
}

static void what_is_refused_waits_for_the_end(void **state)
{
    struct fixture *f = begin();
    uint8_t disk = 5;

    (void)state;
    answer(f, 0, 0);
    answer(f, 1, -EIO);
    assert_int_equal(lost, 1);
    assert_int_equal(told[3], NOTHING);
    on_loop(f, give_one, &disk); /* it is not even sent */
    settle(f);
    assert_int_equal(ncalls, 3);
    end(f); /* one was refused, one is without an answer, one was not sent */
    assert_int_equal(told[3], HAS_NOT);
    assert_int_equal(told[7], HAS_NOT);
    assert_int_equal(told[5], HAS_NOT);
    assert_int_equal(kept, 0);
    assert_int_equal(lost, 1);
}

/* --- what was before the first record ---*/

static unsigned joined;

static void on_joined(struct mirror_join *j)
{
    (void)j;
    joined++;
}

static void begin_behind_four(struct fixture *f, void *arg)
{
    (void)arg;
    cut_resume(f->log, 4);
    begin_stream(f);
}

static void join_through(struct fixture *f, void *arg)
{
    static struct mirror_join joins[3];
    static unsigned n;
    struct mirror_join *j = &joins[n++ % 3];

    (void)f;
    *j = (struct mirror_join){.done = on_joined};
    mirror_join(mirror, j, *(uint64_t *)arg);
}

static void who_says_what_was_before_waits_for_the_answer(void **state)
{
    struct fixture *f = fixture_new();
    uint64_t less = 3, all = 4;
    struct pair_mark m;

    (void)state;
    fixture_open(f);
    ncalls = joined = 0;
    gone = false;
    on_loop(f, begin_behind_four, NULL);
    settle(f);
    on_loop(f, join_through, &less); /* of another stream: it is not said */
    settle(f);
    assert_int_equal(ncalls, 1);
    assert_int_equal(joined, 1);
    on_loop(f, join_through, &all);
    settle(f);
    assert_int_equal(ncalls, 2);
    assert_int_equal(calls[1]->type, PROTO_MIRROR_TRIM);
    assert_int_equal(pair_get_mark(calls[1]->body->data, calls[1]->body->len, &m), 0);
    assert_int_equal(m.seq, 4);
    assert_int_equal(joined, 1);
    answer(f, 0, 0);
    answer(f, 1, 0);
    assert_int_equal(joined, 2);
    on_loop(f, join_through, &all);
    settle(f);
    assert_int_equal(joined, 2);
    end(f); /* nobody answers */
    assert_int_equal(joined, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_keeps_nothing_without_them),
        cmocka_unit_test(what_is_refused_waits_for_the_end),
        cmocka_unit_test(who_says_what_was_before_waits_for_the_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
