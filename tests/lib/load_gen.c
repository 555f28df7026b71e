/* load-gen - I/O against an iSCSI target as fast as it goes, and what that cost the target's process.
 *
 *   load-gen URL read|write random|sequential [--bytes N] [--depth N] [--sessions N] [--seconds S]
 *            [--span-mib N] [--process DIR] [--poll] [--digests]
 *            [--single] [--vms N]
 *   load-gen login URL [--sessions N] [--seconds S] [--process DIR]
 *   load-gen fill URL [--span-mib N]          reads all of it once, 1 MiB at a time
 *   load-gen floor --cores A,B [--seconds S] [--poll]
 *
 * URL: iscsi://HOST:PORT/IQN/LUN. One JSON object on stdout. --process /proc/PID: CPU time and memory of that
 * process (the target's). --poll never sleeps, so that the wake-up of this side is not measured. gen_busy is
 * the part of the time in which this side had something to do: near 1 it may be the bottleneck. "floor" is
 * what TCP over loopback takes for a 48-byte request and a 4 KiB answer between two cores, with nothing
 * behind it. "login": that many sessions log in together, again and again: an I/O is one round of it, but CPU
 * is for one login. --vms N: sessions in turn for the targets whose names end with 1 to N (URL has the
 * first).
 */
#include "load_floor.h"
#include "load_session.h"
#include "load_usage.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Latencies: 64 steps for each doubling, so within 1.6 %. */
enum { STEPS = 64, BUCKETS = STEPS * 40, SESSIONS_MAX = 256 };
#define SECOND_NS 1000000000ull
#define WARM_NS   (SECOND_NS / 5)

static struct {
    const char *url, *process;
    unsigned sessions, span_mib;
    double seconds;
    int cores[2];
    bool poll, fill, floor, login;
} args = {.sessions = 1, .seconds = 2};
static struct load load = {.io_bytes = 4096, .depth = 1};
static uint64_t counts[BUCKETS], ios;
static struct load_session *sessions[SESSIONS_MAX];

static unsigned bucket(uint64_t ns)
{
    unsigned shift = 0;

    while (ns >> shift >= 2 * STEPS)
        shift++;
    return shift * STEPS + (unsigned)(ns >> shift);
}

static void on_done(uint64_t took_ns)
{
    unsigned i = bucket(took_ns);

    counts[i < BUCKETS ? i : BUCKETS - 1]++;
    ios++;
}

static double percentile_us(double part)
{
    uint64_t wanted = (uint64_t)((double)ios * part), seen = 0;

    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += counts[i];
        if (seen > wanted) {
            unsigned shift = i < 2 * STEPS ? 0 : i / STEPS - 1;

            return (double)((uint64_t)(i - shift * STEPS) << shift) / 1000;
        }
    }
    return 0;
}

/* --- the load --- */

struct run {
    int epoll;
    uint64_t idle_ns;
};

static void watch(struct run *r, unsigned i, int how)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};

    if (load_session_wants_write(sessions[i]))
        e.events |= EPOLLOUT;
    if (epoll_ctl(r->epoll, how, load_session_fd(sessions[i]), &e) != 0)
        load_die("epoll: %s", strerror(errno));
}

static void turn(struct run *r)
{
    struct epoll_event events[SESSIONS_MAX];
    uint64_t before = load.now_ns;
    int n;
    bool moved = false;

    if (args.poll && args.sessions == 1) {
        load.now_ns = usage_now_ns();
        moved = load_session_turn(sessions[0]);
        if (!moved)
            r->idle_ns += load.now_ns - before;
        return;
    }
    before = usage_now_ns();
    n = epoll_wait(r->epoll, events, SESSIONS_MAX, args.poll ? 0 : 100);
    load.now_ns = usage_now_ns();
    r->idle_ns += load.now_ns - before;
    for (int i = 0; i < n; i++) {
        unsigned number = events[i].data.u32;
        bool wanted = load_session_wants_write(sessions[number]);

        load_session_turn(sessions[number]);
        if (load_session_wants_write(sessions[number]) != wanted)
            watch(r, number, EPOLL_CTL_MOD);
    }
}

static void run_until(struct run *r, uint64_t end_ns)
{
    while (load.now_ns < end_ns)
        turn(r);
}

