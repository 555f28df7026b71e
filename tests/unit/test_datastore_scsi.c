/* links: datastore */
/* What targets say, without a target: reservations that are refused, moved and not known, forms of commands
 * that are not known, and what an answer means for a write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "iscsi_command.h"
#include "iscsi_hold.h"
#include "sense.h"
#include "wire.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <string.h>

enum { OURS = 0x1571, THEIRS = 0xbad };
enum { PR_IN = 0x5e, PR_OUT = 0x5f, REGISTER_AND_IGNORE = 6, RESERVE = 1, CLEAR = 3, READ_RESERVATION = 1 };
enum { CHECK_CONDITION = SCSI_STATUS_CHECK_CONDITION, CONFLICT = SCSI_STATUS_RESERVATION_CONFLICT };
enum { UNIT_ATTENTION = 6, ILLEGAL_REQUEST = 5, DATA_PROTECT = 7, VOLUME_OVERFLOW = 0xd };

static struct scsi_task sense(int status, int key, int ascq)
{
    return (struct scsi_task){.status = status, .sense = {.key = (enum scsi_sense_key)key, .ascq = ascq}};
}

/* The hold's next command must be this; it gets that answer. */
static enum iscsi_hold_result answer(struct iscsi_hold *h, uint8_t opcode, uint8_t action,
                                     struct scsi_task reply)
{
    struct scsi_task *task = iscsi_hold_next(h);
    struct why why = {""};

    assert_int_equal(task->cdb[0], opcode);
    assert_int_equal(task->cdb[1] & 0x1f, action);
    scsi_free_scsi_task(task);
    return iscsi_hold_answer(h, &reply, &why);
}

static struct scsi_task good(void)
{
    return (struct scsi_task){.status = SCSI_STATUS_GOOD};
}

static struct scsi_task reservation(uint64_t key)
{
    static unsigned char bytes[24];
    struct scsi_task task = good();

    memset(bytes, 0, sizeof bytes);
    put32(bytes + 4, key ? 16 : 0);
    put64(bytes + 8, key);
    bytes[21] = 6;
    task.datain.data = bytes;
    task.datain.size = key ? 24 : 8;
    return task;
}

static void a_free_lun_is_registered_and_reserved(void **state)
{
    struct iscsi_hold h = {0};

    (void)state;
    iscsi_hold_begin(&h, OURS, 0);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, sense(CHECK_CONDITION, UNIT_ATTENTION, 0x2900)),
                     HOLD_AGAIN);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, sense(CHECK_CONDITION, ILLEGAL_REQUEST, 0x2600)),
                     HOLD_MORE);
    assert_true(h.no_aptpl); /* it cannot keep it over its restart: without, then */
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, good()), HOLD_MORE);
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(0)), HOLD_MORE);
    assert_int_equal(answer(&h, PR_OUT, RESERVE, good()), HOLD_DONE);
    assert_int_equal(h.outcome, HOLD_HELD);
    iscsi_hold_begin(&h, OURS, 0); /* later: only a look */
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(OURS)), HOLD_DONE);
    assert_int_equal(h.outcome, HOLD_HELD);
    iscsi_hold_begin(&h, OURS, 0); /* somebody has removed it */
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(0)), HOLD_MORE);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, good()), HOLD_MORE);
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(0)), HOLD_MORE);
    assert_int_equal(answer(&h, PR_OUT, RESERVE, good()), HOLD_DONE);
    assert_int_equal(h.outcome, HOLD_REGAINED);
}

static void who_comes_first_has_it(void **state)
{
    struct iscsi_hold h = {0};

    (void)state;
    iscsi_hold_begin(&h, OURS, 0);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, good()), HOLD_MORE);
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(0)), HOLD_MORE);
    assert_int_equal(answer(&h, PR_OUT, RESERVE, sense(CONFLICT, 0, 0)), HOLD_MORE);
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(THEIRS)), HOLD_DONE);
    assert_int_equal(h.outcome, HOLD_TAKEN);
    assert_int_equal(h.other, THEIRS);
    iscsi_hold_begin(&h, OURS, 0);
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, sense(CONFLICT, 0, 0)), HOLD_DONE);
    assert_int_equal(h.outcome, HOLD_TAKEN);
    assert_int_equal(h.other, 0);
}

static void only_ours_is_cleared(void **state)
{
    struct iscsi_hold h = {0};

    (void)state;
    iscsi_hold_begin(&h, 0, OURS);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, good()), HOLD_MORE);
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(OURS)), HOLD_MORE);
    assert_int_equal(answer(&h, PR_OUT, CLEAR, good()), HOLD_DONE);
    assert_int_equal(h.outcome, HOLD_RELEASED);
    iscsi_hold_begin(&h, 0, OURS);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, good()), HOLD_MORE);
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reservation(THEIRS)), HOLD_MORE);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, good()),
                     HOLD_DONE); /* with no key: unregisters */
    assert_int_equal(h.outcome, HOLD_RELEASED);
}

static void a_target_may_have_no_reservations(void **state)
{
    struct iscsi_hold h = {0};

    (void)state;
    iscsi_hold_begin(&h, OURS, 0);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, sense(CHECK_CONDITION, ILLEGAL_REQUEST, 0x2000)),
                     HOLD_DONE);
    assert_int_equal(h.outcome, HOLD_NONE);
}

