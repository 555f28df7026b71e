/* initiator/ds_file.c - a source disk in a file or block device: file:PATH.
 *
 * Everything that touches the file runs on the pool, as a network file system may take its time: opening,
 * I/O, and asking for the size every 30 s; a flush, which may take long, on a thread of its own. A size that
 * is no multiple of 512 is rounded up: the rest reads as zeros, and a write to it makes the file longer. What
 * may not be opened for writing is read-only until it may be. Loop thread otherwise. What an I/O does to the
 * file is in file_io.c.
 */
#include "check.h"
#include "ds_base.h"
#include "file_io.h"
#include "mem.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    IO_MAX = 8,
    TRIES_MAX = 3,
    SIZE_POLL_MS = 30000,
    IO_BYTES_MAX = 1 << 20,
    ZERO_BYTES_MAX = 16 << 20,
    SECTOR = 512,
};

struct file {
    struct ds_base b; /* first */
    char *path;
    struct file_place place; /* what is open stays so */
    unsigned issued;         /* on the pool, or a flush */
    struct worker *flusher;  /* from the first flush on */
    struct timer poll;
    /* opening and asking for the size; one at a time */
    struct work look;
    int look_fd, look_err;
    int look_write_fd, look_write_err;
    bool look_dir, look_device;
    uint64_t look_bytes;
    uint32_t look_block;
    unsigned look_fails;
};

/* One I/O on the pool. */
struct file_job {
    struct work work;
    struct file *f;
    struct file_place place;
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

    f->look_device = false;
    if (fstat(f->look_fd, &st) != 0) {
        f->look_err = errno;
    } else if (S_ISDIR(st.st_mode)) {
        f->look_dir = true;
        f->look_err = EISDIR;
    } else if (S_ISBLK(st.st_mode)) {
        f->look_device = true;
        if (ioctl(f->look_fd, BLKGETSIZE64, &f->look_bytes) != 0)
            f->look_err = errno;
        else if (ioctl(f->look_fd, BLKSSZGET, &sector) == 0)
            f->look_block = (uint32_t)sector;
    } else {
        f->look_bytes = (uint64_t)st.st_size;
    }
}

/* Opens it for writing, too, if it may be, and if it is still the same. */
static void look_writable(struct file *f)
{
    struct stat a, b;
    int locked = 0;

    f->look_write_err = 0;
    f->look_write_fd = open(f->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (f->look_write_fd < 0) {
        f->look_write_err = errno;
        return;
    }
    if (fstat(f->look_fd, &a) != 0 || fstat(f->look_write_fd, &b) != 0 || a.st_dev != b.st_dev ||
        a.st_ino != b.st_ino)
        f->look_write_err = ESTALE;
    else if (f->look_device && ioctl(f->look_write_fd, BLKROGET, &locked) == 0 && locked)
        f->look_write_err = EROFS;
    if (f->look_write_err) {
        close(f->look_write_fd);
        f->look_write_fd = -1;
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
    if (!f->look_err && f->look_write_fd < 0)
        look_writable(f);
    if (f->look_err && f->look_fd >= 0 && f->place.fd < 0) {
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

static void found(struct file *f)
{
    struct datastore_info info = {.bytes = (f->look_bytes + SECTOR - 1) / SECTOR * SECTOR,
                                  .block_bytes = f->look_block,
                                  .max_io_bytes = IO_BYTES_MAX,
                                  .max_zero_bytes = ZERO_BYTES_MAX,
                                  .read_only = f->place.write_fd < 0};

    snprintf(info.identity, sizeof info.identity, "%s", f->path);
    f->place.device = f->look_device;
    f->look_fails = 0;
    if (info.read_only)
        why_set(&f->b.locked, 0, "isthmus-onprem may not write %s: %s", f->path, strerror(f->look_write_err));
    ds_trouble_clear(&f->b);
    ds_known(&f->b, &info);
    f->b.pump(&f->b);
}

static void done_look(struct work *w)
{
    struct file *f = container_of(w, struct file, look);
    struct ds_base *b = &f->b;
    uint64_t again_ms = SIZE_POLL_MS;

    f->place.fd = f->look_fd;
    f->place.write_fd = f->look_write_fd;
    if (!b->closing && f->look_err) {
        refuse(f);
        again_ms = ds_backoff_ms(b->loop, f->look_fails++);
    } else if (!b->closing) {
        found(f);
    }
    if (!b->closing)
        timer_set_ms(&f->poll, again_ms);
    ds_release(b);
}

static void look(struct file *f)
{
    f->look_fd = f->place.fd;
    f->look_write_fd = f->place.write_fd;
    ds_hold(&f->b);
    loop_work(f->b.loop, &f->look);
}

static void run_poll(struct timer *t)
{
    look(container_of(t, struct file, poll));
}

static void run_io(struct work *w)
{
    struct file_job *j = container_of(w, struct file_job, work);

    j->err = file_io(&j->place, j->io);
}

static void failed(struct file *f, struct datastore_io *io, int err)
{
    int status = file_io_status(io, err);
    char words[80];

    metric_add(f->b.numbers.errors, 1);
    if (io->op == DATASTORE_FLUSH)
        ds_may_have_lost(&f->b); /* the kernel tells of it once, and forgets what it could not write */
    if (status == -EIO && io->op != DATASTORE_FLUSH && ++io->in.tries < TRIES_MAX) {
        ds_delay(&f->b, io, ds_backoff_ms(f->b.loop, io->in.tries));
        return;
    }
    why_set(&io->why, 0, "disk %s: cannot %s of %s: %s; check the disk under it", f->b.name,
            ds_io_words(io, words, sizeof words), f->path, strerror(err));
    ds_finish(&f->b, io, status);
}

static void done_io(struct work *w)
{
    struct file_job *j = container_of(w, struct file_job, work);
    struct file *f = j->f;

    f->issued--;
    if (j->err == 0)
        ds_finish(&f->b, j->io, 0);
    else
        failed(f, j->io, j->err);
    free(j);
    if (!f->b.closing)
        f->b.pump(&f->b);
    ds_release(&f->b);
}

static void file_pump(struct ds_base *b)
{
    struct file *f = of(b);
    struct datastore_io *io;

    while (b->known && f->issued < IO_MAX && (io = ds_take(b))) {
        struct file_job *j = xcalloc(1, sizeof *j);

        *j = (struct file_job){.work = {.run = run_io, .done = done_io}, .f = f, .place = f->place, .io = io};
        f->issued++;
        ds_hold(b);
        if (io->op != DATASTORE_FLUSH) {
            loop_work(b->loop, &j->work);
            continue;
        }
        if (!f->flusher)
            f->flusher = worker_new("flush");
        worker_do(f->flusher, b->loop, &j->work);
    }
}

static void file_destroy(struct ds_base *b)
{
    struct file *f = of(b);

    timer_free(&f->poll);
    worker_free(&f->flusher);
    if (f->place.fd >= 0)
        close(f->place.fd);
    if (f->place.write_fd >= 0)
        close(f->place.write_fd);
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
    f->b.marks = true;
    f->place = (struct file_place){.path = f->path, .fd = -1, .write_fd = -1};
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
    .generation = ds_generation,
    .hold = ds_hold_nothing,
    .held = ds_holds_nothing,
    .info = ds_info,
    .trouble = ds_trouble,
    .close = file_close,
};
