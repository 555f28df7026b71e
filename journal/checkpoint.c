/* journal/checkpoint.c - see checkpoint.h.
 */
#include "checkpoint.h"
#include "check.h"
#include "generation.h"
#include "logobj_impl.h"
#include "map_impl.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char magic[8] = {'I', 'S', 'T', 'H', 'M', 'A', 'P', '1'}, label[] = "isthmus map object";

enum {
    CHECKPOINT_FORMAT = 2, /* of generation 1 */
    FLAG_END = 1,
    PART_PLAIN = 4 << 20,
    PART_ROOM = PART_PLAIN + 4 + MAP_ROW_MAX + 64, /* a part is closed when it is over PART_PLAIN */
    ROW_REGION = 1,
    ROW_OBJECT = 2,
    ROW_STATE = 3,
    LOAD_ROWS = 256
};

bool checkpoint_same(const struct checkpoint_id *a, const struct checkpoint_id *b)
{
    return a->cut == b->cut && a->epoch == b->epoch && a->upload == b->upload;
}

void checkpoint_name(char name[MAP_NAME_MAX], const uint8_t id[VMLOG_ID_BYTES], const struct checkpoint_id *c,
                     uint32_t number)
{
    int n = snprintf(name, MAP_NAME_MAX, "vms/");

    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        n += snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "%02x", id[i]);
    n += snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "/map/%016" PRIx64 "-%016" PRIx64 "-%08x", c->cut,
                  c->epoch, c->upload);
    if (number == CHECKPOINT_END)
        snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "-end");
    else
        snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "-%08x", number);
}

bool checkpoint_of(const char *name, struct checkpoint_id *c)
{
    const char *tail = strrchr(name, '/');

    return tail &&
           sscanf(tail + 1, "%16" SCNx64 "-%16" SCNx64 "-%8" SCNx32 "-", &c->cut, &c->epoch, &c->upload) == 3;
}

/* --- writing --------------------------------------------------------------------------------------------*/

struct writing {
    struct map *map;
    struct loop *random;
    const struct aead_key *master;
    const uint8_t *id;
    const struct checkpoint_id *checkpoint;
    FILE *spool;
    uint8_t *plain, *sealed;
    uint32_t len, number;
    struct checkpoint_dead *dead;
    int err;
};

static void head_write(uint8_t h[CHECKPOINT_HEAD_BYTES], const struct writing *w, bool end)
{
    memcpy(h, magic, sizeof magic);
    put16(h + 8, generation_format(CHECKPOINT_FORMAT));
    put16(h + 10, end ? FLAG_END : 0);
    put32(h + 12, w->number);
    memcpy(h + 16, w->id, VMLOG_ID_BYTES);
    put64(h + 32, w->checkpoint->cut);
    loop_random(w->random, h + 40, AEAD_SALT_BYTES);
    put64(h + 56, w->checkpoint->epoch);
    put32(h + 64, w->checkpoint->upload);
    put32(h + 68, 0);
}

static void close_part(struct writing *w, bool end)
{
    uint8_t length[4];
    struct aead *aead;
    uint32_t packed, n;

    head_write(w->sealed, w, end);
    packed = logobj_frame_pack(w->plain, w->len, w->sealed + CHECKPOINT_HEAD_BYTES);
    aead = aead_new_derived(w->master, w->sealed + 40, label);
    aead_seal(aead, 0, w->sealed, CHECKPOINT_HEAD_BYTES, w->sealed + CHECKPOINT_HEAD_BYTES, packed,
              w->sealed + CHECKPOINT_HEAD_BYTES);
    aead_free(&aead);
    n = CHECKPOINT_HEAD_BYTES + packed + AEAD_TAG_BYTES;
    put32(length, n);
    if (fwrite(length, sizeof length, 1, w->spool) != 1 || fwrite(w->sealed, n, 1, w->spool) != 1)
        w->err = -EIO;
    w->len = 0;
    w->number++;
}

