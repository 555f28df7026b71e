/* cache/vm_spec.c - checks and JSON of a VM's definition. Any thread; keeps nothing.
 */
#include "vm_spec.h"
#include "check.h"
#include "generation.h"
#include "mem.h"
#include "proto.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { FORMAT = 2 /* of generation 1 */, SECRET_MIN = 12 };

/* RFC 3722 leaves few characters; upper case is folded by initiators, so it is refused here. */
static bool iqn_ok(const char *iqn)
{
    if (strncmp(iqn, "iqn.", 4) != 0 && strncmp(iqn, "eui.", 4) != 0 && strncmp(iqn, "naa.", 4) != 0)
        return false;
    for (const char *c = iqn; *c; c++)
        if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && !strchr(".-:", *c))
            return false;
    return true;
}

static int check_chap(const char *user, const char *secret, const char *what, struct why *why)
{
    if (!*user && !*secret)
        return 0;
    if (!*user || !*secret)
        return why_set(why, -EINVAL, "%s needs both a user and a secret", what);
    if (strlen(secret) < SECRET_MIN)
        return why_set(why, -EINVAL, "%s: the secret must have at least %d characters (RFC 7143, 12.1.3)",
                       what, SECRET_MIN);
    return 0;
}

unsigned vm_spec_disks(const struct vm_spec *s)
{
    unsigned n = 0;

    for (unsigned lun = 0; lun < s->ndisks; lun++)
        n += vm_has_disk(s, lun);
    return n;
}

const char *vm_spec_onprem(const struct vm_spec *s)
{
    unsigned lun = 0;

    while (!vm_has_disk(s, lun))
        lun++;
    return s->disks[lun].onprem;
}

int vm_spec_check(const struct vm_spec *s, struct why *why)
{
    if (!proto_name_ok(s->name))
        return why_set(why, -EINVAL,
                       "'%s' is no name for a VM: letters, digits, '.', '_' and '-', at most %d", s->name,
                       VM_NAME_MAX);
    if (!iqn_ok(s->iqn))
        return why_set(why, -EINVAL, "'%s' is no iSCSI name (iqn., eui. or naa., lower case)", s->iqn);
    if (s->ndisks > VM_DISKS_MAX || vm_spec_disks(s) == 0)
        return why_set(why, -EINVAL, "a VM has 1 to %d disks, not %u", VM_DISKS_MAX,
                       s->ndisks > VM_DISKS_MAX ? s->ndisks : 0);
    for (unsigned i = 0; i < s->ndisks; i++)
        if (vm_has_disk(s, i) && (!proto_name_ok(s->disks[i].onprem) || !proto_name_ok(s->disks[i].disk)))
            return why_set(why, -EINVAL, "disk %u is not of the form ONPREM:DISK", i);
    if (*s->prefers && !proto_name_ok(s->prefers))
        return why_set(why, -EINVAL, "'%s' is no name of an edge", s->prefers);
    return vm_chap_check(s, why);
}

int vm_chap_check(const struct vm_spec *s, struct why *why)
{
    int rc = check_chap(s->chap_user, s->chap_secret, "CHAP", why);

    if (rc == 0)
        rc = check_chap(s->mutual_user, s->mutual_secret, "mutual CHAP", why);
    if (rc == 0 && *s->mutual_user && !*s->chap_user)
        return why_set(why, -EINVAL, "mutual CHAP needs CHAP of the initiator too");
    if (rc == 0 && *s->mutual_user && strcmp(s->chap_secret, s->mutual_secret) == 0)
        return why_set(why, -EINVAL, "the two CHAP secrets must differ (RFC 7143, 9.2.1)");
    return rc;
}

void vm_spec_wipe(struct vm_spec *s)
{
    explicit_bzero(s, sizeof *s);
}

char *vm_spec_to_json(const struct vm_spec *s, bool deleting)
{
    char id[2 * VMLOG_ID_BYTES + 1], *text;
    json_t *disks = json_array(), *o;

    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        snprintf(id + 2 * i, 3, "%02x", s->id[i]);
    for (unsigned i = 0; i < s->ndisks; i++) {
        const struct vm_disk *d = &s->disks[i];

        if (vm_has_disk(s, i))
            CHECK(json_array_append_new(disks, json_pack("{si si ss ss sI si}", "lun", (int)i, "number",
                                                         (int)d->number, "onprem", d->onprem, "disk", d->disk,
                                                         "sectors", (json_int_t)d->sectors, "block_bytes",
                                                         (int)d->block_bytes)) == 0);
    }
    o = json_pack("{si si ss ss ss ss ss ss ss sb sI sI sI sI sI si sb sb ss so}", "format",
                  (int)generation_format(FORMAT), "next_number", (int)s->next_number, "name", s->name, "iqn",
                  s->iqn, "id", id, "chap_user", s->chap_user, "chap_secret", s->chap_secret, "mutual_user",
                  s->mutual_user, "mutual_secret", s->mutual_secret, "deleting", deleting, "epoch",
                  (json_int_t)s->epoch, "since", (json_int_t)s->since, "joined", (json_int_t)s->joined,
                  "floor", (json_int_t)s->floor, "task", (json_int_t)s->task, "storage", (int)s->storage,
                  "paused", s->paused, "home", s->home, "prefers", s->prefers, "disks", disks);
    CHECK(o);
    text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    CHECK(text);
    json_decref(o);
    return text;
}

