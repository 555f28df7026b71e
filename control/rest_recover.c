/* control/rest_recover.c - POST /v1/recover: take VMs over from the object store.
 */
#include "rest_impl.h"

#include "conf.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "rest";

struct recovering {
    struct http_request *r;
    json_t *log;
};

static void on_sentence(void *arg, const char *sentence)
{
    struct recovering *p = arg;

    json_array_append_new(p->log, json_string(sentence));
}

static void on_recovered(void *arg, int status, unsigned recovered, const struct why *why)
{
    struct recovering *p = arg;

    if (status) {
        log_warn(p->r->id, "%u VM(s) were recovered, then: %s", recovered, why->text);
        json_decref(p->log);
        http_reply_error(p->r, status == -ENOENT ? 404 : status == -EBUSY ? 409 : 422, "%s", why->text);
    } else {
        log_info(p->r->id, "%u VM(s) were recovered for %s", recovered, p->r->peer);
        rest_reply(p->r, 200, json_pack("{si so}", "recovered", (int)recovered, "log", p->log));
    }
    free(p);
}

void rest_recover(struct rest *rest, struct http_request *r)
{
    json_error_t error;
    json_t *json = json_loadb((const char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, &error);
    const char *name = NULL;
    json_int_t cut = -1;

    if (!json || json_unpack_ex(json, &error, JSON_STRICT, "{s?s s?I}", "vm", &name, "cut", &cut) < 0) {
        http_reply_error(r, 400, "this is not {\"vm\": NAME, \"cut\": N}, both optional: %s", error.text);
    } else if (name && !conf_name_ok(name)) {
        http_reply_error(r, 400, "this is no name of a VM");
    } else if (name && vms_find(rest->conf.vms, name)) {
        http_reply_error(r, 409, "there is a VM %s here already", name);
    } else {
        struct recovering *p = xcalloc(1, sizeof *p);

        p->r = r;
        p->log = json_array();
        vms_recover(rest->conf.vms, name, cut < 0 ? UINT64_MAX : (uint64_t)cut, on_sentence, on_recovered, p);
    }
    json_decref(json);
}
