/* links: journal */
/* A log object: what was put in comes out, and nothing altered, swapped or renamed opens.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "logobj.h"
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct aead_key master = {{1, 2, 3}};
static const uint8_t vm[16] = "a vm of the test", other_vm[16] = "another vm......",
                     writer[LOGOBJ_WRITER_BYTES] = "writer";

static void fill(uint8_t *p, uint32_t nsectors, unsigned tag, bool random)
{
    for (uint32_t i = 0; i < nsectors * 512; i++)
        p[i] = random ? (uint8_t)rand() : (uint8_t)(tag + i / 512);
}

static struct logobj_head head_of(uint64_t first)
{
    struct logobj_head h = {.first = first, .epoch = 3};

    memcpy(h.vm, vm, sizeof h.vm);
    memset(h.salt, (int)first, sizeof h.salt);
    memset(h.chain, 7, sizeof h.chain);
    return h;
}

/* Extents of many sizes, as whole disks of 64 MiB, SEQ rising. */
enum { EXTENTS = 300, DISK_SECTORS = 4096 };
struct content {
    uint8_t disk[2][DISK_SECTORS * 512];
    bool known[2][DISK_SECTORS];
};

static void build(struct logobj_built *o, struct content *c)
{
    struct logobj_head h = head_of(100);
    struct logobj_builder *b = logobj_begin(&master, &h, writer);

    for (unsigned i = 0; i < EXTENTS; i++) {
        uint32_t n = 1 + (uint32_t)rand() % (i % 10 ? 16 : 700), lba = (uint32_t)rand() % (DISK_SECTORS - n);
        uint8_t disk = i % 2, *at = c->disk[disk] + (size_t)lba * 512;
        struct logobj_entry e = {.kind = i % 7 ? LOGOBJ_DATA : LOGOBJ_ZERO,
                                 .disk = disk,
                                 .lba = lba,
                                 .nsectors = n,
                                 .seq = 100 + i};

        if (i % 7)
            fill(at, n, i, i % 3 == 0);
        else
            memset(at, 0, (size_t)n * 512);
        if (i % 11 == 5)
            memset(at, 0, (size_t)n * 512); /* written zeros */
        memset(&c->known[disk][lba], 1, n);
        logobj_add(b, &e, i % 7 ? at : NULL);
    }
    logobj_end(&b, 100 + EXTENTS, true, o);
    assert_null(b);
}

static struct buf *whole(const struct logobj_built *o)
{
    struct buf *all = buf_new(o->front->len + o->frames->len);

    memcpy(all->data, o->front->data, o->front->len);
    memcpy(all->data + o->front->len, o->frames->data, o->frames->len);
    return all;
}

/* Everything back into a content; 0 or the first error. */
static int read_back(const struct buf *all, const uint8_t id[16], uint64_t first, struct content *c,
                     struct why *why)
{
    struct logobj_head h;
    struct logobj_index x;
    struct logobj_opener *opener;
    uint8_t plain[LOGOBJ_FRAME_BYTES];
    int err = logobj_head_read(&h, all->data, all->len, id, first, why);

    if (!err)
        err = logobj_index_read(&x, &master, &h, all->data, why);
    if (err)
        return err;
    opener = logobj_opener_new(&master, id, first, h.salt);
    for (unsigned i = 0; i < x.nentries && !err; i++) {
        const struct logobj_entry *e = &x.entries[i];
        int n = 0;

        if (e->kind == LOGOBJ_DATA)
            n = logobj_frame_open(opener, e->frame_at,
                                  all->data + LOGOBJ_HEAD_BYTES + h.index_bytes + e->frame_at, e->frame_bytes,
                                  plain);
        if (n < 0) {
            err = n;
        } else if (c) {
            uint8_t *to = c->disk[e->disk] + e->lba * 512;

            memset(&c->known[e->disk][e->lba], 1, e->nsectors);
            if (e->kind == LOGOBJ_ZERO)
                memset(to, 0, (size_t)e->nsectors * 512);
            else
                memcpy(to, plain + (size_t)e->frame_sector * 512, (size_t)e->nsectors * 512);
        }
    }
    logobj_opener_free(&opener);
    logobj_index_free(&x);
    return err;
}

