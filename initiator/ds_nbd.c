/* initiator/ds_nbd.c - a source disk that is an NBD export: nbd://host[:port]/export,
 * nbd+unix:///export?socket=PATH.
 *
 * libnbd's nbd_aio_* calls on the loop: one handle per connection, several connections if the server says
 * that they see the same data (multi-conn). NBD has no keep-alive and no word for a new size: a hung server
 * is noticed by a command that gets no answer, a resize at the next connect. Loop thread.
 */
#include "check.h"
#include "ds_base.h"
#include "log.h"
#include "mem.h"
#include "resolve.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <libnbd.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "nbd";

enum {
    CONNECTIONS_DEFAULT = 2,
    CONNECTIONS_MAX = 8,
    WINDOW = 16, /* I/O per connection */
    TRIES_MAX = 4,
    TICK_MS = 1000,
    CONNECT_S = 10,
    COMMAND_S = 30, /* plugins such as VDDK may take long; more than this is a hang */
    IO_BYTES_MAX = 1 << 20,
    SECTOR = 512,
};

enum state { IDLE, RESOLVING, CONNECTING, UP };

struct conn {
    struct export *export;
    enum state state;
    unsigned fails;
    uint64_t since_ns;
    struct timer timer; /* back-off when idle, else the tick */
    struct resolve *resolve;
    struct nbd_handle *nbd;
    struct event *event;
    int event_fd;
    short event_what;
    struct datastore_ios issued;
    unsigned nissued;
    bool lost;
};

struct export
{
    struct ds_base b;  /* first */
    char *host, *port; /* TCP */
    char *socket;      /* or Unix */
    char *name;
    uint64_t end; /* the export's exact size: info.bytes is rounded up */
    struct conn conns[CONNECTIONS_MAX];
    unsigned nconns, wanted;
};

static struct export *of(struct ds_base *b)
{
    return container_of(b, struct export, b);
}

/* ---- the URL ---- */

/* Fills host, port, socket and name of e; -EINVAL with why. */
static int parse(struct export *e, const char *url, struct why *why)
{
    struct evhttp_uri *uri = evhttp_uri_parse_with_flags(url, EVHTTP_URI_NONCONFORMANT);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL, *host = uri ? evhttp_uri_get_host(uri) : NULL;
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    bool local = strncmp(url, "nbd+unix:", 9) == 0;
    struct evkeyvalq keys = {0};
    int err = 0;

    e->name = path && path[0] == '/' ? evhttp_uridecode(path + 1, 0, NULL) : xstrdup("");
    if (local) {
        const char *socket = NULL;
        if (query && evhttp_parse_query_str(query, &keys) == 0)
            socket = evhttp_find_header(&keys, "socket");
        if (socket && socket[0])
            e->socket = xstrdup(socket);
        else
            err = why_set(why, -EINVAL, "'%s' names no socket: use nbd+unix:///EXPORT?socket=PATH", url);
        evhttp_clear_headers(&keys);
    } else if (host && host[0] && !query && !evhttp_uri_get_userinfo(uri)) {
        size_t n = strlen(host);
        int port = evhttp_uri_get_port(uri);
        e->host = host[0] == '[' ? xstrndup(host + 1, n - 2) : xstrdup(host);
        e->port = xasprintf("%d", port > 0 ? port : 10809);
    } else {
        err = why_set(why, -EINVAL, "'%s' is no NBD URL: use nbd://HOST[:PORT]/EXPORT", url);
    }
    if (uri)
        evhttp_uri_free(uri);
    return err;
}

static void clear(struct export *e)
{
    free(e->host);
    free(e->port);
    free(e->socket);
    free(e->name);
}

int ds_nbd_url_check(const char *url, struct why *why)
{
    struct export e = {0};
    int err = parse(&e, url, why);

    clear(&e);
    return err;
}

/* ---- a connection's end ---- */

static void service(struct conn *c);
static void export_pump(struct ds_base *b);

static double seconds_since(const struct conn *c, uint64_t then_ns)
{
    return (double)(loop_now_ns(c->export->b.loop) - then_ns) / 1e9;
}

static void enter(struct conn *c, enum state state)
{
    c->state = state;
    c->since_ns = loop_now_ns(c->export->b.loop);
}

