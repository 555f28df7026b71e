/* journal/export.c - see export.h. Regions are gathered until there is enough to be fetched side by side.
 */
#include "export.h"
#include "check.h"
#include "frames.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

enum { BATCH_SECTORS = 8192, USES = 4096 };

struct exporting {
    const struct export_conf *conf;
    struct export_result *result;
    struct why *why;
    uint8_t *bytes; /* BATCH_SECTORS */
    struct frame_use uses[USES];
    unsigned nuses;
    uint32_t sectors;
    struct frames frames;
    struct task task;
    sem_t fetched;
};

static void on_fetched(struct frames *f)
{
    sem_post(&container_of(f, struct exporting, frames)->fetched);
}

static void on_start(struct task *t)
{
    frames_fetch(&container_of(t, struct exporting, task)->frames);
}

static int write_use(struct exporting *x, const struct frame_use *u)
{
    size_t n = (size_t)u->nsectors * 512, done = 0;

    while (done < n) {
        ssize_t wrote = pwrite(x->conf->fd, u->to + done, n - done, (off_t)(u->tag * 512 + done));

        if (wrote < 0 && errno != EINTR)
            return why_set(x->why, -errno, "the image cannot be written: %s", strerror(errno));
        if (wrote > 0)
            done += (size_t)wrote;
    }
    x->result->data_bytes += n;
    return 0;
}

/* Fetches and writes what was gathered. */
static int flush(struct exporting *x)
{
    struct frames *f = &x->frames;
    int err;

    if (!x->nuses)
        return 0;
    *f = (struct frames){.store = x->conf->store,
                         .map = x->conf->map,
                         .master = x->conf->master,
                         .id = x->conf->id,
                         .uses = x->uses,
                         .nuses = x->nuses,
                         .fetched = on_fetched};
    err = frames_plan(f);
    if (!err) {
        x->task.run = on_start;
        loop_post(x->conf->store->loop, &x->task);
        while (sem_wait(&x->fetched) < 0)
            ;
        err = f->status ? f->status : frames_open(f);
    }
    if (err)
        *x->why = f->why;
    for (unsigned i = 0; i < x->nuses && !err; i++)
        err = write_use(x, &x->uses[i]);
    frames_end(f);
    x->nuses = 0;
    x->sectors = 0;
    return err;
}

static int zero(struct exporting *x, uint64_t lba, uint32_t nsectors)
{
    off_t at = (off_t)(lba * 512), n = (off_t)nsectors * 512;

    x->result->zero_bytes += (uint64_t)n;
    if (x->conf->punch && fallocate(x->conf->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n) < 0)
        return why_set(x->why, -errno, "no hole can be made in the image: %s", strerror(errno));
    return 0;
}

static int on_region(void *arg, uint8_t disk, uint64_t lba, const struct region *r)
{
    struct exporting *x = arg;
    int err = 0;

    if (disk != x->conf->disk)
        return 0;
    if (x->nuses + r->n > USES || x->sectors + REGION_SECTORS > BATCH_SECTORS)
        err = flush(x);
    for (unsigned i = 0; i < r->n && !err; i++) {
        const struct region_entry *e = &r->entries[i];

        if (e->zero) {
            err = zero(x, lba + e->sector, e->nsectors);
            continue;
        }
        x->uses[x->nuses++] = (struct frame_use){.object = e->object,
                                                 .frame_at = e->frame_at,
                                                 .frame_bytes = e->frame_bytes,
                                                 .frame_sector = e->frame_sector,
                                                 .nsectors = e->nsectors,
                                                 .to = x->bytes + (size_t)x->sectors * 512,
                                                 .tag = lba + e->sector};
        x->sectors += e->nsectors;
    }
    return err;
}

int export_disk(const struct export_conf *conf, struct export_result *result, struct why *why)
{
    struct exporting *x = xcalloc(1, sizeof *x);
    int err;

    memset(result, 0, sizeof *result);
    x->conf = conf;
    x->result = result;
    x->why = why;
    x->bytes = xmalloc((size_t)BATCH_SECTORS * 512);
    sem_init(&x->fetched, 0, 0);
    why_set(why, 0, "the map cannot be read");
    err = map_each(conf->map, on_region, x);
    if (!err)
        err = flush(x);
    if (!err && fsync(conf->fd) < 0)
        err = why_set(why, -errno, "the image cannot be written: %s", strerror(errno));
    sem_destroy(&x->fetched);
    free(x->bytes);
    free(x);
    return err;
}
