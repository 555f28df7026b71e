/* links: fake_volumes target; with: mutate.c; covers: target/ */
/* Whole iSCSI connections. The target is the real one, over volumes in memory; the input is a program
 * (program.h) that an initiator runs: it logs in as the first byte says, then sends requests that are right
 * but for what the input bends, or bytes as they are. It may talk over two connections, stop reading, hold
 * I/O in the volume, make it fail, delete the VM, or stop the target.
 *
 * After every input nothing may be left: no connection, session, reference, block or byte of the budgets.
 */
#include "fuzz.h"
#include "initiator.h"
#include "program.h"

#include "scsi.h"
#include "session_make.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    initiator_init();
    return 0;
}

static void login_chap(struct client *c)
{
    uint8_t challenge[CHAP_CHALLENGE_BYTES], digest[CHAP_DIGEST_MAX];
    char hex[2 * CHAP_DIGEST_MAX + 3] = "0x00", text[300];
    int n;

    login_text(c, SEC, WHO "|TargetName=" WORLD_IQN "2|AuthMethod=CHAP|");
    login_text(c, SEC, "CHAP_A=7,5|");
    n = chap_decode(c->challenge, challenge, sizeof challenge);
    if (n > 0) {
        size_t len = chap_compute(c->algorithm, (uint8_t)c->id, WORLD_SECRET, challenge, (size_t)n, digest);

        chap_encode(digest, len, hex);
    }
    snprintf(text, sizeof text, "CHAP_N=user|CHAP_R=%s|CHAP_I=9|CHAP_C=0x0123456789abcdef|", hex);
    login_text(c, SEC_TO_FULL, text);
}

static void begin(struct client *c, uint8_t how)
{
    client_connect(c);
    switch (how & 15) {
    case 0: /* the program does it, or does not */
        break;
    case 1:
        login_text(c, OP_TO_FULL, WHO "|TargetName=" WORLD_IQN "0|SessionType=Normal|");
        break;
    case 2:
        login_text(c, OP_TO_FULL,
                   WHO "|TargetName=" WORLD_IQN "0|InitialR2T=No|FirstBurstLength=8192|MaxBurstLength=16384|"
                       "MaxOutstandingR2T=4|MaxRecvDataSegmentLength=512|");
        break;
    case 3:
        login_text(c, OP_TO_FULL,
                   WHO "|TargetName=" WORLD_IQN "0|InitialR2T=No|HeaderDigest=CRC32C|DataDigest=CRC32C|");
        break;
    case 4:
        login_text(c, OP_TO_FULL, WHO "|TargetName=" WORLD_IQN "1|InitialR2T=No|ImmediateData=No|");
        break;
    case 5:
        login_text(c, OP_TO_FULL, WHO "|SessionType=Discovery|");
        break;
    case 6:
        login_chap(c);
        break;
    case 7:
        login_text(c, SEC_TO_OP, WHO "|TargetName=" WORLD_IQN "0|AuthMethod=None|");
        login_text(c, OP_TO_FULL, "MaxRecvDataSegmentLength=262144|");
        break;
    case 8:
        login_text(c, OP_TO_FULL, WHO "|TargetName=" WORLD_IQN "0|HeaderDigest=CRC32C,None|InitialR2T=No|");
        break;
    case 9:
        login_text(c, OP_TO_FULL, WHO "|TargetName=" WORLD_IQN "0|DataDigest=CRC32C|MaxBurstLength=4096|");
        break;
    case 10: /* as Windows does: who it is, then two more requests */
        login_text(c, SEC, WHO "|TargetName=" WORLD_IQN "1|SessionType=Normal|AuthMethod=None|");
        login_text(c, SEC_TO_OP, "");
        login_text(c, OP_TO_FULL, "HeaderDigest=None,CRC32C|FirstBurstLength=65536|MaxOutstandingR2T=8|");
        break;
    default:
        login_text(c, OP_TO_FULL, WHO "|TargetName=" WORLD_IQN "0|MaxOutstandingR2T=1|");
    }
}

