/* target/scsi_mode.c - MODE SENSE and MODE SELECT, 6 and 10 (SPC-4 6.11ff, 7.5; SBC-3 6.5): caching, control
 * and informational exceptions pages. What can be changed is WCE, D_SENSE and SWP; it is the same for all
 * initiators, is not saved, and a reset brings the defaults back.
 */
#include "scsi.h"

#include "session.h"
#include "wire.h"

enum { DBD = 0x08, LLBAA = 0x10, DPOFUA = 0x10, WP = 0x80, ALL_PAGES = 0x3f, ALL_SUBPAGES = 0xff };
enum { CURRENT, CHANGEABLE, DEFAULT, SAVED };
enum { CACHING = 0x08, CONTROL = 0x0a, EXCEPTIONS = 0x1c };
enum { WCE = 0x04, D_SENSE = 0x04, SWP = 0x08, PAGE_MAX = 20, PF = 0x10, SP = 0x01, SPF = 0x40 };

static const struct {
    uint8_t code, bytes; /* with the two of the header */
} pages[] = {{CACHING, 20}, {CONTROL, 12}, {EXCEPTIONS, 12}};
enum { PAGES = sizeof pages / sizeof *pages };

/* WCE: a write is acknowledged when it is in the journal, which is stable only after SYNCHRONIZE CACHE. */
static void page_write(unsigned i, const struct mode *m, uint8_t *p)
{
    memset(p, 0, pages[i].bytes);
    p[0] = pages[i].code;
    p[1] = (uint8_t)(pages[i].bytes - 2);
    if (pages[i].code == CACHING) {
        p[2] = m->write_through ? 0 : WCE;
    } else if (pages[i].code == CONTROL) {
        p[2] = m->descriptor_sense ? D_SENSE : 0;
        p[4] = m->software_protect ? SWP : 0;
        put16(p + 8, 0xffff); /* busy timeout: no limit */
    }
}

/* What of it can be changed: where two extremes differ. */
static void page_mask(unsigned i, uint8_t *p)
{
    static const struct mode none, all = {true, true, true};
    uint8_t a[PAGE_MAX], b[PAGE_MAX];

    page_write(i, &none, a);
    page_write(i, &all, b);
    memcpy(p, a, 2);
    for (unsigned k = 2; k < pages[i].bytes; k++)
        p[k] = a[k] ^ b[k];
}

static struct mode *mode_of(const struct command *cmd)
{
    return session_mode(cmd->conn->session, cmd->lun);
}

/* --- MODE SENSE --- */

/* Appends what is asked for; 0 if there is no such page. */
static uint32_t put_pages(const struct command *cmd, uint8_t *p, uint8_t code, unsigned how)
{
    static const struct mode defaults;
    uint32_t n = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        if (code != ALL_PAGES && code != pages[i].code)
            continue;
        if (how == CHANGEABLE)
            page_mask(i, p + n);
        else
            page_write(i, how == DEFAULT ? &defaults : mode_of(cmd), p + n);
        n += pages[i].bytes;
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
    uint8_t specific = (uint8_t)(DPOFUA | (mode_of(cmd)->software_protect ? WP : 0)), *p;
    unsigned how = cdb[2] >> 6;

    if (how == SAVED) {
        command_check_field(cmd, SENSE_SAVING_PARAMETERS_NOT_SUPPORTED, true, 2, 7);
        return;
    }
    p = command_in(cmd, 256);
    if (!(cdb[1] & DBD))
        described = put_block_descriptor(cmd, p + header, is_long);
    n = put_pages(cmd, p + header + described, cdb[2] & 0x3f, how);
    if (!n || (cdb[3] && cdb[3] != ALL_SUBPAGES)) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, n ? 3 : 2, n ? 7 : 5);
        return;
    }
    n += header + described;
    cmd->in_len = n;
    if (ten) {
        put16(p, (uint16_t)(n - 2));
        p[3] = specific;
        p[4] = is_long;
        put16(p + 6, (uint16_t)described);
    } else {
        p[0] = (uint8_t)(n - 1);
        p[2] = specific;
        p[3] = (uint8_t)described;
    }
    scsi_reply(cmd, ten ? get16(cdb + 7) : cdb[4]);
}

