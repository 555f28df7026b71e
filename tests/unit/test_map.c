/* links: journal */
/* The map of a VM against a plain array: objects applied, again, moved, dropped, read back after reopening.
 */
#include "journal_fixture.h"

#include "map.h"
#include "map_region.h"

enum { SECTORS = 4096, DISKS = 2, OBJECTS_MAX = 64 };

struct where {
    uint64_t object; /* 0: absent */
    bool zero;
    uint32_t frame_at, frame_sector;
};
struct world {
    struct fixture *f;
    struct map *map;
    struct map_state state;
    struct where model[DISKS][SECTORS];
};

static void world_open(struct world *w)
{
    assert_int_equal(fixture_open_journal(w->f), 0);
    if (map_open(&w->map, w->f->journal, w->f->id, "vm", &w->f->why) != 0)
        fail_msg("%s", w->f->why.text);
}

static void world_close(struct world *w)
{
    map_close(&w->map);
    journal_close(&w->f->journal);
}

static void install(struct fixture *f, void *arg)
{
    void **both = arg;

    (void)f;
    map_install(both[0], (struct map_change **)both[1]);
}

static void install_now(struct world *w, struct map_change **c)
{
    on_loop(w->f, install, (void *[]){w->map, c});
}

static struct logobj_entry random_entry(uint64_t object)
{
    uint32_t kind = (uint32_t)rand() % 8;
    struct logobj_entry e = {.kind = kind == 0 ? LOGOBJ_ZERO : LOGOBJ_DATA,
                             .disk = (uint8_t)(rand() % DISKS)};

    e.seq = object;
    e.nsectors = 1 + (uint32_t)rand() % (kind == 0 ? 1500 : rand() % 3 ? 16 : LOGOBJ_FRAME_SECTORS);
    e.lba = (uint64_t)rand() % (SECTORS - e.nsectors);
    if (kind) {
        e.frame_at = (uint32_t)rand() % 50 * 1000;
        e.frame_bytes = 900;
        e.frame_sector = (uint8_t)((uint32_t)rand() % (LOGOBJ_FRAME_SECTORS + 1 - e.nsectors));
    }
    return e;
}

static void model_apply(struct world *w, uint64_t object, const struct logobj_entry *e)
{
    for (uint32_t i = 0; i < e->nsectors; i++) {
        struct where *s = &w->model[e->disk][e->lba + i];

        if (!logobj_is_moved(e->kind) || s->object == e->seq)
            *s = logobj_is_data(e->kind) ? (struct where){object, false, e->frame_at, e->frame_sector + i}
                                         : (struct where){object, true, 0, 0};
    }
}

/* An object of some entries, its moved ones first; applied `times` times. */
static void apply_one(struct world *w, uint64_t object, unsigned times)
{
    struct logobj_entry e[100];
    struct logobj_head h = {.first = object, .last = object, .index_bytes = 100, .bytes = 5000};
    unsigned n = 0, moved = object > 3 ? (unsigned)rand() % 10 : 0;

    for (; n < moved; n++) {
        e[n] = random_entry(object);
        e[n].kind = e[n].kind == LOGOBJ_ZERO ? LOGOBJ_MOVED_ZERO : LOGOBJ_MOVED_DATA;
        e[n].seq = 1 + (uint64_t)rand() % (object - 1);
    }
    for (; n < 100; n++)
        e[n] = random_entry(object);
    w->state.last = w->state.committed = object;
    memset(w->state.tag, (int)object, sizeof w->state.tag);
    for (unsigned i = 0; i < times; i++) {
        struct map_change *c;

        if (map_apply(w->map, &h, e, n, &w->state, i == 0, &c, &w->f->why) != 0)
            fail_msg("%s", w->f->why.text);
        install_now(w, &c);
    }
    for (unsigned i = 0; i < n; i++)
        model_apply(w, object, &e[i]);
}

