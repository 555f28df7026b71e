/* links: fake_volumes target */
/* Whole iSCSI connections. The target is the real one, over volumes in memory; the input is a little program
 * that an initiator runs: it logs in as the first byte says, then sends requests that are right but for what
 * the input bends, or bytes as they are. It may talk over two connections, stop reading, hold I/O in the
 * volume, make it fail, or delete the VM.
 *
 * All loops are turned by this one thread, a socket pair is the network: the same input takes the same way.
 * After every input nothing may be left: no connection, session, reference, block or byte of the budgets.
 */
#include "fuzz_session.h"
#include "fuzz.h"

#include "chap.h"
#include "check.h"
#include "crc32c.h"
#include "log.h"
#include "mem.h"
#include "scsi.h"
#include "scsi_reserve.h"
#include "session.h"
#include "wire.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 2, RX_BYTES = 1 << 20, DATA_BYTES = 64 << 10 };

struct client {
    int fd; /* -1: not connected */
    uint32_t cmd_sn, itt;
    bool deaf;                                   /* it does not read */
    bool wants_header_digest, wants_data_digest; /* agreed on, from the end of the login */
    bool header_digest, data_digest;
    uint8_t login_flags;
    unsigned algorithm, id; /* CHAP */
    char challenge[2 * CHAP_CHALLENGE_BYTES + 3];
    uint32_t r2t_itt, r2t_ttt, r2t_at, r2t_left, r2t_sn; /* the newest R2T */
    uint32_t out_itt, out_at, out_sn;                    /* the newest write: its unsolicited data */
    uint32_t text_ttt, ping_ttt;
    uint8_t rx[RX_BYTES];
    size_t have;
};

static struct loop *loops[1 + WORLD_LOOPS]; /* the last: main */
static struct target *target;
static struct client clients[CLIENTS];
static uint8_t pattern[DATA_BYTES];

/* The input. */
struct program {
    const uint8_t *p, *end;
};

