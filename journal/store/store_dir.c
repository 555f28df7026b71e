/* journal/store/store_dir.c - objects as files of a directory: jobs on the pool.
 *
 * A request is one job on a pool thread, which alone touches it until it is posted back. An object is written
 * and fsynced under a name of its own in .tmp, then linked (if-absent) or renamed to its place, and the
 * directory fsynced: other processes may use the directory at the same time. Compare-and-swap, overwriting
 * and deleting take a lock file. What an object looks like is in dir_file.c, listing in dir_list.c.
 */
#include "store_dir.h"

#include "check.h"
#include "dir_impl.h"
#include "mem.h"
#include "step.h"
#include "store_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCKS = 64, PLACE_TRIES = 100 };

struct dir {
    struct store store; /* first */
    int fd;             /* of the directory: what is mounted over it later is not taken for it */
};

struct job {
    struct work work;
    struct dir *d;
    struct store_req *req;
    atomic_bool stop;
    int status;
};

/* --- on the pool --- */

static int refuse(struct job *j, int err)
{
    struct store_req *r = j->req;
    int status = -EIO;

    switch (err) {
    case ECANCELED:
        return -ECANCELED;
    case ENOENT:
        return why_set(&r->why, -ENOENT, "%s: there is no %s", j->d->store.name, r->key);
    case EACCES:
    case EPERM:
    case EROFS:
        status = -EACCES;
        break;
    case ENOSPC:
    case EDQUOT:
        status = -ENOSPC;
        break;
    case ENOTDIR:
    case EISDIR:
        if (r->op != STORE_PUT)
            return why_set(&r->why, -ENOENT, "%s: there is no %s", j->d->store.name, r->key);
        return why_set(&r->why, -EINVAL, "%s: %s is, or lies under, the key of another object",
                       j->d->store.name, r->key);
    }
    return why_set(&r->why, status, "%s of %s at %s: %s", store_op_name(r->op), r->key, j->d->store.name,
                   strerror(err));
}

/* The directories on the way to key. New ones are on stable storage. */
static int make_parents(int root, const char *key)
{
    char path[STORE_KEY_MAX + 1];
    const char *slash = key;
    int err = 0;

    while (!err && (slash = strchr(slash, '/'))) {
        snprintf(path, sizeof(path), "%.*s", (int)(slash - key), key);
        slash++;
        if (mkdirat(root, path, 0700) == 0)
            err = dir_sync_parent(root, path);
        else if (errno != EEXIST)
            err = errno;
    }
    return err;
}

/* Directories that nothing lies in any more. */
static void remove_parents(int root, const char *key)
{
    char path[STORE_KEY_MAX + 1];
    char *slash;

    snprintf(path, sizeof(path), "%s", key);
    while ((slash = strrchr(path, '/'))) {
        *slash = '\0';
        if (unlinkat(root, path, AT_REMOVEDIR) != 0)
            return;
    }
}

