/* floor-target - the least that an iSCSI target over memory can cost: what tests/bench measures others
 * against.
 *
 *   floor-target ADDRESS PORT MIB
 *
 * One thread, one epoll, one LUN 0 in memory of its own. It knows what load-gen does: a login in one step,
 * TEST UNIT READY, INQUIRY, READ CAPACITY(10), READ and WRITE (10) and (16), digests on what it sends. It
 * trusts its peer, checks nothing and ends on anything else: no target.
 */
#include "crc32c.h"
#include "iscsi.h"
#include "mem.h"
#include "wire.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    BLOCK = 512,
    SEGMENT = 262144,
    RX = 256 << 10,
    RX_BETWEEN = 2048, /* while large data comes: its header, and little of it */
    LARGE = 16384,
    OUTS = 512, /* PDUs to be sent; a command is taken when so many more fit: */
    OUTS_OF_COMMAND = 72,
    TAGS = 256,
    WINDOW = 128,
    CONNS = 256
};

struct out {
    uint8_t head[BHS_BYTES + 4], text[512], digest[4];
    uint32_t head_len, len, digest_len;
    const uint8_t *data;
};

struct conn {
    int fd;
    bool full_feature, header_digest, data_digest, wants_write;
    uint32_t stat_sn, exp_cmd_sn;
    uint8_t *rx;
    size_t have, rx_size;
    uint8_t *direct;          /* what comes next belongs there, */
    size_t direct_left, skip; /* and so much is not wanted */
    uint32_t ending;          /* the task that has all its data then; NO_TAG: none */
    struct out *outs;         /* ring */
    uint32_t first, count;
    size_t sent_of_first;
    struct {
        uint8_t *at;
        uint32_t left, r2t_sn;
    } tasks[TAGS];
};

static const uint32_t no_tag = UINT32_MAX;
static uint8_t *disk;
static uint64_t blocks;
static int epoll;

static _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("floor-target: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* --- sending --- */

static struct out *out_new(struct conn *c, uint8_t opcode, uint8_t flags, uint32_t tag)
{
    struct out *o = &c->outs[(c->first + c->count++) % OUTS];

    memset(o->head, 0, BHS_BYTES);
    o->head[0] = opcode;
    o->head[1] = flags;
    put32(o->head + 16, tag);
    o->len = o->digest_len = 0;
    return o;
}

static void out_finish(struct conn *c, struct out *o, const uint8_t *data, uint32_t len, bool status)
{
    put24(o->head + 5, len);
    put32(o->head + 24, status ? c->stat_sn++ : 0);
    put32(o->head + 28, c->exp_cmd_sn);
    put32(o->head + 32, c->exp_cmd_sn + WINDOW - 1);
    o->data = data;
    o->len = len;
    o->head_len = BHS_BYTES;
    if (!c->full_feature)
        return;
    if (c->header_digest) {
        uint32_t crc = htole32(crc32c(0, o->head, BHS_BYTES));

        memcpy(o->head + BHS_BYTES, &crc, 4);
        o->head_len += 4;
    }
    if (c->data_digest && len) {
        uint32_t crc = htole32(crc32c(0, data, len));

        memcpy(o->digest, &crc, 4);
        o->digest_len = 4;
    }
}

static void watch(struct conn *c, bool write)
{
    struct epoll_event e = {.events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c};

    if (c->wants_write == write)
        return;
    c->wants_write = write;
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static int gather(struct conn *c, struct iovec *iov, int max)
{
    size_t skip = c->sent_of_first;
    int n = 0;

    for (uint32_t i = 0; i < c->count && n + 3 <= max; i++) {
        struct out *o = &c->outs[(c->first + i) % OUTS];
        struct iovec parts[3] = {
            {o->head, o->head_len}, {(uint8_t *)(uintptr_t)o->data, o->len}, {o->digest, o->digest_len}};

        for (int k = 0; k < 3; k++) {
            size_t drop = skip < parts[k].iov_len ? skip : parts[k].iov_len;

            skip -= drop;
            if (parts[k].iov_len > drop)
                iov[n++] = (struct iovec){(uint8_t *)parts[k].iov_base + drop, parts[k].iov_len - drop};
        }
    }
    return n;
}

static void transmit(struct conn *c)
{
    struct iovec iov[512];

    while (c->count) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)gather(c, iov, 512)};
        ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0)
            break;
        c->sent_of_first += (size_t)n;
        while (c->count) {
            struct out *o = &c->outs[c->first];
            size_t whole = (size_t)o->head_len + o->len + o->digest_len;

            if (c->sent_of_first < whole)
                break;
            c->sent_of_first -= whole;
            c->first = (c->first + 1) % OUTS;
            c->count--;
        }
    }
    watch(c, c->count > 0);
}

