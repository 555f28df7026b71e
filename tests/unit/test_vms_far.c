/* links: cache journal store */
/* VMs of the other edge that it has deleted: its word for that may be lost with it. And what was kept of its
 * VMs when this edge is out.
 */
#include "commit_fixture.h"
#include "no_link_fixture.h"

#include "keep_impl.h"
#include "link.h"
#include "pair_impl.h"
#include "proto_pair.h"
#include "vm_spec.h"
#include "vms_far.h"
#include "vms_pair_impl.h"
#include "vms_recover_impl.h"

enum { ONE = 1, OTHER = 2, BEFORE = 3 }; /* edges */

/* --- a link ---------------------------------------------------------------------------------------------*/

static unsigned notices;
static struct buf *asked; /* of the request, until it is answered */
static sem_t replied;

void link_call(struct peer *p, struct link_call *c)
{
    (void)p, (void)c;
    CHECK(false);
}

void link_call_cancel(struct link_call *c)
{
    (void)c;
    CHECK(false);
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    (void)p, (void)body, (void)len;
    CHECK(type == PROTO_MIRROR_END);
    notices++;
}

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    (void)why, (void)iov, (void)niov;
    CHECK(status == 0);
    buf_unref(&asked);
    free(*r);
    *r = NULL;
    sem_post(&replied);
}

/* --- an edge --------------------------------------------------------------------------------------------*/

static struct edge {
    struct world *w;
    struct vms *vms;
    struct lease_gate gate;
    struct vms_pair *pair;
    struct vm_spec spec; /* of a VM of the other edge */
    sem_t done;
} e;

static void wait_sem(sem_t *s)
{
    while (sem_wait(s) < 0)
        ;
}

static void on_refused(void *arg, const struct why *why)
{
    (void)arg, (void)why;
    CHECK(false);
}

/* It does nothing by itself. */
static void make_pair(struct fixture *f, void *arg)
{
    struct pair_conf conf = {.loop = f->loop,
                             .store = e.w->store,
                             .master = e.w->master,
                             .name = "zone",
                             .self = "zone-1",
                             .other = "zone-2",
                             .writer = {ONE},
                             .lease_ns = UINT64_C(3000000000),
                             .gate = &e.gate};

    (void)arg;
    e.pair = vms_pair_new(e.vms, &conf, on_refused, NULL);
    timer_stop(&e.pair->pair->timer);
    e.pair->pair->role = PAIR_OUT;
    keep_reopen(e.pair->keep);
}

static void new_edge(void)
{
    struct vms_conf conf;

    e = (struct edge){.w = world_new(),
                      .spec = {.name = "web-1",
                               .iqn = "iqn.2026-11.org.isthmus:web-1",
                               .id = "another VM's id",
                               .storage = WB_CLOUD_PERSIST}};
    sem_init(&e.done, 0, 0);
    sem_init(&replied, 0, 0);
    notices = 0;
    conf = (struct vms_conf){.journal = e.w->f->journal,
                             .main = e.w->f->loop,
                             .loops = &e.w->f->loop,
                             .nloops = 1,
                             .stores = &e.w->store,
                             .worker = e.w->worker,
                             .master = e.w->master,
                             .writer = {ONE},
                             .commit_age_ms = 3600000,
                             .gate = &e.gate};
    if (vms_open(&e.vms, &conf, &e.w->f->why) != 0)
        fail_msg("%s", e.w->f->why.text);
    on_loop(e.w->f, make_pair, NULL);
}

static void on_done(void *arg)
{
    (void)arg;
    sem_post(&e.done);
}

static void stop_pair(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_pair_stop(e.pair, on_done, NULL);
}

static void close_edge(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_close(e.vms, on_done, NULL);
}

static void free_pair(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_pair_free(&e.pair);
}

/* What was kept is closed, and erased if its VM is no more. */
static void end_pair(void)
{
    on_loop(e.w->f, stop_pair, NULL);
    wait_sem(&e.done);
}

static void end_edge(void)
{
    on_loop(e.w->f, close_edge, NULL);
    wait_sem(&e.done);
    on_loop(e.w->f, free_pair, NULL);
    world_free(e.w);
    sem_destroy(&e.done);
    sem_destroy(&replied);
}

static struct vm_store store_of(const uint8_t *writer)
{
    return (struct vm_store){
        .store = e.w->store, .master = &e.w->master, .writer = writer, .random = e.w->f->loop};
}

