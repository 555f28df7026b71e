/* links: journal store */
/* Nothing that is wrong in a store is passed over: every object of a VM is damaged in every way, and its
 * seal, not the store's own checksum, has to tell. And an image of a cut is the disk as it was.
 */
#include "recover_fixture.h"

#include "audit.h"
#include "export.h"

#include <fcntl.h>
#include <unistd.h>

static char told[1000];

static void on_told(void *arg, const char *sentence)
{
    (void)arg;
    if (!*told)
        snprintf(told, sizeof told, "%s", sentence);
}

struct scratch {
    struct journal *journal;
    char *path;
};

static void scratch_open(struct scratch *s, struct history *h)
{
    struct journal_conf conf = {.max_bytes = 64 << 20};

    s->path = xasprintf("%s-audit", h->w->f->dir);
    conf.path = s->path;
    assert_int_equal(journal_open(&s->journal, &conf, &h->w->f->why), 0);
}

static void scratch_close(struct scratch *s)
{
    journal_close(&s->journal);
    remove_tree(s->path);
    free(s->path);
}

static struct recover_conf conf_of(struct history *h, const struct scratch *s)
{
    struct recover_conf c = {.journal = s->journal,
                             .store = h->w->store,
                             .master = &h->w->master,
                             .vm = "vm",
                             .through = UINT64_MAX};

    c.entry = entry_now(h->w, NULL);
    c.tell = on_told;
    return c;
}

static struct audit_result audit(struct history *h)
{
    struct audit_result r;
    struct scratch s;
    struct recover_conf c;

    *told = '\0';
    scratch_open(&s, h);
    c = conf_of(h, &s);
    if (audit_vm(&c, &r, &h->w->f->why) != 0)
        fail_msg("%s", h->w->f->why.text);
    scratch_close(&s);
    assert_true((r.faults != 0) == (*told != '\0'));
    return r;
}

/* --- objects by name ---*/

struct object {
    char name[MAP_NAME_MAX];
    uint8_t *bytes;
    size_t n;
};

static struct object fetch(struct history *h, const char *name)
{
    struct object o = {.bytes = xmalloc(LOGOBJ_BYTES_MAX)};
    struct store_req r = {.op = STORE_GET, .timeout_ms = 5000, .key = name};

    snprintf(o.name, sizeof o.name, "%s", name);
    r.get.buf = o.bytes;
    r.get.cap = LOGOBJ_BYTES_MAX;
    r.get.whole = true;
    assert_int_equal(store_wait(h->w->store, &r, NULL), 0);
    o.n = r.len;
    return o;
}

static struct object object_at(struct history *h, uint64_t first)
{
    char name[MAP_NAME_MAX];

    map_object_name(name, h->w->f->id, first);
    return fetch(h, name);
}

static void put_back(struct history *h, struct object *o)
{
    put_object(h->w, o->name, o->bytes, o->n);
    free(o->bytes);
}

static void delete_object(struct history *h, const char *name)
{
    struct store_req r = {.op = STORE_DELETE, .timeout_ms = 5000};

    r.del.keys = &name;
    r.del.nkeys = 1;
    assert_int_equal(store_wait(h->w->store, &r, NULL), 0);
}

/* --- the tests ---*/

static void sound_is_sound(void **state)
{
    struct history *h = history_new(CUTS, 4);
    struct audit_result r = audit(h);

    (void)state;
    assert_int_equal(r.faults, 0);
    assert_int_equal(r.cut, h->seq[CUTS]);
    assert_int_equal(r.checkpoints, 1);
    assert_int_equal(r.left_over, 0);
    assert_true(r.objects >= CUTS && r.live_bytes > 0);
    history_free(h);
}

static void any_bit_is_noticed(void **state)
{
    struct history *h = history_new(CUTS, 0);

    (void)state;
    for (unsigned cut = 1; cut < CUTS; cut++) {
        struct object o = object_at(h, h->seq[cut] + 1);
        size_t places[] = {9, 30, 60, 75, 92, LOGOBJ_HEAD_BYTES + 20, o.n / 2, o.n - 1};

        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            struct audit_result r;

            o.bytes[places[i]] ^= 4;
            put_object(h->w, o.name, o.bytes, o.n);
            r = audit(h);
            assert_true(r.faults > 0);
            assert_true(r.has_good_cut);
            assert_true(r.good_cut >= h->seq[cut]);
            o.bytes[places[i]] ^= 4;
        }
        put_back(h, &o);
    }
    assert_int_equal(audit(h).faults, 0);
    history_free(h);
}

static void a_piece_that_is_cut_off_is_noticed(void **state)
{
    struct history *h = history_new(CUTS, 0);
    struct object o = object_at(h, h->seq[3] + 1);
    size_t whole = o.n, lengths[] = {0, 50, LOGOBJ_HEAD_BYTES, LOGOBJ_HEAD_BYTES + 60, whole / 2, whole - 1};

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct audit_result r;

        put_object(h->w, o.name, o.bytes, lengths[i]);
        r = audit(h);
        assert_true(r.faults > 0 && r.has_good_cut);
        assert_int_equal(r.good_cut, h->seq[3]);
    }
    put_back(h, &o);
    history_free(h);
}

