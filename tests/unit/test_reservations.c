/* links: raw fake_volumes target */
/* Reservations over a socket: two sessions of one VM, unit attentions, aborts, what a logout and a reset end,
 * what is kept over a restart, and parameter lists that are wrong.
 */
#include "reservations_fixture.h"

#include <errno.h>

static void bye(struct raw *c)
{
    uint8_t bhs[48] = {ISCSI_LOGOUT_REQUEST | ISCSI_IMMEDIATE, 0x80};

    pdu_send(c, bhs, NULL, 0);
    assert_int_equal(pdu_recv(c), ISCSI_LOGOUT_RESPONSE);
    assert_int_equal(pdu_recv(c), -1);
    raw_free(&c);
}

static void the_old_kind(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");

    (void)state;
    for (int ten = 0; ten < 2; ten++) {
        uint8_t take = ten ? 0x56 : 0x16, give = ten ? 0x57 : 0x17;

        assert_int_equal(plain(a, take), GOOD);
        assert_int_equal(plain(a, take), GOOD);
        assert_int_equal(plain(b, take), CONFLICTED);
        assert_int_equal(plain(b, 0x00), CONFLICTED);
        assert_int_equal(access_(b, 0x28), CONFLICTED);
        assert_int_equal(access_(b, 0x2a), CONFLICTED);
        assert_int_equal(plain(b, 0x12), GOOD); /* INQUIRY */
        assert_int_equal(plain(b, give), GOOD); /* not its own */
        assert_int_equal(access_(b, 0x28), CONFLICTED);
        assert_int_equal(access_(a, 0x2a), GOOD);
        assert_int_equal(in(a, IN_KEYS), CONFLICTED);
        assert_int_equal(plain(a, give), GOOD);
        assert_int_equal(access_(b, 0x2a), GOOD);
    }
    assert_int_equal(plain(a, 0x16), GOOD);
    bye(a);
    assert_int_equal(access_(b, 0x2a), GOOD);
    assert_int_equal(plain(b, 0x16), GOOD);
    a = session_new(0, 1, "");
    assert_int_equal(access_(a, 0x28), CONFLICTED);
    raw_free(&b); /* the connection is lost */
    while (access_(a, 0x28) != GOOD)
        usleep(1000);
    b = session_new(0, 2, "");
    for (uint8_t function = 5; function <= 6; function++) { /* LUN reset, target warm reset */
        assert_int_equal(plain(a, 0x16), GOOD);
        assert_int_equal(access_(b, 0x28), CONFLICTED);
        assert_int_equal(tmf(b, function, 0, 0), TMF_COMPLETE);
        assert_int_equal(access_(b, 0x28), CHECK_OF(RESET));
        assert_int_equal(access_(b, 0x28), GOOD);
        assert_int_equal(plain(a, 0x00), CHECK_OF(RESET));
    }
    assert_int_equal(pr(a, RESERVE_REGISTER, 0, 0, 1, 0), GOOD);
    assert_int_equal(plain(a, 0x16), CONFLICTED);
    assert_int_equal(plain(b, 0x57), CONFLICTED);
    raw_free(&a);
    raw_free(&b);
}