/* Waits for the lock of key; closing the descriptor lets it go. -errno on failure. */
static int lock_key(int root, const char *key)
{
    uint32_t hash = 2166136261u;
    char path[32];
    int fd;

    for (; *key; key++)
        hash = (hash ^ (uint8_t)*key) * 16777619u;
    snprintf(path, sizeof(path), DIR_LOCK "/%02u", hash % LOCKS);
    fd = openat(root, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    while (flock(fd, LOCK_EX) != 0) {
        int err = errno;

        if (err == EINTR)
            continue;
        close(fd);
        return -err;
    }
    return fd;
}

static int rename_locked(struct job *j, const char *tmp)
{
    struct store_req *r = j->req;
    int root = j->d->fd, err = 0, lock = lock_key(root, r->key);

    if (lock < 0)
        return -lock;
    if (r->put.condition == STORE_IF_MATCH) {
        struct dir_head head;

        err = dir_head_read(root, r->key, &head);
        if (err == ENOENT || (!err && strcmp(head.etag, r->put.match) != 0))
            err = ESTALE;
    }
    if (!err && renameat(root, tmp, root, r->key) != 0)
        err = errno;
    STEP("dir.rename", "an object has taken the place of an older one");
    close(lock);
    return err;
}

static int place(struct job *j, const char *tmp)
{
    struct store_req *r = j->req;
    int root = j->d->fd, err = ENOENT;

    /* A parent may be removed by who deletes the last object in it. */
    for (int i = 0; err == ENOENT && i < PLACE_TRIES; i++) {
        err = make_parents(root, r->key);
        if (err)
            continue;
        if (r->put.condition == STORE_IF_ABSENT)
            err = linkat(root, tmp, root, r->key, 0) == 0 ? 0 : errno;
        else
            err = rename_locked(j, tmp);
    }
    STEP("dir.link", "an object has its name, which is not stable");
    if (!err)
        err = dir_sync_parent(root, r->key);
    STEP("dir.sync", "an object is in the store");
    return err;
}

static int put(struct job *j)
{
    struct store_req *r = j->req;
    struct dir_head head;
    char tmp[64];
    int err, locked = -1;

    loop_random(j->d->store.loop, head.nonce, sizeof(head.nonce));
    dir_etag(head.nonce, head.etag);
    snprintf(tmp, sizeof(tmp), DIR_TMP "/%s", head.etag);
    err = dir_file_write(j->d->fd, tmp, &head, r->put.iov, r->put.niov, &j->stop, &locked);
    STEP("dir.tmp", "an object is written and fsynced under a name of its own");
    if (!err)
        err = place(j, tmp);
    unlinkat(j->d->fd, tmp, 0);
    if (locked >= 0)
        close(locked);
    if (err == EEXIST)
        return why_set(&r->why, -EEXIST, "%s: %s is there already", j->d->store.name, r->key);
    if (err == ESTALE)
        return why_set(&r->why, -ESTALE, "%s: %s is not the one with etag %s any more", j->d->store.name,
                       r->key, r->put.match);
    if (err)
        return refuse(j, err);
    memcpy(r->etag, head.etag, sizeof(head.etag));
    return 0;
}

static int bad(struct job *j)
{
    return why_set(&j->req->why, -EBADMSG, "%s: %s is damaged", j->d->store.name, j->req->key);
}

static int get(struct job *j)
{
    struct store_req *r = j->req;
    struct dir_head head;
    int fd, err = dir_file_open(j->d->fd, r->key, &fd, &head);

    if (err)
        return err == EBADMSG ? bad(j) : refuse(j, err);
    r->size = head.size;
    r->put_s = head.put_s;
    memcpy(r->etag, head.etag, sizeof(head.etag));
    if (r->get.whole && head.size > r->get.cap) {
        close(fd);
        return why_set(&r->why, -EFBIG, "%s: %s has %llu bytes, %zu were expected", j->d->store.name, r->key,
                       (unsigned long long)head.size, r->get.cap);
    }
    err = dir_file_read(fd, &head, r->get.buf, r->get.cap, r->get.offset, &r->len, &j->stop);
    close(fd);
    if (!err && r->get.whole && !dir_sum_ok(&head, r->get.buf, r->len))
        err = EBADMSG;
    if (err)
        return err == EBADMSG ? bad(j) : refuse(j, err);
    return 0;
}

static int head(struct job *j)
{
    struct store_req *r = j->req;
    struct dir_head head;
    int err = dir_head_read(j->d->fd, r->key, &head);

    if (err)
        return err == EBADMSG ? bad(j) : refuse(j, err);
    r->size = head.size;
    r->put_s = head.put_s;
    memcpy(r->etag, head.etag, sizeof(head.etag));
    return 0;
}

static int list(struct job *j)
{
    struct store_req *r = j->req;
    int err = dir_list(j->d->fd, r->list.prefix, r->list.token ? r->list.token : r->list.after, r->list.limit,
                       &r->page, &j->stop);

    if (err == ECANCELED)
        return -ECANCELED;
    if (err)
        return why_set(&r->why, err == EACCES ? -EACCES : -EIO, "list at %s: %s", j->d->store.name,
                       strerror(err));
    return 0;
}

static int delete_one(int root, const char *key)
{
    int err = 0, lock = lock_key(root, key);

    if (lock < 0)
        return -lock;
    if (unlinkat(root, key, 0) != 0)
        err = errno;
    STEP("dir.delete", "an object is gone");
    close(lock);
    /* Nothing can lie where there is no directory. Linux answers EISDIR for a directory, which holds other
     * keys but is none. */
    if (err == ENOENT || err == ENOTDIR || err == EISDIR)
        return 0;
    if (!err)
        err = dir_sync_parent(root, key);
    if (!err)
        remove_parents(root, key);
    return err;
}

static int delete (struct job *j)
{
    struct store_req *r = j->req;

    for (; r->ndeleted < r->del.nkeys; r->ndeleted++) {
        const char *key = r->del.keys[r->ndeleted];
        int err = atomic_load(&j->stop) ? ECANCELED : delete_one(j->d->fd, key);

        if (err == ECANCELED)
            return -ECANCELED;
        if (err)
            return why_set(&r->why, err == EACCES || err == EROFS || err == EPERM ? -EACCES : -EIO,
                           "delete of %s at %s: %s", key, j->d->store.name, strerror(err));
    }
    return 0;
}

static void run(struct work *w)
{
    static int (*const operations[STORE_OPS])(struct job *) = {put, get, head, list, delete};
    struct job *j = container_of(w, struct job, work);

    j->status = atomic_load(&j->stop) ? -ECANCELED : operations[j->req->op](j);
}

/* --- on the loop --- */

static void on_done(struct work *w)
{
    struct job *j = container_of(w, struct job, work);
    struct store_req *r = j->req;
    int status = j->status;

    r->clock_s = 0;
    free(j);
    store_finish(r, status);
}

static void dir_start(struct store *s, struct store_req *r)
{
    struct job *j = xcalloc(1, sizeof(*j));

    j->d = container_of(s, struct dir, store);
    j->req = r;
    j->work.run = run;
    j->work.done = on_done;
    atomic_init(&j->stop, false);
    r->backend = j;
    loop_work(s->loop, &j->work);
}

static void dir_cancel(struct store *s, struct store_req *r)
{
    struct job *j = r->backend;

    (void)s;
    atomic_store(&j->stop, true);
}

static void dir_free(struct store *s)
{
    struct dir *d = container_of(s, struct dir, store);

    close(d->fd);
    free(d);
}

static const struct store_ops dir_ops = {
    .name = "dir", .start = dir_start, .cancel = dir_cancel, .free = dir_free};

static int open_root(const char *path, struct why *why)
{
    int fd;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return why_set(why, -errno, "cannot make the store's directory %s: %s", path, strerror(errno));
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return why_set(why, -errno, "cannot open the store's directory %s: %s", path, strerror(errno));
    if ((mkdirat(fd, DIR_TMP, 0700) != 0 && errno != EEXIST) ||
        (mkdirat(fd, DIR_LOCK, 0700) != 0 && errno != EEXIST)) {
        int err = why_set(why, -errno, "cannot write to the store's directory %s: %s", path, strerror(errno));
        close(fd);
        return err;
    }
    return fd;
}

struct store *store_dir_new(struct loop *loop, const char *path, unsigned inflight_max, struct why *why)
{
    CLEANUP_FREE char *name = NULL;
    struct dir *d;
    int fd;

    if (path[0] != '/') {
        why_set(why, -EINVAL, "the store 'dir:%s' needs an absolute path: dir:/srv/store", path);
        return NULL;
    }
    fd = open_root(path, why);
    if (fd < 0)
        return NULL;
    dir_sweep(fd);
    name = xasprintf("dir:%s", path);
    d = xcalloc(1, sizeof(*d));
    store_init(&d->store, &dir_ops, loop, name, inflight_max);
    d->fd = fd;
    return &d->store;
}
