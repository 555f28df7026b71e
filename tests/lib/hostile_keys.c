/* tests/lib/hostile_keys.c - text keys: too long, too many, split, repeated, out of range, at odds.
 */
#include "hostile.h"

#include "mem.h"

#include <stdio.h>
#include <stdlib.h>

/* A login with these keys: the status. If it succeeds, the session works. */
static struct raw *with(const char *more, int status)
{
    static struct raw *c;

    c = dial(1);
    want_login(c, RAW_TO_FULL, keys_for("vm1", more), status);
    if (status)
        want_closed(c);
    return c;
}

static void answers(const char *more, const char *key, const char *value)
{
    struct raw *c = with(more, LOGIN_SUCCESS);

    want_value(c, key, value);
    want_quiet(c);
    hang_up(&c);
}

static void refused(const char *more)
{
    struct raw *c = with(more, LOGIN_INITIATOR_ERROR);

    hang_up(&c);
}

static void names_too_long(void)
{
    char key[400];
    struct raw *c;

    memset(key, 'x', sizeof key);
    strcpy(key + 300, "=1|");
    refused(key);
    strcpy(key + 64, "=1|");
    refused(key);
    strcpy(key + 63, "=1|");
    c = with(key, LOGIN_SUCCESS);
    key[63] = 0;
    want_value(c, key, "NotUnderstood");
    want_quiet(c);
}

static void unknown_keys(void)
{
    CLEANUP_FREE char *keys = xcalloc(1, 8000);
    struct raw *c;
    char name[32];

    for (unsigned i = 0, n = 0; i < 200; i++)
        n += (unsigned)snprintf(keys + n, 8000 - n, "org.test.key%u=some value|", i);
    c = with(keys, LOGIN_SUCCESS);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "org.test.key%u", i);
        want_value(c, name, "NotUnderstood");
    }
    want_quiet(c);
}

/* The answer does not fit in one response: the rest is asked for with empty requests. With pieces of so many
 * bytes each way. */
static void long_answer_in(uint32_t piece)
{
    CLEANUP_FREE char *keys = xcalloc(1, 9000), *seen = xcalloc(1, 20000), *some = xcalloc(1, piece + 1);
    struct raw *c = dial(1);
    unsigned count = 0, pieces = 1, at = 0;
    size_t n = 0, len;

    at += (unsigned)sprintf(keys, "%sMaxRecvDataSegmentLength=%u|", keys_for("vm1", ""), piece);
    for (unsigned i = 0; i < 700; i++)
        at += (unsigned)snprintf(keys + at, 9000 - at, "Xk%u=1|", i);
    for (len = at, at = 0; len - at > piece; at += piece) {
        memcpy(some, keys + at, piece);
        want_login(c, ISCSI_CONTINUE | 1 << 2, some, LOGIN_SUCCESS);
        want(!c->len && !(c->bhs[1] & 0xc0), "keys were answered before they were complete");
    }
    want_login(c, RAW_TO_FULL, keys + at, LOGIN_SUCCESS);
    for (; c->bhs[1] & ISCSI_CONTINUE; pieces++) {
        want(!(c->bhs[1] & ISCSI_LOGIN_TRANSIT) && c->len == piece && n + c->len < 20000,
             "a piece of %u bytes", c->len);
        memcpy(seen + n, c->data, c->len);
        n += c->len;
        want_login(c, RAW_TO_FULL, "", LOGIN_SUCCESS);
    }
    want(n > 0 && n + c->len < 20000, "the answer was not in pieces");
    memcpy(seen + n, c->data, c->len);
    n += c->len;
    want(pieces == (n + piece - 1) / piece, "%u pieces for %zu bytes", pieces, n);
    for (const char *p = seen; p < seen + n; p += strlen(p) + 1)
        count += strstr(p, "=NotUnderstood") != NULL;
    want(count == 700, "%u keys not understood", count);
    want_quiet(c);
    hang_up(&c);
}

static void long_answer(void)
{
    long_answer_in(8192);
    long_answer_in(512);
    long_answer_in(1021);
}

/* One value in pieces of 8 KiB, which never ends. */
static void endless_value(void)
{
    CLEANUP_FREE char *piece = xcalloc(1, 8193);
    struct raw *c = dial(1);
    int status = 0;

    memset(piece, 'v', 8192);
    want_login(c, ISCSI_CONTINUE | 1 << 2, keys_for("vm1", "org.test.long="), LOGIN_SUCCESS);
    for (int i = 0; i < 8; i++)
        if ((status = raw_login(c, ISCSI_CONTINUE | 1 << 2, piece)) != 0)
            break;
    want(status == LOGIN_INITIATOR_ERROR, "login status %04x", (unsigned)status);
    want_closed(c);
}

