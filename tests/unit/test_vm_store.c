/* links: cache journal store */
/* A VM's entry in the store says that it is being deleted, from before anything of it goes until all of it is
 * gone: nobody takes it for a VM meanwhile, and one edge at a time goes on with that.
 */
#include "commit_fixture.h"

#include "vm_spec.h"
#include "vm_store.h"

enum { ONE = 1, OTHER = 2 }; /* edges */

static const uint8_t writers[][LOGOBJ_WRITER_BYTES] = {[ONE] = {1}, [OTHER] = {2}};

static struct vm_store at(const struct world *w, unsigned edge)
{
    return (struct vm_store){
        .store = w->store, .master = &w->master, .writer = writers[edge], .random = w->f->loop};
}

static struct vm_spec vm(void)
{
    struct vm_spec s = {.name = "web-1",
                        .iqn = "iqn.2026-11.org.isthmus:web-1",
                        .id = "another VM's id",
                        .ndisks = 1,
                        .next_number = 1,
                        .storage = WB_CLOUD_PERSIST,
                        .epoch = 3};

    strcpy(s.disks[0].onprem, "dc1");
    strcpy(s.disks[0].disk, "disk1");
    s.disks[0].block_bytes = 512;
    return s;
}

/* What each reader of the entry makes of it: 0, it is a VM; 1, it is being deleted; or an error. */
static int seen(struct world *w, struct vmobj *entry, char etag[ENTRY_ETAG])
{
    struct vm_store s = at(w, OTHER);
    struct vm_spec spec = vm(), found;
    bool deleting;
    int err = vm_store_look(&s, spec.id, &found, entry, etag, &deleting, &w->f->why);

    if (err)
        return err;
    assert_string_equal(found.name, spec.name);
    assert_int_equal(vm_store_get(&s, spec.id, &found, entry, etag, &w->f->why), deleting ? -ENOENT : 0);
    return deleting;
}

static int state_of(struct world *w)
{
    struct vmobj entry;
    char etag[ENTRY_ETAG];

    return seen(w, &entry, etag);
}

static void put_log_object(struct world *w)
{
    struct vm_spec spec = vm();
    char key[MAP_NAME_MAX];
    struct iovec iov = {(char[]){"x"}, 1};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = key};

    vmobj_name(key, spec.id);
    strcpy(strrchr(key, '/'), "/log/0000000000000001");
    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(w->store, &r, NULL), 0);
}

static int count_page(void *arg, const struct store_page *page)
{
    *(size_t *)arg += page->count;
    return 0;
}

/* How many objects there are of it. */
static size_t objects(struct world *w)
{
    struct vm_spec spec = vm();
    char prefix[MAP_NAME_MAX];
    size_t n = 0;

    vmobj_name(prefix, spec.id);
    strcpy(strrchr(prefix, '/'), "/");
    assert_int_equal(
        store_wait_pages(w->store, prefix, "", NULL, "they are counted", count_page, &n, &w->f->why), 0);
    return n;
}

static void one_that_is_made_counts_when_it_was_changed(void **state)
{
    struct world *w = world_new();
    struct vm_store s = at(w, ONE);
    struct vm_spec spec = vm();

    (void)state;
    assert_int_equal(vm_store_create(&s, &spec, &w->f->why), 0);
    assert_int_equal(state_of(w), 1);
    assert_int_equal(vm_store_fence(&s, &spec, &w->f->why), -ENOENT);
    assert_int_equal(vm_store_change(&s, &spec, &w->f->why), 0);
    assert_int_equal(state_of(w), 0);
    assert_int_equal(vm_store_bury(&s, spec.id, &w->f->why), 0);
    assert_int_equal(state_of(w), 0); /* it is not being deleted */
    world_free(w);
}

