/* soak - a given number of I/Os or of logins against an iSCSI target, and how much memory its process has
 * meanwhile: what leaks in a command or in a session shows.
 *
 *   soak reads|writes|logins N URL PID
 *
 * In a hundred slices: random I/Os of 4 KiB from a few sessions with full queues, or logins, each with its
 * first commands, of which three in four log out and one just vanishes. A line after each slice: PERCENT DONE
 * RSS_KIB. Nothing is judged here; one thread.
 */
#include "load_session.h"
#include "load_usage.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SESSIONS = 4, SLICES = 100, TOGETHER = 16 };

static struct load load = {.io_bytes = 4096, .depth = 32};
static uint64_t ios;

static void on_done(uint64_t took_ns)
{
    (void)took_ns;
    ios++;
}

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0')
        load_die("'%s' is not a number", text);
    return value;
}

static void turn(struct load_session *const *sessions)
{
    struct pollfd fds[SESSIONS];

    for (int i = 0; i < SESSIONS; i++)
        fds[i] = (struct pollfd){
            .fd = load_session_fd(sessions[i]),
            .events = (short)(POLLIN | (load_session_wants_write(sessions[i]) ? POLLOUT : 0)),
        };
    if (poll(fds, SESSIONS, 20000) <= 0)
        load_die("no answer for 20 s");
    load.now_ns = usage_now_ns();
    for (int i = 0; i < SESSIONS; i++)
        if (fds[i].revents)
            load_session_turn(sessions[i]);
}

/* Until there are so many in all. */
static void do_ios(uint64_t wanted)
{
    struct load_session *sessions[SESSIONS];
    unsigned left;

    load.ending = false;
    for (unsigned i = 0; i < SESSIONS; i++) {
        sessions[i] = load_session_new(&load, i + 1);
        load_session_prepare(sessions[i]);
    }
    load.now_ns = usage_now_ns();
    for (unsigned i = 0; i < SESSIONS; i++)
        load_session_begin(sessions[i]);
    do {
        turn(sessions);
        load.ending = ios >= wanted;
        left = 0;
        for (unsigned i = 0; i < SESSIONS; i++)
            left += load_session_in_flight(sessions[i]);
    } while (left > 0);
    for (unsigned i = 0; i < SESSIONS; i++)
        load_session_logout(&sessions[i]);
}

static void do_logins(uint64_t n)
{
    struct load_session *sessions[TOGETHER];

    for (uint64_t done = 0; done < n;) {
        unsigned count = n - done < TOGETHER ? (unsigned)(n - done) : TOGETHER;

        for (unsigned i = 0; i < count; i++)
            sessions[i] = load_session_new(&load, i + 1);
        for (unsigned i = 0; i < count; i++)
            load_session_prepare(sessions[i]);
        for (unsigned i = 0; i < count; i++)
            if (i % 4 == 3)
                load_session_vanish(&sessions[i]);
            else
                load_session_logout(&sessions[i]);
        done += count;
    }
}

int main(int argc, char **argv)
{
    const char *what = argc == 5 ? argv[1] : "";
    char process[32];
    bool logins = strcmp(what, "logins") == 0, writes = strcmp(what, "writes") == 0;
    uint64_t wanted, done = 0;

    if (!logins && !writes && strcmp(what, "reads") != 0) {
        fprintf(stderr, "usage: soak reads|writes|logins N URL PID\n");
        return 2;
    }
    wanted = number(argv[2]);
    load_url(&load, argv[3]);
    snprintf(process, sizeof process, "/proc/%s", argv[4]);
    load.done = on_done;
    load.write = writes;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned slice = 1; slice <= SLICES; slice++) {
        uint64_t until = wanted * slice / SLICES;

        if (logins)
            do_logins(until - done);
        else
            do_ios(until);
        done = logins ? until : ios;
        printf("%u %llu %lu\n", slice * 100 / SLICES, (unsigned long long)done, usage_rss_kib(process));
    }
    return 0;
}