/* A command's number: the next, or one that leaves a gap or comes again. */
static uint32_t number(struct client *c, bool immediate, uint8_t bend)
{
    if (immediate)
        return c->cmd_sn;
    return c->cmd_sn++ + (bend & 0x80 ? (uint32_t)(bend & 7) - 3 : 0);
}

/* A CDB that is right but for its small numbers: an operation of the table, with the bits that it knows. */
static uint32_t tame(uint8_t cdb[16])
{
    const struct scsi_op *op = &scsi_ops[cdb[0] % scsi_nops];
    uint8_t len = op->cdb_bytes, small = len == 6 ? 4 : len == 10 ? 8 : len == 12 ? 9 : 13;

    cdb[0] = op->opcode;
    for (int i = 1; i < 16; i++)
        cdb[i] &= i < len ? op->usage[i] : 0;
    if (op->action != ANY_ACTION)
        cdb[1] = (uint8_t)((cdb[1] & 0xe0) | op->action);
    memset(cdb + 2, 0, len == 16 ? 6 : len == 6 ? 1 : 2);
    memset(cdb + small - (len > 10 ? 3 : 1), 0, len == 6 ? 0 : len > 10 ? 3 : 1);
    cdb[len - 1] = 0;
    return cdb[small] * 512u;
}

static uint32_t tag_next(struct client *c)
{
    c->tasks[++c->itt % LIVE_TASKS] = c->itt;
    return c->itt;
}

static void command(struct client *c, struct program *in)
{
    uint8_t how = take8(in), bend = take8(in), size = take8(in), bhs[BHS_BYTES] = {ISCSI_SCSI_COMMAND};
    uint32_t edtl = take16(in), n = take8(in), len = 16;
    const uint8_t *cdb = take(in, &len), *data = pattern;

    memcpy(bhs + AT_CDB, cdb, len);
    bhs[0] |= how & ISCSI_IMMEDIATE;
    bhs[1] = (uint8_t)((bend & 0x40 ? 0 : ISCSI_FINAL) | (how & 0x30) << 1 | (how & 7));
    if (how & 0x80)
        edtl = tame(bhs + AT_CDB) * (size & 0x80 ? 8 : 1) + (edtl & 1);
    else if (size & 0x80)
        edtl *= size & 0x40 ? 0x10001 : 512;
    n *= size & 0x20 ? 64 : size & 0x10 ? 16 : 1;
    if (how & 0x08) { /* a list of UNMAP, say; the EDTL is its length unless the input says another */
        data = take_rest(in, &n);
        if (!edtl)
            edtl = n;
    } else if (size & 8) {
        n = edtl < 8192 ? edtl : 8192;
    }
    bhs[AT_LUN + 1] = bend & 0x30 ? (bend & 0x30) >> 4 & 1 : 0;
    if ((bend & 0x38) == 0x38)
        bhs[AT_LUN] = bend;
    put32(bhs + AT_EDTL, edtl);
    put32(bhs + AT_ITT, bend & 8 ? c->tasks[size % LIVE_TASKS] : tag_next(c));
    put32(bhs + AT_CMD_SN, number(c, how & ISCSI_IMMEDIATE, bend));
    c->out_itt = get32(bhs + AT_ITT);
    c->out_at = n;
    c->out_sn = 0;
    pdu(c, bhs, data, n);
}