/* false if it does not fit: half of a name or a secret would be another one. */
static bool take(char *to, size_t size, const char *from)
{
    size_t n = strlen(from);

    if (n >= size)
        return false;
    memcpy(to, from, n + 1);
    return true;
}

static int take_id(const char *hex, uint8_t id[VMLOG_ID_BYTES])
{
    if (strlen(hex) != 2 * VMLOG_ID_BYTES || strspn(hex, "0123456789abcdef") != strlen(hex))
        return -EBADMSG;
    for (int i = 0; i < VMLOG_ID_BYTES; i++) {
        unsigned byte;

        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return -EBADMSG;
        id[i] = (uint8_t)byte;
    }
    return 0;
}

static int take_disk(json_t *o, int lun, struct vm_spec *s)
{
    const char *onprem, *disk;
    int block_bytes, number = lun; /* format 1 has neither */
    json_int_t sectors;
    struct vm_disk *d;

    if (json_unpack(o, "{s?i s?i ss ss sI si}", "lun", &lun, "number", &number, "onprem", &onprem, "disk",
                    &disk, "sectors", &sectors, "block_bytes", &block_bytes) < 0 ||
        lun < 0 || lun >= VM_DISKS_MAX || number < 0 || (unsigned)number >= s->next_number || sectors < 0 ||
        (block_bytes != 512 && block_bytes != 4096) || vm_has_disk(s, (unsigned)lun))
        return -EBADMSG;
    d = &s->disks[lun];
    if (!*disk || !take(d->onprem, sizeof d->onprem, onprem) || !take(d->disk, sizeof d->disk, disk))
        return -EBADMSG;
    d->sectors = (uint64_t)sectors;
    d->block_bytes = (uint32_t)block_bytes;
    d->number = (uint8_t)number;
    if ((unsigned)lun >= s->ndisks)
        s->ndisks = (unsigned)lun + 1;
    return 0;
}

static int take_disks(json_t *disks, int next_number, struct vm_spec *s)
{
    json_t *o;
    size_t i;

    if (json_array_size(disks) > VM_DISKS_MAX || next_number > VM_DISKS_MAX)
        return -EBADMSG;
    s->next_number = next_number < 0 ? (unsigned)json_array_size(disks) : (unsigned)next_number;
    json_array_foreach(disks, i, o)
    {
        if (take_disk(o, (int)i, s) < 0)
            return -EBADMSG;
    }
    return 0;
}

int vm_spec_from_json(const char *text, size_t n, struct vm_spec *s, bool *deleting, struct why *why)
{
    const char *name = "?", *iqn, *id, *cu, *cs, *mu, *ms, *prefers = "";
    json_t *o = json_loadb(text, n, 0, NULL), *disks;
    int newest = FORMAT + (int)generation_newest() - 1, format = 0, next_number = -1, gone, storage, paused,
        home, rc = -EBADMSG;
    json_int_t epoch, since, joined = 0, floor = 0, task = 0;

    memset(s, 0, sizeof *s);
    if (json_unpack(o, "{si ss}", "format", &format, "name", &name) == 0 && format > newest)
        rc = why_set(why, -EBADMSG, "VM %s is described in format %d, this isthmus-edge knows up to %d", name,
                     format, newest);
    else if (json_unpack(o, "{s?i ss ss ss ss ss ss ss sb sI sI s?I s?I s?I si sb sb s?s so}", "next_number",
                         &next_number, "name", &name, "iqn", &iqn, "id", &id, "chap_user", &cu, "chap_secret",
                         &cs, "mutual_user", &mu, "mutual_secret", &ms, "deleting", &gone, "epoch", &epoch,
                         "since", &since, "joined", &joined, "floor", &floor, "task", &task, "storage",
                         &storage, "paused", &paused, "home", &home, "prefers", &prefers, "disks",
                         &disks) < 0 ||
             (storage != WB_WRITE_BACK && storage != WB_CLOUD_PERSIST) || epoch < 0 || since < 0 ||
             joined < 0 || floor < 0 || take_id(id, s->id) < 0 || take_disks(disks, next_number, s) < 0 ||
             !take(s->name, sizeof s->name, name) || !take(s->iqn, sizeof s->iqn, iqn) ||
             !take(s->chap_user, sizeof s->chap_user, cu) ||
             !take(s->chap_secret, sizeof s->chap_secret, cs) ||
             !take(s->mutual_user, sizeof s->mutual_user, mu) ||
             !take(s->mutual_secret, sizeof s->mutual_secret, ms) ||
             !take(s->prefers, sizeof s->prefers, prefers) || (*prefers && !proto_name_ok(prefers)))
        rc = why_set(why, -EBADMSG, "the catalog entry of VM %s cannot be understood", name);
    else {
        *deleting = gone;
        s->epoch = (uint64_t)epoch;
        s->since = (uint64_t)since;
        s->joined = (uint64_t)joined;
        s->floor = (uint64_t)floor;
        s->task = (uint64_t)task;
        s->storage = storage == WB_WRITE_BACK ? WB_WRITE_BACK : WB_CLOUD_PERSIST;
        s->paused = paused;
        s->home = home;
        rc = 0;
    }
    json_decref(o);
    return rc;
}
