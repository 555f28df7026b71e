/* tests/lib/load_session.c - a lean iSCSI initiator: login in one step, READ(10), WRITE(10), R2T, Data-Out.
 *
 * libiscsi allocates for each command and reads header and data by system calls of their own: it would be
 * measured, not the target. Here many PDUs share a recv and a writev, and data of big reads is discarded in
 * the kernel (MSG_TRUNC): what the generator costs stays below what any target does. It offers what
 * open-iscsi does. Not here: recovery, checking of data or digests, errors of any kind.
 */
#include "load_session_impl.h"

#include "crc32c.h"
#include "wire.h"

#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
uint8_t *load_pool;

void load_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("load-gen: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void load_url(struct load *load, const char *url)
{
    static char host[256], port[16], target[256];

    if (sscanf(url, "iscsi://%255[^:/]:%15[0-9]/%255[^/]/%u", host, port, target, &load->lun) != 4)
        load_die("'%s' is not iscsi://HOST:PORT/IQN/LUN", url);
    load->host = host;
    load->port = port;
    load->target = target;
}

/* --- waiting: login and what precedes the load --- */

static void send_all(struct load_session *s, const void *bytes, size_t n)
{
    for (const uint8_t *p = bytes; n > 0;) {
        ssize_t done = send(s->fd, p, n, MSG_NOSIGNAL);

        if (done <= 0)
            load_die("send: %s", strerror(errno));
        p += done;
        n -= (size_t)done;
    }
}

static void recv_all(struct load_session *s, void *bytes, size_t n)
{
    if (n > 0 && recv(s->fd, bytes, n, MSG_WAITALL) != (ssize_t)n)
        load_die("the target closed the connection");
}

/* One PDU with its data, of which there may be as much as fits. */
static uint32_t recv_pdu(struct load_session *s, uint8_t *bhs, uint8_t *data, uint32_t room)
{
    uint8_t digest[4];
    uint32_t n;

    recv_all(s, bhs, BHS);
    if (s->header_digest)
        recv_all(s, digest, 4);
    n = get24(bhs + 5);
    if (((n + 3) & ~3u) > room)
        load_die("an answer of %u bytes", n);
    recv_all(s, data, (n + 3) & ~3u);
    if (s->data_digest && n)
        recv_all(s, digest, 4);
    return n;
}

static size_t add_key(char *text, size_t at, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    at += (size_t)vsnprintf(text + at, 1024 - at, format, args) + 1;
    va_end(args);
    return at;
}

static bool yes(const char *value)
{
    return strcmp(value, "Yes") == 0;
}

static void take_key(struct load_session *s, const char *key, const char *value)
{
    uint32_t number = (uint32_t)strtoul(value, NULL, 10);

    if (strcmp(key, "MaxRecvDataSegmentLength") == 0)
        s->segment = number < SEGMENT ? number : SEGMENT;
    else if (strcmp(key, "FirstBurstLength") == 0)
        s->first_burst = number;
    else if (strcmp(key, "MaxBurstLength") == 0)
        s->max_burst = number;
    else if (strcmp(key, "ImmediateData") == 0)
        s->immediate = yes(value);
    else if (strcmp(key, "HeaderDigest") == 0)
        s->header_digest = strcmp(value, "CRC32C") == 0;
    else if (strcmp(key, "DataDigest") == 0)
        s->data_digest = strcmp(value, "CRC32C") == 0;
}

static size_t offer(struct load_session *s, unsigned number, char *text)
{
    const char *digest = s->load->digests ? "CRC32C" : "None";
    size_t n = add_key(text, 0, "InitiatorName=iqn.2026-11.org.isthmus.test:load-%u", number);
    int stem = (int)strlen(s->load->target);

    if (s->load->vms > 1) { /* that name ends with 1, and there are others */
        n = add_key(text, n, "TargetName=%.*s%u", stem - 1, s->load->target, (number - 1) % s->load->vms + 1);
    } else {
        n = add_key(text, n, "TargetName=%s", s->load->target);
    }
    n = add_key(text, n, "SessionType=Normal");
    n = add_key(text, n, "HeaderDigest=%s", digest);
    n = add_key(text, n, "DataDigest=%s", digest);
    n = add_key(text, n, "InitialR2T=No");
    n = add_key(text, n, "ImmediateData=Yes");
    n = add_key(text, n, "MaxRecvDataSegmentLength=%d", SEGMENT);
    n = add_key(text, n, "FirstBurstLength=%d", SEGMENT);
    n = add_key(text, n, "MaxBurstLength=%d", BURST);
    n = add_key(text, n, "MaxOutstandingR2T=1");
    return add_key(text, n, "ErrorRecoveryLevel=0");
}

static void send_login(struct load_session *s, const char *text, size_t n)
{
    put24(s->login + 5, (uint32_t)n);
    put32(s->login + 28, s->exp_stat_sn);
    send_all(s, s->login, BHS);
    send_all(s, text, (n + 3) & ~(size_t)3);
}

static void begin_login(struct load_session *s, unsigned number)
{
    char text[1024] = "";
    size_t n = offer(s, number, text);

    s->login[0] = 0x43;
    s->login[1] = 0x87;
    s->login[8] = 0x80; /* a random ISID */
    if (getrandom(s->login + 9, 3, 0) != 3)
        load_die("no random bytes");
    put16(s->login + 12, (uint16_t)number);
    s->segment = 8192;
    s->first_burst = 65536;
    s->max_burst = SEGMENT;
    s->immediate = true;
    s->cmd_sn = 1;
    put32(s->login + 16, 1);
    put32(s->login + 24, s->cmd_sn);
    send_login(s, text, n);
}

/* The digests that are agreed to begin with the next phase. */
static uint32_t recv_login(struct load_session *s, uint8_t *answer, uint8_t *data, uint32_t room)
{
    bool header_digest = s->header_digest, data_digest = s->data_digest;
    uint32_t got;

    s->header_digest = s->data_digest = false;
    got = recv_pdu(s, answer, data, room);
    s->header_digest = header_digest, s->data_digest = data_digest;
    if ((answer[0] & 0x3f) != 0x23 || get16(answer + 36) != 0)
        load_die("login refused: opcode %02x status %04x", answer[0], get16(answer + 36));
    return got;
}

void load_session_login(struct load_session *s)
{
    uint8_t answer[BHS], data[16384];

    for (;;) {
        uint32_t got = recv_login(s, answer, data, sizeof data - 1), at = 0;

        data[got] = '\0';
        for (; at < got; at += (uint32_t)strlen((char *)data + at) + 1) {
            char *pair = (char *)data + at, *equals = strchr(pair, '=');

            if (equals) {
                char key[64];

                snprintf(key, sizeof key, "%.*s", (int)(equals - pair), pair);
                take_key(s, key, equals + 1);
            }
        }
        s->exp_stat_sn = get32(answer + 24) + 1;
        s->max_cmd_sn = get32(answer + 32);
        if ((answer[1] & 0x83) == 0x83)
            break;
        memcpy(s->login + 14, answer + 14, 2);
        send_login(s, "", 0);
    }
    if (s->load->digests && !(s->header_digest && s->data_digest))
        load_die("the target does not agree to digests: header %s, data %s",
                 s->header_digest ? "CRC32C" : "None", s->data_digest ? "CRC32C" : "None");
}

static void dial(struct load_session *s)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int one = 1;

    if (getaddrinfo(s->load->host, s->load->port, &hints, &found) != 0)
        load_die("no address for %s", s->load->host);
    s->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, found->ai_addr, found->ai_addrlen) != 0)
        load_die("%s:%s: %s", s->load->host, s->load->port, strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    freeaddrinfo(found);
}

