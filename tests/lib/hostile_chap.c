/* tests/lib/hostile_chap.c - CHAP left out, out of turn, too large, reflected, replayed, guessed. vm2 wants
 * alice's secret; vm3 proves itself, too.
 */
#include "hostile.h"

#include "chap.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHALLENGES = 256 };

struct asked {
    unsigned algorithm, id;
    uint8_t challenge[CHAP_CHALLENGE_MAX];
    int len;
};

static void take_challenge(const struct raw *c, struct asked *a)
{
    a->algorithm = (unsigned)atoi(raw_value(c, "CHAP_A"));
    a->id = (unsigned)atoi(raw_value(c, "CHAP_I"));
    a->len = chap_decode(raw_value(c, "CHAP_C"), a->challenge, sizeof a->challenge);
    want(a->len >= 16 && a->id < 256, "a challenge of %d bytes", a->len);
}

/* A login as far as the challenge. */
static struct asked challenged(struct raw *c, const char *vm, const char *algorithms)
{
    struct asked a;
    char text[200];

    want_login(c, 0, keys_for(vm, "AuthMethod=CHAP,None|"), LOGIN_SUCCESS);
    want_value(c, "AuthMethod", "CHAP");
    snprintf(text, sizeof text, "CHAP_A=%s|", algorithms);
    want_login(c, 0, text, LOGIN_SUCCESS);
    take_challenge(c, &a);
    return a;
}

static void respond(const struct asked *a, const char *secret, char *hex)
{
    uint8_t digest[CHAP_DIGEST_MAX];
    size_t n = chap_compute(a->algorithm, (uint8_t)a->id, secret, a->challenge, (size_t)a->len, digest);

    want(n, "algorithm %u", a->algorithm);
    chap_encode(digest, n, hex);
}

static void answer(struct raw *c, const struct asked *a, const char *user, const char *secret, int status)
{
    char hex[100], text[300];

    respond(a, secret, hex);
    snprintf(text, sizeof text, "CHAP_N=%s|CHAP_R=%s|", user, hex);
    want_login(c, RAW_SECURITY_TO_FULL, text, status);
    if (status)
        want_closed(c);
    else
        want_quiet(c);
}

static void left_out(void)
{
    struct raw *c = dial(1);

    want_refused(c, RAW_TO_FULL, keys_for("vm2", ""), LOGIN_AUTHENTICATION_FAILURE);
    want_refused(dial(1), RAW_SECURITY_TO_FULL, keys_for("vm2", ""), LOGIN_AUTHENTICATION_FAILURE);
    want_refused(dial(1), RAW_SECURITY_TO_FULL, keys_for("vm2", "AuthMethod=None|"),
                 LOGIN_AUTHENTICATION_FAILURE);
    want_refused(dial(1), RAW_SECURITY_TO_FULL, keys_for("vm2", "AuthMethod=SRP,KRB5|"),
                 LOGIN_AUTHENTICATION_FAILURE);
    want_refused(dial(1), RAW_SECURITY_TO_FULL, keys_for("vm2", "AuthMethod=CHAPPY|"),
                 LOGIN_AUTHENTICATION_FAILURE);
    c = dial(1); /* chosen, and then left */
    want_login(c, 0, keys_for("vm2", "AuthMethod=CHAP|"), LOGIN_SUCCESS);
    if (!raw_login(c, RAW_SECURITY_TO_FULL, ""))
        want(!(c->bhs[1] & ISCSI_LOGIN_TRANSIT), "in without an answer to the challenge");
    c = dial(1);
    challenged(c, "vm2", "5");
    if (!raw_login(c, RAW_SECURITY_TO_FULL, ""))
        want(!(c->bhs[1] & ISCSI_LOGIN_TRANSIT), "in without an answer to the challenge");
    c = dial(1);
    want_login(c, 0, keys_for("vm2", "AuthMethod=CHAP|"), LOGIN_SUCCESS);
    want_refused(c, RAW_TO_FULL, "", LOGIN_INITIATOR_ERROR);
}

