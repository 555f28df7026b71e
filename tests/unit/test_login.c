/* links: raw fake_volumes target */
/* Logins over a socket: stages, pieces, CHAP, what is refused and how, reinstatement, discovery, and that
 * nothing of it leaves anything behind (fix_stop counts references).
 */
#include "target_fixture.h"

#include "chap.h"

static const char vm1[] = FIX_INITIATOR "|TargetName=iqn.2026-11.test:vm1|SessionType=Normal|";

static void straight_to_full_feature(void **state)
{
    struct raw *c = client_new(1);

    (void)state;
    assert_int_equal(login(c, RAW_TO_FULL, vm1), 0);
    assert_int_equal(c->bhs[1], RAW_TO_FULL);
    assert_int_not_equal(get16(c->bhs + AT_TSIH), 0);
    assert_string_equal(raw_value(c, "TargetPortalGroupTag"), "1");
    assert_string_equal(raw_value(c, "MaxRecvDataSegmentLength"), "262144");
    raw_free(&c);
}

static void through_every_stage(void **state)
{
    struct raw *c = client_new(1);

    (void)state;
    assert_int_equal(login(c, 0, vm1), 0);
    assert_int_equal(c->bhs[1], 0);
    assert_int_equal(login(c, RAW_SECURITY_TO_OPERATIONAL, "AuthMethod=CHAP,None|"), 0);
    assert_string_equal(raw_value(c, "AuthMethod"), "None");
    assert_int_equal(c->bhs[1], RAW_SECURITY_TO_OPERATIONAL);
    assert_int_equal(login(c, 1 << 2, "HeaderDigest=None|"), 0);
    assert_int_equal(c->bhs[1], 1 << 2);
    assert_int_equal(login(c, RAW_TO_FULL, ""), 0);
    assert_int_equal(c->bhs[1], RAW_TO_FULL);
    raw_free(&c);
}

/* Pieces in one segment of TCP, so that answers are still queued when the connection moves to its VM's loop.
 */
static void keys_in_pieces_all_at_once(void **state)
{
    (void)state;
    for (uint8_t round = 0; round < 20; round++) {
        struct raw *c = client_new(round);
        uint8_t out[4096], bhs[48];
        char text[sizeof vm1];
        uint32_t n = raw_text(text, vm1), pieces = 0;
        size_t len = 0;

        for (uint32_t at = 0; at < n; at += 20, pieces++) {
            uint32_t piece = n - at < 20 ? n - at : 20;

            login_header(c, bhs, at + piece < n ? ISCSI_CONTINUE | 1 << 2 : RAW_TO_FULL);
            len += pdu_put(c, out + len, bhs, text + at, piece);
        }
        client_write(c, out, len);
        for (uint32_t i = 0; i < pieces; i++) {
            assert_int_equal(pdu_recv(c), ISCSI_LOGIN_RESPONSE);
            assert_int_equal(get16(c->bhs + AT_LOGIN_STATUS), 0);
            assert_int_equal(c->bhs[1], i + 1 < pieces ? 1 << 2 : RAW_TO_FULL);
        }
        raw_free(&c);
    }
}

static void a_byte_at_a_time(void **state)
{
    struct raw *c = client_new(1);
    uint8_t out[1024], bhs[48];
    char text[sizeof vm1];
    size_t len;

    (void)state;
    login_header(c, bhs, RAW_TO_FULL);
    len = pdu_put(c, out, bhs, text, raw_text(text, vm1));
    for (size_t i = 0; i < len; i++)
        client_write(c, out + i, 1);
    assert_int_equal(pdu_recv(c), ISCSI_LOGIN_RESPONSE);
    assert_int_equal(get16(c->bhs + AT_LOGIN_STATUS), 0);
    raw_free(&c);
}

