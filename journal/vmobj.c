/* journal/vmobj.c - see vmobj.h; docs/log.md has the bytes.
 */
#include "vmobj.h"
#include "generation.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char magic[8] = {'I', 'S', 'T', 'H', 'V', 'M', '0', '1'}, label[] = "isthmus vm object";

enum {
    VMOBJ_FORMAT = 2, /* of generation 1 */
    NEWEST_AT = 80,
    CHECKPOINT_BYTES = 24,
    BEFORE_AT = NEWEST_AT + CHECKPOINT_BYTES,
    WHOLE_AT = BEFORE_AT + CHECKPOINT_BYTES,
    HEAD_BYTES = WHOLE_AT + 8
};

void vmobj_name(char name[MAP_NAME_MAX], const uint8_t id[VMLOG_ID_BYTES])
{
    int n = snprintf(name, MAP_NAME_MAX, "vms/");

    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        n += snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "%02x", id[i]);
    snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "/vm");
}

bool vmobj_id_of(const char *name, uint8_t id[VMLOG_ID_BYTES])
{
    if (strncmp(name, "vms/", 4) != 0 || strlen(name) < 4 + 2 * VMLOG_ID_BYTES + 1 ||
        name[4 + 2 * VMLOG_ID_BYTES] != '/')
        return false;
    for (int i = 0; i < VMLOG_ID_BYTES; i++) {
        unsigned byte;

        if (sscanf(name + 4 + 2 * i, "%2x", &byte) != 1)
            return false;
        id[i] = (uint8_t)byte;
    }
    return true;
}

static void put_checkpoint(uint8_t p[CHECKPOINT_BYTES], const struct checkpoint_id *c)
{
    put64(p, c->cut);
    put64(p + 8, c->epoch);
    put32(p + 16, c->upload);
    put32(p + 20, 0);
}

static struct checkpoint_id get_checkpoint(const uint8_t p[CHECKPOINT_BYTES])
{
    return (struct checkpoint_id){.cut = get64(p), .epoch = get64(p + 8), .upload = get32(p + 16)};
}

struct buf *vmobj_seal(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES],
                       const struct vmobj *v, const void *text, size_t n)
{
    struct buf *b = buf_new(HEAD_BYTES + n + AEAD_TAG_BYTES);
    struct aead *aead = aead_new_derived(master, salt, label);
    uint8_t *p = b->data;

    memset(p, 0, HEAD_BYTES);
    memcpy(p, magic, sizeof magic);
    put16(p + 8, generation_format(VMOBJ_FORMAT));
    memcpy(p + 16, v->id, VMLOG_ID_BYTES);
    memcpy(p + 32, salt, AEAD_SALT_BYTES);
    put64(p + 48, v->epoch);
    put64(p + 56, v->since);
    memcpy(p + 64, v->writer, LOGOBJ_WRITER_BYTES);
    put_checkpoint(p + NEWEST_AT, &v->newest);
    put_checkpoint(p + BEFORE_AT, &v->before);
    put64(p + WHOLE_AT, v->whole);
    aead_seal(aead, 0, p, HEAD_BYTES, text, n, p + HEAD_BYTES);
    aead_free(&aead);
    return b;
}

struct buf *vmobj_open(const struct aead_key *master, const uint8_t id[VMLOG_ID_BYTES], const uint8_t *p,
                       size_t n, struct vmobj *v, int *err, struct why *why)
{
    struct aead *aead;
    struct buf *text;

    *err = -EBADMSG;
    if (n < HEAD_BYTES + AEAD_TAG_BYTES || n > VMOBJ_MAX || memcmp(p, magic, sizeof magic) != 0) {
        why_set(why, *err, "it is not a VM's entry");
        return NULL;
    }
    *err = generation_reads(VMOBJ_FORMAT, get16(p + 8), why);
    if (*err)
        return NULL;
    *err = -EBADMSG;
    if (memcmp(p + 16, id, VMLOG_ID_BYTES) != 0) {
        why_set(why, *err, "it is of another VM");
        return NULL;
    }
    text = buf_new(n - HEAD_BYTES - AEAD_TAG_BYTES);
    aead = aead_new_derived(master, p + 32, label);
    if (aead_open(aead, 0, p, HEAD_BYTES, p + HEAD_BYTES, text->len, text->data) < 0) {
        why_set(why, *err, "it was altered, or sealed with another key");
        buf_unref(&text);
    } else {
        *err = 0;
        memcpy(v->id, id, VMLOG_ID_BYTES);
        v->epoch = get64(p + 48);
        v->since = get64(p + 56);
        memcpy(v->writer, p + 64, LOGOBJ_WRITER_BYTES);
        v->newest = get_checkpoint(p + NEWEST_AT);
        v->before = get_checkpoint(p + BEFORE_AT);
        v->whole = get64(p + WHOLE_AT);
    }
    aead_free(&aead);
    return text;
}

void vmobj_wipe(struct buf **text)
{
    if (*text)
        explicit_bzero((*text)->data, (*text)->len);
    buf_unref(text);
}

int vmobj_judge(const struct aead_key *master, const struct vmobj *mine, int err, const uint8_t *bytes,
                size_t n, struct vmobj *found, struct buf **text, struct why *why)
{
    struct buf *opened = NULL;

    if (err == 0)
        opened = vmobj_open(master, mine->id, bytes, n, found, &err, why);
    if (err == -ENOENT)
        return why_set(why, -ESTALE,
                       "the object store knows nothing of this VM any more: this edge stops serving it");
    if (err)
        return err;
    if (found->epoch != mine->epoch || memcmp(found->writer, mine->writer, sizeof mine->writer) != 0)
        err = why_set(
            why, -ESTALE,
            "another edge writes this VM's log (its entry in the object store says so): this edge stops "
            "serving the VM; it must run on one edge only");
    if (err || !text)
        vmobj_wipe(&opened);
    if (text)
        *text = opened;
    return err;
}
