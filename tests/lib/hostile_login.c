/* tests/lib/hostile_login.c - logins that break the rules: first PDUs, headers, stages, names, sessions.
 */
#include "hostile.h"

#include "mem.h"

#include <poll.h>
#include <stdio.h>

enum { HALF_LOGINS = 5, PATIENCE_SECONDS = 25 };
static struct raw *half[HALF_LOGINS]; /* from one case to another */

/* --- what comes first --- */

static void first_pdu(void)
{
    for (unsigned opcode = 0; opcode < 128; opcode++) {
        struct raw_pdu p;
        struct raw *c;

        if ((opcode & ISCSI_OPCODE_MASK) == ISCSI_LOGIN_REQUEST)
            continue;
        c = dial(1);
        raw_request_header(c, &p, (uint8_t)opcode);
        raw_send(c, &p);
        want_closed(c);
        hang_up(&c);
    }
}

static void text_before_login(void)
{
    struct raw *c = dial(1);

    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "SendTargets=All|");
    want_closed(c);
}

static void other_during_login(void)
{
    for (unsigned opcode = 0; opcode < 64; opcode++) {
        struct raw *c = dial(1);
        struct raw_pdu p;
        uint32_t itt;

        if (opcode == ISCSI_LOGIN_REQUEST)
            continue;
        want_login(c, 0, keys_for("vm1", ""), LOGIN_SUCCESS);
        itt = raw_request_header(c, &p, (uint8_t)opcode);
        raw_send(c, &p);
        want_pdu(c, ISCSI_LOGIN_RESPONSE);
        want(get16(c->bhs + AT_LOGIN_STATUS) == LOGIN_INVALID_REQUEST, "status %04x to opcode %02x",
             get16(c->bhs + AT_LOGIN_STATUS), opcode);
        want(get32(c->bhs + AT_ITT) == itt, "the refusal has another tag");
        want_closed(c);
        hang_up(&c);
    }
}

static void short_then_close(void)
{
    for (uint32_t n = 0; n < 2 * BHS_BYTES; n++) {
        struct raw *c = dial(1);
        struct raw_pdu p;
        uint8_t out[200];

        raw_login_header(c, &p, RAW_TO_FULL);
        p.data = "InitiatorName=iqn.2026-11.org.isthmus.test:short|";
        p.len = 49;
        raw_put(c, &p, out);
        want(raw_write(c, out, n), "nothing was taken");
        if (n % 2)
            hang_up(&c);
        else
            hang_up_hard(&c);
    }
}

/* Its text does not come, and neither does anything else; the AHS it announces, too. */
static void half_logins(void)
{
    struct raw_pdu p;

    for (int i = 0; i < HALF_LOGINS; i++) {
        raw_free(&half[i]);
        half[i] = raw_connect(world.address, world.port, 1);
        want(half[i], "no connection");
    }
    raw_login_header(half[1], &p, RAW_TO_FULL);
    raw_write(half[1], p.bhs, 20);
    p.lengths_as_is = true;
    put24(p.bhs + AT_DATA_SEGMENT_LENGTH, 100);
    raw_send(half[2], &p);
    p.bhs[AT_TOTAL_AHS_LENGTH] = 255;
    raw_send(half[3], &p);
    want_login(half[4], 0, keys_for("vm1", ""), LOGIN_SUCCESS);
}

static void half_logins_end(void)
{
    for (int i = 0; i < HALF_LOGINS; i++) {
        if (!half[i])
            half_logins();
        half[i]->timeout_ms = PATIENCE_SECONDS * 1000;
        want_closed(half[i]);
        raw_free(&half[i]);
    }
}

/* --- lengths --- */

static void huge_segment(void)
{
    CLEANUP_FREE char *junk = xcalloc(1, 65536);
    struct raw *c = dial(1);
    struct raw_pdu p;

    raw_login_header(c, &p, RAW_TO_FULL);
    put24(p.bhs + AT_DATA_SEGMENT_LENGTH, 0xffffff);
    p.lengths_as_is = true;
    raw_send(c, &p);
    raw_write(c, junk, 65536);
    want_closed(c);
    c = dial(1);
    put24(p.bhs + AT_DATA_SEGMENT_LENGTH, ISCSI_LOGIN_SEGMENT + 1);
    raw_send(c, &p);
    want_closed(c);
}

