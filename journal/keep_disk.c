/* journal/keep_disk.c - what says, in this edge's journal, which VMs' logs are kept there for the other edge.
 *
 * A named value for each, "mirror/ID", and "joined/ID"; docs/pair.md has the bytes. Blocking.
 */
#include "impl.h"
#include "keep_impl.h"
#include "record.h"
#include "vm_value.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char folder[] = "mirror", prefix[] = "mirror/", joined_folder[] = "joined";

enum { VALUE_BYTES = KEEP_WRITER_BYTES + 8 };

int keep_note(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], const uint8_t writer[KEEP_WRITER_BYTES],
              uint64_t from, struct why *why)
{
    uint8_t value[VALUE_BYTES];
    char key[VM_ID_KEY_MAX];

    vm_id_key(folder, id, key);
    memcpy(value, writer, KEEP_WRITER_BYTES);
    put64(value + KEEP_WRITER_BYTES, from);
    return journal_meta_put(j, key, value, sizeof value, why);
}

int keep_note_joined(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], uint64_t from, struct why *why)
{
    char key[VM_ID_KEY_MAX];
    uint8_t value[8];

    vm_id_key(joined_folder, id, key);
    put64(value, from);
    return journal_meta_put(j, key, value, sizeof value, why);
}

struct looking {
    const uint8_t *writer;
    uint64_t *from;
};

static int on_value(void *arg, const char *key, const void *value, size_t n)
{
    struct looking *l = arg;
    const uint8_t *p = value;

    (void)key;
    if (n != VALUE_BYTES)
        return -EBADMSG;
    if (memcmp(p, l->writer, KEEP_WRITER_BYTES) != 0)
        return 0;
    *l->from = get64(p + KEEP_WRITER_BYTES);
    return 1;
}

int keep_clear(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    int rc = vmlog_delete(j, id, why);

    return rc ? rc : vm_value_erase(j, id, why);
}

/* An older stream's does not count, unless that began there, too. */
static int on_joined(void *arg, const char *key, const void *value, size_t n)
{
    const uint64_t *from = arg;

    (void)key;
    if (n != sizeof *from)
        return -EBADMSG;
    return get64(value) == *from;
}

int keep_look(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], const uint8_t writer[16], uint64_t *from,
              bool *joined, struct why *why)
{
    struct looking l = {writer, from};
    char key[VM_ID_KEY_MAX];
    int rc;

    vm_id_key(folder, id, key);
    rc = journal_meta_each(j, key, on_value, &l, why);
    if (rc == 0)
        return why_set(why, -ENOENT, "this edge has not kept its log");
    vm_id_key(joined_folder, id, key);
    if (rc > 0)
        rc = journal_meta_each(j, key, on_joined, from, why);
    *joined = rc > 0;
    return rc > 0 ? 0 : rc;
}

static int on_record(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    uint64_t *last = arg;

    (void)value;
    (void)n;
    if (key_len != RECORD_KEY_BYTES)
        return -EBADMSG;
    *last = get64(key + VMLOG_ID_BYTES);
    return 0;
}

int keep_last(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], uint64_t *last, struct why *why)
{
    uint8_t from[RECORD_KEY_BYTES], to[RECORD_KEY_BYTES];
    int rc;

    *last = 0;
    record_key(from, id, 0);
    record_key_end(to, id);
    pthread_rwlock_rdlock(&j->db_lock);
    rc = j->kv->ops->each(j->kv, KV_LOG, from, sizeof from, to, sizeof to, on_record, last);
    pthread_rwlock_unlock(&j->db_lock);
    return rc ? why_set(why, rc, "the log that was kept here cannot be read: %s", strerror(-rc)) : 0;
}

int keep_forget(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char key[VM_ID_KEY_MAX];
    int rc;

    vm_id_key(joined_folder, id, key);
    rc = journal_meta_delete(j, key, why);
    vm_id_key(folder, id, key);
    return rc ? rc : journal_meta_delete(j, key, why);
}

struct purging {
    struct journal *journal;
    bool (*in_use)(void *arg, const uint8_t id[VMLOG_ID_BYTES]);
    void *arg;
    struct why *why;
};

static int purge_one(void *arg, const char *key, const void *value, size_t n)
{
    struct purging *p = arg;
    uint8_t id[VMLOG_ID_BYTES];
    int rc = 0;

    (void)value;
    (void)n;
    for (int i = 0; i < VMLOG_ID_BYTES; i++) {
        unsigned byte;

        if (sscanf(key + sizeof prefix - 1 + 2 * i, "%2x", &byte) != 1)
            return -EBADMSG;
        id[i] = (uint8_t)byte;
    }
    if (!p->in_use(p->arg, id))
        rc = keep_clear(p->journal, id, p->why);
    return rc ? rc : keep_forget(p->journal, id, p->why);
}

int keep_purge(struct journal *j, bool (*in_use)(void *arg, const uint8_t id[VMLOG_ID_BYTES]), void *arg,
               struct why *why)
{
    struct purging p = {j, in_use, arg, why};

    return journal_meta_each(j, prefix, purge_one, &p, why);
}