static void add_row(struct writing *w, uint8_t kind, const uint8_t *key, size_t key_len, const uint8_t *value,
                    size_t n)
{
    uint8_t *p = w->plain + w->len;

    p[0] = kind;
    p[1] = (uint8_t)key_len;
    put16(p + 2, (uint16_t)n);
    memcpy(p + 4, key, key_len);
    memcpy(p + 4 + key_len, value, n);
    w->len += 4 + (uint32_t)(key_len + n);
    if (w->len >= PART_PLAIN)
        close_part(w, false);
}

static int on_region(void *arg, const uint8_t *key, const uint8_t *value, size_t n)
{
    struct writing *w = arg;

    add_row(w, ROW_REGION, key + VMLOG_ID_BYTES, MAP_KEY_BYTES - VMLOG_ID_BYTES, value, n);
    return w->err;
}

static bool is_dead(const struct checkpoint_dead *d, const struct map_object *o)
{
    return o->live_sectors == 0 && o->last <= d->through &&
           (o->last > d->applied || o->last <= d->applied_before);
}

static void on_object(void *arg, const struct map_object *o)
{
    struct writing *w = arg;
    uint8_t first[8], value[MAP_OBJECT_BYTES];

    if (is_dead(w->dead, o)) {
        w->dead->firsts = xrealloc(w->dead->firsts, (w->dead->n + 1) * sizeof *w->dead->firsts);
        w->dead->firsts[w->dead->n++] = o->first;
        return;
    }
    put64(first, o->first);
    map_object_write(value, o);
    add_row(w, ROW_OBJECT, first, sizeof first, value, sizeof value);
}

static void write_end(struct writing *w, const struct map_state *state)
{
    uint8_t parts[8], value[MAP_STATE_BYTES];

    put64(parts, w->number);
    map_state_write(value, state);
    w->len = 0;
    add_row(w, ROW_STATE, parts, sizeof parts, value, sizeof value);
    close_part(w, true);
}

int checkpoint_write(struct map *m, struct journal *j, struct loop *random, const struct aead_key *master,
                     const uint8_t id[VMLOG_ID_BYTES], const struct checkpoint_id *checkpoint,
                     const struct map_state *state, FILE *spool, struct checkpoint_dead *dead,
                     struct why *why)
{
    struct writing w = {.map = m,
                        .random = random,
                        .master = master,
                        .id = id,
                        .checkpoint = checkpoint,
                        .spool = spool,
                        .dead = dead};
    struct row_range range = map_range(id, KV_MAP);
    int err;

    CHECK(checkpoint->cut == state->committed);
    dead->firsts = NULL;
    dead->n = 0;
    w.plain = xmalloc(PART_ROOM);
    w.sealed = xmalloc(CHECKPOINT_HEAD_BYTES + PART_ROOM + LOGOBJ_FRAME_OVERHEAD);
    map_objects_each(m, on_object, &w);
    err = rows_each(j, &range, on_region, &w);
    if (!err && w.len)
        close_part(&w, false);
    if (!err)
        write_end(&w, state);
    if (!err && (w.err || fflush(spool)))
        err = w.err ? w.err : -EIO;
    free(w.plain);
    free(w.sealed);
    return err ? why_set(why, err, "the map cannot be written out: %s", strerror(-err)) : 0;
}

/* --- loading --------------------------------------------------------------------------------------------*/

/* Opens a part: its rows in *plain (the caller frees), their length; or -errno. */
static int part_open(const struct aead_key *master, const uint8_t *id, const struct checkpoint_id *c,
                     uint32_t number, bool end, const uint8_t *bytes, size_t n, uint8_t **plain,
                     struct why *why)
{
    CLEANUP_FREE uint8_t *scratch = NULL;
    struct aead *aead;
    int len;

