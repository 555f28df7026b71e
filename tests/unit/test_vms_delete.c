/* links: cache journal store */
/* A VM that a crash has left half deleted; the next start goes on. Until what there is of it here is erased,
 * of one that is the other edge's by now, of a pair, no log is kept here, nor is it taken back.
 */
#include "delete_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_log_is_kept_when_all_is_erased),
        cmocka_unit_test(an_erasure_that_fails_is_tried_again_before_that),
        cmocka_unit_test(one_that_is_left_over_when_the_edge_ends_is_left),
        cmocka_unit_test(it_is_taken_back_when_all_is_erased),
        cmocka_unit_test(one_that_the_other_edge_has_by_then_is_not_deleted),
        cmocka_unit_test(what_is_here_of_the_others_goes_by_itself_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
