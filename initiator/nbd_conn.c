/* initiator/nbd_conn.c - the life of one NBD connection; see nbd_conn.h for the states.
 *
 * libnbd's nbd_aio_* calls on the loop: one handle per connection. NBD has no keep-alive and no word for a
 * new size: a hung server is noticed by a command that gets no answer, a resize at the next connect. Whoever
 * finds the connection lost under somebody else's call only notes it; the timer acts.
 */
#include "nbd_conn.h"

#include "check.h"
#include "ds_base.h"
#include "mem.h"
#include "resolve.h"

#include <errno.h>
#include <event2/event.h>
#include <libnbd.h>
#include <stdio.h>
#include <string.h>

enum {
    TICK_MS = 1000,
    CONNECT_S = 10,
    COMMAND_S = 30, /* plugins such as VDDK may take long; more than this is a hang */
    FLUSH_S = 300,  /* a disk may have much to write back */
    IO_BYTES_MAX = 1 << 20,
    SECTOR = 512,
};

enum state { IDLE, RESOLVING, CONNECTING, UP };

struct nbd_conn {
    struct loop *loop;
    const struct nbd_place *place;
    struct nbd_conn_events events;
    enum state state;
    unsigned fails;
    uint64_t since_ns;
    struct timer timer; /* back-off when idle, else the tick */
    struct resolve *resolve;
    struct nbd_handle *nbd;
    struct nbd_facts facts;
    struct event *event;
    int event_fd;
    short event_what;
    struct datastore_ios issued;
    unsigned nissued;
    bool lost;
};

static void service(struct nbd_conn *c);

static double seconds_since(const struct nbd_conn *c, uint64_t then_ns)
{
    return (double)(loop_now_ns(c->loop) - then_ns) / 1e9;
}

static void enter(struct nbd_conn *c, enum state state)
{
    c->state = state;
    c->since_ns = loop_now_ns(c->loop);
}

static void clear(struct nbd_conn *c, struct datastore_ios *issued)
{
    resolve_cancel(&c->resolve);
    if (c->event)
        event_free(c->event);
    c->event = NULL;
    if (c->nbd)
        nbd_close(c->nbd);
    c->nbd = NULL;
    c->nissued = 0;
    TAILQ_CONCAT(issued, &c->issued, in.entry);
}

/* The connection is of no use any more; it comes again after the back-off. */
__attribute__((format(printf, 3, 4))) static void drop(struct nbd_conn *c, bool refused, const char *format,
                                                       ...)
{
    struct datastore_ios issued = TAILQ_HEAD_INITIALIZER(issued);
    bool was_up = c->state == UP;
    char text[300];
    struct why why;
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    why_set(&why, 0, "disk %s: %s: %s", c->place->disk, c->place->shown, text);
    clear(c, &issued);
    enter(c, IDLE);
    timer_set_ms(&c->timer, ds_backoff_ms(c->loop, refused && c->fails > 3 ? 10 : c->fails));
    c->fails++;
    c->events.down(c->events.arg, was_up, refused, &why, &issued);
}

static const char *nbd_words(void)
{
    const char *text = nbd_get_error();

    return text ? text : "no reason given";
}

static bool is_dead(const struct nbd_conn *c)
{
    return nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd);
}

/* ---- I/O ---- */

/* How much of io there is: the export may end within its last sector. */
static uint32_t real_len(const struct nbd_conn *c, const struct datastore_io *io)
{
    uint64_t left = c->facts.bytes - io->offset;

    return left < io->len ? (uint32_t)left : io->len;
}

static bool says_lost(int err)
{
    return err == ESHUTDOWN || err == ENOTCONN || err == ECONNRESET || err == EPIPE;
}

static void collect(struct nbd_conn *c)
{
    int64_t cookie;

    while ((cookie = nbd_aio_peek_command_completed(c->nbd)) > 0) {
        struct datastore_io *io;
        int err = nbd_aio_command_completed(c->nbd, (uint64_t)cookie) < 0 ? nbd_get_errno() : 0;

        TAILQ_FOREACH (io, &c->issued, in.entry) {
            if (io->in.cookie == cookie)
                break;
        }
        CHECK(io);
        if (err && (says_lost(err) || nbd_aio_is_dead(c->nbd))) {
            c->lost = true; /* no answer to this I/O: drop() hands it back */
            continue;
        }
        TAILQ_REMOVE(&c->issued, io, in.entry);
        c->nissued--;
        if (!err && io->op == DATASTORE_READ)
            memset(io->data + real_len(c, io), 0, io->len - real_len(c, io));
        c->events.answer(c->events.arg, c, io, err);
    }
}

