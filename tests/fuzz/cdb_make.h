/* tests/fuzz/cdb_make.h - for the mutator of fuzz_cdb: CDBs of the target's table with small numbers, and the
 * lists and data that they need. Included once.
 */
#ifndef ISTHMUS_FUZZ_CDB_MAKE_H
#define ISTHMUS_FUZZ_CDB_MAKE_H

#include "disk_model.h"
#include "program.h"
#include "scsi.h"
#include "world.h"

enum { DATA_GIVEN, DATA_ZERO, DATA_AS_IT_IS, DATA_PATTERN }; /* the data out of a command */
enum { STEP_COMMAND, STEP_WORLD, STEP_LOGIN, STEP_KINDS };

bool program_text(uint8_t kind, unsigned *at)
{
    (void)kind;
    *at = 0;
    return false;
}

static bool one_in(struct maker *m, uint32_t n)
{
    return make_random(m, n) == 0;
}

/* An LBA and a count of blocks where the opcode has them, small and near each other; sometimes at an end. */
static void put_range(struct maker *m, uint8_t *cdb)
{
    uint32_t blocks = one_in(m, 4) ? 256 : 2048,
             lba = one_in(m, 6) ? blocks - make_random(m, 9) : make_random(m, 40);
    uint32_t count = one_in(m, 8) ? make_random(m, 600) : make_random(m, 12);

    switch (cdb[0] >> 5) {
    case 0:
        put24(cdb + 1, lba);
        cdb[4] = (uint8_t)count;
        break;
    case 4:
        put64(cdb + 2, lba);
        put32(cdb + 10, count);
        break;
    case 5:
        put32(cdb + 2, lba);
        put32(cdb + 6, count);
        break;
    default:
        put32(cdb + 2, lba);
        put16(cdb + 7, (uint16_t)count);
    }
    if (cdb[0] == 0x9c)
        put32(cdb + 10, count & 0xffff);
}

/* A parameter list for the few commands that have one; its length. */
static uint32_t list_made(struct maker *m, uint8_t *cdb, uint8_t *list)
{
    uint32_t n = 0;

    switch (cdb[0]) {
    case 0x42: /* UNMAP */
        n = 8 + 16 * make_random(m, 4);
        put16(list, (uint16_t)(n - 2));
        put16(list + 2, (uint16_t)(n - 8));
        for (uint32_t at = 8; at < n; at += 16) {
            put64(list + at, make_random(m, 200));
            put32(list + at + 8, make_random(m, 30));
        }
        put16(cdb + 7, (uint16_t)n);
        break;
    case 0x5f:
        n = 24;
        cdb[2] = (uint8_t)make_random(m, 9);
        list[7] = (uint8_t)make_random(m, 3);
        list[15] = (uint8_t)make_random(m, 3);
        list[20] = (uint8_t)(make_random(m, 2) << 2); /* ALL_TG_PT */
        put32(cdb + 5, n);
        break;
    case 0x83: /* EXTENDED COPY between two disks */
        n = 16 + 2 * 32 + 28 * (1 + make_random(m, 2));
        put16(list + 2, 64);
        put32(list + 8, n - 80);
        for (unsigned i = 0; i < 2; i++) {
            uint8_t *t = list + 16 + 32 * i;

            t[0] = 0xe4;
            t[4] = 1;
            t[5] = 3;
            t[7] = 8;
            memcpy(t + 8, volume_naa(&world.volumes[one_in(m, 4) ? 1 : i ? 3 : 0]), 8);
        }
        for (uint32_t at = 80; at < n; at += 28) {
            list[at] = 2;
            put16(list + at + 2, 24);
            put16(list + at + 4, (uint16_t)make_random(m, 2));
            put16(list + at + 6, (uint16_t)make_random(m, 2));
            put16(list + at + 10, (uint16_t)make_random(m, one_in(m, 2) ? 1500 : 20));
            put64(list + at + 12, make_random(m, 100));
            put64(list + at + 20, make_random(m, 100));
        }
        put32(cdb + 10, n);
        break;
    case 0x15:
    case 0x55: /* MODE SELECT: the caching page, or the control page */
        n = cdb[0] == 0x55 ? 8 : 4;
        list[n] = one_in(m, 2) ? 0x08 : 0x0a;
        list[n + 1] = list[n] == 0x08 ? 18 : 10;
        list[n + 2] = (uint8_t)(make_random(m, 2) * 4);
        list[n + 4] = (uint8_t)(one_in(m, 4) ? 8 : 0);
        n += 2u + list[n + 1];
        cdb[1] = 0x10;
        put16(cdb + 7, (uint16_t)n);
        cdb[4] = cdb[0] == 0x15 ? (uint8_t)n : 0;
        break;
    }
    return n;
}

