/* links: raw fake_volumes target */
/* Task management over a socket, with I/O in the volume: who is aborted, who is told, and when the function
 * is answered.
 */
#include "target_fixture.h"

static const uint8_t ones[4096] = {[0 ... 4095] = 1};
static const uint8_t ready[6];

static void aborts_while_the_io_is_in_the_volume(void **state)
{
    struct raw *c = session_new(0, 1, ""), *other = session_new(0, 2, "");
    uint32_t first = c->itt, sn = c->cmd_sn;
    struct raw_answer a;

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    for (uint32_t i = 0; i < 10; i++)
        command_send(c, F | R, 4096, raw_cdb10(0x28, i * 8, 8), 10, NULL, 0);
    command_send(other, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, 11);
    assert_int_equal(tmf(c, TMF_ABORT_TASK, first + 3, sn + 3), TMF_COMPLETE);
    assert_int_equal(tmf(c, TMF_ABORT_TASK, first + 3, sn + 3), TMF_NO_TASK);
    assert_int_equal(tmf(c, TMF_ABORT_TASK, 4711, sn), TMF_NO_TASK);
    assert_int_equal(tmf(c, 0x7f, 0, 0), TMF_REJECTED);
    assert_int_equal(tmf(c, TMF_CLEAR_ACA, 0, 0), TMF_NOT_SUPPORTED);
    assert_int_equal(tmf(c, TMF_TASK_REASSIGN, first, 0), TMF_NO_REASSIGN);
    assert_int_equal(tmf(c, TMF_LOGICAL_UNIT_RESET, 0, 0), TMF_COMPLETE);
    fix_unstall(0);
    fix_wait(&fix.volumes[0].held, 0); /* dropped, and given back */
    for (int i = 0; i < 2; i++) {
        struct raw *who = i ? other : c;

        command_send(who, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
        a = answer_recv(who, NULL);
        assert_int_equal(a.sense, 0x062903);
        command_send(who, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
        assert_int_equal(answer_recv(who, NULL).status, 0);
    }
    raw_free(&c);
    raw_free(&other);
}

static void an_aborted_write_takes_no_more_data(void **state)
{
    struct raw *c = session_new(0, 1, "ImmediateData=No|");
    uint32_t itt = c->itt, ttt;

    (void)state;
    command_send(c, F | W, 4096, raw_cdb10(0x2a, 0, 8), 10, NULL, 0);
    assert_int_equal(pdu_recv(c), ISCSI_R2T);
    ttt = get32(c->bhs + AT_TTT);
    assert_int_equal(tmf(c, TMF_ABORT_TASK, itt, c->cmd_sn - 1), TMF_COMPLETE);
    data_out(c, itt, ttt, 0, 0, true, ones, 4096); /* was on its way: not a word */
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(atomic_load(&fix.volumes[0].writes), 0);
    raw_free(&c);
}

static void answers_others_first(struct raw *c)
{
    uint32_t itt = c->itt;

    command_send(c, F, 0, ready, 6, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).itt, itt);
}

/* Until the write that it aborted has left the volume there is no answer; then nothing appears any more. */
static void is_answered_when_writes_are_over(void **state)
{
    static const uint8_t functions[] = {TMF_ABORT_TASK,         TMF_ABORT_TASK_SET,    TMF_CLEAR_TASK_SET,
                                        TMF_LOGICAL_UNIT_RESET, TMF_TARGET_WARM_RESET, TMF_TARGET_COLD_RESET};

    (void)state;
    for (size_t i = 0; i < sizeof functions; i++) {
        struct raw *c = session_new(0, 1, "");
        uint32_t itt = c->itt, sn = c->cmd_sn;
        bool resets = functions[i] >= TMF_LOGICAL_UNIT_RESET;

        atomic_store(&fix.volumes[0].stalled, true);
        command_send(c, F | W, 512, raw_cdb10(0x2a, 99, 1), 10, ones, 512);
        command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0); /* a read is waited for by nobody */
        fix_wait(&fix.volumes[0].nparked, 2);
        tmf_send(c, functions[i], itt, sn);
        answers_others_first(c);
        if (functions[i] == TMF_ABORT_TASK) { /* a second one waits as well */
            tmf_send(c, functions[i], itt, sn);
            answers_others_first(c);
        }
        if (resets)
            answers_others_first(c); /* the first one had the unit attention */
        fix_unstall(0);
        if (functions[i] == TMF_ABORT_TASK) {
            assert_int_equal(tmf_recv(c), TMF_COMPLETE);
            assert_int_equal(tmf_recv(c), TMF_COMPLETE);
            assert_int_equal(answer_recv(c, NULL).itt, itt + 1); /* the read lives */
        } else {
            assert_int_equal(tmf_recv(c), TMF_COMPLETE);
        }
        if (functions[i] == TMF_TARGET_COLD_RESET)
            assert_int_equal(pdu_recv(c), -1);
        raw_free(&c);
        fix_wait(&fix.vms[0].sessions, 0);
    }
}

