/* initiator/file_io.h - one I/O on a file or block device, for the pool: it blocks. Any thread.
 */
#ifndef ISTHMUS_FILE_IO_H
#define ISTHMUS_FILE_IO_H

#include "datastore.h"

struct file_place {
    const char *path;
    int fd, write_fd; /* write_fd -1: it may not be written */
    bool device;      /* no file: it has no mark */
};

/* 0 or an errno. Reads past the end are zeros. A mark is filled in. */
int file_io(const struct file_place *, struct datastore_io *);
/* What that errno means for the owner of io; -EIO is worth another try. */
int file_io_status(const struct datastore_io *io, int err);

#endif
