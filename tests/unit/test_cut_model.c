/* links: cut_model */
/* The judge of cuts: it accepts what a target may have made of a history, and nothing else. Broken images
 * first, one by one; then small histories at random, where every set of writes is tried. */
#include "cut_model.h"
#include "stamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { DISKS = 2, SECTORS = 16 };

static char path[] = "/tmp/isthmus-cut-XXXXXX";
static const char vm[] = "vm1";
static uint8_t image[DISKS][SECTORS][STAMP_SECTOR];
static struct cut_model model;

static void stamp_sector(unsigned disk, uint32_t lba, uint32_t number)
{
    struct stamp s;

    stamp_make(&s, cut_disk_id(vm, disk), lba, number);
    memcpy(image[disk][lba], &s, sizeof s);
}

static int set_up(void **state)
{
    static const uint32_t sectors[DISKS] = {SECTORS, SECTORS};

    (void)state;
    for (unsigned d = 0; d < DISKS; d++)
        for (uint32_t s = 0; s < SECTORS; s++)
            stamp_sector(d, s, 0);
    if (!cut_create(path, vm, DISKS, sectors) || !cut_model_open(&model, path))
        return -1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cut_model_close(&model);
    return 0;
}

static void put(uint8_t disk, uint32_t number, bool zeros, uint32_t lba, uint32_t nsectors)
{
    for (uint32_t s = lba; s < lba + nsectors; s++)
        if (zeros)
            memset(image[disk][s], 0, STAMP_SECTOR);
        else
            stamp_sector(disk, s, number);
}

/* A write that is done at once; on the image, too, if it is to be there. */
static uint32_t written(uint8_t disk, bool zeros, uint32_t lba, uint32_t nsectors, bool there)
{
    uint32_t number = cut_begin(&model, disk, zeros, lba, nsectors);

    cut_done(&model, number);
    if (there)
        put(disk, number, zeros, lba, nsectors);
    return number;
}

static bool judged(enum cut_must must, uint64_t before_us)
{
    for (uint8_t d = 0; d < DISKS; d++)
        cut_show(&model, d, 0, image[d][0], SECTORS);
    return cut_judge(&model, must, before_us);
}

static void reopen(void)
{
    cut_model_close(&model);
    assert_true(cut_model_open(&model, path));
}

static void all_that_was_acknowledged(void **state)
{
    (void)state;
    written(0, false, 2, 4, true);
    written(1, false, 0, 16, true);
    written(0, true, 4, 8, true);
    reopen();
    assert_true(judged(CUT_ACKNOWLEDGED, 0));
}

static void a_lost_write(void **state)
{
    (void)state;
    written(0, false, 2, 4, true);
    written(1, false, 0, 2, false);
    assert_false(judged(CUT_ACKNOWLEDGED, 0));
    assert_int_equal(model.lost, 1);
    assert_int_equal(model.torn, 0);
    reopen();
    assert_true(judged(CUT_NOTHING, 0)); /* as a cut it is good */
}

static void lost_zeros(void **state)
{
    (void)state;
    written(0, true, 2, 4, false);
    assert_false(judged(CUT_ACKNOWLEDGED, 0));
    assert_int_equal(model.lost, 1);
}

static void half_a_write(void **state)
{
    uint32_t number = written(0, false, 2, 4, false);

    (void)state;
    put(0, number, false, 2, 3);
    assert_false(judged(CUT_NOTHING, 0));
    assert_int_equal(model.torn, 1);
}

static void half_of_one_under_way(void **state)
{
    uint32_t number = cut_begin(&model, 0, false, 2, 4);

    (void)state;
    put(0, number, false, 5, 1);
    assert_false(judged(CUT_ACKNOWLEDGED, 0));
    assert_int_equal(model.torn, 1);
}

static void disks_at_different_numbers(void **state)
{
    (void)state;
    written(0, false, 2, 4, false);
    written(1, false, 2, 4, true);
    assert_false(judged(CUT_NOTHING, 0));
    assert_int_equal(model.torn, 1);
}

/* The second is there; the first, which was done before it, is behind a later state of the same sectors only.
 */
static void an_older_state_of_a_sector(void **state)
{
    (void)state;
    written(0, false, 0, 1, true);
    written(0, false, 0, 1, false);
    written(0, false, 8, 1, true);
    assert_false(judged(CUT_NOTHING, 0));
}

static void writes_side_by_side_may_come_in_either_order(void **state)
{
    uint32_t a = cut_begin(&model, 0, false, 0, 4), b = cut_begin(&model, 1, false, 0, 4);

    (void)state;
    cut_done(&model, a);
    cut_done(&model, b);
    put(1, b, false, 0, 4);
    assert_true(judged(CUT_NOTHING, 0));
    reopen();
    put(1, 0, false, 0, 4);
    put(0, a, false, 0, 4);
    assert_true(judged(CUT_NOTHING, 0));
}

static void another_disks_sector_and_an_altered_one(void **state)
{
    (void)state;
    memcpy(image[0][3], image[1][3], STAMP_SECTOR);
    assert_false(judged(CUT_NOTHING, 0));
    reopen();
    stamp_sector(0, 3, 0);
    image[1][7][300] ^= 1;
    assert_false(judged(CUT_NOTHING, 0));
    assert_int_equal(model.torn, 1);
}

static void what_was_synced_must_be_there(void **state)
{
    (void)state;
    written(0, false, 0, 1, true);
    cut_flush(&model, false);
    written(0, false, 1, 1, false);
    cut_flush(&model, true);
    reopen();
    assert_true(judged(CUT_SYNCED, 0));
    reopen();
    cut_flush(&model, false);
    cut_flush(&model, true);
    assert_false(judged(CUT_SYNCED, 0));
    assert_int_equal(model.lost, 1);
}