/* Any of the table; every other time one that moves data. */
static const struct scsi_op *op_chosen(struct maker *m)
{
    bool moves = one_in(m, 2);

    for (;;) {
        const struct scsi_op *op = &scsi_ops[make_random(m, scsi_nops)];

        if (!moves || effect_of(op->usage) != CHANGES_NOTHING) /* usage begins with the opcode */
            return op;
    }
}

/* The fields of a command that moves no data; INQUIRY and MODE SENSE want pages that there are. */
static void put_fields(struct maker *m, const struct scsi_op *op, uint8_t *cdb)
{
    static const uint8_t pages[] = {0x00, 0x80, 0x83, 0x86, 0x8f, 0xb0, 0xb1, 0xb2, 0x3f, 0x08, 0x0a, 0x1c};

    for (unsigned i = 2; i < op->cdb_bytes - 1u; i++)
        cdb[i] = (uint8_t)(make_random(m, one_in(m, 3) ? 256 : 4) & op->usage[i]);
    if (cdb[0] == 0x12 || cdb[0] == 0x1a || cdb[0] == 0x5a)
        cdb[2] = pages[make_random(m, sizeof pages)];
    if (cdb[0] == 0x12)
        cdb[1] = (uint8_t)make_random(m, 2);
}

/* A registration, and what it is for. */
static void make_reservation(struct maker *m)
{
    uint8_t b[2 + 16 + 24] = {(uint8_t)(make_random(m, 2) << 2), 0, 0x5f};
    static const uint8_t then[] = {RESERVE_RESERVE, RESERVE_RELEASE, RESERVE_PREEMPT, RESERVE_PREEMPT_ABORT,
                                   RESERVE_CLEAR};

    b[2 + 8] = 24;
    b[3] = RESERVE_REGISTER_IGNORE;
    b[18 + 15] = (uint8_t)(1 + make_random(m, 2)); /* the key */
    make_step(m, STEP_COMMAND, b, sizeof b);
    b[3] = then[make_random(m, sizeof then)];
    b[4] = (uint8_t)(1 + make_random(m, 8)); /* the type */
    b[18 + 7] = b[18 + 15];
    b[18 + 15] = (uint8_t)(1 + make_random(m, 2));
    make_step(m, STEP_COMMAND, b, sizeof b);
}

void program_make(struct maker *m)
{
    const struct scsi_op *op = op_chosen(m);
    uint8_t b[2 + 16 + 256] = {0}, *cdb = b + 2, v;
    uint32_t n;

    if (one_in(m, 12)) {
        v = (uint8_t)make_random(m, 256);
        make_step(m, one_in(m, 3) ? STEP_LOGIN : STEP_WORLD, &v, 1);
        return;
    }
    if (one_in(m, 16)) {
        make_reservation(m);
        return;
    }
    b[0] =
        (uint8_t)(make_random(m, 8) | make_random(m, 4) << 6 | (one_in(m, 6) ? make_random(m, 4) << 4 : 0));
    b[0] &= one_in(m, 8) ? 0xff : 0xfd;
    b[1] = (uint8_t)make_random(m, 256);
    cdb[0] = op->opcode;
    cdb[1] = op->action == ANY_ACTION ? 0 : (uint8_t)op->action;
    if (effect_of(cdb) != CHANGES_NOTHING || op->kind != OP_OTHER) {
        put_range(m, cdb);
    } else {
        put_fields(m, op, cdb);
    }
    if (op->action == ANY_ACTION && one_in(m, 4))
        cdb[1] |= op->usage[1] & (uint8_t)make_random(m, 256);
    n = list_made(m, cdb, b + 18);
    if (n) /* DATA_GIVEN */
        b[0] &= 0x3f;
    for (; !n && n < 16; n++)
        b[18 + n] = (uint8_t)make_random(m, 256);
    if (cdb[0] == 0x89) {
        memset(cdb + 10, 0, 4);
        cdb[13] = (uint8_t)make_random(m, 12);
        b[0] = (uint8_t)(b[0] & 0x3f) | DATA_AS_IT_IS << 6;
    }
    make_step(m, STEP_COMMAND, b, 18 + n);
}

#endif
