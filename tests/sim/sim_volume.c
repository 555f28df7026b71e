/* tests/sim/sim_volume.c - see sim_volume.h. Linked in place of the real datastores.
 */
#include "sim_volume.h"

#include "broken.h"
#include "sim.h"

#include "check.h"
#include "ds_base.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { ISSUED_MAX = 8, VOLUMES_MAX = 16, SECTOR = 512, DOWN_MS = 100 };

static struct sim_volume *volumes[VOLUMES_MAX];

struct sim_datastore {
    struct ds_base b; /* first */
    struct sim_volume *volume;
    uint64_t restarts;
    unsigned issued;
    struct task known;
};

struct job {
    struct sim_datastore *d;
    struct datastore_io *io;
    struct task task;
};

void sim_volume_init(struct sim_volume *v, const char *name, size_t bytes, uint64_t latency_ns)
{
    size_t i = 0;

    memset(v, 0, sizeof *v);
    snprintf(v->name, sizeof v->name, "%s", name);
    v->bytes = xcalloc(1, bytes);
    v->n = bytes;
    v->latency_ns = latency_ns;
    v->flush_ns = sim_chance(300000) ? sim_below(3 * SIM_S) : latency_ns;
    while (i < VOLUMES_MAX && volumes[i] && strcmp(volumes[i]->name, name) != 0)
        i++;
    CHECK(i < VOLUMES_MAX);
    volumes[i] = v;
}

void sim_volume_copy(struct sim_volume *v, const struct sim_volume *from)
{
    memcpy(v->bytes, from->bytes, v->n);
    v->writes = from->writes;
}

void sim_volume_fill(struct sim_volume *v, const uint8_t *bytes)
{
    while (v->nunflushed > 0)
        free(v->unflushed[--v->nunflushed].before);
    memcpy(v->bytes, bytes, v->n);
}

static struct sim_volume *find(const char *url)
{
    const char *name = url + strlen("file:/");

    for (size_t i = 0; i < VOLUMES_MAX && volumes[i]; i++)
        if (strcmp(volumes[i]->name, name) == 0)
            return volumes[i];
    return NULL;
}

void sim_volume_restart(struct sim_volume *v)
{
    bool all = sim_chance(300000);

    while (v->nunflushed > 0) { /* backwards: an older one counts in the end */
        v->nunflushed--;
        if (all || sim_chance(500000))
            memcpy(v->bytes + v->unflushed[v->nunflushed].lba * SECTOR, v->unflushed[v->nunflushed].before,
                   SECTOR);
        free(v->unflushed[v->nunflushed].before);
    }
    v->restarts++;
}

static void remember(struct sim_volume *v, uint64_t offset, uint32_t len)
{
    for (uint64_t at = offset; at < offset + len; at += SECTOR) {
        if (v->nunflushed == v->room) {
            v->room = v->room ? 2 * v->room : 64;
            v->unflushed = xrealloc(v->unflushed, v->room * sizeof *v->unflushed);
        }
        v->unflushed[v->nunflushed].lba = at / SECTOR;
        v->unflushed[v->nunflushed].before = xmalloc(SECTOR);
        memcpy(v->unflushed[v->nunflushed++].before, v->bytes + at, SECTOR);
    }
}

static int do_it(struct sim_volume *v, struct datastore_io *io)
{
    switch (io->op) {
    case DATASTORE_READ:
        memcpy(io->data, v->bytes + io->offset, io->len);
        return 0;
    case DATASTORE_WRITE:
    case DATASTORE_ZERO:
        if (v->fails)
            return v->fails;
        remember(v, io->offset, io->len);
        v->writes++;
        if (io->op == DATASTORE_WRITE)
            memcpy(v->bytes + io->offset, io->data, io->len);
        else
            memset(v->bytes + io->offset, 0, io->len);
        return 0;
    case DATASTORE_FLUSH:
        while (v->nunflushed > 0)
            free(v->unflushed[--v->nunflushed].before);
        return 0;
    case DATASTORE_MARK:
        memcpy(io->mark, &v->writes, sizeof v->writes);
        io->mark_len = sizeof v->writes;
        return 0;
    }
    return -EINVAL;
}

static void come_back(void *arg);

