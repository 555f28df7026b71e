/* tests/lib/raw.c - an initiator in a test's hands (raw.h): blocking sockets, one PDU at a time. Requests and
 * commands are raw_request.c's. Not here: CHAP, recovery.
 */
#include "raw.h"

#include "crc32c.h"
#include "mem.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_MS = 10000, PUT_MAX = BHS_BYTES + ISCSI_AHS_MAX + 16 };

struct raw *raw_over(int fd, uint8_t isid)
{
    struct raw *c = xcalloc(1, sizeof *c);
    int one = 1;

    c->fd = fd;
    c->timeout_ms = TIMEOUT_MS;
    c->cmd_sn = 7;
    c->itt = c->cid = 1;
    c->isid[0] = 0x80; /* random format */
    c->isid[5] = isid;
    c->segment = ISCSI_LOGIN_SEGMENT;
    c->first_burst = 65536;
    c->max_burst = 262144;
    c->immediate = c->initial_r2t = true;
    c->data = xmalloc(RAW_DATA_MAX + 8);
    c->data[0] = 0;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return c;
}

struct raw *raw_connect(const char *address, uint16_t port, uint8_t isid)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (inet_pton(AF_INET, address, &in.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&in, sizeof in) != 0) {
        close(fd);
        return NULL;
    }
    return raw_over(fd, isid);
}

void raw_free(struct raw **pc)
{
    struct raw *c = *pc;

    if (!c)
        return;
    *pc = NULL;
    close(c->fd);
    free(c->data);
    free(c);
}

void raw_reset(struct raw **pc)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    setsockopt((*pc)->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    raw_free(pc);
}

/* --- sending --- */

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void patience(const struct raw *c, int option, int64_t ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    setsockopt(c->fd, SOL_SOCKET, option, &tv, sizeof tv);
}

