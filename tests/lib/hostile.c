/* tests/lib/hostile.c - runs hostile exchanges against one target and says a line about each.
 *
 *   hostile ADDRESS PORT IQN-PREFIX PID [CASE]...
 *
 * After every case: the process is the same, a session that was there before (and that has nothing to do with
 * it) writes and reads what it wrote, and the process has not grown. All cases are run twice: what the second
 * round leaves behind is lost for good. Exit status 1: a case was unlike what is required.
 */
#include "hostile.h"

#include "mem.h"
#include "practice.h" /* its watch */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
enum { GROWTH_MIB = 400, SECOND_MIB = 300 }; /* what was freed is kept for a while */
#else
enum { GROWTH_MIB = 160, SECOND_MIB = 24 };
#endif

enum { OPEN_MAX_HERE = 1300, ROUNDS = 2, INNOCENT_BLOCKS = 16 };

struct world world;
static struct raw *open_now[OPEN_MAX_HERE], *innocent;
static jmp_buf end_of_case;
static char complaint[1000];
static unsigned turn;

static const struct hostile_case *const tables[] = {
    hostile_login,   hostile_keys,      hostile_chap, hostile_ffp,  hostile_order,
    hostile_manage,  hostile_data,      hostile_r2t,  hostile_scsi, hostile_lengths,
    hostile_digests, hostile_login_end, hostile_many,
};

void unlike(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(complaint, sizeof complaint, format, ap);
    va_end(ap);
    longjmp(end_of_case, 1);
}

/* What the watch complains of ends the case, too. */
void broken(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(complaint, sizeof complaint, format, ap);
    va_end(ap);
    longjmp(end_of_case, 1);
}

/* --- connections --- */

static struct raw *keep(struct raw *c)
{
    for (unsigned i = 0; i < OPEN_MAX_HERE; i++)
        if (!open_now[i])
            return open_now[i] = c;
    unlike("more than %d connections", OPEN_MAX_HERE);
}

static void forget(const struct raw *c)
{
    for (unsigned i = 0; i < OPEN_MAX_HERE; i++)
        if (open_now[i] == c)
            open_now[i] = NULL;
}

struct raw *dial(uint8_t isid)
{
    struct raw *c = raw_connect(world.address, world.port, isid);

    want(c, "no connection");
    return keep(c);
}

void hang_up(struct raw **c)
{
    forget(*c);
    watch_end(*c);
    raw_free(c);
}

void hang_up_hard(struct raw **c)
{
    forget(*c);
    watch_end(*c);
    raw_reset(c);
}

const char *keys_for(const char *vm, const char *more)
{
    static char text[20000];

    snprintf(text, sizeof text, HOSTILE_NAME "TargetName=%s:%s|SessionType=Normal|%s", world.iqn, vm, more);
    return text;
}

struct raw *session_with(const char *vm, uint8_t isid, const char *more)
{
    struct raw *c = dial(isid);

    want_login(c, RAW_TO_FULL, keys_for(vm, more), LOGIN_SUCCESS);
    want((c->bhs[AT_FLAGS] & 0x83) == 0x83, "the login did not reach full feature phase");
    watch_begin(c);
    return c;
}

struct raw *session(uint8_t isid, const char *more)
{
    return session_with("vm1", isid, more);
}

struct raw *discovery(uint8_t isid, const char *more)
{
    struct raw *c = dial(isid);
    char text[1000];

    snprintf(text, sizeof text, HOSTILE_NAME "SessionType=Discovery|%s", more);
    want_login(c, RAW_TO_FULL, text, LOGIN_SUCCESS);
    watch_begin(c);
    return c;
}

/* --- what came --- */

const char *said(const struct raw *c, int opcode)
{
    static char text[200];

    if (opcode == RAW_CLOSED)
        return "the connection was closed";
    if (opcode == RAW_SILENT)
        return "nothing came";
    if (opcode == RAW_GARBAGE)
        return "a PDU that is broken came";
    snprintf(text, sizeof text, "PDU %02x came (flags %02x, response %02x, status %02x, itt %08x, %u bytes)",
             (unsigned)opcode, c->bhs[1], c->bhs[2], c->bhs[3], get32(c->bhs + AT_ITT), c->len);
    return text;
}

void want_pdu(struct raw *c, int opcode)
{
    int got = raw_recv(c);

    want(got == opcode, "%s instead of %02x", said(c, got), (unsigned)opcode);
}

void want_closed(struct raw *c)
{
    int got = raw_recv(c);

    want(got == RAW_CLOSED, "%s instead of the end", said(c, got));
}

