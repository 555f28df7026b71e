/* links: cache journal store */
/* A VM that a crash has left half deleted; the next start goes on. Until what there is of it here is erased
 * its name is not given again, and of one that is the other edge's by now, of a pair, no log is kept here,
 * nor is it taken back. Then on-prem is told for good.
 */
#include "commit_fixture.h"
#include "no_link_fixture.h"

#include "link.h"
#include "proto_pair.h"
#include "remains.h"
#include "vm_spec.h"
#include "vms_far.h"
#include "vms_hand.h"
#include "vms_pair_impl.h"

enum { ONE = 1, OTHER = 2 }; /* edges */

/* --- what the link is used for --------------------------------------------------------------------------*/

static int replied; /* to a request, last */
static struct link_call *called;
static sem_t calls;

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    (void)why, (void)iov, (void)niov;
    *r = NULL;
    replied = status;
}

void link_call(struct peer *p, struct link_call *c)
{
    (void)p;
    called = c;
    sem_post(&calls);
}

void link_call_cancel(struct link_call *c)
{
    (void)c;
    CHECK(false);
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    (void)p, (void)type, (void)body, (void)len;
    CHECK(false);
}

/* --- an edge --------------------------------------------------------------------------------------------*/

static struct edge {
    struct world *w;
    struct vms *vms;
    struct lease_gate gate;
    struct vms_pair pair;
    struct vm_spec spec;
    sem_t reached, go_on, room, closed;
    bool in_pair, has_room;
    int status;
} e;

static void wait_sem(sem_t *s)
{
    while (sem_wait(s) < 0)
        ;
}

static void wait_run(struct work *w)
{
    (void)w;
    sem_post(&e.reached);
    wait_sem(&e.go_on);
}

static void busy_done(struct work *w)
{
    free(w);
}

/* The worker does nothing more until go_on; it has done all that it had. */
static void busy(void)
{
    struct work *w = xcalloc(1, sizeof *w);

    w->run = wait_run;
    w->done = busy_done;
    worker_do(e.w->worker, e.w->f->loop, w);
    wait_sem(&e.reached);
}

static void put_entry_of(unsigned edge)
{
    const uint8_t writer[LOGOBJ_WRITER_BYTES] = {(uint8_t)edge};
    struct vm_store s = {
        .store = e.w->store, .master = &e.w->master, .writer = writer, .random = e.w->f->loop};

    assert_int_equal(vm_store_create(&s, &e.spec, &e.w->f->why), 0);
    assert_int_equal(vm_store_change(&s, &e.spec, &e.w->f->why), 0);
}

static void put_in_catalog(bool deleting)
{
    char *text = vm_spec_to_json(&e.spec, deleting);

    assert_int_equal(journal_meta_put(e.w->f->journal, "vm/web-1", text, strlen(text), &e.w->f->why), 0);
    secret_free(&text);
}

static void put_damaged_entry(void)
{
    char name[MAP_NAME_MAX];
    struct iovec iov = {(char[]){"no entry"}, 8};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = name};

    vmobj_name(name, e.spec.id);
    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(e.w->store, &r, NULL), 0);
}

static void remove_entry(void)
{
    char name[MAP_NAME_MAX];
    const char *const keys[] = {name};
    struct store_req r = {.op = STORE_DELETE, .timeout_ms = 5000};

    vmobj_name(name, e.spec.id);
    r.del.keys = keys;
    r.del.nkeys = 1;
    assert_int_equal(store_wait(e.w->store, &r, NULL), 0);
}

static int found(void *arg, const char *key, const void *value, size_t n)
{
    (void)arg, (void)key, (void)value, (void)n;
    return 1;
}

static bool is_in_catalog(void)
{
    return journal_meta_each(e.w->f->journal, "vm/web-1", found, NULL, &e.w->f->why) == 1;
}

/* The start after the crash; of an edge in no pair. */
static void start_alone(void)
{
    struct vms_conf conf = {.journal = e.w->f->journal,
                            .main = e.w->f->loop,
                            .loops = &e.w->f->loop,
                            .nloops = 1,
                            .stores = &e.w->store,
                            .worker = e.w->worker,
                            .master = e.w->master,
                            .writer = {ONE},
                            .gate = e.in_pair ? &e.gate : NULL};

    if (vms_open(&e.vms, &conf, &e.w->f->why) != 0)
        fail_msg("%s", e.w->f->why.text);
}

