/* links: datastore */
/* The commands by which two sessions take and keep a reservation, against a LUN that is a key and a
 * reservation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "iscsi_hold.h"

#include <endian.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <string.h>

enum { KEY = 0x1571, SESSIONS = 2 };

static struct iscsi_hold holds[SESSIONS];
static bool registered[SESSIONS], reserved, attention[SESSIONS];

static int begin(void **state)
{
    (void)state;
    memset(holds, 0, sizeof holds);
    memset(registered, 0, sizeof registered);
    memset(attention, 0, sizeof attention);
    reserved = false;
    return 0;
}

/* What the LUN answers to a command of this session. */
static int answer(unsigned session, const struct scsi_task *command, unsigned char data[16])
{
    const uint32_t len = htobe32(8);
    const uint64_t key = htobe64(KEY);

    memset(data, 0, 16);
    if (attention[session]) {
        attention[session] = false;
        return SCSI_STATUS_CHECK_CONDITION;
    }
    if (command->cdb[0] == SCSI_OPCODE_PERSISTENT_RESERVE_IN) {
        if (reserved) {
            memcpy(data + 4, &len, sizeof len);
            memcpy(data + 8, &key, sizeof key);
        }
    } else if ((command->cdb[1] & 0x1f) == SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY) {
        registered[session] = true;
    } else if (reserved || !registered[session]) { /* RESERVE, by another port than the holder's */
        return SCSI_STATUS_RESERVATION_CONFLICT;
    } else {
        reserved = true;
    }
    return SCSI_STATUS_GOOD;
}

/* One command of a session, and its answer. */
static enum iscsi_hold_result step(unsigned session)
{
    struct scsi_task *command = iscsi_hold_next(&holds[session]), task = {.status = 0};
    unsigned char data[16];
    struct why why;

    task.status = answer(session, command, data);
    task.datain.data = data;
    task.datain.size = sizeof data;
    if (task.status == SCSI_STATUS_CHECK_CONDITION) {
        task.sense.key = SCSI_SENSE_UNIT_ATTENTION;
        task.sense.ascq = 0x2a03;
        iscsi_hold_doubt(&holds[session]); /* as the session does that hears of it */
    }
    scsi_free_scsi_task(command);
    return iscsi_hold_answer(&holds[session], &task, &why);
}

static enum iscsi_hold_outcome finish(unsigned session)
{
    enum iscsi_hold_result result;

    do
        result = step(session);
    while (result == HOLD_MORE || result == HOLD_AGAIN);
    assert_int_equal(result, HOLD_DONE);
    return holds[session].outcome;
}

static enum iscsi_hold_outcome ask(unsigned session)
{
    iscsi_hold_begin(&holds[session], KEY, 0);
    return finish(session);
}

/* Another host registers and clears: all who were registered are told, but itself (SPC-4, PERSISTENT RESERVE
 * OUT). */
static void somebody_clears(void)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        attention[i] = registered[i];
        registered[i] = false;
    }
    reserved = false;
}

static void one_session_takes_it_the_other_finds_it_ours(void **state)
{
    (void)state;
    assert_int_equal(ask(0), HOLD_HELD);
    assert_int_equal(ask(1), HOLD_HELD);
    assert_int_equal(ask(0), HOLD_HELD);
    assert_int_equal(ask(1), HOLD_HELD);
}

static void a_removed_reservation_is_told(void **state)
{
    (void)state;
    ask(0);
    ask(1);
    somebody_clears();
    assert_int_equal(ask(1), HOLD_REGAINED);
    assert_int_equal(ask(1), HOLD_HELD);
}

/* The other session was about to take it when it was removed, and has it again before we look. */
static void a_removal_another_session_has_made_up_for_is_told(void **state)
{
    (void)state;
    iscsi_hold_begin(&holds[1], KEY, 0);
    step(1); /* it is registered */
    assert_int_equal(ask(0), HOLD_HELD);
    somebody_clears();
    assert_int_equal(finish(1), HOLD_HELD); /* it never knew it to be ours */
    assert_int_equal(ask(0), HOLD_REGAINED);
    assert_int_equal(ask(0), HOLD_HELD);
}

static void what_is_known_not_to_be_ours_is_not_lost(void **state)
{
    (void)state;
    ask(0);
    ask(1);
    iscsi_hold_unsettle(&holds[0]);
    iscsi_hold_unsettle(&holds[1]);
    somebody_clears();
    assert_int_equal(ask(0), HOLD_HELD);
    assert_int_equal(ask(1), HOLD_HELD);
}

#define CASE(f) cmocka_unit_test_setup(f, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(one_session_takes_it_the_other_finds_it_ours),
        CASE(a_removed_reservation_is_told),
        CASE(a_removal_another_session_has_made_up_for_is_told),
        CASE(what_is_known_not_to_be_ours_is_not_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
