/* common/metric.h - counters, gauges and histograms in Prometheus' text format 0.0.4.
 *
 * A metric belongs to the object that counts in it; two with the same name and labels are shown as their
 * sum. Counting is a relaxed atomic add: any thread, no lock. Creating, freeing and rendering take the
 * registry's lock: not on the data path.
 */
#ifndef ISTHMUS_METRIC_H
#define ISTHMUS_METRIC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric;

/* name: isthmus_..., unit and _total suffix as Prometheus wants them; help: one sentence. labels is printf
 * style and yields the inside of the braces ("vm=\"web\",tier=\"ram\"") or "". All strings are copied. */
struct metric *metric_new(enum metric_kind, const char *name, const char *help, const char *labels, ...)
    __attribute__((format(printf, 4, 5)));
/* A counter or gauge whose shown value is the count divided by `per` (nanoseconds shown as seconds: 1e9). */
void metric_scale(struct metric *, double per);
void metric_free(struct metric **);

void metric_add(struct metric *, uint64_t n); /* counter, gauge */
void metric_sub(struct metric *, uint64_t n); /* gauge */
void metric_set(struct metric *, uint64_t n); /* gauge */
uint64_t metric_get(const struct metric *);   /* counter, gauge */
/* Histogram of durations: buckets 10 us to 100 s in steps of 1, 2, 5, shown in seconds. */
void metric_observe_ns(struct metric *, uint64_t ns);

/* The value below which q (0..1) of the observations of all metrics called name whose labels contain
 * label_part fell, in nanoseconds, from the buckets (upper bound); 0 if there are none. For status pages. */
uint64_t metric_quantile_ns(const char *name, const char *label_part, double q);

/* The sum of all counters or gauges called name whose labels contain label_part ("" = all). For status pages.
 */
uint64_t metric_sum(const char *name, const char *label_part);

/* The whole registry as text; the caller frees it. */
char *metric_render(void);

#endif
