/* links: datastore */
/* Persistent reservations on a LUN of a real tgt: nobody else gets at it while it is held, over restarts of
 * the target and of ours; and somebody else's reservation is respected and told. */
#include "tgt_fixture.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

enum { OUR_KEY = 0x1571, THEIR_KEY = 0xbad };
static const enum scsi_persistent_out_type write_exclusive =
    SCSI_PERSISTENT_RESERVE_TYPE_WRITE_EXCLUSIVE_REGISTRANTS_ONLY;
static const enum scsi_persistent_out_type exclusive_access =
    SCSI_PERSISTENT_RESERVE_TYPE_EXCLUSIVE_ACCESS_REGISTRANTS_ONLY;

static struct iscsi_context *other; /* another initiator */

static void other_logs_in(void)
{
    struct scsi_task *task;
    char portal[40];

    snprintf(portal, sizeof portal, "127.0.0.1:%u", port);
    other = iscsi_create_context("iqn.2026-11.test:hypervisor");
    iscsi_set_targetname(other, iqn);
    iscsi_set_session_type(other, ISCSI_SESSION_NORMAL);
    iscsi_set_noautoreconnect(other, 1);
    if (iscsi_full_connect_sync(other, portal, 1) != 0)
        fail_msg("%s", iscsi_get_error(other));
    task = iscsi_testunitready_sync(other, 1); /* whatever it had to say */
    scsi_free_scsi_task(task);
}

static void other_logs_out(void)
{
    iscsi_destroy_context(other);
    other = NULL;
}

/* The status of a command, which is freed. UNIT ATTENTION: once more. */
#define STATUS(command)                                                                                      \
    __extension__({                                                                                          \
        int status_ = SCSI_STATUS_CHECK_CONDITION;                                                           \
        for (int i_ = 0; i_ < 4 && status_ == SCSI_STATUS_CHECK_CONDITION; i_++) {                           \
            struct scsi_task *task_ = command;                                                               \
            assert_non_null(task_);                                                                          \
            status_ = task_->status;                                                                         \
            scsi_free_scsi_task(task_);                                                                      \
        }                                                                                                    \
        status_;                                                                                             \
    })

static int other_reads(void)
{
    return STATUS(iscsi_read16_sync(other, 1, 0, 512, 512, 0, 0, 0, 0, 0));
}

static int other_writes(void)
{
    static unsigned char sector[512];

    return STATUS(iscsi_write16_sync(other, 1, DISK_BYTES / 512 - 1, sector, 512, 512, 0, 0, 0, 0, 0));
}

static int other_reserves(enum scsi_persistent_out_sa action, uint64_t key, uint64_t new_key,
                          enum scsi_persistent_out_type type)
{
    struct scsi_persistent_reserve_out_basic basic = {.reservation_key = key,
                                                      .service_action_reservation_key = new_key};

    return STATUS(iscsi_persistent_reserve_out_sync(other, 1, (int)action, SCSI_PERSISTENT_RESERVE_SCOPE_LU,
                                                    (int)type, &basic));
}

static void other_registers(void)
{
    assert_int_equal(
        other_reserves(SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY, 0, THEIR_KEY, 0),
        SCSI_STATUS_GOOD);
}

static int registrations(void)
{
    struct scsi_task *task =
        iscsi_persistent_reserve_in_sync(other, 1, SCSI_PERSISTENT_RESERVE_READ_KEYS, 252);
    struct scsi_persistent_reserve_in_read_keys *keys;
    int n;

    assert_int_equal(task->status, SCSI_STATUS_GOOD);
    keys = scsi_datain_unmarshall(task);
    n = keys->num_keys;
    scsi_free_scsi_task(task);
    return n;
}

static unsigned ntaken;
static struct why taken_why;

static void on_taken(void *arg, const struct why *why)
{
    (void)arg;
    ntaken++;
    taken_why = *why;
}

static struct datastore *open_disk(uint64_t key)
{
    struct datastore_events events = {.opened = on_opened, .resized = on_resized, .taken = on_taken};
    struct datastore_conf conf = {.name = "vm1-root", .sessions = 2};
    struct datastore *ds = NULL;
    struct why why = {""};
    char url[200];

    snprintf(url, sizeof url, "iscsi://127.0.0.1:%u/%s/1", port, iqn);
    conf.url = url;
    memset(&seen, 0, sizeof seen);
    ntaken = 0;
    assert_int_equal(datastore_open(&ds, loop, &conf, &events, &why), 0);
    if (key)
        ds->ops->hold(ds, key);
    WAIT(seen.opened);
    if (key)
        WAIT(ds->ops->held(ds) || ntaken);
    return ds;
}

