/* tests/unit/serve_fixture.h - an on-prem daemon's `serve` and an edge that asks it, over a real link, both
 * on the loop of datastore_fixture.h.
 */
#ifndef ISTHMUS_SERVE_FIXTURE_H
#define ISTHMUS_SERVE_FIXTURE_H

#include "datastore_fixture.h"
#include "link_ends.h"
#include "serve.h"

static struct serve *serve;
static struct link *edge, *onprem;
static struct peer *dc1; /* the daemon, as the edge has it */

static int serve_begin(void **state)
{
    if (fixture_begin(state) != 0)
        return -1;
    pki_ca(dir, "ca");
    pki_issue(dir, "ca", "edge-a", "edge-a", "edge", -3600, 3600);
    pki_issue(dir, "ca", "dc1", "dc1", "onprem", -3600, 3600);
    return 0;
}

static void serve_disk(const char *name, const char *url)
{
    struct datastore_conf disk = {.name = name, .url = url, .sessions = 1};
    struct why why = {""};

    if (serve_add(serve, &disk, &why) != 0)
        fail_msg("%s", why.text);
}

static void refuse_all(void *arg, struct link_request *r)
{
    (void)arg;
    link_reply(&r, -ENOSYS, "the edge answers nothing", NULL, 0);
}

static void no_notice(void *arg, struct peer *p, uint8_t type, const uint8_t *body, uint32_t len)
{
    (void)arg, (void)p, (void)type, (void)body, (void)len;
}

static void no_state(void *arg, struct peer *p, bool up)
{
    (void)arg, (void)p, (void)up;
}

/* notice: of the edge's. */
static void serve_link_up(void (*notice)(void *, struct peer *, uint8_t, const uint8_t *, uint32_t))
{
    const struct link_conf edge_conf = {.role = "edge", .peer_role = "onprem", .listen = "127.0.0.1:0"},
                           onprem_conf = {.role = "onprem", .peer_role = "edge"};
    struct link_handlers handlers = {.request = refuse_all, .notice = notice, .peer_state = no_state};

    end_open(&edge, loop, dir, "edge-a", edge_conf, &handlers);
    handlers = serve_handlers(serve);
    end_open(&onprem, loop, dir, "dc1", onprem_conf, &handlers);
    end_dials(onprem, edge, "edge-a", 1);
    dc1 = link_peer(edge, "dc1");
    WAIT(peer_up(dc1));
}

static void serve_link_down(void)
{
    link_free(&onprem);
    link_free(&edge);
}

/* ---- the edge's calls, one at a time ---- */

static struct link_call call;
static bool answered;

static void on_answer(struct link_call *c)
{
    (void)c;
    answered = true;
}

static void start_call(uint8_t type, enum link_class class, struct buf *body)
{
    answered = false;
    call = (struct link_call){.type = type, .class = class, .body = body, .done = on_answer};
    link_call(dc1, &call);
}

static int end_call(void)
{
    WAIT(answered);
    buf_unref(&call.body);
    return call.status;
}

#endif
