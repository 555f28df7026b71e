/* links: initiator link pki */
/* A VM is detached while its disks, which do not answer now, have still to say where they are. */
#include "writeback_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(marks_come_when_the_vm_is_detached, world_new, world_end),
        cmocka_unit_test_setup_teardown(so_does_a_failure, world_new, world_end),
    };

    return cmocka_run_group_tests(tests, serve_begin, fixture_end);
}