static uint8_t take8(struct program *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static uint32_t take16(struct program *in)
{
    uint32_t high = take8(in);

    return high << 8 | take8(in);
}

static const uint8_t *take(struct program *in, uint32_t *n)
{
    const uint8_t *p = in->p;

    if (*n > (size_t)(in->end - p))
        *n = (uint32_t)(in->end - p);
    in->p += *n;
    return p;
}

static void begin_target(void)
{
    const char *portal = "127.0.0.1:0";
    struct target_conf conf = {.main = loops[WORLD_LOOPS],
                               .loops = loops,
                               .nloops = WORLD_LOOPS,
                               .portals = &portal,
                               .nportals = 1,
                               .window = 16,
                               .session_bytes = 128 << 10, /* so little that commands wait for it */
                               .loop_bytes = 192 << 10};
    struct why why;

    CHECK(target_start(&target, &conf, &why) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    signal(SIGPIPE, SIG_IGN);
    log_set_level("error");
    for (int i = 0; i <= WORLD_LOOPS; i++)
        loops[i] = loop_new("fuzz");
    world_init(loops);
    begin_target();
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 7 + i / 512);
    return 0;
}

/* What the target says, as far as an initiator must know it to go on. */

static void read_login_keys(struct client *c, char *p, const char *end)
{
    for (; p < end; p += strlen(p) + 1) {
        if (!strcmp(p, "HeaderDigest=CRC32C"))
            c->wants_header_digest = true;
        else if (!strcmp(p, "DataDigest=CRC32C"))
            c->wants_data_digest = true;
        else if (!strncmp(p, "CHAP_A=", 7))
            c->algorithm = (unsigned)atoi(p + 7);
        else if (!strncmp(p, "CHAP_I=", 7))
            c->id = (unsigned)atoi(p + 7);
        else if (!strncmp(p, "CHAP_C=", 7))
            snprintf(c->challenge, sizeof c->challenge, "%s", p + 7);
    }
}

static void on_pdu(struct client *c, const uint8_t *bhs, uint8_t *data, uint32_t n)
{
    switch (bhs[0]) {
    case ISCSI_LOGIN_RESPONSE:
        data[n] = 0; /* padding, or the next PDU's byte, which has been put aside */
        read_login_keys(c, (char *)data, (char *)data + n);
        if ((bhs[AT_FLAGS] & 0x83) == 0x83) {
            c->header_digest = c->wants_header_digest;
            c->data_digest = c->wants_data_digest;
        }
        break;
    case ISCSI_R2T:
        c->r2t_itt = get32(bhs + AT_ITT);
        c->r2t_ttt = get32(bhs + AT_TTT);
        c->r2t_at = get32(bhs + AT_BUFFER_OFFSET);
        c->r2t_left = get32(bhs + AT_DESIRED_LENGTH);
        c->r2t_sn = 0;
        CHECK(c->r2t_left > 0);
        break;
    case ISCSI_TEXT_RESPONSE:
        c->text_ttt = get32(bhs + AT_TTT);
        break;
    case ISCSI_NOP_IN:
        c->ping_ttt = get32(bhs + AT_TTT);
        break;
    case ISCSI_DATA_IN:
    case ISCSI_SCSI_RESPONSE:
    case ISCSI_TASK_MANAGEMENT_RESPONSE:
    case ISCSI_LOGOUT_RESPONSE:
    case ISCSI_ASYNC_MESSAGE:
    case ISCSI_REJECT:
        break;
    default:
        check_failed("an opcode of a target", __FILE__, __LINE__, __func__);
    }
}

/* The PDUs that are complete; their digests must be right. */
static void parse(struct client *c)
{
    size_t at = 0;

    while (c->have - at >= BHS_BYTES) {
        uint8_t *bhs = c->rx + at, *data, saved;
        uint32_t n = get24(bhs + AT_DATA_SEGMENT_LENGTH), head = BHS_BYTES + (c->header_digest ? 4 : 0);
        uint32_t padded = n + (-n & 3), crc;
        size_t whole = head + padded + (n && c->data_digest ? 4 : 0);

        CHECK(whole < RX_BYTES && !bhs[AT_TOTAL_AHS_LENGTH]);
        if (c->have - at < whole)
            break;
        data = bhs + head;
        crc = crc32c(0, bhs, BHS_BYTES);
        CHECK(!c->header_digest || !memcmp(&crc, bhs + BHS_BYTES, 4));
        crc = crc32c(0, data, padded);
        CHECK(!c->data_digest || !n || !memcmp(&crc, data + padded, 4));
        saved = data[n];
        on_pdu(c, bhs, data, n);
        data[n] = saved;
        at += whole;
    }
    memmove(c->rx, c->rx + at, c->have - at);
    c->have -= at;
}

static void client_drop(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void client_read(struct client *c)
{
    ssize_t n = 1;

    while (c->fd >= 0 && !c->deaf && n > 0) {
        n = recv(c->fd, c->rx + c->have, RX_BYTES - 1 - c->have, MSG_DONTWAIT);
        if (n > 0) {
            c->have += (size_t)n;
            parse(c);
        } else if (n == 0) {
            client_drop(c);
        }
    }
}

static void turn(unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        for (int l = 0; l <= WORLD_LOOPS; l++)
            CHECK(event_base_loop(loop_base(loops[l]), EVLOOP_NONBLOCK) >= 0);
        world_turn();
        for (int k = 0; k < CLIENTS; k++)
            client_read(&clients[k]);
    }
}

/* What the initiator says. */

static void client_connect(struct client *c)
{
    int fds[2];

    client_drop(c);
    memset(c, 0, offsetof(struct client, rx));
    c->have = 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    c->fd = fds[0];
    c->cmd_sn = 7;
    c->itt = 0x100;
    c->text_ttt = c->ping_ttt = ISCSI_TAG_NONE;
    atomic_fetch_add(&target->nconns, 1); /* as the portal does */
    conn_accept(&target->shards[c - clients], fds[1], "fuzz", "127.0.0.1:3260");
    turn(2);
}

static void client_write(struct client *c, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    for (unsigned tries = 0; n && c->fd >= 0 && tries < 4; tries++) {
        ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
            tries = 0;
        } else if (errno != EAGAIN) {
            client_drop(c);
        }
        if (n)
            turn(2);
    }
    if (n) /* half of it has gone: what follows would mean nothing */
        client_drop(c);
}

