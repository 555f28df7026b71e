/* control/rest_force.c - /v1/pair/force: this edge becomes the only member of its pair, for the one that is
 * it is lost for good. GET says what that costs, POST does it.
 */
#include "rest_impl.h"

#include "log.h"
#include "mem.h"
#include "vms_pair.h"

#include <errno.h>
#include <time.h>

static const char part[] = "rest";

struct forcing {
    struct http_request *r;
    struct vms *vms;
    bool really;
};

static json_t *loss_json(const struct vms_loss *l, int64_t now)
{
    static const char *const whose[] = {"lost", "here", "nobody"};

    return json_pack("{ss ss sb sb sI sI sI}", "name", l->vm, "whose", whose[l->whose], "home", (int)l->home,
                     "deleting", (int)l->deleting, "cut", (json_int_t)l->cut, "put_at", (json_int_t)l->put_s,
                     "age_s", (json_int_t)(l->put_s && now > l->put_s ? now - l->put_s : 0));
}

static json_t *losses_json(const struct vms_losses *l)
{
    int64_t now = time(NULL);
    json_t *list = json_array();

    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(list, loss_json(&l->list[i], now));
    return json_pack("{ss si so}", "lost", l->member.name, "unreadable", (int)l->unreadable, "vms", list);
}

static int code_of(int err)
{
    return err == -ENOENT ? 404 : err == -EINVAL ? 422 : 409;
}

static void on_losses(void *arg, int status, const struct vms_losses *losses, const struct why *why)
{
    struct forcing *f = arg;
    struct http_request *r = f->r;
    struct why no = *why;

    if (!status && f->really)
        status = rest_stopped() ? why_set(&no, -EBUSY, "the edge is stopping")
                                : vms_pair_force(f->vms, losses, &no);
    if (status) {
        http_reply_error(r, code_of(status), "%s", no.text);
    } else {
        if (f->really)
            log_warn(r->id, "%s wants this edge to be the only member of its pair by force", r->peer);
        rest_reply(r, f->really ? 202 : 200, losses_json(losses));
    }
    free(f);
}

static bool accepts(struct http_request *r)
{
    json_error_t error;
    json_t *json = json_loadb((const char *)r->body, r->body_len, JSON_REJECT_DUPLICATES, &error);
    int accepted = 0;
    bool ok =
        json && json_unpack_ex(json, &error, JSON_STRICT, "{sb}", "accept_loss", &accepted) == 0 && accepted;

    json_decref(json);
    return ok;
}

void rest_pair_force(struct rest *rest, struct http_request *r)
{
    bool really = r->method == HTTP_POST;
    struct forcing *f;
    struct why why;
    int err;

    if (really && !accepts(r)) {
        http_reply_error(r, 422,
                         "{\"accept_loss\": true} is needed: what the other edge acknowledged and the object "
                         "store does not hold is lost");
        return;
    }
    f = xcalloc(1, sizeof *f);
    *f = (struct forcing){.r = r, .vms = rest->conf.vms, .really = really};
    err = vms_pair_losses(rest->conf.vms, on_losses, f, &why);
    if (err) {
        http_reply_error(r, code_of(err), "%s", why.text);
        free(f);
    }
}