static void third_parties_are_told(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, ""), *other = session_new(1, 1, "");

    (void)state;
    assert_int_equal(pr(a, RESERVE_REGISTER, 0, 0, 0xa, 0), GOOD);
    assert_int_equal(pr(b, RESERVE_REGISTER, 0, 0, 0xb, ALL_TG_PT), GOOD);
    assert_int_equal(pr(a, RESERVE_RESERVE, 5, 0xa, 0, 0), GOOD);
    assert_int_equal(pr(a, RESERVE_RELEASE, 6, 0xa, 0, 0), CHECK_OF(0x52604));
    assert_int_equal(pr(a, RESERVE_RELEASE, 5, 0xa, 0, 0), GOOD);
    assert_int_equal(plain(b, 0x00), CHECK_OF(RELEASED));
    assert_int_equal(plain(b, 0x00), GOOD);
    assert_int_equal(pr(a, RESERVE_RESERVE, 1, 0xa, 0, 0), GOOD);
    assert_int_equal(access_(b, 0x2a), CONFLICTED);
    assert_int_equal(pr(b, RESERVE_PREEMPT, 3, 0xb, 0xa, 0), GOOD);
    assert_int_equal(access_(a, 0x2a), CONFLICTED); /* said before the unit attention */
    assert_int_equal(plain(a, 0x00), CHECK_OF(UNREGISTERED));
    assert_int_equal(access_(a, 0x28), CONFLICTED);
    assert_int_equal(in(a, IN_FULL), GOOD);
    assert_int_equal(get32(out), 3);
    assert_int_equal(out[8 + 12], 1); /* holder */
    assert_int_equal(out[8 + 13], 3);
    assert_string_equal((char *)out + 8 + 28, "iqn.2026-11.test:initiator,i,0x800000000002");
    assert_int_equal(pr(a, RESERVE_REGISTER_IGNORE, 0, 99, 0xa, 0), GOOD);
    assert_int_equal(pr(a, RESERVE_CLEAR, 0, 0xa, 0, 0), GOOD);
    assert_int_equal(plain(b, 0x00), CHECK_OF(PREEMPTED));
    assert_int_equal(in(b, IN_KEYS), GOOD);
    assert_int_equal(get32(out), 5);
    assert_int_equal(get32(out + 4), 0);
    assert_int_equal(in(other, IN_KEYS), GOOD); /* another VM's LUN */
    assert_int_equal(get32(out), 0);
    raw_free(&a);
    raw_free(&b);
    raw_free(&other);
}

/* A registration outlives its session; the port has it again when it is back. */
static void sessions_come_and_go(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");

    (void)state;
    assert_int_equal(pr(a, RESERVE_REGISTER, 0, 0, 0xa, 0), GOOD);
    assert_int_equal(pr(a, RESERVE_RESERVE, 3, 0xa, 0, 0), GOOD);
    bye(a);
    assert_int_equal(tmf(b, TMF_TARGET_WARM_RESET, 0, 0), TMF_COMPLETE);
    assert_int_equal(plain(b, 0x00), CHECK_OF(RESET));
    assert_int_equal(access_(b, 0x28), CONFLICTED);
    bye(b);
    b = session_new(0, 2, "");
    assert_int_equal(access_(b, 0x28), CONFLICTED);
    a = session_new(0, 1, "");
    assert_int_equal(access_(a, 0x2a), GOOD);
    assert_int_equal(pr(a, RESERVE_REGISTER, 0, 0xa, 0, 0), GOOD);
    assert_int_equal(access_(b, 0x28), GOOD);
    raw_free(&a);
    raw_free(&b);
}

/* The victim's write is in the volume, its session there or gone: the answer comes after that write. */
static void preempt_and_abort(void **state)
{
    static const uint8_t data[512], inquiry[6] = {0x12};

    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");
        uint8_t list[24] = {0};
        uint32_t itt;

        assert_int_equal(pr(a, RESERVE_REGISTER_IGNORE, 0, 0, 0xa, 0), GOOD);
        assert_int_equal(pr(b, RESERVE_REGISTER_IGNORE, 0, 0, 0xb, 0), GOOD);
        assert_int_equal(pr(a, RESERVE_RESERVE, 1, 0xa, 0, 0), GOOD);
        atomic_store(&fix.volumes[0].stalled, true);
        command_send(a, F | W, 512, raw_cdb10(0x2a, 9, 1), 10, data, 512);
        command_send(a, F | R, 512, raw_cdb10(0x28, 9, 1), 10, NULL, 0);
        fix_wait(&fix.volumes[0].nparked, 2);
        if (gone) {
            raw_free(&a);
            fix_wait(&fix.vms[0].sessions, 1);
        }
        put64(list, 0xb);
        put64(list + 8, 0xa);
        itt = b->itt;
        list_send(b, RESERVE_PREEMPT_ABORT, 1, list, sizeof list);
        command_send(b, F, 0, inquiry, 6, NULL, 0);
        assert_int_equal(answer_recv(b, NULL).itt, itt + 1); /* that of the INQUIRY */
        fix_unstall(0);
        assert_int_equal(ended(b), GOOD);
        assert_int_equal(get32(b->bhs + AT_ITT), itt);
        if (!gone) {
            assert_int_equal(plain(a, 0x00), CHECK_OF(UNREGISTERED)); /* and no answer to the write */
            assert_int_equal(access_(a, 0x28), GOOD);
            assert_int_equal(access_(a, 0x2a), CONFLICTED);
        }
        assert_int_equal(access_(b, 0x2a), GOOD);
        assert_int_equal(pr(b, RESERVE_RELEASE, 1, 0xb, 0, 0), GOOD);
        if (!gone)
            bye(a);
        bye(b);
    }
}