/* --- login --- */

static const char *value_of(const char *text, size_t n, const char *key)
{
    size_t len = strlen(key);

    for (const char *p = text; p < text + n; p += strlen(p) + 1)
        if (strncmp(p, key, len) == 0 && p[len] == '=')
            return p + len + 1;
    return "";
}

static void login(struct conn *c, const uint8_t *bhs, const char *text, size_t n)
{
    struct out *o = out_new(c, ISCSI_LOGIN_RESPONSE, bhs[1], get32(bhs + 16));
    bool header = strncmp(value_of(text, n, "HeaderDigest"), "CRC32C", 6) == 0;
    bool data = strncmp(value_of(text, n, "DataDigest"), "CRC32C", 6) == 0;
    int len;

    len = snprintf(
        (char *)o->text, sizeof o->text,
        "HeaderDigest=%s%cDataDigest=%s%cInitialR2T=Yes%cImmediateData=Yes%cMaxOutstandingR2T=1%c"
        "ErrorRecoveryLevel=0%cMaxRecvDataSegmentLength=%d%cFirstBurstLength=%d%cMaxBurstLength=16776192%c"
        "TargetPortalGroupTag=1%c",
        header ? "CRC32C" : "None", 0, data ? "CRC32C" : "None", 0, 0, 0, 0, 0, SEGMENT, 0, SEGMENT, 0, 0, 0);
    memcpy(o->head + 8, bhs + 8, 6);
    put16(o->head + 14, 1);
    c->exp_cmd_sn = get32(bhs + 24);
    out_finish(c, o, o->text, (uint32_t)len, true);
    o->len = (o->len + 3) & ~3u;
    c->header_digest = header;
    c->data_digest = data;
    c->full_feature = true;
}

/* --- commands --- */

static void answer(struct conn *c, uint32_t tag)
{
    out_finish(c, out_new(c, ISCSI_SCSI_RESPONSE, 0x80, tag), NULL, 0, true);
}

static void send_data(struct conn *c, uint32_t tag, const uint8_t *data, uint32_t left)
{
    uint32_t offset = 0, sn = 0;

    while (left) {
        uint32_t n = left < SEGMENT ? left : SEGMENT;
        struct out *o = out_new(c, ISCSI_DATA_IN, n == left ? 0x81 : 0, tag);

        put32(o->head + 20, no_tag);
        put32(o->head + 36, sn++);
        put32(o->head + 40, offset);
        out_finish(c, o, data + offset, n, n == left);
        offset += n;
        left -= n;
    }
}

static void send_short(struct conn *c, uint32_t tag, const uint8_t *data, uint32_t len, uint32_t wanted)
{
    struct out *o = out_new(c, ISCSI_DATA_IN, 0x81, tag);

    len = len < wanted ? len : wanted;
    memcpy(o->text, data, len);
    if (len < wanted) {
        o->head[1] |= 0x02;
        put32(o->head + 44, wanted - len);
    }
    put32(o->head + 20, no_tag);
    out_finish(c, o, o->text, len, true);
    o->len = (o->len + 3) & ~3u;
}

static void ask(struct conn *c, const uint8_t *bhs, uint32_t tag, uint32_t offset, uint32_t n)
{
    struct out *o = out_new(c, ISCSI_R2T, 0x80, tag);

    memcpy(o->head + 8, bhs + 8, 8);
    put32(o->head + 20, tag);
    put32(o->head + 36, 0);
    put32(o->head + 40, offset);
    put32(o->head + 44, n);
    out_finish(c, o, NULL, 0, false);
    put32(o->head + 24, c->stat_sn);
}

