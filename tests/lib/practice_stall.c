/* practice_stall.c - cases about a backend that does not answer: what initiators do then (ABORT TASK, resets,
 * logging in again, going away), and what a VM's end does to them. Reads go where nothing was read before.
 */
#include "practice.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DEPTH = 100, READ_SECTORS = 64, STRIDE = 512 }; /* so far apart that no read-ahead joins them */
enum { RESET_OCCURRED = 0x062903 };

/* Blocks that no other read of the story has touched. */
static uint64_t fresh(void)
{
    uint64_t base = play.at;

    play.at += DEPTH * STRIDE;
    return base;
}

static uint64_t place(uint64_t base, unsigned i)
{
    return base + i * STRIDE;
}

static void reads_send(struct raw *c, uint64_t base, unsigned n, uint32_t *tags)
{
    for (unsigned i = 0; i < n; i++)
        tags[i] = read_send(c, place(base, i), READ_SECTORS);
}

/* One answer for each tag, in any order, and for nothing else. */
static void reads_answered(struct raw *c, const uint32_t *tags, unsigned n)
{
    for (unsigned left = n; left; left--) {
        struct raw_answer a = raw_answer(c, NULL, 0);

        WANT(a.opcode == ISCSI_DATA_IN && a.status == 0 && a.itt - tags[0] < n,
             "after the backend is back: PDU %d for task %08x, status %02x, sense %06x", a.opcode, a.itt,
             a.status, a.sense);
    }
}

/* The same blocks once more: when they are there, what was asked for before them has come back as well. */
static void reads_again(struct raw *c, uint64_t base, unsigned n)
{
    uint32_t tags[DEPTH];

    reads_send(c, base, n, tags);
    reads_answered(c, tags, n);
    session_quiet(c, "after all reads are answered");
}

/* --- task management --- */

/* Every ABORT TASK is done within a second, no aborted command is answered, and the window is open again. */
void case_aborts(void)
{
    struct raw *c = session_new(1, "");
    uint64_t base = fresh();
    uint32_t tags[DEPTH], sn = c->cmd_sn;

    stall();
    for (int round = 0; round < 3; round++) {
        reads_send(c, base, DEPTH, tags);
        session_quiet(c, "with all reads in the backend");
        for (unsigned i = 0; i < DEPTH; i++)
            WANT(managed(c, TMF_ABORT_TASK, tags[i], sn + i) == TMF_COMPLETE, "ABORT TASK: %u",
                 c->bhs[AT_RESPONSE]);
        WANT(managed(c, TMF_ABORT_TASK, tags[0], sn) == TMF_NO_TASK, "ABORT TASK again: %u",
             c->bhs[AT_RESPONSE]);
        sn += DEPTH;
        WANT((int32_t)(c->max_cmd_sn - c->cmd_sn) >= DEPTH, "the window stays closed: %u after %u",
             c->max_cmd_sn, c->cmd_sn);
    }
    reads_send(c, base, DEPTH, tags);
    session_quiet(c, "with all reads in the backend");
    resume();
    reads_answered(c, tags, DEPTH);
    session_quiet(c, "after the backend is back");
    session_ends(&c);
}

/* ABORT TASK against an answer on its way: either there is an answer, and then "no such task", or there is
 * none, and then "done". Sent together with the read, soon after it, and long after it. */
