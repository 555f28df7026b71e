/* initiator/stage.c - opening the stage, its keys, and the rows of VMs; see stage.h.
 *
 * Each start seals under a new generation (keyring.h). Names of contents are keyed hashes: what is on the
 * disk does not tell who has which block.
 */
#include "stage_impl.h"

#include "check.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

static const char key_prefix[4] = "key/", vm_prefix[3] = "vm/";
enum { VM_KEY_BYTES = sizeof vm_prefix + WB_ID_BYTES };

/* ---- sealing ---- */

void stage_batch_put(struct stage *s, rocksdb_writebatch_t *batch, enum stage_family family,
                     const uint8_t *key, size_t key_len, const uint8_t *plain, size_t n)
{
    uint8_t *sealed = s->sealed;

    CHECK(n + SEAL_OVERHEAD <= sizeof s->sealed);
    keyring_seal(s->keys, key, key_len, plain, n, sealed);
    rocksdb_writebatch_put_cf(batch, s->db.family[family], (const char *)key, key_len, (const char *)sealed,
                              n + SEAL_OVERHEAD);
}

int stage_unseal(struct stage *s, struct opener *o, const uint8_t *key, size_t key_len, const uint8_t *value,
                 size_t n, uint8_t *plain, size_t room, struct why *why)
{
    int len = keyring_open(s->keys, o, key, key_len, value, n, plain, room);

    if (len < 0)
        why_set(why, len, "a value of the stage at %s is damaged", s->db.dir);
    return len;
}

