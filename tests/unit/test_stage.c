/* links: initiator link */
/* What is kept of write-back: comes back over restarts, opens with its key only, and damage is noticed. */
#include "mem.h"
#include "stage.h"
#include "stage_impl.h"
#include "wb_record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[48];
static struct stage *stage;
static const struct aead_key key = {{1, 2, 3}};
static struct why why;

static void open_stage(void)
{
    why.text[0] = 0;
    if (stage_open(&stage, dir, &key, &why) != 0)
        fail_msg("%s", why.text);
}

static int begin(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/isthmus-stage-XXXXXX");
    assert_non_null(mkdtemp(dir));
    open_stage();
    return 0;
}

static int end(void **state)
{
    CLEANUP_FREE char *command = xasprintf("rm -rf %s", dir);

    (void)state;
    if (stage)
        stage_close(&stage);
    return system(command);
}

/* ---- pieces ---- */

static void put(uint64_t number, uint8_t disk, uint64_t block, uint8_t fill)
{
    uint8_t data[PROTO_BLOCK], hash[WB_HASH_BYTES];
    struct stage_piece p = {
        .disk = disk, .kind = WB_PIECE_DATA, .lba = block * 8, .nsectors = 8, .data = data, .hash = hash};

    memset(data, fill, sizeof data);
    wb_hash(data, sizeof data, hash);
    assert_int_equal(stage_put(stage, number, &p, 1, &why), 0);
}

static void hash_of(uint8_t fill, uint8_t hash[WB_HASH_BYTES])
{
    uint8_t data[PROTO_BLOCK];

    memset(data, fill, sizeof data);
    wb_hash(data, sizeof data, hash);
}

struct seen {
    unsigned n;
    uint64_t places[64];
};

static int see(void *arg, const struct stage_piece *p)
{
    struct seen *s = arg;

    s->places[s->n++] = p->disk * 1000ull + p->lba;
    return 0;
}

static void pieces_come_back_in_order(void **state)
{
    static const uint64_t zero_sectors = 1ull << 40;
    struct stage_piece zeros = {.disk = 1, .kind = WB_PIECE_ZERO, .lba = 3, .nsectors = zero_sectors};
    uint8_t hash[WB_HASH_BYTES], data[PROTO_BLOCK];
    struct seen s = {0};

    (void)state;
    put(7, 1, 1, 1);
    put(7, 0, 9, 2);
    put(7, 0, 2, 3);
    put(7, 0, 2, 4); /* again, with another content */
    put(6, 0, 1, 5);
    put(8, 0, 1, 6);
    assert_int_equal(stage_put(stage, 7, &zeros, 1, &why), 0);
    stage_close(&stage);
    open_stage();
    assert_int_equal(stage_scan(stage, 7, 0, 0, see, &s, &why), 0);
    assert_int_equal(s.n, 4);
    assert_true(s.places[0] == 16 && s.places[1] == 72 && s.places[2] == 1003 && s.places[3] == 1008);
    s.n = 0;
    assert_int_equal(stage_scan(stage, 7, 0, 17, see, &s, &why), 0);
    assert_int_equal(s.n, 3);
    hash_of(4, hash);
    assert_int_equal(stage_has(stage, 7, 0, 2, hash, &why), 0);
    assert_int_equal(stage_has(stage, 7, 0, 9, hash, &why), -ENOENT);
    assert_int_equal(stage_find(stage, 7, hash, data, &why), 0);
    assert_int_equal(data[4095], 4);
    hash_of(3, hash); /* its place has another content by now */
    assert_int_equal(stage_find(stage, 7, hash, data, &why), -ENOENT);
    hash_of(5, hash); /* another stage's */
    assert_int_equal(stage_find(stage, 7, hash, data, &why), -ENOENT);
}

