/* practice_data.c - cases about bytes: write data in every way it may come, PDUs cut anywhere, digests on all
 * that has data, commands nobody knows.
 */
#include "practice.h"

#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOB = 512 << 10 };
static uint8_t blob[BLOB], back[BLOB];

static void blob_fill(uint32_t n)
{
    for (uint32_t i = 0; i < n; i += 4)
        put32(blob + i, any(UINT32_MAX));
}

/* --- writes --- */

struct way {
    const char *keys;
    uint32_t immediate, piece; /* bytes with the command; bytes of a Data-Out */
    bool unsolicited;          /* up to FirstBurstLength without an R2T */
};

static void r2t_answer(struct raw *c, uint32_t piece)
{
    struct raw_r2t r = raw_r2t(c);

    for (uint32_t at = 0, sn = 0; at < r.len; sn++) {
        uint32_t n = r.len - at < piece ? r.len - at : piece;

        WANT(raw_data_out(c, r.itt, r.ttt, sn, r.offset + at, at + n == r.len, blob + r.offset + at, n),
             "Data-Out is not taken");
        at += n;
    }
}

/* One WRITE(10) of the blob's first `bytes`: GOOD, with no residual, whichever way its data comes. */
static void write_in(struct raw *c, const struct way *way, uint32_t lba, uint32_t bytes)
{
    uint32_t immediate = way->immediate < bytes ? way->immediate : bytes, at = immediate, sn = 0, burst, itt;
    struct raw_answer a;

    burst = way->unsolicited ? (c->first_burst < bytes ? c->first_burst : bytes) : immediate;
    itt = raw_command(c, RAW_WRITE | (burst > immediate ? 0 : ISCSI_FINAL), bytes,
                      raw_cdb10(0x2a, lba, (uint16_t)(bytes / 512)), 10, blob, immediate);
    while (at < burst) {
        uint32_t n = burst - at < way->piece ? burst - at : way->piece;

        raw_data_out(c, itt, ISCSI_TAG_NONE, sn++, at, at + n == burst, blob + at, n);
        at += n;
    }
    for (;;) {
        a = raw_answer(c, NULL, 0);
        if (a.opcode != ISCSI_R2T)
            break;
        WANT(a.itt == itt && raw_r2t(c).offset >= burst, "R2T for task %08x from %u", a.itt,
             raw_r2t(c).offset);
        r2t_answer(c, way->piece);
    }
    WANT(a.opcode == ISCSI_SCSI_RESPONSE && a.itt == itt && a.status == 0 && a.residual == 0,
         "%s: %u bytes, %u immediate, burst %u, pieces of %u: PDU %d, status %02x, sense %06x, residual %d",
         way->keys, bytes, immediate, burst, way->piece, a.opcode, a.status, a.sense, (int)a.residual);
}

static void read_back(struct raw *c, uint32_t lba, uint32_t bytes)
{
    struct raw_answer a =
        raw_exchange(c, raw_cdb10(0x28, lba, (uint16_t)(bytes / 512)), 10, NULL, 0, back, bytes);

    WANT(a.opcode == ISCSI_DATA_IN && a.status == 0 && a.got == bytes,
         "a read of %u bytes: PDU %d, status %02x", bytes, a.opcode, a.status);
    WANT(memcmp(back, blob, bytes) == 0, "%u bytes written at %u come back as others", bytes, lba);
}

/* Immediate, unsolicited and solicited data in every proportion: residual 0, and the same bytes back. */
void case_splits(void)
{
    static const uint32_t sizes[] = {512, 4096, 8192, 17408, 66048, 262144}, firsts[] = {512, 8192, 65536},
                          bursts[] = {8192, 262144};
    static const char *const digests[] = {"None", "CRC32C"};
    unsigned writes = 0;

    for (unsigned i = 0; i < 2 * 2 * 3 * 2 * 2; i++) {
        char keys[300];
        bool immediate = i & 1, unsolicited = i & 2;
        struct way way = {.keys = keys, .unsolicited = unsolicited};
        struct raw *c;

        snprintf(keys, sizeof keys,
                 "ImmediateData=%s|InitialR2T=%s|FirstBurstLength=%u|MaxBurstLength=%u|HeaderDigest=%s|"
                 "DataDigest=%s|MaxOutstandingR2T=%u|",
                 immediate ? "Yes" : "No", unsolicited ? "No" : "Yes", firsts[i / 4 % 3], bursts[i / 12 % 2],
                 digests[i / 24], digests[i / 24], 1 + i % 3);
        c = session_new(1, keys);
        WANT(c->immediate == immediate && c->initial_r2t != unsolicited, "%s was not agreed to", keys);
        for (unsigned j = 0; j < sizeof sizes / sizeof *sizes; j++, writes++) {
            blob_fill(sizes[j]);
            way.immediate = immediate ? (j % 2 ? 512 : c->first_burst) : 0;
            way.piece = j % 3 == 0 ? 512 : j % 3 == 1 ? 4100 : c->segment;
            write_in(c, &way, 64 + i, sizes[j]);
            read_back(c, 64 + i, sizes[j]);
        }
        session_ends(&c);
    }
    told("%u writes", writes);
}