static unsigned in_flight(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < args.sessions; i++)
        n += load_session_in_flight(sessions[i]);
    return n;
}

/* What is measured around the load. */
struct measure {
    double cpu, pool, ran, waited;
    uint64_t since_ns;
};

static void measure_begin(struct measure *m)
{
    memset(counts, 0, sizeof counts);
    ios = 0;
    m->cpu = args.process ? usage_cpu(args.process) : 0;
    m->pool = args.process ? usage_cpu_pool(args.process) : 0;
    usage_own(&m->ran, &m->waited);
    m->since_ns = usage_now_ns();
}

/* busy < 0: what this process computed. CPU time is told for one of so many parts of an I/O. */
static void measure_end(const struct measure *m, double busy, double login_ms, unsigned parts)
{
    double seconds = (double)(usage_now_ns() - m->since_ns) / 1e9, ran, waited, cpu = 0, pool = 0, rss = 0;

    usage_own(&ran, &waited);
    if (args.process) {
        cpu = usage_cpu(args.process) - m->cpu;
        pool = usage_cpu_pool(args.process) - m->pool;
        rss = (double)usage_rss_kib(args.process) * 1024 / 1e6;
    }
    busy = busy < 0 ? (ran - m->ran) / seconds : busy;
    waited = (waited - m->waited) / seconds;
    printf("{\"iops\": %.0f, \"mib_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"cpu_us_per_io\": %.2f, \"pool_us_per_io\": %.2f, \"cpu_share\": %.2f, \"rss_mb\": %.1f, "
           "\"gen_busy\": %.2f, "
           "\"gen_waited\": %.2f, \"login_ms\": %.1f}\n",
           (double)ios / seconds, (double)ios * load.io_bytes / seconds / (1 << 20), percentile_us(0.5),
           percentile_us(0.99), percentile_us(0.999), ios ? cpu * 1e6 / (double)ios / parts : 0,
           ios ? pool * 1e6 / (double)ios / parts : 0, cpu / seconds, rss, busy, waited, login_ms);
}

static double log_in_together(void)
{
    uint64_t since_ns = usage_now_ns();

    for (unsigned i = 0; i < args.sessions; i++)
        load_session_dial(sessions[i]);
    for (unsigned i = 0; i < args.sessions; i++)
        load_session_login(sessions[i]);
    return (double)(usage_now_ns() - since_ns) / 1e6;
}

static void drive_logins(void)
{
    struct measure m;
    double ms = 0;

    load.io_bytes = 0;
    for (unsigned i = 0; i < args.sessions; i++)
        sessions[i] = load_session_make(&load, i + 1);
    log_in_together();
    measure_begin(&m);
    do {
        for (unsigned i = 0; i < args.sessions; i++)
            load_session_hang_up(sessions[i]);
        ms = log_in_together();
        on_done((uint64_t)(ms * 1e6));
    } while (usage_now_ns() - m.since_ns < (uint64_t)(args.seconds * 1e9));
    measure_end(&m, -1, ms, args.sessions);
    for (unsigned i = 0; i < args.sessions; i++)
        load_session_free(&sessions[i]);
}

static void end_all(struct run *r)
{
    uint64_t since_ns = usage_now_ns();

    load.ending = true;
    while (in_flight() > 0) {
        turn(r);
        if (load.now_ns - since_ns > 20 * SECOND_NS)
            load_die("%u I/Os have no answer after 20 s", in_flight());
    }
    for (unsigned i = 0; i < args.sessions; i++)
        load_session_free(&sessions[i]);
    close(r->epoll);
}

static void drive(void)
{
    struct run r = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct measure m;
    double login_ms;

    for (unsigned i = 0; i < args.sessions; i++)
        sessions[i] = load_session_make(&load, i + 1);
    login_ms = log_in_together();
    for (unsigned i = 0; i < args.sessions; i++)
        load_session_prepare(sessions[i]);
    load.now_ns = usage_now_ns();
    for (unsigned i = 0; i < args.sessions; i++) {
        load_session_begin(sessions[i]);
        watch(&r, i, EPOLL_CTL_ADD);
    }
    run_until(&r, load.now_ns + WARM_NS);
    r.idle_ns = 0;
    measure_begin(&m);
    load.now_ns = m.since_ns;
    run_until(&r, m.since_ns + (uint64_t)(args.seconds * 1e9));
    measure_end(&m, args.poll ? 1 - (double)r.idle_ns / (double)(usage_now_ns() - m.since_ns) : -1, login_ms,
                1);
    end_all(&r);
}