static void too_many(void)
{
    CLEANUP_FREE char *keys = xcalloc(1, 8100);

    for (unsigned i = 0, at = 0; i < 1800; i++)
        at += (unsigned)snprintf(keys + at, 8100 - at, "%c%c=|", 'A' + i % 26, 'a' + i / 26 % 26);
    refused(keys);
}

static void without_value(void)
{
    refused("Nothing|");
    refused("=|");
    refused("=value|");
    answers("ImmediateData=|", "ImmediateData", "Reject");
    answers("HeaderDigest=|", "HeaderDigest", "Reject");
    answers("org.test.empty=|", "org.test.empty", "NotUnderstood");
    refused("MaxRecvDataSegmentLength=|");
}

static void only_nuls(void)
{
    struct raw *c = with("||||||||", LOGIN_SUCCESS);

    want_quiet(c);
}

static void not_terminated(void)
{
    struct raw *c = with("ImmediateData=No", LOGIN_SUCCESS);

    want_value(c, "ImmediateData", "No");
    want_quiet(c);
}

static void repeated(void)
{
    struct raw *c = dial(1);

    refused("MaxBurstLength=4096|MaxBurstLength=8192|");
    refused("InitialR2T=No|InitialR2T=No|");
    refused(HOSTILE_NAME);
    want_login(c, 1 << 2, keys_for("vm1", "MaxBurstLength=4096|"), LOGIN_SUCCESS);
    want_refused(c, RAW_TO_FULL, "MaxBurstLength=8192|", LOGIN_INITIATOR_ERROR);
}

static void declared_lengths(void)
{
    static const char *const bad[] = {"0",          "511",   "16777216", "-1",   "4294967808",
                                      "0xffffffff", "4096x", " 4096",    "+512", "1e4"};
    static const char *const good[] = {"512", "16777215", "0x1000", "0XFFFFFF"};
    char key[100];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(key, sizeof key, "MaxRecvDataSegmentLength=%s|", bad[i]);
        refused(key);
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct raw *c;

        snprintf(key, sizeof key, "MaxRecvDataSegmentLength=%s|", good[i]);
        c = with(key, LOGIN_SUCCESS);
        want_same(c, 0, 64, (uint8_t)i);
        hang_up(&c);
    }
}

static void out_of_range(void)
{
    answers("MaxBurstLength=100|", "MaxBurstLength", "Reject");
    answers("MaxBurstLength=99999999999999999999|", "MaxBurstLength", "Reject");
    answers("MaxOutstandingR2T=0|", "MaxOutstandingR2T", "Reject");
    answers("MaxConnections=0|", "MaxConnections", "Reject");
    answers("MaxConnections=65535|", "MaxConnections", "1");
    answers("ErrorRecoveryLevel=2|", "ErrorRecoveryLevel", "0");
    answers("ErrorRecoveryLevel=3|", "ErrorRecoveryLevel", "Reject");
    answers("DefaultTime2Wait=3601|", "DefaultTime2Wait", "Reject");
    answers("ImmediateData=Maybe|", "ImmediateData", "Reject");
    answers("ImmediateData=yes|", "ImmediateData", "Reject");
    answers("InitialR2T=Yes,No|", "InitialR2T", "Reject");
    answers("HeaderDigest=MD5|", "HeaderDigest", "Reject");
    answers("HeaderDigest=None,CRC32C|", "HeaderDigest", "None");
}

static void first_burst_above_max(void)
{
    static const char *const orders[] = {"FirstBurstLength=65536|MaxBurstLength=4096|",
                                         "MaxBurstLength=4096|FirstBurstLength=65536|"};

    for (int i = 0; i < 2; i++) {
        struct raw *c = with(orders[i], LOGIN_SUCCESS);

        want_value(c, "MaxBurstLength", "4096");
        want(atoi(raw_value(c, "FirstBurstLength")) <= 4096, "FirstBurstLength=%s of MaxBurstLength=4096",
             raw_value(c, "FirstBurstLength"));
        want_same(c, 0, 64, (uint8_t)i);
        hang_up(&c);
    }
}

static void first_burst_in_pieces(void)
{
    struct raw *c = dial(1);

    want_login(c, 1 << 2, keys_for("vm1", "FirstBurstLength=65536|"), LOGIN_SUCCESS);
    want_login(c, RAW_TO_FULL, "MaxBurstLength=4096|InitialR2T=No|", LOGIN_SUCCESS);
    want_same(c, 0, 64, 9);
}

/* Cut at every byte: the C bit in the first. */
static void split(void)
{
    static const char more[] = "ImmediateData=No|MaxBurstLength=8192|org.test.x=y|";
    CLEANUP_FREE char *all = xstrdup(keys_for("vm1", more)), *head = xstrdup(all);
    size_t n = strlen(all);

    for (size_t cut = 0; cut <= n; cut++) {
        struct raw *c = dial(1);

        memcpy(head, all, n);
        head[cut] = 0;
        want_login(c, ISCSI_CONTINUE | 1 << 2, head, LOGIN_SUCCESS);
        want(!c->len && !(c->bhs[1] & 0xc0), "keys were answered before they were complete");
        want_login(c, RAW_TO_FULL, all + cut, LOGIN_SUCCESS);
        want_value(c, "ImmediateData", "No");
        want_value(c, "MaxBurstLength", "8192");
        want_value(c, "org.test.x", "NotUnderstood");
        hang_up(&c);
    }
}

