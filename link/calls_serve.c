/* link/calls_serve.c - calls of the other side, until they are answered. */
#include "calls_in.h"

#include "check.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

static struct serve_slot *serve_slot_of(struct lconn *c, uint64_t id)
{
    uint64_t i = id & 0xffff;

    return i < LINK_WINDOW ? &c->calls->served[i] : NULL;
}

int calls_serve(struct lconn *c, unsigned lane, const struct frame *f, struct buf **body, struct why *why)
{
    struct link *link = c->owner;
    struct serve_slot *s = serve_slot_of(c, f->id);
    struct link_request *pub;
    struct served *r;

    if (!s || s->busy)
        return why_set(why, -EPROTO, "it has more calls under way than the %d that were agreed", LINK_WINDOW);
    r = xcalloc(1, sizeof(*r));
    r->conn = c;
    r->slot = s;
    r->body = *body ? *body : buf_new(0);
    *body = NULL;
    pub = &r->pub;
    *pub = (struct link_request){c->peer, f->type, (enum link_class)(lane - 1), r->body->data, r->body->len};
    *s = (struct serve_slot){.busy = true, .id = f->id, .request = r};
    if (link->handlers.request)
        link->handlers.request(link->handlers.arg, pub);
    else
        link_reply(&pub, -ENOSYS, "this daemon answers no requests", NULL, 0);
    return 0;
}

static struct buf *gather(const struct iovec *iov, int niov)
{
    struct buf *b;
    size_t n = 0;

    for (int i = 0; i < niov; i++)
        n += iov[i].iov_len;
    CHECK(n <= LINK_FRAME_MAX);
    b = buf_new(n);
    n = 0;
    for (int i = 0; i < niov; i++) {
        if (iov[i].iov_len)
            memcpy(b->data + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    return b;
}

static void send_reply(struct lconn *c, struct serve_slot *s, enum link_class class, int code,
                       struct buf *body)
{
    struct frame f = {.kind = FRAME_REPLY, .code = (uint16_t)code, .id = s->id, .len = body ? body->len : 0};

    s->reply = lconn_send(c, frame_lane_of(class), &f, f.len ? body : NULL, s);
}

void link_reply(struct link_request **rp, int status, const char *why, const struct iovec *iov, int niov)
{
    struct served *r = container_of(*rp, struct served, pub);
    struct iovec sentence = {(void *)(uintptr_t)why, why ? strnlen(why, FRAME_BYE_MAX) : 0};
    struct buf *body = NULL;

    CHECK(status <= 0 && status >= -4095);
    *rp = NULL;
    if (r->conn && !r->slot->cancelled)
        body = status ? gather(&sentence, 1) : gather(iov, niov);
    if (r->conn) {
        r->slot->request = NULL;
        send_reply(r->conn, r->slot, r->pub.class, r->slot->cancelled ? ECANCELED : -status, body);
    }
    buf_unref(&body);
    buf_unref(&r->body);
    free(r);
}

/* A CANCEL or PROMOTE may cross the answer on its way: then there is nothing left to do. */
static struct serve_slot *still_serving(struct lconn *c, const struct frame *f)
{
    struct serve_slot *s = serve_slot_of(c, f->id);

    if (!s || !s->busy || s->id != f->id || (s->reply && lout_begun(s->reply)))
        return NULL;
    return s;
}

void calls_serve_cancel(struct lconn *c, const struct frame *f)
{
    struct serve_slot *s = still_serving(c, f);
    unsigned lane;

    if (!s || s->cancelled)
        return;
    s->cancelled = true;
    if (s->reply) { /* its bytes are not wanted: an empty answer goes instead */
        lane = s->reply->lane;
        lout_drop(c, s->reply);
        send_reply(c, s, (enum link_class)(lane - 1), ECANCELED, NULL);
    }
}

void calls_serve_promote(struct lconn *c, const struct frame *f)
{
    struct serve_slot *s = still_serving(c, f);

    if (s && s->reply && frame_lane_of(f->class) < s->reply->lane)
        lout_move(c, s->reply, frame_lane_of(f->class));
    else if (s && s->request && f->class < s->request->pub.class)
        s->request->pub.class = f->class;
}
