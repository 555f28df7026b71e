/* tests/lib/bench_journal.c - how fast a log takes writes, at what CPU cost, and how fast it opens again.
 *
 *     bench-journal DIR [writes [depth [sectors [span_mib [fsync_every]]]]]
 *
 * One loop, one VM, random writes over span_mib of disk 0. DIR will hold the journal and is not removed.
 * Prints one line of JSON.
 */
#include "check.h"
#include "mem.h"
#include "metric.h"
#include "vmlog.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct slot {
    struct vmlog_append append;
    struct vmlog_flush flush;
    struct task start;
};

static struct {
    struct loop *loop;
    struct vmlog *log;
    uint64_t left, out, since_flush, fsync_every, span_sectors, random;
    uint32_t sectors;
} bench = {.random = 88172645463325252};

static uint64_t next_random(void)
{
    bench.random ^= bench.random << 13;
    bench.random ^= bench.random >> 7;
    bench.random ^= bench.random << 17;
    return bench.random;
}

static void next(struct slot *s)
{
    if (bench.left == 0) {
        if (--bench.out == 0)
            loop_stop(bench.loop);
        return;
    }
    if (bench.fsync_every && ++bench.since_flush >= bench.fsync_every) {
        bench.since_flush = 0;
        vmlog_flush(bench.log, &s->flush);
        return;
    }
    bench.left--;
    s->append.lba = next_random() % (bench.span_sectors / bench.sectors) * bench.sectors;
    vmlog_append(bench.log, &s->append);
}

static void on_append(struct vmlog_append *a)
{
    next(container_of(a, struct slot, append));
}

static void on_flush(struct vmlog_flush *f)
{
    next(container_of(f, struct slot, flush));
}

static void on_start(struct task *t)
{
    next(container_of(t, struct slot, start));
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_s(int who)
{
    struct rusage u;

    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static uint64_t argument(int argc, char **argv, int i, uint64_t otherwise)
{
    return i < argc ? strtoull(argv[i], NULL, 10) : otherwise;
}

static void open_all(const char *dir, struct journal **journal)
{
    static const uint8_t id[VMLOG_ID_BYTES] = "bench";
    struct journal_conf conf = {.path = dir, .max_bytes = UINT64_C(64) << 30};
    struct why why;

    if (journal_open(journal, &conf, &why) < 0 ||
        vmlog_open(&bench.log, *journal, bench.loop, id, "bench", &why) < 0) {
        fprintf(stderr, "%s\n", why.text);
        exit(1);
    }
}

static void start(struct slot *slots, uint64_t depth)
{
    for (uint64_t i = 0; i < depth; i++) {
        slots[i].append.type = RECORD_WRITE;
        slots[i].append.nsectors = bench.sectors;
        slots[i].append.data = buf_new(bench.sectors * 512);
        memset(slots[i].append.data->data, (int)i, bench.sectors * 512);
        slots[i].append.done = on_append;
        slots[i].flush.done = on_flush;
        slots[i].start.run = on_start;
        loop_post(bench.loop, &slots[i].start);
    }
}

int main(int argc, char **argv)
{
    uint64_t writes = argument(argc, argv, 2, 500000), depth = argument(argc, argv, 3, 32);
    struct slot *slots = xcalloc(depth, sizeof *slots);
    struct journal *journal;
    double wall, cpu, loop_cpu, reopened, batch;
    uint64_t p50, p99;

    if (argc < 2) {
        fprintf(stderr, "usage: bench-journal DIR [writes [depth [sectors [span_mib [fsync_every]]]]]\n");
        return 2;
    }
    bench.sectors = (uint32_t)argument(argc, argv, 4, 8);
    bench.span_sectors = argument(argc, argv, 5, 4096) << 11;
    bench.fsync_every = argument(argc, argv, 6, 0);
    bench.left = writes;
    bench.out = depth;
    pool_start(1);
    bench.loop = loop_new("bench");
    open_all(argv[1], &journal);
    start(slots, depth);
    wall = now_s(), cpu = cpu_s(RUSAGE_SELF), loop_cpu = cpu_s(RUSAGE_THREAD);
    loop_run(bench.loop);
    wall = now_s() - wall, cpu = cpu_s(RUSAGE_SELF) - cpu, loop_cpu = cpu_s(RUSAGE_THREAD) - loop_cpu;
    batch = (double)metric_sum("isthmus_journal_batch_records_total", "") /
            (double)metric_sum("isthmus_journal_batches_total", "");
    p50 = metric_quantile_ns("isthmus_journal_append_seconds", "", 0.5);
    p99 = metric_quantile_ns("isthmus_journal_append_seconds", "", 0.99);
    vmlog_close(&bench.log);
    journal_close(&journal);
    reopened = now_s();
    open_all(argv[1], &journal);
    reopened = now_s() - reopened;
    printf("{\"writes_per_s\": %.0f, \"cpu_us\": %.2f, \"loop_cpu_us\": %.2f, \"batch\": %.1f, \"p50_us\": "
           "%.0f, "
           "\"p99_us\": %.0f, \"reopen_s\": %.2f, \"live_records\": %.0f}\n",
           (double)writes / wall, cpu * 1e6 / (double)writes, loop_cpu * 1e6 / (double)writes, batch,
           (double)p50 / 1e3, (double)p99 / 1e3, reopened, (double)metric_sum("isthmus_journal_records", ""));
    vmlog_close(&bench.log);
    journal_close(&journal);
    for (uint64_t i = 0; i < depth; i++)
        buf_unref(&slots[i].append.data);
    free(slots);
    loop_free(&bench.loop);
    pool_stop();
    return 0;
}