static void clear_conn(struct conn *c)
{
    struct datastore_io *io;

    resolve_cancel(&c->resolve);
    if (c->event)
        event_free(c->event);
    c->event = NULL;
    if (c->nbd)
        nbd_close(c->nbd);
    c->nbd = NULL;
    c->nissued = 0;
    while ((io = TAILQ_LAST(&c->issued, datastore_ios))) {
        TAILQ_REMOVE(&c->issued, io, in.entry);
        ds_requeue(&c->export->b, io);
    }
}

/* The connection is of no use any more; it comes again after the back-off. */
__attribute__((format(printf, 3, 4))) static void drop(struct conn *c, bool refused, const char *format, ...)
{
    struct export *e = c->export;
    char text[300];
    struct why why;
    va_list ap;
    bool any = false;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    why_set(&why, 0, "disk %s: %s: %s", e->b.name, e->b.shown, text);
    clear_conn(c);
    enter(c, IDLE);
    timer_set_ms(&c->timer, ds_backoff_ms(e->b.loop, refused && c->fails > 3 ? 10 : c->fails));
    c->fails++;
    metric_add(e->b.numbers.reconnects, 1);
    for (unsigned i = 0; i < e->nconns; i++)
        any |= e->conns[i].state == UP;
    if (any)
        log_info(e->b.name, "one connection is down: %s", why.text);
    else
        ds_trouble_set(&e->b, refused, &why);
}

static const char *nbd_words(void)
{
    const char *text = nbd_get_error();

    return text ? text : "no reason given";
}

/* ---- I/O ---- */

static void answer(struct conn *c, struct datastore_io *io, int err, const char *text)
{
    struct export *e = c->export;
    uint32_t have = io->len;

    TAILQ_REMOVE(&c->issued, io, in.entry);
    c->nissued--;
    if (err == 0) {
        if (io->offset + io->len > e->end)
            have = (uint32_t)(e->end - io->offset);
        memset(io->data + have, 0, io->len - have);
        ds_finish(&e->b, io, 0);
        return;
    }
    metric_add(e->b.numbers.errors, 1);
    if (err == ESHUTDOWN || err == ENOTCONN || err == ECONNRESET || err == EPIPE) {
        c->lost = true;
        ds_requeue(&e->b, io);
    } else if (err == ENOMEM || err == EBUSY || err == EAGAIN || ++io->in.tries < TRIES_MAX) {
        ds_delay(&e->b, io, ds_backoff_ms(e->b.loop, io->in.tries));
    } else {
        why_set(
            &io->why, 0,
            "disk %s: %s cannot read at byte %llu: %s; look at the NBD server's log and the disk under it",
            e->b.name, e->b.shown, (unsigned long long)io->offset, text);
        ds_finish(&e->b, io, -EIO);
    }
}

static void collect(struct conn *c)
{
    int64_t cookie;

    while ((cookie = nbd_aio_peek_command_completed(c->nbd)) > 0) {
        struct datastore_io *io;
        int err = nbd_aio_command_completed(c->nbd, (uint64_t)cookie) < 0 ? nbd_get_errno() : 0;
        CLEANUP_FREE char *text = err ? xstrdup(strerror(err)) : NULL;

        TAILQ_FOREACH (io, &c->issued, in.entry) {
            if (io->in.cookie == cookie)
                break;
        }
        CHECK(io);
        if (nbd_aio_is_dead(c->nbd) && err)
            c->lost = true; /* no answer of the server's: drop() takes it back */
        else
            answer(c, io, err, text);
    }
}

static void issue(struct conn *c, struct datastore_io *io)
{
    struct export *e = c->export;
    uint64_t bytes = io->offset + io->len > e->end ? e->end - io->offset : io->len;
    int64_t cookie = nbd_aio_pread(c->nbd, io->data, bytes, io->offset, NBD_NULL_COMPLETION, 0);

    if (cookie < 0) {
        c->lost = true;
        ds_requeue(&e->b, io);
        return;
    }
    io->in.cookie = cookie;
    io->in.issued_ns = loop_now_ns(e->b.loop);
    TAILQ_INSERT_TAIL(&c->issued, io, in.entry);
    c->nissued++;
}

