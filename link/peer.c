/* link/peer.c - what is known of the daemon at the other end: its connections, round trip and rate.
 */
#include "link_in.h"

#include "check.h"
#include "mem.h"
#include "proto.h"

#include <string.h>

enum { RATE_WINDOW_NS = 100000000, RATE_IDLE_NS = 500000000 };
static const uint64_t rate_half_ns = 30000000000;

static void make_metrics(struct peer *p)
{
    const char *n = p->name;

    p->metrics.up = metric_new(METRIC_GAUGE, "isthmus_link_up",
                               "Whether the peer can be reached (1) or not (0).", "peer=\"%s\"", n);
    p->metrics.rtt = metric_new(METRIC_GAUGE, "isthmus_link_rtt_seconds",
                                "Smoothed round trip to the peer, from the keep-alive.", "peer=\"%s\"", n);
    metric_scale(p->metrics.rtt, 1e9);
    p->metrics.bytes_sent =
        metric_new(METRIC_COUNTER, "isthmus_link_bytes_total", "Bytes of frames moved inside TLS.",
                   "peer=\"%s\",direction=\"sent\"", n);
    p->metrics.bytes_received =
        metric_new(METRIC_COUNTER, "isthmus_link_bytes_total", "Bytes of frames moved inside TLS.",
                   "peer=\"%s\",direction=\"received\"", n);
    p->metrics.frames_sent = metric_new(METRIC_COUNTER, "isthmus_link_frames_total", "Frames moved.",
                                        "peer=\"%s\",direction=\"sent\"", n);
    p->metrics.frames_received = metric_new(METRIC_COUNTER, "isthmus_link_frames_total", "Frames moved.",
                                            "peer=\"%s\",direction=\"received\"", n);
    p->metrics.in_flight = metric_new(METRIC_GAUGE, "isthmus_link_calls_in_flight",
                                      "Calls to the peer that are not answered yet.", "peer=\"%s\"", n);
    p->metrics.reconnects =
        metric_new(METRIC_COUNTER, "isthmus_link_reconnects_total",
                   "Connections to the peer that came back after a loss.", "peer=\"%s\"", n);
    p->metrics.resent = metric_new(METRIC_COUNTER, "isthmus_link_resent_calls_total",
                                   "Calls sent again because their connection died.", "peer=\"%s\"", n);
    p->metrics.version =
        metric_new(METRIC_GAUGE, "isthmus_link_version",
                   "Version of the protocol that is spoken with the peer, as last agreed on (0: not yet).",
                   "peer=\"%s\"", n);
}

struct peer *peer_new(struct link *link, const char *name)
{
    struct peer *p = xcalloc(1, sizeof(*p));

    CHECK(proto_name_ok(name));
    p->link = link;
    memcpy(p->name, name, strlen(name) + 1);
    TAILQ_INIT(&p->up);
    for (unsigned i = 0; i < LINK_CLASSES; i++)
        TAILQ_INIT(&p->waiting[i]);
    make_metrics(p);
    TAILQ_INSERT_TAIL(&link->peers, p, entry);
    return p;
}

void peer_free(struct peer **pp)
{
    struct peer *p = *pp;

    *pp = NULL;
    dial_free(p);
    TAILQ_REMOVE(&p->link->peers, p, entry);
    metric_free(&p->metrics.up);
    metric_free(&p->metrics.rtt);
    metric_free(&p->metrics.bytes_sent);
    metric_free(&p->metrics.bytes_received);
    metric_free(&p->metrics.frames_sent);
    metric_free(&p->metrics.frames_received);
    metric_free(&p->metrics.in_flight);
    metric_free(&p->metrics.reconnects);
    metric_free(&p->metrics.resent);
    metric_free(&p->metrics.version);
    free(p);
}

void peer_conn_up(struct peer *p, struct lconn *c)
{
    TAILQ_INSERT_TAIL(&p->up, c, peer_entry);
    p->nup++;
    metric_set(p->metrics.up, 1);
    metric_set(p->metrics.version, c->version);
    if (p->lost > 0) {
        p->lost--;
        metric_add(p->metrics.reconnects, 1);
    }
}

void peer_conn_down(struct peer *p, struct lconn *c)
{
    TAILQ_REMOVE(&p->up, c, peer_entry);
    p->nup--;
    p->lost++;
    metric_set(p->metrics.up, p->nup > 0);
    metric_add(p->metrics.frames_sent, c->frames_out);
    metric_add(p->metrics.frames_received, c->frames_in);
}

/* A full window closes: its rate is a candidate for the recent maximum. */
static void rate_close_window(struct peer *p, uint64_t now)
{
    uint64_t rate = p->rate.bytes * 1000000000 / (now - p->rate.start_ns);

    if (now - p->rate.half_ns >= rate_half_ns) {
        p->rate.max_before = now - p->rate.half_ns >= 2 * rate_half_ns ? 0 : p->rate.max;
        p->rate.max = 0;
        p->rate.half_ns = now;
    }
    if (rate > p->rate.max)
        p->rate.max = rate;
    p->rate.start_ns = now;
    p->rate.bytes = 0;
}

void peer_moved(struct peer *p, uint64_t bytes_in, uint64_t bytes_out)
{
    uint64_t now = loop_now_ns(p->link->loop);

    metric_add(p->metrics.bytes_sent, bytes_out);
    metric_add(p->metrics.bytes_received, bytes_in);
    if (bytes_in == 0)
        return;
    if (p->rate.start_ns == 0 || now - p->rate.start_ns > RATE_IDLE_NS) { /* was idle: says nothing */
        p->rate.start_ns = now;
        p->rate.bytes = 0;
        return;
    }
    p->rate.bytes += bytes_in;
    if (now - p->rate.start_ns >= RATE_WINDOW_NS)
        rate_close_window(p, now);
}

void peer_measured(struct peer *p, uint64_t rtt_ns)
{
    p->rtt_ns = p->rtt_ns ? p->rtt_ns - p->rtt_ns / 8 + rtt_ns / 8 : rtt_ns;
    metric_set(p->metrics.rtt, p->rtt_ns);
}

const char *peer_name(const struct peer *p)
{
    return p->name;
}

bool peer_up(const struct peer *p)
{
    return p->nup > 0;
}

uint64_t peer_rtt_ns(const struct peer *p)
{
    return p->rtt_ns;
}

uint64_t peer_bytes_per_s(const struct peer *p)
{
    return p->rate.max > p->rate.max_before ? p->rate.max : p->rate.max_before;
}

struct link *peer_link(const struct peer *p)
{
    return p->link;
}
