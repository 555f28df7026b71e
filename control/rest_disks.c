/* control/rest_disks.c - disks of a VM that come and go: POST /v1/vms/NAME/disks, DELETE
 * /v1/vms/NAME/disks/LUN.
 */
#include "rest_impl.h"

#include "conf.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char part[] = "rest";

/* A request that the catalog works on; rest itself may be gone when it ends. */
struct pending {
    struct http_request *r;
    char vm[VM_NAME_MAX + 1];
    unsigned lun;
};

/* "NAME/disks" and what follows it; false: it is no such path, or no such VM. */
static bool take_vm(struct rest *rest, const struct http_request *r, char vm[VM_NAME_MAX + 1],
                    const char **rest_of)
{
    const char *slash = strchr(r->tail, '/');
    size_t n = slash ? (size_t)(slash - r->tail) : 0;

    if (!slash || n > VM_NAME_MAX || strncmp(slash, "/disks", 6) != 0)
        return false;
    memcpy(vm, r->tail, n);
    vm[n] = '\0';
    *rest_of = slash + 6;
    return vms_find(rest->conf.vms, vm) != NULL;
}

static void refused(struct pending *p, int status, const struct why *why)
{
    log_warn(p->r->id, "the disks of VM %s stay as they are: %s", p->vm, why->text);
    http_reply_error(p->r,
                     status == -ENOENT                       ? 404
                     : status == -EBUSY || status == -EEXIST ? 409
                                                             : 422,
                     "%s", why->text);
    free(p);
}

static void on_added(void *arg, int lun, const struct why *why)
{
    struct pending *p = arg;

    if (lun < 0) {
        refused(p, lun, why);
        return;
    }
    log_info(p->r->id, "VM %s has a disk as LUN %d for %s", p->vm, lun, p->r->peer);
    rest_reply(p->r, 201, json_pack("{ss si}", "vm", p->vm, "lun", lun));
    free(p);
}

static int take_new(json_t *json, struct vm_disk *disk, int *lun, struct why *why)
{
    const char *text = NULL;
    int block_bytes = 0;

    *lun = -1;
    if (json_unpack(json, "{ss s?i s?i !}", "disk", &text, "lun", lun, "block_bytes", &block_bytes) != 0)
        return why_set(why, -EINVAL,
                       "a new disk is {\"disk\": \"ONPREM:DISK\"}, with \"lun\" and \"block_bytes\" "
                       "if wanted");
    if (block_bytes && block_bytes != 512 && block_bytes != 4096)
        return why_set(why, -EINVAL, "\"block_bytes\" is 512 or 4096");
    if (*lun < -1 || *lun >= VM_DISKS_MAX)
        return why_set(why, -EINVAL, "\"lun\" is 0 to %d", VM_DISKS_MAX - 1);
    disk->block_bytes = (uint32_t)block_bytes;
    return rest_take_disk(disk, text, why);
}

void rest_disk_add(struct rest *rest, struct http_request *r)
{
    json_t *json = json_loadb((const char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, NULL);
    struct pending *p = xcalloc(1, sizeof(*p));
    struct vm_disk disk = {0};
    const char *rest_of;
    struct why why;
    int lun;

    p->r = r;
    if (!take_vm(rest, r, p->vm, &rest_of) || *rest_of) {
        http_reply_error(r, 404, "there is no %.80s", r->tail);
        free(p);
    } else if (take_new(json, &disk, &lun, &why) != 0) {
        http_reply_error(r, 400, "%s", why.text);
        free(p);
    } else {
        vms_add_disk(rest->conf.vms, p->vm, lun, &disk, on_added, p);
    }
    json_decref(json);
}

static void on_removed(void *arg, int status, const struct why *why)
{
    struct pending *p = arg;

    if (status < 0) {
        refused(p, status, why);
        return;
    }
    log_info(p->r->id, "VM %s has no LUN %u any more for %s", p->vm, p->lun, p->r->peer);
    rest_reply(p->r, 200, json_pack("{ss si}", "vm", p->vm, "removed", (int)p->lun));
    free(p);
}

void rest_disk_remove(struct rest *rest, struct http_request *r)
{
    const char *force = http_query(r, "force"), *lun;
    struct pending *p = xcalloc(1, sizeof(*p));

    p->r = r;
    if (force && strcmp(force, "1") != 0 && strcmp(force, "0") != 0) {
        http_reply_error(r, 400, "force is 0 or 1");
        free(p);
    } else if (!take_vm(rest, r, p->vm, &lun) || *lun++ != '/' || strlen(lun) > 2 || !*lun ||
               strspn(lun, "0123456789") != strlen(lun)) {
        http_reply_error(r, 404, "there is no %.80s", r->tail);
        free(p);
    } else {
        p->lun = (unsigned)strtoul(lun, NULL, 10);
        vms_remove_disk(rest->conf.vms, p->vm, p->lun, force && *force == '1', on_removed, p);
    }
}
