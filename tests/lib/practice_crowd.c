/* practice_crowd.c - cases about many, idle and greedy initiators, about who is kept out by them, and many
 * targets.
 */
#include "practice.h"

#include "mem.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void files_raise(void)
{
    struct rlimit r;

    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

/* A session that is there already, and a new one: both are served within a second. */
static void innocent(struct raw *c, const char *when)
{
    struct span span = span_begin();
    struct raw *fresh;

    read_good(c, any(1000), 8);
    fresh = session_of("iqn.2026-11.org.isthmus.test:innocent", play.iqn, 99, "", LOGIN_SUCCESS);
    session_ready(fresh);
    read_good(fresh, any(1000), 8);
    session_ends(&fresh);
    WANT(span_ms(&span) < 1000 * play.slowness, "%s: a login and two reads took %u ms", when, span_ms(&span));
}

/* A thousand connections that say nothing, and as many that stop in the middle of their login. */
void case_idle_crowd(void)
{
    unsigned n = play.count ? play.count : 1000;
    struct raw **crowd = xcalloc(2 * n, sizeof *crowd), *c;

    files_raise();
    c = session_new(1, "");
    for (unsigned i = 0; i < 2 * n; i++) {
        crowd[i] = raw_connect(play.address, play.port, (uint8_t)i);
        WANT(crowd[i], "connection %u is not accepted", i);
        if (i % 2) {
            struct raw_pdu p;

            raw_login_header(crowd[i], &p, RAW_TO_FULL);
            raw_write(crowd[i], p.bhs, 20);
        }
        if (i % 100 == 99)
            innocent(c, "among idle connections");
    }
    innocent(c, "among idle connections");
    for (unsigned i = 0; i < 2 * n; i++)
        raw_free(&crowd[i]);
    free(crowd);
    session_ends(&c);
}

/* Logins without end: how many a second is told, not judged; others are served meanwhile, no memory stays. */
void case_logins(void)
{
    unsigned n = play.count ? play.count : 3000;
    struct raw *c = session_new(1, "");
    uint64_t since = now_ms();
    long before = 0;

    for (unsigned i = 0; i < n; i++) {
        struct raw *s = session_of("iqn.2026-11.org.isthmus.test:comes-and-goes", play.iqn, (uint8_t)i, "",
                                   LOGIN_SUCCESS);

        if (i % 2)
            session_ends(&s);
        else
            session_reset(&s);
        if (i == n / 3)
            before = edge_rss_kib();
        if (i % 500 == 0)
            innocent(c, "among logins");
    }
    told("%u logins a second, %ld KiB more in the end", (unsigned)(n * 1000ull / (now_ms() - since + 1)),
         edge_rss_kib() - before);
    WANT(play.slowness > 1 || edge_rss_kib() - before < 4096, "the edge has %ld KiB more",
         edge_rss_kib() - before);
    session_ends(&c);
}

/* --count VMs IQN1, IQN2, ... log in at the same moment, while another login stands still half-way and reads
 * of another VM are in a backend that does not answer. */
void case_logins_at_once(void)
{
    unsigned n = play.count ? play.count : 50;
    struct raw **all = xcalloc(n, sizeof *all), *half = raw_connect(play.address, play.port, 1), *c;
    char text[400], wire[400];
    struct raw_pdu p;
    struct span span;
    unsigned took;

    files_raise();
    snprintf(text, sizeof text, "%s1", play.iqn);
    c = session_of("iqn.2026-11.org.isthmus.test:waits", text, 3, "", LOGIN_SUCCESS);
    session_ready(c);
    if (play.backend) {
        stall();
        read_send(c, 1 << 16, 64);
    }
    WANT(half, "no connection");
    snprintf(text, sizeof text, "InitiatorName=iqn.2026-11.org.isthmus.test:half|TargetName=%s1|", play.iqn);
    WANT(raw_login(half, 0x00, text) == 0, "the first step of a login in two"); /* and no second one */
    for (unsigned i = 0; i < n; i++) {
        all[i] = raw_connect(play.address, play.port, 2);
        WANT(all[i], "connection %u is not accepted", i);
    }
    span = span_begin();
    for (unsigned i = 0; i < n; i++) {
        snprintf(text, sizeof text,
                 "InitiatorName=iqn.2026-11.org.isthmus.test:vm%u|TargetName=%s%u|SessionType=Normal|", i,
                 play.iqn, i + 1);
        raw_login_header(all[i], &p, RAW_TO_FULL);
        p.data = wire;
        p.len = raw_text(wire, text);
        raw_send(all[i], &p);
    }
    for (unsigned i = 0; i < n; i++)
        WANT(raw_recv(all[i]) == ISCSI_LOGIN_RESPONSE && get16(all[i]->bhs + AT_LOGIN_STATUS) == 0,
             "login %u of %u at once: status %04x", i, n, get16(all[i]->bhs + AT_LOGIN_STATUS));
    took = span_ms(&span);
    told("%u logins at once in %u ms", n, (unsigned)(now_ms() - span.since_ms));
    WANT(took < 1000 * play.slowness, "%u logins at once took %u ms", n, took);
    for (unsigned i = 0; i < n; i++)
        raw_free(&all[i]);
    free(all);
    raw_free(&half);
    if (play.backend)
        resume();
    session_reset(&c);
}

/* Megabytes asked for, pings sent, and nothing read: what is kept for such a session has a bound. */
void case_never_reads(void)
{
    struct raw *c = session_new(1, ""), *deaf[8];
    long before;
    unsigned sent = 0;
    uint8_t *ping = xcalloc(1, 8192);

    read_good(c, 0, 2048); /* in the cache */
    before = edge_rss_kib();
    for (unsigned i = 0; i < 8; i++) {
        deaf[i] = session_new((uint8_t)(10 + i), "");
        deaf[i]->timeout_ms = 300;
        for (unsigned j = 0; j < 100; j++)
            read_send(deaf[i], 0, 2048);
        for (unsigned j = 0; j < 20000; j++, sent++) {
            struct raw_pdu p;

            raw_request_header(deaf[i], &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
            p.data = ping;
            p.len = 8192;
            if (!raw_send(deaf[i], &p))
                break; /* it takes no more: that is right */
        }
    }
    WANT(sent < 8 * 20000, "the target takes pings without end");
    innocent(c, "among sessions that read nothing");
    told("%ld KiB more for 8 sessions", edge_rss_kib() - before);
    WANT(play.slowness > 1 || edge_rss_kib() - before < 64 << 10, "the edge has %ld KiB more",
         edge_rss_kib() - before);
    for (unsigned i = 0; i < 8; i++)
        session_reset(&deaf[i]);
    free(ping);
    innocent(c, "after them");
    session_ends(&c);
}

/* The line flaps in the middle of Data-Out, over and over: nothing of the half-received writes stays. */
void case_resets_of_the_line(void)
{
    unsigned n = play.count ? play.count : 1000;
    uint8_t *data = xcalloc(1, 65536);
    long before = 0;

    for (unsigned i = 0; i < n; i++) {
        struct raw *c = session_of("iqn.2026-11.org.isthmus.test:flaps", play.iqn, (uint8_t)i,
                                   "ImmediateData=No|", LOGIN_SUCCESS);
        struct raw_pdu p;
        struct raw_answer a;

        session_ready(c);
        for (unsigned j = 0; j < 4; j++)
            raw_command(c, RAW_WRITE | ISCSI_FINAL, 262144, raw_cdb10(0x2a, j * 512, 512), 10, NULL, 0);
        a = raw_answer(c, NULL, 0);
        WANT(a.opcode == ISCSI_R2T, "PDU %d instead of an R2T", a.opcode);
        raw_data_out(c, a.itt, raw_r2t(c).ttt, 0, 0, false, data, 16384);
        raw_data_out_header(c, &p, a.itt, raw_r2t(c).ttt, 1, 16384, false);
        put24(p.bhs + AT_DATA_SEGMENT_LENGTH, 65536);
        raw_write(c, p.bhs, BHS_BYTES);
        raw_write(c, data, any(65536));
        session_reset(&c);
        if (i == n / 3)
            before = edge_rss_kib();
    }
    free(data);
    told("%ld KiB more in the end", edge_rss_kib() - before);
    WANT(play.slowness > 1 || edge_rss_kib() - before < 4096, "the edge has %ld KiB more",
         edge_rss_kib() - before);
}

/* Ten sessions ask to write more than the target gives memory for: what is asked for by R2T is bounded, every
 * session has something, and when some go away the others get on until all is written. */
void case_more_writers_than_memory(void)
{
    enum { SESSIONS = 10, WRITES = 120, BYTES = 256 << 10, LOOP_BYTES = 256 << 20 };
    uint8_t *data = xcalloc(1, BYTES);
    struct raw *c[SESSIONS];
    uint64_t asked = 0;
    struct raw_r2t *r2ts = xcalloc(WRITES, sizeof *r2ts);
    unsigned got = 0, good = 0;
    long before = edge_rss_kib();

    for (unsigned i = 0; i < SESSIONS; i++) {
        c[i] = session_new((uint8_t)(1 + i), "ImmediateData=No|MaxBurstLength=262144|");
        for (unsigned j = 0; j < WRITES; j++)
            raw_command(c[i], RAW_WRITE | ISCSI_FINAL, BYTES, raw_cdb10(0x2a, j * 512, 512), 10, NULL, 0);
    }
    for (unsigned i = SESSIONS; i-- > 0;) { /* the last one to come is the first to be looked at */
        unsigned mine = 0;

        raw_ping(c[i], NULL, 0);
        while (raw_recv(c[i]) == ISCSI_R2T) {
            asked += raw_r2t(c[i]).len;
            mine++;
            if (i == SESSIONS - 1)
                r2ts[got++] = raw_r2t(c[i]);
        }
        WANT((c[i]->bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_NOP_IN && mine, "session %u has nothing: PDU %02x",
             i, c[i]->bhs[0]);
    }
    WANT(asked <= LOOP_BYTES + SESSIONS * BYTES && asked >= LOOP_BYTES / 2, "%u MiB are asked for at once",
         (unsigned)(asked >> 20));
    WANT(play.slowness > 1 || edge_rss_kib() - before < (LOOP_BYTES >> 10) + (64 << 10),
         "%ld KiB more memory", edge_rss_kib() - before);
    for (unsigned i = 0; i < SESSIONS - 1; i++)
        session_reset(&c[i]);
    while (good < WRITES) {
        struct raw_answer a;

        for (unsigned i = 0; i < got; i++)
            for (uint32_t at = 0; at < BYTES; at += 65536)
                raw_data_out(c[SESSIONS - 1], r2ts[i].itt, r2ts[i].ttt, at / 65536, at, at + 65536 == BYTES,
                             data, 65536);
        got = 0;
        a = raw_answer(c[SESSIONS - 1], NULL, 0);
        if (a.opcode == ISCSI_R2T)
            r2ts[got++] = raw_r2t(c[SESSIONS - 1]);
        else if (a.opcode == ISCSI_SCSI_RESPONSE && a.status == 0 && a.residual == 0)
            good++;
        else
            broken("write %u of %d: PDU %d, status %02x", good, WRITES, a.opcode, a.status);
    }
    told("%u MiB asked for at once", (unsigned)(asked >> 20));
    session_ends(&c[SESSIONS - 1]);
    free(data);
    free(r2ts);
}

/* WRITEs of `bytes` that are asked for their data (their R2Ts are thrown away) until the ping after them. */
static unsigned granted(struct raw *c, unsigned writes, uint32_t bytes)
{
    unsigned n = 0;

    for (unsigned i = 0; i < writes; i++)
        raw_command(c, RAW_WRITE | ISCSI_FINAL, bytes, raw_cdb16(0x8a, 0, bytes / 512), 16, NULL, 0);
    raw_ping(c, NULL, 0);
    while (raw_recv(c) == ISCSI_R2T)
        n++;
    WANT((c->bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_NOP_IN, "PDU %02x instead of R2Ts and a ping's answer",
         c->bhs[0]);
    return n;
}

/* One session has memory for 64 MiB of writes, and not more; others have theirs. */
void case_one_greedy_writer(void)
{
    struct raw *c = session_new(1, "ImmediateData=No|"), *other = session_new(2, "ImmediateData=No|");
    unsigned n = granted(c, 100, 1 << 20);

    WANT(n > 32 && n <= 64, "%u writes of 1 MiB are asked for their data", n);
    n = granted(other, 10, 1 << 20);
    WANT(n == 10, "%u of 10 writes of another session are asked for their data", n);
    session_reset(&c);
    session_reset(&other);
}

/* VMs IQN1, IQN2, IQN3 with 60 sessions each: all want to write 16 MiB and send nothing. What is set aside
 * for them has a bound, and a small write of somebody else has its place. */
void case_hoarders(void)
{
    enum { SESSIONS = 180, BIG = 16 << 20, MOST = 1 << 30 };
    static struct raw *all[SESSIONS];
    static const uint8_t zeros[4096];
    unsigned n = 0;
    char iqn[300];
    struct raw *c;

    files_raise();
    for (unsigned i = 0; i < SESSIONS; i++) {
        snprintf(iqn, sizeof iqn, "%s%u", play.iqn, 1 + i % 3);
        all[i] = session_of("iqn.2026-11.org.isthmus.test:hoards", iqn, (uint8_t)i, "ImmediateData=No|", 0);
        session_ready(all[i]);
        n += granted(all[i], 1, BIG);
    }
    told("%u of %d are asked for their data", n, SESSIONS);
    WANT(n >= 16 && n <= MOST / BIG, "%u writes of 16 MiB are asked for their data", n);
    c = session_of("iqn.2026-11.org.isthmus.test:innocent", iqn, 250, "ImmediateData=No|", 0);
    session_ready(c);
    WANT(raw_exchange(c, raw_cdb10(0x2a, 0, 8), 10, zeros, sizeof zeros, NULL, 0).status == 0,
         "a small write fails");
    read_good(c, 0, 8);
    session_ends(&c);
    for (unsigned i = 0; i < SESSIONS; i++)
        session_reset(&all[i]);
}

/* Sessions of VMs IQN1, IQN2, ... until the target takes no more connections: those there are go on, and when
 * they are gone there is place again. */
void case_too_many_connections(void)
{
    enum { MOST = 1024, TRIES = 1100 };
    struct raw **all = xcalloc(TRIES, sizeof *all), *c;
    unsigned n = 0;
    int status = 0;
    char text[600];

    files_raise();
    for (; n < TRIES; n++) {
        c = raw_connect(play.address, play.port, (uint8_t)(n / 400));
        WANT(c, "connection %u is not accepted", n);
        snprintf(text, sizeof text, "InitiatorName=iqn.2026-11.org.isthmus.test:all|TargetName=%s%u|",
                 play.iqn, 1 + n % 400);
        status = raw_login(c, RAW_TO_FULL, text);
        if (status != LOGIN_SUCCESS)
            break;
        watch_begin(all[n] = c);
    }
    told("%u sessions", n);
    WANT(n > MOST - 24 && n <= MOST && status == RAW_CLOSED, "%u sessions instead of %d, then %d", n, MOST,
         status);
    raw_free(&c);
    for (unsigned i = 0; i < n; i += 10)
        session_ready(all[i]);
    for (unsigned i = 0; i < n; i++)
        session_reset(&all[i]);
    free(all);
    snprintf(text, sizeof text, "%s1", play.iqn);
    c = session_of("iqn.2026-11.org.isthmus.test:all", text, 1, "", LOGIN_SUCCESS);
    session_ready(c);
    session_ends(&c);
}

/* --- discovery --- */

/* SendTargets=All with segments of 512 bytes: --count targets, each once, each with an address. */
void case_all_targets(void)
{
    struct raw *c = raw_connect(play.address, play.port, 1);
    unsigned targets = 0, addresses = 0, pieces = 0;
    char *all = xcalloc(1, 1 << 20), *p;
    uint32_t n = 0;

    WANT(c && raw_login(c, RAW_TO_FULL,
                        "InitiatorName=iqn.2026-11.org.isthmus.test:looks|SessionType=Discovery|"
                        "MaxRecvDataSegmentLength=512|") == 0,
         "no discovery session");
    watch_begin(c);
    raw_text_request(c, ISCSI_FINAL, ISCSI_TAG_NONE, "SendTargets=All|");
    for (;;) {
        WANT(raw_recv(c) == ISCSI_TEXT_RESPONSE && c->len <= 512 && n + c->len < 1 << 20,
             "piece %u of %u bytes", pieces, c->len);
        memcpy(all + n, c->data, c->len);
        n += c->len;
        pieces++;
        if (!(c->bhs[AT_FLAGS] & ISCSI_CONTINUE))
            break;
        WANT(get32(c->bhs + AT_TTT) != ISCSI_TAG_NONE && !(c->bhs[AT_FLAGS] & ISCSI_FINAL),
             "there is more, but no tag to ask for it");
        raw_text_request(c, ISCSI_FINAL, get32(c->bhs + AT_TTT), "");
        c->itt--; /* one exchange, one tag */
    }
    WANT(c->bhs[AT_FLAGS] & ISCSI_FINAL && get32(c->bhs + AT_TTT) == ISCSI_TAG_NONE,
         "the last piece is not final");
    for (p = all; p < all + n; p += strlen(p) + 1) {
        targets += !strncmp(p, "TargetName=", 11);
        addresses += !strncmp(p, "TargetAddress=", 14);
    }
    told("%u targets, %u addresses in %u pieces", targets, addresses, pieces);
    WANT(targets == play.count && addresses >= targets && pieces > 1, "%u targets, %u addresses", targets,
         addresses);
    free(all);
    watch_end(c);
    raw_free(&c);
}