static void on_event(evutil_socket_t fd, short what, void *arg);

static void watch_socket(struct nbd_conn *c)
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
    c->event = event_new(loop_base(c->loop), fd, what, on_event, c);
    CHECK(c->event && event_add(c->event, NULL) == 0);
    c->event_fd = fd;
    c->event_what = what;
}

/* libnbd writes at once, and may have found out that the server has gone. */
static void watch_after_command(struct nbd_conn *c)
{
    if (is_dead(c))
        c->lost = true;
    if (c->lost)
        timer_set_ms(&c->timer, 0); /* dropped from there, not under our caller */
    else
        watch_socket(c);
}

static void issued(struct nbd_conn *c, struct datastore_io *io, int64_t cookie)
{
    if (cookie < 0)
        c->lost = true;
    io->in.cookie = cookie;
    io->in.issued_ns = loop_now_ns(c->loop);
    TAILQ_INSERT_TAIL(&c->issued, io, in.entry);
    c->nissued++;
    watch_after_command(c);
}

/* Where there is no flush, every write is made stable, if the server can do that. */
static uint32_t fua_flag(const struct nbd_conn *c)
{
    return c->facts.fua && !c->facts.flushes ? LIBNBD_CMD_FLAG_FUA : 0;
}

void nbd_conn_issue(struct nbd_conn *c, struct datastore_io *io)
{
    uint32_t flags = fua_flag(c);
    int64_t cookie = -1;

    CHECK(nbd_conn_up(c));
    if (io->op == DATASTORE_FLUSH)
        cookie = nbd_aio_flush(c->nbd, NBD_NULL_COMPLETION, 0);
    else if (io->offset >= c->facts.bytes)
        cookie = -1; /* another connection has heard of a larger size: this one must, too */
    else if (io->op == DATASTORE_READ)
        cookie = nbd_aio_pread(c->nbd, io->data, real_len(c, io), io->offset, NBD_NULL_COMPLETION, 0);
    else if (io->op == DATASTORE_WRITE)
        cookie = nbd_aio_pwrite(c->nbd, io->data, io->len, io->offset, NBD_NULL_COMPLETION, flags);
    else if (io->op == DATASTORE_ZERO)
        cookie = nbd_aio_zero(c->nbd, io->len, io->offset, NBD_NULL_COMPLETION, flags);
    issued(c, io, cookie);
}

void nbd_conn_write_zeros(struct nbd_conn *c, struct datastore_io *io)
{
    uint32_t n = ds_next_zeros(io);

    CHECK(nbd_conn_up(c));
    issued(c, io,
           nbd_aio_pwrite(c->nbd, ds_zeros, n, io->offset + io->in.part, NBD_NULL_COMPLETION, fua_flag(c)));
}

/* ---- its life ---- */

