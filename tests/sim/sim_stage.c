/* tests/sim/sim_stage.c - the stage's database (stage_db.h) on a simulated disk, and RocksDB's batches that
 * go there.
 *
 * Instead of initiator/stage_db.c and RocksDB. The directory's name says which disk: that of the node it is
 * called on.
 */
#include "broken.h"
#include "sim.h"
#include "sim_kv.h"
#include "sim_world.h"

#include "check.h"
#include "mem.h"
#include "stage_db.h"

#include <errno.h>
#include <string.h>

static struct sim_disk *disk_of(const struct stage_db *db)
{
    return (struct sim_disk *)db->db;
}

static struct sim_batch *batch_of(rocksdb_writebatch_t *b)
{
    return (struct sim_batch *)b;
}

static unsigned family_of(const rocksdb_column_family_handle_t *f)
{
    return (unsigned)(uintptr_t)f - 1;
}

/* --- batches --- */

rocksdb_writebatch_t *rocksdb_writebatch_create(void)
{
    return (rocksdb_writebatch_t *)sim_batch_new();
}

void rocksdb_writebatch_destroy(rocksdb_writebatch_t *b)
{
    sim_batch_free(batch_of(b));
}

void rocksdb_writebatch_put(rocksdb_writebatch_t *b, const char *key, size_t klen, const char *val,
                            size_t vlen)
{
    sim_batch_put(batch_of(b), FAMILY_STATE, key, klen, val, vlen);
}

void rocksdb_writebatch_put_cf(rocksdb_writebatch_t *b, rocksdb_column_family_handle_t *family,
                               const char *key, size_t klen, const char *val, size_t vlen)
{
    sim_batch_put(batch_of(b), family_of(family), key, klen, val, vlen);
}

void rocksdb_writebatch_delete_cf(rocksdb_writebatch_t *b, rocksdb_column_family_handle_t *family,
                                  const char *key, size_t klen)
{
    sim_batch_delete(batch_of(b), family_of(family), key, klen);
}

void rocksdb_writebatch_delete_range_cf(rocksdb_writebatch_t *b, rocksdb_column_family_handle_t *family,
                                        const char *from, size_t from_len, const char *to, size_t to_len)
{
    sim_batch_delete_range(batch_of(b), family_of(family), from, from_len, to, to_len);
}

/* --- the database --- */

int stage_db_open(struct stage_db *db, const char *dir, struct why *why)
{
    struct sim_disk *d = sim_world_disk(sim_node_current());

    memset(db, 0, sizeof *db);
    fiber_sleep(sim_latency(SIM_MS));
    d->opens++;
    if (d->fails)
        return why_set(why, d->fails, "the simulated disk refuses to be opened");
    db->dir = xstrdup(dir);
    db->path = xstrdup(dir);
    db->db = (rocksdb_t *)d;
    for (unsigned i = 0; i < FAMILIES; i++)
        db->family[i] = (rocksdb_column_family_handle_t *)(uintptr_t)(i + 1);
    return 0;
}

void stage_db_close(struct stage_db *db)
{
    free(db->dir);
    free(db->path);
    memset(db, 0, sizeof *db);
}

int stage_db_again(struct stage_db *db, struct why *why)
{
    if (disk_of(db)->fails)
        return why_set(why, disk_of(db)->fails, "the simulated disk refuses to be opened");
    db->broken = false;
    return 0;
}

int stage_db_write(struct stage_db *db, rocksdb_writebatch_t *b, enum stage_how how, struct why *why)
{
    struct sim_disk *d = disk_of(db);

    fiber_sleep(sim_latency(d->write_ns / 2));
    if (d->fails || db->broken) {
        db->broken = true;
        return why_set(why, d->fails ? d->fails : -EIO, "the simulated disk of the stage fails");
    }
    sim_table_apply(d->table, batch_of(b));
    if (how == STAGE_STABLE) {
        uint64_t n = sim_table_applied(d->table);

        fiber_sleep(sim_latency(d->sync_ns));
        if (broken != BROKEN_STAGE_UNSYNCED)
            sim_table_sync(d->table, n);
    } else {
        fiber_sleep(sim_latency(d->write_ns / 2));
    }
    return 0;
}

int stage_db_get(struct stage_db *db, enum stage_family family, const uint8_t *key, size_t n,
                 int (*see)(void *arg, const uint8_t *value, size_t len), void *arg, struct why *why)
{
    struct sim_pair p;
    int rc;

    (void)why;
    if (!sim_table_get(disk_of(db)->table, family, key, n, &p))
        return -ENOENT;
    fiber_atomic++;
    rc = see(arg, p.value, p.len);
    fiber_atomic--;
    return rc;
}

int stage_db_each(struct stage_db *db, enum stage_family family, const uint8_t *from, size_t from_len,
                  const uint8_t *to, size_t to_len,
                  int (*each)(void *arg, const uint8_t *key, size_t n, const uint8_t *value, size_t len),
                  void *arg, struct why *why)
{
    struct sim_table *t = disk_of(db)->table;
    struct sim_pair p;
    int rc = 0;

    (void)why;
    fiber_atomic++;
    for (bool more = sim_table_next(t, family, from, from_len, false, &p);
         more && rc == 0 && sim_key_compare(p.key, p.key_len, to, to_len) < 0;
         more = sim_table_next(t, family, p.key, p.key_len, true, &p))
        rc = each(arg, p.key, p.key_len, p.value, p.len);
    fiber_atomic--;
    return rc;
}

void stage_db_drop_files(struct stage_db *db, enum stage_family family, const uint8_t *from,
                         const uint8_t *to, size_t n)
{
    (void)db, (void)family, (void)from, (void)to, (void)n;
}

int stage_db_room(struct stage_db *db, uint64_t bytes, struct why *why)
{
    if (disk_of(db)->room_bytes < bytes)
        return why_set(why, -ENOSPC, "the simulated disk of the stage is full");
    return 0;
}

uint64_t stage_db_bytes(struct stage_db *db)
{
    return sim_table_bytes(disk_of(db)->table);
}