/* One PDU, padded, with the digests that were agreed on. */
static void pdu(struct client *c, uint8_t bhs[BHS_BYTES], const void *data, uint32_t n)
{
    static uint8_t out[BHS_BYTES + 4 + DATA_BYTES + 8];
    uint32_t at = BHS_BYTES, padded = n + (-n & 3), crc;

    CHECK(n <= DATA_BYTES);
    put24(bhs + AT_DATA_SEGMENT_LENGTH, n);
    memcpy(out, bhs, BHS_BYTES);
    if (c->header_digest) {
        crc = crc32c(0, bhs, BHS_BYTES);
        memcpy(out + at, &crc, 4);
        at += 4;
    }
    memset(out + at + n, 0, padded - n);
    if (n)
        memcpy(out + at, data, n);
    if (n && c->data_digest) {
        crc = crc32c(0, out + at, padded);
        memcpy(out + at + padded, &crc, 4);
        at += 4;
    }
    client_write(c, out, at + padded);
}

static void login(struct client *c, uint8_t flags, const void *text, uint32_t n)
{
    uint8_t bhs[BHS_BYTES] = {ISCSI_LOGIN_REQUEST | ISCSI_IMMEDIATE, flags};

    bhs[AT_ISID] = 0x80; /* both connections: the same initiator port */
    put16(bhs + AT_CID, 1);
    if (flags & 0x20) /* reserved: the session that began last is meant */
        put16(bhs + AT_TSIH, (uint16_t)atomic_load(&target->last_tsih));
    put32(bhs + AT_CMD_SN, c->cmd_sn);
    pdu(c, bhs, text, n);
    turn(6); /* it moves to another loop */
}

enum { OP_TO_FULL = 0x80 | 1 << 2 | 3, SEC = 0, SEC_TO_OP = 0x80 | 1, SEC_TO_FULL = 0x80 | 3 };

