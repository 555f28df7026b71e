/* practice_watch.c - looks at every PDU a session of `practice` gets: numbers that must follow from those
 * before (StatSN, ExpCmdSN, MaxCmdSN, DataSN, R2TSN, Buffer Offset) and fields that have one right value (RFC
 * 7143 section 11). Some targets leave ExpCmdSN and MaxCmdSN of an R2T at zero, or give it a StatSN of its
 * own.
 */
#include "practice.h"

#include "mem.h"

#include <stdlib.h>

enum { TASKS = 512, WINDOW_MAX = 4096 };

struct task_seen {
    uint32_t itt, data_sn, r2t_sn, offset;
};

struct watch {
    uint32_t max_cmd_sn, exp_cmd_sn;
    struct task_seen tasks[TASKS];
};

static void watch_numbers(struct raw *c);

void watch_begin(struct raw *c)
{
    struct watch *w = xcalloc(1, sizeof *w);

    w->max_cmd_sn = c->max_cmd_sn;
    w->exp_cmd_sn = c->exp_cmd_sn;
    c->watch = watch_numbers;
    c->watch_arg = w;
}

void watch_end(struct raw *c)
{
    free(c->watch_arg);
    c->watch_arg = NULL;
    c->watch = NULL;
}

static struct task_seen *task(struct watch *w, uint32_t itt)
{
    struct task_seen *t = &w->tasks[itt % TASKS];

    if (t->itt != itt)
        *t = (struct task_seen){.itt = itt};
    return t;
}

/* ExpCmdSN and MaxCmdSN: in every PDU of the target, never going back (RFC 7143 section 4.2.2.1). */
static void check_window(struct watch *w, const struct raw *c, int opcode)
{
    uint32_t exp = get32(c->bhs + AT_EXP_CMD_SN), max = get32(c->bhs + AT_MAX_CMD_SN);

    WANT((int32_t)(exp - w->exp_cmd_sn) >= 0 && (int32_t)(c->cmd_sn - exp) >= 0,
         "PDU %02x: ExpCmdSN %u after %u, we are at %u", opcode, exp, w->exp_cmd_sn, c->cmd_sn);
    WANT((int32_t)(max - w->max_cmd_sn) >= 0 && max - exp + 1 <= WINDOW_MAX,
         "PDU %02x: MaxCmdSN %u after %u, with ExpCmdSN %u", opcode, max, w->max_cmd_sn, exp);
    w->exp_cmd_sn = exp;
    w->max_cmd_sn = max;
}

static void check_data_in(struct watch *w, const struct raw *c, uint32_t itt)
{
    uint32_t sn = get32(c->bhs + AT_DATA_SN), offset = get32(c->bhs + AT_BUFFER_OFFSET);
    struct task_seen *t = task(w, itt);

    WANT(sn == t->data_sn && offset == t->offset, "Data-In: DataSN %u at %u instead of %u at %u", sn, offset,
         t->data_sn, t->offset);
    WANT(get32(c->bhs + AT_TTT) == ISCSI_TAG_NONE && !(c->bhs[AT_FLAGS] & 0x40),
         "Data-In asks to be acknowledged");
    t->data_sn++;
    t->offset += c->len;
    if (c->bhs[AT_FLAGS] & ISCSI_DATA_STATUS) {
        WANT(c->bhs[AT_FLAGS] & ISCSI_FINAL, "Data-In with status but not final");
        t->itt = 0;
    }
}

static void check_r2t(struct watch *w, const struct raw *c, uint32_t itt)
{
    struct raw_r2t r = raw_r2t(c);
    struct task_seen *t = task(w, itt);

    WANT(r.sn == t->r2t_sn, "R2TSN %u instead of %u", r.sn, t->r2t_sn);
    WANT(r.ttt != ISCSI_TAG_NONE && r.len && r.len <= c->max_burst && c->len == 0,
         "R2T: tag %08x, %u bytes wanted, a segment of %u", r.ttt, r.len, c->len);
    WANT(c->bhs[AT_FLAGS] == ISCSI_FINAL && c->bhs[2] == 0 && c->bhs[3] == 0, "R2T: flags %02x",
         c->bhs[AT_FLAGS]);
    t->r2t_sn++;
}

static void watch_numbers(struct raw *c)
{
    struct watch *w = c->watch_arg;
    int opcode = c->bhs[0] & ISCSI_OPCODE_MASK;
    uint32_t itt = get32(c->bhs + AT_ITT), stat_sn = get32(c->bhs + AT_STAT_SN);
    bool numbered = opcode != ISCSI_DATA_IN || c->bhs[AT_FLAGS] & ISCSI_DATA_STATUS;

    WANT(!(c->bhs[0] & 0xc0), "PDU %02x: the first two bits are reserved", c->bhs[0]);
    WANT(!numbered || stat_sn == c->exp_stat_sn, "PDU %02x: StatSN %u instead of %u", opcode, stat_sn,
         c->exp_stat_sn);
    check_window(w, c, opcode);
    if (opcode == ISCSI_DATA_IN)
        check_data_in(w, c, itt);
    else if (opcode == ISCSI_R2T)
        check_r2t(w, c, itt);
    else if (opcode == ISCSI_SCSI_RESPONSE)
        w->tasks[itt % TASKS].itt = 0;
    else if (opcode == ISCSI_NOP_IN)
        WANT((itt == ISCSI_TAG_NONE) != (get32(c->bhs + AT_TTT) == ISCSI_TAG_NONE),
             "NOP-In with tags %08x and %08x", itt, get32(c->bhs + AT_TTT));
}
