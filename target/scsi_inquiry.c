/* target/scsi_inquiry.c - INQUIRY: standard data and the vital product data pages (SPC-4 6.6, 7.8;
 * SBC-3 6.6). A page is written into a buffer of fixed size, then cut to the allocation length.
 */
#include "scsi.h"
#include "scsi_limits.h"

#include "check.h"
#include "session.h"
#include "wire.h"

#include <stdio.h>

enum {
    EVPD = 0x01,
    PAGE_MAX = 1024,
    NO_DEVICE = 0x7f /* peripheral qualifier 011b, type 1Fh */,
    WELL_KNOWN = 0x1e
};
enum { STANDARD_BYTES = 96, TPGS_IMPLICIT = 0x10, THIRD_PARTY_COPY = 0x08, MULTIP = 0x10 };

/* Code sets, associations and designator types of page 83h. */
enum { BINARY = 1, ASCII = 2, UTF8 = 3 };
enum { OF_LUN = 0x00, OF_PORT = 0x10, OF_DEVICE = 0x20, PIV = 0x80, PROTOCOL_ISCSI = 0x50 };
enum { T10_VENDOR = 1, NAA = 3, RELATIVE_TARGET_PORT = 4, TARGET_PORT_GROUP = 5, SCSI_NAME = 8 };

static const char vendor[] = "ISTHMUS ", product[] = "edge disk       ", revision[] = "0001";

static uint8_t peripheral(const struct command *cmd)
{
    return cmd->lun == LUN_REPORT_LUNS ? WELL_KNOWN : scsi_volume(cmd) ? 0 : NO_DEVICE;
}

static void standard(struct command *cmd)
{
    static const uint16_t versions[] = {0x00a0 /* SAM-5 */, 0x0960 /* iSCSI */, 0x0460 /* SPC-4 */,
                                        0x04c0 /* SBC-3 */};
    uint8_t *p = command_in(cmd, STANDARD_BYTES);

    p[0] = peripheral(cmd);
    p[2] = 0x06; /* SPC-4 */
    p[3] = 0x12; /* HISUP, response data format 2 */
    p[4] = STANDARD_BYTES - 5;
    p[5] = TPGS_IMPLICIT | THIRD_PARTY_COPY;
    p[6] = paths_groups(cmd->conn->target).n > 1 ? MULTIP : 0;
    p[7] = 0x02; /* CMDQUE */
    memcpy(p + 8, vendor, 8);
    memcpy(p + 16, product, 16);
    memcpy(p + 32, revision, 4);
    for (unsigned i = 0; i < sizeof versions / sizeof *versions; i++)
        put16(p + 58 + 2 * i, versions[i]);
}

/* --- pages: each writes what follows the four bytes of header and returns how much --- */

static uint32_t page_serial(struct command *cmd, uint8_t *p)
{
    memcpy(p, volume_serial(scsi_volume(cmd)), 16);
    return 16;
}

static uint8_t *designator(uint8_t *p, uint8_t code_set, uint8_t kind, uint8_t type, const void *value,
                           size_t n)
{
    p[0] = code_set;
    p[1] = (uint8_t)(kind | type);
    if (kind & PIV)
        p[0] |= PROTOCOL_ISCSI;
    p[3] = (uint8_t)n;
    memcpy(p + 4, value, n);
    return p + 4 + n;
}

/* NUL-terminated and padded to a multiple of four, as SPC-4 7.8.6.11 wants it. */
static uint8_t *name_designator(uint8_t *p, uint8_t kind, const char *name)
{
    char padded[256] = {0};
    size_t n = (strlen(name) / 4 + 1) * 4;

    CHECK(n <= 252);
    memcpy(padded, name, strlen(name));
    return designator(p, UTF8, kind, SCSI_NAME, padded, n);
}

static uint32_t page_identification(struct command *cmd, uint8_t *p)
{
    const struct volume *v = scsi_volume(cmd); /* NULL: the well-known logical unit has no name of its own */
    const struct vm *vm = cmd->conn->session->vm;
    uint8_t port[4] = {0}; /* its relative identifier, and that of its group */
    char t10[25], name[VM_IQN_MAX + 16];
    uint8_t *at = p;

    snprintf(name, sizeof name, "%s,t,0x%04x", vm->spec.iqn, cmd->conn->group);
    put16(port + 2, cmd->conn->group);
    if (v) {
        snprintf(t10, sizeof t10, "%s%s", vendor, volume_serial(v));
        at = designator(at, BINARY, OF_LUN, NAA, volume_naa(v), 8);
        at = designator(at, ASCII, OF_LUN, T10_VENDOR, t10, 24);
    }
    at = designator(at, BINARY, OF_PORT | PIV, RELATIVE_TARGET_PORT, port, 4);
    at = designator(at, BINARY, OF_PORT | PIV, TARGET_PORT_GROUP, port, 4);
    at = name_designator(at, OF_PORT | PIV, name);
    at = name_designator(at, OF_DEVICE | PIV, vm->spec.iqn);
    return (uint32_t)(at - p);
}