static void finish(struct task *t)
{
    struct job *j = container_of(t, struct job, task);
    struct sim_datastore *d = j->d;
    struct datastore_io *io = j->io;
    int status;

    if (d->volume->down) {
        sim_after(sim_loop_node(d->b.loop), DOWN_MS * SIM_MS, come_back, j);
        return;
    }
    if (d->restarts != d->volume->restarts && broken != BROKEN_LOSS_UNNOTICED)
        ds_may_have_lost(&d->b);
    d->restarts = d->volume->restarts;
    status = do_it(d->volume, io);
    if (status)
        why_set(&io->why, 0, "disk %s: %s", d->b.name, strerror(-status));
    d->issued--;
    free(j);
    ds_finish(&d->b, io, status);
    if (!d->b.closing)
        d->b.pump(&d->b);
    ds_release(&d->b);
}

static void come_back(void *arg)
{
    struct job *j = arg;

    j->task.run = finish;
    loop_post(j->d->b.loop, &j->task);
}

static void sim_pump(struct ds_base *b)
{
    struct sim_datastore *d = (struct sim_datastore *)b;
    struct datastore_io *io;

    while (b->known && d->issued < ISSUED_MAX && (io = ds_take(b))) {
        struct job *j = xcalloc(1, sizeof *j);

        j->d = d;
        j->io = io;
        d->issued++;
        ds_hold(b);
        sim_after(sim_loop_node(b->loop),
                  sim_latency(io->op == DATASTORE_FLUSH ? d->volume->flush_ns : d->volume->latency_ns),
                  come_back, j);
    }
}

static void sim_destroy(struct ds_base *b)
{
    free(b);
}

static void answers(void *arg);

static void tell_known(struct task *t)
{
    struct sim_datastore *d = container_of(t, struct sim_datastore, known);
    struct datastore_info info = {
        .bytes = d->volume->n, .block_bytes = SECTOR, .max_io_bytes = 1 << 20, .max_zero_bytes = 16 << 20};

    if (d->volume->down) {
        sim_after(sim_loop_node(d->b.loop), DOWN_MS * SIM_MS, answers, d);
        return;
    }
    snprintf(info.identity, sizeof info.identity, "%s", d->volume->name);
    ds_known(&d->b, &info);
    d->b.pump(&d->b);
}

static void answers(void *arg)
{
    struct sim_datastore *d = arg;

    d->known.run = tell_known;
    loop_post(d->b.loop, &d->known);
}

static int sim_open(struct datastore **out, struct loop *loop, const struct datastore_conf *conf,
                    const struct datastore_events *events, struct why *why)
{
    struct sim_datastore *d = xcalloc(1, sizeof *d);

    d->volume = find(conf->url);
    if (!d->volume) {
        free(d);
        return why_set(why, -EINVAL, "there is no simulated volume at %s", conf->url);
    }
    d->restarts = d->volume->restarts;
    ds_init(&d->b, &datastore_file, loop, conf, events);
    d->b.pump = sim_pump;
    d->b.destroy = sim_destroy;
    d->b.marks = true;
    sim_after(sim_loop_node(loop), sim_latency(d->volume->latency_ns), answers, d);
    *out = &d->b.ds;
    return 0;
}

static void sim_close(struct datastore *ds)
{
    ds_close((struct ds_base *)ds);
}

#define SIM_DATASTORE(its_scheme)                                                                            \
    {                                                                                                        \
        .scheme = (its_scheme), .open = sim_open, .submit = ds_submit, .generation = ds_generation,          \
        .hold = ds_hold_nothing, .held = ds_holds_nothing, .info = ds_info, .trouble = ds_trouble,           \
        .close = sim_close                                                                                   \
    }

const struct datastore_ops datastore_file = SIM_DATASTORE("file");
const struct datastore_ops datastore_iscsi = SIM_DATASTORE("iscsi");
const struct datastore_ops datastore_nbd = SIM_DATASTORE("nbd");
const struct datastore_ops datastore_nbd_unix = SIM_DATASTORE("nbd+unix");

int ds_iscsi_url_check(const char *url, struct why *why)
{
    return why_set(why, -EINVAL, "%s: only simulated volumes here", url);
}

int ds_nbd_url_check(const char *url, struct why *why)
{
    return ds_iscsi_url_check(url, why);
}

int ds_file_url_check(const char *url, struct why *why)
{
    (void)url, (void)why;
    return 0;
}