static void start_edge(void)
{
    e.in_pair = true;
    start_alone();
    e.pair = (struct vms_pair){.vms = e.vms};
    TAILQ_INIT(&e.pair.rooms);
    TAILQ_INIT(&e.pair.leaving);
    e.vms->pair = &e.pair;
}

static void new_edge(void)
{
    sem_init(&calls, 0, 0);
    e = (struct edge){.w = world_new(),
                      .spec = {.name = "web-1",
                               .iqn = "iqn.2026-11.org.isthmus:web-1",
                               .id = "another VM's id",
                               .storage = WB_CLOUD_PERSIST,
                               .epoch = 3}};
    sem_init(&e.reached, 0, 0);
    sem_init(&e.go_on, 0, 0);
    sem_init(&e.room, 0, 0);
    sem_init(&e.closed, 0, 0);
}

static void on_edge_closed(void *arg)
{
    (void)arg;
    sem_post(&e.closed);
}

static void close_edge(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_close(e.vms, on_edge_closed, NULL);
}

static void end_edge(void)
{
    on_loop(e.w->f, close_edge, NULL);
    wait_sem(&e.closed);
    world_free(e.w);
    sem_destroy(&e.reached);
    sem_destroy(&e.go_on);
    sem_destroy(&e.room);
    sem_destroy(&e.closed);
    sem_destroy(&calls);
}

static void on_room(void *arg, int status, const struct why *why)
{
    (void)arg, (void)why;
    e.has_room = true;
    e.status = status;
    sem_post(&e.room);
}

static void ask_for_room(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_pair_make_room(&e.pair, e.spec.id, on_room, NULL);
}

/* What was posted to the loop before has been run. */
static void look(struct fixture *f, void *arg)
{
    (void)f;
    *(bool *)arg = e.has_room;
}

static bool has_room(void)
{
    bool has;

    on_loop(e.w->f, look, &has);
    return has;
}

/* --- the tests ------------------------------------------------------------------------------------------*/

static void its_log_is_kept_when_all_is_erased(void **state)
{
    (void)state;
    new_edge();
    put_entry_of(OTHER);
    put_in_catalog(true);
    busy();
    start_edge();
    on_loop(e.w->f, ask_for_room, NULL);
    assert_false(has_room());
    assert_true(is_in_catalog());
    sem_post(&e.go_on);
    wait_sem(&e.room);
    assert_int_equal(e.status, 0);
    assert_false(is_in_catalog());
    end_edge();
}

/* A next start would take a log that is kept by then for what is left to erase. */
static void an_erasure_that_fails_is_tried_again_before_that(void **state)
{
    (void)state;
    new_edge();
    put_damaged_entry();
    put_in_catalog(true);
    start_edge();
    on_loop(e.w->f, ask_for_room, NULL);
    busy(); /* after the erasure */
    assert_false(has_room());
    assert_true(is_in_catalog());
    remove_entry();
    put_entry_of(OTHER);
    sem_post(&e.go_on);
    wait_sem(&e.room);
    assert_int_equal(e.status, 0);
    assert_false(is_in_catalog());
    end_edge();
}

static void one_that_is_left_over_when_the_edge_ends_is_left(void **state)
{
    (void)state;
    new_edge();
    put_damaged_entry();
    put_in_catalog(true);
    start_edge();
    end_edge();
}

static struct vms_hand *hand;

static void ask_to_prepare(struct fixture *f, void *arg)
{
    struct pair_hand h = {.seq = 0};
    struct buf *body;
    struct link_request r = {.type = PROTO_HAND_PREPARE};

    (void)f, (void)arg;
    memcpy(h.vm, e.spec.id, sizeof h.vm);
    body = pair_put_hand(&h);
    r.body = body->data;
    r.len = (uint32_t)body->len;
    vms_hand_request(hand, &r, NULL);
    buf_unref(&body);
}