static void refused(void **state)
{
    static const struct {
        uint8_t flags, version_min;
        int status;
        const char *text;
    } cases[] = {
        {RAW_TO_FULL, 0, 0x0207, "TargetName=iqn.2026-11.test:vm1|"},
        {RAW_TO_FULL, 0, 0x0207, FIX_INITIATOR "|"},
        {RAW_TO_FULL, 0, 0x0203, FIX_INITIATOR "|TargetName=iqn.2026-11.test:nobody|"},
        {RAW_TO_FULL, 0, 0x0209, FIX_INITIATOR "|SessionType=Strange|"},
        {RAW_TO_FULL, 5, 0x0205, FIX_INITIATOR "|"},
        {0x80 | 3 << 2 | 1, 0, 0x0200, FIX_INITIATOR "|"},
        {0x80 | 1 << 2 | 1, 0, 0x0200, FIX_INITIATOR "|"},
        {0x80 | 1 << 2 | 2, 0, 0x0200, FIX_INITIATOR "|"},
        {0xc0 | 1 << 2 | 3, 0, 0x0200, FIX_INITIATOR "|"},
        {RAW_TO_FULL, 0, 0x0200, "no pair"},
        {RAW_TO_FULL, 0, 0x0200,
         FIX_INITIATOR "|TargetName=iqn.2026-11.test:vm1|MaxRecvDataSegmentLength=0|"},
        {RAW_TO_FULL, 0, 0x0200,
         FIX_INITIATOR "|TargetName=iqn.2026-11.test:vm1|ErrorRecoveryLevel=0|ErrorRecoveryLevel=0|"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct raw *c = client_new(1);
        uint8_t bhs[48];
        char text[300];

        login_header(c, bhs, cases[i].flags);
        bhs[3] = cases[i].version_min;
        pdu_send(c, bhs, text, raw_text(text, cases[i].text));
        assert_int_equal(pdu_recv(c), ISCSI_LOGIN_RESPONSE);
        assert_int_equal(get16(c->bhs + AT_LOGIN_STATUS), cases[i].status);
        assert_int_equal(pdu_recv(c), -1);
        raw_free(&c);
    }
}

static void a_session_handle_of_nobody(void **state)
{
    struct raw *c = client_new(1);
    uint8_t bhs[48];
    char text[sizeof vm1];

    (void)state;
    login_header(c, bhs, RAW_TO_FULL);
    put16(bhs + AT_TSIH, 4711);
    pdu_send(c, bhs, text, raw_text(text, vm1));
    assert_int_equal(pdu_recv(c), ISCSI_LOGIN_RESPONSE);
    assert_int_equal(get16(c->bhs + AT_LOGIN_STATUS), 0x020a);
    raw_free(&c);
}

/* Every opcode as the first PDU; segments and headers longer than any login's. */
static void no_login_at_all(void **state)
{
    (void)state;
    for (unsigned opcode = 0; opcode < 0x80; opcode++) {
        struct raw *c = client_new(1);
        uint8_t bhs[48] = {(uint8_t)opcode, 0x80};

        if ((opcode & 0x3f) != ISCSI_LOGIN_REQUEST) {
            pdu_send(c, bhs, "x", opcode % 2);
            while (pdu_recv(c) >= 0)
                ;
        }
        raw_free(&c);
    }
    for (int i = 0; i < 2; i++) {
        struct raw *c = client_new(1);
        uint8_t bhs[48];

        login_header(c, bhs, RAW_TO_FULL);
        if (i)
            bhs[AT_TOTAL_AHS_LENGTH] = 255; /* never sent: the login timer ends it */
        else
            put24(bhs + AT_DATA_SEGMENT_LENGTH, 0xffffff);
        client_write(c, bhs, 48);
        assert_int_equal(pdu_recv(c), -1);
        raw_free(&c);
    }
}

static void more_text_than_a_login_may_have(void **state)
{
    struct raw *c = client_new(1);
    char text[4096];
    int status = 0;

    (void)state;
    memset(text, 'a', sizeof text);
    memcpy(text, "X-a=", 4);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < 40 && !status; i++)
        status = login(c, ISCSI_CONTINUE | 1 << 2, text);
    assert_int_equal(status, 0x0200);
    raw_free(&c);
}

/* CHAP: the answer to a challenge, as an initiator computes it. */
static int chap_login(struct raw *c, const char *names, const char *list, const char *user,
                      const char *secret, const char *more)
{
    uint8_t challenge[CHAP_CHALLENGE_MAX], digest[CHAP_DIGEST_MAX];
    char hex[2 * CHAP_DIGEST_MAX + 3], text[4000];
    unsigned algorithm;
    int n, status;

    snprintf(text, sizeof text, "%sAuthMethod=CHAP,None|", names);
    status = login(c, RAW_SECURITY_TO_OPERATIONAL, text);
    if (status)
        return status;
    assert_string_equal(raw_value(c, "AuthMethod"), "CHAP");
    assert_int_equal(c->bhs[1] & 0x80, 0);
    snprintf(text, sizeof text, "CHAP_A=%s|", list);
    status = login(c, 0, text);
    if (status)
        return status;
    algorithm = (unsigned)atoi(raw_value(c, "CHAP_A"));
    n = chap_decode(raw_value(c, "CHAP_C"), challenge, sizeof challenge);
    assert_true(n >= 16);
    chap_encode(
        digest,
        chap_compute(algorithm, (uint8_t)atoi(raw_value(c, "CHAP_I")), secret, challenge, (size_t)n, digest),
        hex);
    snprintf(text, sizeof text, "CHAP_N=%s|CHAP_R=%s|%s", user, hex, more);
    if (!strcmp(more, "reflect"))
        snprintf(text, sizeof text, "CHAP_N=%s|CHAP_R=%s|CHAP_I=1|CHAP_C=%s|", user, hex,
                 raw_value(c, "CHAP_C"));
    return login(c, RAW_SECURITY_TO_FULL, text);
}