bool raw_write(struct raw *c, const void *bytes, size_t n)
{
    patience(c, SO_SNDTIMEO, c->timeout_ms);
    for (const uint8_t *p = bytes; n;) {
        ssize_t done = send(c->fd, p, n, MSG_NOSIGNAL);

        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

static size_t put_digest(uint8_t *out, uint32_t crc)
{
    crc = htole32(crc);
    memcpy(out, &crc, 4);
    return 4;
}

size_t raw_put(const struct raw *c, struct raw_pdu *p, uint8_t *out)
{
    uint32_t padded = p->len + (-p->len & 3);
    size_t n = BHS_BYTES + p->ahs_len;

    if (!p->lengths_as_is) {
        p->bhs[AT_TOTAL_AHS_LENGTH] = (uint8_t)(p->ahs_len / 4);
        put24(p->bhs + AT_DATA_SEGMENT_LENGTH, p->len);
    }
    memcpy(out, p->bhs, BHS_BYTES);
    if (p->ahs_len)
        memcpy(out + BHS_BYTES, p->ahs, p->ahs_len);
    if (c->header_digest)
        n += put_digest(out + n, crc32c_table(0, out, n) ^ p->header_digest_xor);
    if (!p->len)
        return n;
    memcpy(out + n, p->data, p->len);
    memset(out + n + p->len, 0, padded - p->len);
    n += padded;
    if (c->data_digest)
        n += put_digest(out + n, crc32c_table(0, out + n - padded, padded) ^ p->data_digest_xor);
    return n;
}

bool raw_send(struct raw *c, struct raw_pdu *p)
{
    uint8_t *out = xmalloc(PUT_MAX + p->len);
    bool sent = raw_write(c, out, raw_put(c, p, out));

    free(out);
    return sent;
}

/* --- receiving --- */

static int read_whole(struct raw *c, void *bytes, size_t n)
{
    for (uint8_t *p = bytes; n;) {
        ssize_t done = recv(c->fd, p, n, MSG_WAITALL);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 && errno == EAGAIN ? RAW_SILENT : RAW_CLOSED;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

static int read_digest(struct raw *c, const void *of, uint32_t n)
{
    uint32_t crc;
    int r = read_whole(c, &crc, 4);

    return r ? r : le32toh(crc) == crc32c_table(0, of, n) ? 0 : RAW_GARBAGE;
}

static int read_pdu(struct raw *c)
{
    uint32_t padded;
    int r = read_whole(c, c->bhs, BHS_BYTES);

    c->len = 0;
    if (!r && c->header_digest)
        r = read_digest(c, c->bhs, BHS_BYTES);
    if (r)
        return r;
    c->len = get24(c->bhs + AT_DATA_SEGMENT_LENGTH);
    padded = c->len + (-c->len & 3);
    if (c->bhs[AT_TOTAL_AHS_LENGTH] || padded > RAW_DATA_MAX)
        return RAW_GARBAGE;
    r = read_whole(c, c->data, padded);
    if (!r && c->data_digest && c->len)
        r = read_digest(c, c->data, padded);
    c->data[c->len] = 0;
    return r;
}

/* The numbers of the PDU in bhs: every one of the target's has ExpCmdSN and MaxCmdSN. */
static void take_numbers(struct raw *c, int opcode)
{
    uint32_t max = get32(c->bhs + AT_MAX_CMD_SN);

    c->exp_cmd_sn = get32(c->bhs + AT_EXP_CMD_SN);
    if (opcode == ISCSI_LOGIN_RESPONSE || (int32_t)(max - c->max_cmd_sn) > 0)
        c->max_cmd_sn = max;
    if (opcode == ISCSI_R2T || (opcode == ISCSI_DATA_IN && !(c->bhs[AT_FLAGS] & ISCSI_DATA_STATUS)) ||
        (opcode == ISCSI_NOP_IN && get32(c->bhs + AT_ITT) == ISCSI_TAG_NONE))
        return; /* its StatSN is shown at most */
    c->exp_stat_sn = get32(c->bhs + AT_STAT_SN) + 1;
}

static void answer_ping(struct raw *c)
{
    struct raw_pdu p = {0};

    raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);
    memcpy(p.bhs + AT_LUN, c->bhs + AT_LUN, 8);
    put32(p.bhs + AT_ITT, ISCSI_TAG_NONE);
    memcpy(p.bhs + AT_TTT, c->bhs + AT_TTT, 4);
    raw_send(c, &p);
}

int raw_recv(struct raw *c)
{
    int64_t end = now_ms() + c->timeout_ms;

    for (;;) { /* pings do not lengthen the patience */
        int64_t left = end - now_ms();
        int r, opcode;

        patience(c, SO_RCVTIMEO, left > 0 ? left : 1);
        r = read_pdu(c);
        opcode = c->bhs[0] & ISCSI_OPCODE_MASK;
        if (r)
            return r;
        if (c->watch)
            c->watch(c);
        take_numbers(c, opcode);
        if (c->show_pings || opcode != ISCSI_NOP_IN || get32(c->bhs + AT_TTT) == ISCSI_TAG_NONE)
            return opcode;
        answer_ping(c);
    }
}

/* --- login and text --- */

void raw_login_header(const struct raw *c, struct raw_pdu *p, uint8_t flags)
{
    memset(p, 0, sizeof *p);
    p->bhs[0] = ISCSI_LOGIN_REQUEST | ISCSI_IMMEDIATE;
    p->bhs[AT_FLAGS] = flags;
    memcpy(p->bhs + AT_ISID, c->isid, 6);
    put16(p->bhs + AT_TSIH, c->tsih);
    put16(p->bhs + AT_CID, c->cid);
    put32(p->bhs + AT_CMD_SN, c->cmd_sn);
    put32(p->bhs + AT_EXP_STAT_SN, c->exp_stat_sn);
}

uint32_t raw_text(char *out, const char *text)
{
    uint32_t n = (uint32_t)strlen(text);

    for (uint32_t i = 0; i < n; i++)
        out[i] = text[i] == '|' ? 0 : text[i];
    return n;
}

const char *raw_value(const struct raw *c, const char *key)
{
    const char *p = (const char *)c->data, *end = p + c->len;
    size_t n = strlen(key);

    for (; p < end; p += strlen(p) + 1)
        if (!strncmp(p, key, n) && p[n] == '=')
            return p + n + 1;
    return "";
}

static void take_number(const struct raw *c, const char *key, uint32_t *to)
{
    const char *value = raw_value(c, key);

    if (*value)
        *to = (uint32_t)strtoul(value, NULL, 0);
}

static void take_boolean(const struct raw *c, const char *key, bool *to)
{
    const char *value = raw_value(c, key);

    if (*value)
        *to = !strcmp(value, "Yes");
}

/* Digests are of the response that has them; a login of several steps calls for care. */
static void take_keys(struct raw *c)
{
    take_number(c, "MaxRecvDataSegmentLength", &c->segment);
    take_number(c, "FirstBurstLength", &c->first_burst);
    take_number(c, "MaxBurstLength", &c->max_burst);
    take_boolean(c, "ImmediateData", &c->immediate);
    take_boolean(c, "InitialR2T", &c->initial_r2t);
    if (c->first_burst > c->max_burst)
        c->first_burst = c->max_burst;
    if ((c->bhs[AT_FLAGS] & 0x83) == 0x83) { /* full feature phase */
        c->tsih = get16(c->bhs + AT_TSIH);
        c->header_digest = !strcmp(raw_value(c, "HeaderDigest"), "CRC32C");
        c->data_digest = !strcmp(raw_value(c, "DataDigest"), "CRC32C");
    }
}

int raw_login(struct raw *c, uint8_t flags, const char *text)
{
    char *buf = xmalloc(strlen(text) + 1);
    struct raw_pdu p;
    int opcode, status;

    raw_login_header(c, &p, flags);
    p.data = buf;
    p.len = raw_text(buf, text);
    raw_send(c, &p);
    free(buf);
    opcode = raw_recv(c);
    if (opcode < 0)
        return opcode;
    if (opcode != ISCSI_LOGIN_RESPONSE)
        return RAW_GARBAGE;
    status = get16(c->bhs + AT_LOGIN_STATUS);
    if (!status)
        take_keys(c);
    return status;
}

struct raw *raw_session(const char *address, uint16_t port, const char *iqn, uint8_t isid, const char *more)
{
    struct raw *c = raw_connect(address, port, isid);
    char text[2000];

    if (!c)
        return NULL;
    snprintf(text, sizeof text,
             "InitiatorName=iqn.2026-11.org.isthmus.test:raw|TargetName=%s|SessionType=Normal|%s", iqn, more);
    if (raw_login(c, RAW_TO_FULL, text) != LOGIN_SUCCESS || (c->bhs[AT_FLAGS] & 0x83) != 0x83)
        raw_free(&c);
    return c;
}
