/* tests/unit/datastore_fixture.h - a loop, a datastore to be asked, real servers that are started and killed.
 *
 * Servers are children of the test, on free ports, with their files in a temporary directory; they die by
 * pid, and with the test at the latest. Every 8 bytes of the disk hold their own offset.
 */
#ifndef ISTHMUS_DATASTORE_FIXTURE_H
#define ISTHMUS_DATASTORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "check.h"
#include "datastore.h"
#include "log.h"
#include "mem.h"
#include "pool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { DISK_BYTES = 32 << 20, WAIT_S = 35 };

static struct loop *loop;
static char dir[64], image[96];

/* What a datastore has told. */
static struct seen {
    int opened, refused, resized;
    struct why why;
} seen;

static void on_opened(void *arg, int status, const struct why *why)
{
    (void)arg;
    seen.opened += status == 0;
    seen.refused += status != 0;
    if (status)
        seen.why = *why;
}

static void on_resized(void *arg, const struct datastore_info *info)
{
    (void)arg;
    (void)info;
    seen.resized++;
}

/* Runs the loop until condition holds. */
#define WAIT(condition)                                                                                      \
    do {                                                                                                     \
        uint64_t limit_ = loop_now_ns(loop) + WAIT_S * 1000000000ull;                                        \
        while (!(condition)) {                                                                               \
            turn();                                                                                          \
            if (loop_now_ns(loop) > limit_)                                                                  \
                fail_msg("not within %d s: %s", WAIT_S, #condition);                                         \
        }                                                                                                    \
    } while (0)

static void on_turn(struct timer *t)
{
    (void)t;
}

static void turn(void)
{
    struct timer t;

    timer_init(&t, loop, on_turn);
    timer_set_ms(&t, 50);
    event_base_loop(loop_base(loop), EVLOOP_ONCE);
    timer_free(&t);
}

static void write_image(const char *path, uint64_t bytes)
{
    enum { CHUNK = 1 << 16 };
    static uint64_t words[CHUNK / 8];
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

    assert_true(fd >= 0);
    for (uint64_t at = 0; at < bytes; at += CHUNK) {
        for (uint64_t i = 0; i < CHUNK / 8; i++)
            words[i] = at + i * 8;
        assert_int_equal(write(fd, words, CHUNK), CHUNK);
    }
    close(fd);
}

static bool pattern_ok(const uint8_t *data, uint64_t offset, uint32_t len)
{
    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t word;
        memcpy(&word, data + i, 8);
        if (word != offset + i)
            return false;
    }
    return true;
}

static uint16_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static bool answers(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), err = connect(fd, (struct sockaddr *)&a, sizeof a);

    close(fd);
    return err == 0;
}

static const char *find_program(const char *name)
{
    static char path[256];
    static const char *const dirs[] = {"/usr/sbin", "/usr/bin", "/usr/local/bin"};

    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dirs[i], name);
        if (access(path, X_OK) == 0)
            return path;
    }
    return NULL;
}

/* Starts a program, split at spaces; it dies with us. */
static pid_t start_program(const char *command)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        char *copy = xstrdup(command), *argv[32], *save = NULL;
        int n = 0, null = open("/dev/null", O_RDWR);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 1);
        if (!getenv("TEST_VERBOSE"))
            dup2(null, 2);
        for (char *word = strtok_r(copy, " ", &save); word && n < 31; word = strtok_r(NULL, " ", &save))
            argv[n++] = word;
        argv[n] = NULL;
        execv(find_program(argv[0]) ? find_program(argv[0]) : argv[0], argv);
        _exit(127);
    }
    return pid;
}

