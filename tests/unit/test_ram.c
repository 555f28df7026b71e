/* links: cache */
/* The RAM tier: what is held, shared, fetched once, patched, replaced, refused.
 */
#include "ram_fixture.h"

static void a_missing_block_is_fetched_once(void **state)
{
    struct reader *a, *b, *c;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    commit(80, 8, 7);
    base.version[0] = 3;
    a = start(0, 8);
    b = start(4, 8); /* half of it is on its way; 10 is held */
    assert_int_equal(base.reads, 3);
    assert_int_equal(base.blocks, 11);
    base_answer_all();
    assert_true(a->done && b->done);
    assert_int_equal(version_read(a, 0), 3);
    assert_int_equal(version_read(b, 80), 7);
    c = start(0, 12);
    assert_true(c->done);
    assert_int_equal(base.blocks, 11);
    assert_ptr_equal(c->req.blocks[5], a->req.blocks[5]);
    end(&a);
    end(&b);
    end(&c);
    close_tiers();
}

static void long_misses_go_down_in_few_requests_and_join_in_memory(void **state)
{
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < 256 * 8; i++)
        base.version[i] = 1;
    a = start(0, 256);
    assert_int_equal(base.reads, 4);
    base_answer(3);
    base_answer(0);
    base_answer_all();
    assert_true(a->done);
    for (unsigned i = 1; i < 256; i++)
        assert_ptr_equal(a->req.blocks[i]->data, a->req.blocks[i - 1]->data + BLOCK_BYTES);
    end(&a);
    close_tiers();
}

static void zeros_cost_no_page(void **state)
{
    struct reader *a;
    uint64_t before;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    before = ram_used_bytes(ram);
    a = start(100, 200);
    assert_true(a->done);
    assert_int_equal(ram_used_bytes(ram), before);
    assert_ptr_equal(a->req.blocks[0]->data, a->req.blocks[199]->data);
    assert_true(a->req.blocks[7]->zero);
    commit(800, 8, 1); /* whole, while held as zeros */
    commit(809, 1, 2); /* a part of a block of zeros */
    assert_int_equal(ram_used_bytes(ram), before + 2 * BLOCK_BYTES);
    assert_int_equal(version_read(a, 800), 0);
    assert_int_equal(version_read(a, 809), 0);
    end(&a);
    commit(800, 8, 0);
    assert_int_equal(ram_used_bytes(ram), before + BLOCK_BYTES);
    base.fail = -EIO; /* nothing is asked below */
    expect_version(809, 2);
    expect_version(808, 0);
    expect_version(800, 0);
    base.fail = 0;
    close_tiers();
}

static void a_write_replaces_a_block_that_is_held(void **state)
{
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    commit(0, 16, 1);
    a = start(0, 2);
    commit(2, 1, 2);
    commit(8, 8, 3);
    assert_int_equal(version_read(a, 2), 1);
    assert_int_equal(version_read(a, 8), 1);
    expect_version(2, 2);
    expect_version(1, 1);
    expect_version(8, 3);
    end(&a);
    assert_int_equal(base.reads, 0);
    close_tiers();
}

static void a_write_is_laid_over_a_fill_in_flight(void **state)
{
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < 32; i++)
        base.version[i] = 1;
    a = start(0, 3);
    commit(1, 2, 2);
    commit(2, 1, 3);
    commit(17, 3, 0); /* zeros over a part */
    base_answer_all();
    assert_true(a->done);
    assert_int_equal(version_read(a, 0), 1);
    assert_int_equal(version_read(a, 1), 2);
    assert_int_equal(version_read(a, 2), 3);
    assert_int_equal(version_read(a, 16), 1);
    assert_int_equal(version_read(a, 18), 0);
    end(&a);
    expect_version(2, 3);
    assert_int_equal(base.reads, 1);
    close_tiers();
}

static void a_whole_write_answers_who_waits_for_a_fill(void **state)
{
    struct reader *a, *b;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    a = start(0, 1);
    b = start(0, 2);
    commit(0, 8, 5);
    assert_false(a->done); /* not from within the write */
    fake_run_posted(&loop);
    assert_true(a->done);
    assert_false(b->done);
    assert_int_equal(version_read(a, 3), 5);
    base_answer_all();
    assert_true(b->done);
    assert_int_equal(version_read(b, 3), 5);
    end(&a);
    end(&b);
    expect_version(0, 5);
    close_tiers();
}

