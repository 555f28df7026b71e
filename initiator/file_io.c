/* initiator/file_io.c - what an I/O does to a file or block device; see file_io.h.
 *
 * The mark of a file is its number (inode), size and time of change. Not its device: that number may be
 * another after a restart of the machine. Reading changes none of them. A flush makes them stable with the
 * data.
 */
#include "file_io.h"

#include "ds_base.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MARK_BYTES = 29 };

static int do_read(const struct file_place *p, struct datastore_io *io)
{
    uint32_t got = 0;

    while (got < io->len) {
        ssize_t n = pread(p->fd, io->data + got, io->len - got, (off_t)(io->offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            break;
        got += (uint32_t)n;
    }
    memset(io->data + got, 0, io->len - got);
    return 0;
}

static int write_all(const struct file_place *p, const uint8_t *data, uint32_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(p->write_fd, data, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        data += n;
        len -= (uint32_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int do_write(const struct file_place *p, const struct datastore_io *io)
{
    int err = write_all(p, io->data, io->len, io->offset);

    /* On its way now, the flush will have less to wait for. It tells of errors, this does not. */
    if (!err)
        sync_file_range(p->write_fd, (off_t)io->offset, io->len, SYNC_FILE_RANGE_WRITE);
    return err;
}

static int do_zero(const struct file_place *p, const struct datastore_io *io)
{
    int err = 0;

    if (fallocate(p->write_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset, io->len) == 0)
        return 0;
    for (uint32_t done = 0, n; done < io->len && !err; done += n) {
        n = io->len - done < DS_ZEROS_BYTES ? io->len - done : DS_ZEROS_BYTES;
        err = write_all(p, ds_zeros, n, io->offset + done);
    }
    return err;
}

/* By path, not by what is open: somebody may have put another file there. Opening it lets a network file
 * system ask its server. */
static int do_mark(const struct file_place *p, struct datastore_io *io)
{
    struct stat st;
    int fd, err;

    if (p->device)
        return 0;
    fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno;
    err = fstat(fd, &st) == 0 ? 0 : errno;
    close(fd);
    if (err)
        return err;
    io->mark[0] = 1; /* its version */
    put64(io->mark + 1, (uint64_t)st.st_ino);
    put64(io->mark + 9, (uint64_t)st.st_size);
    put64(io->mark + 17, (uint64_t)st.st_mtim.tv_sec);
    put32(io->mark + 25, (uint32_t)st.st_mtim.tv_nsec);
    io->mark_len = MARK_BYTES;
    return 0;
}

int file_io(const struct file_place *p, struct datastore_io *io)
{
    switch (io->op) {
    case DATASTORE_READ:
        return do_read(p, io);
    case DATASTORE_WRITE:
        return do_write(p, io);
    case DATASTORE_ZERO:
        return do_zero(p, io);
    case DATASTORE_FLUSH: /* fsync: the mark must be stable, too */
        return p->write_fd < 0 || fsync(p->write_fd) == 0 ? 0 : errno;
    case DATASTORE_MARK:
        return do_mark(p, io);
    }
    return EINVAL;
}

int file_io_status(const struct datastore_io *io, int err)
{
    if (io->op == DATASTORE_READ || io->op == DATASTORE_MARK)
        return -EIO;
    switch (err) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return -ENOSPC;
    case EROFS:
    case EPERM:
    case ETXTBSY:
        return -EROFS;
    default:
        return -EIO;
    }
}
