/* links: raw fake_volumes target */
/* Several portals of both families in two groups, how many connections there may be, pings, and what sessions
 * are told when the target stops.
 */
#include "target_fixture.h"

enum { V4, V6, WILD, PORTALS };
static const char *const portals[PORTALS] = {"127.0.0.1:0", "[::1]:0,9", "0.0.0.0:0"};

static int start_portals(void **state)
{
    fix_conf = (struct target_conf){.portals = (const char **)(uintptr_t)portals,
                                    .nportals = PORTALS,
                                    .portal_group = 7,
                                    .max_connections_per_address = 3};
    return fix_start(state);
}

static int start_pings(void **state)
{
    fix_conf = (struct target_conf){.ping_seconds = 1, .ping_timeout_seconds = 1};
    return fix_start(state);
}

static int stop(void **state)
{
    fix_conf = (struct target_conf){0};
    return fix_stop(state);
}

/* A connection to that portal, from 127.0.0.`from` where that is said. */
static struct raw *client_at(int portal, uint8_t from)
{
    struct sockaddr_in in = {.sin_family = AF_INET}, ours = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(portal == V6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0), rc;
    struct raw *c;

    in.sin_port = in6.sin6_port = htons(target_port(fix.target, (unsigned)portal));
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ours.sin_addr.s_addr = htonl(0x7f000000u | from);
    if (from)
        assert_int_equal(bind(fd, (struct sockaddr *)&ours, sizeof ours), 0);
    rc = portal == V6 ? connect(fd, (struct sockaddr *)&in6, sizeof in6)
                      : connect(fd, (struct sockaddr *)&in, sizeof in);
    assert_int_equal(rc, 0);
    c = raw_over(fd, 0);
    c->show_pings = true;
    return c;
}

/* The addresses of vm0, one after the other, each ended by a space. */
static void addresses(struct raw *c, char *out, size_t size)
{
    uint8_t bhs[48] = {ISCSI_TEXT_REQUEST | ISCSI_IMMEDIATE, 0x80};
    char text[100];
    size_t n = 0;

    assert_int_equal(login(c, RAW_TO_FULL, FIX_INITIATOR "|SessionType=Discovery|"), 0);
    put32(bhs + AT_ITT, 9);
    put32(bhs + AT_TTT, ISCSI_TAG_NONE);
    put32(bhs + AT_CMD_SN, c->cmd_sn);
    pdu_send(c, bhs, text, raw_text(text, "SendTargets=iqn.2026-11.test:vm0|"));
    assert_int_equal(pdu_recv(c), ISCSI_TEXT_RESPONSE);
    *out = 0;
    for (char *p = (char *)c->data; p < (char *)c->data + c->len; p += strlen(p) + 1)
        if (!strncmp(p, "TargetAddress=", 14))
            n += (size_t)snprintf(out + n, size - n, "%s ", p + 14);
}

static void every_portal_names_all(void **state)
{
    static const char names[] = FIX_INITIATOR "|TargetName=iqn.2026-11.test:vm0|SessionType=Normal|";
    static const uint8_t groups[12] = {0xa3, 0x0a, [9] = 64}, names_page[6] = {0x12, 1, 0x83, 0, 255};
    uint16_t port[PORTALS];
    char got[400], want[400];
    uint8_t in[4096];

    (void)state;
    for (unsigned i = 0; i < PORTALS; i++)
        port[i] = target_port(fix.target, i);
    for (int i = 0; i < PORTALS; i++) {
        struct raw *c = client_at(i, 0);

        addresses(c, got, sizeof got);
        if (i == V4)
            snprintf(want, sizeof want, "127.0.0.1:%u,7 [::1]:%u,9 127.0.0.1:%u,7 ", port[V4], port[V6],
                     port[WILD]);
        else if (i == V6)
            snprintf(want, sizeof want, "[::1]:%u,9 127.0.0.1:%u,7 ", port[V6], port[V4]);
        else
            snprintf(want, sizeof want, "127.0.0.1:%u,7 127.0.0.1:%u,7 [::1]:%u,9 ", port[WILD], port[V4],
                     port[V6]);
        assert_string_equal(got, want);
        raw_free(&c);
        c = client_at(i, 0);
        assert_int_equal(login(c, RAW_TO_FULL, names), 0);
        assert_string_equal(raw_value(c, "TargetPortalGroupTag"), i == V6 ? "9" : "7");
        command_send(c, F | R, 64, groups, 12, NULL, 0);
        assert_int_equal(answer_recv(c, in).status, 0);
        assert_int_equal(get32(in), 2 * 12);
        for (unsigned g = 0; g < 2; g++) {
            const uint8_t *group = in + 4 + (size_t)12 * g;

            assert_int_equal(group[0], 0); /* active/optimized, not preferred */
            assert_int_equal(get16(group + 2), 7 + 2 * g);
            assert_int_equal(group[7], 1);
            assert_int_equal(get16(group + 10), 7 + 2 * g); /* its port */
        }
        command_send(c, F | R, 255, names_page, 6, NULL, 0);
        assert_int_equal(answer_recv(c, in).status, 0);
        assert_non_null(
            memmem(in, 255, i == V6 ? "iqn.2026-11.test:vm0,t,0x0009" : "iqn.2026-11.test:vm0,t,0x0007", 29));
        raw_free(&c);
    }
}

