/* links: journal store link pki common */
/* A VM's cuts reach its source disks: what is sent is the map at the cut to the sector, whatever is written
 * meanwhile, and every step may fail, or be cut off by a restart.
 */
#include "site_fixture.h"

static void what_was_written_comes_home(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned round = 1; round <= 3; round++) {
        random_puts(s->w, 150, round * 1000);
        assert_int_equal(write_back(s), 0);
        expect_home(s);
        if (round == 2)
            edge_restart(s);
    }
    assert_int_equal(write_back(s), 0); /* nothing new */
    assert_int_equal(s->o->calls[PROTO_WB_END], 3);
    assert_true(s->o->state.applied_instant_ms > UINT64_C(1700000000000));
    site_free(s);
}

/* What is sent is the state at the cut, although newer objects take its place in the map. */
static void commits_go_on_while_it_is_sent(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    uint8_t *at_cut = xmalloc(AREA * 512);

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        random_puts(s->w, 300, round * 10000);
        memcpy(at_cut, s->w->f->model, AREA * 512);
        ONPREM_SET(s->o, s->o->mute = PROTO_WB_OFFER);
        now_begin(s);
        UNTIL(s, s->o->nmuted > 0);
        random_puts(s->w, 300, round * 10000 + 5000);
        assert_int_equal(commit_and_wait(s->w), 0);
        random_puts(s->w, 20, round * 10000 + 7000); /* in the journal only */
        onprem_do(s->o, onprem_unmute_run);
        assert_int_equal(now_end(s), 0);
        assert_memory_equal(s->o->image[0], at_cut, AREA * 512);
    }
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    free(at_cut);
    site_free(s);
}

/* A write to any of the VM's disks. */
static void put_on(struct site *s, uint8_t disk, uint64_t lba, uint32_t n, unsigned tag)
{
    struct put *p = xcalloc(1, sizeof *p);

    p->f = s->w->f;
    sem_init(&p->done, 0, 0);
    p->append = (struct vmlog_append){.type = RECORD_WRITE,
                                      .disk = disk,
                                      .lba = lba,
                                      .nsectors = n,
                                      .done = put_done,
                                      .visible = put_visible,
                                      .data = buf_new((size_t)n * 512)};
    fill_sectors(p->append.data->data, lba, n, tag);
    p->task.run = put_start;
    loop_post(s->w->f->loop, &p->task);
    put_end(p);
}

static void all_disks_of_a_vm(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    uint8_t expected[16 * 512];

    (void)state;
    for (uint8_t disk = 0; disk < ONPREM_DISKS; disk++)
        for (unsigned i = 0; i < 20; i++)
            put_on(s, disk, i * 100 + disk * 3u, 16, 1 + disk * 100u + i);
    assert_int_equal(write_back(s), 0);
    for (uint8_t disk = 0; disk < ONPREM_DISKS; disk++)
        for (unsigned i = 0; i < 20; i++) {
            fill_sectors(expected, i * 100 + disk * 3u, 16, 1 + disk * 100u + i);
            assert_memory_equal(s->o->image[disk] + (i * 100 + disk * 3) * 512, expected, sizeof expected);
        }
    assert_int_equal(s->o->attach.ndisks, ONPREM_DISKS);
    assert_string_equal(s->o->attach.disks[2], "sdc");
    site_free(s);
}

/* Whatever the edge was about when it ended, the next start finishes it. */
static void a_restart_at_each_step(void **state)
{
    static const uint8_t steps[] = {PROTO_VM_ATTACH, PROTO_WB_BEGIN, PROTO_WB_OFFER,  PROTO_WB_DATA,
                                    PROTO_WB_ZERO,   PROTO_WB_END,   PROTO_WB_APPLIED};
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned i = 0; i < sizeof steps; i++) {
        random_puts(s->w, 200, i * 1000);
        put(s->w->f, 1000 * i, 8, 0);
        if (steps[i] == PROTO_VM_ATTACH)
            ONPREM_SET(s->o, s->o->known = false);
        ONPREM_SET(s->o, s->o->mute = steps[i]);
        if (steps[i] == PROTO_VM_ATTACH)
            edge_restart(s);
        now_begin(s);
        UNTIL(s, s->o->nmuted > 0);
        random_puts(s->w, 10, i * 1000 + 500);
        edge_restart(s);
        assert_int_equal(now_end(s), -ECANCELED);
        onprem_do(s->o, onprem_unmute_run);
        assert_int_equal(write_back(s), 0);
        expect_home(s);
    }
    site_free(s);
}

