/* journal/store/dir_file.c - one object of the dir store in its file: 64 bytes of header, then its bytes.
 *
 *       0   8  "IsthObj1"
 *       8  16  nonce: random for every put; in hex it is the etag
 *      24  32  SHA-256 of the object
 *      56   8  size of the object in bytes, big-endian; the file has exactly 64 more
 *
 * Blocking; pool threads.
 */
#include "dir_impl.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD = 64, CHUNK = 1 << 20 };

static const char magic[8] = "IsthObj1";

void dir_etag(const uint8_t nonce[DIR_NONCE], char etag[DIR_ETAG])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < DIR_NONCE; i++) {
        etag[2 * i] = digits[nonce[i] >> 4];
        etag[2 * i + 1] = digits[nonce[i] & 15];
    }
    etag[DIR_ETAG - 1] = '\0';
}

int dir_sync_parent(int root, const char *path)
{
    CLEANUP_FREE char *parent = xstrdup(path);
    char *slash = strrchr(parent, '/');
    int fd, err = 0;

    if (slash)
        *slash = '\0';
    fd = slash ? openat(root, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : dup(root);
    if (fd < 0)
        return errno == ENOENT ? 0 : errno; /* removed since: so is what was in it */
    if (fsync(fd) != 0)
        err = errno;
    close(fd);
    return err;
}

static int write_all(int fd, const uint8_t *p, size_t n, off_t at)
{
    while (n > 0) {
        ssize_t done = pwrite(fd, p, n, at);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : EIO;
        p += done;
        n -= (size_t)done;
        at += done;
    }
    return 0;
}

static int write_object(int fd, struct dir_head *head, const struct iovec *iov, size_t niov, EVP_MD_CTX *sum,
                        atomic_bool *stop)
{
    for (size_t i = 0; i < niov; i++) {
        const uint8_t *p = iov[i].iov_base;
        size_t left = iov[i].iov_len;

        while (left > 0) {
            size_t n = left < CHUNK ? left : CHUNK;
            int err = atomic_load(stop) ? ECANCELED : write_all(fd, p, n, (off_t)(HEAD + head->size));

            if (err)
                return err;
            if (EVP_DigestUpdate(sum, p, n) != 1)
                return EIO;
            p += n;
            left -= n;
            head->size += n;
        }
    }
    return 0;
}

static int write_head(int fd, const struct dir_head *head)
{
    uint8_t raw[HEAD];

    memcpy(raw, magic, 8);
    memcpy(raw + 8, head->nonce, DIR_NONCE);
    memcpy(raw + 24, head->sum, DIR_SUM);
    put64(raw + 56, head->size);
    return write_all(fd, raw, sizeof(raw), 0);
}

/* A new file that is locked: dir_sweep() may have it before the lock has. */
static int create_locked(int root, const char *path, int *fd)
{
    for (;;) {
        struct stat st;
        int err;

        *fd = openat(root, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (*fd < 0)
            return errno;
        while ((err = flock(*fd, LOCK_EX) == 0 ? 0 : errno) == EINTR)
            ;
        if (!err && fstat(*fd, &st) != 0)
            err = errno;
        if (!err && st.st_nlink > 0)
            return 0;
        close(*fd);
        if (err)
            return err;
    }
}

int dir_file_write(int root, const char *path, struct dir_head *head, const struct iovec *iov, size_t niov,
                   atomic_bool *stop, int *locked)
{
    EVP_MD_CTX *sum;
    int fd, err = create_locked(root, path, &fd);

    if (err)
        return err;
    sum = EVP_MD_CTX_new();
    head->size = 0;
    err = sum && EVP_DigestInit_ex(sum, EVP_sha256(), NULL) == 1 ? 0 : EIO;
    if (!err)
        err = write_object(fd, head, iov, niov, sum, stop);
    if (!err && EVP_DigestFinal_ex(sum, head->sum, NULL) != 1)
        err = EIO;
    if (!err)
        err = write_head(fd, head);
    if (!err && fsync(fd) != 0)
        err = errno;
    EVP_MD_CTX_free(sum);
    if (err)
        close(fd);
    else
        *locked = fd;
    return err;
}

static int read_all(int fd, uint8_t *p, size_t n, off_t at)
{
    while (n > 0) {
        ssize_t done = pread(fd, p, n, at);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        if (done == 0)
            return EBADMSG;
        p += done;
        n -= (size_t)done;
        at += done;
    }
    return 0;
}

int dir_file_open(int root, const char *path, int *fd, struct dir_head *head)
{
    uint8_t raw[HEAD];
    struct stat st;
    int err;

    *fd = openat(root, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return errno;
    err = fstat(*fd, &st) == 0 ? 0 : errno;
    if (!err && S_ISDIR(st.st_mode))
        err = ENOENT; /* other keys lie under it */
    else if (!err && !S_ISREG(st.st_mode))
        err = EBADMSG;
    if (!err)
        err = read_all(*fd, raw, sizeof(raw), 0);
    if (!err) {
        memcpy(head->nonce, raw + 8, DIR_NONCE);
        memcpy(head->sum, raw + 24, DIR_SUM);
        head->size = get64(raw + 56);
        head->put_s = st.st_mtime;
        dir_etag(head->nonce, head->etag);
        if (memcmp(raw, magic, 8) != 0 || head->size != (uint64_t)st.st_size - HEAD)
            err = EBADMSG;
    }
    if (err) {
        close(*fd);
        *fd = -1;
    }
    return err;
}

int dir_head_read(int root, const char *path, struct dir_head *head)
{
    int fd, err = dir_file_open(root, path, &fd, head);

    if (!err)
        close(fd);
    return err;
}

int dir_file_read(int fd, const struct dir_head *head, void *buf, size_t cap, uint64_t offset, size_t *len,
                  atomic_bool *stop)
{
    uint64_t left = offset < head->size ? head->size - offset : 0;

    if (left > cap)
        left = cap;
    *len = 0;
    while (*len < left) {
        size_t n = left - *len < CHUNK ? (size_t)(left - *len) : CHUNK;
        int err = atomic_load(stop) ? ECANCELED
                                    : read_all(fd, (uint8_t *)buf + *len, n, (off_t)(HEAD + offset + *len));

        if (err)
            return err;
        *len += n;
    }
    return 0;
}

bool dir_sum_ok(const struct dir_head *head, const void *buf, size_t len)
{
    uint8_t sum[DIR_SUM];

    return EVP_Digest(buf, len, sum, NULL, EVP_sha256(), NULL) == 1 && memcmp(sum, head->sum, DIR_SUM) == 0;
}
