/* links: cache journal store */
/* Reads of what the object store holds, while the source disk takes it over and the objects go.
 */
#include "commit_fixture.h"

#include "store_wrap.h"
#include "tier_object.h"

enum { READ_BLOCKS = 64, READS = AREA / 8 / READ_BLOCKS };

struct read {
    struct block_req req;
    struct block block[READ_BLOCKS], *blocks[READ_BLOCKS];
    struct disk *disk;
};

struct disk {
    struct world *w;
    struct tier base, *object;
    struct store *store; /* slow */
    uint8_t *source;     /* the source disk */
    atomic_uint base_reads;
    struct read reads[READS];
    sem_t done;
    struct commit_turn turn;
    struct map_change *change;
};

static bool base_read(struct tier *t, struct block_req *r)
{
    struct disk *d = container_of(t, struct disk, base);

    atomic_fetch_add(&d->base_reads, 1);
    for (uint32_t i = 0; i < r->count; i++)
        memcpy(r->blocks[i]->data, d->source + (r->first + i) * BLOCK_BYTES, BLOCK_BYTES);
    r->status = 0;
    return true;
}

static const struct tier_ops base_ops = {.name = "base", .read = base_read};

static void on_read(struct block_req *r)
{
    sem_post(&container_of(r, struct read, req)->disk->done);
}

static void start_reads(struct fixture *f, void *arg)
{
    struct disk *d = arg;

    (void)f;
    for (unsigned i = 0; i < READS; i++) {
        struct read *r = &d->reads[i];

        r->req = (struct block_req){
            .first = i * READ_BLOCKS, .count = READ_BLOCKS, .blocks = r->blocks, .done = on_read};
        if (tier_read(d->object, &r->req))
            sem_post(&d->done);
    }
}

static void end_reads(struct disk *d)
{
    for (unsigned i = 0; i < READS; i++)
        while (sem_wait(&d->done) < 0)
            ;
    for (unsigned i = 0; i < READS; i++) {
        const struct read *r = &d->reads[i];

        assert_int_equal(r->req.status, 0);
        for (unsigned b = 0; b < READ_BLOCKS; b++) {
            const uint8_t *expected = d->w->f->model + (r->req.first + b) * BLOCK_BYTES;

            if (r->block[b].zero)
                for (unsigned k = 0; k < BLOCK_BYTES; k++)
                    assert_int_equal(expected[k], 0);
            else
                assert_memory_equal(r->block[b].data, expected, BLOCK_BYTES);
        }
    }
}

static void open_tier(struct fixture *f, void *arg)
{
    struct disk *d = arg;
    struct aead_key master;

    memset(master.bytes, 9, sizeof master.bytes);
    d->store = store_dir_new(f->loop, d->w->store_dir, 64, &f->why);
    CHECK(d->store && store_wrap(&d->store, "delay:700ms", &f->why) == 0);
    d->base = (struct tier){.ops = &base_ops, .loop = f->loop};
    d->object = tier_object_new(&(struct tier_object_conf){.loop = f->loop,
                                                           .next = &d->base,
                                                           .map = d->w->map,
                                                           .store = d->store,
                                                           .master = &master,
                                                           .id = f->id,
                                                           .disk = 0,
                                                           .vm = "vm"});
}

static void close_tier(struct fixture *f, void *arg)
{
    struct disk *d = arg;

    (void)f;
    d->object->ops->free(d->object);
    store_free(&d->store);
}

static struct disk *disk_new(void)
{
    struct disk *d = xcalloc(1, sizeof *d);

    d->w = world_new();
    d->source = xcalloc(AREA, 512);
    sem_init(&d->done, 0, 0);
    for (unsigned i = 0; i < READS; i++)
        for (unsigned b = 0; b < READ_BLOCKS; b++) {
            d->reads[i].disk = d;
            d->reads[i].block[b].data = xcalloc(1, BLOCK_BYTES);
            d->reads[i].blocks[b] = &d->reads[i].block[b];
        }
    on_loop(d->w->f, open_tier, d);
    return d;
}

static void disk_free(struct disk *d)
{
    on_loop(d->w->f, close_tier, d);
    world_free(d->w);
    for (unsigned i = 0; i < READS; i++)
        for (unsigned b = 0; b < READ_BLOCKS; b++)
            free(d->reads[i].block[b].data);
    free(d->source);
    sem_destroy(&d->done);
    free(d);
}

static void drop_run(struct commit_turn *t)
{
    struct disk *d = container_of(t, struct disk, turn);
    struct map_state state = *map_state(d->w->map);

    state.applied = state.committed;
    CHECK(map_drop(d->w->map, state.applied, &state, &d->change, &d->w->f->why) == 0);
}

static void drop_done(struct commit_turn *t)
{
    struct disk *d = container_of(t, struct disk, turn);

    map_install(d->w->map, &d->change);
    sem_post(&d->w->done);
}

static void take_turn(struct fixture *f, void *arg)
{
    struct disk *d = arg;

    (void)f;
    d->turn = (struct commit_turn){.run = drop_run, .done = drop_done};
    commit_take_turn(d->w->commit, &d->turn);
}

/* The source disk is at the newest cut, and the map lets go of it. */
static void confirm(struct disk *d)
{
    memcpy(d->source, d->w->f->model, AREA * 512);
    on_loop(d->w->f, take_turn, d);
    wait_done(d->w);
}

static void remove_objects(struct disk *d)
{
    CLEANUP_FREE char *command = xasprintf("find '%s' -path '*/log/*' -type f -delete", d->w->store_dir);

    assert_int_equal(system(command), 0);
}

static void from_the_store_then_from_the_source(void **state)
{
    struct disk *d = disk_new();

    (void)state;
    srand(61);
    random_puts(d->w, 100, 0);
    assert_int_equal(commit_and_wait(d->w), 0);
    on_loop(d->w->f, start_reads, d);
    end_reads(d);
    confirm(d);
    remove_objects(d);
    on_loop(d->w->f, start_reads, d);
    end_reads(d);
    disk_free(d);
}

/* It looked while the map knew, and fetches when the map has let go of it: the object is still there. */
static void confirmed_while_it_is_read(void **state)
{
    struct disk *d = disk_new();

    (void)state;
    srand(62);
    random_puts(d->w, 100, 0);
    assert_int_equal(commit_and_wait(d->w), 0);
    on_loop(d->w->f, start_reads, d);
    confirm(d);
    end_reads(d);
    disk_free(d);
}

/* Or it is not: what it waited for is on the source disk. */
static void removed_while_it_is_read(void **state)
{
    struct disk *d = disk_new();

    (void)state;
    srand(63);
    random_puts(d->w, 100, 0);
    assert_int_equal(commit_and_wait(d->w), 0);
    on_loop(d->w->f, start_reads, d);
    confirm(d);
    remove_objects(d);
    end_reads(d);
    assert_true(atomic_load(&d->base_reads) > 0);
    disk_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_the_store_then_from_the_source),
        cmocka_unit_test(confirmed_while_it_is_read),
        cmocka_unit_test(removed_while_it_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