/* A write of another session, and one whose session is gone. */
static void a_reset_waits_for_everybodys_writes(void **state)
{
    struct raw *c, *other, *gone;

    (void)state;
    c = session_new(0, 1, "");
    other = session_new(0, 2, "");
    gone = session_new(0, 3, "");
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(other, F | W, 512, raw_cdb10(0x2a, 1, 1), 10, ones, 512);
    command_send(gone, F | W, 512, raw_cdb10(0x2a, 2, 1), 10, ones, 512);
    fix_wait(&fix.volumes[0].nparked, 2);
    raw_free(&gone);
    fix_wait(&fix.vms[0].sessions, 2);
    tmf_send(c, TMF_LOGICAL_UNIT_RESET, 0, 0);
    answers_others_first(c);
    fix_unstall(0);
    assert_int_equal(tmf_recv(c), TMF_COMPLETE);
    raw_free(&c);
    raw_free(&other);
}

/* Who asked is gone before the write is back. */
static void nobody_is_left_to_be_answered(void **state)
{
    struct raw *c = session_new(0, 1, ""), *other = session_new(0, 2, "");

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(other, F | W, 512, raw_cdb10(0x2a, 1, 1), 10, ones, 512);
    fix_wait(&fix.volumes[0].nparked, 1);
    tmf_send(c, TMF_LOGICAL_UNIT_RESET, 0, 0);
    answers_others_first(c);
    raw_free(&c);
    fix_wait(&fix.vms[0].sessions, 1);
    fix_unstall(0);
    assert_int_equal(tmf(other, TMF_LOGICAL_UNIT_RESET, 0, 0), TMF_COMPLETE);
    raw_free(&other);
}

static void only_so_many_wait(void **state)
{
    enum { MOST = 32 };
    struct raw *c = session_new(0, 1, "");

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(c, F | W, 512, raw_cdb10(0x2a, 1, 1), 10, ones, 512);
    fix_wait(&fix.volumes[0].nparked, 1);
    for (int i = 0; i < MOST; i++)
        tmf_send(c, TMF_LOGICAL_UNIT_RESET, 0, 0);
    assert_int_equal(tmf(c, TMF_LOGICAL_UNIT_RESET, 0, 0), TMF_REJECTED);
    fix_unstall(0);
    for (int i = 0; i < MOST; i++)
        assert_int_equal(tmf_recv(c), TMF_COMPLETE);
    raw_free(&c);
}

/* ABORT TASK of a command that never comes: its number counts as received (RFC 7143 11.5.1). */
static void a_number_that_is_skipped(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint32_t skipped = c->cmd_sn++;

    (void)state;
    command_send(c, F, 0, ready, 6, NULL, 0); /* waits for it */
    assert_int_equal(tmf(c, TMF_ABORT_TASK, 4711, skipped), TMF_COMPLETE);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(get32(c->bhs + AT_EXP_CMD_SN), c->cmd_sn);
    assert_int_equal(tmf(c, TMF_ABORT_TASK, 4711, c->cmd_sn), TMF_NO_TASK); /* not before its own number */
    raw_free(&c);
}

static void a_lun_that_is_not_there(void **state)
{
    struct raw *c = session_new(0, 1, "");

    (void)state;
    for (uint8_t function = TMF_ABORT_TASK; function <= TMF_LOGICAL_UNIT_RESET; function++) {
        uint8_t bhs[48] = {ISCSI_TASK_MANAGEMENT | ISCSI_IMMEDIATE, (uint8_t)(0x80 | function)};

        bhs[AT_LUN + 1] = 5;
        put32(bhs + AT_ITT, c->itt++);
        put32(bhs + AT_CMD_SN, c->cmd_sn);
        pdu_send(c, bhs, NULL, 0);
        assert_int_equal(tmf_recv(c), function == TMF_CLEAR_ACA ? TMF_NOT_SUPPORTED : TMF_NO_LUN);
    }
    raw_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(aborts_while_the_io_is_in_the_volume, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(an_aborted_write_takes_no_more_data, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(is_answered_when_writes_are_over, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(a_reset_waits_for_everybodys_writes, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(nobody_is_left_to_be_answered, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(only_so_many_wait, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(a_number_that_is_skipped, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(a_lun_that_is_not_there, fix_start, fix_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
