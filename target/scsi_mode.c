/* target/scsi_mode.c - MODE SENSE(6) and (10): caching, control and informational exceptions pages
 * (SPC-4 7.5, SBC-3 6.5). Nothing can be changed yet, so there is no MODE SELECT.
 */
#include "scsi.h"

#include "session.h"
#include "wire.h"

enum { DBD = 0x08, LLBAA = 0x10, DPOFUA = 0x10, ALL_PAGES = 0x3f, ALL_SUBPAGES = 0xff };
enum { CURRENT, CHANGEABLE, DEFAULT, SAVED };

/* The pages as they are, each with its header (code, length). WCE: a write is acknowledged when it is in the
 * journal, which is stable only after SYNCHRONIZE CACHE. */
static const uint8_t caching[20] = {0x08, 18, 0x04}, control[12] = {0x0a, 10, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
                     exceptions[12] = {0x1c, 10};
static const struct {
    const uint8_t *bytes;
    uint8_t len;
} pages[] = {{caching, sizeof caching}, {control, sizeof control}, {exceptions, sizeof exceptions}};

/* Appends what is asked for; 0 if there is no such page. */
static uint32_t put_pages(uint8_t *p, uint8_t code, unsigned how)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < sizeof pages / sizeof *pages; i++) {
        if (code != ALL_PAGES && code != pages[i].bytes[0])
            continue;
        memcpy(p + n, pages[i].bytes, how == CHANGEABLE ? 2 : pages[i].len);
        n += pages[i].len;
    }
    return n;
}

static uint32_t put_block_descriptor(struct command *cmd, uint8_t *p, bool is_long)
{
    uint64_t blocks = scsi_blocks(cmd);
    uint32_t block = scsi_block_bytes(cmd);

    if (is_long) {
        put64(p, blocks);
        put32(p + 12, block);
        return 16;
    }
    put32(p, blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)blocks);
    put24(p + 5, block);
    return 8;
}

void scsi_mode_sense(struct command *cmd)
{
    const uint8_t *cdb = cmd->cdb;
    bool ten = cdb[0] == 0x5a, is_long = ten && cdb[1] & LLBAA;
    uint32_t header = ten ? 8 : 4, n, described = 0;
    unsigned how = cdb[2] >> 6;
    uint8_t *p;

    if (how == SAVED) {
        command_check(cmd, SENSE_SAVING_PARAMETERS_NOT_SUPPORTED);
        return;
    }
    p = command_in(cmd, 256);
    if (!(cdb[1] & DBD))
        described = put_block_descriptor(cmd, p + header, is_long);
    n = put_pages(p + header + described, cdb[2] & 0x3f, how);
    if (!n || (cdb[3] && cdb[3] != ALL_SUBPAGES)) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, n ? 3 : 2, n ? 7 : 5);
        return;
    }
    n += header + described;
    cmd->in_len = n;
    if (ten) {
        put16(p, (uint16_t)(n - 2));
        p[3] = DPOFUA;
        p[4] = is_long;
        put16(p + 6, (uint16_t)described);
    } else {
        p[0] = (uint8_t)(n - 1);
        p[2] = DPOFUA;
        p[3] = (uint8_t)described;
    }
    scsi_reply(cmd, ten ? get16(cdb + 7) : cdb[4]);
}
