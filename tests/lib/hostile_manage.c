/* tests/lib/hostile_manage.c - task management of what is there, is not, is gone, or is in between.
 */
#include "hostile.h"

#include "mem.h"

#include <stdlib.h>

enum { LIVE = 16 };

static struct raw *with_writes(uint8_t isid, struct raw_r2t *r, int n)
{
    struct raw *c = session(isid, "InitialR2T=Yes|ImmediateData=No|");

    for (int i = 0; i < n; i++)
        r[i] = want_r2t(c, raw_command(c, ISCSI_FINAL | RAW_WRITE, 4096, raw_cdb10(0x2a, (uint32_t)i * 8, 8),
                                       10, NULL, 0));
    return c;
}

static void unknown_function(void)
{
    struct raw *c = session(1, "");

    want_managed(c, raw_manage(c, 0x7f, 0, 1, 0), TMF_REJECTED);
    want_managed(c, raw_manage(c, 0, 0, 1, 0), TMF_REJECTED);
    want_managed(c, raw_manage(c, TMF_CLEAR_ACA, 0, 1, 0), TMF_NOT_SUPPORTED);
    want_managed(c, raw_manage(c, TMF_TASK_REASSIGN, 0, 1, 0), TMF_NO_REASSIGN);
    want_quiet(c);
}

static void no_task(void)
{
    struct raw *c = session(1, "");

    want_managed(c, raw_manage(c, TMF_ABORT_TASK, 0, 0xdead, c->cmd_sn - 1), TMF_NO_TASK);
    want_managed(c, raw_manage(c, TMF_ABORT_TASK, 0, ISCSI_TAG_NONE, c->cmd_sn - 1), TMF_NO_TASK);
    want_managed(c, raw_manage(c, TMF_ABORT_TASK, 0, 0xdead, c->max_cmd_sn + 5), TMF_NO_TASK);
    want_quiet(c);
}

/* The command comes after it was aborted: it counts as received, and is not carried out. */
static void before_it_came(void)
{
    struct raw *c = session(1, "");
    uint32_t missing = c->cmd_sn, after;
    uint8_t data[512], in[512];
    struct raw_answer a;

    want_same(c, 0, 1, 7);
    missing = c->cmd_sn++;
    after = raw_command(c, ISCSI_FINAL, 0, (uint8_t[6]){0}, 6, NULL, 0);
    want_quiet(c);
    want_managed(c, raw_manage(c, TMF_ABORT_TASK, 0, 0xbeef, missing), TMF_COMPLETE);
    want_good(c, after);
    pattern(data, sizeof data, 99);
    c->itt = 0xbeef;
    c->cmd_sn = missing;
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 0, 1), 10, data, 512);
    c->cmd_sn = missing + 2;
    want_quiet(c);
    a = raw_exchange(c, raw_cdb10(0x28, 0, 1), 10, NULL, 0, in, sizeof in);
    want_is_good(&a);
    pattern(data, sizeof data, 7);
    want(!memcmp(in, data, sizeof in), "the aborted write was carried out");
}

static void live_task(void)
{
    struct raw_r2t r[2];
    struct raw *c = with_writes(1, r, 2);
    uint8_t data[4096] = {1};

    want_managed(c, raw_manage(c, TMF_ABORT_TASK, 0, r[0].itt, c->cmd_sn - 2), TMF_COMPLETE);
    want_managed(c, raw_manage(c, TMF_ABORT_TASK, 0, r[0].itt, c->cmd_sn - 2), TMF_NO_TASK);
    raw_data_out(c, r[0].itt, r[0].ttt, 0, 0, true, data, 4096); /* what was on its way */
    want_quiet(c);
    raw_data_out(c, r[1].itt, r[1].ttt, 0, 0, true, data, 4096);
    want_good(c, r[1].itt);
    want_same(c, 0, 8, 1);
}

static void races_with_answer(void)
{
    struct raw *c = session(1, "");

    for (uint32_t i = 0; i < 200; i++) {
        uint32_t itt = raw_command(c, ISCSI_FINAL | RAW_READ, 4096, raw_cdb10(0x28, i * 8, 8), 10, NULL, 0);
        uint32_t abort = raw_manage(c, TMF_ABORT_TASK, 0, itt, c->cmd_sn - 1);
        int opcode = raw_recv(c);
        bool answered = opcode == ISCSI_DATA_IN;

        want(!answered || get32(c->bhs + AT_ITT) == itt, "the data of another task");
        if (answered)
            opcode = raw_recv(c);
        want(opcode == ISCSI_TASK_MANAGEMENT_RESPONSE && get32(c->bhs + AT_ITT) == abort, "%s",
             said(c, opcode));
        want(c->bhs[AT_RESPONSE] == (answered ? TMF_NO_TASK : TMF_COMPLETE), "response %u, and %s answer",
             c->bhs[AT_RESPONSE], answered ? "an" : "no");
    }
    want_quiet(c);
}

static void whole_set(void)
{
    struct raw_r2t mine[LIVE], theirs[1];
    struct raw *c = with_writes(1, mine, LIVE), *other = with_writes(2, theirs, 1);
    uint8_t data[4096] = {2};

    want_managed(c, raw_manage(c, TMF_ABORT_TASK_SET, 0, ISCSI_TAG_NONE, 0), TMF_COMPLETE);
    for (int i = 0; i < LIVE; i++)
        raw_data_out(c, mine[i].itt, mine[i].ttt, 0, 0, true, data, 4096);
    want_quiet(c);
    raw_data_out(other, theirs[0].itt, theirs[0].ttt, 0, 0, true, data, 4096); /* not in this set */
    want_good(other, theirs[0].itt);
}

