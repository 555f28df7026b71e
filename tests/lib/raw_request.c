/* tests/lib/raw_request.c - requests of full feature phase, SCSI commands and their answers (raw.h). Not
 * here: more than one command at a time in raw_exchange.
 */
#include "raw.h"

#include "mem.h"

#include <stdlib.h>

/* --- requests --- */

uint32_t raw_request_header(struct raw *c, struct raw_pdu *p, uint8_t opcode)
{
    memset(p, 0, sizeof *p);
    p->bhs[0] = opcode;
    p->bhs[AT_FLAGS] = ISCSI_FINAL;
    put32(p->bhs + AT_ITT, c->itt);
    put32(p->bhs + AT_TTT, ISCSI_TAG_NONE);
    put32(p->bhs + AT_CMD_SN, c->cmd_sn);
    put32(p->bhs + AT_EXP_STAT_SN, c->exp_stat_sn);
    if (!(opcode & ISCSI_IMMEDIATE))
        c->cmd_sn++;
    return c->itt++;
}

uint32_t raw_command_header(struct raw *c, struct raw_pdu *p, uint8_t flags, uint32_t edtl, const void *cdb,
                            size_t n)
{
    uint32_t itt = raw_request_header(c, p, ISCSI_SCSI_COMMAND);

    p->bhs[AT_FLAGS] = flags | 1; /* SIMPLE */
    put32(p->bhs + AT_EDTL, edtl);
    memcpy(p->bhs + AT_CDB, cdb, n);
    return itt;
}

uint32_t raw_command(struct raw *c, uint8_t flags, uint32_t edtl, const void *cdb, size_t n, const void *data,
                     uint32_t len)
{
    struct raw_pdu p;
    uint32_t itt = raw_command_header(c, &p, flags, edtl, cdb, n);

    p.data = data;
    p.len = len;
    raw_send(c, &p);
    return itt;
}

void raw_data_out_header(const struct raw *c, struct raw_pdu *p, uint32_t itt, uint32_t ttt, uint32_t sn,
                         uint32_t offset, bool final)
{
    memset(p, 0, sizeof *p);
    p->bhs[0] = ISCSI_DATA_OUT;
    p->bhs[AT_FLAGS] = final ? ISCSI_FINAL : 0;
    put32(p->bhs + AT_ITT, itt);
    put32(p->bhs + AT_TTT, ttt);
    put32(p->bhs + AT_EXP_STAT_SN, c->exp_stat_sn);
    put32(p->bhs + AT_DATA_SN, sn);
    put32(p->bhs + AT_BUFFER_OFFSET, offset);
}

bool raw_data_out(struct raw *c, uint32_t itt, uint32_t ttt, uint32_t sn, uint32_t offset, bool final,
                  const void *data, uint32_t len)
{
    struct raw_pdu p;

    raw_data_out_header(c, &p, itt, ttt, sn, offset, final);
    p.data = data;
    p.len = len;
    return raw_send(c, &p);
}

uint32_t raw_ping(struct raw *c, const void *data, uint32_t len)
{
    struct raw_pdu p;
    uint32_t itt = raw_request_header(c, &p, ISCSI_NOP_OUT | ISCSI_IMMEDIATE);

    p.data = data;
    p.len = len;
    raw_send(c, &p);
    return itt;
}

uint32_t raw_manage(struct raw *c, uint8_t function, uint8_t lun, uint32_t task, uint32_t ref_cmd_sn)
{
    struct raw_pdu p;
    uint32_t itt = raw_request_header(c, &p, ISCSI_TASK_MANAGEMENT | ISCSI_IMMEDIATE);

    p.bhs[AT_FLAGS] |= function;
    p.bhs[AT_LUN + 1] = lun;
    put32(p.bhs + AT_REFERENCED_TASK_TAG, task);
    put32(p.bhs + AT_REF_CMD_SN, ref_cmd_sn);
    raw_send(c, &p);
    return itt;
}

uint32_t raw_text_request(struct raw *c, uint8_t flags, uint32_t ttt, const char *text)
{
    char *buf = xmalloc(strlen(text) + 1);
    struct raw_pdu p;
    uint32_t itt = raw_request_header(c, &p, ISCSI_TEXT_REQUEST);

    p.bhs[AT_FLAGS] = flags;
    put32(p.bhs + AT_TTT, ttt);
    p.data = buf;
    p.len = raw_text(buf, text);
    raw_send(c, &p);
    free(buf);
    return itt;
}

uint32_t raw_logout(struct raw *c, uint8_t reason)
{
    struct raw_pdu p;
    uint32_t itt = raw_request_header(c, &p, ISCSI_LOGOUT_REQUEST);

    p.bhs[AT_FLAGS] |= reason;
    put32(p.bhs + AT_CID, (uint32_t)c->cid << 16);
    raw_send(c, &p);
    return itt;
}

