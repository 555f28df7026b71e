/* links: initiator link pki */
/* A VM is detached while its disks, which do not answer now, have still to say where they are; before what
 * was said of it comes; and forgotten when so many others were.
 */
#include "writeback_fixture.h"

#include "wb_impl.h"

static const struct datastore_ops *real;
static struct datastore_ops slow; /* marks wait */
static struct {
    struct datastore *ds;
    struct datastore_io *io;
} held[DISKS_MAX];
static unsigned nheld;

static void submit_slowly(struct datastore *ds, struct datastore_io *io)
{
    if (io->op != DATASTORE_MARK) {
        real->submit(ds, io);
        return;
    }
    held[nheld].ds = ds;
    held[nheld++].io = io;
}

static void make_slow(void)
{
    struct wb_disks disks = serve_disks(serve);
    char name[16];

    nheld = 0;
    for (unsigned i = 0; i < ndisks; i++) {
        struct source *source;
        struct datastore *ds;

        snprintf(name, sizeof name, "disk%u", i);
        source = disks.find(disks.arg, name);
        WAIT(source_info(source)); /* who attaches a disk that is not open yet asks for its mark later */
        ds = source_datastore(source);
        real = ds->ops;
        slow = *real;
        slow.submit = submit_slowly;
        ds->ops = &slow;
    }
}

static void answer_marks(int status)
{
    for (unsigned i = 0; i < nheld; i++) {
        held[i].ds->ops = real;
        if (status == 0) {
            real->submit(held[i].ds, held[i].io);
            continue;
        }
        held[i].io->status = status;
        held[i].io->done(held[i].io);
    }
}

static void attach_and_detach(void)
{
    epoch = 0; /* as a VM's first: when it is detached nothing of it is remembered */
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(nheld, ndisks);
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
    assert_int_equal(simple(PROTO_WB_STATE, 0), -ENOENT);
}

static void marks_come_when_the_vm_is_detached(void **state)
{
    (void)state;
    make_slow();
    attach_and_detach();
    answer_marks(0);
    assert_int_equal(simple(PROTO_WB_STATE, 0), -ENOENT);
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
}

static void so_does_a_failure(void **state)
{
    (void)state;
    make_slow();
    attach_and_detach();
    answer_marks(-EIO);
    assert_int_equal(simple(PROTO_WB_STATE, 0), -ENOENT);
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
}

static int attach_another(void)
{
    static struct wb_attach a;

    a = (struct wb_attach){.epoch = 0, .policy = WB_WRITE_BACK, .name = "another", .ndisks = ndisks};
    memcpy(a.vm, "another VM's id", WB_ID_BYTES);
    for (unsigned i = 0; i < ndisks; i++)
        snprintf(a.disks[i], sizeof a.disks[i], "disk%u", i);
    start_call(PROTO_VM_ATTACH, LINK_CONTROL, wb_put_attach(&a));
    return end_state();
}

/* As over two connections. The VM was deleted: its disks are another's. */
static void an_attach_that_was_overtaken_is_refused(void **state)
{
    (void)state;
    epoch = 1;
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
    epoch = 0;
    assert_int_equal(attach_as(WB_WRITE_BACK), -ESTALE);
    world_down();
    world_up();
    assert_int_equal(attach_as(WB_WRITE_BACK), -ESTALE);
    assert_int_equal(attach_another(), 0);
}

/* The same of one that came in between: it is detached under the epoch that it has, and for good. */
static void so_is_one_that_comes_a_second_time(void **state)
{
    (void)state;
    epoch = 0;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    epoch = 1;
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
    epoch = 0;
    assert_int_equal(attach_as(WB_WRITE_BACK), -ESTALE);
    assert_int_equal(attach_another(), 0);
}

static int detach_number(unsigned i, uint64_t of_epoch)
{
    struct wb_head h = {.epoch = of_epoch};

    memcpy(h.vm, &i, sizeof i);
    return ask(PROTO_VM_DETACH, wb_put_head(&h));
}

/* As if so many had been detached. */
static void know_others(unsigned n)
{
    for (unsigned i = 2; i < 2 + n; i++) {
        uint8_t id[WB_ID_BYTES] = {0};

        memcpy(id, &i, sizeof i);
        wb_vm_new(writeback, id)->rec.epoch = 5;
    }
}

static void the_first_of_too_many_is_forgotten(void **state)
{
    enum { KNOWN = 4096 };

    (void)state;
    assert_int_equal(detach_number(1, 5), 0);
    buf_unref(&call.reply);
    know_others(KNOWN - 1);
    assert_int_equal(detach_number(1, 4), -ESTALE);
    assert_int_equal(attach_another(), 0);
    assert_int_equal(detach_number(2, 4), -ESTALE);
    world_down();
    world_up();
    assert_int_equal(detach_number(1, 4), 0); /* nor is it on the disk any more */
    buf_unref(&call.reply);
    assert_int_equal(detach_number(1, 3), -ESTALE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(marks_come_when_the_vm_is_detached, world_new, world_end),
        cmocka_unit_test_setup_teardown(so_does_a_failure, world_new, world_end),
        cmocka_unit_test_setup_teardown(an_attach_that_was_overtaken_is_refused, world_new, world_end),
        cmocka_unit_test_setup_teardown(so_is_one_that_comes_a_second_time, world_new, world_end),
        cmocka_unit_test_setup_teardown(the_first_of_too_many_is_forgotten, world_new, world_end),
    };

    return cmocka_run_group_tests(tests, serve_begin, fixture_end);
}