static void expect_ours(struct datastore *ds)
{
    assert_int_equal(other_reads(), SCSI_STATUS_RESERVATION_CONFLICT);
    assert_int_equal(other_writes(), SCSI_STATUS_RESERVATION_CONFLICT);
    start_reads(ds, 16 << 20, 4096, 64);
    start_writes(ds, 0, 4096, 64, 7);
    end_reads();
    end_writes();
    assert_int_equal(act(ds, DATASTORE_FLUSH, 0, 0), 0);
    assert_int_equal(ntaken, 0);
}

static void a_held_lun_is_ours_alone(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk(0);
    assert_true(ds->ops->info(ds)->reserves);
    assert_false(ds->ops->held(ds));
    other_logs_in();
    assert_int_equal(other_writes(), SCSI_STATUS_GOOD);
    ds->ops->hold(ds, OUR_KEY); /* while it is used */
    WAIT(ds->ops->held(ds));
    expect_ours(ds);

    ds->ops->hold(ds, 0);
    WAIT(!ds->ops->held(ds));
    assert_int_equal(other_reads(), SCSI_STATUS_GOOD);
    assert_int_equal(other_writes(), SCSI_STATUS_GOOD);
    assert_int_equal(registrations(), 0);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    ds->ops->hold(ds, OUR_KEY);
    WAIT(ds->ops->held(ds));
    expect_ours(ds);
    close_ds(&ds);
    other_logs_out();
}

static void a_lun_stays_ours_over_a_restart_of_ours(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk(OUR_KEY);
    close_ds(&ds);
    other_logs_in();
    assert_int_equal(other_reads(), SCSI_STATUS_RESERVATION_CONFLICT);
    assert_int_equal(other_writes(), SCSI_STATUS_RESERVATION_CONFLICT);
    ds = open_disk(OUR_KEY);
    expect_ours(ds);
    close_ds(&ds);
    ds = open_disk(0); /* and waits for the key before it can read */
    start_reads(ds, 16 << 20, 4096, 1);
    WAIT(ds->ops->trouble(ds) || nended);
    ds->ops->hold(ds, OUR_KEY);
    end_reads();
    expect_ours(ds);
    assert_null(ds->ops->trouble(ds));
    ds->ops->hold(ds, 0);
    WAIT(!ds->ops->held(ds));
    assert_int_equal(registrations(), 0);
    close_ds(&ds);
    other_logs_out();
}

static void a_lun_is_ours_again_after_a_restart_of_the_target(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk(OUR_KEY);
    for (int round = 0; round < 2; round++) {
        start_writes(ds, 0, 64 << 10, 100, 7);
        stop_program(&tgtd);
        WAIT(ds->ops->trouble(ds));
        start_target(false, true); /* tgtd does not keep reservations */
        end_writes();
        other_logs_in();
        expect_ours(ds);
        other_logs_out();
    }
    close_ds(&ds);
}

static void somebody_elses_reservation_is_respected(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    other_logs_in();
    other_registers();
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_RESERVE, THEIR_KEY, 0, write_exclusive),
                     SCSI_STATUS_GOOD);
    ds = open_disk(OUR_KEY);
    assert_int_equal(ntaken, 1);
    assert_non_null(strstr(taken_why.text, "key badh"));
    assert_false(ds->ops->held(ds));
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EBUSY);
    assert_int_equal(act(ds, DATASTORE_ZERO, 0, 4096), -EBUSY);
    start_reads(ds, 0, 4096, 64);
    end_reads();
    assert_int_equal(other_writes(), SCSI_STATUS_GOOD);

    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_CLEAR, THEIR_KEY, 0, 0), SCSI_STATUS_GOOD);
    WAIT(ds->ops->held(ds));
    assert_int_equal(ntaken, 1);
    ntaken = 0;
    expect_ours(ds);
    close_ds(&ds);
    other_logs_out();
}

static void without_a_key_a_conflict_is_said_at_once(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk(0);
    other_logs_in();
    other_registers();
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_RESERVE, THEIR_KEY, 0, write_exclusive),
                     SCSI_STATUS_GOOD);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EBUSY);
    assert_non_null(strstr(deed.why.text, "RESERVATION CONFLICT"));
    close_ds(&ds);
    other_logs_out();
}