static void algorithms(void)
{
    static const struct {
        const char *list;
        unsigned chosen;
    } lists[] = {{"5", 5},    {"6,5", 6},     {"7,6,5", 7},        {"8,7,6,5", 8}, {"5,8,7,6", 5},
                 {"99,6", 6}, {"0,1,2,7", 7}, {"4294967301,6", 6}, {"55,7", 7}};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct raw *c = dial(1);
        struct asked a = challenged(c, "vm2", lists[i].list);

        want(a.algorithm == lists[i].chosen, "CHAP_A=%u of %s", a.algorithm, lists[i].list);
        answer(c, &a, "alice", HOSTILE_SECRET, LOGIN_SUCCESS);
        hang_up(&c);
    }
}

static void no_algorithm(void)
{
    static const char *const lists[] = {"99", "", "x", ",", "5x", "CRC32C"};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct raw *c = dial(1);
        char text[100];

        want_login(c, 0, keys_for("vm2", "AuthMethod=CHAP|"), LOGIN_SUCCESS);
        snprintf(text, sizeof text, "CHAP_A=%s|", lists[i]);
        want_refused(c, 0, text, LOGIN_AUTHENTICATION_FAILURE);
    }
}

static void wrong_answers(void)
{
    static const char *const texts[] = {
        "CHAP_N=alice|CHAP_R=0x00|",
        "CHAP_N=alice|CHAP_R=|",
        "CHAP_N=alice|CHAP_R=0x|",
        "CHAP_N=alice|CHAP_R=0xzz|",
        "CHAP_N=alice|CHAP_R=0b!!!!|",
        "CHAP_N=alice|CHAP_R=12345|",
        "CHAP_N=|CHAP_R=0x00112233445566778899aabbccddeeff|",
        "CHAP_N=alice|",
        "CHAP_R=0x00112233445566778899aabbccddeeff|",
        "CHAP_I=1|CHAP_C=0x00112233445566778899aabbccddeeff|",
    };
    struct raw *c;
    struct asked a;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        c = dial(1);
        challenged(c, "vm2", "5");
        want_refused(c, RAW_SECURITY_TO_FULL, texts[i], LOGIN_AUTHENTICATION_FAILURE);
        hang_up(&c);
    }
    c = dial(1);
    a = challenged(c, "vm2", "5");
    answer(c, &a, "mallory", HOSTILE_SECRET, LOGIN_AUTHENTICATION_FAILURE);
    c = dial(1);
    a = challenged(c, "vm2", "5");
    answer(c, &a, "alice", "wrong-horse-battery", LOGIN_AUTHENTICATION_FAILURE);
}

static void long_answers(void)
{
    CLEANUP_FREE char *text = xcalloc(1, 8000);

    for (int digits = 1000; digits <= 7000; digits += 3000) {
        struct raw *c = dial(1);
        int n = sprintf(text, "CHAP_N=alice|CHAP_R=0x");

        challenged(c, "vm2", "5");
        memset(text + n, 'a', (size_t)digits);
        strcpy(text + n + digits, "|");
        want_refused(c, RAW_SECURITY_TO_FULL, text, LOGIN_AUTHENTICATION_FAILURE);
        hang_up(&c);
    }
}

static void out_of_turn(void)
{
    want_refused(dial(1), 0, keys_for("vm2", "CHAP_A=5|"), LOGIN_AUTHENTICATION_FAILURE);
    want_refused(dial(1), 0, keys_for("vm2", "AuthMethod=CHAP|CHAP_N=alice|CHAP_R=0x00|"),
                 LOGIN_AUTHENTICATION_FAILURE);
    want_refused(dial(1), RAW_TO_FULL, keys_for("vm1", "CHAP_N=alice|CHAP_R=0x00|"), LOGIN_INITIATOR_ERROR);
}

/* Requests without waiting for what is said to the one before, as far as that can be: the method and the
 * algorithm; then the answer, and a ping behind it. */