void want_login(struct raw *c, uint8_t flags, const char *text, int status)
{
    int got = raw_login(c, flags, text);

    want(got >= 0, "the login was not answered: %s", said(c, got));
    want(got == status, "login status %04x instead of %04x", (unsigned)got, (unsigned)status);
}

void want_refused(struct raw *c, uint8_t flags, const char *text, int status)
{
    want_login(c, flags, text, status);
    want_closed(c);
}

void want_value(const struct raw *c, const char *key, const char *value)
{
    want(!strcmp(raw_value(c, key), value), "%s=%s instead of %s", key, raw_value(c, key), value);
}

void want_reject(struct raw *c, int reason)
{
    want_pdu(c, ISCSI_REJECT);
    want(c->bhs[AT_RESPONSE] == reason, "Reject reason %02x instead of %02x", c->bhs[AT_RESPONSE],
         (unsigned)reason);
    want(c->len == BHS_BYTES && get32(c->bhs + AT_ITT) == ISCSI_TAG_NONE && c->bhs[AT_FLAGS] == ISCSI_FINAL,
         "the Reject is not a proper one: %s", said(c, ISCSI_REJECT));
}

void want_quiet(struct raw *c)
{
    static const char word[] = "still there?";
    uint32_t itt = raw_ping(c, word, sizeof word);

    want_pdu(c, ISCSI_NOP_IN);
    want(get32(c->bhs + AT_ITT) == itt && c->len == sizeof word && !memcmp(c->data, word, sizeof word),
         "a ping was answered with %s", said(c, ISCSI_NOP_IN));
}

void want_is_good(const struct raw_answer *a)
{
    want(a->opcode == ISCSI_SCSI_RESPONSE || a->opcode == ISCSI_DATA_IN, "no answer but PDU %d", a->opcode);
    want(!a->status, "status %02x sense %06x instead of GOOD", (unsigned)a->status, a->sense);
    want(!a->residual, "residual %lld", (long long)a->residual);
}

void want_good(struct raw *c, uint32_t itt)
{
    struct raw_answer a = raw_answer(c, NULL, 0);

    want(a.opcode == ISCSI_SCSI_RESPONSE || a.opcode == ISCSI_DATA_IN, "%s instead of an answer",
         said(c, a.opcode));
    want_is_good(&a);
    want(a.itt == itt, "the answer of task %08x instead of %08x", a.itt, itt);
}

struct raw_answer want_sense(struct raw *c, uint32_t itt, uint32_t sense)
{
    struct raw_answer a = raw_answer(c, NULL, 0);

    want(a.opcode == ISCSI_SCSI_RESPONSE, "%s instead of a SCSI Response", said(c, a.opcode));
    want(a.itt == itt, "the answer of task %08x instead of %08x", a.itt, itt);
    want(a.status == 2 && a.sense == sense, "status %02x sense %06x instead of 02 %06x", (unsigned)a.status,
         a.sense, sense);
    return a;
}

struct raw_r2t want_r2t(struct raw *c, uint32_t itt)
{
    struct raw_r2t r;

    want_pdu(c, ISCSI_R2T);
    r = raw_r2t(c);
    want(r.itt == itt && r.ttt != ISCSI_TAG_NONE && r.len, "an R2T for task %08x instead of %08x", r.itt,
         itt);
    return r;
}

void want_managed(struct raw *c, uint32_t itt, int response)
{
    want_pdu(c, ISCSI_TASK_MANAGEMENT_RESPONSE);
    want(get32(c->bhs + AT_ITT) == itt && c->bhs[AT_RESPONSE] == response,
         "task management response %u instead of %d", c->bhs[AT_RESPONSE], response);
}

void pattern(uint8_t *p, size_t n, uint8_t seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + i / 509 + seed);
}

/* A unit attention is told once, to whoever is there when somebody resets the LUN. */
static struct raw_answer exchange(struct raw *c, const uint8_t *cdb, const void *out, uint32_t out_len,
                                  void *in, uint32_t in_len)
{
    uint8_t copy[10];
    struct raw_answer a = {0};

    memcpy(copy, cdb, sizeof copy);
    for (int i = 0; i < 4; i++) {
        a = raw_exchange(c, copy, sizeof copy, out, out_len, in, in_len);
        if (a.status != 2 || a.sense >> 16 != 6)
            break;
    }
    return a;
}

