/* tests/lib/hostile_order.c - CmdSN and task tags: ahead, behind, twice, with gaps; immediate commands.
 */
#include "hostile.h"

#include "mem.h"

enum { WINDOW_MAX = 4096, GIVEN_BACK_SECONDS = 5 };

static const uint8_t ready[6]; /* TEST UNIT READY */

static uint32_t test_ready(struct raw *c)
{
    return raw_command(c, ISCSI_FINAL, 0, ready, sizeof ready, NULL, 0);
}

static void too_high(void)
{
    struct raw *c = session(1, "");
    uint32_t now = c->cmd_sn;

    c->cmd_sn = c->max_cmd_sn + 1;
    test_ready(c);
    c->cmd_sn = c->max_cmd_sn + 1000000;
    test_ready(c);
    c->cmd_sn = now + 0x80000000u;
    test_ready(c);
    c->cmd_sn = now;
    want_quiet(c);
    want_good(c, test_ready(c));
}

static void too_low(void)
{
    struct raw *c = session(1, "");

    want_good(c, test_ready(c));
    c->cmd_sn--;
    test_ready(c); /* the same number again */
    c->cmd_sn -= 1000;
    test_ready(c);
    c->cmd_sn += 999;
    want_quiet(c);
    want_good(c, test_ready(c));
}

static void gap(void)
{
    struct raw *c = session(1, "");
    uint32_t first, second;

    c->cmd_sn++;
    second = test_ready(c);
    want_quiet(c);
    c->cmd_sn -= 2;
    first = test_ready(c);
    c->cmd_sn++;
    want_good(c, first);
    want_good(c, second);
    want_good(c, test_ready(c));
}

/* A whole window, the last number first. */
static void backwards(void)
{
    static uint32_t itts[WINDOW_MAX];
    struct raw *c = session(1, "");
    uint32_t from = c->cmd_sn, n = c->max_cmd_sn - from + 1;

    want(n > 1 && n <= WINDOW_MAX, "a window of %u", n);
    for (uint32_t i = n; i-- > 0;) {
        c->cmd_sn = from + i;
        itts[i] = test_ready(c);
    }
    c->cmd_sn = from + n;
    for (uint32_t i = 0; i < n; i++)
        want_good(c, itts[i]);
    want_good(c, test_ready(c));
}

/* The same number twice, before its turn: the first one counts. */
static void twice_ahead(void)
{
    struct raw *c = session(1, "");
    uint32_t first, kept;

    c->cmd_sn++;
    kept = test_ready(c);
    c->cmd_sn--;
    test_ready(c);
    c->cmd_sn -= 2;
    first = test_ready(c);
    c->cmd_sn++;
    want_good(c, first);
    want_good(c, kept);
    want_good(c, test_ready(c));
}

static void wraps(void)
{
    struct raw *c = dial(1);

    c->cmd_sn = 0xfffffff0u;
    want_login(c, RAW_TO_FULL, keys_for("vm1", ""), LOGIN_SUCCESS);
    for (int i = 0; i < 64; i++)
        want_good(c, test_ready(c));
    want_same(c, 0, 8, 1);
}

/* MaxCmdSN is not lower than it was, and all of the window is given back. */
static void window_kept(void)
{
    struct raw *c = session(1, "InitialR2T=Yes|ImmediateData=No|");
    uint32_t n = c->max_cmd_sn - c->cmd_sn + 1, max = c->max_cmd_sn, from = c->itt;

    for (uint32_t i = 0; i < n; i++)
        raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, i, 1), 10, NULL, 0);
    for (uint32_t i = 0; i < n; i++) {
        want_r2t(c, from + i);
        want((int32_t)(get32(c->bhs + AT_MAX_CMD_SN) - max) >= 0, "MaxCmdSN went back");
        max = get32(c->bhs + AT_MAX_CMD_SN);
    }
    want((int32_t)(c->max_cmd_sn - c->cmd_sn) < 0, "%u commands wait, and there is room for more", n);
    test_ready(c); /* beyond the window */
    c->cmd_sn--;
    want_quiet(c);
    want_managed(c, raw_manage(c, TMF_ABORT_TASK_SET, 0, ISCSI_TAG_NONE, 0), TMF_COMPLETE);
    want_quiet(c);
    want(c->max_cmd_sn - c->cmd_sn + 1 == n, "a window of %u instead of %u", c->max_cmd_sn - c->cmd_sn + 1,
         n);
    want_same(c, 0, 8, 2);
}