/* --- MODE SELECT --- */

uint32_t scsi_mode_select_prepare(struct command *cmd)
{
    uint32_t n = cmd->cdb[0] == 0x55 ? get16(cmd->cdb + 7) : cmd->cdb[4];

    if (cmd->cdb[1] & SP)
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 0);
    else if (n && !(cmd->cdb[1] & PF))
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 4);
    else
        return n;
    return 0;
}

static bool wrong(struct command *cmd, uint32_t at, int bit)
{
    command_check_field(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, false, (uint16_t)at, bit);
    return false;
}

static bool too_short(struct command *cmd)
{
    scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
    return false;
}

/* The medium cannot be formatted anew: a block descriptor must say what is. */
static bool check_block_descriptor(struct command *cmd, const uint8_t *d, uint32_t at, uint32_t n,
                                   bool is_long)
{
    uint64_t blocks = is_long ? get64(d) : get32(d), now = scsi_blocks(cmd);
    uint32_t block = is_long ? get32(d + 12) : get24(d + 5);

    if (n != (is_long ? 16 : 8))
        return wrong(cmd, cmd->cdb[0] == 0x55 ? 6 : 3, 7);
    if (blocks && blocks != now && !(!is_long && blocks == UINT32_MAX && now > UINT32_MAX))
        return wrong(cmd, at, 7);
    return block == scsi_block_bytes(cmd) || wrong(cmd, at + (is_long ? 12 : 5), 7);
}

/* One page at data + at, n bytes left: into *m. Its length, or 0 with an answer given. */
static uint32_t take_page(struct command *cmd, const uint8_t *data, uint32_t at, uint32_t n, struct mode *m)
{
    uint8_t now[PAGE_MAX], mask[PAGE_MAX];
    const uint8_t *p = data + at;
    unsigned i = 0;

    if (n < 2)
        return too_short(cmd);
    while (i < PAGES && pages[i].code != (p[0] & 0x3f))
        i++;
    if (i == PAGES || p[0] & SPF)
        return wrong(cmd, at, 5);
    if (p[1] != pages[i].bytes - 2)
        return wrong(cmd, at + 1, 7);
    if (n < pages[i].bytes)
        return too_short(cmd);
    page_write(i, m, now);
    page_mask(i, mask);
    for (unsigned k = 2; k < pages[i].bytes; k++) {
        unsigned differs = (unsigned)(p[k] ^ now[k]) & (unsigned)~mask[k] & 0xff;

        if (differs)
            return wrong(cmd, at + k, 31 - __builtin_clz(differs));
    }
    if (pages[i].code == CACHING) {
        m->write_through = !(p[2] & WCE);
    } else if (pages[i].code == CONTROL) {
        m->descriptor_sense = p[2] & D_SENSE;
        m->software_protect = p[4] & SWP;
    }
    return pages[i].bytes;
}

/* Everything is looked at before anything changes. */
void scsi_mode_select(struct command *cmd)
{
    bool ten = cmd->cdb[0] == 0x55;
    uint32_t n = cmd->received < cmd->out_bytes ? cmd->received : cmd->out_bytes, at = ten ? 8 : 4, described;
    struct mode want = *mode_of(cmd);
    const uint8_t *data;

    if (!cmd->out_bytes) {
        command_good(cmd);
        return;
    }
    if (n < at) {
        too_short(cmd);
        return;
    }
    data = cmd->data->data;
    described = ten ? get16(data + 6) : data[3];
    if (described > n - at) {
        too_short(cmd);
        return;
    }
    if (described && (described < 8 || (ten && data[4] & 1 && described < 16))) {
        wrong(cmd, ten ? 6 : 3, 7);
        return;
    }
    if (described && !check_block_descriptor(cmd, data + at, at, described, ten && data[4] & 1))
        return;
    for (at += described; at < n;) {
        uint32_t taken = take_page(cmd, data, at, n - at, &want);

        if (!taken)
            return;
        at += taken;
    }
    if (memcmp(&want, mode_of(cmd), sizeof want) != 0) {
        *mode_of(cmd) = want;
        session_attention(cmd->conn->session->device, cmd->lun, UA_MODE, cmd->conn->session);
    }
    command_good(cmd);
}
