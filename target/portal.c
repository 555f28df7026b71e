/* target/portal.c - the target as a whole: listening sockets, new connections, start and stop.
 *
 * Listeners are on the main loop; a new connection goes to the shards in turn. Stopping: listeners close,
 * every shard asks its initiators to log out and closes what is left after STOP_MS (then done()); the memory
 * goes when the last command is back from its volume. What a session does is not here.
 */
#include "portal.h"

#include "check.h"
#include "conf.h"
#include "forward.h"
#include "log.h"
#include "mem.h"
#include "peers.h"
#include "reserve_store.h"
#include "session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char part[] = "target";

enum { BACKLOG = 256, ACCEPTS_A_TURN = 64, STOP_MS = 2000, FULL_PAUSE_MS = 200 };
/* Connections whose last commands are still in a volume are not open any more, but they are memory. */
enum { DRAINING_TIMES = 4 };
/* TCP finds out that a peer is gone, whatever iSCSI it speaks. */
enum { KEEP_IDLE_S = 30, KEEP_INTERVAL_S = 10, KEEP_COUNT = 3, USER_TIMEOUT_MS = 60000 };

struct portal {
    struct target *target;
    int fd;
    struct event *readable;
    struct timer pause; /* while there are no file descriptors */
    uint16_t port, group;
    bool wildcard;
    char address[64];
};

static void address_text(const struct sockaddr_storage *ss, char text[64])
{
    char host[INET6_ADDRSTRLEN];

    if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, 64, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, 64, "%s:%u", host, ntohs(in->sin_port));
    }
}

static bool is_wildcard(const struct sockaddr_storage *ss)
{
    if (ss->ss_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)ss)->sin6_addr);
    return ((const struct sockaddr_in *)ss)->sin_addr.s_addr == htonl(INADDR_ANY);
}

static uint16_t port_of(const struct sockaddr_storage *ss)
{
    return ntohs(ss->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)ss)->sin6_port
                                           : ((const struct sockaddr_in *)ss)->sin_port);
}

bool portal_named(const struct target *t, unsigned i, const char *here, char address[64], uint16_t *group)
{
    const struct portal *p = &t->portals[i];
    const char *colon = strrchr(here, ':');

    *group = p->group;
    if (!p->wildcard)
        snprintf(address, 64, "%s", p->address);
    else if (colon && (*here == '[') == (*p->address == '['))
        snprintf(address, 64, "%.*s:%u", (int)(colon - here), here, p->port);
    else
        return false;
    return true;
}

uint16_t target_port(const struct target *t, unsigned i)
{
    CHECK(i < t->nportals);
    return t->portals[i].port;
}

/* New connections. */

static void tune(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
    };

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

static void take(struct portal *p, int fd, const struct sockaddr_storage *from)
{
    struct target *t = p->target;
    struct sockaddr_storage ours = {0};
    socklen_t len = sizeof ours;
    struct peer_address *address;
    char peer[64], portal[64];

    address_text(from, peer);
    if (atomic_load(&t->nopen) >= t->conf.max_connections ||
        atomic_load(&t->nconns) >= t->conf.max_connections * DRAINING_TIMES) {
        log_peer(NULL, "connection from %s refused: %u are open, %u closed ones wait for their commands",
                 peer, atomic_load(&t->nopen), atomic_load(&t->nconns) - atomic_load(&t->nopen));
        metric_add(t->m_refused, 1);
        close(fd);
        return;
    }
    if (getsockname(fd, (struct sockaddr *)&ours, &len) < 0) {
        close(fd);
        return;
    }
    address = peers_enter(t->peers, from, t->conf.max_connections_per_address);
    if (!address) {
        log_peer(NULL, "connection from %s refused: %u of that address are open, the most allowed", peer,
                 t->conf.max_connections_per_address);
        metric_add(t->m_refused_address, 1);
        close(fd);
        return;
    }
    address_text(&ours, portal);
    tune(fd);
    atomic_fetch_add(&t->nconns, 1);
    atomic_fetch_add(&t->nopen, 1);
    conn_accept(&t->shards[t->next_shard++ % t->conf.nloops], fd, address, peer, portal, p->group);
}

