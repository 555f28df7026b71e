/* links: raw fake_volumes target */
/* Two portal groups: each is a target port of its own, with sessions, unit attentions and registrations of
 * its own.
 */
#include "reservations_fixture.h"

#include "vm_value.h"

enum { LOW = 2, HIGH = 513 };
enum { AT_LOW, AT_HIGH, SAME_GROUP, PORTALS };
static const char *const portals[PORTALS] = {"127.0.0.1:0", "127.0.0.1:0,513", "127.0.0.1:0,513"};

static void two_groups(void)
{
    fix_conf.portals = (const char **)(uintptr_t)portals;
    fix_conf.nportals = PORTALS;
    fix_conf.portal_group = LOW;
}

static int start(void **state)
{
    two_groups();
    return fix_start(state);
}

static int start_with_journal(void **state)
{
    two_groups();
    return start_kept(state);
}

static struct raw *session_at(unsigned portal, uint8_t isid)
{
    fix.port = target_port(fix.target, portal);
    return session_new(0, isid, "");
}

/* The I_T nexuses that are registered, "ISID@PORT " of each, with '*' where it holds the reservation. */
static const char *registered(struct raw *c)
{
    static char text[300];
    const uint8_t *p = out + 8;
    size_t n = 0;

    assert_int_equal(in(c, IN_FULL), GOOD);
    *text = 0;
    while (p < out + 8 + get32(out + 4)) {
        const char *name = (const char *)p + 28;

        assert_false(p[12] & 2); /* each is told by itself */
        n += (size_t)snprintf(text + n, sizeof text - n, "%s@%u%s ", name + strlen(name) - 1,
                              (unsigned)get16(p + 18), p[12] & 1 ? "*" : "");
        p += 24 + get32(p + 20);
    }
    return text;
}

static void one_isid_two_sessions(void **state)
{
    struct raw *low = session_at(AT_LOW, 1), *high = session_at(AT_HIGH, 1), *again;

    (void)state;
    assert_int_equal(access_(low, 0x28), GOOD);
    assert_int_equal(access_(high, 0x2a), GOOD);
    assert_int_equal(atomic_load(&fix.vms[0].sessions), 2);
    again = session_at(SAME_GROUP, 1); /* another portal, but the same port */
    assert_int_equal(pdu_recv(high), RAW_CLOSED);
    assert_int_equal(access_(low, 0x28), GOOD);
    assert_int_equal(access_(again, 0x28), GOOD);
    raw_free(&low);
    raw_free(&high);
    raw_free(&again);
}

static void a_handle_is_of_its_group(void **state)
{
    static const char names[] = FIX_INITIATOR "|TargetName=iqn.2026-11.test:vm0|SessionType=Normal|";
    struct raw *low = session_at(AT_LOW, 1), *c;

    (void)state;
    fix.port = target_port(fix.target, AT_HIGH);
    c = client_new(1);
    c->tsih = low->tsih;
    assert_int_equal(login(c, RAW_TO_FULL, names), LOGIN_NO_SESSION);
    raw_free(&c);
    assert_int_equal(access_(low, 0x28), GOOD);
    fix.port = target_port(fix.target, AT_LOW);
    c = client_new(1);
    c->tsih = low->tsih;
    assert_int_equal(login(c, RAW_TO_FULL, names), 0);
    assert_int_equal(pdu_recv(low), RAW_CLOSED);
    raw_free(&c);
    raw_free(&low);
}

static void a_registration_is_of_its_port(void **state)
{
    struct raw *low = session_at(AT_LOW, 1), *high = session_at(AT_HIGH, 1), *other = session_at(AT_LOW, 2);

    (void)state;
    assert_int_equal(pr(low, RESERVE_REGISTER, 0, 0, 0xa, 0), GOOD);
    assert_int_equal(pr(low, RESERVE_RESERVE, 6, 0xa, 0, 0), GOOD);
    assert_int_equal(access_(low, 0x2a), GOOD);
    assert_int_equal(access_(high, 0x28), CONFLICTED);
    assert_int_equal(pr(high, RESERVE_RELEASE, 6, 0xa, 0, 0), CONFLICTED); /* it is not registered */
    assert_int_equal(pr(high, RESERVE_REGISTER, 0, 0, 0xb, 0), GOOD);
    assert_int_equal(access_(high, 0x2a), GOOD);
    assert_string_equal(registered(low), "1@2* 1@513 ");
    assert_int_equal(pr(other, RESERVE_REGISTER, 0, 0, 0xc, 0), GOOD);
    assert_int_equal(pr(other, RESERVE_PREEMPT_ABORT, 6, 0xc, 0xb, 0), GOOD);
    assert_int_equal(plain(low, 0x00), GOOD);
    assert_int_equal(plain(high, 0x00), CHECK_OF(UNREGISTERED));
    assert_int_equal(access_(high, 0x28), CONFLICTED);
    assert_string_equal(registered(low), "1@2* 2@2 ");
    raw_free(&low);
    raw_free(&high);
    raw_free(&other);
}