void case_abort_race(void)
{
    struct raw *c = session_new(1, "");
    unsigned answered = 0, rounds = 3 * DEPTH;
    uint64_t base = 0;

    for (unsigned i = 0; i < rounds; i++) {
        uint8_t both[200];
        struct raw_pdu p;
        struct raw_answer a;
        uint32_t task, sn = c->cmd_sn;
        size_t n;

        if (i % DEPTH == 0)
            base = fresh();
        task = raw_command_header(c, &p, ISCSI_FINAL | RAW_READ, 8 * 512,
                                  raw_cdb16(0x88, place(base, i % DEPTH), 8), 16);
        n = raw_put(c, &p, both);
        raw_request_header(c, &p, ISCSI_TASK_MANAGEMENT | ISCSI_IMMEDIATE);
        p.bhs[AT_FLAGS] |= TMF_ABORT_TASK;
        put32(p.bhs + AT_REFERENCED_TASK_TAG, task);
        put32(p.bhs + AT_REF_CMD_SN, sn);
        if (i % 3) {
            raw_write(c, both, n);
            pause_ms(i % 3 == 1 ? any(4) : 30);
            n = 0;
        }
        n += raw_put(c, &p, both + n);
        raw_write(c, both, n);
        a = raw_answer(c, NULL, 0);
        if (a.opcode == ISCSI_DATA_IN) {
            WANT(a.itt == task && a.status == 0, "the read ended with status %02x", a.status);
            answered++;
            a.opcode = raw_recv(c);
            WANT(a.opcode == ISCSI_TASK_MANAGEMENT_RESPONSE && c->bhs[AT_RESPONSE] == TMF_NO_TASK,
                 "ABORT TASK after the answer: PDU %d, response %u", a.opcode, c->bhs[AT_RESPONSE]);
        } else {
            WANT(a.opcode == ISCSI_TASK_MANAGEMENT_RESPONSE && c->bhs[AT_RESPONSE] == TMF_COMPLETE,
                 "ABORT TASK without an answer: PDU %d, response %u", a.opcode, c->bhs[AT_RESPONSE]);
        }
    }
    session_quiet(c, "after the last");
    WANT(answered && answered < rounds, "%u of %u were answered: that is no race", answered, rounds);
    told("%u answered, %u aborted", answered, rounds - answered);
    session_ends(&c);
}

static void told_by(struct raw *c, unsigned function, uint32_t sense)
{
    struct raw_answer a = raw_exchange(c, "\0\0\0\0\0\0", 6, NULL, 0, NULL, 0);

    WANT(a.opcode == ISCSI_SCSI_RESPONSE && a.sense == sense,
         "after function %u TEST UNIT READY says %06x, not %06x", function, a.sense, sense);
}

/* Two sessions with all their reads in the backend; the first one manages. */
static void reset_by(uint8_t function)
{
    struct raw *a = session_new(1, ""), *b = session_new(2, "");
    uint64_t at = fresh(), other = fresh();
    uint32_t tags[DEPTH], others[DEPTH];

    stall();
    reads_send(a, at, DEPTH, tags);
    reads_send(b, other, DEPTH, others);
    session_quiet(b, "with all reads in the backend");
    WANT(managed(a, function, ISCSI_TAG_NONE, 0) == TMF_COMPLETE, "function %u: %u", function,
         a->bhs[AT_RESPONSE]);
    if (function == TMF_TARGET_COLD_RESET) {
        WANT(raw_recv(b) == ISCSI_ASYNC_MESSAGE && b->bhs[AT_ASYNC_EVENT] == ASYNC_DROP_SESSION,
             "the other is not told that its session ends");
        WANT(raw_recv(a) == RAW_CLOSED && raw_recv(b) == RAW_CLOSED,
             "connections stay open after a cold reset");
        session_reset(&a);
        session_reset(&b);
        a = session_new(1, "");
        b = session_new(2, "");
    } else if (function != TMF_ABORT_TASK_SET) {
        bool reset = function != TMF_CLEAR_TASK_SET;

        session_quiet(b, "after the other's function");
        told_by(b, function, reset ? RESET_OCCURRED : 0x062f00);
        told_by(a, function, reset ? RESET_OCCURRED : 0);
    }
    resume();
    if (function == TMF_ABORT_TASK_SET)
        reads_answered(b, others, DEPTH);
    reads_again(a, at, DEPTH);
    reads_again(b, other, DEPTH);
    session_ends(&a);
    session_ends(&b);
}

void case_resets(void)
{
    static const uint8_t functions[] = {TMF_ABORT_TASK_SET, TMF_CLEAR_TASK_SET, TMF_LOGICAL_UNIT_RESET,
                                        TMF_TARGET_WARM_RESET, TMF_TARGET_COLD_RESET};

    for (unsigned i = 0; i < sizeof functions; i++)
        reset_by(functions[i]);
}

