/* journal/store/dir_list.c - the dir store's listing: keys in the order of their bytes, a page at a time.
 *
 * A directory is read whole and sorted as its keys sort ("a-b" < "a/b" < "a0"); directories that can hold
 * nothing of the page are not entered. Names that are no keys are passed over. Blocking; pool threads.
 */
#include "dir_impl.h"
#include "mem.h"
#include "store_backend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 64, STALE_S = 24 * 3600 };

struct walk {
    int root;
    const char *prefix, *after;
    size_t limit;
    struct store_page *page;
    atomic_bool *stop;
    bool full;                    /* there is more than the page holds */
    char path[STORE_KEY_MAX + 2]; /* of the directory or file looked at; a directory's ends in '/' */
};

/* The names of one directory, directories with a '/' at their end. */
struct names {
    char **name;
    size_t count, room;
};

static void names_free(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->name[i]);
    free(n->name);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_directory(int fd, const struct dirent *e)
{
    struct stat st;

    if (e->d_type != DT_UNKNOWN)
        return e->d_type == DT_DIR;
    return fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static void names_add(struct names *n, int fd, const struct dirent *e)
{
    if (!store_key_ok(e->d_name))
        return;
    if (n->count == n->room) {
        n->room = n->room ? 2 * n->room : 64;
        n->name = xrealloc(n->name, n->room * sizeof(*n->name));
    }
    n->name[n->count++] = xasprintf("%s%s", e->d_name, is_directory(fd, e) ? "/" : "");
}

static int names_read(struct names *n, int root, const char *path)
{
    int err, fd = openat(root, path[0] ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *e;
    DIR *d;

    if (fd < 0)
        return errno;
    d = fdopendir(fd);
    if (!d) {
        err = errno;
        close(fd);
        return err;
    }
    while (errno = 0, (e = readdir(d)))
        names_add(n, dirfd(d), e);
    err = errno;
    closedir(d);
    if (n->count)
        qsort(n->name, n->count, sizeof(*n->name), by_bytes);
    return err;
}

/* Can a key that begins with w->path be wanted? */
static bool may_hold(const struct walk *w)
{
    size_t len = strlen(w->path), prefix = strlen(w->prefix);

    if (strncmp(w->path, w->prefix, len < prefix ? len : prefix) != 0)
        return false;
    return strncmp(w->path, w->after, len) >= 0;
}

static int add_file(struct walk *w)
{
    struct stat st;

    if (strncmp(w->path, w->prefix, strlen(w->prefix)) != 0 || strcmp(w->path, w->after) <= 0)
        return 0;
    if (w->page->count == w->limit) {
        w->full = true;
        return 0;
    }
    if (fstatat(w->root, w->path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : errno;
    if (S_ISREG(st.st_mode))
        store_page_add(&w->page, w->path, st.st_size > HEAD ? (uint64_t)st.st_size - HEAD : 0);
    return 0;
}

/* Everything in the directory w->path (ends in '/', or is empty). As deep as a key has segments. */
static int walk(struct walk *w)
{
    size_t len = strlen(w->path);
    struct names names = {0};
    int err = atomic_load(w->stop) ? ECANCELED : names_read(&names, w->root, w->path);

    if (err == ENOENT)
        err = 0; /* removed meanwhile */
    for (size_t i = 0; i < names.count && !err && !w->full; i++) {
        size_t more = strlen(names.name[i]);

        if (len + more > STORE_KEY_MAX)
            continue;
        memcpy(w->path + len, names.name[i], more + 1);
        if (names.name[i][more - 1] != '/')
            err = add_file(w);
        else if (may_hold(w))
            err = walk(w);
        w->path[len] = '\0';
    }
    names_free(&names);
    return err;
}

int dir_list(int root, const char *prefix, const char *after, size_t limit, struct store_page **page,
             atomic_bool *stop)
{
    struct walk w = {.root = root,
                     .prefix = prefix,
                     .after = after ? after : "",
                     .limit = limit,
                     .page = store_page_new(limit),
                     .stop = stop};
    int err = walk(&w);

    if (err)
        store_page_free(&w.page);
    else if (w.full)
        w.page->next = xstrdup(w.page->entries[w.page->count - 1].key);
    *page = w.page;
    return err;
}

/* Whoever writes a file holds its lock for as long as it has this name. */
static void sweep_file(int tmp, const char *name)
{
    int fd = openat(tmp, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_mtime < time(NULL) - STALE_S &&
        flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(tmp, name, 0);
    close(fd);
}

void dir_sweep(int root)
{
    int fd = openat(root, DIR_TMP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((e = readdir(d)))
        sweep_file(dirfd(d), e->d_name);
    closedir(d);
}
