/* practice_silence.c - cases about initiators that say nothing, little, or do not answer pings, and about
 * pings that are answered.
 */
#include "practice.h"

#include "mem.h"

#include <stdlib.h>
#include <string.h>

/* Until the target closes the connection, since then; -1 when it is still open after that time. */
static int silence_ms(struct raw *c, uint64_t since, unsigned most_ms)
{
    c->show_pings = true;
    c->timeout_ms = (int)most_ms;
    for (;;) {
        int opcode = raw_recv(c);

        if (opcode == RAW_CLOSED)
            return (int)(now_ms() - since);
        if (opcode == RAW_SILENT || now_ms() - since > most_ms)
            return -1;
        WANT(opcode == ISCSI_NOP_IN, "PDU %d into the silence", opcode);
    }
}

/* An initiator that knows NOP says nothing any more, with reads in the backend: it is closed, and the reads
 * come back to nobody. */
void case_silent_with_io(void)
{
    struct raw *c = session_new(1, ""), *other = session_new(2, "");
    uint64_t since;
    int took;

    session_quiet(c, "at first");
    stall();
    since = now_ms(); /* before the last that the target hears of it */
    for (unsigned i = 0; i < 64; i++)
        read_send(c, play.at + i * 512, 64);
    took = silence_ms(c, since, 25000 * play.slowness);
    WANT(took >= 10000, "a silent session was closed after %d ms", took);
    told("closed after %d ms", took);
    resume();
    session_quiet(other, "after the backend is back");
    session_ready(other);
    for (unsigned i = 0; i < 64; i++)
        read_good(other, play.at + i * 512, 64);
    session_reset(&c);
    session_ends(&other);
}

/* A slow line: for 20 seconds no PDU is complete and no ping answered, but bytes come. That is no silence. */
void case_slow_sender(void)
{
    struct raw *c = session_new(1, "ImmediateData=No|");
    uint8_t *data = xcalloc(1, 65536);
    struct raw_answer a;
    struct raw_pdu p;

    session_quiet(c, "at first");
    raw_command(c, RAW_WRITE | ISCSI_FINAL, 65536, raw_cdb10(0x2a, 0, 128), 10, NULL, 0);
    WANT(raw_recv(c) == ISCSI_R2T, "no R2T");
    raw_data_out_header(c, &p, raw_r2t(c).itt, raw_r2t(c).ttt, 0, 0, true);
    put24(p.bhs + AT_DATA_SEGMENT_LENGTH, 65536);
    raw_write(c, p.bhs, BHS_BYTES);
    for (unsigned i = 0; i < 64; i++) {
        pause_ms(300);
        WANT(raw_write(c, data + i * 1024, 1024), "closed in the middle of its data");
    }
    a = raw_answer(c, NULL, 0);
    WANT(a.opcode == ISCSI_SCSI_RESPONSE && a.status == 0, "a slow write: PDU %d", a.opcode);
    free(data);
    session_ends(&c);
}

/* Boot firmware answers no ping and idles while its guest thinks: it is not taken for dead. Pings show the
 * next StatSN and have a LUN (the watch and this look at it). */
void case_deaf_to_pings(void)
{
    static const uint8_t lun0[8];
    struct raw *c = session_new(1, "");
    unsigned pings = 0;
    uint64_t until = now_ms() + 22000;

    c->show_pings = true;
    c->timeout_ms = 1000;
    while (now_ms() < until) {
        int opcode = raw_recv(c);

        WANT(opcode == RAW_SILENT || opcode == ISCSI_NOP_IN, "an idle session gets PDU %d", opcode);
        if (opcode != ISCSI_NOP_IN)
            continue;
        WANT(get32(c->bhs + AT_TTT) != ISCSI_TAG_NONE && memcmp(c->bhs + AT_LUN, lun0, 8) == 0 && c->len == 0,
             "a ping that is none");
        pings++;
    }
    WANT(pings, "no ping in 22 seconds");
    c->timeout_ms = 20000;
    read_good(c, 0, 8);
    session_ends(&c);
}

/* Pings are answered within a second while the session has a queue of reads. */
void case_ping_under_load(void)
{
    struct raw *c = session_new(1, "");
    unsigned longest = 0, reads = 0;

    read_good(c, 0, 512);
    for (unsigned i = 0; i < 200; i++) {
        struct span span = span_begin();
        uint32_t itt;
        bool answered = false;

        for (unsigned j = 0; j < 16; j++)
            read_send(c, 0, 512);
        itt = raw_ping(c, "echo", 4);
        for (unsigned left = 17; left;) {
            int opcode = raw_recv(c);

            if (opcode == ISCSI_NOP_IN) {
                WANT(get32(c->bhs + AT_ITT) == itt && c->len == 4, "a ping's answer with %u bytes", c->len);
                longest = span_ms(&span) > longest ? span_ms(&span) : longest;
                answered = true;
                left--;
            } else {
                WANT(opcode == ISCSI_DATA_IN, "PDU %d", opcode);
                left -= c->bhs[AT_FLAGS] & ISCSI_DATA_STATUS;
                reads += c->bhs[AT_FLAGS] & ISCSI_DATA_STATUS;
            }
        }
        WANT(answered, "a ping was not answered");
    }
    told("the longest of 200 took %u ms, among %u reads", longest, reads);
    WANT(longest < 1000 * play.slowness, "a ping took %u ms", longest);
    session_ends(&c);
}
