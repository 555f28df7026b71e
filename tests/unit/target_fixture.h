/* tests/unit/target_fixture.h - a real target on two loops over volumes in memory, and an initiator that
 * says exactly what a test wants, right or wrong.
 *
 * The catalog and the volumes are fake_volumes.h's, so that an I/O can be kept in the volume for as long as a
 * test likes.
 */
#ifndef ISTHMUS_TARGET_FIXTURE_H
#define ISTHMUS_TARGET_FIXTURE_H

#include "check.h"
#include "crc32c.h"
#include "fake_volumes.h"
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

enum { FIX_SECTORS = 65536, FIX_VMS = 2 };
#define FIX_INITIATOR "InitiatorName=iqn.2026-11.test:initiator"

static struct fixture {
    struct loop *main, *loops[2];
    struct target *target;
    struct vm vms[FIX_VMS];
    struct volume volumes[FIX_VMS];
    struct fix_volume { /* posted to its loop */
        struct task resume, settle;
        atomic_uint settled;
        struct volume *volume;
    } posts[FIX_VMS];
    uint16_t port;
    atomic_uint stopped;
} fix;

static struct target_conf fix_conf; /* before fix_start: what a test wants to be otherwise */

/* --- start and stop --- */

static inline void fix_resume(struct task *t)
{
    fake_volume_turn(container_of(t, struct fix_volume, resume)->volume);
}

static inline void fix_settle(struct task *t)
{
    atomic_store(&container_of(t, struct fix_volume, settle)->settled, 1);
}

static inline int fix_start(void **state)
{
    const char *portal = "127.0.0.1:0";
    struct target_conf conf = fix_conf;
    struct why why;

    (void)state;
    memset(&fix, 0, sizeof fix);
    log_set_level("error");
    fix.main = loop_new("main");
    for (int i = 0; i < 2; i++)
        fix.loops[i] = loop_new(i ? "loop-1" : "loop-0");
    fake_vms(fix.vms, FIX_VMS);
    for (int i = 0; i < FIX_VMS; i++) {
        struct vm *vm = &fix.vms[i];

        vm->spec.ndisks = 1;
        vm->loop = fix.loops[i];
        vm->volumes[0] = &fix.volumes[i];
        fake_volume_init(&fix.volumes[i], FIX_SECTORS, 512);
        fix.posts[i].volume = &fix.volumes[i];
        fix.posts[i].resume.run = fix_resume;
        fix.posts[i].settle.run = fix_settle;
    }
    conf.main = fix.main;
    conf.loops = fix.loops;
    conf.nloops = 2;
    conf.login_seconds = 2;
    if (!conf.nportals) {
        conf.portals = &portal;
        conf.nportals = 1;
    }
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
    atomic_store(&fix.posts[vm].settled, 0);
    loop_post(fix.loops[vm], &fix.posts[vm].settle);
    fix_wait(&fix.posts[vm].settled, 1);
    return fix.volumes[vm].bytes;
}

static inline void fix_unstall(int vm)
{
    atomic_store(&fix.volumes[vm].stalled, false);
    loop_post(fix.loops[vm], &fix.posts[vm].resume);
}

/* After target_stop(). */
static inline int fix_end(void **state)
{
    (void)state;
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
        fake_volume_free(&fix.volumes[i]);
    return 0;
}

static inline int fix_stop(void **state)
{
    static struct task stop = {.run = fix_stop_run};

    loop_post(fix.main, &stop);
    fix_wait(&fix.stopped, 1);
    return fix_end(state);
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

static inline void tmf_send(struct client *c, uint8_t function, uint32_t task, uint32_t ref_cmd_sn)
{
    uint8_t bhs[48] = {ISCSI_TASK_MANAGEMENT | ISCSI_IMMEDIATE, (uint8_t)(0x80 | function)};

    put32(bhs + AT_ITT, c->itt++);
    put32(bhs + AT_REFERENCED_TASK_TAG, task);
    put32(bhs + AT_CMD_SN, c->cmd_sn);
    put32(bhs + AT_REF_CMD_SN, ref_cmd_sn);
    pdu_send(c, bhs, NULL, 0);
}

static inline int tmf_recv(struct client *c)
{
    assert_int_equal(pdu_recv(c), ISCSI_TASK_MANAGEMENT_RESPONSE);
    return c->bhs[AT_RESPONSE];
}

static inline int tmf(struct client *c, uint8_t function, uint32_t task, uint32_t ref_cmd_sn)
{
    tmf_send(c, function, task, ref_cmd_sn);
    return tmf_recv(c);
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