static void make_pool(void)
{
    if (load_pool)
        return;
    load_pool = malloc(POOL);
    for (size_t at = 0; load_pool && at < POOL; at += 256)
        if (getrandom(load_pool + at, 256, 0) != 256)
            load_die("no random bytes");
}

struct load_session *load_session_make(struct load *load, unsigned number)
{
    struct load_session *s = calloc(1, sizeof *s);

    make_pool();
    s->load = load;
    s->random = number * 0x9e3779b97f4a7c15u + 1;
    s->slots = calloc(load->depth, sizeof *s->slots);
    s->idle = calloc(load->depth, sizeof *s->idle);
    s->queue = calloc(QUEUE, sizeof *s->queue);
    s->rx = malloc(RX_SMALL);
    if (!s->slots || !s->idle || !s->queue || !s->rx || !load_pool)
        load_die("out of memory");
    s->rx_size = !load->write && load->io_bytes >= BIG ? RX_BIG : RX_SMALL;
    s->number = number;
    s->fd = -1;
    return s;
}

void load_session_dial(struct load_session *s)
{
    dial(s);
    begin_login(s, s->number);
}

struct load_session *load_session_new(struct load *load, unsigned number)
{
    struct load_session *s = load_session_make(load, number);

    load_session_dial(s);
    load_session_login(s);
    return s;
}

/* What the target has not read yet is lost on it; it has nothing in flight. */
void load_session_hang_up(struct load_session *s)
{
    uint8_t bytes[256];

    shutdown(s->fd, SHUT_WR);
    while (recv(s->fd, bytes, sizeof bytes, 0) > 0)
        ;
    close(s->fd);
    s->fd = -1;
    s->exp_stat_sn = 0;
    s->header_digest = s->data_digest = false;
    memset(s->login, 0, sizeof s->login);
}