/* A piece of what the newest R2T asked for, or of the newest write's unsolicited data. */
static void data_out(struct client *c, struct program *in, bool solicited)
{
    uint8_t how = take8(in), bhs[BHS_BYTES] = {ISCSI_DATA_OUT};
    uint32_t n = take16(in) % 8193, *at = solicited ? &c->r2t_at : &c->out_at;
    uint32_t *sn = solicited ? &c->r2t_sn : &c->out_sn;

    if (solicited && (how & 2) && n > c->r2t_left)
        n = c->r2t_left;
    if (solicited && (how & 4))
        n = c->r2t_left < DATA_BYTES ? c->r2t_left : DATA_BYTES;
    bhs[1] = how & ISCSI_FINAL;
    put32(bhs + AT_ITT, solicited ? c->r2t_itt : c->out_itt);
    put32(bhs + AT_TTT, solicited ? c->r2t_ttt + (how >> 3 & 1) : ISCSI_TAG_NONE);
    put32(bhs + AT_DATA_SN, *sn + (how >> 4 & 1));
    put32(bhs + AT_BUFFER_OFFSET, *at + (how & 0x20 ? 1 : 0));
    *at += n;
    ++*sn;
    if (solicited)
        c->r2t_left -= n < c->r2t_left ? n : c->r2t_left;
    pdu(c, bhs, pattern, n);
}

/* Task management, NOP-Out, logout, text: one header with the fields that they look at. */
static void request(struct client *c, struct program *in, uint8_t opcode)
{
    uint8_t how = take8(in), bend = take8(in), bhs[BHS_BYTES] = {(uint8_t)(opcode | (how & ISCSI_IMMEDIATE))};
    uint32_t n = take8(in), tag = take8(in);
    const uint8_t *data = pattern;

    if (how & 0x20)
        tag = c->tasks[tag % LIVE_TASKS];
    if (how & 0x10)
        data = take_rest(in, &n);
    else if (opcode == ISCSI_NOP_OUT)
        n *= bend & 8 ? 32 : 1;
    else
        n = 0;
    bhs[1] = opcode == ISCSI_TEXT_REQUEST ? how & 0xc0 ? (uint8_t)(how & 0xc0) : ISCSI_FINAL
                                          : (uint8_t)(ISCSI_FINAL | (how & 0x0f));
    bhs[AT_LUN + 1] = bend >> 6 & 1;
    put32(bhs + AT_ITT, bend & 0x20 ? ISCSI_TAG_NONE : tag_next(c));
    if (opcode == ISCSI_TEXT_REQUEST)
        tag = bend & 0x10 ? c->text_ttt : ISCSI_TAG_NONE;
    else if (opcode == ISCSI_NOP_OUT)
        tag = bend & 0x10 ? c->ping_ttt : ISCSI_TAG_NONE;
    else if (opcode == ISCSI_LOGOUT_REQUEST)
        tag = 1 << 16; /* CID 1 */
    put32(bhs + AT_TTT, tag);
    put32(bhs + AT_CMD_SN, number(c, how & ISCSI_IMMEDIATE, bend));
    put32(bhs + AT_REF_CMD_SN, c->cmd_sn - (bend & 1));
    pdu(c, bhs, data, n);
}

static void as_it_is(struct client *c, struct program *in, bool whole_pdu)
{
    uint8_t bhs[BHS_BYTES] = {0};
    uint32_t n, head = BHS_BYTES;
    const uint8_t *p;

    if (whole_pdu) {
        p = take(in, &head);
        memcpy(bhs, p, head);
    }
    p = take_rest(in, &n);
    if (whole_pdu)
        pdu(c, bhs, p, n < DATA_BYTES ? n : DATA_BYTES);
    else
        client_write(c, p, n);
}

/* So many seconds of silence: what the clock would have done comes now. */
static void time_passes(uint64_t seconds)
{
    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        struct shard *s = &target->shards[i];
        struct device *d, *next;
        struct conn *c;

        TAILQ_FOREACH (c, &s->conns, entry)
            if (conn_open(c)) {
                c->last_rx_ns -= seconds * 1000000000;
                c->since_ns -= seconds * 1000000000;
                c->timer.fire(&c->timer);
            }
        for (d = TAILQ_FIRST(&s->devices); d; d = next) {
            next = TAILQ_NEXT(d, entry);
            if (d->going && seconds > 1)
                d->going_timer.fire(&d->going_timer);
        }
    }
}