static void came_up(struct nbd_conn *c)
{
    int64_t size = nbd_get_size(c->nbd), least = nbd_get_block_size(c->nbd, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(c->nbd, LIBNBD_SIZE_MAXIMUM);

    if (size < 0 || least > 4096) {
        drop(c, true, size < 0 ? "the export has no size" : "the export wants blocks larger than 4096 bytes");
        return;
    }
    c->facts = (struct nbd_facts){.bytes = (uint64_t)size,
                                  .block_bytes = least > SECTOR ? 4096 : SECTOR,
                                  .max_io_bytes = IO_BYTES_MAX,
                                  .read_only = nbd_is_read_only(c->nbd) > 0,
                                  .shared = nbd_can_multi_conn(c->nbd) > 0,
                                  .flushes = nbd_can_flush(c->nbd) > 0,
                                  .fua = nbd_can_fua(c->nbd) > 0,
                                  .zeroes = nbd_can_zero(c->nbd) > 0};
    if (most >= 4096 && most < IO_BYTES_MAX)
        c->facts.max_io_bytes = (uint32_t)most / 4096 * 4096;
    enter(c, UP);
    c->fails = 0;
    c->events.up(c->events.arg, c, &c->facts);
}

/* After anything that may have moved libnbd's state machine. */
static void service(struct nbd_conn *c)
{
    if (c->state == CONNECTING && nbd_aio_is_ready(c->nbd))
        came_up(c);
    if (c->state == UP)
        collect(c);
    if (c->nbd && (c->lost || is_dead(c)))
        drop(c, false, c->state == UP ? "the connection was lost" : "cannot connect");
    c->events.room(c->events.arg);
    if (c->nbd)
        watch_after_command(c);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct nbd_conn *c = arg;
    unsigned direction = nbd_aio_get_direction(c->nbd);
    int err = 0;

    (void)fd;
    if ((what & EV_READ) && (direction & LIBNBD_AIO_DIRECTION_READ))
        err = nbd_aio_notify_read(c->nbd);
    else if ((what & EV_WRITE) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
        err = nbd_aio_notify_write(c->nbd);
    if (err) {
        bool refused = c->state == CONNECTING && nbd_get_errno() != ECONNREFUSED;
        CLEANUP_FREE char *words = xstrdup(nbd_words());
        if (c->state == UP)
            collect(c);
        drop(c, refused, "%s", words);
    }
    service(c);
}

static void connect_to(struct nbd_conn *c, const char *address)
{
    const struct nbd_place *p = c->place;
    int err;

    enter(c, CONNECTING);
    c->nbd = nbd_create();
    CHECK(c->nbd);
    nbd_set_pread_initialize(c->nbd, false);
    nbd_set_export_name(c->nbd, p->name);
    err = p->socket ? nbd_aio_connect_unix(c->nbd, p->socket) : nbd_aio_connect_tcp(c->nbd, address, p->port);
    if (err)
        drop(c, false, "%s", nbd_words());
    else
        service(c);
}

static void on_resolved(void *arg, int status, const char *address, const struct why *why)
{
    struct nbd_conn *c = arg;

    c->resolve = NULL;
    if (status)
        drop(c, false, "%s", why->text);
    else
        connect_to(c, address);
}

/* An I/O that should have been answered by now, or NULL. */
static const struct datastore_io *find_late(const struct nbd_conn *c)
{
    const struct datastore_io *io;

    TAILQ_FOREACH (io, &c->issued, in.entry) {
        if (seconds_since(c, io->in.issued_ns) > (io->op == DATASTORE_FLUSH ? FLUSH_S : COMMAND_S))
            return io;
    }
    return NULL;
}

static void run_timer(struct timer *t)
{
    struct nbd_conn *c = container_of(t, struct nbd_conn, timer);
    const struct datastore_io *late = find_late(c);
    char words[80];

    timer_set_ms(&c->timer, TICK_MS);
    if (c->state == IDLE) {
        c->lost = false;
        enter(c, RESOLVING);
        if (c->place->socket)
            connect_to(c, NULL);
        else
            c->resolve = resolve_start(c->loop, c->place->host, c->fails, on_resolved, c);
    } else if (c->lost) {
        drop(c, false, "the connection was lost");
    } else if (c->state != UP && seconds_since(c, c->since_ns) > CONNECT_S) {
        drop(c, false, "no answer within %d s", CONNECT_S);
    } else if (late) {
        drop(c, false, "no answer for %.0f s when asked to %s", seconds_since(c, late->in.issued_ns),
             ds_io_words(late, words, sizeof words));
    }
}

struct nbd_conn *nbd_conn_new(struct loop *loop, const struct nbd_place *place,
                              const struct nbd_conn_events *events)
{
    struct nbd_conn *c = xcalloc(1, sizeof *c);

    c->loop = loop;
    c->place = place;
    c->events = *events;
    TAILQ_INIT(&c->issued);
    timer_init(&c->timer, loop, run_timer);
    timer_set_ms(&c->timer, 0);
    return c;
}

void nbd_conn_free(struct nbd_conn **conn, struct datastore_ios *issued)
{
    struct nbd_conn *c = *conn;

    *conn = NULL;
    if (!c)
        return;
    clear(c, issued);
    timer_free(&c->timer);
    free(c);
}

bool nbd_conn_up(const struct nbd_conn *c)
{
    return c->state == UP && !c->lost;
}

unsigned nbd_conn_load(const struct nbd_conn *c)
{
    return c->nissued;
}