static struct conn *least_loaded(struct export *e)
{
    struct conn *best = NULL;

    for (unsigned i = 0; i < e->nconns; i++) {
        struct conn *c = &e->conns[i];
        if (c->state == UP && !c->lost && c->nissued < WINDOW && (!best || c->nissued < best->nissued))
            best = c;
    }
    return best;
}

static void watch_socket(struct conn *c);

static bool is_dead(const struct conn *c)
{
    return nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd);
}

static void export_pump(struct ds_base *b)
{
    struct export *e = of(b);
    struct datastore_io *io;
    struct conn *c;

    while (b->known && (c = least_loaded(e)) && (io = ds_take(b)))
        issue(c, io);
    for (unsigned i = 0; i < e->nconns; i++) {
        c = &e->conns[i];
        if (c->nbd && is_dead(c)) /* libnbd writes at once, and may have found out so */
            c->lost = true;
        if (c->lost)
            timer_set_ms(&c->timer, 0); /* dropped from there, not under our caller */
        else if (c->nbd)
            watch_socket(c);
    }
}

/* ---- a connection's life ---- */

static void start_conn(struct export *e)
{
    struct conn *c = &e->conns[e->nconns++];

    timer_set_ms(&c->timer, 0);
}

static void came_up(struct conn *c)
{
    struct export *e = c->export;
    int64_t size = nbd_get_size(c->nbd), least = nbd_get_block_size(c->nbd, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(c->nbd, LIBNBD_SIZE_MAXIMUM);
    uint32_t block = least > SECTOR ? 4096 : SECTOR;
    struct datastore_info info = {.block_bytes = block, .max_io_bytes = IO_BYTES_MAX};

    if (size < 0 || least > 4096) {
        drop(c, true, size < 0 ? "the export has no size" : "the export wants blocks larger than 4096 bytes");
        return;
    }
    if (most >= 4096 && most < IO_BYTES_MAX)
        info.max_io_bytes = (uint32_t)most / 4096 * 4096;
    info.bytes = ((uint64_t)size + block - 1) / block * block;
    info.max_zero_bytes = info.max_io_bytes;
    info.read_only = true;
    why_set(&e->b.locked, 0, "NBD exports are not written yet");
    snprintf(info.identity, sizeof info.identity, "%.127s", e->b.shown);
    e->end = (uint64_t)size;
    enter(c, UP);
    c->fails = 0;
    ds_trouble_clear(&e->b);
    ds_known(&e->b, &info);
    while (e->nconns < e->wanted && nbd_can_multi_conn(c->nbd) > 0)
        start_conn(e);
}

/* After anything that may have moved libnbd's state machine. */
static void service(struct conn *c)
{
    if (c->state == CONNECTING && nbd_aio_is_ready(c->nbd))
        came_up(c);
    if (c->state == UP)
        collect(c);
    if (c->nbd && (c->lost || is_dead(c)))
        drop(c, false, c->state == UP ? "the connection was lost" : "cannot connect");
    export_pump(&c->export->b);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    unsigned direction = nbd_aio_get_direction(c->nbd);
    int err = 0;

    (void)fd;
    if ((what & EV_READ) && (direction & LIBNBD_AIO_DIRECTION_READ))
        err = nbd_aio_notify_read(c->nbd);
    else if ((what & EV_WRITE) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
        err = nbd_aio_notify_write(c->nbd);
    if (err && c->state == UP)
        collect(c);
    if (err)
        drop(c, c->state == CONNECTING && nbd_get_errno() != ECONNREFUSED, "%s", nbd_words());
    service(c);
}

static void watch_socket(struct conn *c)
{
    unsigned direction = nbd_aio_get_direction(c->nbd);
    int fd = nbd_aio_get_fd(c->nbd);
    short what = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? EV_READ : 0) |
                         (direction & LIBNBD_AIO_DIRECTION_WRITE ? EV_WRITE : 0) | EV_PERSIST);

    if (c->event && c->event_fd == fd && c->event_what == what)
        return;
    if (c->event)
        event_free(c->event);
    c->event = NULL;
    if (fd < 0)
        return;
    c->event = event_new(loop_base(c->export->b.loop), fd, what, on_event, c);
    CHECK(c->event && event_add(c->event, NULL) == 0);
    c->event_fd = fd;
    c->event_what = what;
}