static void put_by(uint8_t edge, bool deleting)
{
    const uint8_t writer[LOGOBJ_WRITER_BYTES] = {edge};
    struct vm_store s = store_of(writer);

    assert_int_equal(vm_store_create(&s, &e.spec, &e.w->f->why), 0); /* says that it is being deleted */
    if (!deleting)
        assert_int_equal(vm_store_change(&s, &e.spec, &e.w->f->why), 0);
}

static void put_theirs(bool deleting)
{
    put_by(OTHER, deleting);
}

static void begin_far(struct fixture *f, void *arg)
{
    struct vm theirs = {.spec = e.spec, .loop = f->loop, .in.vms = e.vms};
    struct pair_begin b = {.stream = 1, .first = 1, .writer = {OTHER}, .name = "web-1"};
    struct link_request *r = xcalloc(1, sizeof *r);

    (void)arg;
    vms_far_adopt(e.vms, &theirs);
    memcpy(b.vm, e.spec.id, sizeof b.vm);
    asked = pair_put_begin(&b);
    r->type = PROTO_MIRROR_BEGIN;
    r->body = asked->data;
    r->len = (uint32_t)asked->len;
    vms_pair_request(e.pair, r);
}

/* The other edge has a VM, which is exported here, too, and its log is kept. */
static void hear_of_it(void)
{
    on_loop(e.w->f, begin_far, NULL);
    wait_sem(&replied);
}

static void taken_in(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    e.pair->pair->role = PAIR_BOTH;
    e.pair->pair->conf.both(e.pair->pair->conf.arg);
}

static void nothing(struct work *w)
{
    (void)w;
}

static void nothing_done(struct work *w)
{
    (void)w;
    sem_post(&e.done);
}

/* And the worker has done what it had by then. */
static void become_member(void)
{
    struct work w = {.run = nothing, .done = nothing_done};

    on_loop(e.w->f, taken_in, NULL);
    worker_do(e.w->worker, e.w->f->loop, &w);
    wait_sem(&e.done);
}

static void look(struct fixture *f, void *arg)
{
    (void)f;
    *(bool *)arg = vms_find_exported(e.vms, "web-1") != NULL;
}

static bool is_exported(void)
{
    bool is;

    on_loop(e.w->f, look, &is);
    return is;
}

static bool is_kept(void)
{
    const uint8_t writer[LOGOBJ_WRITER_BYTES] = {OTHER};
    uint64_t from;
    bool joined;

    return keep_look(e.w->f->journal, e.spec.id, writer, &from, &joined, &e.w->f->why) == 0;
}

/* --- the tests ------------------------------------------------------------------------------------------*/

static void one_that_is_there_stays(void **state)
{
    (void)state;
    new_edge();
    put_theirs(false);
    hear_of_it();
    become_member();
    assert_true(is_exported());
    end_pair();
    assert_true(is_kept());
    end_edge();
}

static void one_without_an_entry_goes(void **state)
{
    (void)state;
    new_edge();
    hear_of_it();
    become_member();
    assert_false(is_exported());
    end_pair();
    assert_false(is_kept());
    end_edge();
}

static void so_does_one_that_is_being_deleted(void **state)
{
    (void)state;
    new_edge();
    put_theirs(true);
    hear_of_it();
    become_member();
    assert_false(is_exported());
    end_pair();
    assert_false(is_kept());
    end_edge();
}

static void delete_and_take_in(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    e.pair->pair->role = PAIR_SOLE;
    vms_pair_gone(e.pair, e.spec.id);
    CHECK(notices == 0); /* nobody is there to be told */
    e.pair->pair->conf.prepare(e.pair->pair->conf.arg);
}

/* Also by an edge that has no VM left. */
static void what_was_deleted_is_said_to_who_is_taken_in(void **state)
{
    (void)state;
    new_edge();
    on_loop(e.w->f, delete_and_take_in, NULL);
    assert_int_equal(notices, 1);
    end_pair();
    end_edge();
}

static void be_out(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    e.pair->pair->conf.out(e.pair->pair->conf.arg);
}

struct purge {
    bool purging, failed;
};

static void look_at_purge(struct fixture *f, void *arg)
{
    (void)f;
    *(struct purge *)arg = (struct purge){e.pair->purging, e.pair->purge_failed};
}

static struct purge purge_now(void)
{
    struct purge now;

    on_loop(e.w->f, look_at_purge, &now);
    return now;
}

