/* links: raw fake_volumes target */
/* Initiators that break the rules on purpose: none of it may end the process, or take memory without end.
 */
#include "target_fixture.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

static void alive(void)
{
    struct raw *c = session_new(0, 99, "");

    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    raw_free(&c);
}

/* EDTL 0, but unsolicited data is announced, and comes: none of it. */
static void a_write_of_nothing_in_pieces(void **state)
{
    static const uint8_t opcodes[] = {0x2a, 0x00, 0x2f};

    (void)state;
    for (size_t i = 0; i < sizeof opcodes; i++) {
        struct raw *c = session_new(0, 1, "InitialR2T=No|");
        uint32_t itt = c->itt;

        command_send(c, W, 0, raw_cdb10(opcodes[i], 0, 0), 10, NULL, 0);
        data_out(c, itt, ISCSI_TAG_NONE, 0, 0, false, NULL, 0);
        data_out(c, itt, ISCSI_TAG_NONE, 1, 0, true, NULL, 0);
        assert_int_equal(answer_recv(c, NULL).itt, itt);
        raw_free(&c);
    }
    alive();
}

/* The same before its turn. */
static void a_write_of_nothing_out_of_order(void **state)
{
    struct raw *c = session_new(0, 1, "InitialR2T=No|");
    uint32_t itt = c->itt;

    (void)state;
    c->cmd_sn++;
    command_send(c, W, 0, raw_cdb10(0x2a, 0, 0), 10, NULL, 0);
    data_out(c, itt, ISCSI_TAG_NONE, 0, 0, true, NULL, 0);
    c->cmd_sn -= 2;
    command_send(c, F, 0, (const uint8_t[6]){0}, 6, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(answer_recv(c, NULL).itt, itt);
    raw_free(&c);
    alive();
}

/* Requests with CmdSN 8 and 9 wait for 7: when it comes, 8 ends the session, and 9 is too late. */
static void two_logouts_out_of_order(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t bhs[48] = {ISCSI_LOGOUT_REQUEST, 0x80};

    (void)state;
    for (uint32_t i = 2; i > 0; i--) {
        put32(bhs + AT_ITT, i);
        put32(bhs + AT_CMD_SN, c->cmd_sn + i);
        pdu_send(c, bhs, NULL, 0);
    }
    command_send(c, F, 0, (const uint8_t[6]){0}, 6, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(pdu_recv(c), ISCSI_LOGOUT_RESPONSE);
    assert_int_equal(get32(c->bhs + AT_ITT), 1);
    assert_int_equal(pdu_recv(c), -1);
    raw_free(&c);
    alive();
}

/* Large pings whose answers are not read: the target stops reading before it holds many of them. */
static void pings_without_end(void **state)
{
    enum { PING = 256 << 10, MOST = 48 << 20 };
    struct raw *c = session_new(0, 1, "MaxRecvDataSegmentLength=262144|");
    uint8_t bhs[48] = {ISCSI_NOP_OUT | ISCSI_IMMEDIATE, 0x80}, *out = xcalloc(1, PING + 64),
            *ping = xcalloc(1, PING);
    struct pollfd writable = {.fd = c->fd, .events = POLLOUT};
    size_t len, at = 0, total = 0;

    (void)state;
    put32(bhs + AT_ITT, 1);
    put32(bhs + AT_TTT, ISCSI_TAG_NONE);
    put32(bhs + AT_CMD_SN, c->cmd_sn);
    len = pdu_put(c, out, bhs, ping, PING);
    while (total < MOST && poll(&writable, 1, 500) > 0) {
        ssize_t n = send(c->fd, out + at, len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

        assert_true(n > 0 || errno == EAGAIN);
        at = n > 0 ? (at + (size_t)n) % len : at;
        total += n > 0 ? (size_t)n : 0;
    }
    assert_true(total < MOST);
    free(out);
    free(ping);
    raw_free(&c);
    alive();
}

/* A request that asks for all targets again and again: one list, or none. */
static void all_targets_a_thousand_times(void **state)
{
    enum { TIMES = 500 };
    static const char ask[] = "SendTargets=All"; /* and its NUL */
    struct raw *c = client_new(1);
    uint8_t bhs[48] = {ISCSI_TEXT_REQUEST | ISCSI_IMMEDIATE, 0x80};
    char text[TIMES * sizeof ask];

    (void)state;
    assert_int_equal(login(c, RAW_TO_FULL, FIX_INITIATOR "|SessionType=Discovery|"), 0);
    for (size_t i = 0; i < TIMES; i++)
        memcpy(text + i * sizeof ask, ask, sizeof ask);
    put32(bhs + AT_ITT, 9);
    put32(bhs + AT_TTT, ISCSI_TAG_NONE);
    put32(bhs + AT_CMD_SN, c->cmd_sn);
    pdu_send(c, bhs, text, sizeof text);
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    pdu_send(c, bhs, ask, sizeof ask);
    assert_int_equal(pdu_recv(c), ISCSI_TEXT_RESPONSE);
    assert_string_equal(raw_value(c, "TargetName"), "iqn.2026-11.test:vm0");
    raw_free(&c);
}

/* Reads of more than the session may hold, and nobody takes the answers: the loop sleeps, and goes on when
 * somebody does. */
static void reads_that_nobody_takes(void **state)
{
    enum { READS = 8, FIT = 4 };
    struct raw *c = session_new(0, 1, "");
    struct timespec before, after;
    int64_t used_ms;

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    for (unsigned i = 0; i < READS; i++)
        command_send(c, F | R, 16 << 20, raw_cdb10(0x28, 0, 32768), 10, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, FIT);
    fix_unstall(0);
    fix_wait(&fix.volumes[0].reads, FIT);
    usleep(100 * 1000); /* what the socket takes has left */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(500 * 1000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    used_ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_in_range(used_ms, 0, 250); /* a loop that spins takes all of it */
    for (unsigned i = 0; i < READS; i++) {
        struct raw_answer a = answer_recv(c, NULL);

        assert_int_equal(a.status, 0);
        assert_int_equal(a.got, 16 << 20);
    }
    raw_free(&c);
}

/* Writes that are larger than all that the session may hold, each with immediate data, which they keep while
 * they wait: one after the other they are let in. */
static int start_with_little(void **state)
{
    int r;

    fix_conf.session_bytes = 64 << 10;
    r = fix_start(state);
    fix_conf.session_bytes = 0;
    return r;
}

static void writes_larger_than_the_budget(void **state)
{
    enum { WRITES = 3, FIRST = 4096, ALL = 256 << 10 };
    static uint8_t data[ALL];
    struct raw *c = session_new(0, 1, "MaxBurstLength=262144|FirstBurstLength=65536|");

    (void)state;
    memset(data, 0x5a, sizeof data);
    for (unsigned i = 0; i < WRITES; i++)
        command_send(c, F | W, ALL, raw_cdb10(0x2a, i * (ALL / 512), ALL / 512), 10, data, FIRST);
    for (unsigned i = 0; i < WRITES; i++) {
        uint32_t itt, ttt;

        assert_int_equal(pdu_recv(c), ISCSI_R2T);
        itt = get32(c->bhs + AT_ITT);
        ttt = get32(c->bhs + AT_TTT);
        assert_int_equal(get32(c->bhs + AT_DESIRED_LENGTH), ALL - FIRST);
        for (uint32_t at = FIRST, sn = 0; at < ALL; at += FIRST)
            data_out(c, itt, ttt, sn++, at, at + FIRST == ALL, data, FIRST);
        assert_int_equal(answer_recv(c, NULL).status, 0);
    }
    assert_memory_equal(disk(0) + (WRITES - 1) * ALL, data, ALL);
    raw_free(&c);
}

enum { SMALL_BYTES = 300 << 10 };

static int start_small(void **state)
{
    fix_conf = (struct target_conf){.session_bytes = SMALL_BYTES, .loop_bytes = SMALL_BYTES};
    return fix_start(state);
}

static int stop_small(void **state)
{
    fix_conf = (struct target_conf){0};
    return fix_stop(state);
}

/* What a command reads to compare, to copy or to have in the cache counts as its data does: the second one of
 * each kind waits for the first. */
static void memory_besides_the_data(void **state)
{
    static const uint8_t ones[512] = {[0 ... 511] = 1};
    static const uint8_t naa[8] = "\x30\1\2\3\4\5\6\7";
    uint8_t list[76] = {[3] = 32, [11] = 28, [16] = 0xe4, [20] = 1, [21] = 3, [23] = 8, [48] = 2, [51] = 24};
    static const struct {
        uint8_t cdb[16], n;
        uint32_t len;
    } kinds[] = {
        {{0x2f, 0x06, [7] = 2, 0}, 10, 512}, /* VERIFY of 512 blocks against one */
        {{0x41, 0x00, [7] = 4, 0}, 10, 512}, /* WRITE SAME */
        {{0x34, 0x00, [7] = 2, 0}, 10, 0},   /* PRE-FETCH */
        {{0x83, 0x00, [13] = 76}, 16, 76},   /* EXTENDED COPY */
    };
    struct raw *c = session_new(0, 1, "");

    (void)state;
    memcpy(list + 24, naa, 8);
    put16(list + 58, 8); /* blocks, from 0 to */
    put64(list + 68, 1000);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const uint8_t *data = kinds[i].n == 16 ? list : ones;

        memset(disk(0), 1, 512 * 512);
        atomic_store(&fix.volumes[0].stalled, true);
        for (int k = 0; k < 2; k++)
            command_send(c, (uint8_t)(F | (kinds[i].len ? W : 0)), kinds[i].len, kinds[i].cdb, kinds[i].n,
                         data, kinds[i].len);
        command_send(c, F, 0, "\0\0\0\0\0", 6, NULL, 0); /* both have begun when that is answered */
        assert_int_equal(answer_recv(c, NULL).itt, c->itt - 1);
        fix_wait(&fix.volumes[0].nparked, 1);
        fix_unstall(0);
        for (int k = 0; k < 2; k++)
            assert_int_equal(answer_recv(c, NULL).sense, 0);
    }
    raw_free(&c);
}

/* Requests that are no commands, each held for a number that does not come. */
static void out_of_order_without_end(void **state)
{
    enum { PING = 200 << 10 };
    struct raw *c = session_new(0, 1, "");
    uint8_t bhs[48] = {ISCSI_NOP_OUT, 0x80}, *ping = xcalloc(1, PING);

    (void)state;
    put32(bhs + AT_TTT, ISCSI_TAG_NONE);
    for (uint32_t i = 1; i <= 6; i++) {
        put32(bhs + AT_ITT, i);
        put32(bhs + AT_CMD_SN, c->cmd_sn + i);
        pdu_send(c, bhs, ping, PING);
    }
    assert_int_equal(pdu_recv(c), -1);
    free(ping);
    raw_free(&c);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, fix_start, fix_stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_write_of_nothing_in_pieces),
        STORY(a_write_of_nothing_out_of_order),
        cmocka_unit_test_setup_teardown(memory_besides_the_data, start_small, stop_small),
        STORY(out_of_order_without_end),
        STORY(two_logouts_out_of_order),
        STORY(pings_without_end),
        STORY(all_targets_a_thousand_times),
        STORY(reads_that_nobody_takes),
        cmocka_unit_test_setup_teardown(writes_larger_than_the_budget, start_with_little, fix_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
