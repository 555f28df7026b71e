/* tests/lib/hostile_many.c - too many of everything: connections, sessions, logins, registrants, answers that
 * nobody takes.
 */
#include "hostile.h"

#include "mem.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

enum {
    IDLE = 200,
    SESSIONS = 50,
    LOGINS = 1000,
    REGISTRANTS = 40,
    GONE = 200,
    MANY = 1200,
    MANY_LEFT = 1024,
    TRIES = 200
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A busy machine makes one late; a target that looks at the others first makes each. */
static void slow_login(void)
{
    enum { AT_ONCE_MS = 2000, LOOKS = 3 };
    int64_t took = AT_ONCE_MS;

    for (int i = 0; i < IDLE; i++)
        dial(1);
    for (uint8_t i = 0; i < LOOKS && took >= AT_ONCE_MS; i++) {
        int64_t since = now_ms();
        struct raw *c = session(2 + i, "");

        took = now_ms() - since;
        want_same(c, 0, 8, 1);
    }
    want(took < AT_ONCE_MS, "each login beside them took long, the last one %d ms", (int)took);
}

static void fifty(void)
{
    struct raw *c[SESSIONS];

    for (unsigned i = 0; i < SESSIONS; i++)
        c[i] = session((uint8_t)i, "");
    for (unsigned i = 0; i < SESSIONS; i++)
        want_same(c[i], i * 8, 8, (uint8_t)i);
}

static void too_many_sessions(void)
{
    struct raw *c;
    int status = 0;
    unsigned n = 0;

    for (; !status && n < 200; n++) {
        c = dial((uint8_t)n);
        status = raw_login(c, RAW_TO_FULL, keys_for("vm1", ""));
    }
    want(status == LOGIN_OUT_OF_RESOURCES && n > SESSIONS, "status %04x at session %u", (unsigned)status, n);
    want_closed(c);
}

/* Logged in as soon as the target has looked at who must go: until then its address has too many. */
static struct raw *session_at_last(uint8_t isid)
{
    for (int i = 0; i < TRIES; i++) {
        struct raw *c = dial(isid);
        int status = raw_login(c, RAW_TO_FULL, keys_for("vm1", ""));

        if (status != RAW_CLOSED) {
            want(!status, "login status %d", status);
            return c;
        }
        hang_up(&c);
        poll(NULL, 0, 50);
    }
    unlike("no login in %d tries", TRIES);
}

/* Those that do not log in make room for others; nobody who has is closed. */
static void too_many_connections(void)
{
    struct raw *kept = session(1, ""), *c[MANY];
    unsigned still = 0;

    for (unsigned i = 0; i < MANY; i++)
        c[i] = dial(2);
    want_same(session_at_last(3), 0, 8, 3);
    want_quiet(kept);
    for (unsigned i = 0; i < MANY; i++) {
        struct pollfd closed = {.fd = c[i]->fd, .events = POLLIN};

        still += poll(&closed, 1, 0) == 0;
    }
    want(still < MANY_LEFT, "%u of %d idle connections are open", still, MANY);
}

static void many_logins(void)
{
    for (int i = 0; i < LOGINS; i++) {
        struct raw *c = session(1, "");

        if (i % 3 == 0) {
            raw_logout(c, LOGOUT_CLOSE_SESSION);
            want_pdu(c, ISCSI_LOGOUT_RESPONSE);
        }
        if (i % 3 == 1)
            hang_up_hard(&c);
        else
            hang_up(&c);
    }
}

/* --- registrants: each an initiator port of its own --- */

static const uint8_t register_it[10] = {0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0};

static void set_key(struct raw *c, uint64_t key)
{
    uint8_t p[24] = {0};
    struct raw_answer a;

    put64(p + 8, key);
    p[20] = 1; /* APTPL */
    a = raw_exchange(c, register_it, sizeof register_it, p, sizeof p, NULL, 0);
    want_is_good(&a);
}

static void registrants(void)
{
    static uint8_t in[8 + 8 * REGISTRANTS + 64], full[16384];
    struct raw *c[REGISTRANTS];
    struct raw_answer a;

    for (unsigned i = 0; i < REGISTRANTS; i++)
        c[i] = session_with("vm4", (uint8_t)i, "");
    for (unsigned i = 0; i < REGISTRANTS; i++)
        set_key(c[i], 0x1000u + i);
    a = raw_exchange(c[0], "\x5e\0\0\0\0\0\0\xff\0\0", 10, NULL, 0, in, sizeof in);
    want(!a.status && get32(in + 4) == 8 * REGISTRANTS, "%u bytes of keys", get32(in + 4));
    a = raw_exchange(c[0], "\x5e\3\0\0\0\0\0\x40\0\0", 10, NULL, 0, full, sizeof full);
    want(!a.status && get32(full + 4) + 8 == a.got && a.got > 24 * REGISTRANTS, "%u bytes of full status",
         a.got);
    for (unsigned i = 0; i < REGISTRANTS; i++)
        set_key(c[i], 0);
    a = raw_exchange(c[0], "\x5e\0\0\0\0\0\0\xff\0\0", 10, NULL, 0, in, sizeof in);
    want(!a.status && get32(in + 4) == 0, "%u bytes of keys are left", get32(in + 4));
}

/* --- gone in the middle --- */

static void rst_in_read(void)
{
    for (int i = 0; i < 16; i++) {
        struct raw *c = session(1, "");

        for (uint32_t k = 0; k < 100; k++)
            raw_command(c, ISCSI_FINAL | RAW_READ, 262144, raw_cdb10(0x28, k * 16, 512), 10, NULL, 0);
        if (i & 1)
            want_pdu(c, ISCSI_DATA_IN);
        hang_up_hard(&c);
    }
}

static void rst_in_write(void)
{
    static uint8_t data[65536];

    for (int i = 0; i < GONE; i++) {
        struct raw *c = session(1, "InitialR2T=No|");
        uint32_t itt = raw_command(c, RAW_WRITE, 262144, raw_cdb10(0x2a, 0, 512), 10, data, 16384);

        raw_data_out(c, itt, ISCSI_TAG_NONE, 0, 16384, false, data, (uint32_t)(i * 17));
        hang_up_hard(&c);
    }
}

/* Answers that nobody takes: the target stops reading, and holds only so much. */
static void never_reads(void)
{
    struct raw *c = session(1, ""), *other = session(2, "");
    struct raw_pdu p;
    uint8_t out[64];
    unsigned sent = 0;

    for (uint32_t i = 0; i < 100; i++)
        raw_command(c, ISCSI_FINAL | RAW_READ, 1 << 20, raw_cdb10(0x28, 0, 2048), 10, NULL, 0);
    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    raw_put(c, &p, out);
    while (sent < 1000000 && send(c->fd, out, BHS_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL) == BHS_BYTES)
        sent++;
    want(sent < 1000000, "a million pings were taken, and none of the answers");
    want_same(other, 0, 64, 2);
}

/* Junk instead of a protocol, before and after the login. */
static void junk(void)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: somebody\r\nUser-Agent: scanner\r\n\r\n";
    uint8_t noise[8192];
    uint32_t seed = 1;

