/* tests/lib/hostile_digests.c - digests that are wrong, and those of every kind of answer that has data.
 */
#include "hostile.h"

#include "mem.h"

#define BOTH "HeaderDigest=CRC32C|DataDigest=CRC32C|"

static uint8_t data[262144];

static void header(void)
{
    struct raw *c = session(1, BOTH);
    struct raw_pdu p;

    raw_command_header(c, &p, ISCSI_FINAL, 0, (uint8_t[6]){0}, 6);
    p.header_digest_xor = 1;
    raw_send(c, &p);
    want_closed(c);
    c = session(1, BOTH);
    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    p.header_digest_xor = 0x80000000;
    raw_send(c, &p);
    want_closed(c);
}

static void rejected_and_closed(struct raw *c)
{
    want_reject(c, REJECT_DATA_DIGEST);
    want_closed(c);
    c = session(2, BOTH);
    want_same(c, 64, 8, 1); /* and nobody else minds */
    hang_up(&c);
}

static void immediate_data(void)
{
    struct raw *c = session(1, BOTH);
    struct raw_pdu p;
    uint8_t in[512];
    struct raw_answer a;

    want_same(c, 0, 1, 20);
    raw_command_header(c, &p, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 0, 1), 10);
    memset(data, 0xdd, 512);
    p.data = data;
    p.len = 512;
    p.data_digest_xor = 2;
    raw_send(c, &p);
    rejected_and_closed(c);
    c = session(1, BOTH);
    a = raw_exchange(c, raw_cdb10(0x28, 0, 1), 10, NULL, 0, in, 512);
    want_is_good(&a);
    pattern(data, 512, 20);
    want(!memcmp(in, data, 512), "data with a wrong digest was written");
}

static void data_out(void)
{
    struct raw *c = session(1, BOTH "ImmediateData=No|");
    uint32_t itt = raw_command(c, ISCSI_FINAL | RAW_WRITE, 4096, raw_cdb10(0x2a, 0, 8), 10, NULL, 0);
    struct raw_r2t r = want_r2t(c, itt);
    struct raw_pdu p;

    raw_data_out_header(c, &p, itt, r.ttt, 0, 0, true);
    p.data = data;
    p.len = 4096;
    p.data_digest_xor = 4;
    raw_send(c, &p);
    rejected_and_closed(c);
}

static void ping_and_text(void)
{
    struct raw *c = session(1, BOTH);
    struct raw_pdu p;

    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    p.data = "ping";
    p.len = 4;
    p.data_digest_xor = 8;
    raw_send(c, &p);
    rejected_and_closed(c);
    c = session(1, BOTH);
    raw_request_header(c, &p, ISCSI_TEXT_REQUEST);
    p.data = "SendTargets=";
    p.len = 13;
    p.data_digest_xor = 16;
    raw_send(c, &p);
    rejected_and_closed(c);
}

/* What is dropped anyway is not looked at. */
static void of_dropped_data(void)
{
    struct raw *c = session(1, BOTH);
    struct raw_pdu p;

    raw_data_out_header(c, &p, 0x5555, 1, 0, 0, true);
    p.data = data;
    p.len = 1000;
    raw_send(c, &p);
    want_reject(c, REJECT_INVALID_FIELD);
    want_same(c, 0, 8, 2);
}

