/* links: cache journal store */
/* The other edge is taken in: each VM says once that its log is kept there, whichever stream that is, for one
 * that was about to be handed over, and stays, begins another. And it goes away.
 */
#include "commit_fixture.h"
#include "no_link_fixture.h"

#include "link.h"
#include "mirror.h"
#include "pair_impl.h"
#include "proto_pair.h"
#include "vms_pair_impl.h"

enum { ROUND = 7 };

/* --- a link: who begins a stream waits for the test's answer --------------------------------------------*/

static struct link_call *begins; /* the one that is out */

static void end_call(struct link_call *c, int status)
{
    if (c == begins)
        begins = NULL;
    c->status = status;
    c->reply = status ? NULL : buf_new(1);
    c->done(c);
}

void link_call(struct peer *p, struct link_call *c)
{
    (void)p;
    CHECK(c->type == PROTO_MIRROR_BEGIN && !begins);
    begins = c;
}

void link_call_cancel(struct link_call *c)
{
    end_call(c, -ECANCELED);
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    (void)p, (void)type, (void)body, (void)len;
    CHECK(false);
}

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    (void)r, (void)status, (void)why, (void)iov, (void)niov;
    CHECK(false);
}

/* --- an edge with a VM ----------------------------------------------------------------------------------*/

static struct edge {
    struct world *w;
    struct vms vms;
    struct pair arbiter;
    struct vms_pair pair;
    struct vm vm;
    unsigned ended; /* how often what initiators have by the other edge */
} e;

static void on_paths(struct vm *vm, bool other)
{
    CHECK(vm == &e.vm);
    e.ended += !other;
}

static void begin_taking_in(struct fixture *f, void *arg)
{
    const unsigned *words = arg;

    (void)f;
    e.arbiter.preparing = true;
    e.pair.mirroring = true;
    e.pair.round = ROUND;
    e.pair.left = *words;
    vms_pair_send(&e.pair, &e.vm, MIRROR_IT, ROUND);
}

static void new_edge(unsigned words)
{
    struct world *w = world_new();

    e = (struct edge){
        .w = w,
        .vms.conf = {.main = w->f->loop, .writer = {1}, .paths = on_paths},
        .pair.age_ms = 1000,
    };
    e.pair.vms = &e.vms;
    e.pair.pair = &e.arbiter;
    e.vms.pair = &e.pair;
    e.vm = (struct vm){.spec.name = "vm", .loop = w->f->loop, .log = w->f->log, .commit = w->commit};
    memcpy(e.vm.spec.id, w->f->id, sizeof e.vm.spec.id);
    e.vm.in.vms = &e.vms;
    TAILQ_INIT(&e.vm.in.waiting);
    atomic_init(&e.vm.refs, 1);
    TAILQ_INIT(&e.vms.list);
    TAILQ_INSERT_TAIL(&e.vms.list, &e.vm, in.entry);
    TAILQ_INIT(&e.pair.rooms);
    TAILQ_INIT(&e.pair.leaving);
    on_loop(w->f, begin_taking_in, &words);
}

static void nothing(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
}

/* What was posted, and what that posted. */
static void settle(void)
{
    for (int i = 0; i < 12; i++)
        on_loop(e.w->f, nothing, NULL);
}

static void answer(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    CHECK(begins);
    end_call(begins, 0);
}

static void is_kept(void)
{
    settle();
    on_loop(e.w->f, answer, NULL);
    settle();
}

static void on_left(void *arg)
{
    (void)arg;
}

/* As when all that was written before is in the store. */
static void end_stream(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    mirror_stop(e.vm.mirror, false, on_left, NULL);
    e.vm.mirror = NULL;
}

static void stays(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_pair_mirror(&e.vms, &e.vm);
}

static void is_not_handed_over(void)
{
    settle();
    on_loop(e.w->f, end_stream, NULL);
    on_loop(e.w->f, stays, NULL);
    settle();
}

static void fence(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    atomic_store(&e.vm.fenced, true);
}

static void give_up_taking_in(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    e.pair.mirroring = e.arbiter.preparing = false;
}

static void link_down(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_pair_down(&e.pair);
}

static void is_out_of_reach(void)
{
    on_loop(e.w->f, link_down, NULL);
    settle();
}

static void look(struct fixture *f, void *arg)
{
    (void)f;
    *(bool *)arg = e.arbiter.prepared;
}

static bool is_prepared(void)
{
    bool prepared;

    on_loop(e.w->f, look, &prepared);
    return prepared;
}

static void end_edge(void)
{
    if (e.vm.mirror)
        on_loop(e.w->f, end_stream, NULL);
    settle();
    assert_null(begins);
    world_free(e.w);
}

/* --- the tests ------------------------------------------------------------------------------------------*/

enum { ONE_VM = 2, TWO_VMS = 4 }; /* words */

static void a_stream_that_is_begun_anew_counts(void **state)
{
    (void)state;
    new_edge(ONE_VM);
    is_not_handed_over();
    assert_false(is_prepared());
    is_kept();
    assert_true(is_prepared());
    end_edge();
}

static void but_only_if_the_one_before_did_not(void **state)
{
    (void)state;
    new_edge(TWO_VMS);
    is_kept();
    assert_int_equal(e.pair.left, 2);
    is_not_handed_over();
    is_kept();
    is_not_handed_over();
    is_kept();
    assert_false(is_prepared());
    assert_int_equal(e.pair.left, 2);
    end_edge();
}

static void one_that_is_another_edges_by_then_is_not_waited_for(void **state)
{
    (void)state;
    new_edge(ONE_VM);
    on_loop(e.w->f, fence, NULL);
    is_not_handed_over();
    assert_true(is_prepared());
    end_edge();
}

/* What the other edge forwards while this one is the only member ends with its run, of which only the link
 * tells; a member's does not, for the same run may come back.
 */
static void what_came_by_an_edge_that_is_no_member_ends_with_the_link(void **state)
{
    (void)state;
    new_edge(ONE_VM);
    is_kept();
    is_out_of_reach();
    assert_int_equal(e.ended, 0);
    on_loop(e.w->f, give_up_taking_in, NULL);
    is_out_of_reach();
    assert_int_equal(e.ended, 1);
    end_edge();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_that_is_begun_anew_counts),
        cmocka_unit_test(but_only_if_the_one_before_did_not),
        cmocka_unit_test(one_that_is_another_edges_by_then_is_not_waited_for),
        cmocka_unit_test(what_came_by_an_edge_that_is_no_member_ends_with_the_link),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
