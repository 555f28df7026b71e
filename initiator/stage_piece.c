/* initiator/stage_piece.c - the pieces of stages, and where contents are; see stage.h.
 *
 *   pieces    number (8), disk (1), LBA (8)  ->  kind (1), sectors (8), of data: hash (32), bytes
 *   hashes    number (8), name (16)          ->  disk (1), block (8)
 *   content   name (16)                      ->  block (8), name of the source disk
 */
#include "stage_impl.h"

#include "check.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

enum {
    PIECE_KEY_BYTES = 8 + 1 + 8,
    HASH_KEY_BYTES = 8 + STAGE_NAME_BYTES,
    PIECE_HEAD_BYTES = 1 + 8,
    PIECE_DATA_BYTES = PIECE_HEAD_BYTES + WB_HASH_BYTES,
    PIECE_MAX = PIECE_DATA_BYTES + PROTO_BLOCK
};

static void piece_key(uint8_t key[PIECE_KEY_BYTES], uint64_t number, uint8_t disk, uint64_t lba)
{
    put64(key, number);
    key[8] = disk;
    put64(key + 9, lba);
}

static void hash_key(const struct stage *s, uint8_t key[HASH_KEY_BYTES], uint64_t number, const uint8_t *hash)
{
    put64(key, number);
    stage_name(s, hash, key + 8);
}

/* ---- putting ---- */

static size_t put_piece(uint8_t *row, const struct stage_piece *p)
{
    row[0] = (uint8_t)p->kind;
    put64(row + 1, p->nsectors);
    if (p->kind != WB_PIECE_DATA)
        return PIECE_HEAD_BYTES;
    CHECK(p->nsectors <= WB_BLOCK_SECTORS);
    memcpy(row + PIECE_HEAD_BYTES, p->hash, WB_HASH_BYTES);
    memcpy(row + PIECE_DATA_BYTES, p->data, (size_t)p->nsectors * 512);
    return PIECE_DATA_BYTES + (size_t)p->nsectors * 512;
}

static void add_piece(struct stage *s, rocksdb_writebatch_t *batch, uint64_t number,
                      const struct stage_piece *p)
{
    uint8_t key[PIECE_KEY_BYTES], by_hash[HASH_KEY_BYTES], place[1 + 8];

    piece_key(key, number, p->disk, p->lba);
    stage_batch_put(s, batch, FAMILY_PIECES, key, sizeof key, s->plain, put_piece(s->plain, p));
    if (p->kind != WB_PIECE_DATA || p->nsectors != WB_BLOCK_SECTORS)
        return;
    hash_key(s, by_hash, number, p->hash);
    place[0] = p->disk;
    put64(place + 1, p->lba / WB_BLOCK_SECTORS);
    stage_batch_put(s, batch, FAMILY_HASHES, by_hash, sizeof by_hash, place, sizeof place);
}

int stage_put(struct stage *s, uint64_t number, const struct stage_piece *pieces, unsigned n, struct why *why)
{
    rocksdb_writebatch_t *batch;
    uint64_t bytes = (uint64_t)n * 256;
    int err;

    for (unsigned i = 0; i < n; i++)
        bytes += pieces[i].kind == WB_PIECE_DATA ? PIECE_MAX : 0;
    err = stage_db_room(&s->db, 2 * bytes, why); /* in the log, and in a file */
    if (!err)
        err = stage_db_again(&s->db, why);
    if (err)
        return err;
    batch = rocksdb_writebatch_create();
    for (unsigned i = 0; i < n; i++)
        add_piece(s, batch, number, &pieces[i]);
    err = stage_db_write(&s->db, batch, STAGE_LATER, why);
    rocksdb_writebatch_destroy(batch);
    return err;
}

/* ---- reading ---- */

struct scan {
    struct stage *s;
    struct opener *opener;
    int (*each)(void *arg, const struct stage_piece *);
    void *arg;
    struct why *why;
    uint8_t plain[PIECE_MAX];
};

static bool parse(const uint8_t *key, const uint8_t *row, size_t n, struct stage_piece *p)
{
    *p = (struct stage_piece){.disk = key[8], .lba = get64(key + 9)};
    if (n < PIECE_HEAD_BYTES)
        return false;
    p->kind = row[0];
    p->nsectors = get64(row + 1);
    if (p->kind == WB_PIECE_ZERO)
        return n == PIECE_HEAD_BYTES;
    p->hash = row + PIECE_HEAD_BYTES;
    p->data = row + PIECE_DATA_BYTES;
    return p->kind == WB_PIECE_DATA && p->nsectors > 0 && p->nsectors <= WB_BLOCK_SECTORS &&
           n == PIECE_DATA_BYTES + (size_t)p->nsectors * 512;
}

static int scan_row(void *arg, const uint8_t *key, size_t n, const uint8_t *value, size_t len)
{
    struct scan *scan = arg;
    struct stage_piece piece;
    int row = -EBADMSG;

    if (n == PIECE_KEY_BYTES)
        row = stage_unseal(scan->s, scan->opener, key, n, value, len, scan->plain, sizeof scan->plain,
                           scan->why);
    if (row < 0 || !parse(key, scan->plain, (size_t)row, &piece))
        return why_set(scan->why, -EBADMSG, "a piece of the stage at %s is damaged", scan->s->db.dir);
    return scan->each(scan->arg, &piece);
}