static void on_listen(int listener, short what, void *arg)
{
    struct portal *p = arg;

    (void)what;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof from;
        int fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            take(p, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn(NULL, "no connection can be accepted at %s: %s", p->address, strerror(errno));
            event_del(p->readable);
            timer_set_ms(&p->pause, FULL_PAUSE_MS);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return; /* that was all */
        }
    }
}

static void on_pause_over(struct timer *timer)
{
    event_add(container_of(timer, struct portal, pause)->readable, NULL);
}

/* Start. */

static int portal_open(struct target *t, struct portal *p, const char *where, struct why *why)
{
    struct sockaddr_storage ss = {0};
    char address[CONF_ADDRESS_MAX + 1];
    socklen_t len;
    int one = 1, rc;

    if (!conf_portal(where, address, &p->group))
        return why_set(why, -EINVAL, "\"%.100s\" is no portal ADDRESS:PORT or ADDRESS:PORT,GROUP", where);
    rc = conf_sockaddr(address, &ss, &len, why);
    if (rc)
        return rc;
    if (!p->group)
        p->group = t->conf.portal_group;
    p->group = (uint16_t)(p->group + t->conf.portal_groups_from);
    groups_add(&t->groups, p->group);
    p->target = t;
    p->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0)
        return why_set(why, -errno, "iSCSI cannot listen on %s: %s", where, strerror(errno));
    (void)setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ss.ss_family == AF_INET6)
        (void)setsockopt(p->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(p->fd, (struct sockaddr *)&ss, len) < 0 || listen(p->fd, BACKLOG) < 0 ||
        getsockname(p->fd, (struct sockaddr *)&ss, &len) < 0) {
        rc = why_set(why, -errno, "iSCSI cannot listen on %s: %s", where, strerror(errno));
        close(p->fd);
        p->fd = -1;
        return rc;
    }
    p->port = port_of(&ss);
    p->wildcard = is_wildcard(&ss);
    address_text(&ss, p->address);
    timer_init(&p->pause, t->conf.main, on_pause_over);
    p->readable = event_new(loop_base(t->conf.main), p->fd, EV_READ | EV_PERSIST, on_listen, p);
    CHECK(p->readable);
    event_add(p->readable, NULL);
    return 0;
}

static void portal_close(struct portal *p)
{
    if (!p->readable)
        return;
    event_free(p->readable);
    p->readable = NULL;
    timer_free(&p->pause);
    close(p->fd);
    p->fd = -1;
}

static char *copy(const char *s)
{
    return s && *s ? xstrdup(s) : NULL;
}

static void conf_copy(struct target_conf *c, const struct target_conf *from)
{
    *c = *from;
    c->discovery_user = copy(from->discovery_user);
    c->discovery_secret = copy(from->discovery_secret);
    c->discovery_mutual_user = copy(from->discovery_mutual_user);
    c->discovery_mutual_secret = copy(from->discovery_mutual_secret);
    c->portals = NULL;
#define DEFAULT(field, value)                                                                                \
    if (!c->field)                                                                                           \
    c->field = (value)
    DEFAULT(portal_group, 1);
    DEFAULT(max_connections, 1024);
    DEFAULT(max_connections_per_address, 768);
    DEFAULT(max_sessions_per_vm, 64);
    DEFAULT(login_seconds, 15);
    DEFAULT(ping_seconds, 5);
    DEFAULT(ping_timeout_seconds, 600);
    DEFAULT(window, 128);
    DEFAULT(first_burst_bytes, 64 << 10);
    DEFAULT(max_burst_bytes, 1 << 20);
    DEFAULT(session_bytes, 64 << 20);
    DEFAULT(loop_bytes, 256 << 20);
#undef DEFAULT
}

static void secret_drop(const char *secret)
{
    char *s = (char *)(uintptr_t)secret;

    secret_free(&s);
}