static void connect_to(struct conn *c, const char *address)
{
    struct export *e = c->export;
    int err;

    enter(c, CONNECTING);
    c->nbd = nbd_create();
    CHECK(c->nbd);
    nbd_set_pread_initialize(c->nbd, false);
    nbd_set_export_name(c->nbd, e->name);
    err = e->socket ? nbd_aio_connect_unix(c->nbd, e->socket) : nbd_aio_connect_tcp(c->nbd, address, e->port);
    if (err)
        drop(c, false, "%s", nbd_words());
    else
        service(c);
}

static void on_resolved(void *arg, int status, const char *address, const struct why *why)
{
    struct conn *c = arg;

    c->resolve = NULL;
    if (status)
        drop(c, false, "%s", why->text);
    else
        connect_to(c, address);
}

static void run_timer(struct timer *t)
{
    struct conn *c = container_of(t, struct conn, timer);
    struct export *e = c->export;
    struct datastore_io *oldest = TAILQ_FIRST(&c->issued);

    timer_set_ms(&c->timer, TICK_MS);
    if (c->state == IDLE) {
        c->lost = false;
        enter(c, RESOLVING);
        if (e->socket)
            connect_to(c, NULL);
        else
            c->resolve = resolve_start(e->b.loop, e->host, c->fails, on_resolved, c);
    } else if (c->lost) {
        drop(c, false, "the connection was lost");
    } else if (c->state != UP && seconds_since(c, c->since_ns) > CONNECT_S) {
        drop(c, false, "no answer within %d s", CONNECT_S);
    } else if (oldest && seconds_since(c, oldest->in.issued_ns) > COMMAND_S) {
        drop(c, false, "a read has not been answered for %d s", COMMAND_S);
    } else {
        return;
    }
    export_pump(&e->b);
}

/* ---- the datastore ---- */

static void export_destroy(struct ds_base *b)
{
    struct export *e = of(b);

    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        timer_free(&e->conns[i].timer);
    clear(e);
    free(e);
}

static int export_open(struct datastore **d, struct loop *loop, const struct datastore_conf *conf,
                       const struct datastore_events *events, struct why *why)
{
    struct export *e = xcalloc(1, sizeof *e);
    int err = parse(e, conf->url, why);

    if (err) {
        clear(e);
        free(e);
        return err;
    }
    ds_init(&e->b, e->socket ? &datastore_nbd_unix : &datastore_nbd, loop, conf, events);
    e->b.pump = export_pump;
    e->b.destroy = export_destroy;
    e->wanted = conf->sessions ? conf->sessions : CONNECTIONS_DEFAULT;
    if (e->wanted > CONNECTIONS_MAX)
        e->wanted = CONNECTIONS_MAX;
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        e->conns[i].export = e;
        TAILQ_INIT(&e->conns[i].issued);
        timer_init(&e->conns[i].timer, loop, run_timer);
    }
    start_conn(e);
    *d = &e->b.ds;
    return 0;
}

static void export_close(struct datastore *ds)
{
    struct export *e = container_of(ds, struct export, b.ds);

    e->b.closing = true;
    for (unsigned i = 0; i < e->nconns; i++) {
        timer_stop(&e->conns[i].timer);
        clear_conn(&e->conns[i]);
    }
    e->nconns = 0;
    ds_close(&e->b);
}

const struct datastore_ops datastore_nbd = {
    .scheme = "nbd",
    .open = export_open,
    .submit = ds_submit,
    .generation = ds_generation,
    .hold = ds_hold_nothing,
    .held = ds_holds_nothing,
    .info = ds_info,
    .trouble = ds_trouble,
    .close = export_close,
};

const struct datastore_ops datastore_nbd_unix = {
    .scheme = "nbd+unix",
    .open = export_open,
    .submit = ds_submit,
    .generation = ds_generation,
    .hold = ds_hold_nothing,
    .held = ds_holds_nothing,
    .info = ds_info,
    .trouble = ds_trouble,
    .close = export_close,
};
