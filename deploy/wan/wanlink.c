/* wanlink - a WAN link in user space, between two network namespaces.
 *
 * One TAP device in each namespace; every Ethernet frame read from one is written to the other after
 * passing, in this order and for each direction on its own, what a router in front of a long fibre does:
 *   random loss (seeded), a bottleneck with a drop-tail queue, and the propagation delay of half a round
 * trip.
 *
 * wanlink NS_A NS_B IF STATE_DIR RTT_MS MBIT LOSS_PERCENT [QUEUE_MS [SEED]]
 *   SIGHUP re-reads STATE_DIR/params ("rtt mbit loss queue"); SIGUSR1 writes STATE_DIR/stats;
 *   SIGTERM writes it and leaves (the TAPs vanish with the process). MBIT 0 = no limit.
 * Prints "ready" when both TAPs exist. One thread; no clean-up of memory, the process is the object.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    FRAME_BYTES = 2048,
    RING_FRAMES = 65536, /* in flight per direction: at most 128 MiB, touched lazily */
    BURST = 64,
};

struct frame {
    uint64_t due_ns;
    uint32_t bytes;
};

struct direction {
    const char *name;
    int in, out;
    struct frame *frames;
    uint8_t *data;
    uint32_t head, tail;   /* free running */
    uint64_t link_free_ns; /* when the bottleneck has sent all it accepted */
    uint64_t rx, rx_bytes, lost, taildrop, ringdrop, tx, tx_bytes, tx_errors;
    uint64_t late_ns, late_max_ns, queue_max_ns;
};

static struct {
    double rtt_ms, mbit, loss_percent, queue_ms;
    uint64_t delay_ns, loss_threshold, queue_ns;
} wan = {.queue_ms = 100};
static uint64_t random_state = 0x9E3779B97F4A7C15ULL;
static const char *state_dir;
static volatile sig_atomic_t got_hup, got_usr1, got_term;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "wanlink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static uint64_t random_next(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 2685821657736338717ULL;
}

static void on_signal(int number)
{
    if (number == SIGHUP)
        got_hup = 1;
    else if (number == SIGUSR1)
        got_usr1 = 1;
    else
        got_term = 1;
}

static void wan_apply(void)
{
    wan.delay_ns = (uint64_t)(wan.rtt_ms * 1e6 / 2);
    wan.queue_ns = (uint64_t)(wan.queue_ms * 1e6);
    wan.loss_threshold =
        wan.loss_percent >= 100 ? UINT64_MAX : (uint64_t)(wan.loss_percent / 100 * 18446744073709551615.0);
}

static int tap_open(const char *ns, const char *interface)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    char path[300];
    int ns_fd, fd;

    snprintf(path, sizeof path, "/run/netns/%s", ns);
    ns_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (ns_fd < 0 || setns(ns_fd, CLONE_NEWNET) < 0)
        die(path);
    close(ns_fd);
    fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        die("/dev/net/tun");
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
    if (ioctl(fd, TUNSETIFF, &request) < 0)
        die("TUNSETIFF");
    return fd;
}

static void stats_direction(FILE *f, const struct direction *d)
{
    fprintf(f,
            "%s rx %" PRIu64 " rx_bytes %" PRIu64 " lost %" PRIu64 " taildrop %" PRIu64 " ringdrop %" PRIu64
            " tx %" PRIu64 " tx_bytes %" PRIu64 " txerr %" PRIu64
            " inflight %u late_avg_us %.1f late_max_us %.1f queue_max_ms %.2f\n",
            d->name, d->rx, d->rx_bytes, d->lost, d->taildrop, d->ringdrop, d->tx, d->tx_bytes, d->tx_errors,
            d->tail - d->head, d->tx ? (double)d->late_ns / 1e3 / (double)d->tx : 0.0,
            (double)d->late_max_ns / 1e3, (double)d->queue_max_ns / 1e6);
}

/* Renamed into place: a reader sees all of it or nothing. */
static void stats_write(const struct direction directions[2])
{
    char path[500], fresh[510];
    FILE *f;

    snprintf(path, sizeof path, "%s/stats", state_dir);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    f = fopen(fresh, "w");
    if (f == NULL)
        return;
    fprintf(f, "rtt_ms %g mbit %g loss %g queue_ms %g\n", wan.rtt_ms, wan.mbit, wan.loss_percent,
            wan.queue_ms);
    stats_direction(f, &directions[0]);
    stats_direction(f, &directions[1]);
    fclose(f);
    rename(fresh, path);
}

static void params_read(void)
{
    double rtt_ms, mbit, loss_percent, queue_ms;
    char path[500];
    FILE *f;

    snprintf(path, sizeof path, "%s/params", state_dir);
    f = fopen(path, "r");
    if (f == NULL)
        return;
    if (fscanf(f, "%lf %lf %lf %lf", &rtt_ms, &mbit, &loss_percent, &queue_ms) == 4) {
        wan.rtt_ms = rtt_ms;
        wan.mbit = mbit;
        wan.loss_percent = loss_percent;
        wan.queue_ms = queue_ms;
        wan_apply();
    }
    fclose(f);
}