/* Where the data of this PDU goes; NULL: it has none. */
static uint8_t *write_command(struct conn *c, const uint8_t *bhs, uint64_t lba, uint32_t immediate)
{
    uint32_t tag = get32(bhs + 16), wanted = get32(bhs + 20);

    if (tag >= TAGS)
        die("task %u", tag);
    c->tasks[tag].at = disk + lba * BLOCK;
    c->tasks[tag].left = wanted - immediate;
    if (wanted > immediate)
        ask(c, bhs, tag, immediate, wanted - immediate);
    else
        c->ending = tag;
    return c->tasks[tag].at;
}

static uint8_t *command(struct conn *c, const uint8_t *bhs, uint32_t len)
{
    static const uint8_t inquiry[36] = {0, 0, 6, 2, 31, 0, 0, 2, 'I', 'S', 'T', 'H', 'M', 'U', 'S', ' '};
    const uint8_t *cdb = bhs + 32;
    bool sixteen = cdb[0] >= 0x80;
    uint64_t lba = sixteen ? get64(cdb + 2) : get32(cdb + 2), n = sixteen ? get32(cdb + 10) : get16(cdb + 7);
    uint32_t tag = get32(bhs + 16), wanted = get32(bhs + 20);
    uint8_t capacity[8];

    if (!(bhs[0] & 0x40))
        c->exp_cmd_sn++;
    switch (cdb[0]) {
    case 0x00:
        answer(c, tag);
        return NULL;
    case 0x12:
        send_short(c, tag, inquiry, sizeof inquiry, wanted);
        return NULL;
    case 0x25:
        put32(capacity, (uint32_t)(blocks - 1));
        put32(capacity + 4, BLOCK);
        send_short(c, tag, capacity, sizeof capacity, wanted);
        return NULL;
    case 0x28:
    case 0x88:
    case 0x2a:
    case 0x8a:
        if (lba + n > blocks || n * BLOCK != wanted)
            die("%u blocks at %llu, %u bytes", (unsigned)n, (unsigned long long)lba, wanted);
        if (cdb[0] == 0x2a || cdb[0] == 0x8a)
            return write_command(c, bhs, lba, len);
        send_data(c, tag, disk + lba * BLOCK, wanted);
        return NULL;
    default:
        die("operation code %02x", cdb[0]);
    }
}

static uint8_t *data_out(struct conn *c, const uint8_t *bhs, uint32_t len)
{
    uint32_t tag = get32(bhs + 16);

    if (tag >= TAGS || c->tasks[tag].left < len)
        die("Data-Out for task %u", tag);
    c->tasks[tag].left -= len;
    if (c->tasks[tag].left == 0)
        c->ending = tag;
    return c->tasks[tag].at + get32(bhs + 40);
}

/* --- receiving --- */

/* What the data that follows is for, and how much comes after it that is not wanted. */
static void take(struct conn *c, const uint8_t *bhs)
{
    uint32_t len = get24(bhs + 5);
    uint8_t *to = NULL;

    c->ending = no_tag;
    switch (bhs[0] & 0x3f) {
    case ISCSI_SCSI_COMMAND:
        to = command(c, bhs, len);
        break;
    case ISCSI_DATA_OUT:
        to = data_out(c, bhs, len);
        break;
    case ISCSI_NOP_OUT:
        break;
    default:
        die("opcode %02x", bhs[0]);
    }
    c->rx_size = to && len >= LARGE ? RX_BETWEEN : RX;
    c->direct = to;
    c->direct_left = to ? len : 0;
    c->skip = ((len + 3) & ~3u) - c->direct_left + (c->data_digest && len ? 4 : 0);
}

