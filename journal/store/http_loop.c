/* journal/store/http_loop.c - see http_loop.h.
 *
 * libcurl says which sockets it wants watched and when it wants to be woken; every event is handed to it, and
 * then the transfers that ended are taken out. Their owners hear of it from a posted task, so that no owner's
 * code runs inside libcurl.
 */
#include "http_loop.h"

#include "check.h"
#include "mem.h"

#include <event2/event.h>
#include <stddef.h>

struct http_loop {
    struct loop *loop;
    CURLM *multi;
    struct timer timer;
    unsigned transfers;
};

static void deliver(struct task *t)
{
    struct http_transfer *transfer = container_of(t, struct http_transfer, task);

    transfer->ended(transfer, transfer->result);
}

static void take_out(struct http_loop *d, struct http_transfer *t, CURLcode result)
{
    CHECK(curl_multi_remove_handle(d->multi, t->easy) == CURLM_OK);
    d->transfers--;
    t->over = true;
    t->result = result;
    t->task.run = deliver;
    loop_post(d->loop, &t->task);
}

static void take_out_ended(struct http_loop *d)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(d->multi, &left))) {
        struct http_transfer *t = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        take_out(d, t, m->data.result);
    }
}

static void act(struct http_loop *d, curl_socket_t fd, int what)
{
    int running;

    CHECK(curl_multi_socket_action(d->multi, fd, what, &running) == CURLM_OK);
    take_out_ended(d);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    act(arg, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(struct timer *t)
{
    act(container_of(t, struct http_loop, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long ms, void *arg)
{
    struct http_loop *d = arg;

    (void)multi;
    if (ms < 0)
        timer_stop(&d->timer);
    else
        timer_set_ms(&d->timer, (uint64_t)ms);
    return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
    struct http_loop *d = arg;
    struct event *event = of_socket;
    short wanted = (short)((what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));

    (void)easy;
    if (event)
        event_free(event);
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        event = event_new(loop_base(d->loop), fd, (short)(wanted | EV_PERSIST), on_event, d);
        CHECK(event && event_add(event, NULL) == 0);
    }
    CHECK(curl_multi_assign(d->multi, fd, event) == CURLM_OK);
    return 0;
}

struct http_loop *http_loop_new(struct loop *loop, unsigned connections)
{
    struct http_loop *d = xcalloc(1, sizeof(*d));

    d->loop = loop;
    timer_init(&d->timer, loop, on_timer);
    d->multi = curl_multi_init();
    CHECK(d->multi);
    CHECK(curl_multi_setopt(d->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK);
    CHECK(curl_multi_setopt(d->multi, CURLMOPT_SOCKETDATA, d) == CURLM_OK);
    CHECK(curl_multi_setopt(d->multi, CURLMOPT_TIMERFUNCTION, on_timeout) == CURLM_OK);
    CHECK(curl_multi_setopt(d->multi, CURLMOPT_TIMERDATA, d) == CURLM_OK);
    CHECK(curl_multi_setopt(d->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)connections) == CURLM_OK);
    CHECK(curl_multi_setopt(d->multi, CURLMOPT_MAXCONNECTS, (long)connections) == CURLM_OK);
    return d;
}

void http_loop_free(struct http_loop **d)
{
    if (!*d)
        return;
    CHECK((*d)->transfers == 0);
    CHECK(curl_multi_cleanup((*d)->multi) == CURLM_OK);
    timer_free(&(*d)->timer);
    free(*d);
    *d = NULL;
}

void http_loop_add(struct http_loop *d, struct http_transfer *t)
{
    t->cancelled = t->over = false;
    t->driver = d;
    CHECK(curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t) == CURLE_OK);
    CHECK(curl_multi_add_handle(d->multi, t->easy) == CURLM_OK);
    d->transfers++;
}

void http_loop_cancel(struct http_loop *d, struct http_transfer *t)
{
    if (t->over)
        return;
    t->cancelled = true;
    take_out(d, t, CURLE_ABORTED_BY_CALLBACK);
}