/* raw checks the digests of all of them; lengths that are no multiple of 4 have padding in theirs. */
static void of_answers(void)
{
    struct raw *c = session(1, BOTH "MaxRecvDataSegmentLength=4096|");
    struct raw_answer a;

    for (uint32_t n = 1; n < 64; n++) {
        uint32_t itt = raw_ping(c, data, n);

        want_pdu(c, ISCSI_NOP_IN);
        want(get32(c->bhs + AT_ITT) == itt && c->len == n, "%u bytes came back as %u", n, c->len);
        raw_command(c, ISCSI_FINAL | RAW_READ, n, (const uint8_t[6]){0x12, 0, 0, 0, 96, 0}, 6, NULL, 0);
        a = raw_answer(c, NULL, 0);
        want(!a.status && a.got == n, "INQUIRY: %u bytes, %s", a.got, said(c, a.opcode));
        raw_command(c, ISCSI_FINAL | RAW_READ, 4096 + n, raw_cdb10(0x28, 0, 16), 10, NULL, 0);
        a = raw_answer(c, NULL, 0);
        want(!a.status && a.got == 4096 + n, "READ: %u bytes, %s", a.got, said(c, a.opcode));
    }
    want_sense(c, raw_command(c, ISCSI_FINAL, 0, raw_cdb16(0xff, 0, 0), 16, NULL, 0), 0x052000);
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "SendTargets=|org.test.odd=1|");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
    raw_manage(c, TMF_ABORT_TASK, 0, 1, c->cmd_sn - 1);
    want_pdu(c, ISCSI_TASK_MANAGEMENT_RESPONSE);
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 0, 1), 10, data, 513);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    want_same(c, 0, 2000, 3);
    raw_logout(c, LOGOUT_CLOSE_SESSION);
    want_pdu(c, ISCSI_LOGOUT_RESPONSE);
    want_closed(c);
}

/* The digest of a header is that of its AHS, too. */
static void of_ahs(void)
{
    struct raw *c = session(1, BOTH);
    uint8_t ahs[ISCSI_AHS_MAX] = {0, 5, 2};

    for (uint32_t n = 4; n <= ISCSI_AHS_MAX; n += 4) {
        struct raw_pdu p;
        uint32_t itt = raw_command_header(c, &p, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 0, 1), 10);

        p.ahs = ahs;
        p.ahs_len = n;
        p.data = data;
        p.len = 512;
        raw_send(c, &p);
        want_good(c, itt);
    }
    want_same(c, 0, 8, 4);
}

/* Cut at each byte: the end of the data in one segment, its digest in the next. */
static void cut_everywhere(void)
{
    struct raw *c = session(1, BOTH), *other = session(2, "");
    uint8_t out[2000], in[512];

    for (uint32_t cut = 1; cut<48 + 4 + 512 + 4; cut += cut> 40 && cut < 56 ? 1 : cut > 555 ? 1 : 7) {
        struct raw_answer a;
        struct raw_pdu p;
        size_t n;

        pattern(data, 512, (uint8_t)cut);
        raw_command_header(c, &p, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x2a, 3, 1), 10);
        p.data = data;
        p.len = 512;
        n = raw_put(c, &p, out);
        raw_write(c, out, cut);
        want_quiet(other); /* the first part has been looked at by then */
        raw_write(c, out + cut, n - cut);
        want_good(c, get32(p.bhs + AT_ITT));
        a = raw_exchange(c, raw_cdb10(0x28, 3, 1), 10, NULL, 0, in, 512);
        want_is_good(&a);
        want(!memcmp(in, data, 512), "other bytes than were written, cut at %u", cut);
    }
}

const struct hostile_case hostile_digests[] = {
    {"digest_header", "a wrong header digest", "closed: nothing in it can be trusted, RFC 7143 7.7", header},
    {"digest_immediate", "a wrong digest of immediate data", "Reject 02, closed, not written: RFC 7143 7.8",
     immediate_data},
    {"digest_dataout", "a wrong digest of Data-Out", "Reject 02, closed: RFC 7143 7.8", data_out},
    {"digest_others", "a wrong digest of a ping, a text request", "Reject 02, closed", ping_and_text},
    {"digest_orphan", "data for no task, with digests", "Reject 09, the session goes on", of_dropped_data},
    {"digest_answers", "every kind of answer, of every length", "digests are right, padding included",
     of_answers},
    {"digest_ahs", "writes with every length of AHS", "GOOD: it is within the header digest, RFC 7143 11.2.3",
     of_ahs},
    {"digest_cut", "a write cut between data and digest", "one command, the right bytes", cut_everywhere},
    {0},
};