static void a_failed_fill_fails_its_readers_alone(void **state)
{
    struct reader *a, *b, *c;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.bad = 5;
    a = start(0, 16);
    b = start(2, 2); /* the bad block is none of his */
    c = start(20, 1);
    base_answer_all();
    assert_true(a->done && b->done && c->done);
    assert_int_equal(a->req.status, -EIO);
    assert_int_equal(b->req.status, 0);
    assert_int_equal(c->req.status, 0);
    end(&a);
    end(&b);
    end(&c);
    base.bad = UINT64_MAX;
    expect_version(5 * 8, 0); /* nothing bad was kept */
    close_tiers();
}

static void a_demand_read_promotes_the_prefetch_it_meets(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 16, .max_blocks = 64};
    struct reader *a, *b;

    (void)state;
    open_tiers(1, BUDGET, &limits);
    a = start(20, 1);
    assert_int_equal(base.reads, 3); /* 20; 16 to 19; 21 to 31 */
    assert_int_equal(base.blocks, 16);
    assert_int_equal(base.out[0]->class, TIER_DEMAND);
    assert_int_equal(base.out[1]->class, TIER_PREFETCH);
    b = start(17, 1);
    assert_int_equal(base.promoted, 1);
    base_answer_all();
    assert_true(a->done && b->done);
    end(&a);
    end(&b);
    a = start(30, 1);
    assert_true(a->done);
    end(&a);
    close_tiers();
}

static void a_huge_trim_changes_what_is_held(void **state)
{
    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    commit(8 * 100, 16, 1);
    commit(8 * 5000, 8, 1);
    commit(8 * 101, 8 * 4000, 0);
    base.fail = -EIO;
    expect_version(8 * 100, 1);
    expect_version(8 * 101, 0);
    expect_version(8 * 5000, 1);
    base.fail = 0;
    close_tiers();
}

static void on_idle(void *arg)
{
    *(bool *)arg = true;
}

static void stopping_waits_for_what_is_in_flight(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 16, .max_blocks = 64};
    struct reader *a;
    bool idle = false;

    (void)state;
    open_tiers(1, BUDGET, &limits);
    a = start(20, 1);
    base_answer(0);
    assert_true(a->done);
    end(&a);
    tier_ram_stop(top, on_idle, &idle);
    fake_run_posted(&loop);
    assert_false(idle);
    base_answer_all();
    assert_true(idle);
    close_tiers();
}

static void a_tier_may_go_while_a_prefetch_is_cancelled(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 16, .max_blocks = 64};
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, &limits);
    a = start(20, 1);
    base_answer(0);
    end(&a);
    tier_stack_free(&top);
    base.fail = -ECANCELED;
    base_answer_all();
    base.fail = 0;
    top = tier_ram_new(ram, &base.tier, 0, DISK_BLOCKS, NULL, "vm");
    expect_version(21 * 8, 0); /* asked anew: the first disk's blocks are not this one's */
    assert_int_equal(base.reads, 4);
    close_tiers();
}

static void a_grown_disk_reads_its_last_block_again(void **state)
{
    (void)state;
    open_tiers(1, BUDGET, NULL);
    tier_ram_set_nblocks(top, 100);
    expect_version(99 * 8, 0);
    base.version[99 * 8] = 4;
    tier_ram_set_nblocks(top, 200);
    expect_version(99 * 8, 4);
    close_tiers();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_block_is_fetched_once),
        cmocka_unit_test(long_misses_go_down_in_few_requests_and_join_in_memory),
        cmocka_unit_test(zeros_cost_no_page),
        cmocka_unit_test(a_write_replaces_a_block_that_is_held),
        cmocka_unit_test(a_write_is_laid_over_a_fill_in_flight),
        cmocka_unit_test(a_whole_write_answers_who_waits_for_a_fill),
        cmocka_unit_test(a_failed_fill_fails_its_readers_alone),
        cmocka_unit_test(a_demand_read_promotes_the_prefetch_it_meets),
        cmocka_unit_test(a_huge_trim_changes_what_is_held),
        cmocka_unit_test(stopping_waits_for_what_is_in_flight),
        cmocka_unit_test(a_tier_may_go_while_a_prefetch_is_cancelled),
        cmocka_unit_test(a_grown_disk_reads_its_last_block_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
