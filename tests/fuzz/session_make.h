/* tests/fuzz/session_make.h - for the mutator of fuzz_session: steps that an initiator might take, alone or
 * as several that belong together, right but for small things. Included once.
 */
#ifndef ISTHMUS_FUZZ_SESSION_MAKE_H
#define ISTHMUS_FUZZ_SESSION_MAKE_H

#include "initiator.h"
#include "program.h"
#include "scsi.h"

enum {
    STEP_BYTES,
    STEP_PDU,
    STEP_COMMAND,
    STEP_BEND,
    STEP_SOLICITED,
    STEP_UNSOLICITED,
    STEP_TASK_MANAGEMENT,
    STEP_NOP,
    STEP_TEXT,
    STEP_LOGOUT,
    STEP_WORLD,
    STEP_CLIENT,
    STEP_DEAF,
    STEP_LOGIN,
    STEP_SHUTDOWN,
    STEP_TIME,
    STEP_KINDS
};

bool program_text(uint8_t kind, unsigned *at)
{
    *at = kind == STEP_LOGIN ? 1 : 4;
    return kind == STEP_LOGIN || kind == STEP_TEXT;
}

static uint8_t maybe(struct maker *m, uint8_t bits, uint32_t one_in)
{
    return make_random(m, one_in) ? 0 : bits;
}

/* A command of the table with small numbers: how 0x80, the EDTL follows; rarely bent. */
static void make_command(struct maker *m)
{
    uint8_t b[22] = {0}, flags = (uint8_t)(1 + make_random(m, 3)) << 4 & 0x30;

    b[0] = (uint8_t)(0x80 | flags | maybe(m, ISCSI_IMMEDIATE, 12) | make_random(m, 5));
    b[1] =
        (uint8_t)(maybe(m, 0x40, 4) | maybe(m, 0x10, 4) | maybe(m, (uint8_t)(0x80 | make_random(m, 8)), 10));
    b[2] = (uint8_t)(maybe(m, 0x80, 3) | maybe(m, 8, 2));
    for (unsigned i = 6; i < sizeof b; i++)
        b[i] = (uint8_t)(make_random(m, 3) ? 0 : make_random(m, i == 6 ? 256 : 32));
    b[6] = (uint8_t)make_random(m, scsi_nops);
    b[19] = b[15] = b[14] = b[10] = (uint8_t)make_random(m, 64); /* where the lengths are */
    make_step(m, STEP_COMMAND, b, sizeof b);
}

/* A write that waits for its data, and some of that. */
static void make_write(struct maker *m)
{
    uint8_t b[22] = {0x91}, out[3] = {ISCSI_FINAL | 2 | 4, 0, 0};
    bool unsolicited = make_random(m, 2);

    for (unsigned i = 0; i < scsi_nops; i++)
        if (scsi_ops[i].opcode == 0x8a)
            b[6] = (uint8_t)i;
    b[1] = unsolicited ? 0x40 : 0;
    b[13] = (uint8_t)make_random(m, 256);
    b[19] = (uint8_t)(1 + make_random(m, 40));
    make_step(m, STEP_COMMAND, b, sizeof b);
    if (unsolicited) {
        put16(out + 1, (uint16_t)(make_random(m, 9) * 512));
        out[0] = maybe(m, ISCSI_FINAL, 2);
        make_step(m, STEP_UNSOLICITED, out, sizeof out);
    }
    for (unsigned i = make_random(m, 4); i; i--) {
        out[0] = (uint8_t)(maybe(m, 4, 2) | 2 | maybe(m, (uint8_t)make_random(m, 256), 8));
        out[0] |= out[0] & 4 ? ISCSI_FINAL : 0;
        put16(out + 1, (uint16_t)(make_random(m, 17) * 512));
        make_step(m, STEP_SOLICITED, out, sizeof out);
    }
}

