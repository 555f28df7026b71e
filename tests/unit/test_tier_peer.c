/* links: cache pki */
/* What a VM has left in the memory of the edge that had it, asked for by the edge that has it now. */
#include "tier_peer_fixture.h"

static void what_was_left_there_is_not_asked_of_what_is_far(void **state)
{
    (void)state;
    read_at(had, 0, 200);
    write_at(had, 30); /* the disk as it went, not as it was once read */
    write_at(had, 300);
    hand_over(BLOCKS * BLOCK_SECTORS);
    read_at(has, 0, 200);
    read_at(has, 300, 1);
    assert_int_equal(far.blocks, 0);
    assert_int_equal(count("isthmus_peer_cache_asked_total"), 201);
    assert_int_equal(count("isthmus_peer_cache_hits_total"), 201);
    assert_true(count("isthmus_peer_cache_bytes_total") > 100 * BLOCK_BYTES);
    read_at(has, 0, 200);
    assert_int_equal(questions, 4 + 1); /* it is here now */
}

static void the_rest_comes_from_far(void **state)
{
    (void)state;
    read_at(had, 10, 5);
    read_at(had, 20, 1);
    hand_over(BLOCKS * BLOCK_SECTORS);
    read_at(has, 0, 40);
    assert_int_equal(far.blocks, 34);
    assert_int_equal(count("isthmus_peer_cache_hits_total"), 6);
}

/* What is evicted from the owner's memory must not come back as it was. */
static void what_was_written_since_is_not_asked_for(void **state)
{
    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    tier_peer_written(asks, 5 * BLOCK_SECTORS + 7, 2); /* of blocks 5 and 6, */
    version[5]++;
    version[6]++;
    tier_peer_written(asks, 50 * BLOCK_SECTORS, UINT32_MAX); /* and to the end */
    for (unsigned i = 50; i < BLOCKS; i++)
        version[i]++;
    read_at(has, 0, 64);
    assert_int_equal(far.blocks, 2 + 14);
    read_at(has, 2000, 20);
    assert_int_equal(questions, 1); /* there is nothing to be asked for */
}

static void what_is_written_while_an_answer_is_on_its_way_counts(void **state)
{
    (void)state;
    read_at(had, 0, 8);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    ask(has, 0, 8, TIER_DEMAND);
    until(is_held);
    write_at(has, 3);
    look_at(held);
    look();
    assert_int_equal(far.blocks, 1); /* asked for block 3, for nothing: the write is what is read */
}

static void of_another_record_or_epoch_nothing_is_here(void **state)
{
    struct tier_peer_conf c[] = {conf_of(PATIENT_MS), conf_of(PATIENT_MS), conf_of(PATIENT_MS),
                                 conf_of(PATIENT_MS), conf_of(PATIENT_MS)};
    const unsigned n = sizeof c / sizeof *c;

    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 0; i < BLOCKS; i++) /* so that it would be seen */
        version[i]++;
    c[0].seq = SEQ + 1;
    c[1].epoch = EPOCH;
    c[2].epoch = EPOCH + 2;
    c[3].disk = NUMBER + 1;
    c[4].id[0] = 8;
    for (unsigned i = 0; i < n; i++) {
        close_has();
        open_has(&c[i]);
        read_at(has, 0, 64);
        assert_int_equal(questions, i + 1);
    }
    assert_int_equal(far.blocks, n * 64);
    close_has(); /* and the right ones, when it is forgotten */
    c[0].seq = SEQ;
    open_has(&c[0]);
    remains_forget(remains, left.id);
    read_at(has, 0, 64);
    assert_int_equal(far.blocks, (n + 1) * 64);
}

/* It was padded with zeros: of a disk that has grown it would be wrong. */
static void a_block_that_was_not_whole_is_not_here(void **state)
{
    (void)state;
    read_at(had, 0, 12);
    hand_over(11 * BLOCK_SECTORS + 1);
    version[11]++;
    read_at(has, 0, 12);
    assert_int_equal(far.blocks, 1);
}

static void an_edge_that_dies_under_way_is_not_waited_for(void **state)
{
    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    ask(has, 0, 64, TIER_DEMAND);
    until(is_held);
    link_free(&other);
    look();
    assert_int_equal(far.blocks, 64);
    read_at(has, 64, 64); /* nor asked */
    assert_int_equal(far.blocks, 128);
    assert_int_equal(questions, 1);
    link_reply(&held, 0, NULL, NULL, 0); /* to nobody */
}

