/* links: journal */
/* The extent index against a plain array that says who wrote each sector last, over thousands of writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "extents.h"

enum { DISK = 4096, WRITES = 6000, PARTS = 16 };

struct model {
    struct {
        uint64_t seq; /* 0: nobody */
        uint32_t offset;
        enum record_type type;
    } sector[DISK];
    struct {
        uint32_t nsectors;
        enum record_type type;
        bool dead, part_dead[PARTS];
    } record[WRITES + 1];
};

static void on_dead(void *arg, uint64_t seq, uint32_t number)
{
    struct model *m = arg;

    assert_true(seq >= 1 && seq <= WRITES);
    assert_false(m->record[seq].dead);
    if (number == EXTENTS_HEADER) {
        m->record[seq].dead = true;
        return;
    }
    assert_true(number < PARTS);
    assert_int_equal(m->record[seq].type, RECORD_WRITE);
    assert_false(m->record[seq].part_dead[number]);
    m->record[seq].part_dead[number] = true;
}

static void model_apply(struct model *m, enum record_type type, uint64_t seq, uint64_t lba, uint32_t n)
{
    m->record[seq].nsectors = n;
    m->record[seq].type = type;
    for (uint32_t i = 0; i < n; i++) {
        m->sector[lba + i].seq = seq;
        m->sector[lba + i].offset = i;
        m->sector[lba + i].type = type;
    }
}

/* Every piece says of each of its sectors what the model says. */
static void compare(const struct extents *x, const struct model *m, uint64_t lba, uint32_t n, unsigned max)
{
    struct vmlog_piece pieces[64];
    uint32_t covered;
    unsigned count = extents_pieces(x, lba, n, pieces, max, &covered);
    uint64_t at = lba;
    bool all = n > 0;

    assert_true(covered <= n && count <= max);
    assert_true(covered == n || count == max);
    for (unsigned i = 0; i < count; i++) {
        const struct vmlog_piece *p = &pieces[i];
        assert_int_equal(p->lba, at);
        assert_true(p->nsectors > 0);
        for (uint32_t s = 0; s < p->nsectors; s++, at++) {
            if (m->sector[at].seq == 0) {
                assert_int_equal(p->kind, PIECE_ABSENT);
            } else if (m->sector[at].type == RECORD_ZERO) {
                assert_int_equal(p->kind, PIECE_ZERO);
            } else {
                assert_int_equal(p->kind, PIECE_DATA);
                assert_int_equal(p->seq, m->sector[at].seq);
                assert_int_equal(p->part * PART_SECTORS + p->part_sector + s, m->sector[at].offset);
                assert_true(p->part_sector + p->nsectors <= PART_SECTORS);
            }
        }
    }
    assert_int_equal(at, lba + covered);
    for (uint32_t i = 0; i < n; i++)
        all &= m->sector[lba + i].seq != 0 && m->sector[lba + i].type == RECORD_WRITE;
    assert_int_equal(all, extents_covered(x, lba, n));
}

/* What is dead is exactly what no sector points to, and the counts add up. */
static void check_accounts(const struct extents *x, const struct model *m, uint64_t newest)
{
    static uint8_t alive[WRITES + 1][PARTS + 1];
    uint64_t records = 0, cost = extents_count(x) * EXTENT_COST;

    memset(alive, 0, sizeof alive);
    for (int i = 0; i < DISK; i++) {
        alive[m->sector[i].seq][PARTS] = 1;
        alive[m->sector[i].seq][m->sector[i].offset / PART_SECTORS] = 1;
    }
    for (uint64_t seq = 1; seq <= newest; seq++) {
        uint32_t nparts = record_parts(m->record[seq].type, m->record[seq].nsectors);
        assert_int_equal(m->record[seq].dead, !alive[seq][PARTS]);
        if (alive[seq][PARTS]) {
            records++;
            cost += RECORD_COST;
        }
        for (uint32_t i = 0; i < nparts; i++) {
            assert_int_equal(m->record[seq].part_dead[i], !alive[seq][i]);
            if (alive[seq][i])
                cost += (uint64_t)record_part_sectors(m->record[seq].nsectors, i) * SECTOR;
        }
    }
    assert_int_equal(extents_records(x), records);
    assert_int_equal(extents_cost(x), cost);
}

