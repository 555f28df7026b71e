/* control/rest_tasks.c - POST /v1/vms/NAME/VERB, and the tasks that come of it.
 */
#include "rest_impl.h"

#include "conf.h"
#include "log.h"
#include "mem.h"
#include "tasks_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char part[] = "rest";

static json_t *task_json(const struct tasks_info *t)
{
    json_t *o = json_pack("{sI ss ss ss ss sI sI sI}", "id", (json_int_t)t->id, "kind",
                          vm_verb_name(t->ask.kind), "vm", t->ask.vm, "state", tasks_state_name(t->state),
                          "text", t->text.text, "bytes", (json_int_t)t->bytes, "bytes_done",
                          (json_int_t)t->bytes_done, "started", (json_int_t)t->started_s);

    json_object_set_new(o, "eta_s", t->eta_s < 0 ? json_null() : json_integer(t->eta_s));
    json_object_set_new(o, "ended", t->ended_s ? json_integer((json_int_t)t->ended_s) : json_null());
    return o;
}

static int code_of(int status)
{
    switch (status) {
    case -ENOENT:
        return 404;
    case -EBUSY:
    case -EALREADY:
        return 409;
    case -EINVAL:
        return 422;
    default:
        return 500;
    }
}

/* --- verbs ----------------------------------------------------------------------------------------------*/

bool rest_storage_of(const char *name, enum wb_policy *policy)
{
    if (strcmp(name, "write-back") == 0)
        *policy = WB_WRITE_BACK;
    else if (strcmp(name, "cloud-persist") == 0)
        *policy = WB_CLOUD_PERSIST;
    else
        return false;
    return true;
}

const char *rest_storage_name(enum wb_policy policy)
{
    return policy == WB_WRITE_BACK ? "write-back" : "cloud-persist";
}

/* "NAME/VERB" */
static bool take_path(const char *tail, struct vm_verb_ask *ask)
{
    const char *slash = strchr(tail, '/');
    size_t n = slash ? (size_t)(slash - tail) : 0;

    if (!n || n > VM_NAME_MAX)
        return false;
    memcpy(ask->vm, tail, n);
    return vm_verb_of(slash + 1, &ask->kind);
}

