/* links: journal */
/* What an edge keeps for the other of its pair: a stream that follows an older one of the same VM waits until
 * that is closed, with all that comes right behind its beginning. And reservations.
 */
#include "journal_fixture.h"

#include "keep.h"
#include "proto_pair.h"
#include "record.h"
#include "vm_value.h"

enum { ASKED_MAX = 8 };

/* A request, as if from the link. */
struct asked {
    struct link_request request;
    struct buf *body;
    int status;
    sem_t answered;
};

static struct keep *keep;
static struct asked asked[ASKED_MAX];
static unsigned nasked;
static sem_t closed;

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    struct asked *a = container_of(*r, struct asked, request);

    (void)why, (void)iov, (void)niov;
    *r = NULL;
    a->status = status;
    sem_post(&a->answered);
}

static int answer(unsigned i)
{
    while (sem_wait(&asked[i].answered) < 0)
        ;
    buf_unref(&asked[i].body);
    sem_destroy(&asked[i].answered);
    return asked[i].status;
}

static void ask(uint8_t type, struct buf *body)
{
    struct asked *a = &asked[nasked++];

    sem_init(&a->answered, 0, 0);
    a->body = body;
    a->request = (struct link_request){.type = type, .body = body->data, .len = (uint32_t)body->len};
    keep_request(keep, &a->request);
}

/* --- room is made at once --- */

struct room {
    struct task task;
    void (*done)(void *arg, int status, const struct why *);
    void *arg;
};

static void on_room(struct task *t)
{
    struct room *r = container_of(t, struct room, task);

    r->done(r->arg, 0, NULL);
    free(r);
}

static void make_room(void *arg, const uint8_t id[VMLOG_ID_BYTES],
                      void (*done)(void *arg, int status, const struct why *), void *done_arg)
{
    struct fixture *f = arg;
    struct room *r = xcalloc(1, sizeof *r);

    (void)id;
    *r = (struct room){.task = {.run = on_room}, .done = done, .arg = done_arg};
    loop_post(f->loop, &r->task);
}

/* --- on the loop --- */

static void begin_stream(uint64_t stream, uint64_t first)
{
    struct pair_begin b = {.stream = stream, .first = first, .name = "vm"};

    memcpy(b.vm, fixture_id, sizeof b.vm);
    ask(PROTO_MIRROR_BEGIN, pair_put_begin(&b));
}

static void put_zeroes(uint64_t stream, uint64_t seq)
{
    struct pair_piece piece = {.seq = seq, .nsectors = 8, .type = RECORD_ZERO};
    struct buf *b = buf_new(PAIR_PUT_HEAD_BYTES + PAIR_PIECE_BYTES);

    pair_put_head(b->data, fixture_id, stream, 0);
    pair_put_piece(b->data + PAIR_PUT_HEAD_BYTES, &piece);
    ask(PROTO_MIRROR_PUT, b);
}

static void first_stream(struct fixture *f, void *arg)
{
    struct keep_conf conf = {.journal = f->journal,
                             .main = f->loop,
                             .loops = &f->loop,
                             .nloops = 1,
                             .make_room = make_room,
                             .arg = f};

    (void)arg;
    keep = keep_new(&conf);
    keep_reopen(keep);
    nasked = 0;
    begin_stream(1, 5);
    put_zeroes(1, 5);
}

static void second_stream(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    begin_stream(2, 9);
    put_zeroes(2, 9);
    put_zeroes(1, 6);
}

static void third_stream(struct fixture *f, void *arg)
{
    second_stream(f, arg);
    begin_stream(3, 20);
    put_zeroes(3, 20);
}

static void on_closed(void *arg)
{
    (void)arg;
    sem_post(&closed);
}

static void close_it(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    keep_close(keep, on_closed, NULL);
}

static void free_it(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    keep_free(&keep);
}

static struct fixture *begin(void)
{
    struct fixture *f = fixture_new();