static void a_theft_is_told_and_reads_go_on(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk(OUR_KEY);
    other_logs_in();
    other_registers();
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_PREEMPT, THEIR_KEY, OUR_KEY, exclusive_access),
                     SCSI_STATUS_GOOD);
    WAIT(ntaken);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EBUSY);
    assert_false(ds->ops->held(ds));
    start_reads(ds, 0, 4096, 64);
    end_reads();

    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_RELEASE, THEIR_KEY, 0, exclusive_access),
                     SCSI_STATUS_GOOD);
    WAIT(ds->ops->held(ds));
    assert_int_equal(ntaken, 1);
    close_ds(&ds);
    other_logs_out();
}

static void what_was_taken_is_asked_for_again_at_once(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk(OUR_KEY);
    other_logs_in();
    other_registers();
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_PREEMPT, THEIR_KEY, OUR_KEY, write_exclusive),
                     SCSI_STATUS_GOOD);
    WAIT(ntaken);
    ds->ops->hold(ds, OUR_KEY);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EBUSY);
    WAIT(ntaken == 2);
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_RELEASE, THEIR_KEY, 0, write_exclusive),
                     SCSI_STATUS_GOOD);
    ds->ops->hold(ds, OUR_KEY);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    WAIT(ds->ops->held(ds));
    assert_int_equal(ntaken, 2);
    close_ds(&ds);
    other_logs_out();
}

/* Whoever released it there and asks again is not told how it was when it was asked before. */
static void an_answer_to_an_earlier_question_is_none(void **state)
{
    struct datastore *ds;
    unsigned told;

    (void)state;
    start_target(false, true);
    ds = open_disk(OUR_KEY);
    other_logs_in();
    other_registers();
    ntaken = 0;
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_PREEMPT, THEIR_KEY, OUR_KEY, write_exclusive),
                     SCSI_STATUS_GOOD);
    WAIT(ntaken);
    ds->ops->hold(ds, OUR_KEY);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), -EBUSY);
    for (int i = 0; i < 8; i++)
        turn(); /* both sessions have been answered */
    ds->ops->hold(ds, OUR_KEY);
    turn();
    turn(); /* asked again, and no answer read */
    told = ntaken;
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_RELEASE, THEIR_KEY, 0, write_exclusive),
                     SCSI_STATUS_GOOD);
    ds->ops->hold(ds, OUR_KEY);
    assert_int_equal(act(ds, DATASTORE_WRITE, 0, 4096), 0);
    WAIT(ds->ops->held(ds));
    assert_int_equal(ntaken, told);
    close_ds(&ds);
    other_logs_out();
}

/* A reservation without our being registered: even reads conflict, and wait. */
static void a_lun_locked_by_others_is_an_outage(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    other_logs_in();
    other_registers();
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_RESERVE, THEIR_KEY, 0, exclusive_access),
                     SCSI_STATUS_GOOD);
    ds = open_disk(0);
    start_reads(ds, 0, 4096, 8);
    WAIT(ds->ops->trouble(ds));
    assert_non_null(strstr(ds->ops->trouble(ds)->text, "reserved by another host"));
    assert_int_equal(nended, 0);
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_CLEAR, THEIR_KEY, 0, 0), SCSI_STATUS_GOOD);
    end_reads();
    assert_null(ds->ops->trouble(ds));
    close_ds(&ds);
    other_logs_out();
}

static void a_removed_reservation_is_taken_again_and_told(void **state)
{
    struct datastore *ds;

    (void)state;
    start_target(false, true);
    ds = open_disk(OUR_KEY);
    other_logs_in();
    other_registers();
    assert_int_equal(other_reserves(SCSI_PERSISTENT_RESERVE_CLEAR, THEIR_KEY, 0, 0), SCSI_STATUS_GOOD);
    WAIT(ntaken);
    assert_non_null(strstr(taken_why.text, "removed by somebody else"));
    assert_true(ds->ops->held(ds));
    ntaken = 0;
    expect_ours(ds);
    close_ds(&ds);
    other_logs_out();
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_held_lun_is_ours_alone),
        CASE(a_lun_stays_ours_over_a_restart_of_ours),
        CASE(a_lun_is_ours_again_after_a_restart_of_the_target),
        CASE(somebody_elses_reservation_is_respected),
        CASE(without_a_key_a_conflict_is_said_at_once),
        CASE(a_theft_is_told_and_reads_go_on),
        CASE(what_was_taken_is_asked_for_again_at_once),
        CASE(an_answer_to_an_earlier_question_is_none),
        CASE(a_lun_locked_by_others_is_an_outage),
        CASE(a_removed_reservation_is_taken_again_and_told),
    };

    if (!find_program("tgtd") || geteuid() != 0) {
        print_message("needs tgtd, as root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