/* A reset while a hundred writes wait for their data: what still comes for them is dropped without a word. */
void case_reset_while_writing(void)
{
    enum { BYTES = 65536 };
    static uint8_t data[BYTES], back[BYTES];
    struct raw *c = session_new(1, "ImmediateData=No|");
    struct raw_r2t r2ts[DEPTH];
    struct raw_answer a;
    uint64_t base = fresh();

    for (unsigned i = 0; i < DEPTH; i++)
        raw_command(c, RAW_WRITE | ISCSI_FINAL, BYTES, raw_cdb16(0x8a, place(base, i), BYTES / 512), 16, NULL,
                    0);
    for (unsigned i = 0; i < DEPTH; i++) {
        WANT(raw_recv(c) == ISCSI_R2T, "write %u of %d is not asked for its data", i, DEPTH);
        r2ts[i] = raw_r2t(c);
    }
    memset(data, 0xaa, BYTES);
    raw_data_out(c, r2ts[5].itt, r2ts[5].ttt, 0, 0, false, data, 512);
    WANT(managed(c, TMF_LOGICAL_UNIT_RESET, ISCSI_TAG_NONE, 0) == TMF_COMPLETE, "LUN reset: %u",
         c->bhs[AT_RESPONSE]);
    for (unsigned i = 0; i < DEPTH; i++)
        raw_data_out(c, r2ts[i].itt, r2ts[i].ttt, i == 5, i == 5 ? 512 : 0, i % 2, data, 4096);
    session_quiet(c, "after data for writes that are gone");
    session_ready(c);
    a = raw_exchange(c, raw_cdb16(0x88, place(base, 5), BYTES / 512), 16, NULL, 0, back, BYTES);
    WANT(a.status == 0 && a.got == BYTES && !memchr(back, 0xaa, BYTES), "a reset write has left data");
    a = raw_exchange(c, raw_cdb16(0x8a, place(base, 5), BYTES / 512), 16, data, BYTES, NULL, 0);
    WANT(a.opcode == ISCSI_SCSI_RESPONSE && a.status == 0, "a write after the reset: PDU %d", a.opcode);
    a = raw_exchange(c, raw_cdb16(0x88, place(base, 5), BYTES / 512), 16, NULL, 0, back, BYTES);
    WANT(a.got == BYTES && memcmp(back, data, BYTES) == 0, "a write after the reset comes back as another");
    session_ends(&c);
}

/* 32 reads of 1 MiB in the backend: aborted one by one, then again and reset; it goes on as if nothing was.
 */
void case_big_reads(void)
{
    enum { BIG = 2048, N = 32 };
    struct raw *c = session_new(1, "MaxRecvDataSegmentLength=262144|MaxBurstLength=1048576|");
    uint64_t base = play.at;
    uint32_t tags[N], sn;

    stall();
    for (int round = 0; round < 3; round++) {
        sn = c->cmd_sn;
        for (unsigned i = 0; i < N; i++)
            tags[i] = read_send(c, base + i * BIG, BIG);
        for (unsigned i = 0; i < N; i++)
            WANT(managed(c, TMF_ABORT_TASK, tags[i], sn + i) == TMF_COMPLETE, "ABORT TASK: %u",
                 c->bhs[AT_RESPONSE]);
    }
    for (unsigned i = 0; i < N; i++)
        read_send(c, base + i * BIG, BIG);
    WANT(managed(c, TMF_LOGICAL_UNIT_RESET, ISCSI_TAG_NONE, 0) == TMF_COMPLETE, "LUN reset: %u",
         c->bhs[AT_RESPONSE]);
    session_ready(c);
    resume();
    for (unsigned i = 0; i < N; i++)
        read_good(c, base + i * BIG, BIG);
    session_ends(&c);
}

/* --- going away --- */

/* Reads in the backend, some of them aborted just now, and the line is reset. */
void case_gone_in_flight(void)
{
    uint64_t base = fresh();
    uint32_t tags[DEPTH];
    struct raw *c;

    stall();
    for (unsigned i = 0; i < 50; i++) {
        uint32_t sn;

        c = session_new((uint8_t)(1 + i), "");
        sn = c->cmd_sn;
        reads_send(c, base, DEPTH, tags);
        for (unsigned j = 0; j < DEPTH; j += 2)
            raw_manage(c, TMF_ABORT_TASK, 0, tags[j], sn + j);
        session_reset(&c);
    }
    c = session_new(1, "");
    session_quiet(c, "while others' reads are in the backend");
    resume();
    reads_again(c, base, DEPTH);
    session_ends(&c);
}

/* The same initiator port logs in again while its I/O is in flight: the old connection ends, the new one
 * works. */
