/* journal/store/dir_impl.h - between the files of the dir store: one object's file, and listing.
 *
 * Everything here blocks and runs on pool threads. Paths are relative to the descriptor of the store's
 * directory. Results are 0 or an errno (positive, as nothing but errnos come out of here).
 */
#ifndef ISTHMUS_DIR_IMPL_H
#define ISTHMUS_DIR_IMPL_H

#include "store.h"

#include <stdatomic.h>

#define DIR_TMP  ".tmp"
#define DIR_LOCK ".lock"

enum { DIR_NONCE = 16, DIR_SUM = 32, DIR_ETAG = 2 * DIR_NONCE + 1 };

struct dir_head {
    uint8_t nonce[DIR_NONCE]; /* another one for every put */
    uint8_t sum[DIR_SUM];     /* SHA-256 of the object */
    uint64_t size;
    int64_t put_s; /* since 1970 */
    char etag[DIR_ETAG];
};

void dir_etag(const uint8_t nonce[DIR_NONCE], char etag[DIR_ETAG]);
int dir_sync_parent(int root, const char *path);

/* Makes the file, which must not be there, and brings it to stable storage. Sets sum and size of head. On
 * success *locked keeps dir_sweep() away from it: the caller closes it when the file has its place. */
int dir_file_write(int root, const char *path, struct dir_head *, const struct iovec *, size_t niov,
                   atomic_bool *stop, int *locked);
/* EBADMSG: it is no object of ours, or torn. */
int dir_file_open(int root, const char *path, int *fd, struct dir_head *);
int dir_head_read(int root, const char *path, struct dir_head *);
int dir_file_read(int fd, const struct dir_head *, void *buf, size_t cap, uint64_t offset, size_t *len,
                  atomic_bool *stop);
bool dir_sum_ok(const struct dir_head *, const void *buf, size_t len);

/* after may be NULL. *page is set on success. */
int dir_list(int root, const char *prefix, const char *after, size_t limit, struct store_page **page,
             atomic_bool *stop);

/* Forgets what processes that died left in DIR_TMP: files of the day before by our clock, which may have
 * jumped, that no living process has locked. */
void dir_sweep(int root);

#endif
