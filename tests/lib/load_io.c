/* tests/lib/load_io.c - the load of a session: nothing waits here.
 */
#include "load_session_impl.h"

#include "crc32c.h"
#include "wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

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
    p->head_len = s->header_digest ? load_put_digest(p->head) : BHS;
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
    uint8_t *data = load_pool + (next_random(s) >> 8) % ((POOL - s->load->io_bytes) / 512) * 512;

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
    load_put_command(s, p->head, i, load->io_bytes, cdb);
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
