/* target/scsi_report.c - what a disk is asked about itself: LOG SENSE (SPC-4 6.8), READ DEFECT DATA (SBC-3
 * 5.13f), REPORT TARGET PORT GROUPS (SPC-4 6.37). There are no defects, and one port group that is always
 * active/optimized: an edge does not serve another edge's VMs.
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

enum { LENGTH_ONLY, EXTENDED, EXTENDED_FORMAT = 0x10, ACTIVE_OPTIMIZED = 0x00, AO_SUP = 0x01 };

void scsi_report_target_port_groups(struct command *cmd)
{
    unsigned format = cmd->cdb[1] >> 5;
    uint32_t header = format == EXTENDED ? 8 : 4;
    uint8_t *p, *group;

    if (format > EXTENDED) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 7);
        return;
    }
    p = command_in(cmd, header + 12);
    put32(p, header + 12 - 4);
    if (format == EXTENDED)
        p[4] = EXTENDED_FORMAT;
    group = p + header;
    group[0] = ACTIVE_OPTIMIZED;
    group[1] = AO_SUP;
    put16(group + 2, cmd->conn->target->conf.portal_group);
    group[7] = 1; /* one port: */
    put16(group + 10, cmd->conn->target->conf.portal_group);
    scsi_reply(cmd, get32(cmd->cdb + 6));
}