static void a_step_that_is_refused_is_tried_again(void **state)
{
    static const struct {
        uint8_t type;
        int err;
    } refusals[] = {{PROTO_WB_BEGIN, -ESTALE}, {PROTO_WB_BEGIN, -EIO},   {PROTO_WB_OFFER, -EINVAL},
                    {PROTO_WB_DATA, -ENOSPC},  {PROTO_WB_ZERO, -EIO},    {PROTO_WB_END, -EAGAIN},
                    {PROTO_WB_END, -EIO},      {PROTO_WB_APPLIED, -EIO}, {PROTO_WB_STATE, -EIO},
                    {PROTO_VM_ATTACH, -EIO}};
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        random_puts(s->w, 200, i * 1000);
        put(s->w->f, 1000, 8, 0);
        ONPREM_SET(s->o, s->o->fail[refusals[i].type] = refusals[i].err);
        if (refusals[i].type == PROTO_VM_ATTACH)
            ONPREM_SET(s->o, s->o->known = false);
        if (refusals[i].type == PROTO_VM_ATTACH || refusals[i].type == PROTO_WB_STATE)
            edge_restart(s);
        assert_int_equal(write_back(s), 0);
        assert_int_equal(s->o->fail[refusals[i].type], 0);
        expect_home(s);
    }
    site_free(s);
}

static void what_on_prem_lost_is_sent_again(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 200, 0);
    ONPREM_SET(s->o, s->o->lose = 7);
    assert_int_equal(write_back(s), 0);
    assert_int_equal(s->o->calls[PROTO_WB_END], 2);
    expect_home(s);
    site_free(s);
}

