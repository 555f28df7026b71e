/* tests/lib/load_session.c - a lean iSCSI initiator: login in one step, READ(10), WRITE(10), R2T, Data-Out.
 *
 * libiscsi allocates for each command and reads header and data by system calls of their own: it would be
 * measured, not the target. Here many PDUs share a recv and a writev, and data of big reads is discarded in
 * the kernel (MSG_TRUNC): what the generator costs stays below what any target does. It offers what
 * open-iscsi does. Not here: recovery, checking of data or digests, errors of any kind.
 */
#include "load_session.h"

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
#include <sys/uio.h>
#include <unistd.h>

enum {
    BHS = 48,
    SEGMENT = 262144,
    BURST = 16776192,
    POOL = 8 << 20,
    QUEUE = 4096, /* PDUs */
    RX_SMALL = 256 << 10,
    RX_BIG = 512,
    BIG = 32768,
    IOVS = 256,
};

struct pdu {
    uint8_t head[BHS + 4], tail[4];
    uint32_t head_len, len, tail_len;
    const uint8_t *data;
};

struct slot {
    uint64_t since_ns;
    uint32_t got; /* bytes of Data-In */
    const uint8_t *data;
};

struct load_session {
    struct load *load;
    int fd;
    unsigned number;
    uint8_t login[BHS];
    uint32_t cmd_sn, max_cmd_sn, exp_stat_sn;
    uint32_t segment, first_burst, max_burst; /* the target's */
    bool immediate, header_digest, data_digest;
    uint32_t block_bytes;
    uint64_t blocks, next_block, random;
    struct slot *slots;
    uint32_t *idle, nidle;
    struct pdu *queue; /* ring */
    uint32_t first, count;
    size_t sent_of_first;
    uint8_t *rx;
    size_t rx_have, rx_size, skip;
    bool moved; /* this turn */
};

static uint8_t *pool;

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
    if (pool)
        return;
    pool = malloc(POOL);
    for (size_t at = 0; pool && at < POOL; at += 256)
        if (getrandom(pool + at, 256, 0) != 256)
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
    if (!s->slots || !s->idle || !s->queue || !s->rx || !pool)
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

static void put_command(struct load_session *s, uint8_t *bhs, uint32_t tag, uint32_t len, const uint8_t *cdb)
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

static uint32_t put_digest(uint8_t *bhs)
{
    uint32_t crc = htole32(crc32c(0, bhs, BHS));

    memcpy(bhs + BHS, &crc, 4);
    return BHS + 4;
}