/* PERSISTENT RESERVE OUT with its list, or UNMAP with one. */
static void make_list(struct maker *m)
{
    uint8_t b[22 + 24] = {0x19}, *cdb = b + 6, *list = b + 22;

    if (make_random(m, 4)) {
        cdb[0] = 0x5f;
        cdb[1] = (uint8_t)make_random(m, 8);
        cdb[2] = (uint8_t)make_random(m, 9);
        cdb[8] = 24;
        list[7] = (uint8_t)make_random(m, 3);
        list[15] = (uint8_t)make_random(m, 3);
        list[20] = maybe(m, 1, 4);
    } else {
        cdb[0] = 0x42;
        cdb[8] = 24;
        put16(list, 22);
        put16(list + 2, 16);
        list[15] = (uint8_t)make_random(m, 64);
        put32(list + 16, make_random(m, 64));
    }
    make_step(m, STEP_COMMAND, b, sizeof b);
}

static void make_request(struct maker *m, uint8_t kind)
{
    uint8_t b[5] = {(uint8_t)(maybe(m, ISCSI_IMMEDIATE, 2) | 0x20 | make_random(m, 9)), 0, 0,
                    (uint8_t)make_random(m, 8), 0};

    b[1] = (uint8_t)(maybe(m, 0x20, 3) | maybe(m, 0x10, 2) | maybe(m, 0x40, 4) | make_random(m, 2));
    b[2] = (uint8_t)make_random(m, 256);
    make_step(m, kind, b, 4);
}

static void make_text(struct maker *m)
{
    static const char login[] = "\x87InitiatorName=iqn.2026-11.test:initiator\0TargetName=" WORLD_IQN "0";
    static const char security[] = "\0InitiatorName=iqn.2026-11.test:initiator\0TargetName=" WORLD_IQN "2\0"
                                   "AuthMethod=CHAP,None";
    static const char send_targets[] = "\x10\0\0\0SendTargets=All";

    switch (make_random(m, 3)) {
    case 0:
        make_step(m, STEP_LOGIN, login, sizeof login);
        break;
    case 1:
        make_step(m, STEP_LOGIN, security, sizeof security);
        break;
    case 2:
        make_step(m, STEP_TEXT, send_targets, sizeof send_targets);
        break;
    }
}

static void make_small(struct maker *m, uint8_t kind, uint8_t value)
{
    make_step(m, kind, &value, 1);
}

/* Requests while I/O is in the volume. */
static void make_stalled(struct maker *m)
{
    make_small(m, STEP_WORLD, (uint8_t)(1 + make_random(m, 3)));
    for (unsigned i = 1 + make_random(m, 4); i; i--)
        if (make_random(m, 2))
            make_write(m);
        else
            make_command(m);
    make_request(m, make_random(m, 4) ? STEP_TASK_MANAGEMENT : STEP_LOGOUT);
    if (make_random(m, 2))
        make_small(m, STEP_WORLD, 0);
}

static void make_bent(struct maker *m)
{
    uint8_t b[3] = {(uint8_t)make_random(m, BEND_NOTHING), 0, (uint8_t)make_random(m, 64)};

    if (b[0] == BEND_LENGTH)
        put16(b + 1, (uint16_t)(0x8000 - 64 + make_random(m, 128)));
    else if (b[0] == BEND_BYTE || b[0] == BEND_AHS)
        put16(b + 1, (uint16_t)make_random(m, 65536));
    make_step(m, STEP_BEND, b, sizeof b);
    make_command(m);
}

void program_make(struct maker *m)
{
    switch (make_random(m, 12)) {
    default:
        make_command(m);
        break;
    case 3:
    case 4:
        make_write(m);
        break;
    case 5:
        make_list(m);
        break;
    case 6:
        make_stalled(m);
        break;
    case 7:
        make_request(m, (uint8_t)(STEP_TASK_MANAGEMENT + make_random(m, 4)));
        break;
    case 8:
        make_text(m);
        break;
    case 9:
        make_bent(m);
        break;
    case 10:
        make_small(m, STEP_CLIENT, (uint8_t)(maybe(m, 0x80, 2) | make_random(m, 11)));
        break;
    case 11:
        make_small(m, (uint8_t)(STEP_WORLD + make_random(m, STEP_KINDS - STEP_WORLD)),
                   (uint8_t)make_random(m, 256));
        break;
    }
}

#endif