int stage_scan(struct stage *s, uint64_t number, uint8_t disk, uint64_t lba,
               int (*each)(void *arg, const struct stage_piece *), void *arg, struct why *why)
{
    struct scan scan = {.s = s, .opener = keyring_take(s->keys), .each = each, .arg = arg, .why = why};
    uint8_t from[PIECE_KEY_BYTES], to[8];
    int err;

    piece_key(from, number, disk, lba);
    put64(to, number + 1);
    err = stage_db_each(&s->db, FAMILY_PIECES, from, sizeof from, to, sizeof to, scan_row, &scan, why);
    keyring_give(s->keys, scan.opener);
    return err;
}

/* One value, opened. */
struct look {
    struct stage *s;
    const uint8_t *key;
    size_t key_len;
    uint8_t plain[PIECE_MAX];
    size_t n;
    struct why *why;
};

static int look_at(void *arg, const uint8_t *value, size_t len)
{
    struct look *l = arg;
    struct opener *o = keyring_take(l->s->keys);
    int n = stage_unseal(l->s, o, l->key, l->key_len, value, len, l->plain, sizeof l->plain, l->why);

    keyring_give(l->s->keys, o);
    l->n = n < 0 ? 0 : (size_t)n;
    return n < 0 ? n : 0;
}

static int look(struct look *l, enum stage_family family)
{
    return stage_db_get(&l->s->db, family, l->key, l->key_len, look_at, l, l->why);
}

/* 0 and the whole block of that content that is there, or -ENOENT. */
static int look_block(struct look *l, uint64_t number, uint8_t disk, uint64_t block, const uint8_t *hash,
                      struct stage_piece *p)
{
    uint8_t key[PIECE_KEY_BYTES];
    int err;

    piece_key(key, number, disk, block * WB_BLOCK_SECTORS);
    l->key = key;
    l->key_len = sizeof key;
    err = look(l, FAMILY_PIECES);
    if (!err && (!parse(key, l->plain, l->n, p) || p->kind != WB_PIECE_DATA ||
                 p->nsectors != WB_BLOCK_SECTORS || memcmp(p->hash, hash, WB_HASH_BYTES) != 0))
        err = -ENOENT;
    return err;
}

int stage_has(struct stage *s, uint64_t number, uint8_t disk, uint64_t block, const uint8_t *hash,
              struct why *why)
{
    struct look l = {.s = s, .why = why};
    struct stage_piece p;

    return look_block(&l, number, disk, block, hash, &p);
}

int stage_find(struct stage *s, uint64_t number, const uint8_t *hash, uint8_t *data, struct why *why)
{
    uint8_t key[HASH_KEY_BYTES];
    struct look l = {.s = s, .key = key, .key_len = sizeof key, .why = why};
    struct stage_piece p = {0};
    int err;

    hash_key(s, key, number, hash);
    err = look(&l, FAMILY_HASHES);
    if (!err && l.n != 1 + 8)
        err = -ENOENT;
    if (!err)
        err = look_block(&l, number, l.plain[0], get64(l.plain + 1), hash, &p);
    if (!err)
        memcpy(data, p.data, PROTO_BLOCK);
    return err;
}

/* ---- contents ---- */

int stage_note(struct stage *s, const char *disk, const uint64_t *blocks,
               const uint8_t (*hashes)[WB_HASH_BYTES], unsigned n, struct why *why)
{
    rocksdb_writebatch_t *batch;
    uint8_t key[STAGE_NAME_BYTES], row[8 + PROTO_NAME_MAX];
    size_t len = strlen(disk);
    int err = stage_db_room(&s->db, (uint64_t)n * 256, why);

    if (!err)
        err = stage_db_again(&s->db, why);
    if (err)
        return err;
    CHECK(len <= PROTO_NAME_MAX);
    batch = rocksdb_writebatch_create();
    memcpy(row + 8, disk, len);
    for (unsigned i = 0; i < n; i++) {
        stage_name(s, hashes[i], key);
        put64(row, blocks[i]);
        stage_batch_put(s, batch, FAMILY_CONTENT, key, sizeof key, row, 8 + len);
    }
    err = stage_db_write(&s->db, batch, STAGE_HINT, why);
    rocksdb_writebatch_destroy(batch);
    return err;
}

int stage_known(struct stage *s, const uint8_t *hash, struct stage_content *c, struct why *why)
{
    uint8_t key[STAGE_NAME_BYTES];
    struct look l = {.s = s, .key = key, .key_len = sizeof key, .why = why};
    int err;

    stage_name(s, hash, key);
    err = look(&l, FAMILY_CONTENT);
    if (err)
        return err;
    if (l.n <= 8 || l.n > 8 + PROTO_NAME_MAX)
        return -ENOENT;
    c->block = get64(l.plain);
    memcpy(c->disk, l.plain + 8, l.n - 8);
    c->disk[l.n - 8] = 0;
    return 0;
}
