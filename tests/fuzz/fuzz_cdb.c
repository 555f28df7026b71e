/* links: fake_volumes target; with: mutate.c; covers: target/scsi target/command target/reserve target/range
 * target/sense
 */
/* CDBs with their data, one after the other, from one or two initiators that do the protocol right. The
 * target is the real one over volumes in memory; a second disk in memory (disk_model.h) says what each CDB
 * must do.
 *
 * Every command is answered; data in fits the allocation length and the EDTL; residuals add up; what is read
 * is what was written; what is refused has changed nothing.
 */
#include "fuzz.h"
#include "initiator.h"
#include "program.h"

#include "cdb_make.h"
#include "disk_model.h"
#include "scsi.h"

enum { OUT_BYTES = 256 << 10, PIECE_BYTES = 8192, FIRST_BYTES = 4096, R2TS = 16, NEAR_BYTES = 4 << 10 };

static struct disk_model models[WORLD_VOLUMES];
static uint8_t out_bytes[OUT_BYTES], in_bytes[DISK_BYTES + OUT_BYTES];

/* The answer of the command that is out. */
static struct {
    uint32_t itt, edtl, in_len, residual, sent;
    bool done, under, over;
    uint8_t status, key;
    struct {
        uint32_t ttt, at, n;
    } r2ts[R2TS];
    unsigned nr2ts;
} answer;

static struct {
    bool four_k, reserves, fails, no_immediate_data[CLIENTS];
} input;

static struct disk_model *model_of(unsigned lun)
{
    return &models[input.four_k ? 1 : lun ? 3 : 0];
}