/* The data of the PDU has come as far as n bytes at p: how many of them were its. */
static size_t fed(struct conn *c, const uint8_t *p, size_t n)
{
    size_t take = n < c->direct_left ? n : c->direct_left, drop;

    if (take && p)
        memcpy(c->direct, p, take);
    c->direct += take;
    c->direct_left -= take;
    drop = n - take < c->skip ? n - take : c->skip;
    c->skip -= drop;
    if (c->direct_left == 0 && c->skip == 0 && c->ending != no_tag) {
        answer(c, c->ending);
        c->ending = no_tag;
    }
    return take + drop;
}

/* False: it has to wait, for more or for room to answer. */
static bool parse_one(struct conn *c, size_t *at)
{
    size_t left, header = BHS_BYTES + (c->full_feature && c->header_digest ? 4u : 0);
    uint8_t *p;

    *at += fed(c, c->rx + *at, c->have - *at);
    left = c->have - *at;
    p = c->rx + *at;
    if (c->direct_left || c->skip || left < header || c->count > OUTS - OUTS_OF_COMMAND)
        return false;
    if (!c->full_feature) {
        uint32_t len = get24(p + 5);

        if (left < BHS_BYTES + ((len + 3) & ~3u))
            return false;
        login(c, p, (char *)p + BHS_BYTES, len);
        *at += BHS_BYTES + ((len + 3) & ~3u);
        return true;
    }
    if ((p[0] & 0x3f) == ISCSI_LOGOUT_REQUEST) {
        c->exp_cmd_sn += !(p[0] & 0x40);
        out_finish(c, out_new(c, ISCSI_LOGOUT_RESPONSE, 0x80, get32(p + 16)), NULL, 0, true);
    } else {
        take(c, p);
    }
    *at += header;
    return true;
}

static void parse(struct conn *c)
{
    size_t at = 0;

    while (parse_one(c, &at))
        ;
    memmove(c->rx, c->rx + at, c->have - at);
    c->have -= at;
}

static bool receive(struct conn *c)
{
    struct iovec iov[2] = {{c->direct, c->have ? 0 : c->direct_left},
                           {c->rx + c->have, (c->rx_size > c->have ? c->rx_size : RX) - c->have}};
    ssize_t n = readv(c->fd, iov, 2);
    size_t direct;

    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    direct = (size_t)n < iov[0].iov_len ? (size_t)n : iov[0].iov_len;
    if (direct)
        fed(c, NULL, direct);
    c->have += (size_t)n - direct;
    parse(c);
    return true;
}

static void conn_free(struct conn *c)
{
    close(c->fd);
    free(c->rx);
    free(c->outs);
    free(c);
}

static void conn_new(int fd)
{
    struct conn *c = xcalloc(1, sizeof *c);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = fd;
    c->ending = no_tag;
    c->stat_sn = 1;
    c->rx_size = RX;
    c->rx = xmalloc(RX);
    c->outs = xcalloc(OUTS, sizeof *c->outs);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

static void serve(struct conn *c, uint32_t events)
{
    if (events & EPOLLOUT) {
        transmit(c);
        parse(c); /* what had no room for its answer */
    }
    if ((events & ~(uint32_t)EPOLLOUT) && c->have < RX && !receive(c)) {
        conn_free(c);
        return;
    }
    transmit(c);
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    struct epoll_event events[CONNS], e = {.events = EPOLLIN};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    if (argc != 4 || inet_pton(AF_INET, argv[1], &a.sin_addr) != 1)
        die("usage: floor-target ADDRESS PORT MIB");
    a.sin_port = htons((uint16_t)atoi(argv[2]));
    blocks = strtoull(argv[3], NULL, 10) * 2048;
    disk = xmalloc(blocks * BLOCK);
    memset(disk, 0x5a, blocks * BLOCK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, CONNS))
        die("%s:%s: %s", argv[1], argv[2], strerror(errno));
    epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll, events, CONNS, -1);

        for (int i = 0; i < n; i++) {
            struct sockaddr_storage from;
            socklen_t from_len = sizeof from;
            int fd;

            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else if ((fd = accept4(listener, (struct sockaddr *)&from, &from_len,
                                   SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
                conn_new(fd);
        }
    }
}
