/* common/metric.c - the registry: a list under a lock; counting itself is lock-free.
 *
 * Rendering sorts by name and labels, so that one metric's lines stand together and two objects with the
 * same name and labels become one line with their sum.
 */
#include "metric.h"
#include "check.h"
#include "mem.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

/* Upper bounds in microseconds: 10 us .. 100 s. */
static const uint64_t bounds_us[] = {
    10,    20,     50,     100,    200,     500,     1000,    2000,     5000,     10000,    20000,
    50000, 100000, 200000, 500000, 1000000, 2000000, 5000000, 10000000, 20000000, 50000000, 100000000};
enum { NBOUNDS = sizeof bounds_us / sizeof *bounds_us };

struct metric {
    TAILQ_ENTRY(metric) entry;
    enum metric_kind kind;
    char *name, *help, *labels;
    double per;
    _Atomic uint64_t value;    /* histograms: the sum in ns */
    _Atomic uint64_t *buckets; /* NBOUNDS + 1; histograms only */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static TAILQ_HEAD(, metric) registry = TAILQ_HEAD_INITIALIZER(registry);
static size_t registered;

struct metric *metric_new(enum metric_kind kind, const char *name, const char *help, const char *labels, ...)
{
    struct metric *m = xcalloc(1, sizeof *m);
    char text[512];
    va_list args;

    va_start(args, labels);
    CHECK(vsnprintf(text, sizeof text, labels, args) < (int)sizeof text);
    va_end(args);
    m->kind = kind;
    m->name = xstrdup(name);
    m->help = xstrdup(help);
    m->labels = xstrdup(text);
    m->per = 1;
    if (kind == METRIC_HISTOGRAM)
        m->buckets = xcalloc(NBOUNDS + 1, sizeof *m->buckets);
    pthread_mutex_lock(&lock);
    TAILQ_INSERT_TAIL(&registry, m, entry);
    registered++;
    pthread_mutex_unlock(&lock);
    return m;
}

void metric_scale(struct metric *m, double per)
{
    m->per = per;
}

void metric_free(struct metric **m)
{
    if (!*m)
        return;
    pthread_mutex_lock(&lock);
    TAILQ_REMOVE(&registry, *m, entry);
    registered--;
    pthread_mutex_unlock(&lock);
    free((*m)->name);
    free((*m)->help);
    free((*m)->labels);
    free((*m)->buckets);
    free(*m);
    *m = NULL;
}

void metric_add(struct metric *m, uint64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}

void metric_sub(struct metric *m, uint64_t n)
{
    atomic_fetch_sub_explicit(&m->value, n, memory_order_relaxed);
}

void metric_set(struct metric *m, uint64_t n)
{
    atomic_store_explicit(&m->value, n, memory_order_relaxed);
}

uint64_t metric_get(const struct metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

void metric_observe_ns(struct metric *m, uint64_t ns)
{
    unsigned low = 0, high = NBOUNDS;

    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (ns <= bounds_us[mid] * 1000)
            high = mid;
        else
            low = mid + 1;
    }
    atomic_fetch_add_explicit(&m->buckets[low], 1, memory_order_relaxed);
    metric_add(m, ns);
}

static uint64_t bucket(const struct metric *m, unsigned i)
{
    return atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
}

uint64_t metric_sum(const char *name, const char *label_part)
{
    uint64_t sum = 0;
    struct metric *m;

    pthread_mutex_lock(&lock);
    TAILQ_FOREACH (m, &registry, entry)
        if (strcmp(m->name, name) == 0 && strstr(m->labels, label_part))
            sum += metric_get(m);
    pthread_mutex_unlock(&lock);
    return sum;
}

uint64_t metric_quantile_ns(const char *name, const char *label_part, double q)
{
    uint64_t counts[NBOUNDS + 1] = {0}, total = 0, seen = 0;
    struct metric *m;

    pthread_mutex_lock(&lock);
    TAILQ_FOREACH (m, &registry, entry)
        if (m->buckets && strcmp(m->name, name) == 0 && strstr(m->labels, label_part))
            for (unsigned i = 0; i <= NBOUNDS; i++)
                counts[i] += bucket(m, i);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i <= NBOUNDS; i++)
        total += counts[i];
    for (unsigned i = 0; i <= NBOUNDS && total; i++) {
        seen += counts[i];
        if ((double)seen >= q * (double)total)
            return bounds_us[i < NBOUNDS ? i : NBOUNDS - 1] * 1000;
    }
    return 0;
}

static int by_name_and_labels(const void *a, const void *b)
{
    const struct metric *const *x = a, *const *y = b;
    int order = strcmp((*x)->name, (*y)->name);

    return order ? order : strcmp((*x)->labels, (*y)->labels);
}

static void render_value(FILE *out, struct metric **m, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += metric_get(m[i]);
    fprintf(out, "%s%s%s%s %.17g\n", m[0]->name, *m[0]->labels ? "{" : "", m[0]->labels,
            *m[0]->labels ? "}" : "", (double)sum / m[0]->per);
}

static void render_histogram(FILE *out, struct metric **m, size_t n)
{
    const char *name = m[0]->name, *labels = m[0]->labels, *comma = *labels ? "," : "";
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    uint64_t running = 0, ns = 0;

    for (unsigned b = 0; b <= NBOUNDS; b++) {
        for (size_t i = 0; i < n; i++)
            running += bucket(m[i], b);
        if (b < NBOUNDS)
            fprintf(out, "%s_bucket{%s%sle=\"%g\"} %lu\n", name, labels, comma, (double)bounds_us[b] / 1e6,
                    running);
    }
    for (size_t i = 0; i < n; i++)
        ns += metric_get(m[i]);
    fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %lu\n", name, labels, comma, running);
    fprintf(out, "%s_sum%s%s%s %.9f\n", name, open, labels, close, (double)ns / 1e9);
    fprintf(out, "%s_count%s%s%s %lu\n", name, open, labels, close, running);
}

char *metric_render(void)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    char *text = NULL;
    size_t length, i = 0, same;
    struct metric **all, *m;
    FILE *out = open_memstream(&text, &length);

    CHECK(out);
    pthread_mutex_lock(&lock);
    all = xcalloc(registered, sizeof *all);
    TAILQ_FOREACH (m, &registry, entry)
        all[i++] = m;
    qsort(all, registered, sizeof *all, by_name_and_labels);
    for (i = 0; i < registered; i += same) {
        for (same = 1; i + same < registered && by_name_and_labels(&all[i], &all[i + same]) == 0; same++)
            ;
        if (i == 0 || strcmp(all[i]->name, all[i - 1]->name) != 0)
            fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", all[i]->name, all[i]->help, all[i]->name,
                    kinds[all[i]->kind]);
        (all[i]->kind == METRIC_HISTOGRAM ? render_histogram : render_value)(out, all + i, same);
    }
    pthread_mutex_unlock(&lock);
    free(all);
    CHECK(fclose(out) == 0);
    return text;
}