/* On-prem has a cut whole when the edge dies; it finishes alone, and the edge learns of it. */
static void on_prem_finishes_alone(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 200, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL(s, s->o->state.stage == WB_STAGE_STAGED);
    edge_down(s);
    assert_int_equal(now_end(s), -ECANCELED);
    world_close(s->w);
    world_open(s->w);
    edge_up(s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    assert_int_equal(said_of(s).state.applied, 0);
    onprem_do(s->o, onprem_apply_run);
    UNTIL_STATUS(s, st->applied == 200);
    expect_home(s);
    edge_down(s); /* and once more, applied while it was away */
    world_close(s->w);
    world_open(s->w);
    random_puts(s->w, 100, 1000);
    edge_up(s);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    site_free(s);
}

static void drop_second(struct fixture *f, void *arg)
{
    struct site *s = arg;
    struct map_change *c;

    vmlog_discard(f->log, 1);
    assert_int_equal(map_drop_disk(s->w->map, 1, &c, &f->why), 0);
    map_install(s->w->map, &c);
}

/* A disk was removed while on-prem still has a cut of all three to apply: it is applied as it is, then
 * on-prem hears of the disks there are, and what comes for the last one goes to the right place. */
static void other_disks_than_before(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    uint8_t expected[8 * 512];

    (void)state;
    random_puts(s->w, 200, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL(s, s->o->state.stage == WB_STAGE_STAGED);
    edge_down(s);
    assert_int_equal(now_end(s), -ECANCELED);
    s->conf.disks[1] = "sdc";
    memcpy(s->conf.numbers, "\0\2", 2);
    s->conf.ndisks = 2;
    edge_up(s);
    on_loop(s->w->f, drop_second, s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    onprem_do(s->o, onprem_apply_run);
    UNTIL(s, s->o->attach.ndisks == 2);
    assert_string_equal(s->o->attach.disks[1], "sdc");
    ONPREM_SET(s->o, s->o->hold_apply = false);
    assert_int_equal(s->o->attach.base, 200);
    put_on(s, 2, 64, 8, 9001);
    assert_int_equal(write_back(s), 0);
    fill_sectors(expected, 64, 8, 9001);
    assert_memory_equal(s->o->image[1] + 64 * 512, expected, sizeof expected); /* the second of the list */
    assert_int_equal(s->o->calls[PROTO_VM_DETACH], 1);
    site_free(s);
}

static void an_alarm_stops_it(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 50, 0);
    assert_int_equal(write_back(s), 0);
    ONPREM_SET(s->o, s->o->alarm = true);
    random_puts(s->w, 50, 100);
    assert_int_equal(write_back(s), -EBUSY);
    assert_non_null(strstr(s->wait.why.text, "somebody else"));
    assert_int_equal(write_back(s), -EBUSY);
    UNTIL_STATUS(s, st->alarm);
    edge_restart(s);
    UNTIL_STATUS(s, st->alarm);
    ONPREM_SET(s->o, s->o->alarm = false);
    edge_restart(s);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    site_free(s);
}

static atomic_uint placed;

static void on_placed(void *arg)
{
    (void)arg;
    atomic_fetch_add(&placed, 1);
}

/* The edge opens the VM, which knows so much of where the source disks are. */
static void edge_up_at(struct site *s, atomic_int *place, enum writeback_place was)
{
    atomic_store(place, was);
    atomic_store(&placed, 0);
    s->conf.place = place;
    s->conf.placed = on_placed;
    edge_up(s);
}

static void whether_the_source_disks_fit(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);
    atomic_int place;

    (void)state;
    edge_down(s);
    ONPREM_SET(s->o, s->o->known = true; s->o->state.applied = 51; memcpy(s->o->state.vm, s->w->f->id, 16));
    edge_up_at(s, &place, WRITEBACK_UNKNOWN);
    UNTIL_STATUS(s, st->alarm);
    assert_int_equal(atomic_load(&place), WRITEBACK_OTHER);
    assert_int_equal(atomic_load(&placed), 1);
    ONPREM_SET(s->o, s->o->state.applied = 0);
    edge_down(s);
    edge_up_at(s, &place, WRITEBACK_FITS);
    UNTIL_STATUS(s, st->attached && !st->alarm);
    assert_int_equal(atomic_load(&placed), 0);
    edge_down(s);
    edge_up_at(s, &place, WRITEBACK_UNKNOWN);
    UNTIL_STATUS(s, st->attached && atomic_load(&place) == WRITEBACK_FITS);
    assert_int_equal(atomic_load(&placed), 1);
    site_free(s);
}

static void another_history_at_on_prem(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 50, 0);
    edge_down(s);
    ONPREM_SET(s->o, s->o->known = true; s->o->state.applied = 51; memcpy(s->o->state.vm, s->w->f->id, 16));
    edge_up(s);
    UNTIL_STATUS(s, st->alarm);
    assert_int_equal(commit_and_wait(s->w), 0);
    assert_int_equal(write_back(s), -EBUSY);
    assert_non_null(strstr(s->wait.why.text, "another history"));
    assert_int_equal(s->o->calls[PROTO_WB_BEGIN], 0);
    edge_down(s);
    /* as many records again, written by the edge that took the VM over at 40 */
    random_puts(s->w, 50, 100);
    assert_int_equal(commit_and_wait(s->w), 0);
    s->conf.epoch = 1;
    s->conf.since = 41;
    edge_up(s);
    UNTIL_STATUS(s, st->alarm);
    edge_down(s);
    s->conf.since = 52; /* it had all that on-prem has */
    edge_up(s);
    UNTIL_STATUS(s, st->applied == 51);
    edge_down(s);
    ONPREM_SET(s->o, s->o->state.epoch = 2);
    edge_up(s);
    UNTIL_STATUS(s, st->alarm && strstr(st->why.text, "another edge"));
    site_free(s);
}

/* The edge before had committed and brought home more than this one found in the store, which has it, too:
 * from its mirror. */
static void what_was_kept_is_no_other_history(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 40, 0);
    assert_int_equal(commit_and_wait(s->w), 0);
    random_puts(s->w, 20, 100);
    edge_down(s);
    ONPREM_SET(s->o, s->o->known = true; s->o->state.applied = 51; memcpy(s->o->state.vm, s->w->f->id, 16));
    s->conf.epoch = 1;
    s->conf.since = 41;
    s->conf.joined = 60;
    edge_up(s);
    UNTIL_STATUS(s, st->attached);
    assert_int_equal(commit_and_wait(s->w), 0);
    /* Records 41 to 60 are one object: what came after 51 is not at on-prem, and waits. */
    UNTIL_STATUS(s, st->applied == 51 && !st->alarm && st->unapplied_bytes > 0);
    edge_down(s);
    s->conf.joined = 50; /* what on-prem has more, nobody here ever had */
    s->conf.epoch = 2;
    edge_up(s);
    UNTIL_STATUS(s, st->alarm && strstr(st->why.text, "another history"));
    site_free(s);
}