static void expect_piece(const struct world *w, unsigned disk, const struct map_piece *p)
{
    for (uint32_t i = 0; i < p->nsectors; i++) {
        const struct where *s = &w->model[disk][p->lba + i];

        assert_int_equal(s->object == 0, p->kind == PIECE_ABSENT);
        if (p->kind == PIECE_ABSENT)
            continue;
        assert_int_equal(s->zero, p->kind == PIECE_ZERO);
        if (p->kind != PIECE_DATA)
            continue;
        assert_int_equal(s->object, p->object);
        assert_int_equal(s->frame_at, p->frame_at);
        assert_int_equal(s->frame_sector, p->frame_sector + i);
    }
}

static void expect_blocks(const struct world *w, unsigned disk)
{
    for (uint64_t b = 0; b < SECTORS / 8; b++) {
        bool some = false;

        for (unsigned i = 0; i < 8; i++)
            some |= w->model[disk][b * 8 + i].object != 0;
        assert_int_equal(map_knows(w->map, (uint8_t)disk, b), some);
    }
}

static void expect_counts(void *arg, const struct map_object *o)
{
    const struct world *w = arg;
    uint64_t live = 0;

    for (unsigned d = 0; d < DISKS; d++)
        for (unsigned s = 0; s < SECTORS; s++)
            live += w->model[d][s].object == o->first && !w->model[d][s].zero;
    assert_int_equal(o->live_sectors, live);
}

static void expect_world(struct world *w)
{
    struct map_piece pieces[20];

    for (unsigned d = 0; d < DISKS; d++) {
        for (uint64_t at = 0; at < SECTORS;) {
            unsigned n;
            uint32_t covered, sum = 0;

            assert_int_equal(
                map_lookup(w->map, (uint8_t)d, at, (uint32_t)(SECTORS - at), pieces, 20, &n, &covered), 0);
            for (unsigned i = 0; i < n; i++) {
                assert_int_equal(pieces[i].lba, at + sum);
                expect_piece(w, d, &pieces[i]);
                sum += pieces[i].nsectors;
            }
            assert_int_equal(sum, covered);
            assert_true(covered > 0);
            at += covered;
        }
        expect_blocks(w, d);
    }
    map_objects_each(w->map, expect_counts, w);
    assert_memory_equal(map_state(w->map), &w->state, sizeof w->state);
}

static struct world *world_new(void)
{
    struct world *w = xcalloc(1, sizeof *w);

    w->f = fixture_new();
    world_open(w);
    return w;
}

static void world_free(struct world *w)
{
    world_close(w);
    fixture_free(w->f);
    free(w);
}

static void as_a_plain_array(void **state)
{
    struct world *w = world_new();

    (void)state;
    srand(5);
    for (uint64_t object = 1; object <= OBJECTS_MAX; object++) {
        apply_one(w, object, object % 5 == 0 ? 2 : 1);
        if (object % 8 == 0)
            expect_world(w);
        if (object % 16 == 0) {
            world_close(w);
            world_open(w);
            expect_world(w);
        }
    }
    world_free(w);
}

static void what_is_applied_on_prem_goes(void **state)
{
    struct world *w = world_new();
    struct map_change *c;
    uint64_t live, bytes, firsts[40];
    unsigned n;

    (void)state;
    srand(6);
    for (uint64_t object = 1; object <= 50; object++)
        apply_one(w, object, 1);
    w->state.applied = 40;
    assert_int_equal(map_drop(w->map, 40, &w->state, &c, &w->f->why), 0);
    install_now(w, &c);
    for (unsigned d = 0; d < DISKS; d++)
        for (unsigned s = 0; s < SECTORS; s++)
            if (w->model[d][s].object <= 40)
                w->model[d][s] = (struct where){0};
    expect_world(w);
    for (unsigned i = 0; i < 40; i++)
        firsts[i] = i + 1;
    assert_int_equal(map_forget(w->map, firsts, 40, &w->f->why), 0);
    map_sums(w->map, &live, &bytes, &n);
    assert_int_equal(n, 10);
    assert_int_equal(bytes, 10 * 5000);
    world_close(w);
    world_open(w);
    expect_world(w);
    map_sums(w->map, &live, &bytes, &n);
    assert_int_equal(n, 10);
    world_free(w);
}

