/* links: raw fake_volumes pki target */
/* An initiator that is logged in at the edge that is not the owner: what it asks is done at the owner, and
 * what becomes of that when the owner drops it, forgets it, the link dies, or the VM becomes the other's.
 */
#include "forward_fixture.h"

/* Of one message, of several, and of none. */
static void data_of_every_size(void **state)
{
    static const uint32_t sizes[] = {1, 8, 511, 512, 513, 1024, 5000};
    struct raw *here = at_owner(1), *there = at_other(1);
    uint8_t *sent = xmalloc(5000 * 512), *got = xmalloc(5000 * 512);

    (void)state;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (uint32_t k = 0; k < sizes[i] * 512; k++)
            sent[k] = (uint8_t)(k * 31 + k / 509 + i);
        assert_int_equal(rw(there, true, i * 8, sizes[i], sent), GOOD);
        memset(got, 0, sizes[i] * 512);
        assert_int_equal(rw(here, false, i * 8, sizes[i], got), GOOD);
        assert_memory_equal(got, sent, sizes[i] * 512);
        memset(got, 0, sizes[i] * 512);
        assert_int_equal(rw(there, false, i * 8, sizes[i], got), GOOD);
        assert_memory_equal(got, sent, sizes[i] * 512);
    }
    assert_int_equal(plain(there, 0), GOOD);
    free(sent);
    free(got);
    raw_free(&here);
    raw_free(&there);
}

static void what_the_owner_refuses(void **state)
{
    struct raw *there = at_other(1);
    uint8_t cdb[6] = {0x12, 0, 0, 0, 36};
    struct raw_answer a;

    (void)state;
    command_send(there, F | R, 512, raw_cdb10(0x28, FIX_SECTORS, 1), 10, NULL, 0);
    assert_int_equal(ended(there), CHECK_OF(0x052100));
    command_send(there, F | R, 255, cdb, 6, NULL, 0); /* an underflow */
    a = answer_recv(there, out);
    assert_int_equal(a.status, GOOD);
    assert_int_equal(a.got, 36);
    assert_int_equal(a.residual, -219);
    cdb[4] = 0;
    assert_int_equal(plain(there, 0xc7), CHECK_OF(0x052000));
    raw_free(&there);
}

static void alua_from_both(void **state)
{
    struct raw *here = at_owner(1), *there = at_other(1);
    uint8_t cdb[12] = {0xa3, 0x0a, [8] = 1};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct raw *c = i ? there : here;

        memset(out, 0, 64);
        command_send(c, F | R, 256, cdb, sizeof cdb, NULL, 0);
        assert_int_equal(ended(c), GOOD);
        assert_int_equal(get32(out), 24);
        assert_int_equal(out[4] & 15, 0);
        assert_int_equal(get16(out + 6), OWNER_GROUP);
        assert_int_equal(out[16] & 15, 1);
        assert_int_equal(get16(out + 18), OTHER_GROUP);
    }
    raw_free(&here);
    raw_free(&there);
}

static void one_set_of_reservations(void **state)
{
    struct raw *here = at_owner(1), *there = at_other(1);

    (void)state;
    assert_int_equal(pr(there, RESERVE_REGISTER, 0, 0, 0xb, 0), GOOD);
    assert_int_equal(pr(there, RESERVE_RESERVE, 3, 0xb, 0, 0), GOOD);
    assert_int_equal(access_(here, 0x28), CONFLICTED);
    assert_int_equal(access_(there, 0x2a), GOOD);
    assert_int_equal(in(here, IN_FULL), GOOD);
    assert_int_equal(get16(out + 8 + 18), OTHER_GROUP);
    assert_int_equal(pr(here, RESERVE_REGISTER, 0, 0, 0xa, 0), GOOD);
    assert_int_equal(pr(here, RESERVE_PREEMPT, 3, 0xa, 0xb, 0), GOOD);
    assert_int_equal(plain(there, 0), CHECK_OF(UNREGISTERED));
    assert_int_equal(access_(there, 0x28), CONFLICTED);
    assert_int_equal(pr(here, RESERVE_REGISTER, 0, 0xa, 0, ALL_TG_PT), CONFLICTED); /* it is not at both */
    assert_int_equal(pr(here, RESERVE_CLEAR, 0, 0xa, 0, 0), GOOD);
    assert_int_equal(access_(there, 0x28), GOOD);
    raw_free(&here);
    raw_free(&there);
}

