/* tests/unit/target_fixture.h - a real target on two loops over volumes in memory, and an initiator that
 * says exactly what a test wants, right or wrong.
 *
 * The catalog and the volumes are the fixture's own (it defines what target/ calls of cache/), so that an
 * I/O can be kept in the volume for as long as a test likes.
 */
#ifndef ISTHMUS_TARGET_FIXTURE_H
#define ISTHMUS_TARGET_FIXTURE_H

#include "check.h"
#include "crc32c.h"
#include "iscsi.h"
#include "log.h"
#include "mem.h"
#include "target.h"
#include "wire.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

enum { FIX_SECTORS = 65536, FIX_VMS = 2, FIX_PARKED = 256 };
#define FIX_INITIATOR "InitiatorName=iqn.2026-11.test:initiator"

struct volume {
    struct loop *loop;
    uint8_t *bytes;
    atomic_bool stalled;
    atomic_uint nparked, reads, writes, forced, flushes, held; /* held: reads not released yet */
    struct io *parked[FIX_PARKED];
    struct task resume, settle;
    atomic_uint settled;
    uint32_t block_bytes;
};

static struct fixture {
    struct loop *main, *loops[2];
    struct target *target;
    struct vm vms[FIX_VMS];
    struct volume volumes[FIX_VMS];
    uint16_t port;
    atomic_uint stopped;
} fix;

static struct journal *fix_journal; /* before fix_start: where reservations are kept */

/* --- what target/ asks of cache/ --- */

struct vm *vms_find_iqn(struct vms *vms, const char *iqn)
{
    (void)vms;
    for (int i = 0; i < FIX_VMS; i++)
        if (!strcmp(fix.vms[i].spec.iqn, iqn)) {
            atomic_fetch_add(&fix.vms[i].refs, 1);
            return &fix.vms[i];
        }
    return NULL;
}

void vms_each_iqn(struct vms *vms, void (*each)(void *arg, const char *iqn), void *arg)
{
    (void)vms;
    for (int i = 0; i < FIX_VMS; i++)
        each(arg, fix.vms[i].spec.iqn);
}

void vm_unref(struct vm *vm)
{
    CHECK(atomic_fetch_sub(&vm->refs, 1) > 0);
}

static inline void fix_io(struct volume *v, struct io *io)
{
    uint8_t *at = v->bytes + io->lba * 512;
    size_t n = (size_t)io->nsectors * 512;

    CHECK(io->op == IO_FLUSH || io->lba + io->nsectors <= FIX_SECTORS);
    io->status = 0;
    if ((io->op == IO_WRITE || io->op == IO_ZERO) && io->fua)
        atomic_fetch_add(&v->forced, 1);
    if (io->op == IO_WRITE)
        memcpy(at, io->data->data + io->data_offset, n);
    else if (io->op == IO_ZERO)
        memset(at, 0, n);
    else if (io->op == IO_READ)
        atomic_fetch_add(&v->held, 1);
    atomic_fetch_add(io->op == IO_READ ? &v->reads : io->op == IO_FLUSH ? &v->flushes : &v->writes, 1);
}

static inline void fix_resume(struct task *t)
{
    struct volume *v = container_of(t, struct volume, resume);
    unsigned n = atomic_exchange(&v->nparked, 0);

    for (unsigned i = 0; i < n; i++) {
        fix_io(v, v->parked[i]);
        v->parked[i]->done(v->parked[i]);
    }
}

static inline void fix_settle(struct task *t)
{
    atomic_store(&container_of(t, struct volume, settle)->settled, 1);
}

bool volume_submit(struct volume *v, struct io *io)
{
    unsigned n = atomic_load(&v->nparked);

    io->volume = v;
    if (!atomic_load(&v->stalled)) {
        fix_io(v, io);
        return true;
    }
    CHECK(n < FIX_PARKED);
    v->parked[n] = io;
    atomic_store(&v->nparked, n + 1);
    return false;
}

int io_iov(const struct io *io, uint32_t from, uint32_t n, struct iovec *iov, int max)
{
    uint8_t *at = io->volume->bytes + io->lba * 512 + from;
    int i = 0;

    for (; n; i++) { /* in blocks, as the cache does */
        uint32_t piece = 4096 - (uint32_t)((io->lba * 512 + from) % 4096);

        CHECK(i < max);
        piece = piece < n ? piece : n;
        iov[i] = (struct iovec){at, piece};
        at += piece;
        from += piece;
        n -= piece;
    }
    return i;
}

