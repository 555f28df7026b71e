/* journal/writeback_metrics.c - what an operator sees of a write-back.
 */
#include "cut.h"
#include "writeback_impl.h"

/* Of data: zeros take no room anywhere. */
uint64_t wb_unapplied_bytes(const struct writeback *wb)
{
    uint64_t live, objects;
    unsigned n;

    map_sums(wb->conf.map, &live, &objects, &n);
    return live + cut_pending_bytes(wb->conf.log);
}

uint64_t wb_unapplied_ns(const struct writeback *wb)
{
    uint64_t now = loop_now_ns(wb->conf.loop);

    return wb->since_ns && wb->since_ns < now ? now - wb->since_ns : 0;
}

void wb_metrics_show(struct writeback *wb)
{
    metric_set(wb->m.age, wb_unapplied_ns(wb));
    metric_set(wb->m.pending, wb_unapplied_bytes(wb));
    metric_set(wb->m.applied, map_state(wb->conf.map)->applied);
    metric_set(wb->m.applied_instant, wb->onprem.applied_instant_ms);
    metric_set(wb->m.alarm, wb->alarm);
}

static struct metric *new (const struct writeback *wb, enum metric_kind kind, const char *name,
                           const char *help)
{
    return metric_new(kind, name, help, "vm=\"%s\"", wb->vm);
}

void wb_metrics_new(struct writeback *wb)
{
    struct writeback_metrics *m = &wb->m;

    m->age = new (wb, METRIC_GAUGE, "isthmus_writeback_lag_seconds",
                  "Age of the oldest write that the source disks lack.");
    metric_scale(m->age, 1e9);
    m->pending =
        new (wb, METRIC_GAUGE, "isthmus_writeback_pending_bytes", "Data of a VM that its source disks lack.");
    m->seconds = new (wb, METRIC_HISTOGRAM, "isthmus_writeback_seconds",
                      "From beginning a write-back until its cut is on the source disks.");
    m->data_bytes = new (wb, METRIC_COUNTER, "isthmus_writeback_data_bytes_total",
                         "Data of the cuts that were written back.");
    m->known_bytes = new (wb, METRIC_COUNTER, "isthmus_writeback_known_bytes_total",
                          "The part of it that the on-prem daemon had already.");
    m->sent_bytes = new (wb, METRIC_COUNTER, "isthmus_writeback_sent_bytes_total",
                         "Bytes of messages sent for it, as encoded.");
    m->retries = new (wb, METRIC_COUNTER, "isthmus_writeback_retries_total",
                      "Steps of write-backs that failed and were tried again.");
    m->applied = new (wb, METRIC_GAUGE, "isthmus_writeback_applied_record",
                      "The last record of the cut that the source disks are at.");
    m->applied_instant = new (wb, METRIC_GAUGE, "isthmus_writeback_applied_instant_seconds",
                              "When the cut that the source disks are at was taken, by the edge's clock.");
    metric_scale(m->applied_instant, 1e3);
    m->alarm = new (wb, METRIC_GAUGE, "isthmus_writeback_alarm",
                    "1 while a write-back has stopped and somebody must look.");
}

void wb_metrics_free(struct writeback *wb)
{
    struct writeback_metrics *m = &wb->m;
    struct metric **all[] = {&m->age,        &m->pending, &m->seconds, &m->data_bytes,      &m->known_bytes,
                             &m->sent_bytes, &m->retries, &m->applied, &m->applied_instant, &m->alarm};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        metric_free(all[i]);
}