static void one_address_does_not_get_all(void **state)
{
    struct raw *c[3], *more;

    (void)state;
    for (int i = 0; i < 3; i++) {
        c[i] = client_at(V4, 1);
        login_send(c[i], 0, FIX_INITIATOR "|SessionType=Discovery|"); /* it is there when that is answered */
        assert_int_equal(pdu_recv(c[i]), ISCSI_LOGIN_RESPONSE);
    }
    more = client_at(WILD, 1);
    assert_int_equal(pdu_recv(more), -1);
    raw_free(&more);
    for (int i = 0; i < 2; i++) { /* others have theirs */
        more = client_at(i ? V6 : V4, i ? 0 : 2);
        assert_int_equal(login(more, RAW_TO_FULL, FIX_INITIATOR "|SessionType=Discovery|"), 0);
        raw_free(&more);
    }
    raw_free(&c[0]); /* and so has it when one of its own is gone */
    for (int i = 0; i < 1000; i++) {
        int rc;

        more = client_at(V4, 1);
        login_send(more, 0, FIX_INITIATOR "|SessionType=Discovery|");
        rc = pdu_recv(more);
        raw_free(&more);
        if (rc == ISCSI_LOGIN_RESPONSE)
            break;
        assert_true(i < 999);
        usleep(1000);
    }
    raw_free(&c[1]);
    raw_free(&c[2]);
}

/* Who has answered a ping once must go on; who never did is left alone. */
static void silence(void **state)
{
    struct raw *knows = session_new(0, 1, ""), *ignores = session_new(0, 2, "");
    uint8_t bhs[48] = {ISCSI_NOP_OUT | ISCSI_IMMEDIATE, 0x80};

    (void)state;
    assert_int_equal(pdu_recv(knows), ISCSI_NOP_IN);
    put32(bhs + AT_ITT, ISCSI_TAG_NONE);
    put32(bhs + AT_TTT, get32(knows->bhs + AT_TTT));
    put32(bhs + AT_CMD_SN, knows->cmd_sn);
    pdu_send(knows, bhs, NULL, 0);
    assert_int_equal(pdu_recv(knows), ISCSI_NOP_IN); /* the next one */
    assert_int_equal(pdu_recv(knows), -1);
    assert_int_equal(pdu_recv(ignores), ISCSI_NOP_IN);
    command_send(ignores, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    assert_int_equal(answer_recv(ignores, NULL).status, 0);
    raw_free(&knows);
    raw_free(&ignores);
}

/* First it is asked to log out, then it is told that it is over. */
static void told_when_it_stops(void **state)
{
    static struct task stopping = {.run = fix_stop_run};
    struct raw *stays = session_new(0, 1, ""), *goes = session_new(1, 1, "");
    uint8_t bhs[48] = {ISCSI_LOGOUT_REQUEST | ISCSI_IMMEDIATE, 0x80};

    (void)state;
    loop_post(fix.main, &stopping);
    assert_int_equal(pdu_recv(stays), ISCSI_ASYNC_MESSAGE);
    assert_int_equal(stays->bhs[AT_ASYNC_EVENT], ASYNC_LOGOUT_REQUEST);
    assert_int_equal(pdu_recv(goes), ISCSI_ASYNC_MESSAGE);
    put32(bhs + AT_ITT, 9);
    put32(bhs + AT_CMD_SN, goes->cmd_sn);
    pdu_send(goes, bhs, NULL, 0);
    assert_int_equal(pdu_recv(goes), ISCSI_LOGOUT_RESPONSE);
    assert_int_equal(pdu_recv(goes), -1);
    assert_int_equal(pdu_recv(stays), ISCSI_ASYNC_MESSAGE);
    assert_int_equal(stays->bhs[AT_ASYNC_EVENT], ASYNC_DROP_SESSION);
    assert_int_equal(pdu_recv(stays), -1);
    fix_wait(&fix.quiet, 1);
    raw_free(&stays);
    raw_free(&goes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_portal_names_all, start_portals, stop),
        cmocka_unit_test_setup_teardown(one_address_does_not_get_all, start_portals, stop),
        cmocka_unit_test_setup_teardown(silence, start_pings, stop),
        cmocka_unit_test_setup_teardown(told_when_it_stops, fix_start, fix_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