static void aborts(void **state)
{
    struct raw *here = at_owner(1), *there = at_other(1);
    uint32_t itt = there->itt, sn = there->cmd_sn;

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(there, F | R, 4096, raw_cdb10(0x28, 0, 8), 10, NULL, 0);
    command_send(there, F | R, 4096, raw_cdb10(0x28, 8, 8), 10, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, 2);
    assert_int_equal(tmf(there, TMF_ABORT_TASK, itt, sn), TMF_COMPLETE);
    assert_int_equal(tmf(there, TMF_ABORT_TASK, itt, sn), TMF_NO_TASK);
    assert_int_equal(tmf(here, TMF_LOGICAL_UNIT_RESET, 0, 0), TMF_COMPLETE);
    fix_unstall(0);
    fix_wait(&fix.volumes[0].held, 0);
    assert_int_equal(plain(there, 0), CHECK_OF(RESET)); /* and no answer before that */
    assert_int_equal(plain(here, 0), CHECK_OF(RESET));
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(here, F | R, 4096, raw_cdb10(0x28, 0, 8), 10, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, 1);
    assert_int_equal(tmf(there, TMF_LOGICAL_UNIT_RESET, 0, 0), TMF_COMPLETE);
    fix_unstall(0);
    fix_wait(&fix.volumes[0].held, 0);
    assert_int_equal(plain(here, 0), CHECK_OF(RESET));
    assert_int_equal(plain(there, 0), CHECK_OF(RESET));
    raw_free(&here);
    raw_free(&there);
}

/* Who is gone at the other edge has no session at the owner. */
static void sessions_end(void **state)
{
    struct raw *there = at_other(1), *again;

    (void)state;
    assert_int_equal(access_(there, 0x28), GOOD);
    assert_int_equal(atomic_load(&fix.vms[0].sessions), 1);
    again = at_other(1); /* in its place */
    assert_int_equal(pdu_recv(there), RAW_CLOSED);
    assert_int_equal(access_(again, 0x28), GOOD);
    assert_int_equal(atomic_load(&fix.vms[0].sessions), 1);
    raw_free(&there);
    raw_free(&again);
    fix_wait(&fix.vms[0].sessions, 0);
}

static void at_going(void)
{
    target_vm_going(&fix.vms[0], VM_DROPPED);
}

static void the_owner_drops_it(void **state)
{
    struct raw *there = at_other(1);

    (void)state;
    assert_int_equal(access_(there, 0x28), GOOD);
    on_loop(fix.loops[0], at_going);
    assert_int_equal(pdu_recv(there), ISCSI_ASYNC_MESSAGE);
    assert_int_equal(there->bhs[AT_ASYNC_EVENT], ASYNC_LOGOUT_REQUEST);
    assert_int_equal(pdu_recv(there), ISCSI_ASYNC_MESSAGE);
    assert_int_equal(there->bhs[AT_ASYNC_EVENT], ASYNC_DROP_SESSION);
    assert_int_equal(pdu_recv(there), RAW_CLOSED);
    raw_free(&there);
}

static void lose_other(void)
{
    target_vm_paths(&fix.vms[0], false);
}

/* The owner forgets the sessions of the other edge, whose initiators do not notice; but what might be done
 * twice is not. */