static void stop_program(pid_t *pid)
{
    if (*pid > 0) {
        kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}

static int run_program(const char *command)
{
    pid_t pid = start_program(command);
    int status = -1;

    waitpid(pid, &status, 0);
    return status;
}

static struct datastore *open_url(const char *url)
{
    struct datastore_events events = {.opened = on_opened, .resized = on_resized};
    struct datastore_conf conf = {.name = "vm1-root", .url = url, .sessions = 2};
    struct datastore *ds = NULL;
    struct why why = {""};

    memset(&seen, 0, sizeof seen);
    if (datastore_open(&ds, loop, &conf, &events, &why) != 0)
        fail_msg("%s", why.text);
    return ds;
}

/* Many reads at once. */
struct reading {
    struct datastore_io io;
    bool ended;
};
static struct reading readings[256];
static unsigned nreadings, nended, nfailed, nwrong;
static struct why failure;

static void on_read(struct datastore_io *io)
{
    struct reading *r = container_of(io, struct reading, io);

    assert_false(r->ended);
    r->ended = true;
    nended++;
    if (io->status) {
        nfailed++;
        failure = io->why;
    } else if (!pattern_ok(io->data, io->offset, io->len)) {
        nwrong++;
    }
    free(io->data);
}

static void start_reads(struct datastore *ds, uint64_t offset, uint32_t len, unsigned n)
{
    nreadings = n;
    nended = nfailed = nwrong = 0;
    for (unsigned i = 0; i < n; i++) {
        readings[i] = (struct reading){
            .io = {
                .offset = offset + (uint64_t)i * len, .len = len, .data = xcalloc(1, len), .done = on_read}};
        ds->ops->submit(ds, &readings[i].io);
    }
    assert_int_equal(nended, 0); /* never before the call has returned */
}

static void end_reads(void)
{
    WAIT(nended == nreadings);
    if (nfailed)
        fail_msg("%u of %u reads failed: %s", nfailed, nreadings, failure.text);
    assert_int_equal(nwrong, 0);
}

/* Many writes at once, of another pattern: every 8 bytes hold their own offset plus `salt`. */
static struct datastore_io writes[256];
static unsigned nwrites, nwritten, nrefused;

static void on_written(struct datastore_io *io)
{
    nwritten++;
    if (io->status) {
        nrefused++;
        failure = io->why;
    }
    free(io->data);
}

static uint8_t *make_pattern(uint64_t offset, uint32_t len, uint64_t salt)
{
    uint8_t *data = xcalloc(1, len);

    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t word = offset + i + salt;
        memcpy(data + i, &word, 8);
    }
    return data;
}

static void start_writes(struct datastore *ds, uint64_t offset, uint32_t len, unsigned n, uint64_t salt)
{
    nwrites = n;
    nwritten = nrefused = 0;
    for (unsigned i = 0; i < n; i++, offset += len) {
        writes[i] = (struct datastore_io){.op = DATASTORE_WRITE,
                                          .offset = offset,
                                          .len = len,
                                          .data = make_pattern(offset, len, salt),
                                          .done = on_written};
        ds->ops->submit(ds, &writes[i]);
    }
    assert_int_equal(nwritten, 0);
}

static void end_writes(void)
{
    WAIT(nwritten == nwrites);
    if (nrefused)
        fail_msg("%u of %u writes failed: %s", nrefused, nwrites, failure.text);
}

/* One I/O and its end. */
static struct datastore_io deed;
static bool deed_ended;

static void on_deed(struct datastore_io *io)
{
    assert_ptr_equal(io, &deed);
    deed_ended = true;
}

static int act(struct datastore *ds, enum datastore_op op, uint64_t offset, uint32_t len)
{
    uint8_t *data = op == DATASTORE_WRITE ? make_pattern(offset, len, 1) : NULL;

    deed_ended = false;
    deed = (struct datastore_io){.op = op, .offset = offset, .len = len, .data = data, .done = on_deed};
    ds->ops->submit(ds, &deed);
    assert_false(deed_ended);
    WAIT(deed_ended);
    free(data);
    return deed.status;
}

/* What another reader finds: all of it offset + salt, or all zeros. */
static void expect_pattern(const char *path, uint64_t offset, uint32_t len, uint64_t salt)
{
    int fd = open(path, O_RDONLY);
    uint8_t *data = xcalloc(1, len), *want = make_pattern(offset, len, salt);

    assert_int_equal(pread(fd, data, len, (off_t)offset), len);
    assert_memory_equal(data, want, len);
    close(fd);
    free(data);
    free(want);
}

static void expect_zeros(const char *path, uint64_t offset, uint32_t len)
{
    int fd = open(path, O_RDONLY);
    uint8_t *data = xcalloc(1, len), *want = xcalloc(1, len);

    assert_int_equal(pread(fd, data, len, (off_t)offset), len);
    assert_memory_equal(data, want, len);
    close(fd);
    free(data);
    free(want);
}

static uint64_t allocated_bytes(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Closes and lets it go for good. */
static void close_ds(struct datastore **ds)
{
    datastore_close(ds);
    for (int i = 0; i < 4; i++)
        turn();
}

static int fixture_begin(void **state)
{
    (void)state;
    if (!getenv("TEST_VERBOSE"))
        log_set_level("error");
    pool_start(4);
    loop = loop_new("test");
    snprintf(dir, sizeof dir, "/tmp/isthmus-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(image, sizeof image, "%s/disk.img", dir);
    write_image(image, DISK_BYTES);
    return 0;
}

static int fixture_end(void **state)
{
    char command[96];

    (void)state;
    for (int i = 0; i < 4; i++)
        turn();
    pool_stop();
    loop_free(&loop);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return run_program(command);
}

#endif
