/* tests/lib/hostile_ffp.c - full feature phase: opcodes, pings, text, logouts, discovery sessions.
 */
#include "hostile.h"

#include "mem.h"

#include <stdio.h>
#include <stdlib.h>

static void send_opcode(struct raw *c, uint8_t opcode)
{
    struct raw_pdu p;

    raw_request_header(c, &p, opcode);
    raw_send(c, &p);
    if (!(opcode & ISCSI_IMMEDIATE))
        c->cmd_sn--; /* nobody knows whether it counts: it does not */
}

static void reserved_opcodes(void)
{
    struct raw *c = session(1, "");

    for (unsigned i = 0x07; i < 0x20; i++) {
        if (i == ISCSI_SNACK)
            continue;
        send_opcode(c, (uint8_t)i);
        want_reject(c, REJECT_NOT_SUPPORTED);
        want(c->data[0] == i && !memcmp(c->data + AT_ITT, (uint8_t[4]){0}, 3),
             "another header than was sent");
        send_opcode(c, (uint8_t)(i | ISCSI_IMMEDIATE));
        want_reject(c, REJECT_NOT_SUPPORTED);
    }
    want_same(c, 0, 8, 1);
}

static void target_opcodes(void)
{
    struct raw *c = session(1, "");

    for (unsigned i = 0x20; i < 0x40; i++) {
        send_opcode(c, (uint8_t)i);
        want_reject(c, REJECT_PROTOCOL_ERROR);
    }
    want_same(c, 0, 8, 2);
}

static void snack(void)
{
    struct raw *c = session(1, "");

    for (uint8_t type = 0; type < 16; type++) { /* data or R2T, status, DataACK, R-data; and none */
        struct raw_pdu p;

        raw_request_header(c, &p, ISCSI_SNACK);
        p.bhs[AT_FLAGS] = ISCSI_FINAL | type;
        raw_send(c, &p);
        want_reject(c, REJECT_SNACK);
    }
    want_quiet(c);
}

/* The Reject has the header, and nothing of what follows it. */
static void rejected_ahs(void)
{
    uint8_t ahs[ISCSI_AHS_MAX];
    struct raw *c = session(1, "");
    CLEANUP_FREE uint8_t *data = xcalloc(1, 100000);
    struct raw_pdu p;

    memset(ahs, 0xff, sizeof ahs);
    raw_request_header(c, &p, 0x1f | ISCSI_IMMEDIATE);
    p.ahs = ahs;
    p.ahs_len = sizeof ahs;
    p.data = data;
    p.len = 100000;
    raw_send(c, &p);
    want_reject(c, REJECT_NOT_SUPPORTED);
    want(!memcmp(c->data, p.bhs, BHS_BYTES), "another header than was sent");
    want_same(c, 0, 8, 3);
}

static void large_segment(void)
{
    struct raw *c = session(1, "");
    struct raw_pdu p;

    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    put24(p.bhs + AT_DATA_SEGMENT_LENGTH, c->segment + 1);
    p.lengths_as_is = true;
    raw_send(c, &p);
    want_closed(c);
}

/* --- pings --- */

static void echo(void)
{
    static const uint32_t lengths[] = {1, 2, 3, 4, 511, 8192, 65536, 262144};
    CLEANUP_FREE uint8_t *data = xmalloc(262144);
    struct raw *c = session(1, "MaxRecvDataSegmentLength=262144|");

    pattern(data, 262144, 1);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint32_t itt = raw_ping(c, data, lengths[i]);

        want_pdu(c, ISCSI_NOP_IN);
        want(get32(c->bhs + AT_ITT) == itt && c->len == lengths[i] && !memcmp(c->data, data, c->len),
             "%u bytes came back as %u", lengths[i], c->len);
    }
    c = session(2, "MaxRecvDataSegmentLength=512|");
    raw_ping(c, data, 262144);
    want_pdu(c, ISCSI_NOP_IN);
    want(c->len == 512 && !memcmp(c->data, data, 512), "%u bytes to an initiator that takes 512", c->len);
}

static void answers_to_nothing(void)
{
    struct raw *c = session(1, "");
    struct raw_pdu p;

    for (uint32_t ttt = 0; ttt < 3; ttt++) {
        raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
        put32(p.bhs + AT_ITT, ISCSI_TAG_NONE);
        put32(p.bhs + AT_TTT, ttt - 1); /* none, 0, 1 */
        p.data = "unasked";
        p.len = 7;
        raw_send(c, &p);
        want_quiet(c);
    }
}

/* --- text --- */