/* n PDUs of 8 KiB of keys, the C bit in all. */
static int pieces(struct raw *c, unsigned n)
{
    CLEANUP_FREE char *text = xmalloc(8192);
    int status = 0;

    for (unsigned i = 0; i < n && !status; i++) {
        struct raw_pdu p;

        for (unsigned k = 0; k < 8192; k += 64)
            snprintf(text + k, 64, "Xk-%u-%u=%045d", i, k, 0);
        raw_login_header(c, &p, ISCSI_CONTINUE | 1 << 2);
        p.data = text;
        p.len = 8192;
        raw_send(c, &p);
        want_pdu(c, ISCSI_LOGIN_RESPONSE);
        status = get16(c->bhs + AT_LOGIN_STATUS);
        want(status || (!c->len && !(c->bhs[1] & 0x80)), "%s amid pieces", said(c, ISCSI_LOGIN_RESPONSE));
    }
    return status;
}

static void text_of_64k(void)
{
    struct raw *c = dial(1);
    int status = pieces(c, 8);

    want(status == LOGIN_INITIATOR_ERROR, "login status %04x", (unsigned)status);
    want_closed(c);
}

static void with_ahs(void)
{
    uint8_t ahs[ISCSI_AHS_MAX];
    struct raw *c = dial(1);
    struct raw_pdu p;
    char text[1000];

    memset(ahs, 0xff, sizeof ahs);
    raw_login_header(c, &p, RAW_TO_FULL);
    p.ahs = ahs;
    p.ahs_len = sizeof ahs;
    p.data = text;
    p.len = raw_text(text, keys_for("vm1", ""));
    raw_send(c, &p);
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    want(!get16(c->bhs + AT_LOGIN_STATUS), "status %04x", get16(c->bhs + AT_LOGIN_STATUS));
    want_quiet(c);
}

static void byte_by_byte(void)
{
    struct raw *c = dial(1);
    struct raw_pdu p;
    char text[1000];
    uint8_t out[2500];
    size_t n;

    raw_login_header(c, &p, RAW_TO_FULL);
    p.data = text;
    p.len = raw_text(text, keys_for("vm1", ""));
    n = raw_put(c, &p, out);
    for (size_t i = 0; i < n; i++)
        raw_write(c, out + i, 1);
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    want(!get16(c->bhs + AT_LOGIN_STATUS), "status %04x", get16(c->bhs + AT_LOGIN_STATUS));
    want_quiet(c);
}

/* --- headers --- */

static void header_byte(unsigned at, uint8_t value, int status)
{
    struct raw *c = dial(1);
    struct raw_pdu p;
    char text[1000];

    raw_login_header(c, &p, RAW_TO_FULL);
    p.bhs[at] = value;
    p.data = text;
    p.len = raw_text(text, keys_for("vm1", ""));
    raw_send(c, &p);
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    want(get16(c->bhs + AT_LOGIN_STATUS) == status, "login status %04x instead of %04x",
         get16(c->bhs + AT_LOGIN_STATUS), (unsigned)status);
    if (status)
        want_closed(c);
    else
        want_quiet(c);
    hang_up(&c);
}

static void versions(void)
{
    header_byte(AT_VERSION_MIN, 5, LOGIN_UNSUPPORTED_VERSION);
    header_byte(AT_VERSION_MIN, 1, LOGIN_UNSUPPORTED_VERSION);
    header_byte(AT_VERSION_MAX, 255, LOGIN_SUCCESS);
}

static void stages(void)
{
    for (unsigned flags = 0; flags < 64; flags++) {
        bool transit = flags & 16, more = flags & 32;
        unsigned csg = flags >> 2 & 3, nsg = flags & 3;
        bool good = csg < 2 && !(transit && more) && (!transit || (nsg > csg && nsg != 2));
        struct raw *c = dial(1);
        uint8_t byte = (uint8_t)((transit ? 0x80 : 0) | (more ? 0x40 : 0) | (flags & 15));

        want_login(c, byte, keys_for("vm1", ""), good ? LOGIN_SUCCESS : LOGIN_INITIATOR_ERROR);
        if (!good)
            want_closed(c);
        hang_up(&c);
    }
}

static void backwards(void)
{
    struct raw *c = dial(1);

    want_login(c, RAW_SECURITY_TO_OPERATIONAL, keys_for("vm1", "AuthMethod=None|"), LOGIN_SUCCESS);
    want_refused(c, RAW_SECURITY_TO_FULL, "", LOGIN_INITIATOR_ERROR);
    c = dial(1);
    want_login(c, 0, keys_for("vm1", "AuthMethod=None|"), LOGIN_SUCCESS);
    c->isid[3] ^= 1;
    want_refused(c, RAW_SECURITY_TO_FULL, "", LOGIN_INITIATOR_ERROR);
    c = dial(1);
    want_login(c, 0, keys_for("vm1", "AuthMethod=None|"), LOGIN_SUCCESS);
    c->cid++;
    want_refused(c, RAW_SECURITY_TO_FULL, "", LOGIN_INITIATOR_ERROR);
}