static void one_that_is_deleted_is_nobodys_vm(void **state)
{
    struct world *w = world_new();
    struct vm_store s = at(w, ONE), theirs = at(w, OTHER);
    struct entry_access a = entry_access(w);
    struct vm_spec spec = vm();
    struct entry_edit e = {.checkpoint = {.cut = 70, .upload = 7}, .whole = 70};
    struct vmobj now;

    (void)state;
    assert_int_equal(vm_store_create(&s, &spec, &w->f->why), 0);
    assert_int_equal(vm_store_change(&s, &spec, &w->f->why), 0);
    assert_int_equal(vm_store_condemn(&theirs, &spec, &w->f->why), -ESTALE);
    assert_int_equal(state_of(w), 0);
    assert_int_equal(vm_store_condemn(&s, &spec, &w->f->why), 0);
    assert_int_equal(state_of(w), 1);
    assert_int_equal(vm_store_fence(&s, &spec, &w->f->why), -ENOENT);
    assert_int_equal(vm_store_condemn(&s, &spec, &w->f->why), 0); /* again, after a crash */
    e.mine.epoch = spec.epoch;
    memcpy(e.mine.id, spec.id, sizeof e.mine.id);
    memcpy(e.mine.writer, s.writer, sizeof e.mine.writer);
    assert_int_equal(entry_change(&a, &e, &now, &w->f->why), 0); /* a checkpoint says nothing of that */
    assert_int_equal(state_of(w), 1);
    put_log_object(w);
    assert_int_equal(objects(w), 2);
    assert_int_equal(vm_store_clear(&s, spec.id, &w->f->why), 0);
    assert_int_equal(objects(w), 1);
    assert_int_equal(state_of(w), 1);
    put_log_object(w); /* that came late */
    assert_int_equal(vm_store_bury(&s, spec.id, &w->f->why), 0);
    assert_int_equal(objects(w), 0);
    assert_int_equal(state_of(w), -ENOENT);
    assert_int_equal(vm_store_condemn(&s, &spec, &w->f->why), -ENOENT);
    assert_int_equal(vm_store_bury(&s, spec.id, &w->f->why), 0);
    world_free(w);
}

static void who_takes_it_over_goes_on_alone(void **state)
{
    struct world *w = world_new();
    struct vm_store s = at(w, ONE), theirs = at(w, OTHER);
    struct vm_spec spec = vm(), next = vm();
    struct vmobj entry, after;
    char etag[ENTRY_ETAG], again[ENTRY_ETAG];

    (void)state;
    assert_int_equal(vm_store_create(&s, &spec, &w->f->why), 0);
    assert_int_equal(seen(w, &entry, etag), 1);
    next.epoch++;
    assert_int_equal(vm_store_take_condemned(&theirs, &next, &entry, etag, &w->f->why), 0);
    assert_int_equal(vm_store_take_condemned(&theirs, &next, &entry, etag, &w->f->why), -ESTALE);
    assert_int_equal(seen(w, &after, again), 1);
    assert_int_equal(after.epoch, spec.epoch + 1);
    assert_memory_equal(after.writer, writers[OTHER], sizeof after.writer);
    assert_int_equal(vm_store_change(&s, &spec, &w->f->why), -ESTALE); /* nor is it made any more */
    assert_int_equal(vm_store_condemn(&s, &spec, &w->f->why), -ESTALE);
    assert_int_equal(vm_store_bury(&s, spec.id, &w->f->why), 0);
    assert_int_equal(state_of(w), 1);
    assert_int_equal(vm_store_bury(&theirs, spec.id, &w->f->why), 0);
    assert_int_equal(state_of(w), -ENOENT);
    world_free(w);
}

static bool says_home(struct world *w)
{
    struct vm_store s = at(w, OTHER);
    struct vm_spec spec = vm(), found;
    struct vmobj entry;
    char etag[ENTRY_ETAG];

    assert_int_equal(vm_store_get(&s, spec.id, &found, &entry, etag, &w->f->why), 0);
    return found.home;
}

/* Of the two, catalog and entry, that counts to which a later verb has come. */
static void what_a_verb_has_noted_is_put_at_a_start(void **state)
{
    struct world *w = world_new();
    struct vm_store s = at(w, ONE), other = at(w, OTHER);
    struct vm_spec noted = vm(), found = vm();

    (void)state;
    found.home = true;
    found.task = 7;
    assert_int_equal(vm_store_create(&s, &found, &w->f->why), 0);
    assert_int_equal(vm_store_change(&s, &found, &w->f->why), 0);
    noted.task = 6; /* its disks were set back */
    assert_int_equal(vm_store_settle(&s, &noted, &found, &w->f->why), 0);
    assert_true(says_home(w));
    noted.task = 8;
    assert_int_equal(vm_store_settle(&other, &noted, &found, &w->f->why), -ESTALE);
    assert_true(says_home(w));
    assert_int_equal(vm_store_settle(&s, &noted, &found, &w->f->why), 0);
    assert_false(says_home(w));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_made_counts_when_it_was_changed),
        cmocka_unit_test(one_that_is_deleted_is_nobodys_vm),
        cmocka_unit_test(who_takes_it_over_goes_on_alone),
        cmocka_unit_test(what_a_verb_has_noted_is_put_at_a_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