static void split_small(void)
{
    enum { PIECE = 4 };
    CLEANUP_FREE char *all = xstrdup(keys_for("vm1", "MaxBurstLength=8192|"));
    struct raw *c = dial(1);
    char piece[PIECE + 1] = "";
    size_t at = 0, n = strlen(all);

    for (; n - at > PIECE; at += PIECE) {
        memcpy(piece, all + at, PIECE);
        want_login(c, ISCSI_CONTINUE | 1 << 2, piece, LOGIN_SUCCESS);
    }
    want_login(c, RAW_TO_FULL, all + at, LOGIN_SUCCESS);
    want_value(c, "MaxBurstLength", "8192");
    want_quiet(c);
}

/* libiscsi cannot take digests in a discovery session; who offers a choice gets None. */
static void discovery_digest(void)
{
    struct raw *c = discovery(1, "HeaderDigest=CRC32C,None|DataDigest=CRC32C,None|");

    want_value(c, "HeaderDigest", "None");
    want_value(c, "DataDigest", "None");
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "SendTargets=All|");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
    c = discovery(1, "HeaderDigest=CRC32C|");
    want_value(c, "HeaderDigest", "CRC32C");
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "SendTargets=All|");
    want_pdu(c, ISCSI_TEXT_RESPONSE);
}

static void one_digest(void)
{
    static const char *const offers[] = {"HeaderDigest=CRC32C|DataDigest=None|", "DataDigest=CRC32C|",
                                         "HeaderDigest=Foo,CRC32C,None|DataDigest=Bar,None,CRC32C|"};

    for (int i = 0; i < 3; i++) {
        struct raw *c = with(offers[i], LOGIN_SUCCESS);

        want(c->header_digest == (i != 1) && c->data_digest == (i == 1), "other digests than asked for");
        want_same(c, 0, 700, (uint8_t)i);
        want_quiet(c);
        hang_up(&c);
    }
}

static void not_ours(void)
{
    answers("TargetAlias=x|", "TargetAlias", "Reject");
    answers("IFMarker=Yes|", "IFMarker", "No");
    answers("iSCSIProtocolLevel=2|", "iSCSIProtocolLevel", "1");
}

const struct hostile_case hostile_keys[] = {
    {"unknown_long_key", "key names of 300, 64, 63 bytes", "0200, 0200, NotUnderstood: RFC 7143 6.1",
     names_too_long},
    {"unknown_keys_many", "200 unknown keys", "NotUnderstood for each: RFC 7143 6.2", unknown_keys},
    {"long_answer", "700 unknown keys in pieces of 8,192, 512, 1,021 bytes: an answer of more than 8 KiB",
     "in pieces of that size with C, all of it", long_answer},
    {"value_64k", "a value of 64 KiB in pieces", "0200 when it is past our bound", endless_value},
    {"too_many_keys", "1800 keys: an answer without bound", "0200", too_many},
    {"key_no_value", "no '=', no name, no value", "0200; Reject; NotUnderstood", without_value},
    {"only_nuls", "NULs between the pairs", "skipped: they are padding", only_nuls},
    {"no_nul", "the last pair without its NUL", "taken as if it were there", not_terminated},
    {"repeated_keys", "a key twice, in one PDU and in two", "0200: RFC 7143 6.2", repeated},
    {"mrdsl_zero", "MaxRecvDataSegmentLength 0, 511, 2^24, signs, junk; and hex", "0200; taken: RFC 7143 6.1",
     declared_lengths},
    {"bool_bad", "values that are none, numbers out of range", "Reject, the default stays: RFC 7143 6.2.2",
     out_of_range},
    {"first_gt_max", "FirstBurstLength above MaxBurstLength, in both orders",
     "the answer is not above it: RFC 7143 13.14", first_burst_above_max},
    {"first_gt_max_later", "the same in two requests", "the session works", first_burst_in_pieces},
    {"split_keys", "keys cut at every byte into two PDUs", "answered when complete: RFC 7143 6.1", split},
    {"split_small", "keys in pieces of 4 bytes", "success", split_small},
    {"disc_digest", "a discovery session that offers CRC32C,None; and CRC32C alone",
     "None; CRC32C, and it works", discovery_digest},
    {"one_digest", "a digest for headers or data only", "I/O is right", one_digest},
    {"not_ours", "keys that are not the initiator's, markers", "Reject; No", not_ours},
    {0},
};
