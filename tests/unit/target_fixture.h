/* tests/unit/target_fixture.h - a real target on two loops over volumes in memory, and an initiator that
 * says exactly what a test wants, right or wrong.
 *
 * The catalog and the volumes are fake_volumes.h's, so that an I/O can be kept in the volume for as long as a
 * test likes.
 */
#ifndef ISTHMUS_TARGET_FIXTURE_H
#define ISTHMUS_TARGET_FIXTURE_H

#include "check.h"
#include "fake_volumes.h"
#include "log.h"
#include "mem.h"
#include "raw.h"
#include "target.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
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
    atomic_uint quiet, gone;
} fix;

static struct target_conf fix_conf;              /* before fix_start: what a test wants to be otherwise */
static void (*fix_before)(struct target_conf *); /* when VMs and loops are there; or NULL */

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
    conf.login_seconds = 6; /* two tests wait for that */
    if (!conf.nportals) {
        conf.portals = &portal;
        conf.nportals = 1;
    }
    if (fix_before)
        fix_before(&conf);
    if (target_start(&fix.target, &conf, &why))
        fail_msg("%s", why.text);
    fix.port = target_port(fix.target, 0);
    loop_start(fix.main);
    loop_start(fix.loops[0]);
    loop_start(fix.loops[1]);
    return 0;
}

static inline void fix_quiet(void *arg)
{
    (void)arg;
    atomic_store(&fix.quiet, 1);
}

static inline void fix_gone(void *arg)
{
    (void)arg;
    atomic_store(&fix.gone, 1);
}

static inline void fix_stop_run(struct task *t)
{
    (void)t;
    target_stop(fix.target, fix_quiet, fix_gone, NULL);
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
    fix_wait(&fix.gone, 1);
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
    fix_wait(&fix.quiet, 1);
    return fix_end(state);
}

/* --- the initiator: lib/raw.h, and a test that fails when it cannot go on --- */

static inline struct raw *client_new(uint8_t isid)
{
    struct raw *c = raw_connect("127.0.0.1", fix.port, isid);

    assert_non_null(c);
    c->show_pings = true;
    return c;
}

static inline void client_write(struct raw *c, const void *p, size_t n)
{
    assert_true(raw_write(c, p, n));
}

/* One PDU as it goes over the wire, appended to out; returns its length. */
static inline size_t pdu_put(struct raw *c, uint8_t *out, uint8_t bhs[48], const void *data, uint32_t len)
{
    struct raw_pdu p = {.data = data, .len = len};
    size_t n;

    memcpy(p.bhs, bhs, 48);
    n = raw_put(c, &p, out);
    memcpy(bhs, p.bhs, 48); /* with its lengths */
    return n;
}

static inline void pdu_send(struct raw *c, uint8_t bhs[48], const void *data, uint32_t len)
{
    uint8_t *out = xmalloc(64 + len + 8);

    client_write(c, out, pdu_put(c, out, bhs, data, len));
    free(out);
}

/* The next PDU into bhs and data; its opcode, or -1 when the target has closed the connection. */
static inline int pdu_recv(struct raw *c)
{
    int opcode = raw_recv(c);

    assert_true(opcode >= RAW_CLOSED);
    return opcode;
}

static inline void login_header(struct raw *c, uint8_t bhs[48], uint8_t flags)
{
    struct raw_pdu p;

    raw_login_header(c, &p, flags);
    memcpy(bhs, p.bhs, 48);
}

static inline void login_send(struct raw *c, uint8_t flags, const char *text)
{
    CLEANUP_FREE char *buf = xmalloc(strlen(text) + 1);
    uint8_t bhs[48];

    login_header(c, bhs, flags);
    pdu_send(c, bhs, buf, raw_text(buf, text));
}

/* One request and its answer: the status, or -1 if the connection was closed. */
static inline int login(struct raw *c, uint8_t flags, const char *text)
{
    int status = raw_login(c, flags, text);

    assert_true(status >= RAW_CLOSED);
    return status;
}

/* A session with vm0 or vm1, straight through the operational stage. more: further keys, each ended by '|'.
 */
static inline struct raw *session_new(int vm, uint8_t isid, const char *more)
{
    struct raw *c = client_new(isid);
    char text[1000];

    snprintf(text, sizeof text, FIX_INITIATOR "|TargetName=iqn.2026-11.test:vm%d|SessionType=Normal|%s", vm,
             more);
    assert_int_equal(login(c, RAW_TO_FULL, text), 0);
    return c;
}

static inline void command_header(struct raw *c, uint8_t bhs[48], uint8_t flags, uint32_t edtl,
                                  const void *cdb, size_t n)
{
    struct raw_pdu p;

    raw_command_header(c, &p, flags, edtl, cdb, n);
    memcpy(bhs, p.bhs, 48);
}

enum { F = ISCSI_FINAL, R = RAW_READ, W = RAW_WRITE };

static inline void command_send(struct raw *c, uint8_t flags, uint32_t edtl, const void *cdb, size_t n,
                                const void *data, uint32_t len)
{
    raw_command(c, flags, edtl, cdb, n, data, len);
}

static inline void data_out(struct raw *c, uint32_t itt, uint32_t ttt, uint32_t sn, uint32_t offset,
                            bool final, const void *data, uint32_t len)
{
    assert_true(raw_data_out(c, itt, ttt, sn, offset, final, data, len));
}

static inline void tmf_send(struct raw *c, uint8_t function, uint32_t task, uint32_t ref_cmd_sn)
{
    raw_manage(c, function, 0, task, ref_cmd_sn);
}

static inline int tmf_recv(struct raw *c)
{
    assert_int_equal(pdu_recv(c), ISCSI_TASK_MANAGEMENT_RESPONSE);
    return c->bhs[AT_RESPONSE];
}

static inline int tmf(struct raw *c, uint8_t function, uint32_t task, uint32_t ref_cmd_sn)
{
    tmf_send(c, function, task, ref_cmd_sn);
    return tmf_recv(c);
}

/* The answer of a command, its data in out, which has room for all of it. */
static inline struct raw_answer answer_recv(struct raw *c, uint8_t *out)
{
    struct raw_answer a = raw_answer(c, out, UINT32_MAX);

    if (a.opcode != ISCSI_DATA_IN && a.opcode != ISCSI_SCSI_RESPONSE)
        fail_msg("PDU %02x instead of an answer", (unsigned)a.opcode);
    return a;
}

#endif