static void begin_far(struct fixture *f, void *arg)
{
    struct vm theirs = {.spec = e.spec, .loop = f->loop, .in.vms = e.vms};

    (void)arg;
    hand = vms_hand_new(e.vms, NULL);
    vms_far_adopt(e.vms, &theirs);
    e.vms->pair = NULL; /* the store is not known to be ours: nothing is taken */
}

static void end_hand(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_hand_free(&hand);
}

/* Else its map, which is made from the store for that, is erased with the rest. */
static void it_is_taken_back_when_all_is_erased(void **state)
{
    (void)state;
    new_edge();
    put_entry_of(OTHER);
    put_in_catalog(true);
    busy();
    start_edge();
    on_loop(e.w->f, ask_for_room, NULL);
    on_loop(e.w->f, begin_far, NULL);
    on_loop(e.w->f, ask_to_prepare, NULL);
    assert_int_equal(replied, -EBUSY);
    e.vms->pair = &e.pair;
    sem_post(&e.go_on);
    wait_sem(&e.room);
    e.vms->pair = NULL;
    on_loop(e.w->f, ask_to_prepare, NULL);
    assert_int_equal(replied, -EAGAIN);
    on_loop(e.w->f, end_hand, NULL);
    end_edge();
}

static void on_deleted(void *arg, int status, const struct why *why)
{
    (void)arg, (void)why;
    e.status = status;
    sem_post(&e.room);
}

static void delete_it(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_delete(e.vms, "web-1", true, on_deleted, NULL);
}

/* It runs on-prem: nothing of it is open. */
static void new_edge_with_it(unsigned whose)
{
    new_edge();
    e.spec.home = true;
    e.spec.ndisks = e.spec.next_number = 1;
    e.spec.disks[0] = (struct vm_disk){.onprem = "dc1", .disk = "disk", .sectors = 2048, .block_bytes = 512};
    put_entry_of(whose);
    put_in_catalog(false);
    start_edge();
    e.pair.far = vms_far_new(e.vms, NULL);
}

static void end_edge_with_it(void)
{
    struct vms_far *far = e.pair.far;

    end_edge();
    vms_far_free(&far);
}

/* Somebody was told that the VM is no more, and the other edge served it. */
static void one_that_the_other_edge_has_by_then_is_not_deleted(void **state)
{
    (void)state;
    new_edge_with_it(OTHER);
    on_loop(e.w->f, delete_it, NULL);
    wait_sem(&e.room);
    assert_int_equal(e.status, -ESTALE);
    assert_false(is_in_catalog());
    end_edge_with_it();
}

static void forget_it(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_forget(vms_find(e.vms, "web-1"), on_deleted, NULL);
}

/* It was handed over just now: who asks here is not told that it is no more. */
static void what_is_here_of_the_others_goes_by_itself_only(void **state)
{
    (void)state;
    new_edge_with_it(OTHER);
    atomic_store(&vms_find(e.vms, "web-1")->fenced, true);
    on_loop(e.w->f, delete_it, NULL);
    wait_sem(&e.room);
    assert_int_equal(e.status, -ESTALE);
    assert_true(is_in_catalog());
    on_loop(e.w->f, forget_it, NULL);
    wait_sem(&e.room);
    assert_int_equal(e.status, 0);
    assert_false(is_in_catalog());
    end_edge_with_it();
}

static bool is_in_store(void)
{
    char etag[ENTRY_ETAG];
    struct vm_store s = {.store = e.w->store, .master = &e.w->master, .random = e.w->f->loop};
    struct vm_spec spec;
    struct vmobj entry;
    bool deleting;
    int err = vm_store_look(&s, e.spec.id, &spec, &entry, etag, &deleting, &e.w->f->why);

    assert_true(err == 0 ? deleting : err == -ENOENT);
    return err == 0;
}

static bool is_noted(void)
{
    return journal_meta_each(e.w->f->journal, "leave/", found, NULL, &e.w->f->why) == 1;
}

static void answer_call(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    called->reply = buf_new(0);
    called->done(called);
}