static void response(const uint8_t *bhs, const uint8_t *data, uint32_t n)
{
    CHECK(!answer.done);
    answer.done = true;
    answer.status = bhs[AT_STATUS];
    answer.under = bhs[1] & ISCSI_RESIDUAL_UNDERFLOW;
    answer.over = bhs[1] & ISCSI_RESIDUAL_OVERFLOW;
    answer.residual = get32(bhs + AT_RESIDUAL);
    CHECK(!(answer.under && answer.over) && (answer.under || answer.over) == (answer.residual > 0));
    if ((bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_SCSI_RESPONSE) {
        CHECK(bhs[AT_RESPONSE] == 0 && (n > 0) == (answer.status == SCSI_CHECK_CONDITION));
        if (n) {
            CHECK(n >= 2 && get16(data) == n - 2 && (data[2] & 0x7f) >= 0x70 && (data[2] & 0x7f) <= 0x73);
            answer.key = (data[2] & 2 ? data[3] : data[4]) & 0xf;
        }
    }
}

static void heard(struct client *c, const uint8_t *bhs, const uint8_t *data, uint32_t n)
{
    (void)c;
    switch (bhs[0]) {
    case ISCSI_DATA_IN:
        CHECK(get32(bhs + AT_ITT) == answer.itt && get32(bhs + AT_BUFFER_OFFSET) == answer.in_len &&
              n <= answer.edtl - answer.in_len);
        memcpy(in_bytes + answer.in_len, data, n);
        answer.in_len += n;
        if (bhs[1] & ISCSI_DATA_STATUS)
            response(bhs, data, 0);
        break;
    case ISCSI_SCSI_RESPONSE:
        CHECK(get32(bhs + AT_ITT) == answer.itt);
        response(bhs, data, n);
        break;
    case ISCSI_R2T:
        CHECK(get32(bhs + AT_ITT) == answer.itt && answer.nr2ts < R2TS);
        answer.r2ts[answer.nr2ts].ttt = get32(bhs + AT_TTT);
        answer.r2ts[answer.nr2ts].at = get32(bhs + AT_BUFFER_OFFSET);
        answer.r2ts[answer.nr2ts++].n = get32(bhs + AT_DESIRED_LENGTH);
        break;
    case ISCSI_REJECT:
        check_failed("a request that is right is not rejected", __FILE__, __LINE__, __func__);
    }
}

/* What the oldest R2T asks for. */
static void r2t_answered(struct client *c)
{
    uint32_t ttt = answer.r2ts[0].ttt, at = answer.r2ts[0].at, n = answer.r2ts[0].n, sn = 0;

    answer.nr2ts--;
    memmove(answer.r2ts, answer.r2ts + 1, answer.nr2ts * sizeof answer.r2ts[0]);
    CHECK(at == answer.sent && n && n <= answer.edtl - at);
    answer.sent += n;
    while (n) {
        uint8_t bhs[BHS_BYTES] = {ISCSI_DATA_OUT};
        uint32_t piece = n < PIECE_BYTES ? n : PIECE_BYTES;

        n -= piece;
        bhs[1] = n ? 0 : ISCSI_FINAL;
        put32(bhs + AT_ITT, answer.itt);
        put32(bhs + AT_TTT, ttt);
        put32(bhs + AT_DATA_SN, sn++);
        put32(bhs + AT_BUFFER_OFFSET, at);
        pdu(c, bhs, out_bytes + at, piece);
        at += piece;
    }
}

/* Sends it with its data, until it is answered. */
static void command_done(struct client *c, unsigned lun, const struct offer *o, bool immediate_data)
{
    uint8_t bhs[BHS_BYTES] = {ISCSI_SCSI_COMMAND};
    uint32_t n = o->writes && immediate_data ? o->edtl < FIRST_BYTES ? o->edtl : FIRST_BYTES : 0;

    memset(&answer, 0, sizeof answer);
    answer.itt = ++c->itt;
    answer.edtl = o->edtl;
    answer.sent = n;
    bhs[1] = (uint8_t)(ISCSI_FINAL | (o->reads ? ISCSI_CMD_READ : 0) | (o->writes ? ISCSI_CMD_WRITE : 0) | 1);
    put16(bhs + AT_LUN, (uint16_t)lun);
    put32(bhs + AT_ITT, c->itt);
    put32(bhs + AT_EDTL, o->edtl);
    put32(bhs + AT_CMD_SN, c->cmd_sn++);
    memcpy(bhs + AT_CDB, o->cdb, 16);
    pdu(c, bhs, out_bytes, n);
    for (unsigned i = 0; i < 1000 && !answer.done; i++) {
        turn(1);
        while (answer.nr2ts && !answer.done)
            r2t_answered(c);
    }
    CHECK(answer.done);
}

/* --- what must be true of the answer --- */

static uint64_t allocation_length(const uint8_t *cdb)
{
    switch (cdb[0]) {
    case 0x12: /* INQUIRY */
        return get16(cdb + 3);
    case 0x25: /* READ CAPACITY(10) has none */
        return 8;
    case 0xa0:
        return get32(cdb + 6);
    }
    switch (cdb[0] >> 5) {
    case 0:
        return cdb[4];
    case 1:
    case 2:
        return get16(cdb + 7);
    case 4:
        return get32(cdb + 10);
    default:
        return get32(cdb + 6);
    }
}

static void residual_check(const struct offer *o, const struct wanted *w, uint32_t real, bool is_write)
{
    uint32_t expected = !real || (is_write ? o->writes : o->reads) ? o->edtl : 0;

    (void)w;
    CHECK(answer.over == (real > expected) && answer.under == (real < expected));
    CHECK(answer.residual == (real > expected ? real - expected : expected - real));
}

static void read_check(const struct disk_model *d, const struct offer *o, const struct wanted *w)
{
    uint32_t n = (uint32_t)w->count * d->block;

    residual_check(o, w, n, false);
    n = !o->reads ? 0 : n < o->edtl ? n : o->edtl;
    CHECK(answer.in_len == n && memcmp(in_bytes, d->bytes + w->lba * d->block, n) == 0);
}

/* [from, to) of a disk is what its model says. */
static void disk_check(const struct disk_model *d, uint64_t from, uint64_t to)
{
    to = to < DISK_BYTES ? to : DISK_BYTES;
    CHECK(from >= to || memcmp(d->bytes + from, world.volumes[d - models].bytes + from, to - from) == 0);
}

/* Around what a command has named. */
static void near_check(const struct disk_model *d, const struct wanted *w)
{
    uint64_t blocks = DISK_BYTES / d->block, at = w->lba < blocks ? w->lba * d->block : 0;
    uint64_t n = (w->count < blocks ? w->count : blocks) * d->block;

    disk_check(d, at < NEAR_BYTES ? 0 : at - NEAR_BYTES, at + n + NEAR_BYTES);
}

/* A disk failed in the middle: what was done is what the disk says. */
static void models_follow(void)
{
    for (unsigned lun = 0; lun < (input.four_k ? 1 : 2); lun++) {
        struct disk_model *d = model_of(lun);

        memcpy(d->bytes, world.volumes[d - models].bytes, DISK_BYTES);
        touch(d, 0, DISK_BYTES);
    }
}

static void refusal_check(const struct disk_model *d, const struct offer *o, const struct wanted *w)
{
    bool excused = answer.status == SCSI_RESERVATION_CONFLICT
                       ? input.reserves
                       : answer.key == 6 || answer.key == 7 ||
                             (input.fails && (answer.key == 3 || answer.key == 0xb || answer.key == 0xa));

    CHECK(answer.in_len == 0);
    CHECK(answer.key != 0xe || (w->verdict == MUST && !compares(d, w, o)));
    if (w->verdict == MUST && answer.key != 0xe)
        CHECK(excused);
    if (input.fails || w->effect == COPIES)
        models_follow();
}

static void copy_applied(const struct offer *o)
{
    struct disk_model *disks[] = {model_of(0), model_of(1)};
    const uint8_t *naa[] = {volume_naa(&world.volumes[disks[0] - models]),
                            volume_naa(&world.volumes[disks[1] - models])};

    copied(disks, input.four_k ? 1 : 2, naa, o->data, arrives(o, get32(o->cdb + 10)));
}

static void answer_check(struct disk_model *d, const struct offer *o)
{
    struct wanted w = wanted_of(d, o);

    if (answer.status != SCSI_GOOD && answer.status != SCSI_CONDITION_MET) {
        refusal_check(d, o, &w);
        near_check(d, &w);
        return;
    }
    CHECK(w.verdict != MUST_NOT && compares(d, &w, o));
    if (w.effect == READS)
        read_check(d, o, &w);
    else if (w.effect == CHANGES_NOTHING)
        CHECK(answer.in_len + (uint64_t)(answer.over && o->reads ? answer.residual : 0) <=
              allocation_length(o->cdb));
    else if (w.effect != UNMAPS && w.effect != COPIES)
        residual_check(o, &w, w.out, true);
    if (w.effect == COPIES)
        copy_applied(o);
    else
        apply(d, &w, o);
    near_check(d, &w);
}

/* --- the steps --- */

/* Data that a parameter list or a block of the CDB's length would have; 0: none. */
static uint32_t list_length(const uint8_t *cdb)
{
    switch (cdb[0]) {
    case 0x15:
        return cdb[4];
    case 0x55:
    case 0x42:
        return get16(cdb + 7);
    case 0x5f:
        return get32(cdb + 5);
    case 0x83:
        return get32(cdb + 10);
    }
    return 0;
}

/* The EDTL and direction that fit the CDB. */
static void offer_exactly(const struct disk_model *d, struct offer *o)
{
    struct wanted w = {.effect = effect_of(o->cdb)};

    if (w.effect == READS || w.effect == WRITES || w.effect == ORS || w.effect >= SAME) {
        o->writes = w.effect != READS;
        o->reads = !o->writes;
        o->edtl = OUT_BYTES;
        fields_right(d, o, &w);
        o->edtl = w.effect == READS ? (uint32_t)w.count * d->block : w.out;
    } else {
        uint64_t n = allocation_length(o->cdb);

        o->writes = list_length(o->cdb) > 0;
        o->reads = !o->writes && n;
        o->edtl = n < UINT16_MAX ? (uint32_t)n : UINT16_MAX;
    }
    if (w.effect >= UNMAPS || o->writes)
        o->edtl = list_length(o->cdb) ? list_length(o->cdb) : o->edtl;
}

/* The data out: the step's bytes again and again, zeros, what the disk holds there, or a pattern. */
static void data_made(const struct disk_model *d, const struct offer *o, unsigned how, struct program *in)
{
    uint32_t n, len = o->edtl < OUT_BYTES ? o->edtl : OUT_BYTES;
    const uint8_t *p = take_rest(in, &n);
    struct wanted w = {0};

    n = n < len ? n : len;
    if (n)
        memcpy(out_bytes, p, n);
    for (uint32_t done = n, piece; done && done < len; done += piece) { /* again and again */
        piece = done < len - done ? done : len - done;
        memcpy(out_bytes + done, out_bytes, piece);
    }
    if (how == DATA_PATTERN)
        memcpy(out_bytes, pattern + o->cdb[15], len < DATA_BYTES - 256 ? len : DATA_BYTES - 256);
    else if (how == DATA_ZERO || !n)
        memset(out_bytes, 0, len);
    decode(o->cdb, &w);
    if (o->cdb[0] == 0x89)
        w.count = o->cdb[13];
    if (how == DATA_AS_IT_IS && w.lba < DISK_BYTES / d->block) {
        uint64_t there = DISK_BYTES - w.lba * d->block, whole = w.count * d->block;

        there = there < whole ? there : whole;
        memcpy(out_bytes, d->bytes + w.lba * d->block, there < len ? there : len);
    }
}

static void command_step(struct program *in)
{
    uint8_t how = take8(in), by = take8(in), lun = how & 3, cdb[16] = {0};
    struct client *c = &clients[how >> 2 & 1];
    struct offer o = {.cdb = cdb, .data = out_bytes};
    struct disk_model *d;
    uint32_t n = sizeof cdb;
    const uint8_t *p = take(in, &n);
    bool there = lun < (input.four_k ? 1 : 2);

    memcpy(cdb, p, n);
    d = model_of(there ? lun : 0);
    offer_exactly(d, &o);
    switch (how >> 4 & 3) {
    case 1:
        o.edtl += (uint32_t)(int8_t)by;
        break;
    case 2:
        o.edtl = by * 512u;
        break;
    case 3:
        o.reads = by & 1;
        o.writes = by & 2;
        break;
    }
    if (o.edtl > OUT_BYTES && (o.writes || o.edtl > DISK_BYTES + OUT_BYTES))
        o.edtl = OUT_BYTES;
    data_made(d, &o, how >> 6, in);
    input.reserves |= cdb[0] == 0x16 || cdb[0] == 0x56 || cdb[0] == 0x5f;
    command_done(c, lun, &o, !(how & 8) && !input.no_immediate_data[c - clients]);
    if (there)
        answer_check(d, &o);
    else
        CHECK(answer.status != SCSI_GOOD || effect_of(cdb) == CHANGES_NOTHING);
}

static void log_in(struct client *c, uint8_t how)
{
    static const char *const bursts[] = {"", "MaxBurstLength=4096|FirstBurstLength=4096|MaxOutstandingR2T=4|",
                                         "MaxRecvDataSegmentLength=512|", "ImmediateData=No|InitialR2T=Yes|"};
    char text[500];

    client_connect(c);
    input.no_immediate_data[c - clients] = (how >> 3 & 3) == 3;
    snprintf(text, sizeof text, WHO "|TargetName=" WORLD_IQN "%d|HeaderDigest=%s|DataDigest=%s|%s",
             input.four_k, how & 2 ? "CRC32C" : "None", how & 4 ? "CRC32C" : "None", bursts[how >> 3 & 3]);
    login_text(c, OP_TO_FULL, text);
    CHECK(c->fd >= 0 && c->full_feature);
}

static void step(uint8_t kind, struct program *in)
{
    uint8_t v;

    switch (kind) {
    case STEP_COMMAND:
        command_step(in);
        break;
    case STEP_WORLD:
        v = take8(in) & 0x1e; /* reads that wait, errors, another capacity */
        world_bend(v);
        input.fails = v & 4;
        break;
    case STEP_LOGIN:
        v = take8(in);
        log_in(&clients[v & 1], v & 6);
        break;
    }
}

static void disks_begin(void)
{
    for (unsigned i = 0; i < WORLD_VOLUMES; i++) {
        struct disk_model *d = &models[i];

        if (d->low < d->high) {
            memcpy(d->bytes + d->low, content + d->low, d->high - d->low);
            memcpy(world.volumes[i].bytes + d->low, content + d->low, d->high - d->low);
        }
        d->low = DISK_BYTES;
        d->high = 0;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    initiator_init();
    groups_differ = true;
    on_heard = heard;
    for (unsigned i = 0; i < WORLD_VOLUMES; i++) {
        models[i].block = world.volumes[i].block_bytes;
        models[i].high = DISK_BYTES;
    }
    content_init();
    disks_begin();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct program in = {p, p + n}, bytes;
    uint8_t how = take8(&in), kind;

    input.four_k = how & 1;
    input.reserves = input.fails = false;
    for (int i = 0; i < CLIENTS; i++)
        log_in(&clients[i], how);
    for (unsigned i = 0; i < PROGRAM_STEPS && take_step(&in, &kind, &bytes); i++)
        step(kind % STEP_KINDS, &bytes);
    all_gone();
    for (unsigned i = 0; i < WORLD_VOLUMES; i++)
        disk_check(&models[i], 0, DISK_BYTES);
    disks_begin();
    return 0;
}