static void who_is_late_is_not_waited_for(void **state)
{
    struct tier_peer_conf c = conf_of(5);

    (void)state;
    close_has();
    open_has(&c);
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    far.keep = true;
    ask(has, 0, 64, TIER_PREFETCH);
    until(is_held);
    until(is_far_asked);
    assert_int_equal(count("isthmus_peer_cache_late_total"), 1);
    assert_int_equal(far.kept->class, TIER_PREFETCH);
    tier_promote(has, &one.req);
    assert_int_equal(far.promoted, 1);
    look_at(held); /* it has them all, */
    until(nothing_is_out);
    assert_false(one.done);
    for (unsigned i = 0; i < 64; i++) /* and they are of no use any more */
        version[i]++;
    far_fill(far.kept);
    far.kept->status = 0;
    far.kept->done(far.kept);
    look();
}

static void who_has_little_is_asked_less(void **state)
{
    (void)state;
    read_at(had, 0, 1);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 1000; i < 3000; i++)
        read_at(has, i, 1);
    assert_in_range(questions, 8, 14);
    assert_int_equal(far.blocks, 2000);
    read_at(had, 3000, 200); /* in a real one nothing comes; here it has much all at once */
    far.blocks = 0;
    for (unsigned i = 3000; i < 3200; i++)
        read_at(has, i, 1);
    assert_true(far.blocks < 100);
}

static void a_disk_that_goes_waits_for_nobody(void **state)
{
    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    ask(has, 0, 64, TIER_DEMAND);
    until(is_held);
    tier_stack_quiesce(has);
    until(is_done);
    assert_int_equal(one.req.status, -ECANCELED);
    assert_int_equal(far.blocks, 0);
    look_at(held);
}

static void on_nothing(struct block_req *r)
{
    block_unref(r->blocks[0]);
}

static bool are_asked(void)
{
    return questions == 32;
}

static void few_questions_are_under_way(void **state)
{
    struct block *blocks[50] = {NULL};
    struct block_req reqs[50];

    (void)state;
    read_at(had, 0, 50);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 0; i < 50; i++) {
        reqs[i] = (struct block_req){.first = i, .count = 1, .blocks = &blocks[i], .done = on_nothing};
        if (tier_read(has, &reqs[i]))
            block_unref(blocks[i]);
    }
    assert_int_equal(far.blocks, 50 - 32);
    assert_int_equal(under_way, 32);
    until(are_asked);
    until(nothing_is_out);
    under_way = 64; /* by other disks */
    read_at(has, 100, 1);
    assert_int_equal(questions, 32);
    under_way = 0;
}

static void make_room(struct tier *noise, uint64_t first, uint32_t n)
{
    ask(noise, first, n, TIER_DEMAND);
    until(is_done);
    for (uint32_t i = 0; i < n; i++)
        block_unref(one.blocks[i]);
}

/* Reads and writes of a disk at its new owner, whose memory is small, in any order; the other's forgets. */
static void it_is_never_as_it_was(void **state)
{
    struct tier *noise = tier_ram_new(other_ram, &far.tier, 1, BLOCKS, NULL, "vm2");
    uint64_t random = 42;

    (void)state;
    for (unsigned i = 0; i < 1000; i += 100)
        read_at(had, i, 100);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 0; i < 4000; i++) {
        unsigned at, n;

        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        at = (unsigned)(random >> 40) % 1200;
        n = 1 + (unsigned)(random >> 33) % 100;
        if (i % 4 == 0)
            write_at(has, at);
        else
            read_at(has, i % 16 == 1 ? at + 1200 : at, n);
        if (i % 64 == 0)
            make_room(noise, at, 20);
    }
    assert_true(count("isthmus_peer_cache_hits_total") > 1000);
    close_tiers(&noise);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_left_there_is_not_asked_of_what_is_far, setup, teardown),
        cmocka_unit_test_setup_teardown(the_rest_comes_from_far, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_written_since_is_not_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_written_while_an_answer_is_on_its_way_counts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(of_another_record_or_epoch_nothing_is_here, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_that_was_not_whole_is_not_here, setup, teardown),
        cmocka_unit_test_setup_teardown(an_edge_that_dies_under_way_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_late_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_little_is_asked_less, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_goes_waits_for_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(few_questions_are_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_never_as_it_was, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