/* Every block once: what is read afterwards is where the target keeps it. */
static void fill(void)
{
    struct run r = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    uint64_t wanted = args.span_mib;

    load.io_bytes = 1 << 20;
    load.depth = 4;
    load.sequential = true;
    sessions[0] = load_session_new(&load, 1);
    load_session_prepare(sessions[0]);
    load.now_ns = usage_now_ns();
    load_session_begin(sessions[0]);
    watch(&r, 0, EPOLL_CTL_ADD);
    while (ios < wanted + load.depth)
        turn(&r);
    load.ending = true;
    while (in_flight() > 0)
        turn(&r);
    load_session_free(&sessions[0]);
    close(r.epoll);
    printf("{\"mib\": %u}\n", args.span_mib);
}

/* --- the command line --- */

static unsigned number(const char *text, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value > max)
        load_die("'%s' is not a number up to %u", text, max);
    return (unsigned)value;
}

static void parse_option(char **argv, int *i)
{
    const char *name = argv[*i], *value = argv[*i + 1];

    if (strcmp(name, "--poll") == 0 || strcmp(name, "--digests") == 0) {
        *(strcmp(name, "--poll") == 0 ? &args.poll : &load.digests) = true;
        return;
    }
    if (strcmp(name, "--single") == 0) {
        load.single = true;
        return;
    }
    if (!value)
        load_die("%s wants a value", name);
    ++*i;
    if (strcmp(name, "--bytes") == 0)
        load.io_bytes = number(value, 1 << 20);
    else if (strcmp(name, "--depth") == 0)
        load.depth = number(value, 128);
    else if (strcmp(name, "--sessions") == 0)
        args.sessions = number(value, SESSIONS_MAX);
    else if (strcmp(name, "--vms") == 0)
        load.vms = number(value, 9);
    else if (strcmp(name, "--span-mib") == 0)
        args.span_mib = number(value, 1 << 20);
    else if (strcmp(name, "--process") == 0)
        args.process = value;
    else if (strcmp(name, "--seconds") == 0)
        args.seconds = strtod(value, NULL);
    else if (strcmp(name, "--cores") == 0 && sscanf(value, "%d,%d", &args.cores[0], &args.cores[1]) == 2)
        return;
    else
        load_die("unknown option %s %s", name, value);
}

static bool parse(int argc, char **argv)
{
    const char *words[3] = {"", "", ""};
    int nwords = 0;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0)
            parse_option(argv, &i);
        else if (nwords < 3)
            words[nwords++] = argv[i];
        else
            return false;
    }
    args.floor = nwords == 1 && strcmp(words[0], "floor") == 0;
    args.fill = nwords == 2 && strcmp(words[0], "fill") == 0;
    args.login = nwords == 2 && strcmp(words[0], "login") == 0;
    args.url = words[args.fill || args.login ? 1 : 0];
    load.write = strcmp(words[1], "write") == 0;
    load.sequential = strcmp(words[2], "sequential") == 0;
    load.span_bytes = (uint64_t)args.span_mib << 20;
    return args.floor || (args.login && args.sessions) || (args.fill && args.span_mib) ||
           (nwords == 3 && (load.write || strcmp(words[1], "read") == 0) &&
            (load.sequential || strcmp(words[2], "random") == 0) && load.depth && load.io_bytes &&
            args.sessions && args.seconds > 0);
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: load-gen URL read|write random|sequential [options] | login URL --sessions N |\n"
                "                fill URL --span-mib N | floor --cores A,B [--seconds S] [--poll]\n");
        return 2;
    }
    load.done = on_done;
    if (args.floor) {
        load_floor(args.cores, (uint64_t)(args.seconds * 1e9), args.poll, on_done);
        printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n", percentile_us(0.5),
               percentile_us(0.99), percentile_us(0.999));
        return 0;
    }
    load_url(&load, args.url);
    if (args.fill)
        fill();
    else if (args.login)
        drive_logins();
    else
        drive();
    return 0;
}
