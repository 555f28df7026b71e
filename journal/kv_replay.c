/* journal/kv_replay.c - at the start: what the segments hold and the index's files do not.
 *
 * From the segment on that the index names, every batch is applied again, up to the end or the first that is
 * torn. A segment that was replayed is written anew and synced before anything relies on it: pages whose
 * fsync failed once may be gone although they can still be read.
 */
#include "check.h"
#include "kv_rocks_impl.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char part[] = "journal";

enum { COPY_BYTES = 1 << 20 };

struct file {
    uint64_t number, bytes;
};

struct files {
    struct file *list;
    size_t n, room;
};

static int by_number(const void *a, const void *b)
{
    const struct file *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static int add_file(struct kv_rocks *r, struct files *f, const char *name)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", r->path, name);
    unsigned long long number;
    struct stat st;
    char rest[8];

    if (sscanf(name, "%16llx%7s", &number, rest) != 2)
        return 0;
    if (strcmp(rest, ".new") == 0)
        return unlink(path) < 0 ? -errno : 0;
    if (strcmp(rest, ".log") != 0)
        return 0;
    if (stat(path, &st) < 0)
        return -errno;
    if (f->n == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->list = xrealloc(f->list, f->room * sizeof *f->list);
    }
    f->list[f->n++] = (struct file){number, (uint64_t)st.st_size};
    return 0;
}

static int list_files(struct kv_rocks *r, struct files *f)
{
    DIR *dir = opendir(r->path);
    struct dirent *e;
    int err = 0;

    if (!dir)
        return -errno;
    while (err == 0 && (errno = 0, e = readdir(dir)))
        err = add_file(r, f, e->d_name);
    if (err == 0 && errno)
        err = -errno;
    closedir(dir);
    if (f->n)
        qsort(f->list, f->n, sizeof *f->list, by_number);
    return err;
}

/* --- one segment ----------------------------------------------------------------------------------------*/

static bool header_is_good(int fd, uint64_t number)
{
    uint8_t header[SEGMENT_HEADER_BYTES];

    return read_at(fd, header, sizeof header, 0) == 0 && memcmp(header, "ISTHJRNL", 8) == 0 &&
           get64(header + 8) == number;
}

/* Applies the batch at `at`; *len is 0 if there is no whole one. */
static int replay_batch(struct kv_rocks *r, struct segment *s, const struct file *f, uint64_t at,
                        uint32_t *len)
{
    CLEANUP_FREE uint8_t *bytes = NULL;
    uint8_t header[BATCH_HEADER_BYTES];
    int err;

    *len = 0;
    if (f->bytes - at < sizeof header)
        return 0;
    err = read_at(s->fd, header, sizeof header, at);
    if (err)
        return err;
    *len = batch_length(header, r->next_batch);
    if (*len == 0 || *len > f->bytes - at) {
        *len = 0;
        return 0;
    }
    bytes = xmalloc(*len);
    err = read_at(s->fd, bytes, *len, at);
    if (err)
        return err;
    if (!batch_whole(bytes, *len)) {
        *len = 0;
        return 0;
    }
    r->next_batch++;
    return index_apply(r, s, (uint32_t)at, bytes, *len, APPLY_REPLAY);
}

static int copy(int from, int to, uint32_t bytes)
{
    CLEANUP_FREE uint8_t *block = xmalloc(COPY_BYTES);
    int err = 0;

    for (uint32_t at = 0; err == 0 && at < bytes; at += COPY_BYTES) {
        uint32_t n = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;

        err = read_at(from, block, n, at);
        if (err == 0)
            err = write_at(to, block, n, at);
    }
    return err == 0 && fdatasync(to) < 0 ? -errno : err;
}

/* Its whole batches in a file that is stable, under the same name. */
static int write_anew(struct kv_rocks *r, struct segment *s)
{
    CLEANUP_FREE char *path = segment_path(r, s->number);
    CLEANUP_FREE char *new_path = xasprintf("%s/%016" PRIx64 ".new", r->path, s->number);
    int fd = open(new_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), err;

    if (fd < 0)
        return -errno;
    err = copy(s->fd, fd, s->bytes);
    STEP("replay.copy", "a replayed segment is written anew beside the old one");
    if (err == 0 && rename(new_path, path) < 0)
        err = -errno;
    STEP("replay.rename", "it has taken the old one's place");
    if (err == 0)
        err = segments_sync_directory(r);
    if (err) {
        close(fd);
        return err;
    }
    close(s->fd); /* of the old file; nobody else has it yet */
    s->fd = fd;
    return 0;
}

static int replay_segment(struct kv_rocks *r, const struct file *f, bool last, struct why *why)
{
    struct segment *s = segments_add(r, f->number, SEGMENT_HEADER_BYTES), *used;
    uint64_t first = r->next_batch;
    uint32_t len;
    int err;

    used = segments_use(r, f->number, &err);
    if (used && !header_is_good(s->fd, f->number))
        err = -EBADMSG;
    do {
        if (err == 0)
            err = replay_batch(r, s, f, s->bytes, &len);
        if (err == 0)
            s->bytes += len;
    } while (err == 0 && len > 0);
    if (err == 0 && s->bytes < f->bytes) {
        if (!last)
            err = -EBADMSG;
        else
            log_warn(NULL,
                     "the journal at %s ends with %" PRIu64 " bytes that were not written whole: dropped",
                     r->path, f->bytes - s->bytes);
    }
    STEP("replay.apply", "a segment's batches are in the index's memory again");
    if (err == 0 && (r->next_batch > first || s->bytes < f->bytes))
        err = write_anew(r, s);
    if (used)
        segment_leave(r, used);
    if (err == -EBADMSG)
        why_set(why, err, "segment %016" PRIx64 " of the journal at %s is altered", f->number, r->path);
    else if (err)
        why_set(why, err, "cannot replay the journal at %s: %s", r->path, strerror(-err));
    return err;
}