/* Nothing of it is on any loop any more. */
static void target_free(struct target *t)
{
    for (unsigned i = 0; i < t->nportals; i++)
        portal_close(&t->portals[i]);
    for (unsigned i = 0; i < t->conf.nloops; i++) {
        free(t->shards[i].read_buffer);
        metric_free(&t->shards[i].m_held);
    }
    peers_free(&t->peers);
    metric_free(&t->m_refused);
    metric_free(&t->m_refused_address);
    metric_free(&t->m_connections);
    metric_free(&t->m_rejects);
    metric_free(&t->m_logins_ok);
    metric_free(&t->m_logins_failed);
    secret_drop(t->conf.discovery_user);
    secret_drop(t->conf.discovery_secret);
    secret_drop(t->conf.discovery_mutual_user);
    secret_drop(t->conf.discovery_mutual_secret);
    pthread_mutex_destroy(&t->lock);
    paths_free(&t->paths);
    reserve_store_free(&t->reservations);
    free(t->portals);
    free(t->shards);
    free(t);
}

static void shard_init(struct shard *s, struct target *t, unsigned index)
{
    s->target = t;
    s->index = index;
    s->loop = t->conf.loops[index];
    TAILQ_INIT(&s->conns);
    TAILQ_INIT(&s->devices);
    LIST_INIT(&s->forwarded);
    TAILQ_INIT(&s->starved);
    STAILQ_INIT(&s->spare);
    s->read_buffer = xmalloc(SHARD_READ_BYTES);
    s->m_held = metric_new(METRIC_GAUGE, "isthmus_iscsi_held_bytes", "Data of commands held in memory.",
                           "loop=\"%s\"", s->loop->name);
}

int target_start(struct target **out, const struct target_conf *conf, struct why *why)
{
    struct target *t = xcalloc(1, sizeof *t);

    CHECK(conf->nportals <= TARGET_PORTALS_MAX);
    *out = NULL;
    conf_copy(&t->conf, conf);
    pthread_mutex_init(&t->lock, NULL);
    paths_init(&t->paths, conf->portal_name);
    TAILQ_INIT(&t->sessions);
    t->m_connections =
        metric_new(METRIC_GAUGE, "isthmus_iscsi_connections", "Connections of initiators.", "%s", "");
    t->m_rejects =
        metric_new(METRIC_COUNTER, "isthmus_iscsi_rejects_total", "Requests answered by Reject.", "%s", "");
    t->m_logins_ok =
        metric_new(METRIC_COUNTER, "isthmus_iscsi_logins_total", "Logins that ended.", "result=\"ok\"");
    t->m_logins_failed =
        metric_new(METRIC_COUNTER, "isthmus_iscsi_logins_total", "Logins that ended.", "result=\"failed\"");
    t->m_refused = metric_new(METRIC_COUNTER, "isthmus_iscsi_refused_connections_total",
                              "Connections that were too many.", "limit=\"all\"");
    t->m_refused_address = metric_new(METRIC_COUNTER, "isthmus_iscsi_refused_connections_total",
                                      "Connections that were too many.", "limit=\"address\"");
    t->peers = peers_new();
    t->shards = xcalloc(conf->nloops, sizeof *t->shards);
    for (unsigned i = 0; i < conf->nloops; i++)
        shard_init(&t->shards[i], t, i);
    t->portals = xcalloc(conf->nportals, sizeof *t->portals);
    if (conf->journal) {
        int rc = reserve_store_load(&t->reservations, conf->journal,
                                    (uint16_t)(t->conf.portal_group + t->conf.portal_groups_from), why);

        if (rc) {
            target_free(t);
            return rc;
        }
    }
    for (; t->nportals < conf->nportals; t->nportals++) {
        struct portal *p = &t->portals[t->nportals];
        int rc = portal_open(t, p, conf->portals[t->nportals], why);

        if (rc) {
            target_free(t);
            return rc;
        }
        log_info(NULL, "iSCSI on %s, portal group %u", p->address, p->group);
    }
    targets_add(t);
    *out = t;
    return 0;
}

/* Stop, in two steps of every shard: quiet (no socket is open), then, when no connection is left on any
 * loop, left (its memory is given back; nothing of ours comes on that loop again). */

static void shards_each(struct target *t, void (*run)(struct task *))
{
    t->stopping = t->conf.nloops;
    for (unsigned i = 0; i < t->conf.nloops; i++) {
        t->shards[i].stop_task.run = run;
        loop_post(t->shards[i].loop, &t->shards[i].stop_task);
    }
}