static void ports_by_name(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");
    struct reserve_port p = {.name = "iqn.2026-11.test:initiator", .isid = {0x80, 0, 0, 0, 0, 2}};
    uint8_t list[24 + 4 + RESERVE_TRANSPORT_ID_MAX] = {0};
    uint32_t n = (uint32_t)reserve_put_port(&p, list + 28);

    (void)state;
    put64(list + 8, 0xa);
    put32(list + 24, n);
    list[20] = SPEC_I_PT;
    list_send(a, RESERVE_REGISTER_IGNORE, 0, list, 28 + n);
    assert_int_equal(ended(a), CHECK_OF(BAD_LIST));
    list_send(a, RESERVE_REGISTER, 0, list, 28 + n - 4);
    assert_int_equal(ended(a), CHECK_OF(BAD_LENGTH));
    list[28] = 0x05; /* no ISID */
    list_send(a, RESERVE_REGISTER, 0, list, 28 + n);
    assert_int_equal(ended(a), CHECK_OF(BAD_LIST));
    list[28] = 0x45;
    list_send(a, RESERVE_REGISTER, 0, list, 28 + n);
    assert_int_equal(ended(a), GOOD);
    assert_int_equal(pr(b, RESERVE_RESERVE, 6, 0xa, 0, 0), GOOD);

    memset(list, 0, sizeof list); /* and moved to where nobody was registered */
    p.isid[5] = 3;
    n = (uint32_t)reserve_put_port(&p, list + 24);
    put64(list, 0xa);
    put64(list + 8, 0xc);
    list[17] = 2; /* UNREG */
    put32(list + 20, n);
    list_send(b, RESERVE_MOVE, 0, list, 24 + n);
    assert_int_equal(ended(b), CHECK_OF(BAD_LIST)); /* relative port 0 */
    put16(list + 18, 1);
    list_send(a, RESERVE_MOVE, 0, list, 24 + n);
    assert_int_equal(ended(a), CONFLICTED);
    list_send(b, RESERVE_MOVE, 0, list, 24 + n);
    assert_int_equal(ended(b), GOOD);
    assert_int_equal(access_(b, 0x28), CONFLICTED);
    raw_free(&b);
    b = session_new(0, 3, "");
    assert_int_equal(in(b, IN_RESERVATION), GOOD);
    assert_int_equal(get64(out + 8), 0xc);
    assert_int_equal(pr(b, RESERVE_RELEASE, 6, 0xc, 0, 0), GOOD);
    raw_free(&a);
    raw_free(&b);
}

static void what_is_refused(void **state)
{
    struct raw *a = session_new(0, 1, "");
    uint8_t list[24] = {0}, cdb[10] = {0x5f, 0, 0, 0, 0, 0, 0, 0, 24};

    (void)state;
    list_send(a, RESERVE_REGISTER, 0, list, 23);
    assert_int_equal(ended(a), CHECK_OF(BAD_LENGTH));
    list_send(a, RESERVE_REGISTER, 0, list, 0);
    assert_int_equal(ended(a), CHECK_OF(BAD_LENGTH));
    command_send(a, F | W, 8, cdb, sizeof cdb, list, 8); /* less data than the CDB says */
    assert_int_equal(ended(a), CHECK_OF(BAD_LENGTH));
    put32(cdb + 5, 0xffffffff);
    command_send(a, F | W, 24, cdb, sizeof cdb, list, 24);
    assert_int_equal(ended(a), CHECK_OF(BAD_LENGTH));
    list_send(a, RESERVE_RESERVE, 2, list, 24);
    assert_int_equal(ended(a), CHECK_OF(BAD_CDB));
    list_send(a, RESERVE_RESERVE, 0x11, list, 24); /* a scope */
    assert_int_equal(ended(a), CHECK_OF(BAD_CDB));
    list_send(a, 8, 1, list, 24); /* REPLACE LOST RESERVATION */
    assert_int_equal(ended(a), CHECK_OF(BAD_CDB));
    assert_int_equal(in(a, 4), CHECK_OF(BAD_CDB));
    assert_int_equal(pr(a, RESERVE_REGISTER, 0, 0, 1, APTPL), CHECK_OF(BAD_LIST)); /* nothing keeps it */
    assert_int_equal(in(a, IN_CAPABILITIES), GOOD);
    assert_int_equal(out[2], 0x0c);
    assert_int_equal(out[3], 0x80);
    raw_free(&a);
}

