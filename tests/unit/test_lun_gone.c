/* links: raw fake_volumes target */
/* A LUN is taken from its initiators while they use it, and another comes: who is told what, and when the
 * volume is free.
 */
#include "target_fixture.h"

#include "on_loop.h"
#include "reserve.h"

enum { LUNS_CHANGED = 0x63f0e, NO_LUN = 0x52500 };

static struct volume second;
static atomic_uint gone; /* lun_gone's done() has come */

static void on_gone(void *arg)
{
    (void)arg;
    atomic_store(&gone, 1);
}

static void give(void)
{
    fix.vms[0].volumes[1] = &second;
    target_lun_came(&fix.vms[0], 1);
}

static void take(void)
{
    fix.vms[0].volumes[1] = NULL;
    target_lun_going(&fix.vms[0], 1, on_gone, NULL);
}

static void turn(void)
{
    fake_volume_turn(&second);
}

static void unstall(void)
{
    atomic_store(&second.stalled, false);
    on_loop(fix.loops[0], turn);
}

static int begin(void **state)
{
    int rc = fix_start(state);

    atomic_store(&gone, 0);
    fake_volume_init(&second, FIX_SECTORS, 512);
    memset(second.bytes, 7, 4096);
    on_loop(fix.loops[0], give);
    return rc;
}

static int end(void **state)
{
    int rc = fix_stop(state);

    fake_volume_free(&second);
    return rc;
}

static void send_to(struct raw *c, uint8_t lun, uint8_t flags, uint32_t edtl, const void *cdb, size_t n,
                    const void *data, uint32_t len)
{
    uint8_t bhs[48];

    command_header(c, bhs, flags, edtl, cdb, n);
    bhs[AT_LUN + 1] = lun;
    pdu_send(c, bhs, data, len);
}

static void read_of(struct raw *c, uint8_t lun)
{
    send_to(c, lun, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
}

/* The sense of the answer; 0: GOOD. */
static uint32_t ended(struct raw *c)
{
    uint8_t out[4096];
    struct raw_answer a = answer_recv(c, out);

    return a.status ? a.sense : 0;
}

static uint32_t read_ends(struct raw *c, uint8_t lun)
{
    read_of(c, lun);
    return ended(c);
}

/* REPORT LUNS: a bit for each. */
static unsigned reported(struct raw *c)
{
    uint8_t cdb[12] = {0xa0, [8] = 2}, out[600] = {0};
    unsigned luns = 0;

    send_to(c, 0, F | R, 512, cdb, 12, NULL, 0);
    assert_int_equal(answer_recv(c, out).status, 0);
    for (uint32_t i = 0; i < get32(out); i += 8)
        luns |= 1u << get16(out + 8 + i);
    return luns;
}

static void the_others_tell_of_it(void **state)
{
    struct raw *c = session_new(0, 1, ""), *other = session_new(0, 2, "");

    (void)state;
    assert_int_equal(reported(c), 3);
    on_loop(fix.loops[0], take);
    fix_wait(&gone, 1);
    assert_int_equal(read_ends(c, 1), NO_LUN);
    assert_int_equal(read_ends(c, 0), LUNS_CHANGED);
    assert_int_equal(read_ends(c, 0), 0);
    assert_int_equal(reported(c), 1);
    assert_int_equal(reported(other), 1); /* it has looked: that is the end of it */
    assert_int_equal(read_ends(other, 0), 0);
    on_loop(fix.loops[0], give);
    assert_int_equal(read_ends(c, 1), 0);
    assert_int_equal(read_ends(c, 0), LUNS_CHANGED);
    assert_int_equal(read_ends(c, 0), 0);
    raw_free(&c);
    raw_free(&other);
}

static void what_is_in_flight_is_answered(void **state)
{
    struct raw *c = session_new(0, 1, "ImmediateData=No|"), *reader = session_new(0, 2, "");

    (void)state;
    atomic_store(&second.stalled, true);
    read_of(reader, 1);
    fix_wait(&second.nparked, 1);
    send_to(c, 1, F | W, 512, raw_cdb10(0x2a, 0, 1), 10, NULL, 0);
    assert_int_equal(pdu_recv(c), ISCSI_R2T);
    on_loop(fix.loops[0], take);
    assert_int_equal(ended(c), NO_LUN); /* nothing of it was in the volume */
    assert_int_equal(read_ends(c, 1), NO_LUN);
    raw_manage(c, TMF_LOGICAL_UNIT_RESET, 1, 0, 0);
    assert_int_equal(tmf_recv(c), TMF_NO_LUN);
    assert_int_equal(atomic_load(&gone), 0);
    unstall();
    assert_int_equal(ended(reader), 0);
    fix_wait(&gone, 1);
    raw_free(&c);
    raw_free(&reader);
}

/* The next I/O of a command of many finds no volume. */
static void a_long_command_ends_between_two_steps(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t same[16] = {0x93, [12] = 0x10}, pattern[512] = "pattern"; /* 4096 blocks */

    (void)state;
    atomic_store(&second.stalled, true);
    send_to(c, 1, F | W, 512, same, 16, pattern, 512);
    fix_wait(&second.nparked, 1);
    on_loop(fix.loops[0], take);
    unstall();
    assert_int_equal(ended(c), NO_LUN);
    assert_int_equal(atomic_load(&second.writes), 1);
    fix_wait(&gone, 1);
    raw_free(&c);
}

static void who_has_left_is_waited_for(void **state)
{
    struct raw *c = session_new(0, 1, "");

    (void)state;
    atomic_store(&second.stalled, true);
    read_of(c, 1);
    fix_wait(&second.nparked, 1);
    raw_free(&c);
    fix_wait(&fix.vms[0].sessions, 0);
    on_loop(fix.loops[0], take);
    assert_int_equal(atomic_load(&gone), 0);
    unstall();
    fix_wait(&gone, 1);
    fix_wait(&second.held, 0);
}

static void nobody_was_logged_in(void **state)
{
    (void)state;
    on_loop(fix.loops[0], take);
    fix_wait(&gone, 1);
}

/* Registrations and mode parameters are the disk's, not the number's. */
static void the_next_disk_is_a_fresh_one(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t out_cdb[10] = {0x5f, RESERVE_REGISTER, [8] = 24}, list[24] = {[15] = 9}, keys[64] = {0};
    uint8_t in_cdb[10] = {0x5e, 0, [8] = 64};

    (void)state;
    send_to(c, 1, F | W, 24, out_cdb, 10, list, 24);
    assert_int_equal(ended(c), 0);
    send_to(c, 1, F | R, 64, in_cdb, 10, NULL, 0);
    assert_int_equal(answer_recv(c, keys).status, 0);
    assert_int_equal(get32(keys + 4), 8);
    on_loop(fix.loops[0], take);
    fix_wait(&gone, 1);
    on_loop(fix.loops[0], give);
    assert_int_equal(read_ends(c, 0), LUNS_CHANGED);
    send_to(c, 1, F | R, 64, in_cdb, 10, NULL, 0);
    assert_int_equal(answer_recv(c, keys).status, 0);
    assert_int_equal(get32(keys + 4), 0);
    raw_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_others_tell_of_it, begin, end),
        cmocka_unit_test_setup_teardown(what_is_in_flight_is_answered, begin, end),
        cmocka_unit_test_setup_teardown(a_long_command_ends_between_two_steps, begin, end),
        cmocka_unit_test_setup_teardown(who_has_left_is_waited_for, begin, end),
        cmocka_unit_test_setup_teardown(nobody_was_logged_in, begin, end),
        cmocka_unit_test_setup_teardown(the_next_disk_is_a_fresh_one, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