static void what_was_there_by_a_time(void **state)
{
    (void)state;
    written(0, false, 0, 1, false);
    assert_true(judged(CUT_SINCE, model.writes[0].done_us));
    reopen();
    assert_false(judged(CUT_SINCE, model.writes[0].done_us + 1));
}

static void one_under_way_that_was_settled_does_not_come_back(void **state)
{
    uint32_t number = cut_begin(&model, 0, false, 4, 2);

    (void)state;
    assert_true(judged(CUT_ACKNOWLEDGED, 0));
    cut_settle(&model);
    written(0, false, 4, 1, true);
    reopen();
    assert_true(judged(CUT_ACKNOWLEDGED, 0));
    reopen();
    put(0, number, false, 5, 1);
    assert_false(judged(CUT_NOTHING, 0));
}

static void what_was_settled_stays(void **state)
{
    uint32_t flying = cut_begin(&model, 1, false, 4, 2), lost = written(0, false, 0, 2, false);

    (void)state;
    put(1, flying, false, 4, 2);
    assert_true(judged(CUT_NOTHING, 0));
    cut_settle(&model);
    reopen();
    assert_true(judged(CUT_ACKNOWLEDGED, 0)); /* the one under way counts now, the lost one does not */
    reopen();
    put(0, lost, false, 0, 2);
    assert_false(judged(CUT_NOTHING, 0)); /* and does not come back */
}

/* --- against trying everything ---------------------------------------------------------------------------*/

enum { WRITES = 7, ROUNDS = 3000 };

static struct cut_write made[WRITES];

static void play(unsigned set)
{
    for (unsigned d = 0; d < DISKS; d++)
        put((uint8_t)d, 0, false, 0, SECTORS);
    for (unsigned i = 0; i < WRITES; i++)
        if (set & 1u << i)
            put(made[i].disk, made[i].number, made[i].zeros, made[i].lba, made[i].nsectors);
}

/* With each write all that were done before it was begun. */
static bool is_closed(unsigned set)
{
    for (unsigned i = 0; i < WRITES; i++)
        for (unsigned k = 0; k < WRITES; k++)
            if (set & 1u << i && !(set & 1u << k) && made[k].done < made[i].begun)
                return false;
    return true;
}

static bool overlaps_one_under_way(const struct cut_write *w, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (made[i].done == UINT64_MAX && made[i].disk == w->disk &&
            w->lba < made[i].lba + made[i].nsectors && made[i].lba < w->lba + w->nsectors)
            return true;
    return false;
}

static void finish(unsigned i, uint64_t *time)
{
    if (made[i].done != UINT64_MAX)
        return;
    cut_done(&model, made[i].number);
    made[i].done = ++*time;
}

static void make_history(void)
{
    uint64_t time = 0;

    for (unsigned i = 0; i < WRITES; i++) {
        struct cut_write *w = &made[i];

        while (i > 0 && random() % 3 != 0)
            finish((unsigned)random() % i, &time);
        do {
            *w = (struct cut_write){.disk = (uint8_t)(random() % DISKS),
                                    .zeros = random() % 3 == 0,
                                    .lba = (uint32_t)random() % 6,
                                    .nsectors = 1 + (uint32_t)random() % 3,
                                    .done = UINT64_MAX};
            if (i > 0)
                finish((unsigned)random() % i, &time);
        } while (overlaps_one_under_way(w, i));
        w->number = cut_begin(&model, w->disk, w->zeros, w->lba, w->nsectors);
        w->begun = ++time;
    }
    while (random() % 3 != 0)
        finish((unsigned)random() % WRITES, &time);
}

static bool some_set_looks_like(const uint8_t *seen, bool acknowledged)
{
    for (unsigned set = 0; set < 1u << WRITES; set++) {
        bool all = true;

        for (unsigned i = 0; i < WRITES; i++)
            all &= !acknowledged || made[i].done == UINT64_MAX || (set & 1u << i);
        if (!all || !is_closed(set))
            continue;
        play(set);
        if (memcmp(image, seen, sizeof image) == 0)
            return true;
    }
    return false;
}

static void it_says_what_trying_every_set_says(void **state)
{
    static uint8_t seen[sizeof image];
    unsigned good = 0, bad = 0;

    srandom(20261128);
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool acknowledged = random() % 4 == 0, expected;

        tear_down(state);
        assert_int_equal(set_up(state), 0);
        make_history();
        play((unsigned)random() % (1u << WRITES));
        if (random() % 2) { /* some sectors of another state */
            unsigned i = (unsigned)random() % WRITES;

            put(made[i].disk, made[i].number, made[i].zeros, made[i].lba, 1);
        }
        memcpy(seen, image, sizeof image);
        expected = some_set_looks_like(seen, acknowledged);
        memcpy(image, seen, sizeof image);
        assert_int_equal(judged(acknowledged ? CUT_ACKNOWLEDGED : CUT_NOTHING, 0), expected);
        good += expected;
        bad += !expected;
    }
    assert_true(good > ROUNDS / 10 && bad > ROUNDS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_that_was_acknowledged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_zeros, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_of_one_under_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(disks_at_different_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_older_state_of_a_sector, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writes_side_by_side_may_come_in_either_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_disks_sector_and_an_altered_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_synced_must_be_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_there_by_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_under_way_that_was_settled_does_not_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_settled_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_says_what_trying_every_set_says, set_up, tear_down),
    };
    int status, fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    status = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return status;
}