static void kept_over_a_restart(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");

    assert_int_equal(pr(a, RESERVE_REGISTER, 0, 0, 0xa, APTPL), GOOD);
    assert_int_equal(pr(a, RESERVE_RESERVE, 3, 0xa, 0, 0), GOOD);
    assert_int_equal(in(a, IN_CAPABILITIES), GOOD);
    assert_int_equal(out[2], 0x0d);
    assert_int_equal(out[3], 0x81);
    raw_free(&a);
    raw_free(&b);
    restart(state);
    a = session_new(0, 1, "");
    b = session_new(0, 2, "");
    assert_int_equal(access_(b, 0x28), CONFLICTED);
    assert_int_equal(access_(a, 0x2a), GOOD);
    assert_int_equal(in(a, IN_CAPABILITIES), GOOD);
    assert_int_equal(out[3], 0x81);
    assert_int_equal(pr(a, RESERVE_REGISTER, 0, 0xa, 0xaa, 0), GOOD); /* from now on it is not kept */
    raw_free(&a);
    raw_free(&b);
    restart(state);
    a = session_new(0, 2, "");
    assert_int_equal(access_(a, 0x28), GOOD);
    assert_int_equal(in(a, IN_KEYS), GOOD);
    assert_int_equal(get32(out + 4), 0);
    raw_free(&a);
}

/* Many at once, with saves under way: one after the other, and none of a session that has gone is lost. */
static void changes_in_a_row(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");
    uint8_t list[24] = {0};

    list[20] = APTPL;
    for (uint64_t i = 0; i < 50; i++) {
        put64(list, i);
        put64(list + 8, i + 1);
        list_send(a, RESERVE_REGISTER, 0, list, sizeof list);
    }
    for (int i = 0; i < 50; i++)
        assert_int_equal(ended(a), GOOD);
    assert_int_equal(pr(b, RESERVE_REGISTER, 0, 0, 7, APTPL), GOOD);
    put64(list, 50);
    list_send(a, RESERVE_CLEAR, 0, list, sizeof list);
    list_send(a, RESERVE_REGISTER, 0, list, sizeof list); /* conflicts, if it comes to that */
    raw_free(&a);
    while (in(b, IN_KEYS) != GOOD || get32(out + 4))
        usleep(1000);
    raw_free(&b);
    restart(state);
    a = session_new(0, 1, "");
    assert_int_equal(in(a, IN_KEYS), GOOD);
    assert_int_equal(get32(out + 4), 0);
    raw_free(&a);
}

static void a_newer_format_is_refused(void **state)
{
    static const uint8_t newer[8] = {0, RESERVE_FORMAT + 1};
    const char *portal = "127.0.0.1:0";
    struct target_conf conf = {
        .main = fix.main, .loops = fix.loops, .nloops = 2, .portals = &portal, .nportals = 1};
    struct target *t;
    struct why why;

    (void)state;
    conf.journal = fix_conf.journal;
    assert_int_equal(journal_meta_put(fix_conf.journal, "pr/00/0", newer, sizeof newer, &why), 0);
    assert_int_equal(target_start(&t, &conf, &why), -EPROTONOSUPPORT);
    assert_non_null(strstr(why.text, "newer"));
    assert_int_equal(journal_meta_put(fix_conf.journal, "pr/00/0", newer, 3, &why), 0);
    assert_int_equal(target_start(&t, &conf, &why), -EBADMSG);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, fix_start, fix_stop)
#define KEPT(name)  cmocka_unit_test_setup_teardown(name, start_kept, stop_kept)
int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(the_old_kind),       STORY(third_parties_are_told), STORY(sessions_come_and_go),
        STORY(preempt_and_abort),  STORY(ports_by_name),          STORY(what_is_refused),
        KEPT(kept_over_a_restart), KEPT(changes_in_a_row),        KEPT(a_newer_format_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