static void a_stage_goes_with_the_row_of_its_vm(void **state)
{
    static const uint8_t vm[WB_ID_BYTES] = "a vm";
    struct seen s = {0};

    (void)state;
    put(1, 0, 1, 1);
    put(2, 0, 1, 2);
    put(3, 0, 1, 3);
    assert_int_equal(stage_put_vm(stage, vm, (const uint8_t *)"row", 3, 2, &why), 0);
    for (int i = 0; i < 2; i++) {
        s.n = 0;
        assert_int_equal(stage_scan(stage, 2, 0, 0, see, &s, &why), 0);
        assert_int_equal(s.n, 0);
        assert_int_equal(stage_scan(stage, 1, 0, 0, see, &s, &why), 0);
        assert_int_equal(stage_scan(stage, 3, 0, 0, see, &s, &why), 0);
        assert_int_equal(s.n, 2);
        stage_close(&stage);
        open_stage();
    }
}

static void contents_are_known_by_place(void **state)
{
    uint8_t hashes[2][WB_HASH_BYTES];
    uint64_t blocks[2] = {77, 1ull << 40};
    struct stage_content c;

    (void)state;
    hash_of(1, hashes[0]);
    hash_of(2, hashes[1]);
    assert_int_equal(stage_note(stage, "disk-1", blocks, (const uint8_t(*)[WB_HASH_BYTES])hashes, 2, &why),
                     0);
    assert_int_equal(stage_known(stage, hashes[1], &c, &why), 0);
    assert_string_equal(c.disk, "disk-1");
    assert_true(c.block == 1ull << 40);
    hash_of(3, hashes[0]);
    assert_int_equal(stage_known(stage, hashes[0], &c, &why), -ENOENT);
}

/* ---- refusals ---- */

static void another_key_is_refused(void **state)
{
    static const struct aead_key other = {{3, 2, 1}};

    (void)state;
    stage_close(&stage);
    assert_int_equal(stage_open(&stage, dir, &other, &why), -EBADMSG);
    assert_non_null(strstr(why.text, "the key at rest does not open the stage"));
    open_stage();
}

static void two_at_once_are_refused(void **state)
{
    struct stage *second;

    (void)state;
    assert_int_equal(stage_open(&second, dir, &key, &why), -EBUSY);
    assert_non_null(strstr(why.text, "in use by another process"));
}

static void a_newer_format_is_refused(void **state)
{
    CLEANUP_FREE char *path = xasprintf("%s/stage/format", dir);
    int fd;

    (void)state;
    stage_close(&stage);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\0\0\0\2", 4, 8), 4);
    assert_int_equal(stage_open(&stage, dir, &key, &why), -EINVAL);
    assert_non_null(strstr(why.text, "has format 2, this isthmus-onprem knows 1"));
    assert_int_equal(pwrite(fd, "X", 1, 0), 1);
    assert_int_equal(stage_open(&stage, dir, &key, &why), -EBADMSG);
    close(fd);
}

/* ---- damage ---- */

/* One bit of the first row from that key on, in a way that RocksDB does not notice. */
static void damage(enum stage_family family, const char *from)
{
    struct stage_db *db = &stage->db;
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(db->db, db->reading, db->family[family]);
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    const char *k, *value;
    size_t n, len;
    char *copy;

    rocksdb_iter_seek(it, from, strlen(from));
    assert_true(rocksdb_iter_valid(it));
    k = rocksdb_iter_key(it, &n);
    value = rocksdb_iter_value(it, &len);
    copy = xmalloc(len);
    memcpy(copy, value, len);
    copy[len / 2] ^= 1;
    rocksdb_writebatch_put_cf(batch, db->family[family], k, n, copy, len);
    assert_int_equal(stage_db_write(db, batch, STAGE_STABLE, &why), 0);
    rocksdb_writebatch_destroy(batch);
    rocksdb_iter_destroy(it);
    free(copy);
}

static void a_damaged_piece_is_noticed(void **state)
{
    struct seen s = {0};

    (void)state;
    put(1, 0, 1, 1);
    put(1, 0, 2, 2);
    damage(FAMILY_PIECES, "");
    assert_int_equal(stage_scan(stage, 1, 0, 0, see, &s, &why), -EBADMSG);
    assert_int_equal(s.n, 0);
    assert_int_equal(stage_scan(stage, 1, 0, 16, see, &s, &why), 0);
    assert_int_equal(s.n, 1);
}