/* A frame of that size arrived now: false if it is dropped, else *due_ns says when it comes out. */
static bool frame_admit(struct direction *d, uint64_t bytes, uint64_t *due_ns)
{
    uint64_t t = now_ns(), sent_ns = t;

    if (wan.loss_threshold != 0 && random_next() <= wan.loss_threshold) {
        d->lost++;
        return false;
    }
    if (wan.mbit > 0) {
        uint64_t start_ns = d->link_free_ns > t ? d->link_free_ns : t;

        if (start_ns - t > wan.queue_ns) {
            d->taildrop++;
            return false;
        }
        if (start_ns - t > d->queue_max_ns)
            d->queue_max_ns = start_ns - t;
        sent_ns = start_ns + (uint64_t)((double)bytes * 8000.0 / wan.mbit);
        d->link_free_ns = sent_ns;
    }
    *due_ns = sent_ns + wan.delay_ns;
    if (d->tail != d->head) { /* no reordering when the round trip is lowered at run time */
        uint64_t last_ns = d->frames[(d->tail - 1) % RING_FRAMES].due_ns;

        if (*due_ns < last_ns)
            *due_ns = last_ns;
    }
    return true;
}

/* Reads what the sender has put on the wire. */
static void direction_take(struct direction *d)
{
    uint8_t spare[FRAME_BYTES];

    for (int i = 0; i < BURST; i++) {
        bool full = d->tail - d->head >= RING_FRAMES;
        uint8_t *slot = full ? spare : d->data + (size_t)(d->tail % RING_FRAMES) * FRAME_BYTES;
        ssize_t n = read(d->in, slot, FRAME_BYTES);
        uint64_t due_ns;

        if (n <= 0)
            return;
        d->rx++;
        d->rx_bytes += (uint64_t)n;
        if (full) {
            d->ringdrop++;
        } else if (frame_admit(d, (uint64_t)n, &due_ns)) {
            d->frames[d->tail % RING_FRAMES] = (struct frame){due_ns, (uint32_t)n};
            d->tail++;
        }
    }
}

/* Hands over what has travelled long enough. */
static void direction_give(struct direction *d)
{
    uint64_t t = now_ns();

    while (d->head != d->tail) {
        const struct frame *f = &d->frames[d->head % RING_FRAMES];
        uint64_t late_ns;

        if (f->due_ns > t && f->due_ns > (t = now_ns()))
            return;
        late_ns = t - f->due_ns;
        d->late_ns += late_ns;
        if (late_ns > d->late_max_ns)
            d->late_max_ns = late_ns;
        if (write(d->out, d->data + (size_t)(d->head % RING_FRAMES) * FRAME_BYTES, f->bytes) < 0) {
            d->tx_errors++;
        } else {
            d->tx++;
            d->tx_bytes += f->bytes;
        }
        d->head++;
    }
}

static void *ring_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

/* Blocks our signals except while waiting; *waiting gets the mask for that. */
static void signals_start(sigset_t *waiting)
{
    static const int ours[] = {SIGHUP, SIGUSR1, SIGTERM, SIGINT};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t block;

    sigemptyset(&block);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        sigaction(ours[i], &action, NULL);
        sigaddset(&block, ours[i]);
    }
    sigprocmask(SIG_BLOCK, &block, waiting);
}

static void wait_for_work(const struct direction directions[2], const sigset_t *waiting)
{
    uint64_t next_ns = UINT64_MAX, t, wait_ns;
    struct pollfd polls[2] = {{.fd = directions[0].in, .events = POLLIN},
                              {.fd = directions[1].in, .events = POLLIN}};
    struct timespec timeout;

    for (int i = 0; i < 2; i++) {
        const struct direction *d = &directions[i];

        if (d->head != d->tail && d->frames[d->head % RING_FRAMES].due_ns < next_ns)
            next_ns = d->frames[d->head % RING_FRAMES].due_ns;
    }
    t = now_ns();
    wait_ns = next_ns > t ? next_ns - t : 0;
    timeout = (struct timespec){(time_t)(wait_ns / 1000000000U), (long)(wait_ns % 1000000000U)};
    ppoll(polls, 2, next_ns == UINT64_MAX ? NULL : &timeout, waiting);
}

static void serve(struct direction directions[2], const sigset_t *waiting)
{
    while (!got_term) {
        if (got_hup) {
            got_hup = 0;
            params_read();
        }
        if (got_usr1) {
            got_usr1 = 0;
            stats_write(directions);
        }
        for (int i = 0; i < 2; i++)
            direction_give(&directions[i]);
        wait_for_work(directions, waiting);
        for (int i = 0; i < 2; i++)
            direction_take(&directions[i]);
    }
    stats_write(directions);
}

int main(int argc, char **argv)
{
    struct direction directions[2] = {{.name = "a_to_b"}, {.name = "b_to_a"}};
    struct sched_param priority = {.sched_priority = 10};
    sigset_t waiting;
    int a, b;

    if (argc < 8) {
        fprintf(stderr, "usage: wanlink NS_A NS_B IF STATE_DIR RTT_MS MBIT LOSS_PERCENT [QUEUE_MS [SEED]]\n");
        return 2;
    }
    state_dir = argv[4];
    wan.rtt_ms = atof(argv[5]);
    wan.mbit = atof(argv[6]);
    wan.loss_percent = atof(argv[7]);
    if (argc > 8)
        wan.queue_ms = atof(argv[8]);
    if (argc > 9)
        random_state *= strtoull(argv[9], NULL, 0) | 1;
    wan_apply();

    a = tap_open(argv[1], argv[3]);
    b = tap_open(argv[2], argv[3]);
    directions[0].in = directions[1].out = a;
    directions[0].out = directions[1].in = b;
    for (int i = 0; i < 2; i++) {
        directions[i].frames = ring_map(sizeof(struct frame) * RING_FRAMES);
        directions[i].data = ring_map((size_t)FRAME_BYTES * RING_FRAMES);
    }
    prctl(PR_SET_TIMERSLACK, 1);
    if (sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
        fprintf(stderr, "wanlink: no SCHED_FIFO: %s\n", strerror(errno));
    signals_start(&waiting);
    puts("ready");
    fflush(stdout);
    serve(directions, &waiting);
    return 0;
}
