/* tests/fuzz/initiator.h - the initiator of fuzz_session and fuzz_cdb, and the turning of the world: all
 * loops are turned by this one thread, a socket pair is the network, so that the same input takes the same
 * way.
 *
 * What it sends is right, digests and numbers too, but for the one PDU that a bend is set for. What the
 * target says must be right: opcodes, digests, lengths. Included once.
 */
#ifndef ISTHMUS_FUZZ_INITIATOR_H
#define ISTHMUS_FUZZ_INITIATOR_H

#include "world.h"

#include "chap.h"
#include "check.h"
#include "crc32c.h"
#include "log.h"
#include "peers.h"
#include "scsi_reserve.h"
#include "session.h"
#include "wire.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 2, RX_BYTES = 1 << 20, DATA_BYTES = 64 << 10, LIVE_TASKS = 8 };

/* What is wrong with the next PDU that is sent. */
enum bend_kind {
    BEND_HEADER_DIGEST,
    BEND_DATA_DIGEST,
    BEND_LENGTH, /* DataSegmentLength: so much more, or less */
    BEND_AHS,    /* so many words of additional header; with 0x100 they are there */
    BEND_CUT,    /* only so many bytes of it */
    BEND_PIECES, /* so many bytes at a time */
    BEND_TWICE,
    BEND_BYTE, /* of the header, digest made after it */
    BEND_NOTHING
};

struct client {
    int fd; /* -1: not connected */
    uint32_t cmd_sn, itt;
    uint32_t tasks[LIVE_TASKS];                  /* the newest tags */
    bool deaf;                                   /* it does not read */
    bool wants_header_digest, wants_data_digest; /* agreed on, from the end of the login */
    bool header_digest, data_digest, full_feature;
    uint8_t login_flags;
    unsigned algorithm, id; /* CHAP */
    char challenge[2 * CHAP_CHALLENGE_BYTES + 3];
    uint32_t r2t_itt, r2t_ttt, r2t_at, r2t_left, r2t_sn; /* the newest R2T */
    uint32_t out_itt, out_at, out_sn;                    /* the newest write: its unsolicited data */
    uint32_t text_ttt, ping_ttt;
    enum bend_kind bend;
    uint32_t bend_by;
    uint8_t rx[RX_BYTES];
    size_t have;
};

static struct loop *loops[1 + WORLD_LOOPS]; /* the last: main */
static struct target *target;
static struct client clients[CLIENTS];
static uint8_t pattern[DATA_BYTES];
/* Both are one initiator port: at one target port, or each at another. */
static bool groups_differ;
/* Set by the fuzz target that wants to see every PDU. */
static void (*on_heard)(struct client *, const uint8_t *bhs, const uint8_t *data, uint32_t n);

static void begin_target(void)
{
    const char *portals[] = {"127.0.0.1:0,1", "127.0.0.1:0,2"};
    struct target_conf conf = {.main = loops[WORLD_LOOPS],
                               .loops = loops,
                               .nloops = WORLD_LOOPS,
                               .portals = portals,
                               .nportals = 2,
                               .window = 16,
                               .session_bytes = 128 << 10, /* so little that commands wait for it */
                               .loop_bytes = 192 << 10};
    struct why why;

    CHECK(target_start(&target, &conf, &why) == 0);
}