static uint32_t page_extended(struct command *cmd, uint8_t *p)
{
    (void)cmd;
    p[1] = 0x07; /* HEADSUP, ORDSUP, SIMPSUP */
    p[2] = 0x01; /* V_SUP: there is a volatile cache (until SYNCHRONIZE CACHE) */
    return 60;
}

static uint32_t page_limits(struct command *cmd, uint8_t *p)
{
    uint32_t block = scsi_block_bytes(cmd);

    p[0] = 0x01; /* WSNZ */
    p[1] = COMPARE_BLOCKS_MAX;
    put16(p + 2, (uint16_t)(PHYSICAL_BLOCK_BYTES / block));
    put32(p + 4, COMMAND_BYTES_MAX / block);
    put32(p + 8, OPTIMAL_BYTES / block);
    put32(p + 16, UNMAP_BLOCKS_MAX);
    put32(p + 20, UNMAP_DESCRIPTORS_MAX);
    put32(p + 24, PHYSICAL_BLOCK_BYTES / block);
    put32(p + 28, 0x80000000u); /* UGAVALID, alignment 0 */
    put64(p + 32, WRITE_SAME_BLOCKS_MAX);
    put32(p + 40, ATOMIC_BYTES_MAX / block); /* any alignment and granularity; no boundaries */
    return 60;
}

static uint32_t page_characteristics(struct command *cmd, uint8_t *p)
{
    (void)cmd;
    put16(p, 1); /* not rotating */
    return 60;
}

static uint32_t page_provisioning(struct command *cmd, uint8_t *p)
{
    (void)cmd;
    p[1] = 0xe4; /* LBPU, LBPWS, LBPWS10, LBPRZ */
    p[2] = 0x02; /* thin */
    return 4;
}

static uint32_t page_list(struct command *cmd, uint8_t *p);

/* In ascending order, as page 00h shows them. */
static const struct {
    uint8_t code;
    bool well_known; /* the well-known logical unit has it too */
    uint32_t (*write)(struct command *, uint8_t *);
} pages[] = {
    {0x00, true, page_list},
    {0x80, false, page_serial},
    {0x83, true, page_identification},
    {0x86, false, page_extended},
    {0x8f, false, scsi_copy_page},
    {0xb0, false, page_limits},
    {0xb1, false, page_characteristics},
    {0xb2, false, page_provisioning},
};

static bool has_page(const struct command *cmd, unsigned i)
{
    return cmd->lun >= 0 || pages[i].well_known;
}

static uint32_t page_list(struct command *cmd, uint8_t *p)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < sizeof pages / sizeof *pages; i++)
        if (has_page(cmd, i))
            p[n++] = pages[i].code;
    return n;
}

static bool vital_product_data(struct command *cmd)
{
    for (unsigned i = 0; i < sizeof pages / sizeof *pages; i++) {
        uint8_t *p;
        uint32_t n;

        if (pages[i].code != cmd->cdb[2] || !has_page(cmd, i))
            continue;
        p = command_in(cmd, PAGE_MAX);
        p[0] = peripheral(cmd);
        p[1] = pages[i].code;
        n = pages[i].write(cmd, p + 4);
        put16(p + 2, (uint16_t)n);
        cmd->in_len = n + 4;
        return true;
    }
    return false;
}

void scsi_inquiry(struct command *cmd)
{
    bool evpd = cmd->cdb[1] & EVPD;

    if (evpd && !scsi_volume(cmd) && cmd->lun != LUN_REPORT_LUNS) {
        command_check(cmd, SENSE_LUN_NOT_SUPPORTED);
        return;
    }
    if ((!evpd && cmd->cdb[2]) || (evpd && !vital_product_data(cmd))) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, 7);
        return;
    }
    if (!evpd)
        standard(cmd);
    scsi_reply(cmd, get16(cmd->cdb + 3));
}