/* Text with '|' in place of NUL. */
static void login_text(struct client *c, uint8_t flags, const char *text)
{
    char bytes[600];
    uint32_t n = (uint32_t)strlen(text);

    CHECK(n < sizeof bytes);
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = text[i] == '|' ? 0 : text[i];
    login(c, flags, bytes, n);
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
    switch (how & 7) {
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
    if (how & 0x08)
        data = take(in, &n); /* a list of UNMAP, say */
    else if (size & 8)
        n = edtl < 8192 ? edtl : 8192;
    bhs[AT_LUN + 1] = bend & 0x30 ? (bend & 0x30) >> 4 & 1 : 0;
    if ((bend & 0x38) == 0x38)
        bhs[AT_LUN] = bend;
    put32(bhs + AT_EDTL, edtl);
    put32(bhs + AT_ITT, bend & 8 ? size : ++c->itt);
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
    uint32_t n = take8(in), tag = how & 0x20 ? c->itt : take8(in);
    const uint8_t *data = pattern;

    if (how & 0x10) {
        data = take(in, &n);
    } else if (opcode == ISCSI_NOP_OUT && bend & 8) {
        n *= 32;
    } else if (opcode != ISCSI_NOP_OUT) {
        n = 0;
    }
    bhs[1] = opcode == ISCSI_TEXT_REQUEST ? how & 0xc0 ? (uint8_t)(how & 0xc0) : ISCSI_FINAL
                                          : (uint8_t)(ISCSI_FINAL | (how & 0x0f));
    bhs[AT_LUN + 1] = bend >> 6 & 1;
    put32(bhs + AT_ITT, bend & 0x20 ? ISCSI_TAG_NONE : ++c->itt);
    if (opcode == ISCSI_TEXT_REQUEST)
        tag = bend & 0x10 ? c->text_ttt : ISCSI_TAG_NONE;
    else if (opcode == ISCSI_NOP_OUT)
        tag = bend & 0x10 ? c->ping_ttt : ISCSI_TAG_NONE;
    else if (opcode == ISCSI_LOGOUT_REQUEST)
        tag = 1 << 16; /* CID 1 */
    put32(bhs + AT_TTT, tag);
    put32(bhs + AT_CMD_SN, number(c, how & ISCSI_IMMEDIATE, bend));
    put32(bhs + AT_REF_CMD_SN, c->cmd_sn);
    pdu(c, bhs, data, n);
}

static void as_it_is(struct client *c, struct program *in, bool whole_pdu)
{
    uint8_t bhs[BHS_BYTES] = {0};
    uint32_t n = take8(in), head = BHS_BYTES;
    const uint8_t *p;

    if (whole_pdu) {
        p = take(in, &head);
        memcpy(bhs, p, head);
        bhs[AT_TOTAL_AHS_LENGTH] = 0;
    }
    p = take(in, &n);
    if (whole_pdu)
        pdu(c, bhs, p, n);
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

static void step(struct client **pc, struct program *in)
{
    struct client *c = *pc;
    const uint8_t *text;
    uint32_t n;
    uint8_t v;

    switch (take8(in) & 15) {
    case 0:
        as_it_is(c, in, false);
        break;
    case 1:
        as_it_is(c, in, true);
        break;
    case 2:
    case 3:
        command(c, in);
        break;
    case 4:
        data_out(c, in, true);
        break;
    case 5:
        data_out(c, in, false);
        break;
    case 6:
        request(c, in, ISCSI_TASK_MANAGEMENT);
        break;
    case 7:
        request(c, in, ISCSI_NOP_OUT);
        break;
    case 8:
        request(c, in, ISCSI_TEXT_REQUEST);
        break;
    case 9:
        request(c, in, ISCSI_LOGOUT_REQUEST);
        break;
    case 10:
        world_bend(take8(in));
        break;
    case 11:
        *pc = &clients[(c - clients + 1) % CLIENTS];
        v = take8(in);
        if ((*pc)->fd < 0 || v & 0x80)
            begin(*pc, v);
        return;
    case 12:
        c->deaf = take8(in) & 1;
        break;
    case 13:
        v = take8(in);
        n = take8(in);
        text = take(in, &n);
        login(c, v, text, n);
        break;
    case 14:
        if (c->fd >= 0)
            shutdown(c->fd, take8(in) & 1 ? SHUT_WR : SHUT_RDWR);
        break;
    case 15:
        v = take8(in);
        if (v & 0x80)
            time_passes(v & 0x7f);
        break;
    }
    turn(2);
}

static void nothing_left(void)
{
    CHECK(atomic_load(&target->nconns) == 0 && TAILQ_EMPTY(&target->sessions));
    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        struct shard *s = &target->shards[i];
        struct device *d;

        CHECK(TAILQ_EMPTY(&s->conns) && TAILQ_EMPTY(&s->starved) && s->held_bytes == 0);
        TAILQ_FOREACH (d, &s->devices, entry) {
            CHECK(d->nsessions == 0 && !d->going && TAILQ_EMPTY(&d->sessions));
            for (int lun = 0; lun < VM_DISKS_MAX; lun++)
                CHECK(!d->reserved_by[lun]);
            scsi_reserve_free(d); /* registrations stay: the next input would see them */
        }
    }
}

static void on_stopped(void *arg)
{
    *(bool *)arg = true;
}

/* The target stops while its initiators are there, and another one starts. */
static void restart(bool late)
{
    bool stopped = false;

    target_stop(target, on_stopped, &stopped);
    turn(3);
    for (unsigned i = 0; late && !stopped && i < WORLD_LOOPS; i++)
        if (target->shards[i].stop_timer.loop) /* nobody has gone in time */
            target->shards[i].stop_timer.fire(&target->shards[i].stop_timer);
    turn(3);
    for (int i = 0; i < CLIENTS; i++)
        client_drop(&clients[i]);
    world_bend(0);
    for (unsigned i = 0; i < 1000 && !stopped; i++)
        turn(1);
    CHECK(stopped);
    turn(10);
    begin_target();
}

static void end(uint8_t how)
{
    if (how & 0x40)
        restart(how & 0x20);
    for (int i = 0; i < CLIENTS; i++)
        client_drop(&clients[i]);
    world_bend(0);
    for (unsigned i = 0; i < 1000 && atomic_load(&target->nconns); i++)
        turn(1);
    nothing_left();
    world_check();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct program in = {p, p + n};
    struct client *c = &clients[0];

    for (int i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
    begin(c, n ? p[0] : 0);
    take8(&in);
    for (unsigned steps = 0; in.p < in.end && steps < 64; steps++)
        step(&c, &in);
    end(n ? p[0] : 0);
    return 0;
}