static void other_client(struct client **pc, uint8_t how)
{
    *pc = &clients[(*pc - clients + 1) % CLIENTS];
    if ((*pc)->fd < 0 || how & 0x80)
        begin(*pc, how);
}

static void login_step(struct client *c, struct program *in)
{
    uint8_t flags = take8(in);
    uint32_t n;
    const uint8_t *text = take_rest(in, &n);

    login(c, flags, text, n < DATA_BYTES ? n : DATA_BYTES);
}

static void request_step(struct client *c, uint8_t kind, struct program *in)
{
    switch (kind) {
    case STEP_BYTES:
    case STEP_PDU:
        as_it_is(c, in, kind == STEP_PDU);
        break;
    case STEP_COMMAND:
        command(c, in);
        break;
    case STEP_SOLICITED:
    case STEP_UNSOLICITED:
        data_out(c, in, kind == STEP_SOLICITED);
        break;
    case STEP_TASK_MANAGEMENT:
        request(c, in, ISCSI_TASK_MANAGEMENT);
        break;
    case STEP_NOP:
        request(c, in, ISCSI_NOP_OUT);
        break;
    case STEP_TEXT:
        request(c, in, ISCSI_TEXT_REQUEST);
        break;
    case STEP_LOGOUT:
        request(c, in, ISCSI_LOGOUT_REQUEST);
        break;
    case STEP_LOGIN:
        login_step(c, in);
        break;
    }
}

static void step(struct client **pc, uint8_t kind, struct program *in)
{
    struct client *c = *pc;
    uint8_t v;

    switch (kind) {
    case STEP_BEND:
        c->bend = take8(in) % (BEND_NOTHING + 1);
        c->bend_by = take16(in);
        return;
    case STEP_WORLD:
        world_bend(take8(in));
        break;
    case STEP_CLIENT:
        other_client(pc, take8(in));
        return;
    case STEP_DEAF:
        c->deaf = take8(in) & 1;
        break;
    case STEP_SHUTDOWN:
        if (c->fd >= 0)
            shutdown(c->fd, take8(in) & 1 ? SHUT_WR : SHUT_RDWR);
        break;
    case STEP_TIME:
        v = take8(in);
        if (v & 0x80)
            time_passes(v & 0x7f);
        break;
    default:
        request_step(c, kind, in);
    }
    turn(2);
}

struct ends {
    bool quiet, gone;
};

static void on_quiet(void *arg)
{
    ((struct ends *)arg)->quiet = true;
}

static void on_gone(void *arg)
{
    struct ends *ends = arg;

    CHECK(ends->quiet);
    ends->gone = true;
}

/* The target stops while its initiators are there, and another one starts. */
static void restart(bool late)
{
    struct ends ends = {0};

    target_stop(target, on_quiet, on_gone, &ends);
    turn(3);
    for (unsigned i = 0; late && !ends.quiet && i < WORLD_LOOPS; i++)
        if (target->shards[i].stop_timer.loop) /* nobody has gone in time */
            target->shards[i].stop_timer.fire(&target->shards[i].stop_timer);
    turn(3);
    for (int i = 0; i < CLIENTS; i++)
        client_drop(&clients[i]);
    world_bend(0);
    for (unsigned i = 0; i < 1000 && !ends.gone; i++)
        turn(1);
    CHECK(ends.gone);
    begin_target();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct program in = {p, p + n}, bytes;
    struct client *c = &clients[0];
    uint8_t how = take8(&in), kind;

    begin(c, how);
    for (unsigned i = 0; i < PROGRAM_STEPS && take_step(&in, &kind, &bytes); i++)
        step(&c, kind % STEP_KINDS, &bytes);
    if (how & 0x40)
        restart(how & 0x20);
    all_gone();
    return 0;
}