static void endless(void)
{
    struct raw *c = dial(1);
    int status = raw_login(c, 1 << 2, keys_for("vm1", "")), rounds = 1;

    for (; !status && rounds < 1000; rounds++)
        status = raw_login(c, 1 << 2, "");
    want(status == LOGIN_INITIATOR_ERROR && rounds > 6, "status %04x after %d requests", (unsigned)status,
         rounds);
    want_closed(c);
}

/* --- who and where --- */

static void missing_names(void)
{
    char text[300];
    struct raw *c = dial(1);

    snprintf(text, sizeof text, "TargetName=%s:vm1|SessionType=Normal|", world.iqn);
    want_refused(c, RAW_TO_FULL, text, LOGIN_MISSING_PARAMETER);
    want_refused(dial(1), RAW_TO_FULL, HOSTILE_NAME "SessionType=Normal|", LOGIN_MISSING_PARAMETER);
    want_refused(dial(1), RAW_TO_FULL, "", LOGIN_MISSING_PARAMETER);
}

static void wrong_target(void)
{
    want_refused(dial(1), RAW_TO_FULL, keys_for("nobody", ""), LOGIN_NOT_FOUND);
    want_refused(dial(1), RAW_TO_FULL, keys_for("vm", ""), LOGIN_NOT_FOUND);
    want_refused(dial(1), RAW_TO_FULL, keys_for("vm1x", ""), LOGIN_NOT_FOUND);
    want_refused(dial(1), RAW_TO_FULL, keys_for("../vm1", ""), LOGIN_NOT_FOUND);
}

static void session_type(void)
{
    want_refused(dial(1), RAW_TO_FULL, HOSTILE_NAME "SessionType=Bogus|", LOGIN_SESSION_TYPE);
}

static void initiator_name(const char *name, int status)
{
    char text[700];
    struct raw *c = dial(1);

    snprintf(text, sizeof text, "InitiatorName=%s|TargetName=%s:vm1|", name, world.iqn);
    want_login(c, RAW_TO_FULL, text, status);
    if (status)
        want_closed(c);
    else
        want_quiet(c);
    hang_up(&c);
}

static void odd_names(void)
{
    char longest[300];

    initiator_name("", LOGIN_INITIATOR_ERROR);
    initiator_name("iqn.%n%n%s%s%s%1000000c%p", LOGIN_SUCCESS); /* a format for whoever prints it */
    initiator_name("iqn.\x01\x02\n", LOGIN_INITIATOR_ERROR);
    initiator_name("iqn.\"quoted\\", LOGIN_INITIATOR_ERROR);
    memset(longest, 'a', sizeof longest);
    longest[ISCSI_NAME_MAX] = 0;
    initiator_name(longest, LOGIN_SUCCESS);
    longest[ISCSI_NAME_MAX] = 'a';
    longest[ISCSI_NAME_MAX + 1] = 0;
    initiator_name(longest, LOGIN_INITIATOR_ERROR);
}

/* --- sessions that are, or are not --- */

static void unknown_handle(void)
{
    struct raw *c = dial(1), *there = session(2, "");

    c->tsih = (uint16_t)(there->tsih + 1000);
    want_refused(c, RAW_TO_FULL, keys_for("vm1", ""), LOGIN_NO_SESSION);
    c = dial(1); /* of somebody else */
    c->tsih = there->tsih;
    want_refused(c, RAW_TO_FULL, keys_for("vm1", ""), LOGIN_NO_SESSION);
    want_quiet(there);
}

static void second_connection(void)
{
    struct raw *c = dial(2), *there = session(2, "");

    c->tsih = there->tsih;
    c->cid = 2;
    want_refused(c, RAW_TO_FULL, keys_for("vm1", ""), LOGIN_TOO_MANY_CONNECTIONS);
    want_quiet(there);
}

