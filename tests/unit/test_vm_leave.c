/* links: cache journal store */
/* A VM that was deleted: on-prem is told for good. And until all is erased its name is not given again.
 */
#include "delete_fixture.h"

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
        cmocka_unit_test(on_prem_is_told_under_an_epoch_of_its_own),
        cmocka_unit_test(an_entry_that_may_come_late_is_waited_for),
        cmocka_unit_test(its_name_is_free_when_all_is_erased),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
