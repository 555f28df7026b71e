/* common/log.h - one line per event, for people and for machines.
 *
 * A line is logfmt: ts level part ctx msg, as in
 *     ts=2026-11-23T12:46:33.123456Z level=info part=target ctx=c17 msg="login of iqn.2026-11.example:vm1"
 * ctx is the short id of what the line is about (connection c17, request r5, VM name), so that one grep
 * retells a session. Each .c file names its part once: static const char part[] = "target";
 * Never a secret: no key, CHAP secret, token, or URL that may hold one (see url_redact in url.h).
 * The finder of an error logs it, once, with values and the cause; callers pass it up.
 */
#ifndef ISTHMUS_LOG_H
#define ISTHMUS_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

extern enum log_level log_threshold; /* changed by log_set_level */

/* "error", "warn", "info" or "debug"; false if it is none of them. */
bool log_set_level(const char *name);
/* Any thread; one write(2) to stderr a line. ctx may be NULL. */
void log_line(enum log_level, const char *part, const char *ctx, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define log_error(ctx, ...) log_line(LOG_ERROR, part, ctx, __VA_ARGS__)
#define log_warn(ctx, ...)  log_line(LOG_WARN, part, ctx, __VA_ARGS__)
#define log_info(ctx, ...)  log_line(LOG_INFO, part, ctx, __VA_ARGS__)
/* The same at level info for what a peer may cause at will: 100 lines a second of the process; how many were
 * left out is a line of its own. */
bool log_peer_line(void);
#define log_peer(ctx, ...)                                                                                   \
    do {                                                                                                     \
        if (log_threshold >= LOG_INFO && log_peer_line())                                                    \
            log_line(LOG_INFO, part, ctx, __VA_ARGS__);                                                      \
    } while (0)
#define log_debug(ctx, ...)                                                                                  \
    do {                                                                                                     \
        if (log_threshold >= LOG_DEBUG)                                                                      \
            log_line(LOG_DEBUG, part, ctx, __VA_ARGS__);                                                     \
    } while (0)

#endif
