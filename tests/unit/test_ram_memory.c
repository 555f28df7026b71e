/* links: cache */
/* The RAM tier when its memory is held by readers, and what it gives up for what.
 */
#include "ram_fixture.h"

#include "ram_impl.h"

/* Everything is held by readers: the next one waits, prefetch is dropped, and all goes on when they let go.
 */
static void a_read_waits_for_memory_that_is_held(void **state)
{
    struct reader *held[64] = {NULL}, *late, *later, *ahead;
    unsigned n = 0;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    do {
        held[n] = start(n * 64, 64);
    } while (held[n]->done && ++n < 64);
    assert_in_range(n, 8, 63);
    late = start(60000, 256);
    later = start(50000, 1);
    assert_false(late->done || later->done);
    ahead = reader_new(30000, 8);
    ahead->req.class = TIER_PREFETCH;
    ahead->done = tier_read(top, &ahead->req);
    assert_true(ahead->done);
    assert_int_equal(ahead->req.status, -ECANCELED);
    end(&ahead);
    commit(40000 * 8, 8, 2); /* a write neither waits nor fails */
    for (unsigned i = 0; i < n; i++) {
        end(&held[i]);
        fake_run_posted(&loop);
    }
    assert_true(held[n]->done && late->done && later->done);
    end(&held[n]);
    end(&late);
    end(&later);
    expect_version(40000 * 8, 2);
    close_tiers();
}

/* Three readers find half of what they want and wait for memory for the rest. Kept, their halves would leave
 * too little for any of them. */
static void readers_that_wait_do_not_stop_each_other(void **state)
{
    struct reader *held[4], *d[3];

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    for (unsigned i = 0; i < 4; i++)
        held[i] = start(i * 1000, i < 3 ? 260 : 200);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(held[i]->done);
        d[i] = start(i * 1000, 490);
        assert_false(d[i]->done);
    }
    for (unsigned i = 0; i < 4; i++) {
        end(&held[i]);
        fake_run_posted(&loop);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_true(d[i]->done);
        end(&d[i]);
        fake_run_posted(&loop);
    }
    close_tiers();
}

/* All of the main queue is held, and the only block that could go has been asked for again and again: it gets
 * a second chance there, and is found nevertheless. */
static void the_only_block_that_is_not_held_is_found(void **state)
{
    const struct slot in_main = {.flags = SLOT_MAIN};
    struct slot *held[40], *idle;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < 40; i++) {
        held[i] = slot_new(ram, i, false);
        slot_ready(ram, held[i]);
        policy_insert_like(ram, held[i], &in_main);
        slot_ref(ram, held[i]);
    }
    idle = slot_new(ram, 40, false);
    slot_ready(ram, idle);
    policy_insert(ram, idle);
    idle->freq = RAM_FREQ_MAX;
    assert_true(ram_reserve(ram, ram->free_pages + 1, 1));
    assert_int_equal(idle->state, SLOT_FREE);
    for (unsigned i = 0; i < 40; i++)
        block_unref(&held[i]->b);
    close_tiers();
}

/* One that waits for a fill beside another reader, and one that waits for memory with another behind it. */
static void a_read_that_nobody_wants_any_more_comes_back_at_once(void **state)
{
    struct reader *gone, *stays, *held[64] = {NULL}, *late, *later;
    unsigned n = 0;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    gone = start(0, 100);
    stays = start(50, 20);
    tier_ram_cancel(top, &gone->req);
    assert_false(gone->done);
    fake_run_posted(&loop);
    assert_true(gone->done && !stays->done);
    assert_int_equal(gone->req.status, -ECANCELED);
    end(&gone);
    base_answer_all();
    assert_true(stays->done && stays->req.status == 0);
    end(&stays);
    stays = start(0, 100); /* what was on its way has stayed */
    assert_true(stays->done);
    end(&stays);
    base.at_once = true;
    do {
        held[n] = start(1000 + n * 64, 64);
    } while (held[n]->done && ++n < 64);
    assert_in_range(n, 8, 63);
    late = start(60000, 256);
    later = start(0, 1);
    tier_ram_cancel(top, &late->req);
    tier_ram_cancel(top, &held[n]->req);
    fake_run_posted(&loop);
    assert_int_equal(late->req.status, -ECANCELED);
    assert_int_equal(held[n]->req.status, -ECANCELED);
    assert_true(later->done);
    end(&late);
    end(&later);
    for (unsigned i = 0; i <= n; i++)
        end(&held[i]);
    close_tiers();
}

static void a_scan_does_not_push_out_what_is_hot(void **state)
{
    struct reader *d;
    unsigned before;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < 300; i++) {
            d = start(i * 3, 1);
            end(&d);
        }
    for (unsigned i = 0; i < 20000; i += 8) {
        d = start(2000 + i, 8);
        end(&d);
    }
    before = base.reads;
    for (unsigned i = 0; i < 300; i++) {
        d = start(i * 3, 1);
        end(&d);
    }
    assert_int_equal(base.reads, before);
    close_tiers();
}

static void memory_stays_within_its_budget(void **state)
{
    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = i % 3;
    for (unsigned i = 0; i < 3000; i++) {
        struct reader *d =
            start(fake_random(&loop) % (DISK_BLOCKS - 64), 1 + (uint32_t)(fake_random(&loop) % 64));

        base_answer_all();
        assert_true(d->done);
        assert_true(ram_used_bytes(ram) <= BUDGET);
        end(&d);
    }
    close_tiers();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_waits_for_memory_that_is_held),
        cmocka_unit_test(readers_that_wait_do_not_stop_each_other),
        cmocka_unit_test(the_only_block_that_is_not_held_is_found),
        cmocka_unit_test(a_read_that_nobody_wants_any_more_comes_back_at_once),
        cmocka_unit_test(a_scan_does_not_push_out_what_is_hot),
        cmocka_unit_test(memory_stays_within_its_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