static void pipelined(void)
{
    struct raw *c = dial(1);
    struct asked a = {0};
    char text[1000], hex[100];
    uint8_t out[4000];
    struct raw_pdu p;
    size_t n;

    raw_login_header(c, &p, 0);
    p.data = text;
    p.len = raw_text(text, keys_for("vm2", "AuthMethod=CHAP|"));
    n = raw_put(c, &p, out);
    raw_login_header(c, &p, 0);
    p.data = text;
    p.len = raw_text(text, "CHAP_A=8,7,6,5|");
    n += raw_put(c, &p, out + n);
    raw_write(c, out, n);
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    want_value(c, "AuthMethod", "CHAP");
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    take_challenge(c, &a);
    respond(&a, HOSTILE_SECRET, hex);
    snprintf(text, sizeof text, "CHAP_N=alice|CHAP_R=%s|", hex);
    raw_login_header(c, &p, RAW_SECURITY_TO_FULL);
    p.data = text;
    p.len = raw_text(text, text);
    n = raw_put(c, &p, out);
    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    n += raw_put(c, &p, out + n);
    raw_write(c, out, n);
    want_pdu(c, ISCSI_LOGIN_RESPONSE);
    want((c->bhs[1] & 0x83) == 0x83, "no full feature phase");
    want_pdu(c, ISCSI_NOP_IN);
}

/* The answer to one challenge, for the next. */
static void replayed(void)
{
    struct raw *c = dial(1);
    struct asked first = challenged(c, "vm2", "5"), second;
    char hex[100], text[300];

    respond(&first, HOSTILE_SECRET, hex);
    snprintf(text, sizeof text, "CHAP_N=alice|CHAP_R=%s|", hex);
    c = dial(1);
    second = challenged(c, "vm2", "5");
    want(memcmp(first.challenge, second.challenge, (size_t)first.len) != 0, "the same challenge twice");
    want_refused(c, RAW_SECURITY_TO_FULL, text, LOGIN_AUTHENTICATION_FAILURE);
}

/* Each bit of a challenge is set in half of them, within 6 standard deviations; none comes twice. */
static void guessed(void)
{
    static struct asked seen[CHALLENGES];
    unsigned ids[256] = {0}, most = 0;

    for (int i = 0; i < CHALLENGES; i++) {
        struct raw *c = dial(1);

        seen[i] = challenged(c, "vm2", "7,5");
        for (int j = 0; j < i; j++)
            want(memcmp(seen[i].challenge, seen[j].challenge, 16) != 0, "a challenge came twice");
        if (++ids[seen[i].id] > most)
            most = ids[seen[i].id];
        hang_up(&c);
    }
    for (int bit = 0; bit < seen[0].len * 8; bit++) {
        int set = 0;

        for (int i = 0; i < CHALLENGES; i++)
            set += seen[i].challenge[bit / 8] >> bit % 8 & 1;
        want(set > CHALLENGES / 2 - 48 && set < CHALLENGES / 2 + 48, "bit %d is set in %d of %d", bit, set,
             CHALLENGES);
    }
    want(most < 12, "a CHAP_I came %u times", most);
}

/* --- the target's turn to prove itself: vm3 --- */

static void mutual_with(const char *more, int status)
{
    struct raw *c = dial(1);
    struct asked a = challenged(c, "vm3", "7,5");
    char hex[100], text[6000];

    respond(&a, HOSTILE_SECRET, hex);
    snprintf(text, sizeof text, "CHAP_N=alice|CHAP_R=%s|%s", hex, more);
    want_login(c, RAW_SECURITY_TO_FULL, text, status);
    if (status)
        want_closed(c);
    hang_up(&c);
}