static void text_pieces(void)
{
    struct raw *c = session(1, "");
    uint32_t ttt;

    raw_text_request(c, ISCSI_CONTINUE, ISCSI_TAG_NONE, "");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
    ttt = get32(c->bhs + AT_TTT);
    want(!c->len && !(c->bhs[1] & 0xc0) && ttt != ISCSI_TAG_NONE, "%s", said(c, ISCSI_TEXT_RESPONSE));
    c->itt--; /* one exchange has one tag */
    raw_text_request(c, ISCSI_CONTINUE, ttt, "SendTar");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
    want(!c->len && !(c->bhs[1] & 0xc0), "%s", said(c, ISCSI_TEXT_RESPONSE));
    c->itt--;
    raw_text_request(c, ISCSI_FINAL, get32(c->bhs + AT_TTT), "gets=|");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
    want(c->bhs[1] == ISCSI_FINAL && get32(c->bhs + AT_TTT) == ISCSI_TAG_NONE, "%s",
         said(c, ISCSI_TEXT_RESPONSE));
    want(strstr(raw_value(c, "TargetName"), ":vm1"), "TargetName=%s", raw_value(c, "TargetName"));
    want_quiet(c);
}

static void text_unknown_tag(void)
{
    struct raw *c = session(1, "");

    raw_text_request(c, ISCSI_FINAL, 12345, "SendTargets=|");
    want_reject(c, REJECT_INVALID_FIELD);
    want_quiet(c);
}

static void text_broken(void)
{
    struct raw *c = session(1, "");
    struct raw_pdu p;

    raw_text_request(c, ISCSI_FINAL | ISCSI_CONTINUE, ISCSI_TAG_NONE, "SendTargets=|");
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "no pair at all|");
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "MaxRecvDataSegmentLength=0|");
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_request_header(c, &p, ISCSI_TEXT_REQUEST);
    put32(p.bhs + AT_ITT, ISCSI_TAG_NONE);
    raw_send(c, &p);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "org.test.what=1|MaxBurstLength=512|");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
    want_value(c, "org.test.what", "NotUnderstood");
    want_value(c, "MaxBurstLength", "Reject");
    want_same(c, 0, 8, 4);
}

static void text_64k(void)
{
    CLEANUP_FREE char *piece = xcalloc(1, 8192);
    struct raw *c = session(1, "");
    uint32_t ttt = ISCSI_TAG_NONE;
    int opcode = ISCSI_TEXT_RESPONSE;

    memset(piece, 'x', 8191);
    for (int i = 0; i < 8 && opcode == ISCSI_TEXT_RESPONSE; i++) {
        raw_text_request(c, ISCSI_CONTINUE, ttt, piece);
        opcode = raw_recv(c);
        ttt = get32(c->bhs + AT_TTT);
    }
    want(opcode == ISCSI_REJECT && c->bhs[AT_RESPONSE] == REJECT_PROTOCOL_ERROR, "%s", said(c, opcode));
    want_quiet(c);
}

static void text_then_gone(void)
{
    for (int i = 0; i < 64; i++) {
        struct raw *c = discovery(1, "MaxRecvDataSegmentLength=512|");

        raw_text_request(c, i & 1 ? ISCSI_FINAL : ISCSI_CONTINUE, ISCSI_TAG_NONE, "SendTargets=All|");
        if (i & 2)
            want_pdu(c, ISCSI_TEXT_RESPONSE);
        hang_up_hard(&c);
    }
}

/* Seldom enough that the rest is asked for: a new request instead. */
static void text_half_read(void)
{
    struct raw *c = session(1, "MaxRecvDataSegmentLength=512|");
    CLEANUP_FREE char *keys = xcalloc(1, 4000);

    for (unsigned i = 0, at = 0; i < 100; i++)
        at += (unsigned)snprintf(keys + at, 4000 - at, "org.test.key%u=1|", i);
    for (int i = 0; i < 100; i++) {
        raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, keys);
        want_pdu(c, ISCSI_TEXT_RESPONSE);
        want(c->len == 512 && c->bhs[1] == ISCSI_CONTINUE, "%s", said(c, ISCSI_TEXT_RESPONSE));
    }
    want_quiet(c);
}

/* --- logout --- */

static void after_logout(void)
{
    struct raw *c = session(1, "");

    raw_logout(c, LOGOUT_CLOSE_SESSION);
    raw_command(c, ISCSI_FINAL, 0, raw_cdb10(0, 0, 0), 6, NULL, 0);
    want_pdu(c, ISCSI_LOGOUT_RESPONSE);
    want(!c->bhs[AT_RESPONSE], "response %u", c->bhs[AT_RESPONSE]);
    want_closed(c);
}