static void a_disk_that_is_gone_goes_alone(void **state)
{
    struct world *w = world_new();
    struct map_change *c;

    (void)state;
    srand(7);
    for (uint64_t object = 1; object <= 20; object++)
        apply_one(w, object, 1);
    for (uint8_t disk = 0; disk < 3; disk += 2) { /* nothing was ever written to the other */
        assert_int_equal(map_drop_disk(w->map, disk, &c, &w->f->why), 0);
        install_now(w, &c);
    }
    memset(w->model[0], 0, sizeof w->model[0]);
    expect_world(w);
    world_close(w);
    world_open(w);
    expect_world(w);
    world_free(w);
}

/* More regions than one batch or one run holds. */
static void a_whole_disk_is_unmapped(void **state)
{
    struct world *w = world_new();
    struct logobj_entry e = {.kind = LOGOBJ_ZERO, .nsectors = 70000u * REGION_SECTORS, .lba = 100, .seq = 1};
    struct logobj_head h = {.first = 1, .last = 1, .index_bytes = 100, .bytes = 5000};
    struct map_change *c;
    struct map_piece p;
    uint32_t covered;
    unsigned n;
    bool zeros;

    (void)state;
    assert_int_equal(map_zeros(w->map, 0, 5, UINT64_MAX, &zeros), UINT64_MAX);
    assert_false(zeros);
    if (map_apply(w->map, &h, &e, 1, &w->state, true, &c, &w->f->why) != 0)
        fail_msg("%s", w->f->why.text);
    install_now(w, &c);
    assert_false(map_knows(w->map, 0, 11));
    assert_true(map_knows(w->map, 0, 12));
    assert_false(map_holds(w->map, 0, 12)); /* the source disk has its first sectors */
    assert_true(map_holds(w->map, 0, 13));
    assert_int_equal(map_alike(w->map, 0, 12, 100), 1);
    assert_int_equal(map_alike(w->map, 0, 13, 100), 100);
    assert_int_equal(map_zeros(w->map, 0, 2, UINT64_MAX, &zeros), 11);
    assert_false(zeros);
    assert_int_equal(map_zeros(w->map, 0, 13, UINT64_MAX, &zeros), UINT64_C(70000) * REGION_BLOCKS - 1);
    assert_true(zeros);
    assert_int_equal(map_zeros(w->map, 0, 63, 3, &zeros), 3);
    assert_true(map_knows(w->map, 0, UINT64_C(70000) * REGION_BLOCKS));
    assert_int_equal(map_lookup(w->map, 0, UINT64_C(69999) * REGION_SECTORS, 8, &p, 1, &n, &covered), 0);
    assert_int_equal(p.kind, PIECE_ZERO);
    w->state.applied = 1;
    assert_int_equal(map_drop(w->map, 1, &w->state, &c, &w->f->why), 0);
    install_now(w, &c);
    assert_int_equal(map_alike(w->map, 0, 0, UINT32_MAX), UINT32_MAX);
    world_free(w);
}

static void another_vm_is_another_map(void **state)
{
    struct world *w = world_new();
    struct map *other;
    uint8_t id[VMLOG_ID_BYTES] = "another vm";

    (void)state;
    apply_one(w, 1, 1);
    assert_int_equal(map_open(&other, w->f->journal, id, "other", &w->f->why), 0);
    assert_int_equal(map_state(other)->committed, 0);
    map_close(&other);
    map_close(&w->map);
    assert_int_equal(map_delete(w->f->journal, w->f->id, &w->f->why), 0);
    assert_int_equal(map_open(&w->map, w->f->journal, w->f->id, "vm", &w->f->why), 0);
    memset(&w->state, 0, sizeof w->state);
    memset(w->model, 0, sizeof w->model);
    expect_world(w);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_plain_array),
        cmocka_unit_test(what_is_applied_on_prem_goes),
        cmocka_unit_test(a_disk_that_is_gone_goes_alone),
        cmocka_unit_test(a_whole_disk_is_unmapped),
        cmocka_unit_test(another_vm_is_another_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
