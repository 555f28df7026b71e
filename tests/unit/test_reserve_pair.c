/* links: raw fake_volumes target */
/* Persistent reservations of a VM that is mirrored, and of one that was: a change is answered, and holds,
 * when the mirror has it; what another edge had goes on here.
 */
#include "reservations_fixture.h"

#include "mirror.h"
#include "on_loop.h"
#include "vm_value.h"

enum { GIVEN_MAX = 4 };

/* The mirror: what it was given waits for the test to answer it. */
static struct given {
    struct mirror *to;
    struct reserve state;
    void (*done)(void *arg, bool has);
    void *arg;
} given[GIVEN_MAX];
static atomic_uint ngiven;

void mirror_reserve(struct mirror *m, uint8_t disk, const uint8_t *state, uint32_t n,
                    void (*done)(void *arg, bool has), void *arg)
{
    struct given *g = &given[atomic_load(&ngiven)];

    CHECK(g < given + GIVEN_MAX && disk == 0);
    *g = (struct given){.to = m, .done = done, .arg = arg};
    CHECK(reserve_get(&g->state, state, n, 0) == 0);
    atomic_fetch_add(&ngiven, 1);
}

/* --- on the VM's loop --- */

static char mirrors[2];

static void mirror_it(void)
{
    fix.vms[0].mirror = (struct mirror *)&mirrors[0];
    CHECK(target_vm_mirrored(&fix.vms[0]));
}

static void mirror_by_another(void)
{
    fix.vms[0].mirror = (struct mirror *)&mirrors[1];
}

static void leave_it(void)
{
    fix.vms[0].mirror = NULL;
}

static void last_has_it(void)
{
    struct given *g = &given[ngiven - 1];

    g->done(g->arg, true);
}

static void nobody_waits_for_last(void)
{
    struct given *g = &given[ngiven - 1];

    g->done(g->arg, false);
}

static void register_send(struct raw *c, uint64_t key, uint64_t service_key)
{
    uint8_t list[24] = {0};

    put64(list, key);
    put64(list + 8, service_key);
    list_send(c, RESERVE_REGISTER, 0, list, sizeof list);
}

static unsigned keys(struct raw *c)
{
    assert_int_equal(in(c, IN_KEYS), GOOD);
    return get32(out + 4) / 8;
}

static int start(void **state)
{
    atomic_store(&ngiven, 0);
    fix_conf.twin = NULL;
    return fix_start(state);
}

/* --- tests --- */

static void a_change_waits_for_the_mirror(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");

    (void)state;
    assert_int_equal(pr(b, RESERVE_REGISTER, 0, 0, 0xb, 0), GOOD); /* nobody else has to have it */
    assert_int_equal(atomic_load(&ngiven), 0);
    on_loop(fix.loops[0], mirror_it);
    assert_int_equal(atomic_load(&ngiven), 1); /* what there is */
    assert_int_equal(given[0].state.n, 1);
    assert_null(given[0].done);
    register_send(a, 0, 0xa);
    fix_wait(&ngiven, 2);
    assert_ptr_equal(given[1].to, &mirrors[0]);
    assert_int_equal(given[1].state.n, 2);
    assert_int_equal(given[1].state.registrants[1].key, 0xa);
    assert_false(given[1].state.aptpl);
    assert_int_equal(keys(b), 1); /* it does not hold yet */
    on_loop(fix.loops[0], last_has_it);
    assert_int_equal(ended(a), GOOD);
    assert_int_equal(keys(b), 2);
    assert_int_equal(pr(a, RESERVE_RESERVE, 1, 0xc, 0, 0),
                     CONFLICTED); /* what changes nothing is not given */
    assert_int_equal(atomic_load(&ngiven), 2);
    on_loop(fix.loops[0], leave_it);
    raw_free(&a);
    raw_free(&b);
}

/* The mirror is lost before it has answered; and perhaps another is there by then, which knows nothing of it.
 */
static void or_until_there_is_none(void **state)
{
    struct raw *a = session_new(0, 1, "");

    on_loop(fix.loops[0], mirror_it);
    assert_int_equal(atomic_load(&ngiven), 1); /* that there are none */
    assert_int_equal(given[0].state.n, 0);
    register_send(a, 0, 0xa);
    fix_wait(&ngiven, 2);
    on_loop(fix.loops[0], mirror_by_another);
    on_loop(fix.loops[0], nobody_waits_for_last);
    assert_int_equal(atomic_load(&ngiven), 3);
    assert_ptr_equal(given[2].to, &mirrors[1]);
    assert_int_equal(given[2].state.n, 1);
    assert_int_equal(keys(a), 0);
    on_loop(fix.loops[0], leave_it);
    on_loop(fix.loops[0], nobody_waits_for_last);
    assert_int_equal(ended(a), GOOD);
    assert_int_equal(keys(a), 1);
    raw_free(&a);
    (void)state;
}