/* --- SCSI --- */

static _Thread_local uint8_t cdb_buffer[16];

const uint8_t *raw_cdb10(uint8_t opcode, uint32_t lba, uint16_t count)
{
    memset(cdb_buffer, 0, sizeof cdb_buffer);
    cdb_buffer[0] = opcode;
    put32(cdb_buffer + 2, lba);
    put16(cdb_buffer + 7, count);
    return cdb_buffer;
}

const uint8_t *raw_cdb16(uint8_t opcode, uint64_t lba, uint32_t count)
{
    memset(cdb_buffer, 0, sizeof cdb_buffer);
    cdb_buffer[0] = opcode;
    put64(cdb_buffer + 2, lba);
    put32(cdb_buffer + 10, count);
    return cdb_buffer;
}

struct raw_r2t raw_r2t(const struct raw *c)
{
    return (struct raw_r2t){.itt = get32(c->bhs + AT_ITT),
                            .ttt = get32(c->bhs + AT_TTT),
                            .sn = get32(c->bhs + AT_DATA_SN),
                            .offset = get32(c->bhs + AT_BUFFER_OFFSET),
                            .len = get32(c->bhs + AT_DESIRED_LENGTH)};
}

/* Fixed or descriptor format. */
static uint32_t sense_of(const struct raw *c)
{
    const uint8_t *s = c->data + 2;

    if (c->len < 2 + 4)
        return 0;
    if ((s[0] & 0x7e) == 0x72)
        return (uint32_t)(s[1] & 15) << 16 | (uint32_t)s[2] << 8 | s[3];
    return c->len < 2 + 14 ? 0 : (uint32_t)(s[2] & 15) << 16 | (uint32_t)s[12] << 8 | s[13];
}

struct raw_answer raw_answer(struct raw *c, void *in, uint32_t room)
{
    struct raw_answer a = {0};

    for (;;) {
        uint32_t at;

        a.opcode = raw_recv(c);
        if (a.opcode < 0)
            return a;
        a.itt = get32(c->bhs + AT_ITT);
        at = get32(c->bhs + AT_BUFFER_OFFSET);
        if (a.opcode == ISCSI_DATA_IN) {
            if (in && at < room)
                memcpy((uint8_t *)in + at, c->data, c->len < room - at ? c->len : room - at);
            a.got += c->len;
            a.data_pdus++;
            if (!(c->bhs[AT_FLAGS] & ISCSI_DATA_STATUS))
                continue;
        } else if (a.opcode == ISCSI_SCSI_RESPONSE) {
            a.sense = sense_of(c);
        } else {
            return a;
        }
        a.status = c->bhs[AT_STATUS];
        if (c->bhs[AT_FLAGS] & ISCSI_RESIDUAL_OVERFLOW)
            a.residual = get32(c->bhs + AT_RESIDUAL);
        if (c->bhs[AT_FLAGS] & ISCSI_RESIDUAL_UNDERFLOW)
            a.residual = -(int64_t)get32(c->bhs + AT_RESIDUAL);
        return a;
    }
}

static void answer_r2t(struct raw *c, const uint8_t *out, uint32_t out_len)
{
    struct raw_r2t r = raw_r2t(c);
    uint32_t sn = 0;

    while (r.len && r.offset < out_len) {
        uint32_t n = r.len < c->segment ? r.len : c->segment;

        if (n > out_len - r.offset)
            n = out_len - r.offset;
        raw_data_out(c, r.itt, r.ttt, sn++, r.offset, n == r.len, out + r.offset, n);
        r.offset += n;
        r.len -= n;
    }
}

struct raw_answer raw_exchange(struct raw *c, const void *cdb, size_t n, const void *out, uint32_t out_len,
                               void *in, uint32_t in_len)
{
    uint32_t immediate = 0, r2ts = 0;
    struct raw_answer a;

    if (c->immediate && out_len) {
        immediate = c->first_burst < c->segment ? c->first_burst : c->segment;
        immediate = immediate < out_len ? immediate : out_len;
    }
    raw_command(c, (uint8_t)(ISCSI_FINAL | (out_len ? RAW_WRITE : 0) | (in_len ? RAW_READ : 0)),
                out_len ? out_len : in_len, cdb, n, out, immediate);
    for (;;) {
        a = raw_answer(c, in, in_len);
        a.r2ts = r2ts;
        if (a.opcode != ISCSI_R2T)
            return a;
        r2ts++;
        answer_r2t(c, out, out_len);
    }
}