/* A command with a short answer, or none. Its SCSI status. */
static uint8_t command_sync(struct load_session *s, const uint8_t *cdb, uint8_t *in, uint32_t len)
{
    uint8_t bhs[BHS + 4], answer[BHS], data[1024];

    put_command(s, bhs, 0x1000, len, cdb);
    if (len)
        bhs[1] |= 0x40;
    send_all(s, bhs, s->header_digest ? put_digest(bhs) : BHS);
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

/* --- the load --- */

static struct pdu *pdu_new(struct load_session *s)
{
    struct pdu *p = &s->queue[(s->first + s->count) % QUEUE];

    if (s->count++ == QUEUE)
        load_die("more than %d PDUs to send", QUEUE);
    p->len = p->tail_len = 0;
    return p;
}

static void pdu_finish(struct load_session *s, struct pdu *p, const uint8_t *data, uint32_t len)
{
    put24(p->head + 5, len);
    p->head_len = s->header_digest ? put_digest(p->head) : BHS;
    p->data = data;
    p->len = len;
    if (s->data_digest && len) {
        uint32_t crc = htole32(crc32c(0, data, len));

        memcpy(p->tail, &crc, 4);
        p->tail_len = 4;
    }
}

static uint64_t next_random(struct load_session *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}

static uint64_t next_lba(struct load_session *s, uint32_t count)
{
    uint64_t places = s->blocks / count, place;

    place = s->load->sequential ? s->next_block++ % places : (next_random(s) >> 8) % places;
    return place * count;
}

/* What is written: bytes that do not compress, and no 4 KiB of it ever again, lest it be stored or sent once.
 * A digest covers what others still send of the same bytes: those are left as they are. */
static const uint8_t *new_data(struct load_session *s)
{
    uint8_t *data = pool + (next_random(s) >> 8) % ((POOL - s->load->io_bytes) / 512) * 512;

    for (uint32_t at = 0; !s->data_digest && at < s->load->io_bytes; at += 4096) {
        uint64_t stamp = next_random(s);

        memcpy(data + at, &stamp, sizeof stamp);
    }
    return data;
}

static void start(struct load_session *s)
{
    const struct load *load = s->load;
    uint32_t i = s->idle[--s->nidle], count = load->io_bytes / s->block_bytes, immediate = 0;
    uint8_t cdb[10] = {load->write ? 0x2a : 0x28};
    struct pdu *p = pdu_new(s);

    put32(cdb + 2, (uint32_t)next_lba(s, count));
    put16(cdb + 7, (uint16_t)count);
    put_command(s, p->head, i, load->io_bytes, cdb);
    p->head[1] |= load->write ? 0x20 : 0x40;
    s->slots[i].since_ns = load->now_ns;
    s->slots[i].got = 0;
    if (load->write) {
        s->slots[i].data = new_data(s);
        if (s->immediate) {
            immediate = load->io_bytes < s->segment ? load->io_bytes : s->segment;
            immediate = immediate < s->first_burst ? immediate : s->first_burst;
        }
    }
    pdu_finish(s, p, s->slots[i].data, immediate);
}

static void start_all(struct load_session *s)
{
    while (!s->load->ending && s->nidle && (int32_t)(s->max_cmd_sn - s->cmd_sn) >= 0)
        start(s);
}

static void answer_r2t(struct load_session *s, const uint8_t *r2t)
{
    uint32_t tag = get32(r2t + 16), at = get32(r2t + 40), left = get32(r2t + 44), sn = 0;

    if (tag >= s->load->depth || (uint64_t)at + left > s->load->io_bytes)
        load_die("an R2T for %u bytes at %u of task %u", left, at, tag);
    while (left) {
        uint32_t n = left < s->segment ? left : s->segment;
        struct pdu *p = pdu_new(s);

        memset(p->head, 0, BHS);
        p->head[0] = 0x05;
        p->head[1] = n == left ? 0x80 : 0;
        memcpy(p->head + 8, r2t + 8, 8);
        put32(p->head + 16, tag);
        memcpy(p->head + 20, r2t + 20, 4);
        put32(p->head + 28, s->exp_stat_sn);
        put32(p->head + 36, sn++);
        put32(p->head + 40, at);
        pdu_finish(s, p, s->slots[tag].data + at, n);
        at += n;
        left -= n;
    }
}

static void finished(struct load_session *s, const uint8_t *bhs)
{
    uint32_t tag = get32(bhs + 16);

    if (bhs[3] != 0)
        load_die("an I/O ended with SCSI status %02x", bhs[3]);
    if (tag >= s->load->depth || !s->slots[tag].since_ns)
        load_die("an answer for task %u", tag);
    if (bhs[1] & 0x06 || (!s->load->write && s->slots[tag].got != s->load->io_bytes))
        load_die("an I/O ended with %u of %u bytes, flags %02x", s->slots[tag].got, s->load->io_bytes,
                 bhs[1]);
    s->exp_stat_sn = get32(bhs + 24) + 1;
    s->load->done(s->load->now_ns - s->slots[tag].since_ns);
    s->slots[tag].since_ns = 0;
    s->idle[s->nidle++] = tag;
}

static void answer_ping(struct load_session *s, const uint8_t *ping)
{
    struct pdu *p;

    if (get32(ping + 20) == UINT32_MAX)
        return;
    p = pdu_new(s);
    memset(p->head, 0, BHS);
    p->head[0] = 0x40;
    p->head[1] = 0x80;
    memcpy(p->head + 8, ping + 8, 8);
    put32(p->head + 16, UINT32_MAX);
    memcpy(p->head + 20, ping + 20, 4);
    put32(p->head + 24, s->cmd_sn);
    put32(p->head + 28, s->exp_stat_sn);
    pdu_finish(s, p, NULL, 0);
}

static void take(struct load_session *s, const uint8_t *bhs)
{
    switch (bhs[0] & 0x3f) {
    case 0x25:
        if (get32(bhs + 16) >= s->load->depth || get32(bhs + 40) != s->slots[get32(bhs + 16)].got)
            load_die("Data-In for task %u at %u", get32(bhs + 16), get32(bhs + 40));
        s->slots[get32(bhs + 16)].got += get24(bhs + 5);
        if (bhs[1] & 1)
            finished(s, bhs);
        break;
    case 0x21:
        finished(s, bhs);
        break;
    case 0x31:
        answer_r2t(s, bhs);
        break;
    case 0x20:
        answer_ping(s, bhs);
        break;
    default:
        load_die("the target sent opcode %02x", bhs[0]);
    }
    s->max_cmd_sn = get32(bhs + 32);
}

/* Whole headers in what was received; data is skipped. */
static void parse(struct load_session *s)
{
    const size_t header = BHS + (s->header_digest ? 4 : 0);
    size_t at = 0;

    for (;;) {
        size_t n = s->rx_have - at < s->skip ? s->rx_have - at : s->skip;
        uint32_t len;

        at += n;
        s->skip -= n;
        if (s->skip || s->rx_have - at < header)
            break;
        len = get24(s->rx + at + 5);
        s->skip = ((len + 3) & ~3u) + (s->data_digest && len ? 4 : 0);
        take(s, s->rx + at);
        at += header;
    }
    memmove(s->rx, s->rx + at, s->rx_have - at);
    s->rx_have -= at;
}

static bool receive(struct load_session *s)
{
    bool discard = s->skip >= BIG / 2;
    size_t want = discard ? s->skip : s->rx_size - s->rx_have;
    ssize_t n =
        recv(s->fd, discard ? NULL : s->rx + s->rx_have, want, MSG_DONTWAIT | (discard ? MSG_TRUNC : 0));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0)
        load_die("the target closed the connection");
    s->moved = true;
    if (discard) {
        s->skip -= (size_t)n;
    } else {
        s->rx_have += (size_t)n;
        parse(s);
    }
    return (size_t)n == want;
}