static void chap(void **state)
{
    struct vm_spec *spec = &fix.vms[1].spec;
    uint8_t digest[CHAP_DIGEST_MAX];
    char hex[2 * CHAP_DIGEST_MAX + 3];
    static const char *const lists[] = {"5", "6,5", "7", "8,7,6,5"};
    static const uint8_t theirs[4] = {9, 8, 7, 6};
    char with_method[400], replayed[400];
    struct raw *c;

    (void)state;
    strcpy(spec->chap_user, "guest");
    strcpy(spec->chap_secret, "guest's secret");
    strcpy(spec->mutual_user, "target");
    strcpy(spec->mutual_secret, "target's secret");
    snprintf(with_method, sizeof with_method, "%sAuthMethod=CHAP|", vm1);
    for (size_t i = 0; i < 4; i++) {
        c = client_new(1);
        assert_int_equal(chap_login(c, vm1, lists[i], "guest", "guest's secret", ""), 0);
        assert_int_equal(c->bhs[1], RAW_SECURITY_TO_FULL);
        raw_free(&c);
    }
    c = client_new(1); /* both ways */
    assert_int_equal(chap_login(c, vm1, "5", "guest", "guest's secret", "CHAP_I=3|CHAP_C=0x09080706|"), 0);
    chap_encode(digest, chap_compute(5, 3, "target's secret", theirs, 4, digest), hex);
    assert_string_equal(raw_value(c, "CHAP_N"), "target");
    assert_string_equal(raw_value(c, "CHAP_R"), hex);
    raw_free(&c);
    c = client_new(1);
    assert_int_equal(chap_login(c, vm1, "5", "guest", "another secret", ""), 0x0201);
    raw_free(&c);
    c = client_new(1);
    assert_int_equal(chap_login(c, vm1, "5", "nobody", "guest's secret", ""), 0x0201);
    raw_free(&c);
    c = client_new(1);
    assert_int_equal(chap_login(c, vm1, "4", "guest", "guest's secret", ""), 0x0201);
    raw_free(&c);
    c = client_new(1);
    assert_int_equal(chap_login(c, vm1, "5", "guest", "guest's secret", "reflect"), 0x0201);
    raw_free(&c);
    c = client_new(1); /* an answer that was right for another challenge */
    assert_int_equal(login(c, RAW_SECURITY_TO_OPERATIONAL, with_method), 0);
    assert_int_equal(login(c, 0, "CHAP_A=5|"), 0);
    chap_encode(digest, chap_compute(5, 7, "guest's secret", theirs, 4, digest), hex);
    snprintf(replayed, sizeof replayed, "CHAP_N=guest|CHAP_R=%s|", hex);
    assert_int_equal(login(c, RAW_SECURITY_TO_FULL, replayed), 0x0201);
    raw_free(&c);
    c = client_new(1); /* left out */
    assert_int_equal(login(c, RAW_TO_FULL, vm1), 0x0201);
    raw_free(&c);
    c = client_new(1);
    assert_int_equal(login(c, RAW_SECURITY_TO_FULL, vm1), 0x0201);
    raw_free(&c);
    spec->chap_user[0] = 0;
}