static void a_damaged_file_is_noticed(void **state)
{
    CLEANUP_FREE char *spoil =
        xasprintf("f=$(ls -S %s/stage/db/*.sst | head -n 1); printf spoiled | "
                  "dd of=$f bs=1 seek=$(($(stat -c %%s $f) / 2)) conv=notrunc status=none",
                  dir);
    struct seen s = {0};

    (void)state;
    for (uint8_t i = 0; i < 60; i++)
        put(1, 0, i, i);
    stage_close(&stage);
    open_stage(); /* what was in its log is in files now */
    stage_close(&stage);
    assert_int_equal(system(spoil), 0);
    open_stage();
    assert_int_equal(stage_scan(stage, 1, 0, 0, see, &s, &why), -EBADMSG);
    assert_non_null(strstr(why.text, "damaged"));
}

static int take(void *arg, const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n)
{
    ++*(unsigned *)arg;
    assert_string_equal((const char *)vm, "a vm");
    assert_int_equal(n, 3);
    assert_memory_equal(row, "row", 3);
    return 0;
}

static void a_damaged_vm_is_noticed(void **state)
{
    static const uint8_t vm[WB_ID_BYTES] = "a vm";
    unsigned n = 0;

    (void)state;
    assert_int_equal(stage_put_vm(stage, vm, (const uint8_t *)"row", 3, 0, &why), 0);
    stage_close(&stage);
    open_stage();
    assert_int_equal(stage_vms(stage, take, &n, &why), 0);
    assert_int_equal(n, 1);
    damage(FAMILY_STATE, "vm/");
    assert_int_equal(stage_vms(stage, take, &n, &why), -EBADMSG);
    assert_non_null(strstr(why.text, "knows of a VM is damaged: restore"));
}

/* ---- the row of a VM ---- */

static void records_come_back(void **state)
{
    static struct wb_record r = {.epoch = 9,
                                 .attached = true,
                                 .policy = WB_CLOUD_PERSIST,
                                 .name = "web",
                                 .ndisks = WB_DISKS_MAX,
                                 .applied = 1,
                                 .applied_ms = 2,
                                 .stage = WB_STAGE_STAGED,
                                 .number = 3,
                                 .target = 4,
                                 .target_ms = 5,
                                 .pieces = 6,
                                 .bytes = 7,
                                 .alarm = WB_ALARM_TAKEN,
                                 .alarm_text = "somebody has it"},
                            got;
    static uint8_t row[WB_RECORD_MAX];
    size_t n;

    (void)state;
    for (unsigned i = 0; i < r.ndisks; i++) {
        snprintf(r.disks[i], sizeof r.disks[i], "%063u", i);
        r.marks[i] = (struct wb_mark){.known = i % 3, .len = i % 3 == 1 ? DATASTORE_MARK_MAX : 0};
        memset(r.marks[i].bytes, (int)i, r.marks[i].len);
    }
    n = wb_record_put(&r, row);
    assert_int_equal(wb_record_get(r.vm, row, n, &got), 0);
    assert_memory_equal(&got, &r, sizeof r);
    for (size_t less = 0; less < n; less += 1 + less / 100)
        assert_int_equal(wb_record_get(r.vm, row, less, &got), -EBADMSG);
    assert_int_equal(wb_record_get(r.vm, row, n + 1, &got), -EBADMSG);
    r.target = r.applied; /* nothing that could be applied */
    n = wb_record_put(&r, row);
    assert_int_equal(wb_record_get(r.vm, row, n, &got), -EBADMSG);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        CASE(pieces_come_back_in_order),   CASE(a_stage_goes_with_the_row_of_its_vm),
        CASE(contents_are_known_by_place), CASE(another_key_is_refused),
        CASE(two_at_once_are_refused),     CASE(a_newer_format_is_refused),
        CASE(a_damaged_piece_is_noticed),  CASE(a_damaged_file_is_noticed),
        CASE(a_damaged_vm_is_noticed),     cmocka_unit_test(records_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