static void the_owner_forgets_it(void **state)
{
    struct raw *there = at_other(1);
    uint8_t both[1024] = {0}, caw[16] = {0x89, [13] = 1};

    (void)state;
    assert_int_equal(access_(there, 0x28), GOOD);
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(there, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, 1);
    on_loop(fix.loops[0], lose_other);
    fix_unstall(0);
    assert_int_equal(ended(there), GOOD); /* by a new session */
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(there, F | W, 1024, caw, 16, both, 1024);
    fix_wait(&fix.volumes[0].nparked, 1);
    on_loop(fix.loops[0], lose_other);
    assert_int_equal(ended(there), CHECK_OF(GIVEN_UP));
    fix_unstall(0);
    raw_free(&there);
}

/* The connection between the edges is reset. */
static void cut(void)
{
    struct sockaddr_in at;
    socklen_t len;

    for (int fd = 3; fd < 1024; fd++) {
        len = sizeof at;
        if (getpeername(fd, (struct sockaddr *)&at, &len) == 0 && at.sin_family == AF_INET &&
            ntohs(at.sin_port) == link_port(owner_end.link))
            shutdown(fd, SHUT_RDWR);
    }
}

static void pong(struct raw *c)
{
    struct raw_pdu p;

    assert_int_equal(pdu_recv(c), ISCSI_NOP_IN);
    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    put32(p.bhs + AT_ITT, ISCSI_TAG_NONE);
    memcpy(p.bhs + AT_TTT, c->bhs + AT_TTT, 4);
    p.data = NULL;
    p.len = 0;
    assert_true(raw_send(c, &p));
}

/* A write that was under way when the link died, and one that came meanwhile: they go on when the initiator
 * shows that it waits for them, and once. */
static void the_link_dies(void **state)
{
    struct raw *there = at_other(1);
    static uint8_t ones[512] = {[0 ... 511] = 1};

    (void)state;
    assert_int_equal(access_(there, 0x28), GOOD);
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(there, F | W, 512, raw_cdb10(0x2a, 0, 1), 10, ones, 512);
    fix_wait(&fix.volumes[0].nparked, 1);
    on_loop(fix.main, cut);
    fix_wait(&other_end.ups, 2);
    command_send(there, F | W, 512, raw_cdb10(0x2a, 8, 1), 10, ones, 512);
    fix_unstall(0);
    pong(there);
    assert_int_equal(ended(there), GOOD);
    assert_int_equal(ended(there), GOOD);
    assert_int_equal(atomic_load(&fix.volumes[0].writes), 2);
    assert_memory_equal(disk(0) + 4096, ones, 512);
    raw_free(&there);
}

/* Who has given its session up, without a word, has perhaps gone to the owner: what waits here never comes.
 */
static void the_link_dies_and_the_initiator_has_gone(void **state)
{
    struct raw *there = at_other(1), *here = at_owner(1);
    static uint8_t ones[512] = {[0 ... 511] = 1}, twos[512] = {[0 ... 511] = 2};
    static const uint8_t nothing[512];

    (void)state;
    raw_ping(there, NULL, 0); /* it knows pings */
    assert_int_equal(pdu_recv(there), ISCSI_NOP_IN);
    assert_int_equal(access_(there, 0x28), GOOD);
    on_loop(fix.main, cut);
    command_send(there, F | W, 512, raw_cdb10(0x2a, 8, 1), 10, ones, 512);
    fix_wait(&other_end.ups, 2);
    assert_int_equal(pdu_recv(there), ISCSI_NOP_IN);
    command_send(here, F | W, 512, raw_cdb10(0x2a, 0, 1), 10, twos, 512);
    assert_int_equal(ended(here), GOOD);
    sleep(3); /* longer than who knows no pings is waited for */
    assert_memory_equal(disk(0) + 4096, nothing, 512);
    assert_int_equal(atomic_load(&fix.volumes[0].writes), 1);
    raw_free(&there);
    raw_free(&here);
}

static void take(void)
{
    heir.in.vms = fix.vms[1].in.vms;
    target_vm_taken(&fix.vms[1], &heir);
}