static void the_same_port_logs_in_again(void **state)
{
    struct raw *a = session_new(1, 5, ""), *other = session_new(1, 6, ""), *b;

    (void)state;
    atomic_store(&fix.volumes[1].stalled, true); /* with commands in the volume */
    for (uint32_t i = 0; i < 50; i++)
        command_send(a, F | R, 4096, raw_cdb10(0x28, i * 8, 8), 10, NULL, 0);
    fix_wait(&fix.volumes[1].nparked, 50);
    b = session_new(1, 5, "");
    assert_int_equal(pdu_recv(a), -1);
    fix_unstall(1);
    fix_wait(&fix.volumes[1].held, 0);
    for (int i = 0; i < 2; i++) {
        command_send(i ? other : b, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
        assert_int_equal(answer_recv(i ? other : b, NULL).status, 0);
    }
    raw_free(&a);
    raw_free(&b);
    raw_free(&other);
}

static const char discoverer[] = FIX_INITIATOR "|SessionType=Discovery|";

static int start_small(void **state)
{
    fix_conf.max_connections = 20;
    return fix_start(state);
}

static int stop_with_defaults(void **state)
{
    fix_conf = (struct target_conf){0};
    return fix_stop(state);
}

/* Connections that are closed, but whose writes are still in the volume: more of them than may be open, and
 * more than a VM may have sessions. */
static void who_is_gone_keeps_nobody_out(void **state)
{
    enum { GONE = 75 };
    static const uint8_t zeros[512];
    struct raw *c;

    (void)state;
    atomic_store(&fix.volumes[1].stalled, true);
    for (unsigned i = 0; i < GONE; i++) {
        c = session_new(1, (uint8_t)i, "");
        command_send(c, F | W, 512, raw_cdb10(0x2a, i, 1), 10, zeros, 512);
        fix_wait(&fix.volumes[1].nparked, i + 1);
        raw_free(&c);
    }
    c = session_new(1, 200, "");
    fix_unstall(1);
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    raw_free(&c);
}

static int start_with_discovery_chap(void **state)
{
    fix_conf = (struct target_conf){.discovery_user = "finder",
                                    .discovery_secret = "finder's secret",
                                    .discovery_mutual_user = "edge",
                                    .discovery_mutual_secret = "the edge's secret"};
    return fix_start(state);
}

static void discovery_with_chap(void **state)
{
    struct raw *c = client_new(1);
    static const uint8_t theirs[4] = {9, 8, 7, 6};
    uint8_t digest[CHAP_DIGEST_MAX];
    char hex[2 * CHAP_DIGEST_MAX + 3];

    (void)state;
    assert_int_equal(login(c, RAW_TO_FULL, discoverer), 0x0201);
    raw_free(&c);
    c = client_new(1);
    assert_int_equal(chap_login(c, discoverer, "7", "finder", "another secret", ""), 0x0201);
    raw_free(&c);
    c = client_new(1);
    assert_int_equal(
        chap_login(c, discoverer, "8,7", "finder", "finder's secret", "CHAP_I=3|CHAP_C=0x09080706|"), 0);
    assert_int_equal(c->bhs[1], RAW_SECURITY_TO_FULL);
    chap_encode(digest, chap_compute(8, 3, "the edge's secret", theirs, 4, digest), hex);
    assert_string_equal(raw_value(c, "CHAP_N"), "edge");
    assert_string_equal(raw_value(c, "CHAP_R"), hex);
    raw_free(&c);
    c = session_new(1, 1, ""); /* a VM's login does not ask for it */
    raw_free(&c);
}

static void discovery(void **state)
{
    struct raw *c = client_new(1);
    uint8_t bhs[48] = {ISCSI_TEXT_REQUEST | ISCSI_IMMEDIATE, 0x80};
    char text[300];

    (void)state;
    assert_int_equal(login(c, RAW_TO_FULL, discoverer), 0);
    put32(bhs + AT_ITT, 9);
    put32(bhs + AT_TTT, ISCSI_TAG_NONE);
    pdu_send(c, bhs, text, raw_text(text, "SendTargets=All|"));
    assert_int_equal(pdu_recv(c), ISCSI_TEXT_RESPONSE);
    snprintf(text, sizeof text, "127.0.0.1:%u,1", fix.port);
    assert_string_equal(raw_value(c, "TargetAddress"), text);
    assert_string_equal(raw_value(c, "TargetName"), "iqn.2026-11.test:vm0");
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0); /* no place for SCSI */
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    assert_int_equal(c->bhs[2], REJECT_PROTOCOL_ERROR);
    raw_free(&c);
}

static void nobody_waits_for_those_who_say_nothing(void **state)
{
    struct raw *idle[100], *c;

    (void)state;
    for (int i = 0; i < 100; i++)
        idle[i] = client_new(1);
    for (uint8_t i = 0; i < 50; i++) {
        c = session_new(i % 2, i, "");
        raw_free(&c);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(pdu_recv(idle[i]), -1); /* closed by the login timer */
        raw_free(&idle[i]);
    }
}

static unsigned listed;

static void count_session(void *arg, const struct target_session *s)
{
    (void)arg;
    if (s->portal_group == 1 && s->vm && !strcmp(s->vm, "vm1") &&
        !strcmp(s->initiator, "iqn.2026-11.test:initiator"))
        listed++;
}

static void status_lists_sessions(void **state)
{
    struct raw *c = session_new(1, 1, "");

    (void)state;
    listed = 0;
    target_each_session(fix.target, count_session, NULL);
    assert_int_equal(listed, 1);
    raw_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(straight_to_full_feature, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(through_every_stage, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(keys_in_pieces_all_at_once, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(a_byte_at_a_time, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(refused, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(a_session_handle_of_nobody, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(no_login_at_all, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(more_text_than_a_login_may_have, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(chap, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(the_same_port_logs_in_again, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(who_is_gone_keeps_nobody_out, start_small, stop_with_defaults),
        cmocka_unit_test_setup_teardown(discovery, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(discovery_with_chap, start_with_discovery_chap, stop_with_defaults),
        cmocka_unit_test_setup_teardown(nobody_waits_for_those_who_say_nothing, fix_start, fix_stop),
        cmocka_unit_test_setup_teardown(status_lists_sessions, fix_start, fix_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