void load_put_command(struct load_session *s, uint8_t *bhs, uint32_t tag, uint32_t len, const uint8_t *cdb)
{
    memset(bhs, 0, BHS);
    bhs[0] = 0x01;
    bhs[1] = 0x81; /* final, simple */
    if (s->load->lun > 255)
        load_die("LUN %u", s->load->lun);
    bhs[9] = (uint8_t)s->load->lun;
    put32(bhs + 16, tag);
    put32(bhs + 20, len);
    put32(bhs + 24, s->cmd_sn++);
    put32(bhs + 28, s->exp_stat_sn);
    memcpy(bhs + 32, cdb, 10);
}

uint32_t load_put_digest(uint8_t *bhs)
{
    uint32_t crc = htole32(crc32c(0, bhs, BHS));

    memcpy(bhs + BHS, &crc, 4);
    return BHS + 4;
}

/* A command with a short answer, or none. Its SCSI status. */
static uint8_t command_sync(struct load_session *s, const uint8_t *cdb, uint8_t *in, uint32_t len)
{
    uint8_t bhs[BHS + 4], answer[BHS], data[1024];

    load_put_command(s, bhs, 0x1000, len, cdb);
    if (len)
        bhs[1] |= 0x40;
    send_all(s, bhs, s->header_digest ? load_put_digest(bhs) : BHS);
    for (;;) {
        uint32_t n = recv_pdu(s, answer, data, sizeof data);
        uint8_t opcode = answer[0] & 0x3f;

        s->max_cmd_sn = get32(answer + 32);
        if (opcode == 0x25)
            memcpy(in, data, n < len ? n : len);
        else if (opcode != 0x21)
            continue; /* a ping: not answered, there is none that matters before the load */
        if (opcode == 0x21 || answer[1] & 1) {
            s->exp_stat_sn = get32(answer + 24) + 1;
            return answer[3];
        }
    }
}

void load_session_prepare(struct load_session *s)
{
    const uint8_t ready[10] = {0}, capacity[10] = {0x25};
    uint8_t in[8];
    int tries = 8;

    while (command_sync(s, ready, NULL, 0) != 0)
        if (--tries == 0)
            load_die("the disk does not become ready");
    if (command_sync(s, capacity, in, sizeof in) != 0)
        load_die("READ CAPACITY failed");
    s->block_bytes = get32(in + 4);
    s->blocks = (uint64_t)get32(in) + 1;
    if (s->load->span_bytes && s->load->span_bytes < s->blocks * s->block_bytes)
        s->blocks = s->load->span_bytes / s->block_bytes;
    if (s->load->io_bytes % s->block_bytes || s->blocks * s->block_bytes < s->load->io_bytes)
        load_die("I/Os of %u bytes on %llu blocks of %u", s->load->io_bytes, (unsigned long long)s->blocks,
                 s->block_bytes);
}
/* --- its end --- */

void load_session_free(struct load_session **ps)
{
    struct load_session *s = *ps;

    if (s->fd >= 0)
        close(s->fd);
    free(s->slots);
    free(s->idle);
    free(s->queue);
    free(s->rx);
    free(s);
    *ps = NULL;
}

void load_session_logout(struct load_session **ps)
{
    struct load_session *s = *ps;
    uint8_t bhs[BHS + 4] = {0x46, 0x80}, answer[BHS], data[1024];

    if (s->rx_have || s->count)
        load_die("a logout in the middle of something");
    for (; s->skip; s->skip -= s->skip < sizeof data ? s->skip : sizeof data) /* of the last read */
        recv_all(s, data, s->skip < sizeof data ? s->skip : sizeof data);
    put32(bhs + 16, 0x1001);
    put32(bhs + 24, s->cmd_sn);
    put32(bhs + 28, s->exp_stat_sn);
    send_all(s, bhs, s->header_digest ? load_put_digest(bhs) : BHS);
    do
        recv_pdu(s, answer, data, sizeof data);
    while ((answer[0] & 0x3f) == 0x20); /* a ping */
    if ((answer[0] & 0x3f) != 0x26 || answer[2] != 0)
        load_die("logout refused: opcode %02x response %02x", answer[0], answer[2]);
    if (recv(s->fd, answer, 1, 0) != 0)
        load_die("the target says more after a logout");
    load_session_free(ps);
}

void load_session_vanish(struct load_session **ps)
{
    struct linger now = {.l_onoff = 1};

    setsockopt((*ps)->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    load_session_free(ps);
}