/* --- all of them ----------------------------------------------------------------------------------------*/

static bool is_empty(const struct kv_rocks *r, const struct file *f)
{
    CLEANUP_FREE char *path = segment_path(r, f->number);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && header_is_good(fd, f->number);

    if (fd >= 0)
        close(fd);
    return !good && f->bytes <= SEGMENT_HEADER_BYTES;
}

/* A segment is used only when its header is stable: one without it was just being made. */
static int drop_unborn(struct kv_rocks *r, struct files *f, uint64_t from)
{
    CLEANUP_FREE char *path = NULL;
    const struct file *last = f->n ? &f->list[f->n - 1] : NULL;

    if (!last || (last->number <= from && from > 1) || !is_empty(r, last))
        return 0;
    path = segment_path(r, last->number);
    f->n--;
    return unlink(path) < 0 ? -errno : 0;
}

static int replay_files(struct kv_rocks *r, const struct files *f, uint64_t from, struct why *why)
{
    uint64_t expected = from;
    int err = 0;

    for (size_t i = 0; err == 0 && i < f->n; i++) {
        const struct file *file = &f->list[i];

        if (file->bytes > UINT32_MAX)
            return why_set(why, -EBADMSG, "segment %016" PRIx64 " of the journal at %s is too large",
                           file->number, r->path);
        if (file->number < from) {
            segments_add(r, file->number, (uint32_t)file->bytes);
            continue;
        }
        if (file->number != expected)
            break;
        err = replay_segment(r, file, i + 1 == f->n, why);
        expected++;
    }
    if (err == 0 && f->n > 0 && f->list[f->n - 1].number + 1 != expected)
        err = why_set(why, -EBADMSG, "segment %016" PRIx64 " of the journal at %s is missing", expected,
                      r->path);
    return err;
}

/* --- what lives -----------------------------------------------------------------------------------------*/

struct count {
    struct kv_rocks *r;
    uint64_t lost;
};

static int count_one(void *arg, const uint8_t *key, size_t key_len, const struct place *p)
{
    struct count *c = arg;

    for (size_t low = 0, high = c->r->nsegments; low < high;) {
        size_t middle = low + (high - low) / 2;
        struct segment *s = c->r->segments[middle];

        if (s->number == p->segment) {
            live_add(s, key, key_len, p->len);
            return 0;
        }
        if (s->number < p->segment)
            low = middle + 1;
        else
            high = middle;
    }
    c->lost++;
    return 0;
}

static int count_live(struct kv_rocks *r, struct why *why)
{
    static const uint8_t end[32] = {[0 ... 31] = 0xff};
    struct count c = {.r = r};
    int err = index_places(r, "", 0, end, sizeof end, count_one, &c);

    if (err)
        return why_set(why, err, "cannot read the journal at %s: %s", r->path, strerror(-err));
    if (c.lost)
        log_error(NULL, "%" PRIu64 " values of the journal at %s are in segments that are missing", c.lost,
                  r->path);
    for (size_t i = 0; i < r->nsegments; i++)
        if (r->segments[i]->live == 0) {
            r->segments[i]->dead_in = segments_current(r)->number;
            r->some_dead = true;
        }
    return 0;
}

static int replay_from(struct kv_rocks *r, struct files *f, uint64_t from, struct why *why)
{
    uint64_t first = r->next_batch;
    int err = drop_unborn(r, f, from);

    if (err == 0 && f->n == 0 && from == 1)
        err = segments_create(r, 1);
    if (err)
        return why_set(why, err, "cannot open the journal at %s: %s", r->path, strerror(-err));
    err = replay_files(r, f, from, why);
    if (err == 0 && (r->nsegments == 0 || segments_current(r)->number < from))
        err = why_set(why, -EBADMSG, "segment %016" PRIx64 " of the journal at %s is missing", from, r->path);
    if (err == 0)
        err = count_live(r, why);
    if (err == 0 && r->next_batch > first) {
        err = store_roll(r, true);
        STEP("replay.switch", "what was replayed is in the index's files");
        if (err)
            why_set(why, err, "cannot write to the journal at %s: %s", r->path, strerror(-err));
    }
    return err;
}

int replay(struct kv_rocks *r, struct why *why)
{
    uint64_t from = 1;
    struct files f = {0};
    int err;

    r->next_batch = 1;
    err = index_position(r, &from, &r->next_batch);
    if (err == -ENOENT)
        err = 0;
    r->switched = r->durable = from;
    if (err == 0)
        err = list_files(r, &f);
    if (err)
        why_set(why, err, "cannot read the journal at %s: %s", r->path, strerror(-err));
    else
        err = replay_from(r, &f, from, why);
    free(f.list);
    return err;
}