/* The owner does not answer any more, and the VM becomes the other's. */
static void from_forwarding_to_executing(void **state)
{
    struct raw *there = at_other(1), *here;
    static uint8_t ones[4096] = {[0 ... 4095] = 1};
    uint8_t caw[16] = {0x89, [13] = 1};

    (void)state;
    assert_int_equal(access_(there, 0x28), GOOD);
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(there, F | W, 4096, raw_cdb10(0x2a, 0, 8), 10, ones, 4096);
    command_send(there, F | W, 1024, caw, 16, ones, 1024);
    fix_wait(&fix.volumes[0].nparked, 1);
    tmf_send(there, TMF_ABORT_TASK_SET, 0, 0);
    on_loop(fix.loops[1], take);
    assert_int_equal(tmf_recv(there), TMF_COMPLETE);
    assert_int_equal(plain(there, 0), CHECK_OF(ACCESS));
    command_send(there, F | W, 4096, raw_cdb10(0x2a, 0, 8), 10, ones, 4096);
    assert_int_equal(ended(there), GOOD);
    assert_memory_equal(heir_volume.bytes, ones, 4096);
    assert_int_equal(atomic_load(&heir.sessions), 1);
    assert_int_equal(atomic_load(&fix.vms[1].sessions), 0);
    fix_unstall(0);
    here = at_owner(2);
    assert_int_equal(access_(here, 0x28), GOOD);
    raw_free(&here);
    raw_free(&there);
}

/* What waits is done here, once or not at all. */
static void what_waits_is_executed(void **state)
{
    struct raw *there = at_other(1);
    static uint8_t ones[4096] = {[0 ... 4095] = 1}, got[4096];
    uint8_t caw[16] = {0x89, [13] = 1};
    uint32_t first;
    bool seen[3] = {false};

    (void)state;
    assert_int_equal(access_(there, 0x28), GOOD);
    first = there->itt;
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(there, F | W, 4096, raw_cdb10(0x2a, 0, 8), 10, ones, 4096);
    command_send(there, F | W, 1024, caw, 16, ones, 1024);
    command_send(there, F | R, 4096, raw_cdb10(0x28, 8, 8), 10, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, 2);
    on_loop(fix.loops[1], take);
    for (int i = 0; i < 3; i++) {
        struct raw_answer a = answer_recv(there, got);

        assert_true(a.itt >= first && a.itt < first + 3);
        seen[a.itt - first] = true;
        assert_int_equal(a.sense, a.itt == first + 1 ? GIVEN_UP : 0);
    }
    assert_true(seen[0] && seen[1] && seen[2]);
    assert_memory_equal(heir_volume.bytes, ones, 4096);
    assert_int_equal(plain(there, 0), CHECK_OF(ACCESS));
    assert_int_equal(access_(there, 0x28), GOOD);
    fix_unstall(0);
    raw_free(&there);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(data_of_every_size, start, stop),
        cmocka_unit_test_setup_teardown(what_the_owner_refuses, start, stop),
        cmocka_unit_test_setup_teardown(alua_from_both, start, stop),
        cmocka_unit_test_setup_teardown(one_set_of_reservations, start, stop),
        cmocka_unit_test_setup_teardown(aborts, start, stop),
        cmocka_unit_test_setup_teardown(sessions_end, start, stop),
        cmocka_unit_test_setup_teardown(the_owner_drops_it, start, stop),
        cmocka_unit_test_setup_teardown(the_owner_forgets_it, start, stop),
        cmocka_unit_test_setup_teardown(the_link_dies, start, stop),
        cmocka_unit_test_setup_teardown(the_link_dies_and_the_initiator_has_gone, start, stop),
        cmocka_unit_test_setup_teardown(from_forwarding_to_executing, start, stop),
        cmocka_unit_test_setup_teardown(what_waits_is_executed, start, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