/* An initiator may acknowledge whatever it likes with its data. */
void case_exp_stat_sn(void)
{
    struct raw *c = session_new(1, "ImmediateData=No|");
    struct raw_pdu p;
    struct raw_r2t r;
    uint32_t n = 1024;

    raw_command(c, RAW_WRITE | ISCSI_FINAL, 4096, raw_cdb10(0x2a, 200, 8), 10, NULL, 0);
    WANT(raw_recv(c) == ISCSI_R2T, "no R2T");
    r = raw_r2t(c);
    blob_fill(4096);
    for (uint32_t at = 0, sn = 0; at < 4096; at += n, sn++) {
        raw_data_out_header(c, &p, r.itt, r.ttt, sn, at, at + n == 4096);
        put32(p.bhs + AT_EXP_STAT_SN, sn * 0x40000001u);
        p.data = blob + at;
        p.len = n;
        raw_send(c, &p);
    }
    WANT(raw_answer(c, NULL, 0).status == 0, "ExpStatSN of a Data-Out was looked at");
    read_back(c, 200, 4096);
    session_ends(&c);
}

/* --- PDUs cut anywhere --- */

static uint8_t stream[64 << 10];
static size_t stream_len;

static void stream_add(struct raw *c, struct raw_pdu *p, const void *data, uint32_t len)
{
    p->data = data;
    p->len = len;
    stream_len += raw_put(c, p, stream + stream_len);
}

/* most: the longest run of bytes given to TCP at once. */
static void stream_send(struct raw *c, uint32_t most)
{
    for (size_t at = 0; at < stream_len;) {
        size_t n = 1 + any(most);

        if (n > stream_len - at)
            n = stream_len - at;
        WANT(raw_write(c, stream + at, n), "the connection was closed after %zu of %zu bytes", at,
             stream_len);
        at += n;
        usleep(most == 1 ? 20 : 100); /* so that the target sees it cut here */
    }
    stream_len = 0;
}

/* A write with immediate and unsolicited data, a ping, Text, a function, a read of what was written. */
static void dribble_once(struct raw *c, uint32_t most)
{
    uint32_t lba = 300 + any(100), itt, pad = any(7);
    struct raw_pdu p;
    struct raw_answer a;

    blob_fill(8192);
    itt = raw_command_header(c, &p, RAW_WRITE, 8192, raw_cdb10(0x2a, lba, 16), 10);
    stream_add(c, &p, blob, 512);
    raw_data_out_header(c, &p, itt, ISCSI_TAG_NONE, 0, 512, false);
    stream_add(c, &p, blob + 512, 1021);
    raw_data_out_header(c, &p, itt, ISCSI_TAG_NONE, 1, 1533, true);
    stream_add(c, &p, blob + 1533, 2563);
    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    stream_add(c, &p, blob, pad);
    stream_send(c, most);
    for (int i = 0; i < 2; i++) { /* the R2T for the rest, and the ping's answer */
        int opcode = raw_recv(c);

        WANT(opcode == ISCSI_R2T || opcode == ISCSI_NOP_IN, "PDU %d", opcode);
        if (opcode == ISCSI_NOP_IN) {
            WANT(c->len == pad && memcmp(c->data, blob, pad) == 0, "the ping's bytes came back as others");
            continue;
        }
        raw_data_out_header(c, &p, itt, raw_r2t(c).ttt, 0, 4096, true);
        stream_add(c, &p, blob + 4096, 4096);
    }
    stream_send(c, most);
    a = raw_answer(c, NULL, 0);
    WANT(a.opcode == ISCSI_SCSI_RESPONSE && a.itt == itt && a.status == 0 && a.residual == 0,
         "a write in pieces: PDU %d, status %02x, sense %06x", a.opcode, a.status, a.sense);
    raw_request_header(c, &p, ISCSI_TASK_MANAGEMENT | ISCSI_IMMEDIATE);
    p.bhs[AT_FLAGS] |= TMF_ABORT_TASK;
    put32(p.bhs + AT_REFERENCED_TASK_TAG, itt);
    put32(p.bhs + AT_REF_CMD_SN, c->cmd_sn - 1);
    stream_add(c, &p, NULL, 0);
    stream_send(c, most);
    WANT(raw_recv(c) == ISCSI_TASK_MANAGEMENT_RESPONSE && c->bhs[AT_RESPONSE] == TMF_NO_TASK,
         "ABORT TASK of what is done: %u", c->bhs[AT_RESPONSE]);
    read_back(c, lba, 8192);
}