    for (int i = 0; i < 200; i++) {
        struct raw *c = i & 1 ? session(1, "") : dial(1);

        for (size_t k = 0; k < sizeof noise; k++) {
            seed = seed * 1664525u + 1013904223u;
            noise[k] = (uint8_t)(seed >> 24);
        }
        if (i % 4 == 2)
            memcpy(noise, http, sizeof http);
        raw_write(c, noise, (size_t)(i * 41) % sizeof noise);
        hang_up(&c);
    }
}

const struct hostile_case hostile_many[] = {
    {"slow_login", "200 idle connections, then a good login", "it succeeds at once", slow_login},
    {"fifty_sessions", "50 sessions of one VM", "all of them work", fifty},
    {"too_many_sessions", "sessions of one VM without end", "0302 beyond the bound", too_many_sessions},
    {"too_many_connections", "1,200 connections that do not log in",
     "the oldest make room; a login works; sessions stay", too_many_connections},
    {"many_logins", "1,000 logins, ended by logout, RST, FIN", "all succeed", many_logins},
    {"registrants", "40 registrants with APTPL (CVE-2025-57275)", "all are kept, and reported", registrants},
    {"rst_in_read", "RST with 100 reads of 256 KiB in flight", "nothing is left of them", rst_in_read},
    {"rst_in_write", "200 times RST amid unsolicited data", "nothing is left of them", rst_in_write},
    {"never_reads", "100 MiB of reads and pings, nothing of it taken",
     "it is not read any more; others go on", never_reads},
    {"junk", "HTTP and noise, before and after the login", "ignored or closed", junk},
    {0},
};