void stage_name(const struct stage *s, const uint8_t *hash, uint8_t name[STAGE_NAME_BYTES])
{
    uint8_t full[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    CHECK(HMAC(EVP_sha256(), s->names.bytes, AEAD_KEY_BYTES, hash, WB_HASH_BYTES, full, &n));
    memcpy(name, full, STAGE_NAME_BYTES);
}

/* ---- keys ---- */

struct adding {
    struct stage *s;
    struct why *why;
};

static int add_generation(void *arg, const uint8_t *key, size_t n, const uint8_t *value, size_t len)
{
    struct adding *a = arg;

    if (n == sizeof key_prefix + 4 &&
        keyring_add(a->s->keys, get32(key + sizeof key_prefix), value, len) == 0)
        return 0;
    return why_set(a->why, -EBADMSG,
                   "the key at rest does not open the stage at %s: it was made with another one",
                   a->s->db.dir);
}

static int start_generation(struct stage *s, struct why *why)
{
    uint8_t salt[AEAD_SALT_BYTES], entry[KEYRING_ENTRY_BYTES], key[sizeof key_prefix + 4];
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    int err;

    CHECK(RAND_bytes(salt, sizeof salt) == 1);
    memcpy(key, key_prefix, sizeof key_prefix);
    put32(key + sizeof key_prefix, keyring_grow(s->keys, salt, entry));
    rocksdb_writebatch_put(batch, (char *)key, sizeof key, (char *)entry, sizeof entry);
    err = stage_db_write(&s->db, batch, STAGE_STABLE, why);
    rocksdb_writebatch_destroy(batch);
    return err;
}

int stage_open(struct stage **sp, const char *dir, const struct aead_key *key, struct why *why)
{
    static const uint8_t no_salt[AEAD_SALT_BYTES];
    struct stage *s = xcalloc(1, sizeof *s);
    struct adding adding = {s, why};
    int err = stage_db_open(&s->db, dir, why);

    if (err) {
        free(s);
        return err;
    }
    s->keys = keyring_new(key, "isthmus stage");
    aead_derive(key, no_salt, "isthmus stage names", &s->names);
    err = stage_db_each(&s->db, FAMILY_STATE, (const uint8_t *)"key/", 4, (const uint8_t *)"key0", 4,
                        add_generation, &adding, why);
    if (!err)
        err = start_generation(s, why);
    if (err)
        stage_close(&s);
    *sp = s;
    return err;
}

void stage_close(struct stage **sp)
{
    struct stage *s = *sp;

    *sp = NULL;
    stage_db_close(&s->db);
    keyring_free(&s->keys);
    explicit_bzero(&s->names, sizeof s->names);
    free(s);
}

/* ---- VMs ---- */

struct seeing {
    struct stage *s;
    struct opener *opener;
    int (*each)(void *arg, const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n);
    void *arg;
    struct why *why;
    uint8_t plain[STAGE_ROW_MAX];
};

static int see_vm(void *arg, const uint8_t *key, size_t n, const uint8_t *value, size_t len)
{
    struct seeing *see = arg;
    int row = -EBADMSG;

    if (n == VM_KEY_BYTES)
        row = stage_unseal(see->s, see->opener, key, n, value, len, see->plain, sizeof see->plain, see->why);
    if (row < 0)
        return why_set(
            see->why, -EBADMSG,
            "what the stage at %s knows of a VM is damaged: restore %s from a copy, or remove it and "
            "attach the VMs again",
            see->s->db.dir, see->s->db.dir);
    return see->each(see->arg, key + sizeof vm_prefix, see->plain, (size_t)row);
}

int stage_vms(struct stage *s,
              int (*each)(void *arg, const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n), void *arg,
              struct why *why)
{
    struct seeing *see = xmalloc(sizeof *see);
    int err;

    *see = (struct seeing){.s = s, .opener = keyring_take(s->keys), .each = each, .arg = arg, .why = why};
    err = stage_db_each(&s->db, FAMILY_STATE, (const uint8_t *)"vm/", 3, (const uint8_t *)"vm0", 3, see_vm,
                        see, why);
    keyring_give(s->keys, see->opener);
    free(see);
    return err;
}

static void vm_key(uint8_t key[VM_KEY_BYTES], const uint8_t vm[WB_ID_BYTES])
{
    memcpy(key, vm_prefix, sizeof vm_prefix);
    memcpy(key + sizeof vm_prefix, vm, WB_ID_BYTES);
}

static const enum stage_family of_stages[] = {FAMILY_PIECES, FAMILY_HASHES};

int stage_put_vm(struct stage *s, const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n, uint64_t drop,
                 struct why *why)
{
    rocksdb_writebatch_t *batch;
    uint8_t key[VM_KEY_BYTES], from[8], to[8];
    int err = stage_db_again(&s->db, why);

    if (err)
        return err;
    batch = rocksdb_writebatch_create();
    vm_key(key, vm);
    stage_batch_put(s, batch, FAMILY_STATE, key, sizeof key, row, n);
    put64(from, drop);
    put64(to, drop + 1);
    for (unsigned i = 0; drop && i < 2; i++)
        rocksdb_writebatch_delete_range_cf(batch, s->db.family[of_stages[i]], (char *)from, 8, (char *)to, 8);
    err = stage_db_write(&s->db, batch, STAGE_STABLE, why);
    rocksdb_writebatch_destroy(batch);
    for (unsigned i = 0; !err && drop && i < 2; i++)
        stage_db_drop_files(&s->db, of_stages[i], from, to, 8);
    return err;
}

int stage_remove_vm(struct stage *s, const uint8_t vm[WB_ID_BYTES], struct why *why)
{
    rocksdb_writebatch_t *batch;
    uint8_t key[VM_KEY_BYTES];
    int err = stage_db_again(&s->db, why);

    if (err)
        return err;
    batch = rocksdb_writebatch_create();
    vm_key(key, vm);
    rocksdb_writebatch_delete_cf(batch, s->db.family[FAMILY_STATE], (char *)key, sizeof key);
    err = stage_db_write(&s->db, batch, STAGE_STABLE, why);
    rocksdb_writebatch_destroy(batch);
    return err;
}

void stage_sweep(struct stage *s, uint64_t number)
{
    uint8_t from[8] = {0}, to[8];

    put64(to, number);
    for (unsigned i = 0; i < 2; i++)
        stage_db_drop_files(&s->db, of_stages[i], from, to, 8);
}

uint64_t stage_bytes(struct stage *s)
{
    return stage_db_bytes(&s->db);
}