/* A short outage is waited for with what was sent; a long one is not. */
static void an_outage_in_the_midst_of_it(void **state)
{
    static const uint8_t steps[] = {PROTO_WB_BEGIN, PROTO_WB_OFFER, PROTO_WB_END, PROTO_WB_APPLIED};
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    for (unsigned i = 0; i < 2 * sizeof steps; i++) {
        bool longer = i >= sizeof steps;
        unsigned begun = s->o->calls[PROTO_WB_BEGIN];

        if (i == sizeof steps) {
            edge_down(s);
            s->conf.outage_ms = 1;
            edge_up(s);
        }
        random_puts(s->w, 150, i * 1000);
        ONPREM_SET(s->o, s->o->mute = steps[i % sizeof steps]);
        now_begin(s);
        UNTIL(s, s->o->nmuted > 0);
        onprem_do(s->o, onprem_cut);
        if (longer && steps[i % sizeof steps] != PROTO_WB_APPLIED)
            UNTIL_STATUS(s, st->step == WRITEBACK_IDLE && !st->link_up && *st->why.text);
        onprem_do(s->o, onprem_heal);
        assert_int_equal(now_end(s), 0);
        expect_home(s);
        if (!longer && steps[i] == PROTO_WB_OFFER)
            assert_int_equal(s->o->calls[PROTO_WB_BEGIN], begun + 1);
    }
    site_free(s);
}

static void flip(struct world *w, uint64_t first)
{
    char name[MAP_NAME_MAX];
    CLEANUP_FREE char *path = NULL;
    FILE *file;
    int c;

    map_object_name(name, w->f->id, first);
    path = xasprintf("%s/%s", w->store_dir, name);
    file = fopen(path, "r+");
    assert_non_null(file);
    fseek(file, -100, SEEK_END);
    c = fgetc(file);
    fseek(file, -100, SEEK_END);
    fputc(c ^ 1, file);
    fclose(file);
}

/* Nothing is sent in place of what the store cannot give. */
static void a_damaged_object_is_an_alarm(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    put(s->w->f, 0, 600, 1);
    assert_int_equal(commit_and_wait(s->w), 0);
    flip(s->w, 1);
    assert_int_equal(write_back(s), -EBUSY);
    assert_non_null(strstr(s->wait.why.text, "/log/0000000000000001"));
    UNTIL_STATUS(s, st->alarm);
    for (unsigned i = 0; i < AREA * 512; i++)
        assert_int_equal(s->o->image[0][i], 0);
    flip(s->w, 1);
    assert_int_equal(write_back(s), 0);
    assert_false(status(s)->alarm);
    expect_home(s);
    site_free(s);
}

static void known_blocks_are_not_sent(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    put(s->w->f, 0, 4000, 1);
    memcpy(s->o->image[0], s->w->f->model, AREA * 512);
    put(s->w->f, 8000, 80, 2);
    assert_int_equal(write_back(s), 0);
    assert_int_equal(s->o->offered, 510);
    assert_int_equal(s->o->sent, 10);
    expect_home(s);
    site_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_comes_home),
        cmocka_unit_test(commits_go_on_while_it_is_sent),
        cmocka_unit_test(all_disks_of_a_vm),
        cmocka_unit_test(a_restart_at_each_step),
        cmocka_unit_test(a_step_that_is_refused_is_tried_again),
        cmocka_unit_test(what_on_prem_lost_is_sent_again),
        cmocka_unit_test(on_prem_finishes_alone),
        cmocka_unit_test(other_disks_than_before),
        cmocka_unit_test(an_alarm_stops_it),
        cmocka_unit_test(whether_the_source_disks_fit),
        cmocka_unit_test(another_history_at_on_prem),
        cmocka_unit_test(what_was_kept_is_no_other_history),
        cmocka_unit_test(an_outage_in_the_midst_of_it),
        cmocka_unit_test(a_damaged_object_is_an_alarm),
        cmocka_unit_test(known_blocks_are_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
