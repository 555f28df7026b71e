/* control/rest_pair.c - GET /v1/pair: what this edge is in its pair, and where the VMs of both edges are.
 * docs/pair.md has the words.
 */
#include "rest_impl.h"

#include <string.h>

#include "log.h"
#include "vms_pair.h"

static const char part[] = "rest";

struct vm_list {
    struct rest *rest;
    const struct pair_status *pair;
    json_t *list;
};

static void add_vm(void *arg, struct vm *vm)
{
    struct vm_list *l = arg;
    struct why why = {""};
    const char *owner = vm->far || atomic_load(&vm->fenced) ? l->pair->other : l->pair->self;

    if (l->pair->role == PAIR_UNKNOWN) /* what is here may be out of date */
        owner = "";
    else if (l->rest->conf.failback)
        failback_why(l->rest->conf.failback, vm, &why);
    json_array_append_new(l->list, json_pack("{ss ss sb ss ss}", "name", vm->spec.name, "owner", owner,
                                             "mirrored", (int)vms_pair_mirrors(l->rest->conf.vms, vm),
                                             "prefers", vm->spec.prefers, "why", why.text));
}

/* One that was just handed over may be in both lists. */
static bool is_in(json_t *list, const char *name)
{
    json_t *vm;
    size_t i;

    json_array_foreach(list, i, vm)
    {
        if (strcmp(json_string_value(json_object_get(vm, "name")), name) == 0)
            return true;
    }
    return false;
}

static void add_ours(void *arg, struct vm *vm)
{
    struct vm_list *l = arg;

    if (!is_in(l->list, vm->spec.name))
        add_vm(arg, vm);
}

/* Begun, or called off. */
void rest_pair_fail_over(struct rest *rest, struct http_request *r)
{
    bool all = r->method == HTTP_POST;
    struct why why = {""};

    if (!rest->conf.failback) {
        http_reply_error(r, 404, "this edge is in no pair");
    } else if (failback_give_all(rest->conf.failback, all, &why)) {
        http_reply_error(r, 422, "%s", why.text);
    } else {
        log_info(r->id, "a fail-over is %s for %s", all ? "begun" : "called off", r->peer);
        rest_pair(rest, r);
    }
}

/* When an edge was last made the only member by force. */
static json_t *forced(const struct pair_status *s)
{
    if (!s->forced_epoch)
        return json_null();
    return json_pack("{sI sI ss}", "epoch", (json_int_t)s->forced_epoch, "at", (json_int_t)s->forced_at_s,
                     "edge", s->forced_edge);
}

void rest_pair(struct rest *rest, struct http_request *r)
{
    struct vm_list all = {.rest = rest};
    struct pair_status s;
    unsigned left = 0;
    bool giving = rest->conf.failback && failback_gives_all(rest->conf.failback, &left);

    if (!vms_pair_status(rest->conf.vms, &s)) {
        http_reply_error(r, 404, "this edge is in no pair");
        return;
    }
    all.pair = &s;
    all.list = json_array();
    vms_each_far(rest->conf.vms, add_vm, &all);
    vms_each(rest->conf.vms, add_ours, &all);
    rest_reply(r, 200,
               json_pack("{ss ss ss ss sI si si si sb sb sb sb sb sb si sb ss so ss so}", "pair", s.name,
                         "edge", s.self, "other", s.other, "role", pair_role_name(s.role), "epoch",
                         (json_int_t)s.epoch, "generation", (int)s.generation, "own_generation",
                         (int)s.own_generation, "other_generation", (int)s.other_generation, "other_answers",
                         (int)s.other_answers, "degraded", (int)(s.role == PAIR_SOLE), "blocked",
                         (int)s.blocked, "taking_in", (int)s.preparing, "taking_over", (int)s.inheriting,
                         "failing_over", (int)giving, "vms_here", (int)left, "forcing", (int)s.forcing,
                         "force_refused", s.refused.text, "forced", forced(&s), "waits_for", s.why.text,
                         "vms", all.list));
}