static void all_target_ports_at_once(void **state)
{
    struct raw *low = session_at(AT_LOW, 1), *high = session_at(AT_HIGH, 1), *other = session_at(AT_HIGH, 2);

    (void)state;
    assert_int_equal(pr(high, RESERVE_REGISTER, 0, 0, 0xa, ALL_TG_PT), GOOD);
    assert_string_equal(registered(low), "1@2 1@513 ");
    assert_int_equal(pr(low, RESERVE_RESERVE, 5, 0xa, 0, 0), GOOD);
    assert_int_equal(access_(low, 0x2a), GOOD);
    assert_int_equal(access_(high, 0x2a), GOOD);
    assert_int_equal(access_(other, 0x2a), CONFLICTED);
    assert_int_equal(pr(high, RESERVE_REGISTER, 0, 0xa, 0, 0), GOOD); /* leaves by itself */
    assert_string_equal(registered(low), "1@2* ");
    assert_int_equal(access_(high, 0x2a), CONFLICTED);
    assert_int_equal(pr(high, RESERVE_REGISTER_IGNORE, 0, 0, 0, ALL_TG_PT), GOOD);
    assert_string_equal(registered(low), "");
    assert_int_equal(access_(other, 0x2a), GOOD);
    raw_free(&low);
    raw_free(&high);
    raw_free(&other);
}

static void moved_to_the_other_port(void **state)
{
    struct raw *low = session_at(AT_LOW, 1), *high = session_at(AT_HIGH, 1);
    struct reserve_port self = {.name = "iqn.2026-11.test:initiator", .isid = {0x80, 0, 0, 0, 0, 1}};
    uint8_t list[24 + RESERVE_TRANSPORT_ID_MAX] = {0};
    uint32_t n = (uint32_t)reserve_put_port(&self, list + 24);

    (void)state;
    assert_int_equal(pr(low, RESERVE_REGISTER, 0, 0, 0xa, 0), GOOD);
    assert_int_equal(pr(low, RESERVE_RESERVE, 3, 0xa, 0, 0), GOOD);
    put64(list, 0xa);
    put64(list + 8, 0xb);
    list[17] = 2; /* UNREG */
    put32(list + 20, n);
    put16(list + 18, LOW);
    list_send(low, RESERVE_MOVE, 0, list, 24 + n);
    assert_int_equal(ended(low), CHECK_OF(BAD_LIST)); /* to itself */
    put16(list + 18, 3);                              /* no such port */
    list_send(low, RESERVE_MOVE, 0, list, 24 + n);
    assert_int_equal(ended(low), CHECK_OF(BAD_LIST));
    put16(list + 18, HIGH);
    list_send(low, RESERVE_MOVE, 0, list, 24 + n);
    assert_int_equal(ended(low), GOOD);
    assert_int_equal(access_(high, 0x2a), GOOD);
    assert_int_equal(access_(low, 0x28), CONFLICTED);
    assert_string_equal(registered(low), "1@513* ");
    raw_free(&low);
    raw_free(&high);
}

static void ports_are_kept_over_a_restart(void **state)
{
    struct raw *low = session_at(AT_LOW, 1), *high = session_at(AT_HIGH, 1);

    assert_int_equal(pr(high, RESERVE_REGISTER, 0, 0, 0xa, APTPL), GOOD);
    assert_int_equal(pr(high, RESERVE_RESERVE, 3, 0xa, 0, 0), GOOD);
    raw_free(&low);
    raw_free(&high);
    restart(state);
    low = session_at(AT_LOW, 1);
    high = session_at(AT_HIGH, 1);
    assert_int_equal(access_(low, 0x28), CONFLICTED);
    assert_int_equal(access_(high, 0x2a), GOOD);
    assert_string_equal(registered(low), "1@513* ");
    raw_free(&low);
    raw_free(&high);
}

/* What an edge of one group has kept is at the group of the portals that say none. */
static void the_older_format_is_read(void **state)
{
    static const char name[] = "iqn.2026-11.test:initiator";
    static const uint8_t isid[6] = {0x80, 0, 0, 0, 0, 1};
    uint8_t bytes[8 + 16 + sizeof name - 1] = {0, 1, 3, 0, 0, 1};
    char key[VM_VALUE_KEY_MAX];
    struct raw *low, *high;
    struct why why;

    put64(bytes + 8, 0xa);
    memcpy(bytes + 16, isid, 6);
    bytes[22] = 2; /* the holder */
    bytes[23] = sizeof name - 1;
    memcpy(bytes + 24, name, sizeof name - 1);
    vm_value_key(fix.vms[0].spec.id, 0, key);
    assert_int_equal(journal_meta_put(fix_conf.journal, key, bytes, sizeof bytes, &why), 0);
    restart(state);
    low = session_at(AT_LOW, 1);
    high = session_at(AT_HIGH, 1);
    assert_string_equal(registered(low), "1@2* ");
    assert_int_equal(access_(low, 0x2a), GOOD);
    assert_int_equal(access_(high, 0x28), CONFLICTED);
    raw_free(&low);
    raw_free(&high);
}

/* Only a disk with several ports says that it has them. */
static void it_says_that_it_has_several_ports(void **state)
{
    static const uint8_t inquiry[6] = {0x12, 0, 0, 0, 96};
    struct raw *c = session_at(AT_LOW, 1);

    (void)state;
    command_send(c, F | R, 96, inquiry, sizeof inquiry, NULL, 0);
    assert_int_equal(ended(c), GOOD);
    assert_int_equal(out[6], 0x10); /* MULTIP */
    raw_free(&c);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, start, fix_stop)
#define KEPT(name)  cmocka_unit_test_setup_teardown(name, start_with_journal, stop_kept)
int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(one_isid_two_sessions),         STORY(a_handle_is_of_its_group),
        STORY(a_registration_is_of_its_port), STORY(all_target_ports_at_once),
        STORY(moved_to_the_other_port),       STORY(it_says_that_it_has_several_ports),
        KEPT(ports_are_kept_over_a_restart),  KEPT(the_older_format_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