/* As of a journal whose disk is full at that moment. */
static void what_was_kept_is_removed_when_that_works_again(void **state)
{
    static const char damaged[] = "mirror/no id";

    (void)state;
    new_edge();
    assert_int_equal(journal_meta_put(e.w->f->journal, damaged, "", 0, &e.w->f->why), 0);
    on_loop(e.w->f, be_out, NULL);
    while (!purge_now().failed)
        sched_yield();
    assert_true(purge_now().purging);
    assert_int_equal(journal_meta_delete(e.w->f->journal, damaged, &e.w->f->why), 0);
    while (purge_now().purging)
        sched_yield();
    hear_of_it(); /* its log is kept */
    end_pair();
    end_edge();
}

/* --- what is lost when it is made the only member by force ----------------------------------------------*/

static struct vms_loss told[2];
static size_t ntold;

static void on_losses(void *arg, int status, const struct vms_losses *losses, const struct why *why)
{
    (void)arg, (void)why;
    CHECK(status == 0 && losses->n <= 2);
    ntold = losses->n;
    memcpy(told, losses->list, ntold * sizeof *told);
    sem_post(&e.done);
}

static void ask_for_losses(struct fixture *f, void *arg)
{
    const uint8_t other[ARBITER_WRITER_BYTES] = {OTHER}, change[16] = {1};
    struct arbiter_edge it = {"zone-2", other, 1};
    struct why why;

    (void)f, (void)arg;
    arbiter_first(&e.pair->pair->record, &it, change);
    CHECK(vms_pair_losses(e.vms, on_losses, NULL, &why) == 0);
}

static void put_another(const char *id, uint8_t edge, bool deleting)
{
    memcpy(e.spec.id, id, sizeof e.spec.id);
    snprintf(e.spec.name, sizeof e.spec.name, "of-%u", edge);
    put_by(edge, deleting);
}

/* An edge that was one of the two before was deleting it: neither goes on with that by itself. */
static void what_nobody_goes_on_deleting_is_told(void **state)
{
    (void)state;
    new_edge();
    put_another("one of this edge", ONE, true);
    put_another("the only member's", OTHER, true);
    put_another("one of none of us", BEFORE, true);
    on_loop(e.w->f, ask_for_losses, NULL);
    wait_sem(&e.done);
    assert_int_equal(ntold, 1);
    assert_string_equal(told[0].vm, "of-3");
    assert_true(told[0].deleting);
    assert_int_equal(told[0].whose, VMS_LOSS_NOBODYS);
    end_pair();
    end_edge();
}

/* --- what is lost with an edge that was deleting a VM when this one was taken in
 * --------------------------*/

static void on_sentence(void *arg, const char *sentence)
{
    (void)arg, (void)sentence;
}

struct inherited {
    int status;
    unsigned n;
};

/* Its log was kept here from the fifth record on, and the store has none. */
static struct inherited inherit_one(bool joined)
{
    const uint8_t writer[KEEP_WRITER_BYTES] = {OTHER};
    struct vms_recovery r = {.inherit = true, .fallen = {OTHER}, .through = UINT64_MAX, .tell = on_sentence};
    struct vm_store store;

    new_edge();
    store = store_of(writer);
    assert_int_equal(vm_store_remove(&store, e.w->f->id, &e.w->f->why), 0); /* which has no text */
    put_theirs(false);
    assert_int_equal(keep_note(e.w->f->journal, e.spec.id, writer, 4, &e.w->f->why), 0);
    if (joined)
        assert_int_equal(keep_note_joined(e.w->f->journal, e.spec.id, 4, &e.w->f->why), 0);
    r.vms = e.vms;
    vms_recover_take(&r);
    for (unsigned i = 0; i < r.nspecs; i++)
        vm_spec_wipe(&r.specs[i]);
    free(r.specs);
    end_pair();
    end_edge();
    return (struct inherited){r.status, r.nspecs};
}

/* Nobody waited for what was before, for it was being deleted. */
static void it_is_as_the_store_has_it(void **state)
{
    struct inherited it = inherit_one(false);

    (void)state;
    assert_int_equal(it.status, 0);
    assert_int_equal(it.n, 1);
}

static void but_not_one_whose_owner_said_that_the_store_has_more(void **state)
{
    struct inherited it = inherit_one(true);

    (void)state;
    assert_int_equal(it.status, -EAGAIN);
    assert_int_equal(it.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_there_stays),
        cmocka_unit_test(one_without_an_entry_goes),
        cmocka_unit_test(so_does_one_that_is_being_deleted),
        cmocka_unit_test(what_was_deleted_is_said_to_who_is_taken_in),
        cmocka_unit_test(what_was_kept_is_removed_when_that_works_again),
        cmocka_unit_test(what_nobody_goes_on_deleting_is_told),
        cmocka_unit_test(it_is_as_the_store_has_it),
        cmocka_unit_test(but_not_one_whose_owner_said_that_the_store_has_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
