/* initiator/ds_nbd.c - a source disk that is an NBD export: nbd://host[:port]/export,
 * nbd+unix:///export?socket=PATH.
 *
 * Spreads I/O over a few connections, if the server says that they see the same data (multi-conn); otherwise
 * there is one, as a flush would not be good for what another has written. Decides what an answer means for
 * the I/O. How a connection lives is in nbd_conn.c. Loop thread.
 */
#include "check.h"
#include "ds_base.h"
#include "log.h"
#include "mem.h"
#include "nbd_conn.h"

#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "nbd";

enum {
    CONNECTIONS_DEFAULT = 2,
    CONNECTIONS_MAX = 8,
    WINDOW = 16, /* I/O per connection */
    TRIES_MAX = 4,
    ZERO_BYTES_MAX = 16 << 20,
};

struct export
{
    struct ds_base b; /* first */
    struct nbd_place place;
    struct nbd_facts facts; /* as last heard */
    struct nbd_conn *conns[CONNECTIONS_MAX];
    unsigned nconns, wanted;
};

static struct export *of(struct ds_base *b)
{
    return container_of(b, struct export, b);
}

/* ---- the URL ---- */

/* Fills host, port, socket and name of p; -EINVAL with why. */
static int parse(struct nbd_place *p, const char *url, struct why *why)
{
    struct evhttp_uri *uri = evhttp_uri_parse_with_flags(url, EVHTTP_URI_NONCONFORMANT);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL, *host = uri ? evhttp_uri_get_host(uri) : NULL;
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    bool local = strncmp(url, "nbd+unix:", 9) == 0;
    struct evkeyvalq keys = {0};
    int err = 0;

    p->name = path && path[0] == '/' ? evhttp_uridecode(path + 1, 0, NULL) : xstrdup("");
    if (local) {
        const char *socket = NULL;
        if (query && evhttp_parse_query_str(query, &keys) == 0)
            socket = evhttp_find_header(&keys, "socket");
        if (socket && socket[0])
            p->socket = xstrdup(socket);
        else
            err = why_set(why, -EINVAL, "'%s' names no socket: use nbd+unix:///EXPORT?socket=PATH", url);
        evhttp_clear_headers(&keys);
    } else if (host && host[0] && !query && !evhttp_uri_get_userinfo(uri)) {
        size_t n = strlen(host);
        int port = evhttp_uri_get_port(uri);
        p->host = host[0] == '[' ? xstrndup(host + 1, n - 2) : xstrdup(host);
        p->port = xasprintf("%d", port > 0 ? port : 10809);
    } else {
        err = why_set(why, -EINVAL, "'%s' is no NBD URL: use nbd://HOST[:PORT]/EXPORT", url);
    }
    if (uri)
        evhttp_uri_free(uri);
    return err;
}

static void clear(struct nbd_place *p)
{
    free(p->host);
    free(p->port);
    free(p->socket);
    free(p->name);
}

int ds_nbd_url_check(const char *url, struct why *why)
{
    struct nbd_place p = {0};
    int err = parse(&p, url, why);

    clear(&p);
    return err;
}

/* ---- I/O ---- */

static struct nbd_conn *least_loaded(struct export *e)
{
    struct nbd_conn *best = NULL;

    for (unsigned i = 0; i < e->nconns; i++) {
        struct nbd_conn *c = e->conns[i];
        if (nbd_conn_up(c) && nbd_conn_load(c) < WINDOW && (!best || nbd_conn_load(c) < nbd_conn_load(best)))
            best = c;
    }
    return best;
}

static void export_pump(struct ds_base *b)
{
    struct export *e = of(b);
    struct datastore_io *io;
    struct nbd_conn *c;

    while (b->known && (c = least_loaded(e)) && (io = ds_take(b))) {
        if (io->op == DATASTORE_FLUSH && !e->facts.flushes)
            ds_finish(b, io, 0); /* what it has answered is as stable as it can get */
        else if (io->op == DATASTORE_ZERO && !e->facts.zeroes)
            nbd_conn_write_zeros(c, io);
        else
            nbd_conn_issue(c, io);
    }
}

static int final_status(const struct datastore_io *io, int err)
{
    if (io->op != DATASTORE_READ && err == ENOSPC)
        return -ENOSPC;
    if (io->op != DATASTORE_READ && (err == EPERM || err == EROFS))
        return -EROFS;
    return -EIO;
}

/* May another try help? Of a flush, it would only hide what the first has told. */
static bool is_passing(const struct datastore_io *io, int err)
{
    return io->op != DATASTORE_FLUSH && final_status(io, err) == -EIO;
}

static void finally_failed(struct export *e, struct datastore_io *io, int err)
{
    char words[80];

    why_set(&io->why, 0, "disk %s: %s cannot %s: %s; look at the NBD server's log and the disk under it",
            e->b.name, e->b.shown, ds_io_words(io, words, sizeof words), strerror(err));
    ds_finish(&e->b, io, final_status(io, err));
}