/* What was said of it before may still be under way: it must come too late. */
static void on_prem_is_told_under_an_epoch_of_its_own(void **state)
{
    struct wb_head head;

    (void)state;
    new_edge();
    e.spec.ndisks = 1;
    e.spec.disks[0] = (struct vm_disk){.onprem = "dc1", .disk = "sda", .sectors = 8, .block_bytes = 512};
    e.spec.next_number = 1;
    put_entry_of(ONE);
    put_in_catalog(true);
    start_alone();
    wait_sem(&calls);
    assert_int_equal(called->type, PROTO_VM_DETACH);
    assert_int_equal(wb_get_head(called->body->data, called->body->len, &head), 0);
    assert_memory_equal(head.vm, e.spec.id, sizeof head.vm);
    assert_int_equal(head.epoch, e.spec.epoch + 1);
    assert_false(is_in_catalog());
    assert_true(is_in_store());
    assert_true(is_noted());
    on_loop(e.w->f, answer_call, NULL);
    busy(); /* after what is left is gone */
    assert_false(is_in_store());
    assert_false(is_noted());
    sem_post(&e.go_on);
    end_edge();
}

/* One that the process before this one sent may come when all is gone, and would stay. */
static void an_entry_that_may_come_late_is_waited_for(void **state)
{
    (void)state;
    new_edge();
    e.spec.ndisks = 1;
    e.spec.disks[0] = (struct vm_disk){.onprem = "dc1", .disk = "sda", .sectors = 8, .block_bytes = 512};
    e.spec.next_number = 1;
    put_in_catalog(true);
    start_alone();
    wait_sem(&calls);
    assert_false(is_in_catalog());
    on_loop(e.w->f, answer_call, NULL);
    busy(); /* after what is left would be gone */
    assert_true(is_noted());
    sem_post(&e.go_on);
    end_edge();
}

static void on_created(void *arg, struct vm *vm, const struct why *why)
{
    (void)arg;
    assert_null(vm);
    e.w->f->why = *why;
    sem_post(&e.room);
}

static void ask_to_create(struct fixture *f, void *arg)
{
    struct vm_spec spec = e.spec;

    (void)f, (void)arg;
    vms_create(e.vms, &spec, on_created, NULL);
}

static const char *create_again(void)
{
    on_loop(e.w->f, ask_to_create, NULL);
    wait_sem(&e.room);
    return e.w->f->why.text;
}

/* A new VM's entry in the catalog would take the place of what says that the old one is being deleted. */
static void its_name_is_free_when_all_is_erased(void **state)
{
    (void)state;
    new_edge();
    e.spec.ndisks = 1;
    e.spec.disks[0] = (struct vm_disk){.onprem = "dc1", .disk = "sda", .sectors = 8, .block_bytes = 512};
    e.spec.next_number = 1;
    put_damaged_entry();
    put_in_catalog(true);
    busy();
    start_alone();
    assert_string_equal(create_again(), "VM web-1 is still being deleted: try again in a moment");
    sem_post(&e.go_on);
    busy(); /* after the erasure */
    assert_true(strstr(create_again(), "VM web-1 is still being deleted, which is tried again until it is"));
    assert_true(is_in_catalog());
    remove_entry();
    sem_post(&e.go_on);
    wait_sem(&calls);
    assert_false(is_in_catalog());
    assert_null(strstr(create_again(), "still being deleted"));
    on_loop(e.w->f, answer_call, NULL);
    end_edge();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_log_is_kept_when_all_is_erased),
        cmocka_unit_test(an_erasure_that_fails_is_tried_again_before_that),
        cmocka_unit_test(one_that_is_left_over_when_the_edge_ends_is_left),
        cmocka_unit_test(it_is_taken_back_when_all_is_erased),
        cmocka_unit_test(one_that_the_other_edge_has_by_then_is_not_deleted),
        cmocka_unit_test(what_is_here_of_the_others_goes_by_itself_only),
        cmocka_unit_test(on_prem_is_told_under_an_epoch_of_its_own),
        cmocka_unit_test(an_entry_that_may_come_late_is_waited_for),
        cmocka_unit_test(its_name_is_free_when_all_is_erased),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