static int take_body(struct http_request *r, struct vm_verb_ask *ask, struct why *why)
{
    json_error_t error = {.text = ""};
    json_t *json = r->body_len
                       ? json_loadb((const char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, &error)
                       : json_object();
    const char *storage = NULL, *edge = NULL;
    int force = 0, commit = 0, discard = 0, sure = 0, err = 0;

    if (!json ||
        json_unpack_ex(json, &error, JSON_STRICT, "{s?s s?s s?b s?b s?b s?b}", "storage", &storage, "edge",
                       &edge, "force", &force, "commit", &commit, "discard", &discard, "sure", &sure) < 0)
        err = why_set(why, -EINVAL,
                      "this is not {\"storage\": POLICY, \"edge\": NAME, \"force\": BOOL, \"commit\": BOOL, "
                      "\"discard\": BOOL, "
                      "\"sure\": BOOL}, all optional: %.100s",
                      error.text);
    else if (storage && !rest_storage_of(storage, &ask->storage))
        err = why_set(why, -EINVAL, "\"storage\" is \"write-back\" or \"cloud-persist\"");
    else if (ask->kind == VERB_STORAGE && !storage)
        err = why_set(why, -EINVAL, "\"storage\" says what it shall be: \"write-back\" or \"cloud-persist\"");
    else if ((edge || ask->kind == VERB_PREFER) && (!edge || !conf_name_ok(edge)))
        err = why_set(why, -EINVAL, "\"edge\" says which edge the VM is to be at");
    else if ((ask->kind == VERB_DISCARD || discard) && !sure)
        err = why_set(why, -EINVAL,
                      "what VM %s wrote in the cloud and is not on-prem would be lost: say \"sure\": true",
                      ask->vm);
    if (!err && edge)
        strcpy(ask->prefers, edge);
    ask->force = force;
    ask->commit = commit;
    ask->discard = discard;
    json_decref(json);
    return err;
}

struct starting {
    struct rest *rest;
    struct http_request *r;
    struct vm_verb_ask ask;
};

static void on_started(void *arg, uint64_t id, int status, const struct why *why)
{
    struct starting *s = arg;
    struct tasks_info t;

    if (status) {
        log_warn(s->r->id, "%s of VM %s is refused: %s", vm_verb_name(s->ask.kind), s->ask.vm, why->text);
        http_reply_error(s->r, code_of(status), "%s", why->text);
    } else if (rest_stopped() || !tasks_get(s->rest->conf.tasks, id, &t)) {
        http_reply_error(s->r, 503, "the edge is stopping");
    } else {
        log_info(s->r->id, "%s of VM %s is task %" PRIu64 ", for %s", vm_verb_name(s->ask.kind), s->ask.vm,
                 id, s->r->peer);
        rest_reply(s->r, 202, task_json(&t));
    }
    free(s);
}

void rest_vm_verb(struct rest *rest, struct http_request *r)
{
    struct vm_verb_ask ask = {.kind = VERB_FLUSH};
    struct why why = {""};
    const char *slash = strchr(r->tail, '/');
    struct starting *s;

    if (slash && strcmp(slash, "/disks") == 0) {
        rest_disk_add(rest, r);
        return;
    }
    if (!take_path(r->tail, &ask)) {
        http_reply_error(r, 404, "there is nothing at %.200s", r->path);
        return;
    }
    if (!vms_find(rest->conf.vms, ask.vm)) {
        if (vms_find_exported(rest->conf.vms, ask.vm))
            http_reply_error(r, 409, "the other edge of the pair has VM %.80s: ask that one", ask.vm);
        else
            http_reply_error(r, 404, "there is no VM %.80s", ask.vm);
        return;
    }
    if (take_body(r, &ask, &why)) {
        http_reply_error(r, 400, "%s", why.text);
        return;
    }
    s = xcalloc(1, sizeof *s);
    *s = (struct starting){.rest = rest, .r = r, .ask = ask};
    tasks_start(rest->conf.tasks, &ask, on_started, s);
}

/* --- tasks ----------------------------------------------------------------------------------------------*/

static void add_task(void *arg, const struct tasks_info *t)
{
    json_array_append_new(arg, task_json(t));
}

void rest_tasks_list(struct rest *rest, struct http_request *r)
{
    json_t *all = json_array();

    tasks_each(rest->conf.tasks, add_task, all);
    rest_reply(r, 200, json_pack("{so}", "tasks", all));
}

/* The number in the path; 0 with the request answered if there is no such task. */
static uint64_t task_of(struct rest *rest, struct http_request *r, struct tasks_info *t)
{
    size_t n = strlen(r->tail);

    if (n && n < 19 && strspn(r->tail, "0123456789") == n &&
        tasks_get(rest->conf.tasks, strtoull(r->tail, NULL, 10), t))
        return t->id;
    http_reply_error(r, 404, "there is no task %.40s", r->tail);
    return 0;
}

void rest_task_show(struct rest *rest, struct http_request *r)
{
    struct tasks_info t;

    if (task_of(rest, r, &t))
        rest_reply(r, 200, task_json(&t));
}

void rest_task_cancel(struct rest *rest, struct http_request *r)
{
    struct tasks_info t;
    struct why why = {""};
    uint64_t id = task_of(rest, r, &t);
    int err;

    if (!id)
        return;
    err = tasks_cancel(rest->conf.tasks, id, &why);
    if (err) {
        http_reply_error(r, code_of(err), "%s", why.text);
        return;
    }
    log_info(r->id, "task %" PRIu64 " is cancelled for %s", id, r->peer);
    rest_reply(r, 202, task_json(&t));
}