static void on_answer(void *arg, struct nbd_conn *c, struct datastore_io *io, int err)
{
    struct export *e = arg;
    struct ds_base *b = &e->b;

    (void)c;
    if (err == 0) {
        ds_done(b, io);
        return;
    }
    metric_add(b->numbers.errors, 1);
    if (io->op == DATASTORE_ZERO && !io->in.zeros && (err == ENOTSUP || err == EINVAL)) {
        log_info(b->name, "the server does not zero after all (%s): zeros are written", strerror(err));
        e->facts.zeroes = false;
        ds_requeue(b, io);
        return;
    }
    if (io->op == DATASTORE_FLUSH)
        ds_may_have_lost(b); /* it may not tell of the same twice */
    if (err == ENOMEM || err == EBUSY || err == EAGAIN || (is_passing(io, err) && ++io->in.tries < TRIES_MAX))
        ds_delay(b, io, ds_backoff_ms(b->loop, io->in.tries));
    else
        finally_failed(e, io, err);
}

/* ---- connections come and go ---- */

static void on_room(void *arg)
{
    struct export *e = arg;

    export_pump(&e->b);
}

static void start_conn(struct export *e);

/* Connections that do not see the same data: only the one that just came up is kept. */
static void keep_only(struct export *e, struct nbd_conn *c)
{
    struct datastore_ios issued = TAILQ_HEAD_INITIALIZER(issued);

    for (unsigned i = 0; i < e->nconns; i++) {
        if (e->conns[i] == c)
            continue;
        if (nbd_conn_up(e->conns[i]))
            ds_may_have_lost(&e->b);
        nbd_conn_free(&e->conns[i], &issued);
    }
    e->conns[0] = c;
    e->nconns = 1;
    ds_take_back(&e->b, &issued);
}

static void on_up(void *arg, struct nbd_conn *c, const struct nbd_facts *facts)
{
    struct export *e = arg;
    uint32_t block = facts->block_bytes;
    struct datastore_info info = {.bytes = (facts->bytes + block - 1) / block * block,
                                  .block_bytes = block,
                                  .max_io_bytes = facts->max_io_bytes,
                                  .max_zero_bytes = ZERO_BYTES_MAX};

    if (!facts->shared)
        keep_only(e, c);
    info.read_only = facts->read_only || info.bytes != facts->bytes;
    snprintf(info.identity, sizeof info.identity, "%.127s", e->b.shown);
    if (facts->read_only)
        why_set(&e->b.locked, 0, "%s is offered for reading only", e->b.shown);
    else if (info.read_only)
        why_set(&e->b.locked, 0, "%s has %llu bytes, which is no multiple of %u", e->b.shown,
                (unsigned long long)facts->bytes, block);
    if (!facts->flushes && !e->b.known)
        log_warn(e->b.name, "%s cannot flush: %s", e->b.shown,
                 facts->fua ? "each write is made stable" : "what it has answered is taken to be stable");
    e->facts = *facts;
    ds_trouble_clear(&e->b);
    ds_known(&e->b, &info);
    while (e->nconns < e->wanted && facts->shared)
        start_conn(e);
}

static void on_down(void *arg, bool was_up, bool refused, const struct why *why, struct datastore_ios *issued)
{
    struct export *e = arg;
    bool any = false;

    metric_add(e->b.numbers.reconnects, 1);
    if (was_up)
        ds_may_have_lost(&e->b);
    ds_take_back(&e->b, issued);
    for (unsigned i = 0; i < e->nconns; i++)
        any |= nbd_conn_up(e->conns[i]);
    if (any)
        log_info(e->b.name, "one connection is down: %s", why->text);
    else
        ds_trouble_set(&e->b, refused, why);
    export_pump(&e->b);
}

static void start_conn(struct export *e)
{
    struct nbd_conn_events events = {
        .up = on_up, .down = on_down, .answer = on_answer, .room = on_room, .arg = e};

    e->conns[e->nconns++] = nbd_conn_new(e->b.loop, &e->place, &events);
}

static void export_destroy(struct ds_base *b)
{
    struct export *e = of(b);

    clear(&e->place);
    free(e);
}

static int export_open(struct datastore **d, struct loop *loop, const struct datastore_conf *conf,
                       const struct datastore_events *events, struct why *why)
{
    struct export *e = xcalloc(1, sizeof *e);
    int err = parse(&e->place, conf->url, why);

    if (err) {
        clear(&e->place);
        free(e);
        return err;
    }
    ds_init(&e->b, e->place.socket ? &datastore_nbd_unix : &datastore_nbd, loop, conf, events);
    e->b.pump = export_pump;
    e->b.destroy = export_destroy;
    e->place.disk = e->b.name;
    e->place.shown = e->b.shown;
    e->wanted = conf->sessions ? conf->sessions : CONNECTIONS_DEFAULT;
    if (e->wanted > CONNECTIONS_MAX)
        e->wanted = CONNECTIONS_MAX;
    start_conn(e);
    *d = &e->b.ds;
    return 0;
}

static void export_close(struct datastore *ds)
{
    struct export *e = container_of(ds, struct export, b.ds);
    struct datastore_ios issued = TAILQ_HEAD_INITIALIZER(issued);

    for (unsigned i = 0; i < e->nconns; i++)
        nbd_conn_free(&e->conns[i], &issued);
    e->nconns = 0;
    ds_take_back(&e->b, &issued);
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
