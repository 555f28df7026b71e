/* control/rest_pair.c - GET /v1/pair: what this edge is in its pair. docs/pair.md has the words. */
#include "rest_impl.h"
#include "vms_pair.h"

void rest_pair(struct rest *rest, struct http_request *r)
{
    struct pair_status s;

    if (!vms_pair_status(rest->conf.vms, &s)) {
        http_reply_error(r, 404, "this edge is in no pair");
        return;
    }
    rest_reply(r, 200,
               json_pack("{ss ss ss sI si si si sb sb sb sb sb ss}", "pair", s.name, "other", s.other, "role",
                         pair_role_name(s.role), "epoch", (json_int_t)s.epoch, "generation",
                         (int)s.generation, "own_generation", (int)s.own_generation, "other_generation",
                         (int)s.other_generation, "other_answers", (int)s.other_answers, "degraded",
                         (int)(s.role == PAIR_SOLE), "blocked", (int)s.blocked, "taking_in", (int)s.preparing,
                         "taking_over", (int)s.inheriting, "waits_for", s.why.text));
}
