/* journal/kv_own_log.c - where RocksDB's own log is: in memory, in a file that has no name once it is open.
 *
 * Each opening writes some lines to it, and RocksDB 7.8 ends the process if the second finds the disk full.
 */
#include "kv_rocks_impl.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STALE_S = 600 };

static const char memory[] = "/dev/shm", prefix[] = "isthmus-log-";

void own_log_unname(const char *log_dir)
{
    DIR *d = opendir(log_dir);
    const struct dirent *e;

    while (d && (e = readdir(d)))
        if (*e->d_name != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    rmdir(log_dir);
}

/* Of a process that was killed while it opened its index. */
static void remove_stale(void)
{
    DIR *d = opendir(memory);
    const struct dirent *e;
    struct stat st;

    while (d && (e = readdir(d))) {
        CLEANUP_FREE char *dir = xasprintf("%s/%s", memory, e->d_name);

        if (strncmp(e->d_name, prefix, sizeof prefix - 1) == 0 && lstat(dir, &st) == 0 &&
            S_ISDIR(st.st_mode) && st.st_uid == geteuid() && time(NULL) - st.st_mtime >= STALE_S)
            own_log_unname(dir);
    }
    if (d)
        closedir(d);
}

char *own_log_new(struct why *why)
{
    char *dir = xasprintf("%s/%sXXXXXX", memory, prefix);

    remove_stale();
    if (mkdtemp(dir))
        return dir;
    why_set(why, 0, "%s cannot be made: %s", dir, strerror(errno));
    free(dir);
    return NULL;
}
