/* initiator/ds_numbers.c - the metrics of a datastore; see ds_base.h.
 */
#include "ds_base.h"

static struct metric *counter(const char *name, const char *help, const char *disk)
{
    return metric_new(METRIC_COUNTER, name, help, "disk=\"%s\"", disk);
}

static struct metric *bytes(const char *disk, const char *direction)
{
    return metric_new(METRIC_COUNTER, "isthmus_datastore_bytes_total",
                      "Bytes read from the datastore, written to it and zeroed on it.",
                      "disk=\"%s\",direction=\"%s\"", disk, direction);
}

static struct metric *seconds(const char *name, const char *help, const char *disk)
{
    return metric_new(METRIC_HISTOGRAM, name, help, "disk=\"%s\"", disk);
}

void ds_numbers_init(struct ds_numbers *n, const char *disk)
{
    n->read_seconds = seconds("isthmus_datastore_read_seconds",
                              "Time a read of the datastore took, waits for reconnecting included.", disk);
    n->write_seconds =
        seconds("isthmus_datastore_write_seconds",
                "Time a write or zeroing of the datastore took, waits for reconnecting included.", disk);
    n->flush_seconds = seconds("isthmus_datastore_flush_seconds",
                               "Time a flush of the datastore took, waits for reconnecting included.", disk);
    n->read_bytes = bytes(disk, "read");
    n->written_bytes = bytes(disk, "write");
    n->zeroed_bytes = bytes(disk, "zero");
    n->reads = counter("isthmus_datastore_reads_total", "Reads of the datastore that ended.", disk);
    n->writes =
        counter("isthmus_datastore_writes_total", "Writes and zeroings of the datastore that ended.", disk);
    n->losses = counter("isthmus_datastore_losses_total",
                        "Times that writes which were not flushed may have been lost.", disk);
    n->reconnects = counter("isthmus_datastore_reconnects_total",
                            "Sessions or connections to the datastore that were lost or failed.", disk);
    n->errors = counter("isthmus_datastore_errors_total",
                        "Errors the datastore answered to an I/O, retried ones included.", disk);
    n->up = metric_new(METRIC_GAUGE, "isthmus_datastore_up", "1 while the datastore answers, else 0.",
                       "disk=\"%s\"", disk);
}

void ds_numbers_free(struct ds_numbers *n)
{
    struct metric **all[] = {&n->read_seconds, &n->reads,         &n->read_bytes,   &n->write_seconds,
                             &n->writes,       &n->written_bytes, &n->zeroed_bytes, &n->flush_seconds,
                             &n->losses,       &n->reconnects,    &n->errors,       &n->up};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        metric_free(all[i]);
}

static void count_sized(const struct datastore_io *io, struct metric *time, struct metric *number,
                        struct metric *amount, uint64_t ns)
{
    metric_observe_ns(time, ns);
    metric_add(number, 1);
    if (io->status == 0)
        metric_add(amount, io->len);
}

void ds_count(struct ds_numbers *n, const struct datastore_io *io, uint64_t ns)
{
    switch (io->op) {
    case DATASTORE_READ:
        count_sized(io, n->read_seconds, n->reads, n->read_bytes, ns);
        break;
    case DATASTORE_WRITE:
        count_sized(io, n->write_seconds, n->writes, n->written_bytes, ns);
        break;
    case DATASTORE_ZERO:
        count_sized(io, n->write_seconds, n->writes, n->zeroed_bytes, ns);
        break;
    case DATASTORE_FLUSH:
        metric_observe_ns(n->flush_seconds, ns);
        break;
    case DATASTORE_MARK:
        break;
    }
}