static void play(unsigned seed, uint32_t longest, unsigned zeroes_percent)
{
    struct model *m = calloc(1, sizeof *m);
    struct extents *x = extents_new(on_dead, m);

    srand(seed);
    for (uint64_t seq = 1; seq <= WRITES; seq++) {
        uint32_t n = 1 + (uint32_t)rand() % longest;
        uint64_t lba = (uint64_t)rand() % (DISK - n + 1);
        enum record_type type = (unsigned)rand() % 100 < zeroes_percent ? RECORD_ZERO : RECORD_WRITE;
        uint64_t before = extents_cost(x);

        if (rand() % 4 == 0)
            lba &= ~UINT64_C(63);
        extents_apply(x, type, seq, lba, n);
        model_apply(m, type, seq, lba, n);
        assert_true(extents_cost(x) <= before + extents_cost_of(type, n));
        n = 1 + (uint32_t)rand() % 512;
        compare(x, m, (uint64_t)rand() % (DISK - n + 1), n, 1 + (unsigned)rand() % 64);
        if (seq % 500 == 0) {
            check_accounts(x, m, seq);
            for (uint64_t at = 0; at < DISK; at += 64)
                compare(x, m, at, 64, 64);
        }
    }
    extents_free(&x);
    free(m);
}

static void small_writes(void **state)
{
    (void)state;
    play(1, 16, 10);
}

static void writes_of_many_parts(void **state)
{
    (void)state;
    play(2, 1024, 30);
}

static void all_sizes(void **state)
{
    (void)state;
    for (unsigned seed = 3; seed < 6; seed++)
        play(seed, seed % 2 ? 200 : 2000, 5);
}

static void count_dead(void *arg, uint64_t seq, uint32_t number)
{
    (void)seq, (void)number;
    ++*(unsigned *)arg;
}

static void a_rewrite_keeps_the_index_small(void **state)
{
    unsigned dead = 0;
    struct extents *x = extents_new(count_dead, &dead);

    (void)state;
    for (uint64_t seq = 1; seq <= 100; seq++)
        extents_apply(x, RECORD_WRITE, seq, 80, 8);
    assert_int_equal(extents_count(x), 1);
    assert_int_equal(extents_records(x), 1);
    assert_int_equal(dead, 99 * 2);
    assert_int_equal(extents_cost(x), EXTENT_COST + RECORD_COST + 8 * SECTOR);
    extents_free(&x);
}

static void ranges_at_the_end_of_the_address_space(void **state)
{
    unsigned dead = 0;
    struct extents *x = extents_new(count_dead, &dead);
    struct vmlog_piece p[4];
    uint64_t far = UINT64_MAX / SECTOR - 8;
    uint32_t covered;

    (void)state;
    extents_apply(x, RECORD_ZERO, 1, 0, UINT32_MAX);
    extents_apply(x, RECORD_WRITE, 2, far, 8);
    assert_int_equal(extents_pieces(x, far - 8, 16, p, 4, &covered), 2);
    assert_int_equal(covered, 16);
    assert_int_equal(p[0].kind, PIECE_ABSENT);
    assert_int_equal(p[1].kind, PIECE_DATA);
    assert_int_equal(extents_pieces(x, UINT32_MAX - 4, 8, p, 4, &covered), 2);
    assert_int_equal(p[0].kind, PIECE_ZERO);
    assert_int_equal(p[0].nsectors, 4);
    extents_free(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_writes),
        cmocka_unit_test(writes_of_many_parts),
        cmocka_unit_test(all_sizes),
        cmocka_unit_test(a_rewrite_keeps_the_index_small),
        cmocka_unit_test(ranges_at_the_end_of_the_address_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
