/* tests/sim/sim_core.c - randomness, the queue of events, the story.
 */
#include "sim.h"

#include "check.h"
#include "log.h"
#include "mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct sim_event {
    uint64_t at, tie;
    struct sim_node *node;
    unsigned life;
    void (*fire)(void *);
    void *arg;
    size_t place; /* in the heap */
};

static struct {
    uint64_t state[2];
    struct sim_event **heap;
    size_t n, room;
    uint64_t run;
    FILE *story;
    char *text;
    size_t text_len;
    uint64_t hash;
    bool live;
    unsigned violations;
} sim;

uint64_t sim_now;

/* --- randomness ---- xoroshiro128+ */

static uint64_t mix(uint64_t *x)
{
    uint64_t z = *x += 0x9E3779B97F4A7C15ULL;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
}

uint64_t sim_random(void)
{
    uint64_t a = sim.state[0], b = sim.state[1], sum = a + b;

    b ^= a;
    sim.state[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    sim.state[1] = b << 37 | b >> 27;
    return sum;
}

uint64_t sim_below(uint64_t n)
{
    return (sim_random() >> 11) % n;
}

uint64_t sim_between(uint64_t low, uint64_t high)
{
    return low + sim_below(high - low + 1);
}

bool sim_chance(uint32_t per_million)
{
    return per_million > 0 && sim_below(1000000) < per_million;
}

void sim_random_bytes(void *bytes, size_t n)
{
    uint8_t *p = bytes;

    while (n > 0) {
        uint64_t x = sim_random();
        size_t now = n < sizeof x ? n : sizeof x;

        memcpy(p, &x, now);
        p += now;
        n -= now;
    }
}

uint64_t sim_latency(uint64_t usual_ns)
{
    uint64_t ns = usual_ns / 2 + sim_below(usual_ns + 1);

    if (sim_chance(20000))
        ns *= sim_between(5, 50);
    return ns;
}

/* --- events ---- a binary heap by time, and by a random number within the same */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at < b->at || (a->at == b->at && a->tie < b->tie);
}

static void put_at(size_t i, struct sim_event *e)
{
    sim.heap[i] = e;
    e->place = i;
}

static void sift_up(size_t i, struct sim_event *e)
{
    while (i > 0 && before(e, sim.heap[(i - 1) / 2])) {
        put_at(i, sim.heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put_at(i, e);
}

static void sift_down(size_t i, struct sim_event *e)
{
    for (size_t child; (child = 2 * i + 1) < sim.n; i = child) {
        if (child + 1 < sim.n && before(sim.heap[child + 1], sim.heap[child]))
            child++;
        if (!before(sim.heap[child], e))
            break;
        put_at(i, sim.heap[child]);
    }
    put_at(i, e);
}

static void take_out(struct sim_event *e)
{
    struct sim_event *last = sim.heap[--sim.n];

    if (last == e)
        return;
    if (before(last, e))
        sift_up(e->place, last);
    else
        sift_down(e->place, last);
}

static void put_in(struct sim_event *e)
{
    if (sim.n == sim.room) {
        sim.room = sim.room ? 2 * sim.room : 256;
        sim.heap = xrealloc(sim.heap, sim.room * sizeof *sim.heap);
    }
    e->tie = sim_random();
    sift_up(sim.n++, e);
}

struct sim_event *sim_after(struct sim_node *node, uint64_t after_ns, void (*fire)(void *), void *arg)
{
    struct sim_event *e = xmalloc(sizeof *e);

    *e = (struct sim_event){
        .at = sim_now + after_ns, .node = node, .life = node ? node->life : 0, .fire = fire, .arg = arg};
    put_in(e);
    return e;
}

void sim_cancel(struct sim_event **e)
{
    if (!*e)
        return;
    take_out(*e);
    free(*e);
    *e = NULL;
}

static bool is_dead(const struct sim_event *e)
{
    return e->node && (!e->node->alive || e->node->life != e->life);
}

enum sim_end sim_run(uint64_t until_ns, bool (*stop)(void *arg), void *arg)
{
    while (!stop || !stop(arg)) {
        struct sim_event *e;

        if (sim.n == 0)
            return SIM_IDLE;
        e = sim.heap[0];
        if (e->at > until_ns) {
            sim_now = until_ns;
            return SIM_TIMEOUT;
        }
        take_out(e);
        if (!is_dead(e) && e->node && e->node->paused_until > e->at) {
            e->at = e->node->paused_until;
            put_in(e);
            continue;
        }
        if (e->at > sim_now)
            sim_now = e->at;
        if (!is_dead(e)) {
            void (*fire)(void *) = e->fire;
            void *fire_arg = e->arg;

            sim.run++;
            free(e);
            fire(fire_arg);
        } else {
            free(e);
        }
    }
    return SIM_STOPPED;
}

uint64_t sim_events_run(void)
{
    return sim.run;
}

void sim_begin(uint64_t seed)
{
    uint64_t x = seed;

    CHECK(!sim.story);
    sim.state[0] = mix(&x);
    sim.state[1] = mix(&x);
    sim.hash = 14695981039346656037ULL;
    sim.story = open_memstream(&sim.text, &sim.text_len);
    CHECK(sim.story);
}

/* --- the story --- */

static void say(const struct sim_node *node, const char *format, va_list args)
{
    char line[512];
    int n = snprintf(line, sizeof line, "%12.6f %-8s ", (double)sim_now / 1e9, node ? node->name : "-");

    n += vsnprintf(line + n, sizeof line - (size_t)n, format, args);
    if (n >= (int)sizeof line)
        n = sizeof line - 1;
    for (int i = 0; i < n; i++)
        sim.hash = (sim.hash ^ (uint8_t)line[i]) * 1099511628211ULL;
    fprintf(sim.story, "%s\n", line);
    if (sim.live)
        fprintf(stderr, "%s\n", line);
}

void sim_say(const struct sim_node *node, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(node, format, args);
    va_end(args);
}

/* The daemons' log is part of the story. */
void __wrap_log_line(enum log_level, const char *part, const char *ctx, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void __wrap_log_line(enum log_level level, const char *part, const char *ctx, const char *format, ...)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    char text[400];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (sim.story)
        sim_say(sim_node_current(), "  [%s %s%s%s] %s", levels[level], part, ctx ? " " : "", ctx ? ctx : "",
                text);
}

void sim_violation(const char *format, ...)
{
    char text[400];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (sim.violations++ < 10)
        sim_say(NULL, "VIOLATION %s", text);
}

unsigned sim_violations(void)
{
    return sim.violations;
}

void sim_story(FILE *to)
{
    fflush(sim.story);
    fwrite(sim.text, 1, sim.text_len, to);
}

void sim_story_live(bool on)
{
    sim.live = on;
}

uint64_t sim_story_hash(void)
{
    return sim.hash;
}