static int count(void *arg, uint8_t number, const void *value, size_t n)
{
    struct reserve r;

    assert_int_equal(number, 0);
    assert_int_equal(reserve_get_sent(&r, value, n), 0);
    *(unsigned *)arg += r.n;
    return 0;
}

/* Both edges' journals have it; but over a restart only APTPL keeps it. */
static void it_is_kept_by_both(void **state)
{
    struct raw *a = session_new(0, 1, "");
    uint8_t list[24] = {0};
    unsigned kept = 0;
    struct why why;

    on_loop(fix.loops[0], mirror_it);
    put64(list + 8, 0xa);
    for (unsigned aptpl = 0; aptpl < 2; aptpl++) {
        list[20] = aptpl ? APTPL : 0;
        list_send(a, RESERVE_REGISTER, 0, list, sizeof list);
        fix_wait(&ngiven, 2);
        assert_int_equal(given[1].state.aptpl, aptpl);
        kept = 0;
        assert_int_equal(vm_value_each(fix_conf.journal, fix.vms[0].spec.id, count, &kept, &why), 0);
        assert_int_equal(kept, 1);
        on_loop(fix.loops[0], last_has_it);
        assert_int_equal(ended(a), GOOD);
        raw_free(&a);
        restart(state);
        atomic_store(&ngiven, 0);
        a = session_new(0, 1, "");
        assert_int_equal(keys(a), aptpl);
        on_loop(fix.loops[0], mirror_it);
    }
    raw_free(&a);
}

/* Another edge had the VM: type 3, held by the port of session 1; without APTPL. */
static void take(struct vm *vm)
{
    struct reserve r = {.generation = 9, .type = RESERVE_EXCLUSIVE_ACCESS, .holder = 1, .n = 2};
    static uint8_t bytes[RESERVE_SAVED_MAX];
    size_t n;

    for (unsigned i = 0; i < 2; i++) {
        r.registrants[i].nexus = (struct reserve_nexus){
            .initiator = {.name = "iqn.2026-11.test:initiator", .isid = {0x80, 0, 0, 0, 0, 1}},
            .target = i ? 1 : TARGET_GROUPS_SECOND + 1};
        r.registrants[i].key = 0xa + i;
    }
    n = reserve_put(&r, bytes);
    vm->taken = true;
    vm->reserved[0] = buf_new(n);
    memcpy(vm->reserved[0]->data, bytes, n);
}

static void take_first(void)
{
    take(&fix.vms[0]);
}

static void what_the_other_edge_had_goes_on(void **state)
{
    struct raw *a, *b;

    (void)state;
    on_loop(fix.loops[0], take_first);
    b = session_new(0, 2, "");
    assert_int_equal(access_(b, 0x28), CONFLICTED);
    assert_int_equal(keys(b), 2);
    assert_int_equal(get32(out), 9); /* and so does its count */
    assert_int_equal(get64(out + 8), 0xa);
    a = session_new(0, 1, "");
    assert_int_equal(access_(a, 0x2a), GOOD);
    assert_int_equal(pr(a, RESERVE_RELEASE, 3, 0xb, 0, 0), GOOD);
    assert_int_equal(access_(b, 0x28), GOOD);
    raw_free(&a);
    raw_free(&b);
    buf_unref(&fix.vms[0].reserved[0]);
}

/* And to the next mirror, if nobody has logged in meanwhile, too. */
static void it_is_given_on(void **state)
{
    (void)state;
    on_loop(fix.loops[0], take_first);
    on_loop(fix.loops[0], mirror_it);
    assert_int_equal(atomic_load(&ngiven), 1);
    assert_int_equal(given[0].state.n, 2);
    assert_int_equal(given[0].state.holder, 1);
    assert_int_equal(given[0].state.generation, 9);
    on_loop(fix.loops[0], leave_it);
    buf_unref(&fix.vms[0].reserved[0]);
}

static int start_with_journal(void **state)
{
    atomic_store(&ngiven, 0);
    fix_conf.twin = (struct peer *)&mirrors[0]; /* in a pair; nobody calls it here */
    return start_kept(state);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, start, fix_stop)
#define KEPT(name)  cmocka_unit_test_setup_teardown(name, start_with_journal, stop_kept)
int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_change_waits_for_the_mirror),  STORY(or_until_there_is_none), KEPT(it_is_kept_by_both),
        KEPT(what_the_other_edge_had_goes_on), STORY(it_is_given_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