/* The login too, a byte at a time. */
static struct raw *dribble_login(const char *digests)
{
    struct raw *c = raw_connect(play.address, play.port, 1);
    char text[600], wire[600];
    struct raw_pdu p;

    WANT(c, "no connection");
    snprintf(text, sizeof text,
             "InitiatorName=iqn.2026-11.org.isthmus.test:dribble|TargetName=%s|SessionType=Normal|"
             "InitialR2T=No|ImmediateData=Yes|FirstBurstLength=4096|%s",
             play.iqn, digests);
    raw_login_header(c, &p, RAW_TO_FULL);
    stream_add(c, &p, wire, raw_text(wire, text));
    stream_send(c, 1);
    WANT(raw_recv(c) == ISCSI_LOGIN_RESPONSE && get16(c->bhs + AT_LOGIN_STATUS) == 0,
         "a login in pieces failed");
    c->header_digest = !strcmp(raw_value(c, "HeaderDigest"), "CRC32C");
    c->data_digest = !strcmp(raw_value(c, "DataDigest"), "CRC32C");
    watch_begin(c);
    session_ready(c);
    return c;
}

/* TCP may cut a PDU anywhere: between header and digest, data and digest, in the padding. */
void case_dribble(void)
{
    static const char *const digests[] = {"", "HeaderDigest=CRC32C|DataDigest=CRC32C|",
                                          "HeaderDigest=CRC32C|", "DataDigest=CRC32C|"};
    unsigned rounds = play.count ? play.count : 5;

    for (unsigned i = 0; i < 4; i++) {
        struct raw *c = dribble_login(digests[i]);

        WANT(c->header_digest == (i == 1 || i == 2) && c->data_digest == (i == 1 || i == 3),
             "digests for one direction only");
        dribble_once(c, 1);
        for (unsigned j = 0; j < rounds; j++)
            dribble_once(c, 2 + any(2000));
        session_ends(&c);
    }
}

/* --- answers --- */

/* What REPORT SUPPORTED OPERATION CODES does not list is refused at once, and in these words. */
void case_unsupported(void)
{
    struct raw *c = session_new(1, "");
    uint8_t report[12] = {0xa3, 0x0c}, list[16384] = {0}, *at = list + 4;
    bool known[256] = {false};
    unsigned refused = 0;
    uint32_t n;

    put32(report + 6, sizeof list);
    WANT(raw_exchange(c, report, 12, NULL, 0, list, sizeof list).status == 0, "no list of operation codes");
    n = get32(list);
    for (; at < list + 4 + n && at + 8 <= list + sizeof list; at += at[5] & 2 ? 20 : 8)
        known[at[0]] = true;
    WANT(known[0x28] && known[0x2a] && known[0x89], "READ, WRITE and COMPARE AND WRITE are not listed");
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        uint8_t cdb[16] = {(uint8_t)opcode};
        struct span span = span_begin();
        struct raw_answer a;

        if (known[opcode])
            continue;
        a = raw_exchange(c, cdb, 16, NULL, 0, NULL, 0);
        WANT(a.opcode == ISCSI_SCSI_RESPONSE && a.status == 2 && a.sense == 0x052000 &&
                 span_ms(&span) < 1000 * play.slowness,
             "operation code %02x: PDU %d, status %02x, sense %06x after %u ms", opcode, a.opcode, a.status,
             a.sense, span_ms(&span));
        refused++;
    }
    told("%u operation codes refused", refused);
    session_ends(&c);
}
