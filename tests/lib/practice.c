/* practice - what breaks iSCSI targets in practice, case by case, against a running edge (tests/README.md).
 *
 *   practice CASE ADDRESS:PORT IQN [--edge PID] [--backend PID] [--count N] [--at MIB]
 *
 * Ends with status 0, or 1 and a sentence. SLOWNESS multiplies what a case may take.
 */
#include "practice.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct play play = {.slowness = 1};
static const char *case_name = "practice";
static bool stalled;

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define CASE(name) {#name, case_##name},
    CASES(CASE)
#undef CASE
};

void broken(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s: ", case_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    if (stalled)
        kill(play.backend, SIGCONT);
    exit(1);
}

void told(const char *format, ...)
{
    va_list args;

    printf("%s: ", case_name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The second number: nanoseconds in the queue for a processor. */
static uint64_t waited_ns(const char *path)
{
    unsigned long long ns = 0;
    FILE *f = fopen(path, "r");

    if (f && fscanf(f, "%*u %llu", &ns) != 1)
        ns = 0;
    if (f)
        fclose(f);
    return ns;
}

static uint64_t waited_all_ns(pid_t pid)
{
    char pattern[40];
    uint64_t ns = 0;
    glob_t found;

    snprintf(pattern, sizeof pattern, "/proc/%d/task/*/schedstat", (int)pid);
    if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        ns += waited_ns(found.gl_pathv[i]);
    globfree(&found);
    return ns;
}

static uint64_t waited_ms(void)
{
    uint64_t ns = waited_all_ns(getpid());

    if (play.edge)
        ns += waited_all_ns(play.edge);
    if (play.backend)
        ns += waited_all_ns(play.backend);
    return ns / 1000000;
}

struct span span_begin(void)
{
    uint64_t waited = waited_ms();

    return (struct span){now_ms(), waited};
}

unsigned span_ms(const struct span *s)
{
    uint64_t took = now_ms() - s->since_ms, waited = waited_ms();

    waited =
        waited > s->waited_ms ? waited - s->waited_ms : 0; /* a thread that has ended took its number along */
    return (unsigned)(took > waited ? took - waited : 0);
}

void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

uint32_t any(uint32_t below)
{
    static uint64_t x = 88172645463325252u;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)((x >> 11) % below);
}

/* Stopped, not only told so. */
static bool is_stopped(pid_t pid)
{
    char path[32], line[256] = "";
    const char *state;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    if (!f || !fgets(line, sizeof line, f))
        broken("the on-prem daemon is gone");
    fclose(f);
    state = strrchr(line, ')');
    return state && state[2] == 'T';
}

void stall(void)
{
    WANT(play.backend && kill(play.backend, SIGSTOP) == 0, "the on-prem daemon cannot be stopped: %s",
         strerror(errno));
    stalled = true;
    while (!is_stopped(play.backend))
        pause_ms(1);
}

void resume(void)
{
    kill(play.backend, SIGCONT);
    stalled = false;
}

long edge_rss_kib(void)
{
    char path[40];
    long pages = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/statm", (int)play.edge);
    f = fopen(path, "r");
    WANT(f && fscanf(f, "%*d %ld", &pages) == 1, "no memory figures of the edge");
    fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* --- sessions --- */

struct raw *session_of(const char *initiator, const char *iqn, uint8_t isid, const char *more, int status)
{
    struct raw *c = raw_connect(play.address, play.port, isid);
    char text[2000];
    int got;

    WANT(c, "no connection to %s:%u: %s", play.address, play.port, strerror(errno));
    c->timeout_ms *= (int)play.slowness;
    snprintf(text, sizeof text, "InitiatorName=%s|TargetName=%s|SessionType=Normal|%s", initiator, iqn, more);
    got = raw_login(c, RAW_TO_FULL, text);
    WANT(got == status, "a login of %s ended with %04x instead of %04x", initiator, (unsigned)got,
         (unsigned)status);
    if (status)
        raw_free(&c);
    else
        watch_begin(c);
    return c;
}

struct raw *session_new(uint8_t isid, const char *more)
{
    struct raw *c = session_of("iqn.2026-11.org.isthmus.test:practice", play.iqn, isid, more, LOGIN_SUCCESS);

    session_ready(c);
    return c;
}

void session_ready(struct raw *c)
{
    static const uint8_t ready[6];
    struct raw_answer a;
    int tries = 0;

    do {
        a = raw_exchange(c, ready, sizeof ready, NULL, 0, NULL, 0);
        WANT(a.opcode == ISCSI_SCSI_RESPONSE && ++tries < 10, "TEST UNIT READY answered by %d, sense %06x",
             a.opcode, a.sense);
    } while (a.status);
}

void session_quiet(struct raw *c, const char *when)
{
    uint32_t itt = raw_ping(c, NULL, 0);
    int opcode = raw_recv(c);

    WANT(opcode == ISCSI_NOP_IN && get32(c->bhs + AT_ITT) == itt,
         "%s: PDU %d for task %08x instead of the ping", when, opcode, get32(c->bhs + AT_ITT));
}

void session_ends(struct raw **c)
{
    raw_logout(*c, LOGOUT_CLOSE_SESSION);
    WANT(raw_recv(*c) == ISCSI_LOGOUT_RESPONSE, "no answer to a logout");
    watch_end(*c);
    raw_free(c);
}

void session_reset(struct raw **c)
{
    watch_end(*c);
    raw_reset(c);
}

uint32_t read_send(struct raw *c, uint64_t lba, uint32_t sectors)
{
    return raw_command(c, ISCSI_FINAL | RAW_READ, sectors * 512, raw_cdb16(0x88, lba, sectors), 16, NULL, 0);
}

void read_good(struct raw *c, uint64_t lba, uint32_t sectors)
{
    struct raw_answer a = raw_exchange(c, raw_cdb16(0x88, lba, sectors), 16, NULL, 0, NULL, sectors * 512);

    WANT(a.opcode == ISCSI_DATA_IN && a.status == 0 && a.got == sectors * 512 && a.residual == 0,
         "a read of %u sectors: PDU %d, status %02x, sense %06x, %u bytes", sectors, a.opcode, a.status,
         a.sense, a.got);
}

int managed(struct raw *c, uint8_t function, uint32_t task, uint32_t ref_cmd_sn)
{
    struct span span = span_begin();
    uint32_t itt = raw_manage(c, function, 0, task, ref_cmd_sn);
    int opcode = raw_recv(c);

    WANT(opcode == ISCSI_TASK_MANAGEMENT_RESPONSE && get32(c->bhs + AT_ITT) == itt,
         "task management function %u: PDU %d for task %08x instead of its response", function, opcode,
         get32(c->bhs + AT_ITT));
    WANT(span_ms(&span) < 1000 * play.slowness, "task management function %u took %u ms", function,
         span_ms(&span));
    return c->bhs[AT_RESPONSE];
}

/* --- the program --- */

static _Noreturn void usage(void)
{
    fputs("usage: practice CASE ADDRESS:PORT IQN [--edge PID] [--backend PID] [--count N] [--at MIB]\n",
          stderr);
    exit(2);
}

static void options(int argc, char **argv)
{
    for (int i = 4; i < argc; i += 2) {
        unsigned long n = i + 1 < argc ? strtoul(argv[i + 1], NULL, 10) : 0;

        if (n == 0 || n > 1 << 22)
            usage();
        if (!strcmp(argv[i], "--edge"))
            play.edge = (pid_t)n;
        else if (!strcmp(argv[i], "--backend"))
            play.backend = (pid_t)n;
        else if (!strcmp(argv[i], "--count"))
            play.count = (unsigned)n;
        else if (!strcmp(argv[i], "--at"))
            play.at = n * 2048;
        else
            usage();
    }
}

int main(int argc, char **argv)
{
    const char *slowness = getenv("SLOWNESS");
    char *colon = argc > 3 ? strrchr(argv[2], ':') : NULL;

    if (!colon)
        usage();
    *colon = '\0';
    play.address = argv[2];
    play.port = (uint16_t)strtoul(colon + 1, NULL, 10);
    play.iqn = argv[3];
    options(argc, argv);
    if (slowness)
        play.slowness = (unsigned)strtoul(slowness, NULL, 10);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(cases[i].name, argv[1])) {
            case_name = cases[i].name;
            cases[i].run();
            return 0;
        }
    usage();
}