/* Both ways by each algorithm, given alone and among others. */
static void mutual(void)
{
    static const char *const lists[] = {"5", "6", "7", "8", "8,7,6,5", "7,5", "99,6"};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct raw *c = dial(1);
        struct asked a = challenged(c, "vm3", lists[i]),
                     mine = {.algorithm = a.algorithm, .id = 200, .len = 20};
        char hex[100], text[300], reply[100];

        memset(mine.challenge, 0x5a, 20);
        respond(&a, HOSTILE_SECRET, hex);
        respond(&mine, HOSTILE_MUTUAL, reply);
        snprintf(text, sizeof text,
                 "CHAP_N=alice|CHAP_R=%s|CHAP_I=200|CHAP_C=0x5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a|", hex);
        want_login(c, RAW_SECURITY_TO_FULL, text, LOGIN_SUCCESS);
        want_value(c, "CHAP_N", "target");
        want_value(c, "CHAP_R", reply);
        want_quiet(c);
        hang_up(&c);
    }
}

static void mutual_broken(void)
{
    static const char *const texts[] = {
        "CHAP_I=256|CHAP_C=0x00112233445566778899aabbccddeeff|",
        "CHAP_I=-1|CHAP_C=0x00112233445566778899aabbccddeeff|",
        "CHAP_I=4294967297|CHAP_C=0x00112233445566778899aabbccddeeff|",
        "CHAP_I=|CHAP_C=0x00112233445566778899aabbccddeeff|",
        "CHAP_I=1|",
        "CHAP_C=0x00112233445566778899aabbccddeeff|",
        "CHAP_I=1|CHAP_C=|",
        "CHAP_I=1|CHAP_C=0x|",
        "CHAP_I=1|CHAP_C=plain|",
    };
    char long_challenge[2100 + 40];
    int n;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        mutual_with(texts[i], LOGIN_AUTHENTICATION_FAILURE);
    n = sprintf(long_challenge, "CHAP_I=1|CHAP_C=0x");
    memset(long_challenge + n, '1', 2050); /* 1025 bytes */
    strcpy(long_challenge + n + 2050, "|");
    mutual_with(long_challenge, LOGIN_AUTHENTICATION_FAILURE);
}

static void reflected(void)
{
    struct raw *c = dial(1);
    struct asked a = challenged(c, "vm3", "7,5");
    char hex[100], theirs[100], text[300];

    chap_encode(a.challenge, (size_t)a.len, theirs);
    respond(&a, HOSTILE_SECRET, hex);
    snprintf(text, sizeof text, "CHAP_N=alice|CHAP_R=%s|CHAP_I=%u|CHAP_C=%s|", hex, a.id, theirs);
    want_refused(c, RAW_SECURITY_TO_FULL, text, LOGIN_AUTHENTICATION_FAILURE);
}

const struct hostile_case hostile_chap[] = {
    {"chap_left_out", "CHAP not offered, or not gone through with", "0201, or no transit: RFC 7143 12.1",
     left_out},
    {"chap_order", "CHAP_A with the algorithms in other orders, and unknown ones", "the first that is known",
     algorithms},
    {"chap_no_algorithm", "no known algorithm, junk", "0201: RFC 7143 12.1.3", no_algorithm},
    {"chap_wrong", "wrong names and responses, one without the other", "0201", wrong_answers},
    {"chap_long", "responses of 500 to 3500 bytes", "0201", long_answers},
    {"chap_out_of_turn", "CHAP keys before their time", "0201; 0200 past the security stage", out_of_turn},
    {"chap_ahead", "method and algorithm in one segment, then the answer and a ping",
     "an answer to each, in order", pipelined},
    {"chap_replay", "the response of another login", "0201: challenges differ", replayed},
    {"chap_predictable", "256 challenges", "all differ, and so do their bits (CVE-2024-45751)", guessed},
    {"chap_mutual", "the initiator's own challenge, by each algorithm", "the target's name and response",
     mutual},
    {"chap_i_256", "CHAP_I and CHAP_C out of range, empty, 1025 bytes", "0201: RFC 7143 12.1.3",
     mutual_broken},
    {"chap_reflection", "our own challenge sent back", "0201: RFC 7143 9.2.1", reflected},
    {0},
};