void io_release(struct io *io)
{
    CHECK(atomic_fetch_sub(&io->volume->held, 1) > 0);
}

bool volume_mapped(struct volume *v, uint64_t lba, uint64_t nsectors, uint64_t *same)
{
    static const uint8_t zeros[512];
    bool mapped = memcmp(v->bytes + lba * 512, zeros, 512) != 0;

    for (*same = 1; *same < nsectors; ++*same)
        if ((memcmp(v->bytes + (lba + *same) * 512, zeros, 512) != 0) != mapped)
            break;
    return mapped;
}

uint64_t volume_sectors(const struct volume *v)
{
    (void)v;
    return FIX_SECTORS;
}

uint32_t volume_block_bytes(const struct volume *v)
{
    return v->block_bytes;
}

const uint8_t *volume_naa(const struct volume *v)
{
    (void)v;
    return (const uint8_t *)"\x30\1\2\3\4\5\6\7";
}

const char *volume_serial(const struct volume *v)
{
    (void)v;
    return "0123456789abcdef";
}

/* --- start and stop --- */

static inline int fix_start(void **state)
{
    const char *portal = "127.0.0.1:0";
    struct target_conf conf = {
        .loops = fix.loops, .nloops = 2, .portals = &portal, .nportals = 1, .login_seconds = 2};
    struct why why;

    (void)state;
    memset(&fix, 0, sizeof fix);
    log_set_level("error");
    fix.main = loop_new("main");
    for (int i = 0; i < 2; i++)
        fix.loops[i] = loop_new(i ? "loop-1" : "loop-0");
    for (int i = 0; i < FIX_VMS; i++) {
        struct vm *vm = &fix.vms[i];
        struct volume *v = &fix.volumes[i];

        snprintf(vm->spec.name, sizeof vm->spec.name, "vm%d", i);
        snprintf(vm->spec.iqn, sizeof vm->spec.iqn, "iqn.2026-11.test:vm%d", i);
        vm->spec.ndisks = 1;
        vm->loop = v->loop = fix.loops[i];
        vm->volumes[0] = v;
        v->bytes = xcalloc(FIX_SECTORS, 512);
        v->block_bytes = 512;
        v->resume.run = fix_resume;
        v->settle.run = fix_settle;
    }
    conf.main = fix.main;
    conf.journal = fix_journal;
    if (target_start(&fix.target, &conf, &why))
        fail_msg("%s", why.text);
    fix.port = target_port(fix.target, 0);
    loop_start(fix.main);
    loop_start(fix.loops[0]);
    loop_start(fix.loops[1]);
    return 0;
}

static inline void fix_stopped(void *arg)
{
    (void)arg;
    atomic_store(&fix.stopped, 1);
}

static inline void fix_stop_run(struct task *t)
{
    (void)t;
    target_stop(fix.target, fix_stopped, NULL);
}

static inline void fix_wait(atomic_uint *what, unsigned value)
{
    for (int i = 0; i < 100000 && atomic_load(what) != value; i++)
        usleep(i < 1000 ? 10 : 100);
    assert_int_equal(atomic_load(what), value);
}

/* The disk's bytes, with everything behind us that its loop did until now. */
static inline uint8_t *disk(int vm)
{
    atomic_store(&fix.volumes[vm].settled, 0);
    loop_post(fix.loops[vm], &fix.volumes[vm].settle);
    fix_wait(&fix.volumes[vm].settled, 1);
    return fix.volumes[vm].bytes;
}

static inline void fix_unstall(int vm)
{
    atomic_store(&fix.volumes[vm].stalled, false);
    loop_post(fix.loops[vm], &fix.volumes[vm].resume);
}

static inline int fix_stop(void **state)
{
    static struct task stop = {.run = fix_stop_run};

    (void)state;
    loop_post(fix.main, &stop);
    fix_wait(&fix.stopped, 1);
    for (int i = 0; i < FIX_VMS; i++) {
        fix_wait(&fix.vms[i].refs, 0);
        fix_wait(&fix.volumes[i].held, 0);
    }
    for (int i = 0; i < 2; i++) {
        loop_stop(fix.loops[i]);
        loop_join(fix.loops[i]);
        loop_free(&fix.loops[i]);
    }
    loop_stop(fix.main);
    loop_join(fix.main);
    loop_free(&fix.main);
    for (int i = 0; i < FIX_VMS; i++)
        free(fix.volumes[i].bytes);
    return 0;
}

/* --- the initiator --- */