static void initiator_init(void)
{
    log_set_level("error");
    for (int i = 0; i <= WORLD_LOOPS; i++)
        loops[i] = loop_new("fuzz");
    world_init(loops);
    begin_target();
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 7 + i / 512);
    for (int i = 0; i < CLIENTS; i++)
        clients[i].fd = -1;
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
    if (on_heard)
        on_heard(c, bhs, data, n);
    switch (bhs[0]) {
    case ISCSI_LOGIN_RESPONSE:
        data[n] = 0; /* padding, or the next PDU's byte, which has been put aside */
        read_login_keys(c, (char *)data, (char *)data + n);
        if ((bhs[AT_FLAGS] & 0x83) == 0x83 && !get16(bhs + AT_LOGIN_STATUS)) {
            c->header_digest = c->wants_header_digest;
            c->data_digest = c->wants_data_digest;
            c->full_feature = true;
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
    struct sockaddr_storage from = {.ss_family = AF_INET};
    struct peer_address *address;
    int fds[2];

    client_drop(c);
    memset(c, 0, offsetof(struct client, rx));
    c->have = 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    c->fd = fds[0];
    c->cmd_sn = 7;
    c->itt = 0x100;
    c->text_ttt = c->ping_ttt = ISCSI_TAG_NONE;
    c->bend = BEND_NOTHING;
    address = peers_enter(target->peers, &from, 100); /* as the portal does */
    atomic_fetch_add(&target->nconns, 1);
    atomic_fetch_add(&target->nopen, 1);
    conn_accept(&target->shards[c - clients], fds[1], address, "fuzz", "127.0.0.1:3260",
                groups_differ ? (uint16_t)(1 + (c - clients)) : 1);
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

/* One PDU's bytes, padded, with the digests that were agreed on; the bend is done to them. */
static size_t pdu_bytes(struct client *c, uint8_t bhs[BHS_BYTES], const void *data, uint32_t n, uint8_t *out)
{
    uint32_t at = BHS_BYTES, padded = n + (-n & 3), crc, ahs = c->bend == BEND_AHS ? c->bend_by & 0xff : 0;
    uint32_t claimed = c->bend == BEND_LENGTH ? n + c->bend_by - 0x8000 : n;

    put24(bhs + AT_DATA_SEGMENT_LENGTH, claimed & 0xffffff);
    bhs[AT_TOTAL_AHS_LENGTH] = (uint8_t)ahs;
    if (c->bend == BEND_BYTE)
        bhs[(c->bend_by >> 8) % BHS_BYTES] = (uint8_t)c->bend_by;
    memcpy(out, bhs, BHS_BYTES);
    if (c->bend_by & 0x100) {
        memcpy(out + at, pattern, (size_t)4 * ahs);
        at += 4 * ahs;
    }
    if (c->header_digest) {
        crc = crc32c(0, out, at) ^ (c->bend == BEND_HEADER_DIGEST);
        memcpy(out + at, &crc, 4);
        at += 4;
    }
    memset(out + at + n, 0, padded - n);
    if (n)
        memcpy(out + at, data, n);
    if (n && c->data_digest) {
        crc = crc32c(0, out + at, padded) ^ (c->bend == BEND_DATA_DIGEST);
        memcpy(out + at + padded, &crc, 4);
        at += 4;
    }
    at += padded;
    return c->bend == BEND_CUT && at > c->bend_by ? c->bend_by : at;
}

static void pdu(struct client *c, uint8_t bhs[BHS_BYTES], const void *data, uint32_t n)
{
    static uint8_t out[BHS_BYTES + ISCSI_AHS_MAX + 4 + DATA_BYTES + 8];
    enum bend_kind bend = c->bend;
    size_t len, piece;

    CHECK(n <= DATA_BYTES);
    len = pdu_bytes(c, bhs, data, n, out);
    c->bend = BEND_NOTHING;
    piece = bend == BEND_PIECES ? 1 + c->bend_by + len / 32 : len;
    for (size_t at = 0; at < len; at += piece) {
        client_write(c, out + at, piece < len - at ? piece : len - at);
        if (bend == BEND_PIECES)
            turn(1);
    }
    if (bend == BEND_TWICE)
        client_write(c, out, len);
}

static void login(struct client *c, uint8_t flags, const void *text, uint32_t n)
{
    uint8_t bhs[BHS_BYTES] = {ISCSI_LOGIN_REQUEST | ISCSI_IMMEDIATE, flags};

    bhs[AT_ISID] = 0x80;
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

/* After an input nothing may be left: no connection, session, reference, block or byte of the budgets. */
static void nothing_left(void)
{
    CHECK(atomic_load(&target->nconns) == 0 && atomic_load(&target->nopen) == 0 &&
          TAILQ_EMPTY(&target->sessions));
    for (unsigned i = 0; i < WORLD_LOOPS; i++) {
        struct shard *s = &target->shards[i];
        struct device *d;

        CHECK(TAILQ_EMPTY(&s->conns) && TAILQ_EMPTY(&s->starved) && s->held_bytes == 0);
        TAILQ_FOREACH (d, &s->devices, entry) {
            CHECK(d->nsessions == 0 && !d->going && TAILQ_EMPTY(&d->sessions));
            for (int lun = 0; lun < VM_DISKS_MAX; lun++)
                CHECK(!d->reserved_by[lun]);
            scsi_reserve_free(d); /* registrations stay: the next input would see them */
            memset(d->mode, 0, sizeof d->mode);
        }
    }
}

static void all_gone(void)
{
    for (int i = 0; i < CLIENTS; i++)
        client_drop(&clients[i]);
    world_bend(0);
    for (unsigned i = 0; i < 1000 && (atomic_load(&target->nconns) || world_busy()); i++)
        turn(1);
    nothing_left();
    world_check();
}

#endif