static void swapped_objects_are_noticed(void **state)
{
    struct history *h = history_new(CUTS, 0);
    struct object a = object_at(h, h->seq[2] + 1), b = object_at(h, h->seq[4] + 1);
    struct audit_result r;

    (void)state;
    put_object(h->w, a.name, b.bytes, b.n);
    put_object(h->w, b.name, a.bytes, a.n);
    r = audit(h);
    assert_true(r.faults > 0 && r.has_good_cut);
    assert_int_equal(r.good_cut, h->seq[2]);
    free(a.bytes);
    free(b.bytes);
    history_free(h);
}

static void a_missing_object_that_a_checkpoint_needs_is_named(void **state)
{
    struct history *h = history_new(CUTS, 4);
    char name[MAP_NAME_MAX];
    struct audit_result r;

    (void)state;
    map_object_name(name, h->w->f->id, h->seq[1] + 1);
    delete_object(h, name);
    r = audit(h);
    assert_true(r.faults > 0);
    assert_non_null(strstr(told, "is damaged: it is missing"));
    assert_true(r.lost_sectors > 0);
    assert_int_equal(r.cut, h->seq[CUTS]);
    assert_true(r.has_good_cut); /* the log before it is there from its beginning */
    assert_int_equal(r.good_cut, h->seq[1]);
    history_free(h);
}

static void a_damaged_checkpoint_is_named_and_not_needed(void **state)
{
    struct history *h = history_new(CUTS, 4);
    struct vmobj entry = entry_now(h->w, NULL);
    char name[MAP_NAME_MAX];
    struct object o;
    struct audit_result r;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        checkpoint_name(name, h->w->f->id, &entry.newest, i ? CHECKPOINT_END : 0);
        o = fetch(h, name);
        o.bytes[o.n / 2] ^= 1;
        put_object(h->w, name, o.bytes, o.n);
        r = audit(h);
        assert_true(r.faults > 0 && r.has_good_cut);
        assert_non_null(strstr(told, "checkpoint"));
        assert_int_equal(r.good_cut, h->seq[CUTS]);
        o.bytes[o.n / 2] ^= 1;
        put_back(h, &o);
    }
    history_free(h);
}

static void with_another_key_nothing_opens(void **state)
{
    struct history *h = history_new(2, 0);
    struct audit_result r;
    struct scratch s;
    struct recover_conf c;
    struct aead_key other = {{1}};

    (void)state;
    *told = '\0';
    scratch_open(&s, h);
    c = conf_of(h, &s);
    c.master = &other;
    assert_int_equal(audit_vm(&c, &r, &h->w->f->why), 0);
    assert_true(r.faults > 0 && !r.has_good_cut);
    assert_non_null(strstr(told, "another key"));
    scratch_close(&s);
    history_free(h);
}

/* The disk as of a cut. */
static void expect_image(struct history *h, unsigned cut)
{
    char path[] = "/tmp/isthmus-image-XXXXXX";
    CLEANUP_FREE uint8_t *image = xmalloc(AREA * 512);
    struct export_conf x = {.store = h->w->store, .master = &h->w->master, .fd = mkstemp(path)};
    struct export_result er;
    struct recover_result rr;
    struct recover_conf c;
    struct scratch s;

    assert_true(x.fd >= 0);
    unlink(path);
    scratch_open(&s, h);
    c = conf_of(h, &s);
    c.through = h->seq[cut];
    assert_int_equal(recover_vm(&c, &rr, &h->w->f->why), 0);
    assert_int_equal(map_open(&x.map, s.journal, c.entry.id, "vm", &h->w->f->why), 0);
    memcpy(x.id, c.entry.id, sizeof x.id);
    assert_int_equal(ftruncate(x.fd, AREA * 512), 0);
    assert_int_equal(export_disk(&x, &er, &h->w->f->why), 0);
    assert_int_equal(pread(x.fd, image, AREA * 512, 0), AREA * 512);
    assert_memory_equal(image, h->model[cut], AREA * 512);
    close(x.fd);
    map_close(&x.map);
    scratch_close(&s);
}

static void an_image_is_the_disk_as_it_was(void **state)
{
    struct history *h = history_new(CUTS, 4);

    (void)state;
    for (unsigned cut = 1; cut <= CUTS; cut++)
        expect_image(h, cut);
    history_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_is_sound),
        cmocka_unit_test(any_bit_is_noticed),
        cmocka_unit_test(a_piece_that_is_cut_off_is_noticed),
        cmocka_unit_test(swapped_objects_are_noticed),
        cmocka_unit_test(a_missing_object_that_a_checkpoint_needs_is_named),
        cmocka_unit_test(a_damaged_checkpoint_is_named_and_not_needed),
        cmocka_unit_test(with_another_key_nothing_opens),
        cmocka_unit_test(an_image_is_the_disk_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