/* --- tags --- */

static void live_tag(void)
{
    struct raw *c = session(1, "InitialR2T=Yes|ImmediateData=No|");
    uint8_t data[512] = {1};
    uint32_t itt = raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 0, 1), 10, NULL, 0);
    struct raw_r2t r = want_r2t(c, itt);

    c->itt = itt;
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 1, 1), 10, NULL, 0);
    want_reject(c, REJECT_TASK_IN_PROGRESS);
    raw_data_out(c, itt, r.ttt, 0, 0, true, data, 512);
    want_good(c, itt);
    c->itt = itt; /* now it is free */
    want_good(c, test_ready(c));
}

static void reserved_tag(void)
{
    struct raw *c = session(1, "");
    struct raw_pdu p;

    raw_command_header(c, &p, ISCSI_FINAL, 0, ready, sizeof ready);
    put32(p.bhs + AT_ITT, ISCSI_TAG_NONE);
    raw_send(c, &p);
    want_reject(c, REJECT_INVALID_FIELD);
    want_good(c, test_ready(c));
}

/* --- immediate commands --- */

static void immediate_flood(void)
{
    struct raw *c = session(1, "InitialR2T=Yes|ImmediateData=No|");
    unsigned taken = 0, refused = 0;
    struct raw_pdu p;

    for (uint32_t i = 0; i < 500; i++) {
        raw_command_header(c, &p, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, i, 1), 10);
        p.bhs[0] |= ISCSI_IMMEDIATE;
        c->cmd_sn--;
        raw_send(c, &p);
    }
    for (int i = 0; i < 500; i++) {
        int opcode = raw_recv(c);

        want(opcode == ISCSI_R2T || (opcode == ISCSI_REJECT && c->bhs[AT_RESPONSE] == REJECT_IMMEDIATE), "%s",
             said(c, opcode));
        taken += opcode == ISCSI_R2T;
        refused += opcode == ISCSI_REJECT;
    }
    want(taken >= 1 && refused >= 1 && taken < 128, "%u immediate commands were taken", taken);
    want_quiet(c);
}

/* --- attributes that are none --- */

static void attributes(void)
{
    struct raw *c = session(1, "");
    struct raw_pdu p;

    for (unsigned a = 0; a < 8; a++) { /* untagged to ACA, and reserved */
        uint32_t itt = raw_command_header(c, &p, ISCSI_FINAL, 0, ready, sizeof ready);
        struct raw_answer answer;

        p.bhs[AT_FLAGS] = (uint8_t)(ISCSI_FINAL | a);
        raw_send(c, &p);
        answer = raw_answer(c, NULL, 0);
        want(answer.opcode == ISCSI_SCSI_RESPONSE && answer.itt == itt, "%s", said(c, answer.opcode));
    }
    want_same(c, 0, 8, 3);
}

const struct hostile_case hostile_order[] = {
    {"cmdsn_high", "CmdSN beyond MaxCmdSN", "dropped silently: RFC 7143 4.2.2.1", too_high},
    {"cmdsn_low", "CmdSN that has been, and long ago", "dropped silently: RFC 7143 4.2.2.1", too_low},
    {"cmdsn_gap", "CmdSN+1, then CmdSN", "both, in the order of their numbers", gap},
    {"cmdsn_backwards", "a whole window, the last first", "all, in the order of their numbers", backwards},
    {"cmdsn_twice", "a number twice before its turn", "the first one counts", twice_ahead},
    {"cmdsn_wraps", "CmdSN across 2^32", "serial arithmetic: RFC 7143 4.2.2.1", wraps},
    {"window_kept", "a full window, one more, ABORT TASK SET", "MaxCmdSN never goes back; all is given back",
     window_kept},
    {"dup_itt", "the tag of a live task", "Reject 07; the task goes on", live_tag},
    {"itt_reserved", "a command with ITT ffffffff", "Reject 09, the session goes on", reserved_tag},
    {"immediate_flood", "500 immediate writes that wait for R2Ts",
     "Reject 06 beyond a bound: RFC 7143 4.2.2.1", immediate_flood},
    {"attributes", "each task attribute, reserved ones too", "an answer", attributes},
    {0},
};