/* vm1 has others, who are told by a unit attention. */
static void reset(uint8_t function, bool for_self)
{
    struct raw_r2t mine[LIVE], theirs[LIVE];
    struct raw *c = with_writes(1, mine, LIVE), *other = with_writes(2, theirs, LIVE);
    const uint8_t ready[6] = {0};
    uint8_t data[4096] = {3};
    uint32_t sense = function == TMF_CLEAR_TASK_SET ? 0x062f00 : 0x062903;

    want_managed(c, raw_manage(c, function, 0, ISCSI_TAG_NONE, 0), TMF_COMPLETE);
    for (int i = 0; i < LIVE; i++) {
        raw_data_out(c, mine[i].itt, mine[i].ttt, 0, 0, true, data, 4096);
        raw_data_out(other, theirs[i].itt, theirs[i].ttt, 0, 0, true, data, 4096);
    }
    want_quiet(c);
    want_quiet(other);
    want_sense(other, raw_command(other, ISCSI_FINAL, 0, ready, 6, NULL, 0), sense);
    want_good(other, raw_command(other, ISCSI_FINAL, 0, ready, 6, NULL, 0));
    if (for_self)
        want_sense(c, raw_command(c, ISCSI_FINAL, 0, ready, 6, NULL, 0), sense);
    want_same(c, 0, 8, 5);
    want_same(other, 8, 8, 6);
}

static void clear_set(void)
{
    reset(TMF_CLEAR_TASK_SET, false);
}

static void lun_reset(void)
{
    reset(TMF_LOGICAL_UNIT_RESET, true);
}

static void warm_reset(void)
{
    reset(TMF_TARGET_WARM_RESET, true);
}

static void cold_reset(void)
{
    struct raw *c = session_with("vm4", 1, ""), *other = session_with("vm4", 2, ""), *vm1 = session(3, "");
    uint32_t itt = raw_manage(c, TMF_TARGET_COLD_RESET, 0, ISCSI_TAG_NONE, 0);

    want_managed(c, itt, TMF_COMPLETE);
    want_closed(c);
    want_pdu(other, ISCSI_ASYNC_MESSAGE);
    want(other->bhs[AT_ASYNC_EVENT] == ASYNC_DROP_SESSION, "async event %u", other->bhs[AT_ASYNC_EVENT]);
    want_closed(other);
    want_quiet(vm1);
}

static void no_such_lun(void)
{
    static const uint8_t functions[] = {TMF_ABORT_TASK, TMF_ABORT_TASK_SET, TMF_CLEAR_TASK_SET,
                                        TMF_LOGICAL_UNIT_RESET};
    struct raw_r2t r[1];
    struct raw *c = with_writes(1, r, 1);
    uint8_t data[4096] = {4};

    for (size_t i = 0; i < sizeof functions; i++)
        want_managed(c, raw_manage(c, functions[i], 200, r[0].itt, c->cmd_sn - 1), TMF_NO_LUN);
    raw_data_out(c, r[0].itt, r[0].ttt, 0, 0, true, data, 4096);
    want_good(c, r[0].itt);
}

static void reset_then_gone(void)
{
    for (int i = 0; i < 64; i++) {
        struct raw_r2t r[LIVE];
        struct raw *c = with_writes(1, r, LIVE);

        raw_manage(c, i & 1 ? TMF_LOGICAL_UNIT_RESET : TMF_ABORT_TASK, 0, r[i % LIVE].itt, c->cmd_sn - 1);
        hang_up_hard(&c);
    }
}

const struct hostile_case hostile_manage[] = {
    {"tmf_unknown", "functions 7f and 0, CLEAR ACA, TASK REASSIGN", "255, 255, 5, 4: RFC 7143 11.6.1",
     unknown_function},
    {"tmf_abort_none", "ABORT TASK of no task, its CmdSN outside the window", "1: RFC 7143 11.6.1", no_task},
    {"tmf_abort_ahead", "ABORT TASK of a command that comes later", "0, and the command is not carried out",
     before_it_came},
    {"tmf_abort_live", "ABORT TASK of a write that waits for data, twice", "0 and 1; no answer; data dropped",
     live_task},
    {"tmf_abort_race", "ABORT TASK right behind each of 200 reads", "an answer and 1, or none and 0",
     races_with_answer},
    {"tmf_abort_set", "ABORT TASK SET amid R2Ts", "its own writes are gone, others' not", whole_set},
    {"tmf_clear_set", "CLEAR TASK SET amid R2Ts", "all writes are gone; 6/2f/00 for others", clear_set},
    {"tmf_lun_reset", "LUN RESET with writes waiting for R2T", "all writes are gone; 6/29/03", lun_reset},
    {"tmf_warm_reset", "TARGET WARM RESET", "the same", warm_reset},
    {"tmf_cold_reset", "TARGET COLD RESET",
     "0; the VM's other sessions hear of it; its connections close, other VMs' not", cold_reset},
    {"tmf_no_lun", "functions on a LUN that is not there", "2; the task goes on", no_such_lun},
    {"tmf_then_gone", "RST right behind ABORT TASK and LUN RESET", "nothing is used after it was freed",
     reset_then_gone},
    {0},
};
