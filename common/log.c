/* common/log.c - builds a line in one buffer and writes it with one system call, so that lines of several
 * threads do not mix. What came from outside is quoted: no control character reaches the terminal.
 */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum log_level log_threshold = LOG_INFO;

enum { PEER_LINES_A_SECOND = 100 };

static const char *const level_names[] = {"error", "warn", "info", "debug"};

bool log_set_level(const char *name)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++)
        if (strcmp(name, level_names[i]) == 0) {
            log_threshold = (enum log_level)i;
            return true;
        }
    return false;
}

/* Appends text in quotes, escaped; returns the new length. */
static size_t put_quoted(char *line, size_t at, size_t size, const char *text)
{
    line[at++] = '"';
    for (; *text && at + 4 < size; text++) {
        if (*text == '"' || *text == '\\')
            line[at++] = '\\';
        line[at++] = (unsigned char)*text < ' ' || *text == 127 ? '?' : *text;
    }
    line[at++] = '"';
    return at;
}

void log_line(enum log_level level, const char *part, const char *ctx, const char *format, ...)
{
    char text[900], line[1400];
    struct timespec now;
    struct tm tm;
    va_list args;
    size_t at;

    if (level > log_threshold)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    at = strftime(line, sizeof line, "ts=%Y-%m-%dT%H:%M:%S", &tm);
    at += (size_t)snprintf(line + at, sizeof line - at, ".%06ldZ level=%s part=%s", now.tv_nsec / 1000,
                           level_names[level], part);
    if (ctx) {
        memcpy(line + at, " ctx=", 5);
        at += 5;
        if (strpbrk(ctx, " \"=\\"))
            at = put_quoted(line, at, sizeof line - 1000, ctx);
        else
            at += (size_t)snprintf(line + at, 200, "%.150s", ctx);
    }
    memcpy(line + at, " msg=", 5);
    at = put_quoted(line, at + 5, sizeof line - 1, text);
    line[at++] = '\n';
    if (write(STDERR_FILENO, line, at) < 0)
        return; /* nowhere left to say it */
}

bool log_peer_line(void)
{
    static atomic_llong second;
    static atomic_uint lines;
    struct timespec now;
    long long then = atomic_load(&second);
    unsigned n;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (then != now.tv_sec && atomic_compare_exchange_strong(&second, &then, now.tv_sec)) {
        n = atomic_exchange(&lines, 0);
        if (n > PEER_LINES_A_SECOND)
            log_line(LOG_WARN, "log", NULL, "%u lines about what peers did were left out",
                     n - PEER_LINES_A_SECOND);
    }
    return atomic_fetch_add(&lines, 1) < PEER_LINES_A_SECOND;
}