static void same_port_again(void)
{
    struct raw *first = session(2, ""), *second;

    for (unsigned i = 0; i < 32; i++)
        raw_command(first, ISCSI_FINAL | RAW_READ, 65536, raw_cdb10(0x28, i * 128, 128), 10, NULL, 0);
    raw_command(first, ISCSI_FINAL | RAW_WRITE, 65536, raw_cdb10(0x2a, 0, 128), 10, NULL, 0);
    second = session(2, "");
    want(second->tsih != first->tsih || second->tsih, "no session handle");
    while (raw_recv(first) >= 0)
        ;
    want_closed(first);
    want_same(second, 0, 64, 3);
    first = dial(2); /* the connection is reinstated */
    first->tsih = second->tsih;
    want_login(first, RAW_TO_FULL, keys_for("vm1", ""), LOGIN_SUCCESS);
    want_closed(second);
    want_same(first, 0, 64, 4);
}

static void login_in_session(void)
{
    struct raw *c = session(1, "");
    struct raw_pdu p;

    raw_login_header(c, &p, RAW_TO_FULL);
    raw_send(c, &p);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    want_quiet(c);
}

/* The next requests are there before the answers. */
static void requests_ahead(void)
{
    struct raw *c = dial(1);
    char text[1000];
    uint8_t out[4000];
    size_t n = 0;
    struct raw_pdu p;

    raw_login_header(c, &p, RAW_SECURITY_TO_OPERATIONAL);
    p.data = text;
    p.len = raw_text(text, keys_for("vm1", "AuthMethod=None|"));
    n += raw_put(c, &p, out + n);
    raw_login_header(c, &p, RAW_TO_FULL);
    n += raw_put(c, &p, out + n);
    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    n += raw_put(c, &p, out + n);
    raw_write(c, out, n);
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    want((c->bhs[1] & 0x83) == 0x83, "no full feature phase");
    want_pdu(c, ISCSI_NOP_IN);
}

const struct hostile_case hostile_login[] = {
    {"half_logins", "logins of which the rest does not come", "looked at by half_logins_end", half_logins},
    {"first_pdu", "each opcode but Login as the first PDU", "closed at once, unanswered: RFC 7143 6.3",
     first_pdu},
    {"text_before_login", "SendTargets before any login", "closed, no list: RFC 7143 6.3", text_before_login},
    {"other_during_login", "each opcode but Login during login", "Login Response 020b, closed: RFC 7143 6.3",
     other_during_login},
    {"short_then_close", "0 to 95 bytes of a login, then FIN or RST", "nothing is read that did not come",
     short_then_close},
    {"huge_login_segment", "DataSegmentLength 0xffffff, and 8193",
     "closed: 8192 until declared, RFC 7143 13.12", huge_segment},
    {"login_64k", "64 KiB of keys in pieces", "status 0200 when it is past our bound", text_of_64k},
    {"login_ahs", "a login with 1020 bytes of AHS", "AHS has no meaning there: skipped", with_ahs},
    {"login_byte_by_byte", "a login in segments of one byte", "success", byte_by_byte},
    {"bad_version", "Version-min 5, 1; Version-max 255", "0205, 0205; success: RFC 7143 11.12.4", versions},
    {"csg_nsg_bad", "every T, C, CSG and NSG", "0200 but for the transitions of RFC 7143 11.12.3", stages},
    {"login_backwards", "a stage back; another ISID; another CID", "0200", backwards},
    {"login_endless", "requests without T for ever", "0200, after 6 exchanges at the least: RFC 7143 6.2",
     endless},
    {"no_initiator_name", "no InitiatorName; no TargetName", "0207: RFC 7143 11.13.5", missing_names},
    {"wrong_target", "names of no target", "0203", wrong_target},
    {"session_type", "SessionType=Bogus", "0209", session_type},
    {"odd_names", "names empty, too long, of control characters, of printf", "0200, or taken literally",
     odd_names},
    {"bad_tsih", "a TSIH of no session, and of another's", "020a; who has it stays", unknown_handle},
    {"second_connection", "a second connection of a session", "0206: MaxConnections is 1", second_connection},
    {"same_isid", "the same port again with I/O in flight, by ISID and by TSIH",
     "the old connection is closed, the new one works: RFC 7143 6.3.5", same_port_again},
    {"login_in_session", "a Login request in full feature phase", "Reject 04, the session goes on",
     login_in_session},
    {"requests_ahead", "two logins and a ping in one segment", "three answers, in order", requests_ahead},
    {0},
};

const struct hostile_case hostile_login_end[] = {
    {"half_logins_end", "the half logins of the beginning", "closed when login_seconds are over",
     half_logins_end},
    {0},
};
