/* links: journal */
/* A region of the map against a plain array: who owns each sector, after any changes in any order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "map_region.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTS = 40 };
struct owner {
    uint64_t object; /* 0: nobody */
    bool zero;
    uint32_t frame_at;
    uint8_t frame_sector;
};
struct model {
    struct owner sector[REGION_SECTORS];
    int64_t live[OBJECTS + 1];
};

static void gone(void *arg, uint64_t object, uint32_t nsectors)
{
    ((struct model *)arg)->live[object] -= nsectors;
}

static void model_put(struct model *m, const struct region_entry *e, uint64_t from)
{
    for (uint32_t i = 0; i < e->nsectors; i++)
        if (!from || m->sector[e->sector + i].object == from)
            m->sector[e->sector + i] = (struct owner){e->object, e->zero, e->zero ? 0 : e->frame_at,
                                                      e->zero ? 0 : (uint8_t)(e->frame_sector + i)};
}

static void expect_same(const struct region *g, const struct model *m)
{
    int64_t live[OBJECTS + 1] = {0};
    unsigned in_block = 0, zeros = 0;

    for (uint32_t s = 0; s < REGION_SECTORS; s++) {
        const struct region_entry *e = region_find(g, s);
        struct owner o = {0};

        if (e && e->sector <= s)
            o = (struct owner){e->object, e->zero, e->zero ? 0 : e->frame_at,
                               e->zero ? 0 : (uint8_t)(e->frame_sector + s - e->sector)};
        assert_int_equal(o.object, m->sector[s].object);
        assert_int_equal(o.zero, m->sector[s].zero);
        assert_int_equal(o.frame_at, m->sector[s].frame_at);
        assert_int_equal(o.frame_sector, m->sector[s].frame_sector);
        if (o.object && !o.zero)
            live[o.object]++;
        in_block = (s % 8 ? in_block : 0) + (o.object != 0);
        zeros = (s % 8 ? zeros : 0) + o.zero;
        if (s % 8 == 7) {
            assert_int_equal(region_blocks(g).some >> s / 8 & 1, in_block > 0);
            assert_int_equal(region_blocks(g).all >> s / 8 & 1, in_block == 8);
            assert_int_equal(region_blocks(g).zero >> s / 8 & 1, zeros == 8);
        }
    }
    for (unsigned i = 1; i <= OBJECTS; i++)
        assert_int_equal(live[i], m->live[i]);
}

static struct region_entry random_entry(uint64_t object)
{
    struct region_entry e = {.object = object, .zero = rand() % 4 == 0};
    uint32_t n = 1 + (uint32_t)rand() % (rand() % 3 ? 16 : LOGOBJ_FRAME_SECTORS);

    e.nsectors = (uint16_t)n;
    e.sector = (uint16_t)((uint32_t)rand() % (REGION_SECTORS - n + 1));
    if (!e.zero) {
        e.frame_sector = (uint8_t)((uint32_t)rand() % (LOGOBJ_FRAME_SECTORS - n + 1));
        e.frame_at = (uint32_t)rand() % 5 * 1000;
        e.frame_bytes = 100;
    }
    return e;
}

static void as_a_plain_array(void **state)
{
    static struct region g, again;
    static uint8_t row[REGION_SECTORS * REGION_ENTRY_BYTES];

    (void)state;
    srand(11);
    for (unsigned round = 0; round < 300; round++) {
        struct model m = {0};

        g.n = 0;
        for (uint64_t object = 1; object <= OBJECTS; object++) {
            struct region_entry e = random_entry(object);
            uint64_t from = object > 1 && rand() % 4 == 0 ? 1 + (uint64_t)rand() % (object - 1) : 0;
            uint64_t through = rand() % 15 == 0 ? (uint64_t)rand() % object : 0;

            if (from) {
                uint32_t got = region_move(&g, &e, from, gone, &m);
                m.live[object] += e.zero ? 0 : got;
            } else {
                region_put(&g, &e, gone, &m);
                m.live[object] += e.zero ? 0 : e.nsectors;
            }
            model_put(&m, &e, from);
            region_drop(&g, through, gone, &m);
            for (uint32_t s = 0; s < REGION_SECTORS; s++)
                if (m.sector[s].object <= through)
                    m.sector[s] = (struct owner){0};
            expect_same(&g, &m);
            if (g.n) {
                assert_int_equal(region_read(&again, row, region_write(&g, row)), 0);
                expect_same(&again, &m);
            }
        }
    }
}

static void a_row_is_not_trusted(void **state)
{
    static struct region g;
    uint8_t row[2 * REGION_ENTRY_BYTES];
    struct region_entry e = {.sector = 8, .nsectors = 8, .object = 3, .frame_bytes = 50};
    struct model m = {0};

    (void)state;
    g.n = 0;
    region_put(&g, &e, gone, &m);
    assert_int_equal(region_write(&g, row), REGION_ENTRY_BYTES);
    memcpy(row + REGION_ENTRY_BYTES, row, REGION_ENTRY_BYTES); /* overlaps itself */
    assert_int_equal(region_read(&g, row, sizeof row), -EBADMSG);
    assert_int_equal(region_read(&g, row, REGION_ENTRY_BYTES - 1), -EBADMSG);
    row[2] = 2; /* 520 sectors */
    assert_int_equal(region_read(&g, row, REGION_ENTRY_BYTES), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_plain_array),
        cmocka_unit_test(a_row_is_not_trusted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