    sem_init(&closed, 0, 0);
    if (fixture_open_journal(f) != 0)
        fail_msg("%s", f->why.text);
    on_loop(f, first_stream, NULL);
    assert_int_equal(answer(0), 0);
    assert_int_equal(answer(1), 0);
    return f;
}

/* The last record of what was kept is that one. */
static void end(struct fixture *f, uint64_t last)
{
    while (sem_wait(&closed) < 0)
        ;
    on_loop(f, free_it, NULL);
    if (vmlog_open(&f->log, f->journal, f->loop, f->id, "vm", &f->why) != 0)
        fail_msg("%s", f->why.text);
    assert_int_equal(vmlog_last(f->log), last);
    fixture_close(f);
    fixture_free(f);
}

static void a_newer_stream_waits_for_the_older(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, second_stream, NULL);
    assert_int_equal(answer(2), 0);
    assert_int_equal(answer(3), 0);
    assert_int_equal(answer(4), -ESTALE);
    on_loop(f, close_it, NULL);
    end(f, 9);
}

static void of_two_newer_ones_the_last_is_kept(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, third_stream, NULL);
    assert_int_equal(answer(2), -ESTALE);
    assert_int_equal(answer(3), -ESTALE);
    assert_int_equal(answer(4), -ESTALE);
    assert_int_equal(answer(5), 0);
    assert_int_equal(answer(6), 0);
    on_loop(f, close_it, NULL);
    end(f, 20);
}

static void close_behind_it(struct fixture *f, void *arg)
{
    second_stream(f, arg);
    close_it(f, arg);
}

static void what_waits_is_closed_with_the_rest(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, close_behind_it, NULL);
    assert_int_equal(answer(2), -ESTALE);
    assert_int_equal(answer(3), -ESTALE);
    assert_int_equal(answer(4), -ESTALE);
    end(f, 5);
}

/* --- reservations --- */

static void reserve(uint64_t stream, uint64_t number, uint8_t disk, const char *state)
{
    struct pair_reserve r = {.stream = stream,
                             .number = number,
                             .disk = disk,
                             .state = (const uint8_t *)state,
                             .len = (uint32_t)strlen(state)};

    memcpy(r.vm, fixture_id, sizeof r.vm);
    ask(PROTO_MIRROR_RESERVE, pair_put_reserve(&r));
}

static int on_value(void *arg, uint8_t number, const void *value, size_t n)
{
    char *all = arg;

    sprintf(all + strlen(all), "%u=%.*s ", number, (int)n, (const char *)value);
    return 0;
}

/* What is kept of all disks. */
static const char *reserved(struct fixture *f)
{
    static char all[200];

    all[0] = 0;
    assert_int_equal(vm_value_each(f->journal, f->id, on_value, all, &f->why), 0);
    return all;
}

static void some(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    reserve(1, 0, 0, "one");
    reserve(1, 1, 63, "two");
    reserve(1, 2, 0, "three");
    reserve(1, 0, 0, "one"); /* its answer was lost */
}

static void one_of_a_newer_stream(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    begin_stream(2, 9);
    reserve(2, 0, 7, "four");
}

static void say_it_is_gone(struct fixture *f, void *arg)
{
    struct pair_mark m = {.stream = 2};
    struct buf *b;

    (void)f, (void)arg;
    memcpy(m.vm, fixture_id, sizeof m.vm);
    b = pair_put_mark(&m);
    keep_notice(keep, PROTO_MIRROR_END, b->data, b->len);
    buf_unref(&b);
}

static void reservations_are_kept(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, some, NULL);
    for (unsigned i = 2; i < 6; i++)
        assert_int_equal(answer(i), 0);
    assert_string_equal(reserved(f), "0=three 63=two ");
    on_loop(f, one_of_a_newer_stream, NULL);
    assert_int_equal(answer(6), 0);
    assert_int_equal(answer(7), 0);
    assert_string_equal(reserved(f), "0=three 63=two 7=four "); /* of the others nothing new was said */
    for (unsigned i = 0; i < 50; i++)                           /* again also while it is erased */
        on_loop(f, say_it_is_gone, NULL);
    on_loop(f, close_it, NULL);
    while (sem_wait(&closed) < 0)
        ;
    assert_string_equal(reserved(f), "");
    on_loop(f, free_it, NULL);
    fixture_close(f);
    fixture_free(f);
}

