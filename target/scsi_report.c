/* target/scsi_report.c - what a disk is asked about itself: LOG SENSE (SPC-4 6.8), READ DEFECT DATA (SBC-3
 * 5.13f), REPORT TARGET PORT GROUPS (SPC-4 6.37). There are no defects.
 */
#include "scsi.h"

#include "session.h"
#include "wire.h"

/* --- LOG SENSE --- */

enum { SUPPORTED_PAGES = 0x00, EXCEPTIONS_PAGE = 0x2f, SUBPAGES = 0xff, SAVE = 0x01, SPF = 0x40 };
static const uint8_t log_pages[] = {SUPPORTED_PAGES, EXCEPTIONS_PAGE};
/* FFh: temperature unknown; so is the threshold's, which is vendor specific and commonly shown. */
static const uint8_t no_exception[] = {0, 0, 0x03, 4, 0, 0, 0xff, 0xff};

static uint32_t log_list(uint8_t *p, bool subpages)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < sizeof log_pages; i++) {
        p[n++] = log_pages[i];
        if (subpages)
            p[n++] = 0;
        if (subpages && log_pages[i] == SUPPORTED_PAGES) {
            p[n++] = SUPPORTED_PAGES;
            p[n++] = SUBPAGES;
        }
    }
    return n;
}

void scsi_log_sense(struct command *cmd)
{
    uint8_t page = cmd->cdb[2] & 0x3f, subpage = cmd->cdb[3], *p;
    bool all = page == SUPPORTED_PAGES && subpage == SUBPAGES;
    uint32_t n;

    if (cmd->cdb[1] & SAVE) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 0);
        return;
    }
    if (page != SUPPORTED_PAGES && page != EXCEPTIONS_PAGE) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, 5);
        return;
    }
    if (subpage && !all) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 3, 7);
        return;
    }
    if (get16(cmd->cdb + 5)) { /* there is no parameter above 0 */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 5, 7);
        return;
    }
    p = command_in(cmd, 64);
    p[0] = (uint8_t)(page | (all ? SPF : 0));
    p[1] = subpage;
    if (page == SUPPORTED_PAGES) {
        n = log_list(p + 4, all);
    } else {
        n = sizeof no_exception;
        memcpy(p + 4, no_exception, n);
    }
    put16(p + 2, (uint16_t)n);
    cmd->in_len = 4 + n;
    scsi_reply(cmd, get16(cmd->cdb + 7));
}

/* --- READ DEFECT DATA: an empty list of any format --- */

void scsi_read_defect_data(struct command *cmd)
{
    bool twelve = cmd->cdb[0] == 0xb7;
    uint8_t *p = command_in(cmd, twelve ? 8 : 4);

    p[1] = cmd->cdb[twelve ? 1 : 2] & 0x1f; /* which list, in which format: as asked */
    scsi_reply(cmd, twelve ? get32(cmd->cdb + 6) : get16(cmd->cdb + 7));
}

/* --- REPORT TARGET PORT GROUPS --- */

enum {
    LENGTH_ONLY,
    EXTENDED,
    EXTENDED_FORMAT = 0x10,
    AO_SUP = 0x01,
    AN_SUP = 0x02,
    U_SUP = 0x08,
    GROUP_BYTES = 12
};

/* One port each, whose relative identifier is the tag, too. */
static void put_group(uint8_t *p, const struct target *t, uint16_t tag)
{
    p[0] = (uint8_t)paths_access(t, tag);
    p[1] = t->conf.twin ? AO_SUP | AN_SUP | U_SUP : AO_SUP;
    put16(p + 2, tag);
    p[7] = 1;
    put16(p + 10, tag);
}

void scsi_report_target_port_groups(struct command *cmd)
{
    unsigned format = cmd->cdb[1] >> 5;
    struct groups g = paths_groups(cmd->conn->target);
    uint32_t header = format == EXTENDED ? 8 : 4, n = header + GROUP_BYTES * g.n;
    uint8_t *p;

    if (format > EXTENDED) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 7);
        return;
    }
    p = command_in(cmd, n);
    put32(p, n - 4);
    if (format == EXTENDED)
        p[4] = EXTENDED_FORMAT;
    for (unsigned i = 0; i < g.n; i++)
        put_group(p + header + GROUP_BYTES * i, cmd->conn->target, g.tags[i]);
    scsi_reply(cmd, get32(cmd->cdb + 6));
}