struct client {
    int fd;
    uint32_t cmd_sn, itt;
    bool header_digest, data_digest;
    uint8_t isid[6];
    uint8_t bhs[48]; /* the PDU that came last */
    uint8_t data[1 << 20];
    uint32_t len;
};

static inline struct client *client_new(uint8_t isid)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(fix.port)};
    struct client *c = xcalloc(1, sizeof *c);
    struct timeval tv = {.tv_sec = 10};

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->cmd_sn = 7;
    c->itt = 1;
    c->isid[0] = 0x80;
    c->isid[5] = isid;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    assert_int_equal(connect(c->fd, (struct sockaddr *)&in, sizeof in), 0);
    return c;
}

static inline void client_free(struct client **c)
{
    close((*c)->fd);
    free(*c);
    *c = NULL;
}

static inline void client_write(struct client *c, const void *p, size_t n)
{
    assert_int_equal(send(c->fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* One PDU as it goes over the wire, appended to out; returns its length. */
static inline size_t pdu_put(struct client *c, uint8_t *out, uint8_t bhs[48], const void *data, uint32_t len)
{
    size_t n = 48;
    uint32_t crc;

    put24(bhs + AT_DATA_SEGMENT_LENGTH, len);
    memcpy(out, bhs, 48);
    if (c->header_digest) {
        crc = crc32c_table(0, bhs, 48);
        memcpy(out + n, &crc, 4);
        n += 4;
    }
    if (!len)
        return n;
    memcpy(out + n, data, len);
    memset(out + n + len, 0, -len & 3);
    if (c->data_digest) {
        crc = crc32c_table(0, out + n, len + (-len & 3));
        memcpy(out + n + len + (-len & 3), &crc, 4);
        n += 4;
    }
    return n + len + (-len & 3);
}

static inline void pdu_send(struct client *c, uint8_t bhs[48], const void *data, uint32_t len)
{
    uint8_t *out = xmalloc(64 + len + 8);

    client_write(c, out, pdu_put(c, out, bhs, data, len));
    free(out);
}

static inline bool client_read(struct client *c, void *p, size_t n)
{
    return n == 0 || recv(c->fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

/* The next PDU into bhs and data; its opcode, or -1 when the target has closed the connection. */
static inline int pdu_recv(struct client *c)
{
    uint32_t crc, pad;

    if (!client_read(c, c->bhs, 48))
        return -1;
    if (c->header_digest) {
        assert_true(client_read(c, &crc, 4));
        assert_int_equal(crc, crc32c_table(0, c->bhs, 48));
    }
    c->len = get24(c->bhs + AT_DATA_SEGMENT_LENGTH);
    assert_true(c->len <= sizeof c->data - 8);
    pad = -c->len & 3;
    assert_true(client_read(c, c->data, c->len + pad));
    if (c->data_digest && c->len) {
        assert_true(client_read(c, &crc, 4));
        assert_int_equal(crc, crc32c_table(0, c->data, c->len + pad));
    }
    return c->bhs[0] & ISCSI_OPCODE_MASK;
}

static inline void login_header(struct client *c, uint8_t bhs[48], uint8_t flags)
{
    memset(bhs, 0, 48);
    bhs[0] = ISCSI_LOGIN_REQUEST | ISCSI_IMMEDIATE;
    bhs[1] = flags;
    memcpy(bhs + AT_ISID, c->isid, 6);
    put32(bhs + AT_CMD_SN, c->cmd_sn);
    put16(bhs + AT_CID, 1);
}

/* Text of pairs, each ended by '|' in the source instead of NUL. */
static inline uint32_t pairs(char *out, const char *text)
{
    uint32_t n = (uint32_t)strlen(text);

    for (uint32_t i = 0; i < n; i++)
        out[i] = text[i] == '|' ? 0 : text[i];
    return n;
}

static inline void login_send(struct client *c, uint8_t flags, const char *text)
{
    CLEANUP_FREE char *buf = xmalloc(strlen(text) + 1);
    uint8_t bhs[48];

    login_header(c, bhs, flags);
    pdu_send(c, bhs, buf, pairs(buf, text));
}

/* One request and its answer: the status, or -1 if the connection was closed. */
static inline int login(struct client *c, uint8_t flags, const char *text)
{
    login_send(c, flags, text);
    if (pdu_recv(c) < 0)
        return -1;
    assert_int_equal(c->bhs[0], ISCSI_LOGIN_RESPONSE);
    return get16(c->bhs + AT_LOGIN_STATUS);
}

/* The value of a key in the answer, or "". */
static inline const char *answered(struct client *c, const char *key)
{
    size_t n = strlen(key);

    c->data[c->len] = 0;
    for (char *p = (char *)c->data; p < (char *)c->data + c->len; p += strlen(p) + 1)
        if (!strncmp(p, key, n) && p[n] == '=')
            return p + n + 1;
    return "";
}

enum { T_OP_TO_FULL = 0x80 | 1 << 2 | 3, T_SEC_TO_OP = 0x80 | 1, T_SEC_TO_FULL = 0x80 | 3 };

/* A session with vm0 or vm1, straight through the operational stage. more: further keys, each ended by '|'.
 */
static inline struct client *session_new(int vm, uint8_t isid, const char *more)
{
    struct client *c = client_new(isid);
    char text[1000];

    snprintf(text, sizeof text, FIX_INITIATOR "|TargetName=iqn.2026-11.test:vm%d|SessionType=Normal|%s", vm,
             more);
    assert_int_equal(login(c, T_OP_TO_FULL, text), 0);
    c->header_digest = strstr(more, "HeaderDigest=CRC32C") != NULL;
    c->data_digest = strstr(more, "DataDigest=CRC32C") != NULL;
    return c;
}

static inline void command_header(struct client *c, uint8_t bhs[48], uint8_t flags, uint32_t edtl,
                                  const void *cdb, size_t n)
{
    memset(bhs, 0, 48);
    bhs[0] = ISCSI_SCSI_COMMAND;
    bhs[1] = flags | 1; /* SIMPLE */
    put32(bhs + AT_ITT, c->itt++);
    put32(bhs + AT_EDTL, edtl);
    put32(bhs + AT_CMD_SN, c->cmd_sn++);
    memcpy(bhs + AT_CDB, cdb, n);
}

enum { F = 0x80, R = 0x40, W = 0x20 };

static inline void command_send(struct client *c, uint8_t flags, uint32_t edtl, const void *cdb, size_t n,
                                const void *data, uint32_t len)
{
    uint8_t bhs[48];

    command_header(c, bhs, flags, edtl, cdb, n);
    pdu_send(c, bhs, data, len);
}

static inline const uint8_t *rw10(uint8_t opcode, uint32_t lba, uint16_t count)
{
    static uint8_t cdb[16];

    memset(cdb, 0, sizeof cdb);
    cdb[0] = opcode;
    put32(cdb + 2, lba);
    put16(cdb + 7, count);
    return cdb;
}

static inline void data_out(struct client *c, uint32_t itt, uint32_t ttt, uint32_t sn, uint32_t offset,
                            bool final, const void *data, uint32_t len)
{
    uint8_t bhs[48] = {ISCSI_DATA_OUT, final ? 0x80 : 0};

    put32(bhs + AT_ITT, itt);
    put32(bhs + AT_TTT, ttt);
    put32(bhs + AT_DATA_SN, sn);
    put32(bhs + AT_BUFFER_OFFSET, offset);
    pdu_send(c, bhs, data, len);
}

/* The answer of a command: SCSI Response, or Data-In PDUs gathered in out (out_len: how many bytes) whose
 * last one has the status. Returns the status; sense 0xKKAACC or 0, and the residual (negative: underflow).
 */
struct answer {
    int status;
    uint32_t sense, out_len;
    int64_t residual;
    uint32_t itt;
};

static inline struct answer answer_recv(struct client *c, uint8_t *out)
{
    struct answer a = {0};

    for (;;) {
        int opcode = pdu_recv(c);

        if (opcode == ISCSI_DATA_IN) {
            if (out)
                memcpy(out + get32(c->bhs + AT_BUFFER_OFFSET), c->data, c->len);
            a.out_len += c->len;
            if (!(c->bhs[1] & ISCSI_DATA_STATUS))
                continue;
        } else if (opcode == ISCSI_SCSI_RESPONSE) {
            if (c->len >= 20)
                a.sense = (uint32_t)(c->data[4] & 15) << 16 | (uint32_t)c->data[14] << 8 | c->data[15];
        } else {
            fail_msg("PDU %02x instead of an answer", opcode);
        }
        a.status = c->bhs[AT_STATUS];
        a.itt = get32(c->bhs + AT_ITT);
        if (c->bhs[1] & ISCSI_RESIDUAL_OVERFLOW)
            a.residual = get32(c->bhs + AT_RESIDUAL);
        if (c->bhs[1] & ISCSI_RESIDUAL_UNDERFLOW)
            a.residual = -(int64_t)get32(c->bhs + AT_RESIDUAL);
        return a;
    }
}

#endif
