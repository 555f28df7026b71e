/* control/rest_vms.c - create, list, show and delete VMs. What a request may hold is checked here; whether
 * it makes sense (disks that exist, names that are free) is the catalog's to say.
 */
#include "rest_impl.h"

#include "conf.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "rest";

enum { SECRET_MIN = 12 };

void rest_vms_list(struct rest *rest, struct http_request *r)
{
    rest_reply(r, 200, json_pack("{so}", "vms", rest_vms_json(rest)));
}

void rest_vm_show(struct rest *rest, struct http_request *r)
{
    struct vm *vm = vms_find(rest->conf.vms, r->tail);

    if (vm)
        rest_reply(r, 200, rest_vm_json(rest, vm));
    else
        http_reply_error(r, 404, "there is no VM %.80s", r->tail);
}

int rest_take_disk(struct vm_disk *disk, const char *text, struct why *why)
{
    const char *colon = text ? strchr(text, ':') : NULL;
    size_t n = colon ? (size_t)(colon - text) : 0;

    if (!colon || n >= sizeof(disk->onprem) || strlen(colon + 1) >= sizeof(disk->disk))
        return why_set(why, -EINVAL, "a disk is ONPREM:DISK, as in \"dc1:vm1-root\", not \"%.140s\"",
                       text ? text : "");
    memcpy(disk->onprem, text, n);
    disk->onprem[n] = '\0';
    strcpy(disk->disk, colon + 1);
    if (!conf_name_ok(disk->onprem) || !conf_name_ok(disk->disk))
        return why_set(why, -EINVAL, "a disk is ONPREM:DISK, as in \"dc1:vm1-root\", not \"%.140s\"", text);
    return 0;
}