void want_same(struct raw *c, uint32_t lba, uint16_t blocks, uint8_t seed)
{
    uint32_t n = blocks * 512u;
    CLEANUP_FREE uint8_t *out = xmalloc(n), *in = xcalloc(1, n);
    struct raw_answer a;

    pattern(out, n, seed);
    a = exchange(c, raw_cdb10(0x2a, lba, blocks), out, n, NULL, 0);
    want_is_good(&a);
    a = exchange(c, raw_cdb10(0x28, lba, blocks), NULL, 0, in, n);
    want_is_good(&a);
    want(a.got == n && !memcmp(in, out, n), "other bytes than were written");
}

/* --- the run --- */

static long resident_kib(void)
{
    char path[64];
    long total = 0, resident = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/statm", world.pid);
    f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Longjmp's into end_of_case if the target is not well. */
static void look_after(void)
{
    uint32_t lba;

    want(kill(world.pid, 0) == 0, "the target is gone");
    lba = (uint32_t)(world.blocks / 2) + turn % 64 * INNOCENT_BLOCKS;
    want_same(innocent, lba, INNOCENT_BLOCKS, (uint8_t)turn);
    turn++;
}

static void close_all(void)
{
    for (unsigned i = 0; i < OPEN_MAX_HERE; i++) {
        struct raw *c = open_now[i];

        if (c)
            hang_up(&c);
    }
}

static bool attempt(void (*run)(void))
{
    bool good = setjmp(end_of_case) == 0;

    if (good)
        run();
    close_all();
    return good;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool run_case(const struct hostile_case *k, bool tell, long first_kib)
{
    double since = seconds();
    bool good = attempt(k->run);
    long grown;

    if (!good)
        printf("UNLIKE %-24s %s\n       sent: %s\n       required: %s\n", k->name, complaint, k->sent,
               k->required);
    else if (tell)
        printf("ok     %-24s %5.2f s  %s -> %s\n", k->name, seconds() - since, k->sent, k->required);
    if (!attempt(look_after)) {
        printf("HARMED by %s: %s\n", k->name, complaint);
        fflush(stdout);
        exit(1); /* nothing that follows would mean anything */
    }
    grown = (resident_kib() - first_kib) / 1024;
    if (grown > GROWTH_MIB) {
        printf("GROWN by %ld MiB after %s\n", grown, k->name);
        good = false;
    }
    fflush(stdout);
    return good;
}

static bool chosen(const char *name, int argc, char **argv)
{
    for (int i = 5; i < argc; i++)
        if (!strcmp(argv[i], name))
            return true;
    return argc == 5;
}

static unsigned run_all(int argc, char **argv, bool tell, unsigned *bad)
{
    long first_kib = resident_kib();
    unsigned n = 0;

    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct hostile_case *k = tables[t]; k->name; k++)
            if (chosen(k->name, argc, argv)) {
                *bad += !run_case(k, tell, first_kib);
                n++;
            }
    return n;
}

static void meet(void)
{
    uint8_t in[8];
    struct raw_answer a;

    innocent = session(250, "");
    forget(innocent);
    a = exchange(innocent, raw_cdb10(0x25, 0, 0), NULL, 0, in, sizeof in);
    want_is_good(&a);
    world.blocks = (uint64_t)get32(in) + 1;
    want(get32(in + 4) == 512 && world.blocks >= 16384, "a disk of %llu blocks",
         (unsigned long long)world.blocks);
    look_after();
}

int main(int argc, char **argv)
{
    unsigned n = 0, bad = 0;
    long first, second;

    if (argc < 5) {
        fprintf(stderr, "usage: hostile ADDRESS PORT IQN-PREFIX PID [CASE]...\n");
        return 2;
    }
    world.address = argv[1];
    world.port = (uint16_t)atoi(argv[2]);
    world.iqn = argv[3];
    world.pid = atoi(argv[4]);
    if (!attempt(meet)) {
        printf("the innocent session: %s\n", complaint);
        return 1;
    }
    n = run_all(argc, argv, true, &bad);
    first = resident_kib();
    for (int i = 1; i < ROUNDS && !bad; i++)
        run_all(argc, argv, false, &bad);
    second = resident_kib();
    if (second - first > SECOND_MIB * 1024L) {
        printf("GROWN by %ld KiB from one round to the next\n", second - first);
        bad++;
    }
    watch_end(innocent);
    raw_free(&innocent);
    printf("%u cases, %u unlike what is required; %ld KiB more after the second round\n", n, bad,
           second - first);
    return n == 0 || bad ? 1 : 0;
}