static void one_is_missing(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    reserve(1, 1, 0, "two");
    reserve(1, 0, 0, "one");
}

static void one_too_short(struct fixture *f, void *arg)
{
    struct buf *b = buf_new(PAIR_ID_BYTES + 8 + 8 + 8);

    (void)f, (void)arg;
    memset(b->data, 0, b->len);
    memcpy(b->data, fixture_id, PAIR_ID_BYTES);
    b->data[PAIR_ID_BYTES + 7] = 1; /* the stream */
    ask(PROTO_MIRROR_RESERVE, b);
}

static void reservations_that_make_no_sense(void **state)
{
    struct fixture *f = begin();

    (void)state;
    on_loop(f, one_is_missing, NULL);
    assert_int_equal(answer(2), -EPROTO);
    assert_int_equal(answer(3), -ESTALE); /* the stream is over */
    assert_string_equal(reserved(f), "");
    on_loop(f, close_it, NULL);
    end(f, 5);
    f = begin();
    on_loop(f, one_too_short, NULL);
    assert_int_equal(answer(2), -EBADMSG);
    on_loop(f, close_it, NULL);
    end(f, 5);
}

static void end_one(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    CHECK(keep_end(keep, fixture_id, on_closed, NULL));
    put_zeroes(1, 6);
}

static void end_none(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    CHECK(!keep_end(keep, fixture_id, on_closed, NULL));
}

static void one_that_ends_stays_on_disk(void **state)
{
    struct fixture *f = begin();
    uint8_t writer[16] = {0};
    uint64_t from;
    bool joined;

    (void)state;
    on_loop(f, end_one, NULL);
    assert_int_equal(answer(2), -ESTALE);
    while (sem_wait(&closed) < 0)
        ;
    on_loop(f, end_none, NULL);
    assert_int_equal(keep_look(f->journal, f->id, writer, &from, &joined, &f->why), 0);
    assert_int_equal(from, 4);
    on_loop(f, close_it, NULL);
    end(f, 5);
}

/* --- what was before its first record --- */

static bool is_joined(struct fixture *f)
{
    uint8_t writer[16] = {0};
    uint64_t from;
    bool joined;

    assert_int_equal(keep_look(f->journal, f->id, writer, &from, &joined, &f->why), 0);
    return joined;
}

static void trim(struct fixture *f, void *cut)
{
    struct pair_mark m = {.stream = 1, .seq = *(uint64_t *)cut};

    memcpy(m.vm, f->id, sizeof m.vm);
    ask(PROTO_MIRROR_TRIM, pair_put_mark(&m));
}

/* Of a newer stream it has to be said again. */
static void what_the_store_has_of_it_is_written_down(void **state)
{
    struct fixture *f = begin();
    uint64_t less = 3, all = 4;

    (void)state;
    on_loop(f, trim, &less);
    assert_int_equal(answer(2), 0);
    assert_false(is_joined(f));
    on_loop(f, trim, &all);
    assert_int_equal(answer(3), 0);
    assert_true(is_joined(f));
    on_loop(f, second_stream, NULL);
    assert_int_equal(answer(4), 0);
    assert_int_equal(answer(5), 0);
    assert_int_equal(answer(6), -ESTALE);
    assert_false(is_joined(f));
    on_loop(f, close_it, NULL);
    end(f, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newer_stream_waits_for_the_older),
        cmocka_unit_test(of_two_newer_ones_the_last_is_kept),
        cmocka_unit_test(what_waits_is_closed_with_the_rest),
        cmocka_unit_test(reservations_are_kept),
        cmocka_unit_test(reservations_that_make_no_sense),
        cmocka_unit_test(one_that_ends_stays_on_disk),
        cmocka_unit_test(what_the_store_has_of_it_is_written_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