static void logout_reasons(void)
{
    struct raw *c = session(1, "");

    raw_logout(c, 0x7f);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_logout(c, 3);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    c->cid += 5;
    raw_logout(c, LOGOUT_CLOSE_CONNECTION);
    want_pdu(c, ISCSI_LOGOUT_RESPONSE);
    want(c->bhs[AT_RESPONSE] == LOGOUT_NO_CID, "response %u", c->bhs[AT_RESPONSE]);
    c->cid -= 5;
    raw_logout(c, LOGOUT_RECOVERY);
    want_pdu(c, ISCSI_LOGOUT_RESPONSE);
    want(c->bhs[AT_RESPONSE] == LOGOUT_NO_RECOVERY, "response %u", c->bhs[AT_RESPONSE]);
    want_quiet(c);
    raw_logout(c, LOGOUT_CLOSE_CONNECTION);
    want_pdu(c, ISCSI_LOGOUT_RESPONSE);
    want(!c->bhs[AT_RESPONSE], "response %u", c->bhs[AT_RESPONSE]);
    want_closed(c);
}

static void logout_amid_writes(void)
{
    struct raw *c = session(1, "InitialR2T=Yes|ImmediateData=No|");

    for (uint32_t i = 0; i < 8; i++) {
        raw_command(c, ISCSI_FINAL | RAW_WRITE, 4096, raw_cdb10(0x2a, i, 8), 10, NULL, 0);
        want_pdu(c, ISCSI_R2T);
    }
    raw_logout(c, LOGOUT_CLOSE_SESSION);
    want_pdu(c, ISCSI_LOGOUT_RESPONSE);
    want_closed(c);
}

/* --- discovery --- */

static void commands_in_discovery(void)
{
    struct raw *c = discovery(1, "");

    raw_command(c, ISCSI_FINAL, 0, raw_cdb10(0, 0, 0), 6, NULL, 0);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 0, 1), 10, c->data, 512);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_manage(c, TMF_LOGICAL_UNIT_RESET, 0, ISCSI_TAG_NONE, 0);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_data_out(c, 1, ISCSI_TAG_NONE, 0, 0, true, c->data, 512);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "SendTargets=All|");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
    want(strstr(raw_value(c, "TargetName"), world.iqn), "no targets");
}

const struct hostile_case hostile_ffp[] = {
    {"bad_opcode", "each reserved opcode", "Reject 05, the session goes on: RFC 7143 11.17.1",
     reserved_opcodes},
    {"target_opcode", "each opcode of a target", "Reject 04, the session goes on", target_opcodes},
    {"snack", "SNACK of every type at ERL 0", "Reject 03, the session goes on", snack},
    {"reject_of_ahs", "a reserved opcode with 1020 bytes of AHS and 100,000 of data",
     "Reject with its header alone", rejected_ahs},
    {"large_segment", "a segment one byte above what we declared", "closed: RFC 7143 13.12", large_segment},
    {"nop_ping_64k", "pings of 1 byte to 256 KiB", "all of it comes back, as much as the initiator takes",
     echo},
    {"nop_badttt", "answers to pings that were not sent", "nothing: RFC 7143 11.18", answers_to_nothing},
    {"text_cont_nodata", "a text request with C and no data, then its rest",
     "empty responses, then the answer", text_pieces},
    {"text_badttt", "a text request with an unknown tag", "Reject 09, the session goes on", text_unknown_tag},
    {"text_broken", "F and C; no pair; MRDSL 0; no tag; keys of login", "Reject 04; NotUnderstood, Reject",
     text_broken},
    {"text_64k", "a text request of 64 KiB", "Reject 04 when it is past our bound", text_64k},
    {"text_then_gone", "RST with a text exchange open", "nothing is left of it", text_then_gone},
    {"text_half_read", "new text requests while an answer goes on", "the old exchange is over",
     text_half_read},
    {"cmd_after_logout", "a command right behind a logout",
     "Logout Response, closed, no answer: RFC 7143 11.14", after_logout},
    {"logout_bad_reason", "reasons 7f and 3, another CID, recovery", "Reject 04; 1; 2; then a good one works",
     logout_reasons},
    {"logout_amid_writes", "a logout with R2Ts unanswered", "Logout Response, closed", logout_amid_writes},
    {"disc_scsi", "SCSI, TMF and Data-Out in a discovery session",
     "Reject 04, SendTargets works: RFC 7143 4.3", commands_in_discovery},
    {0},
};