static void what_goes_in_comes_out(void **state)
{
    struct content *in = xcalloc(1, sizeof *in), *out = xcalloc(1, sizeof *out);
    struct logobj_built o;
    struct logobj_head h;
    struct why why = {""};
    struct buf *all;

    (void)state;
    srand(3);
    build(&o, in);
    all = whole(&o);
    assert_int_equal(logobj_head_read(&h, all->data, all->len, vm, 100, &why), 0);
    assert_true(h.ends_cut);
    assert_int_equal(h.last, 100 + EXTENTS);
    assert_int_equal(h.epoch, 3);
    assert_int_equal(h.bytes, all->len);
    if (read_back(all, vm, 100, out, &why) != 0)
        fail_msg("%s", why.text);
    assert_memory_equal(in, out, sizeof *in);
    buf_unref(&all);
    logobj_built_free(&o);
    free(in);
    free(out);
}

static void no_changed_byte_opens(void **state)
{
    struct content *in = xcalloc(1, sizeof *in);
    struct logobj_built o;
    struct why why = {""};
    struct buf *all;

    (void)state;
    build(&o, in);
    all = whole(&o);
    for (unsigned i = 0; i < 400; i++) {
        uint32_t at = i < 200 ? i * o.front->len / 200 : (uint32_t)rand() % all->len;
        uint8_t bit = (uint8_t)(1 << rand() % 8);

        all->data[at] ^= bit;
        if (read_back(all, vm, 100, NULL, &why) == 0)
            fail_msg("byte %u was changed and it opened", at);
        all->data[at] ^= bit;
    }
    assert_int_equal(read_back(all, vm, 100, NULL, &why), 0);
    buf_unref(&all);
    logobj_built_free(&o);
    free(in);
}

static void neither_renamed_nor_swapped_nor_newer(void **state)
{
    struct content *in = xcalloc(1, sizeof *in);
    struct logobj_built o;
    struct logobj_head h;
    struct logobj_index x;
    struct why why = {""};
    struct aead_key wrong = master;
    struct buf *all;

    (void)state;
    build(&o, in);
    all = whole(&o);
    assert_int_equal(read_back(all, other_vm, 100, NULL, &why), -EBADMSG);
    assert_string_equal(why.text, "it is of another VM");
    assert_int_equal(read_back(all, vm, 101, NULL, &why), -EBADMSG);
    assert_int_equal(logobj_head_read(&h, all->data, 40, vm, 100, &why), -EBADMSG);
    assert_int_equal(logobj_head_read(&h, all->data, all->len, vm, 100, &why), 0);
    wrong.bytes[0]++;
    assert_int_equal(logobj_index_read(&x, &wrong, &h, all->data, &why), -EBADMSG);
    all->data[9] = LOGOBJ_FORMAT + 1;
    assert_int_equal(logobj_head_read(&h, all->data, all->len, vm, 100, &why), -ENOTSUP);
    buf_unref(&all);
    logobj_built_free(&o);
    free(in);
}

static void an_empty_cut_is_an_object(void **state)
{
    struct logobj_head h = head_of(5);
    struct logobj_builder *b = logobj_begin(&master, &h, writer);
    struct logobj_built o;
    struct why why = {""};
    struct buf *all;

    (void)state;
    logobj_end(&b, 9, true, &o);
    all = whole(&o);
    assert_int_equal(read_back(all, vm, 5, NULL, &why), 0);
    buf_unref(&all);
    logobj_built_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(no_changed_byte_opens),
        cmocka_unit_test(neither_renamed_nor_swapped_nor_newer),
        cmocka_unit_test(an_empty_cut_is_an_object),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