void case_reinstated(void)
{
    uint64_t base = fresh();
    uint32_t tags[DEPTH];
    struct raw *old = session_new(7, "ImmediateData=No|"), *c = NULL;

    read_good(old, 0, 8);
    stall();
    for (unsigned i = 0; i < 20; i++) {
        reads_send(old, base, DEPTH / 2, tags);
        for (unsigned j = 0; j < 4; j++)
            raw_command(old, RAW_WRITE | ISCSI_FINAL, 65536, raw_cdb16(0x8a, place(base, j), 128), 16, NULL,
                        0);
        c = session_new(7, "ImmediateData=No|");
        while (old->fd >= 0 && raw_recv(old) == ISCSI_R2T)
            ;
        WANT(raw_recv(old) == RAW_CLOSED, "the session that was replaced is still open");
        session_reset(&old);
        read_good(c, 0, 8);
        old = c;
    }
    resume();
    reads_again(c, base, DEPTH / 2);
    session_ends(&c);
}

/* In an outage initiators give up, and log in again and again, each time with commands that stay in the
 * backend: that must not keep others out, nor take memory without end. */
void case_relogin_storm(void)
{
    uint64_t base = fresh();
    uint32_t tags[DEPTH];
    struct span span;
    long before;
    struct raw *c;

    stall();
    c = session_new(1, "");
    before = edge_rss_kib();
    for (unsigned i = 0; i < 5000; i++) {
        struct raw *s =
            session_of("iqn.2026-11.org.isthmus.test:storm", play.iqn, (uint8_t)i, "", LOGIN_SUCCESS);

        reads_send(s, base, 4, tags);
        session_quiet(s, "with reads in the backend");
        session_reset(&s);
    }
    span = span_begin();
    session_quiet(c, "after the storm");
    session_ends(&c);
    c = session_new(1, "");
    WANT(span_ms(&span) < 1000 * play.slowness, "a login after the storm took %u ms", span_ms(&span));
    told("the edge has %ld KiB more than before", edge_rss_kib() - before);
    WANT(play.slowness > 1 || edge_rss_kib() - before < 32 << 10, "the edge has %ld KiB more than before",
         edge_rss_kib() - before);
    resume();
    reads_again(c, base, 4);
    session_ends(&c);
}

/* The VM is deleted under reads in the backend and writes that wait for their data: its initiator is asked to
 * log out, then the connection ends, and a login says that there is no such target. Nobody is left waiting.
 */
void case_removed(void)
{
    struct raw *c = session_new(1, "ImmediateData=No|"), *idle = session_new(2, "");
    struct span span;
    uint32_t tags[DEPTH];
    int opcode, status;

    stall();
    reads_send(c, fresh(), DEPTH / 2, tags);
    for (unsigned i = 0; i < 16; i++)
        raw_command(c, RAW_WRITE | ISCSI_FINAL, 65536, raw_cdb16(0x8a, i * 128, 128), 16, NULL, 0);
    for (unsigned i = 0; i < 16; i++) {
        WANT(raw_recv(c) == ISCSI_R2T, "write %u is not asked for its data", i);
        if (i % 2)
            raw_data_out(c, raw_r2t(c).itt, raw_r2t(c).ttt, 0, 0, false, "xxxx", 4);
    }
    told("ready");
    do
        opcode = raw_recv(c);
    while (opcode == ISCSI_SCSI_RESPONSE);
    span = span_begin();
    WANT(opcode == ISCSI_ASYNC_MESSAGE && c->bhs[AT_ASYNC_EVENT] == ASYNC_LOGOUT_REQUEST,
         "PDU %d instead of the request to log out", opcode);
    WANT(raw_recv(idle) == ISCSI_ASYNC_MESSAGE, "an idle session is not asked to log out");
    session_ends(&idle);
    do
        opcode = raw_recv(c);
    while (opcode >= 0);
    WANT(opcode == RAW_CLOSED && span_ms(&span) < 4000 * play.slowness,
         "the session lives on: %d after %u ms", opcode, span_ms(&span));
    session_reset(&c);
    c = raw_connect(play.address, play.port, 1);
    WANT(c, "no connection");
    {
        char text[600];

        snprintf(text, sizeof text, "InitiatorName=iqn.2026-11.org.isthmus.test:late|TargetName=%s|",
                 play.iqn);
        status = raw_login(c, RAW_TO_FULL, text);
    }
    WANT(status == LOGIN_NOT_FOUND || status == LOGIN_TARGET_REMOVED, "a login to what is gone: %04x",
         (unsigned)status);
    raw_free(&c);
    resume();
}
