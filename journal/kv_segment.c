/* journal/kv_segment.c - the segment files: making, finding, syncing and removing them.
 *
 * The list is under lock, because values are read from any thread; only who writes changes it. A file stays
 * open while somebody reads from it; of the others so many, the last used.
 */
#include "check.h"
#include "kv_rocks_impl.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char part[] = "journal";

enum { OPEN_MAX_SEGMENTS = 96 };

int read_at(int fd, void *to, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EBADMSG;
        to = (uint8_t *)to + got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

int write_at(int fd, const void *from, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t put = pwrite(fd, from, n, (off_t)at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        from = (const uint8_t *)from + put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

char *segment_path(const struct kv_rocks *r, uint64_t number)
{
    return xasprintf("%s/%016" PRIx64 ".log", r->path, number);
}

int segments_sync_directory(const struct kv_rocks *r)
{
    int fd = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

    if (fd < 0)
        return -errno;
    err = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return err;
}

struct segment *segments_current(struct kv_rocks *r)
{
    CHECK(r->nsegments > 0);
    return r->segments[r->nsegments - 1];
}

struct segment *segments_add(struct kv_rocks *r, uint64_t number, uint32_t bytes)
{
    struct segment *s = xcalloc(1, sizeof *s);

    s->number = number;
    s->bytes = bytes;
    s->fd = -1;
    pthread_mutex_lock(&r->lock);
    CHECK(r->nsegments == 0 || r->segments[r->nsegments - 1]->number < number);
    if (r->nsegments == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        r->segments = xrealloc(r->segments, r->room * sizeof(struct segment *));
    }
    r->segments[r->nsegments++] = s;
    pthread_mutex_unlock(&r->lock);
    return s;
}

int segments_create(struct kv_rocks *r, uint64_t number)
{
    CLEANUP_FREE char *path = segment_path(r, number);
    uint8_t header[SEGMENT_HEADER_BYTES] = "ISTHJRNL";
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), err;

    if (fd < 0)
        return -errno;
    put64(header + 8, number);
    err = write_at(fd, header, sizeof header, 0);
    if (err == 0 && fdatasync(fd) < 0)
        err = -errno;
    close(fd);
    STEP("journal.header", "a new segment's header is stable, its name is not");
    if (err == 0)
        err = segments_sync_directory(r);
    if (err == 0)
        segments_add(r, number, SEGMENT_HEADER_BYTES);
    return err;
}

/* With lock. */
static void close_oldest(struct kv_rocks *r)
{
    struct segment *oldest = NULL;

    for (size_t i = 0; i < r->nsegments; i++) {
        struct segment *s = r->segments[i];

        if (s->fd >= 0 && s->refs == 0 && (!oldest || s->used < oldest->used))
            oldest = s;
    }
    if (oldest) {
        close(oldest->fd);
        oldest->fd = -1;
        r->nopen--;
    }
}

/* With lock. */
static struct segment *find(struct kv_rocks *r, uint64_t number)
{
    size_t low = 0, high = r->nsegments;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (r->segments[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < r->nsegments && r->segments[low]->number == number ? r->segments[low] : NULL;
}

struct segment *segments_use(struct kv_rocks *r, uint64_t number, int *err)
{
    struct segment *s;

    pthread_mutex_lock(&r->lock);
    s = find(r, number);
    *err = s ? 0 : -ENOENT;
    if (s && s->fd < 0) {
        CLEANUP_FREE char *path = segment_path(r, number);

        if (r->nopen >= OPEN_MAX_SEGMENTS)
            close_oldest(r);
        s->fd = open(path, O_RDWR | O_CLOEXEC);
        *err = s->fd < 0 ? -errno : 0;
        r->nopen += s->fd >= 0;
    }
    if (*err == 0) {
        s->refs++;
        s->used = ++r->uses;
    }
    pthread_mutex_unlock(&r->lock);
    return *err == 0 ? s : NULL;
}

/* With lock. */
static void forget(struct kv_rocks *r, struct segment *s)
{
    if (s->fd >= 0) {
        close(s->fd);
        r->nopen--;
    }
    free(s->groups);
    free(s);
}

void segment_leave(struct kv_rocks *r, struct segment *s)
{
    pthread_mutex_lock(&r->lock);
    CHECK(s->refs > 0);
    if (--s->refs == 0 && s->removed)
        forget(r, s);
    pthread_mutex_unlock(&r->lock);
}

int segment_sync(struct kv_rocks *r, struct segment *s)
{
    struct segment *used;
    int err;

    used = segments_use(r, s->number, &err);
    if (!used)
        return err;
    err = fdatasync(used->fd) < 0 ? -errno : 0;
    segment_leave(r, used);
    return err;
}

/* A file that cannot be removed only takes space: the next start finds it again. */
void segments_remove(struct kv_rocks *r, struct segment *s)
{
    CLEANUP_FREE char *path = segment_path(r, s->number);

    if (unlink(path) < 0)
        log_warn(NULL, "cannot remove %s: %s", path, strerror(errno));
    STEP("journal.remove", "a segment without life is gone");
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->nsegments; i++)
        if (r->segments[i] == s) {
            memmove(r->segments + i, r->segments + i + 1, (r->nsegments - i - 1) * sizeof(struct segment *));
            r->nsegments--;
            break;
        }
    s->removed = true;
    if (s->refs == 0)
        forget(r, s);
    pthread_mutex_unlock(&r->lock);
}

void segments_close(struct kv_rocks *r)
{
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->nsegments; i++) {
        CHECK(r->segments[i]->refs == 0);
        forget(r, r->segments[i]);
    }
    free(r->segments);
    r->segments = NULL;
    r->nsegments = r->room = 0;
    pthread_mutex_unlock(&r->lock);
}