/* A user and its secret: both or neither. */
static int take_chap(char *user, char *secret, const char *given_user, const char *given_secret,
                     const char *what, struct why *why)
{
    if (!given_user && !given_secret)
        return 0;
    if (!given_user || !given_secret)
        return why_set(why, -EINVAL, "%s_user and %s_secret come together", what, what);
    if (!*given_user || strlen(given_user) > VM_SECRET_MAX)
        return why_set(why, -EINVAL, "%s_user is 1 to %d bytes long", what, VM_SECRET_MAX);
    if (strlen(given_secret) < SECRET_MIN || strlen(given_secret) > VM_SECRET_MAX)
        return why_set(why, -EINVAL, "%s_secret is %d to %d bytes long", what, SECRET_MIN, VM_SECRET_MAX);
    for (const char *c = given_user; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return why_set(why, -EINVAL, "%s_user holds a control character", what);
    strcpy(user, given_user);
    strcpy(secret, given_secret);
    return 0;
}

static int take_spec(struct vm_spec *spec, json_t *json, struct why *why)
{
    static const char *const known[] = {"name",          "disks",   "chap_user", "chap_secret", "mutual_user",
                                        "mutual_secret", "storage", "prefers",   "block_bytes"};
    enum {
        KNOWN = sizeof known / sizeof *known,
        DISKS = 1,
        STORAGE = 6,
        PREFERS = 7,
        BLOCK_BYTES_KEY = KNOWN - 1
    };
    const char *text[KNOWN] = {NULL}, *key;
    json_int_t block_bytes = 0;
    json_t *value, *disks = NULL;
    int err = 0;
    size_t i;

    if (!json_is_object(json))
        return why_set(why, -EINVAL, "a VM is described by a JSON object");
    json_object_foreach(json, key, value)
    {
        for (i = 0; i < KNOWN && strcmp(key, known[i]) != 0; i++)
            ;
        if (i == KNOWN)
            return why_set(why, -EINVAL, "a VM has no property \"%.80s\"", key);
        if (i == DISKS)
            disks = value;
        else if (i == BLOCK_BYTES_KEY)
            block_bytes = json_integer_value(value) ? json_integer_value(value) : -1;
        else if (!(text[i] = json_string_value(value)))
            return why_set(why, -EINVAL, "\"%s\" is a string", key);
    }
    if (!text[0] || !conf_name_ok(text[0]))
        return why_set(why, -EINVAL, "a VM's name is letters, digits, '.', '_' and '-', at most %d",
                       VM_NAME_MAX);
    strcpy(spec->name, text[0]);
    if (block_bytes && block_bytes != 512 && block_bytes != 4096)
        return why_set(why, -EINVAL, "\"block_bytes\" is 512 or 4096");
    if (text[STORAGE] && !rest_storage_of(text[STORAGE], &spec->storage))
        return why_set(why, -EINVAL, "\"storage\" is \"write-back\" or \"cloud-persist\"");
    if (text[PREFERS] && !conf_name_ok(text[PREFERS]))
        return why_set(why, -EINVAL, "\"prefers\" is the name of an edge");
    if (text[PREFERS])
        strcpy(spec->prefers, text[PREFERS]);
    if (!json_is_array(disks) || json_array_size(disks) < 1 || json_array_size(disks) > VM_DISKS_MAX)
        return why_set(why, -EINVAL, "\"disks\" is a list of 1 to %d disks", VM_DISKS_MAX);
    json_array_foreach(disks, i, value)
    {
        err = rest_take_disk(&spec->disks[i], json_string_value(value), why);
        if (err)
            return err;
        spec->ndisks++;
        spec->disks[i].block_bytes = (uint32_t)block_bytes;
    }
    err = take_chap(spec->chap_user, spec->chap_secret, text[2], text[3], "chap", why);
    if (!err)
        err = take_chap(spec->mutual_user, spec->mutual_secret, text[4], text[5], "mutual", why);
    if (!err && *spec->mutual_user && !*spec->chap_user)
        err = why_set(why, -EINVAL, "mutual CHAP needs chap_user and chap_secret too");
    if (!err && *spec->mutual_user && strcmp(spec->mutual_secret, spec->chap_secret) == 0)
        err = why_set(why, -EINVAL, "the two CHAP secrets must differ");
    return err;
}

/* A request that the catalog works on; rest itself may be gone when it ends. */
struct pending {
    struct http_request *r;
    char name[VM_NAME_MAX + 1];
};

static struct pending *pending_new(struct http_request *r, const char *name)
{
    struct pending *p = xcalloc(1, sizeof(*p));

    p->r = r;
    snprintf(p->name, sizeof(p->name), "%s", name);
    return p;
}

static void on_created(void *arg, struct vm *vm, const struct why *why)
{
    struct pending *p = arg;

    if (vm) {
        log_info(p->r->id, "VM %s was created for %s", p->name, p->r->peer);
        rest_reply(p->r, 201, json_pack("{ss ss}", "name", vm->spec.name, "iqn", vm->spec.iqn));
    } else {
        log_warn(p->r->id, "VM %s was not created: %s", p->name, why->text);
        http_reply_error(p->r, 422, "%s", why->text);
    }
    free(p);
}

void rest_vm_create(struct rest *rest, struct http_request *r)
{
    struct vm_spec *spec = xcalloc(1, sizeof(*spec));
    json_error_t error;
    json_t *json = json_loadb((const char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, &error);
    struct why why = {""};

    if (!json)
        http_reply_error(r, 400, "this is not JSON: %s in line %d", error.text, error.line);
    else if (take_spec(spec, json, &why) != 0)
        http_reply_error(r, 400, "%s", why.text);
    else if (vms_find(rest->conf.vms, spec->name))
        http_reply_error(r, 409, "there is a VM %s already", spec->name);
    else
        vms_create(rest->conf.vms, spec, on_created, pending_new(r, spec->name));
    json_decref(json);
    explicit_bzero(spec, sizeof(*spec));
    free(spec);
}

static void on_deleted(void *arg, int status, const struct why *why)
{
    struct pending *p = arg;
    int code;

    if (status == 0) {
        log_info(p->r->id, "VM %s was deleted for %s", p->name, p->r->peer);
        rest_reply(p->r, 200, json_pack("{ss}", "deleted", p->name));
    } else {
        log_warn(p->r->id, "VM %s was not deleted: %s", p->name, why->text);
        code = status == -ENOENT ? 404 : status == -EBUSY || status == -ESTALE ? 409 : 500;
        http_reply_error(p->r, code, "%s", why->text);
    }
    free(p);
}

void rest_vm_delete(struct rest *rest, struct http_request *r)
{
    const char *force = http_query(r, "force");

    if (strchr(r->tail, '/'))
        rest_disk_remove(rest, r);
    else if (force && strcmp(force, "1") != 0 && strcmp(force, "0") != 0)
        http_reply_error(r, 400, "force is 0 or 1");
    else if (!conf_name_ok(r->tail) || !vms_find(rest->conf.vms, r->tail))
        http_reply_error(r, 404, "there is no VM %.80s", r->tail);
    else
        vms_delete(rest->conf.vms, r->tail, force && *force == '1', on_deleted, pending_new(r, r->tail));
}
