/* initiator/ds_file.c - a source disk in a file or block device: file:PATH.
 *
 * Everything that touches the file runs on the pool, as a network file system may take its time: opening,
 * pread, and asking for the size every 30 s. A size that is no multiple of 512 is rounded up and the rest
 * reads as zeros. Opened read-only. Loop thread otherwise.
 */
#include "check.h"
#include "ds_base.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READS_MAX = 8, TRIES_MAX = 3, SIZE_POLL_MS = 30000, IO_BYTES_MAX = 1 << 20, SECTOR = 512 };

struct file {
    struct ds_base b; /* first */
    char *path;
    int fd;
    unsigned reads; /* on the pool */
    struct timer poll;
    /* opening and asking for the size; one at a time */
    struct work look;
    int look_fd, look_err;
    bool look_dir;
    uint64_t look_bytes;
    uint32_t look_block;
    unsigned look_fails;
};

/* One pread on the pool. */
struct file_read {
    struct work work;
    struct file *f;
    struct datastore_io *io;
    int err;
};

static struct file *of(struct ds_base *b)
{
    return container_of(b, struct file, b);
}

static const char *path_of(const char *url)
{
    const char *path = url + strlen("file:");

    return strncmp(path, "//", 2) == 0 ? path + 2 : path;
}

int ds_file_url_check(const char *url, struct why *why)
{
    if (path_of(url)[0] != '/')
        return why_set(why, -EINVAL, "'%s' needs an absolute path: file:/srv/disks/vm1.img", url);
    return 0;
}

static void look_size(struct file *f)
{
    struct stat st;
    int sector = SECTOR;

    if (fstat(f->look_fd, &st) != 0) {
        f->look_err = errno;
    } else if (S_ISDIR(st.st_mode)) {
        f->look_dir = true;
        f->look_err = EISDIR;
    } else if (S_ISBLK(st.st_mode)) {
        if (ioctl(f->look_fd, BLKGETSIZE64, &f->look_bytes) != 0)
            f->look_err = errno;
        else if (ioctl(f->look_fd, BLKSSZGET, &sector) == 0)
            f->look_block = (uint32_t)sector;
    } else {
        f->look_bytes = (uint64_t)st.st_size;
    }
}

static void run_look(struct work *w)
{
    struct file *f = container_of(w, struct file, look);

    f->look_err = 0;
    f->look_dir = false;
    f->look_block = SECTOR;
    if (f->look_fd < 0)
        f->look_fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->look_fd < 0)
        f->look_err = errno;
    else
        look_size(f);
    if (f->look_err && f->look_fd >= 0 && f->fd < 0) {
        close(f->look_fd);
        f->look_fd = -1;
    }
}

static void refuse(struct file *f)
{
    struct why why;
    const char *advice = "";

    if (f->look_err == EACCES || f->look_err == EPERM)
        advice = "; let the user of isthmus-onprem read it";
    else if (f->look_err == ENOENT)
        advice = "; check the path in the configuration";
    why_set(&why, 0, "disk %s: cannot open %s: %s%s", f->b.name, f->path, strerror(f->look_err), advice);
    ds_trouble_set(&f->b, true, &why);
}

static void done_look(struct work *w)
{
    struct file *f = container_of(w, struct file, look);
    struct ds_base *b = &f->b;
    uint64_t again_ms = SIZE_POLL_MS;

    if (f->fd < 0) /* afterwards it stays, as reads on the pool use it */
        f->fd = f->look_fd;
    if (!b->closing && f->look_err) {
        refuse(f);
        again_ms = ds_backoff_ms(b->loop, f->look_fails++);
    } else if (!b->closing) {
        struct datastore_info info = {.bytes = (f->look_bytes + SECTOR - 1) / SECTOR * SECTOR,
                                      .block_bytes = f->look_block,
                                      .max_io_bytes = IO_BYTES_MAX,
                                      .read_only = true};
        snprintf(info.identity, sizeof info.identity, "%s", f->path);
        f->look_fails = 0;
        ds_trouble_clear(b);
        ds_known(b, &info);
        b->pump(b);
    }
    if (!b->closing)
        timer_set_ms(&f->poll, again_ms);
    ds_release(b);
}

static void look(struct file *f)
{
    f->look_fd = f->fd;
    ds_hold(&f->b);
    loop_work(f->b.loop, &f->look);
}

static void run_poll(struct timer *t)
{
    look(container_of(t, struct file, poll));
}

static void run_read(struct work *w)
{
    struct file_read *r = container_of(w, struct file_read, work);
    struct datastore_io *io = r->io;
    uint32_t got = 0;

    while (got < io->len) {
        ssize_t n = pread(r->f->fd, io->data + got, io->len - got, (off_t)(io->offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r->err = errno;
        if (n <= 0)
            break;
        got += (uint32_t)n;
    }
    memset(io->data + got, 0, io->len - got);
}

static void done_read(struct work *w)
{
    struct file_read *r = container_of(w, struct file_read, work);
    struct file *f = r->f;
    struct datastore_io *io = r->io;

    f->reads--;
    if (r->err == 0) {
        ds_finish(&f->b, io, 0);
    } else {
        metric_add(f->b.errors, 1);
        if (++io->in.tries < TRIES_MAX) {
            ds_delay(&f->b, io, ds_backoff_ms(f->b.loop, io->in.tries));
        } else {
            why_set(&io->why, 0, "disk %s: reading %s at byte %llu failed: %s; check the disk under it",
                    f->b.name, f->path, (unsigned long long)io->offset, strerror(r->err));
            ds_finish(&f->b, io, -EIO);
        }
    }
    free(r);
    if (!f->b.closing)
        f->b.pump(&f->b);
    ds_release(&f->b);
}

static void file_pump(struct ds_base *b)
{
    struct file *f = of(b);
    struct datastore_io *io;

    while (b->known && f->reads < READS_MAX && (io = TAILQ_FIRST(&b->queue))) {
        struct file_read *r = xcalloc(1, sizeof *r);

        TAILQ_REMOVE(&b->queue, io, in.entry);
        *r = (struct file_read){.work = {.run = run_read, .done = done_read}, .f = f, .io = io};
        f->reads++;
        ds_hold(b);
        loop_work(b->loop, &r->work);
    }
}

static void file_destroy(struct ds_base *b)
{
    struct file *f = of(b);

    timer_free(&f->poll);
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    free(f);
}

static int file_open(struct datastore **d, struct loop *loop, const struct datastore_conf *conf,
                     const struct datastore_events *events, struct why *why)
{
    struct file *f = xcalloc(1, sizeof *f);

    (void)why;
    ds_init(&f->b, &datastore_file, loop, conf, events);
    f->b.pump = file_pump;
    f->b.destroy = file_destroy;
    f->path = xstrdup(path_of(conf->url));
    f->fd = -1;
    f->look.run = run_look;
    f->look.done = done_look;
    timer_init(&f->poll, loop, run_poll);
    look(f);
    *d = &f->b.ds;
    return 0;
}

static void file_close(struct datastore *ds)
{
    struct file *f = container_of(ds, struct file, b.ds);

    timer_stop(&f->poll);
    ds_close(&f->b);
}

const struct datastore_ops datastore_file = {
    .scheme = "file",
    .open = file_open,
    .submit = ds_submit,
    .info = ds_info,
    .trouble = ds_trouble,
    .close = file_close,
};