static void on_left(struct task *task)
{
    struct target *t = container_of(task, struct shard, stop_task)->target;
    void (*quiet)(void *) = t->quiet ? NULL : t->stop_quiet;
    void (*gone)(void *) = t->stop_gone;
    void *arg = t->stop_arg;

    if (--t->stopping)
        return;
    target_free(t);
    if (quiet)
        quiet(arg);
    gone(arg);
}

static void shard_leave(struct task *task)
{
    struct shard *s = container_of(task, struct shard, stop_task);
    struct command *cmd;
    struct device *d;

    CHECK(TAILQ_EMPTY(&s->conns));
    timer_free(&s->stop_timer);
    while ((d = TAILQ_FIRST(&s->devices))) {
        TAILQ_REMOVE(&s->devices, d, entry);
        device_free(&d);
    }
    while ((cmd = STAILQ_FIRST(&s->spare))) {
        STAILQ_REMOVE_HEAD(&s->spare, waiting);
        free(cmd);
    }
    task->run = on_left;
    loop_post(s->target->conf.main, task);
}

/* Main loop: a shard is quiet, or its last connection is gone. */
static void on_shard_stopped(struct task *task)
{
    struct shard *s = container_of(task, struct shard, stopped_task);
    struct target *t = s->target;
    bool quiet = true;

    atomic_store(&s->reported, false);
    for (unsigned i = 0; i < t->conf.nloops; i++)
        quiet = quiet && atomic_load(&t->shards[i].quiet);
    if (!quiet || t->leaving)
        return;
    if (atomic_load(&t->nconns) == 0) {
        t->leaving = true;
        targets_remove(t);
        shards_each(t, shard_leave);
    } else if (!t->quiet) {
        log_info(NULL, "%u connection(s) closed with commands in flight", atomic_load(&t->nconns));
        t->quiet = true;
        t->stop_quiet(t->stop_arg);
    }
}

void portal_shard_stopped(struct shard *s)
{
    if (TAILQ_EMPTY(&s->conns))
        atomic_store(&s->quiet, true);
    if (atomic_load(&s->quiet) && !atomic_exchange(&s->reported, true))
        loop_post(s->target->conf.main, &s->stopped_task);
}

static void shard_quiet(struct task *task)
{
    struct shard *s = container_of(task, struct shard, quiet_task);

    atomic_store(&s->quiet, true);
    portal_shard_stopped(s);
}

static void on_stop_timer(struct timer *timer)
{
    struct shard *s = container_of(timer, struct shard, stop_timer);
    struct conn *c;

    if (atomic_load(&s->quiet))
        return; /* it has been told to leave, perhaps, and may be gone before another task of it runs */
    TAILQ_FOREACH (c, &s->conns, entry) {
        drop_tell(c);
        conn_close(c, "the target is stopping");
    }
    forward_stop(s);
    s->quiet_task.run = shard_quiet; /* those with no command in flight are freed before it runs */
    loop_post(s->loop, &s->quiet_task);
}

static void shard_stop(struct task *task)
{
    struct shard *s = container_of(task, struct shard, stop_task);
    struct conn *c;

    s->stopping = true;
    s->stopped_task.run = on_shard_stopped;
    timer_init(&s->stop_timer, s->loop, on_stop_timer);
    TAILQ_FOREACH (c, &s->conns, entry) {
        if (c->state == CONN_FULL_FEATURE)
            logout_ask(c);
        else
            conn_close(c, "the target is stopping");
    }
    timer_set_ms(&s->stop_timer, STOP_MS);
    if (TAILQ_EMPTY(&s->conns))
        portal_shard_stopped(s);
}

void target_stop(struct target *t, void (*quiet)(void *arg), void (*gone)(void *arg), void *arg)
{
    for (unsigned i = 0; i < t->nportals; i++)
        portal_close(&t->portals[i]);
    t->stop_quiet = quiet;
    t->stop_gone = gone;
    t->stop_arg = arg;
    if (t->paths.telling)
        link_call_cancel(&t->paths.call);
    shards_each(t, shard_stop);
}