    *plain = NULL;
    if (n < CHECKPOINT_HEAD_BYTES + LOGOBJ_FRAME_OVERHEAD || n > CHECKPOINT_PART_MAX ||
        memcmp(bytes, magic, sizeof magic) != 0)
        return why_set(why, -EBADMSG, "it is not a part of a checkpoint");
    if (generation_reads(CHECKPOINT_FORMAT, get16(bytes + 8), why))
        return -ENOTSUP;
    if (get16(bytes + 10) != (end ? FLAG_END : 0) || (!end && get32(bytes + 12) != number) ||
        memcmp(bytes + 16, id, VMLOG_ID_BYTES) != 0 || get64(bytes + 32) != c->cut ||
        get64(bytes + 56) != c->epoch || get32(bytes + 64) != c->upload)
        return why_set(why, -EBADMSG, "it is another part than its name says");
    scratch = xmalloc(n);
    *plain = xmalloc(PART_ROOM);
    aead = aead_new_derived(master, bytes + 40, label);
    len = logobj_frame_unseal(aead, 0, bytes, CHECKPOINT_HEAD_BYTES, bytes + CHECKPOINT_HEAD_BYTES,
                              (uint32_t)(n - CHECKPOINT_HEAD_BYTES), scratch, *plain, PART_ROOM);
    aead_free(&aead);
    if (len < 0) {
        free(*plain);
        *plain = NULL;
        return why_set(why, -EBADMSG, "it was altered, or sealed with another key");
    }
    return len;
}

struct row {
    uint8_t kind;
    const uint8_t *key, *value;
    size_t key_len, n;
};

static bool next_row(struct reader *r, struct row *row)
{
    row->kind = read8(r);
    row->key_len = read8(r);
    row->n = read16(r);
    row->key = read_bytes(r, row->key_len);
    row->value = read_bytes(r, row->n);
    return !r->bad;
}

/* The journal's row of it; false if no checkpoint_write made that. */
static bool change_of(struct row_change *c, const uint8_t *id, const struct row *row)
{
    size_t want = row->kind == ROW_REGION ? MAP_KEY_BYTES : MAP_OBJECT_KEY_BYTES;

    if ((row->kind != ROW_REGION && row->kind != ROW_OBJECT) || row->key_len != want - VMLOG_ID_BYTES ||
        row->n > MAP_ROW_MAX)
        return false;
    *c = (struct row_change){.space = row->kind == ROW_REGION ? KV_MAP : KV_OBJECT,
                             .key_len = want,
                             .value = row->value,
                             .n = row->n};
    memcpy(c->key, id, VMLOG_ID_BYTES);
    memcpy(c->key + VMLOG_ID_BYTES, row->key, row->key_len);
    return true;
}

int checkpoint_load(struct journal *j, const struct aead_key *master, const uint8_t id[VMLOG_ID_BYTES],
                    const struct checkpoint_id *c, uint32_t number, const uint8_t *bytes, size_t n,
                    struct why *why)
{
    CLEANUP_FREE struct row_change *rows = xcalloc(LOAD_ROWS, sizeof *rows);
    CLEANUP_FREE uint8_t *plain = NULL;
    int len = part_open(master, id, c, number, false, bytes, n, &plain, why), err = 0;
    struct reader r;
    size_t nrows = 0;

    if (len < 0)
        return len;
    r = reader_of(plain, (size_t)len);
    while (r.p < r.end && !err) {
        struct row row;

        if (!next_row(&r, &row) || !change_of(&rows[nrows], id, &row))
            return why_set(why, -EBADMSG, "a row of it is impossible");
        if (++nrows == LOAD_ROWS) {
            err = rows_write(j, rows, nrows, false, why);
            nrows = 0;
        }
    }
    return err || nrows == 0 ? err : rows_write(j, rows, nrows, false, why);
}

int checkpoint_load_end(const struct aead_key *master, const uint8_t id[VMLOG_ID_BYTES],
                        const struct checkpoint_id *c, const uint8_t *bytes, size_t n,
                        struct map_state *state, uint32_t *parts, struct why *why)
{
    CLEANUP_FREE uint8_t *plain = NULL;
    int len = part_open(master, id, c, 0, true, bytes, n, &plain, why);
    struct reader r;
    struct row row;

    if (len < 0)
        return len;
    r = reader_of(plain, (size_t)len);
    if (!next_row(&r, &row) || row.kind != ROW_STATE || row.key_len != 8 ||
        map_state_read(state, row.value, row.n) < 0 || get64(row.key) > UINT32_MAX - 1)
        return why_set(why, -EBADMSG, "its state is impossible");
    *parts = (uint32_t)get64(row.key);
    return 0;
}