static int gather(struct load_session *s, struct iovec *iov)
{
    size_t skip = s->sent_of_first;
    int n = 0;

    for (uint32_t i = 0; i < (s->load->single && s->count ? 1 : s->count) && n < IOVS - 3; i++) {
        struct pdu *p = &s->queue[(s->first + i) % QUEUE];
        struct iovec parts[3] = {
            {p->head, p->head_len}, {(uint8_t *)(uintptr_t)p->data, p->len}, {p->tail, p->tail_len}};

        for (int j = 0; j < 3; j++) {
            size_t drop = skip < parts[j].iov_len ? skip : parts[j].iov_len;

            skip -= drop;
            if (parts[j].iov_len > drop)
                iov[n++] = (struct iovec){(uint8_t *)parts[j].iov_base + drop, parts[j].iov_len - drop};
        }
    }
    return n;
}

static void transmit(struct load_session *s)
{
    struct iovec iov[IOVS];

    while (s->count) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)gather(s, iov)};
        ssize_t n = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0)
            load_die("send: %s", strerror(errno));
        s->sent_of_first += (size_t)n;
        while (s->count) {
            struct pdu *p = &s->queue[s->first];
            size_t whole = p->head_len + p->len + p->tail_len;

            if (s->sent_of_first < whole)
                break;
            s->sent_of_first -= whole;
            s->first = (s->first + 1) % QUEUE;
            s->count--;
        }
    }
}

void load_session_begin(struct load_session *s)
{
    for (uint32_t i = 0; i < s->load->depth; i++)
        s->idle[s->nidle++] = s->load->depth - 1 - i;
    s->next_block = (next_random(s) >> 8) % s->blocks;
    start_all(s);
    transmit(s);
}

bool load_session_turn(struct load_session *s)
{
    int turns = 16;

    s->moved = false;
    while (receive(s) && --turns > 0)
        ;
    start_all(s);
    transmit(s);
    return s->moved;
}

int load_session_fd(const struct load_session *s)
{
    return s->fd;
}

bool load_session_wants_write(const struct load_session *s)
{
    return s->count != 0;
}

unsigned load_session_in_flight(const struct load_session *s)
{
    return s->load->depth - s->nidle;
}

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
    send_all(s, bhs, s->header_digest ? put_digest(bhs) : BHS);
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