static void an_answer_that_is_too_short_is_no_answer(void **state)
{
    struct iscsi_hold h = {0};
    struct scsi_task reply = reservation(OURS);

    (void)state;
    iscsi_hold_begin(&h, OURS, 0);
    assert_int_equal(answer(&h, PR_OUT, REGISTER_AND_IGNORE, good()), HOLD_MORE);
    reply.datain.size = 11;
    assert_int_equal(answer(&h, PR_IN, READ_RESERVATION, reply), HOLD_LATER);
}

/* The opcode of io's command, and whether it has UNMAP. */
static int opcode(const struct iscsi_abilities *can, struct datastore_io *io, bool *unmap)
{
    struct scsi_task *task = iscsi_command(can, io, 512);
    int code = task->cdb[0];

    *unmap = task->cdb[1] & 8;
    scsi_free_scsi_task(task);
    return code;
}

static void refused_forms_are_left(void **state)
{
    struct datastore_io zero = {.op = DATASTORE_ZERO, .offset = 4096, .len = 1 << 20};
    struct datastore_io flush = {.op = DATASTORE_FLUSH}, write = {.op = DATASTORE_WRITE};
    struct iscsi_abilities can = {.unmaps = true};
    bool unmap;

    (void)state;
    assert_int_equal(opcode(&can, &zero, &unmap), SCSI_OPCODE_WRITE_SAME16);
    assert_true(unmap);
    assert_true(iscsi_command_other_form(&can, &zero));
    assert_int_equal(opcode(&can, &zero, &unmap), SCSI_OPCODE_WRITE_SAME16);
    assert_false(unmap);
    assert_true(iscsi_command_other_form(&can, &zero));
    assert_int_equal(opcode(&can, &zero, &unmap), SCSI_OPCODE_WRITE16);
    assert_true(zero.in.zeros > 0 && zero.in.zeros < zero.len);
    assert_false(iscsi_command_other_form(&can, &zero)); /* a write that is refused is an error */

    assert_int_equal(opcode(&can, &flush, &unmap), SCSI_OPCODE_SYNCHRONIZECACHE16);
    assert_true(iscsi_command_other_form(&can, &flush));
    assert_int_equal(opcode(&can, &flush, &unmap), SCSI_OPCODE_SYNCHRONIZECACHE10);
    assert_true(iscsi_command_other_form(&can, &flush));
    assert_true(can.no_sync);
    assert_false(iscsi_command_other_form(&can, &write));
}

static void answers_to_writes_are_understood(void **state)
{
    static const struct {
        int status, key, ascq, means;
    } cases[] = {
        {CONFLICT, 0, 0, -EBUSY},
        {CHECK_CONDITION, DATA_PROTECT, 0x2700, -EROFS},
        {CHECK_CONDITION, DATA_PROTECT, 0x2707, -ENOSPC},
        {CHECK_CONDITION, VOLUME_OVERFLOW, 0, -ENOSPC},
        {CHECK_CONDITION, UNIT_ATTENTION, 0x2900, 0},
        {CHECK_CONDITION, UNIT_ATTENTION, 0x3807, 0}, /* soft threshold: it has room still */
        {SCSI_STATUS_BUSY, 0, 0, 0},
    };
    struct scsi_task task;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        task = sense(cases[i].status, cases[i].key, cases[i].ascq);
        assert_int_equal(sense_write_status(&task), cases[i].means);
    }
    task = sense(CHECK_CONDITION, UNIT_ATTENTION, 0x2902);
    assert_true(sense_says_reset(&task) && !sense_says_reserved(&task));
    task = sense(CHECK_CONDITION, UNIT_ATTENTION, 0x2a05);
    assert_true(sense_says_reserved(&task) && !sense_says_reset(&task));
    task = sense(CHECK_CONDITION, UNIT_ATTENTION, 0x2a01); /* mode parameters changed */
    assert_false(sense_says_reserved(&task));
}

/* libiscsi has taken what lay behind the answer for its sense data: here "was reset", which would have writes
 * done again. */
static void sense_data_that_did_not_come_are_none(void **state)
{
    static const struct {
        int size;
        uint8_t length, code;
        bool there;
    } cases[] = {
        {0, 0, 0, false},      {1, 0, 0, false},     {2, 18, 0, false},     {3, 18, 0x70, false},
        {15, 18, 0x70, false}, {16, 18, 0x70, true}, {20, 18, 0x70, true},  {20, 13, 0x70, false},
        {20, 18, 0x71, true},  {5, 8, 0x72, false},  {6, 8, 0x72, true},    {10, 3, 0x72, false},
        {10, 8, 0x73, true},   {20, 18, 0, false},   {20, 18, 0x7f, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char bytes[20] = {0, cases[i].length, cases[i].code};
        struct scsi_task task = sense(0, UNIT_ATTENTION, 0x2900);

        task.datain.data = cases[i].size ? bytes : NULL;
        task.datain.size = cases[i].size;
        sense_take(&task, CHECK_CONDITION);
        assert_int_equal(task.status, CHECK_CONDITION);
        assert_int_equal(sense_says_reset(&task), cases[i].there);
        assert_int_equal(sense_judge(&task), cases[i].there ? SENSE_AGAIN : SENSE_FEW);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_free_lun_is_registered_and_reserved),
        cmocka_unit_test(who_comes_first_has_it),
        cmocka_unit_test(only_ours_is_cleared),
        cmocka_unit_test(a_target_may_have_no_reservations),
        cmocka_unit_test(an_answer_that_is_too_short_is_no_answer),
        cmocka_unit_test(refused_forms_are_left),
        cmocka_unit_test(answers_to_writes_are_understood),
        cmocka_unit_test(sense_data_that_did_not_come_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
