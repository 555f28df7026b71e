/* tests/lib/hostile_lengths.c - allocation lengths of 0 to 8 bytes, and others, for everything that tells
 * about the disk: as many bytes as there is room for, the same ones, and the right residual.
 */
#include "hostile.h"

#include "mem.h"

#include <stdio.h>

enum { MOST = 4096, HEADROOM = 64 };

/* A CDB whose allocation length is `bytes` wide at `at`. */
struct asks {
    const char *name;
    uint8_t len, at, bytes;
    uint8_t cdb[16];
};

static void set_length(struct asks *a, uint32_t n)
{
    for (unsigned i = 0; i < a->bytes; i++)
        a->cdb[a->at + i] = (uint8_t)(n >> 8 * (a->bytes - 1u - i));
}

/* With this allocation length and this EDTL. full: what there is, of which `truth` bytes. */
static void ask(struct raw *c, struct asks *a, uint32_t allocation, uint32_t edtl, const uint8_t *full,
                uint32_t truth)
{
    static uint8_t in[MOST + HEADROOM];
    uint32_t has = allocation < truth ? allocation : truth, comes = has < edtl ? has : edtl;
    struct raw_answer r;

    set_length(a, allocation);
    memset(in, 0xee, sizeof in);
    raw_command(c, (uint8_t)(ISCSI_FINAL | (edtl ? RAW_READ : 0)), edtl, a->cdb, a->len, NULL, 0);
    r = raw_answer(c, in, sizeof in);
    want(r.opcode == ISCSI_DATA_IN || r.opcode == ISCSI_SCSI_RESPONSE, "%s: %s", a->name, said(c, r.opcode));
    want(!r.status, "%s, %u bytes: status %02x, sense %06x", a->name, allocation, (unsigned)r.status,
         r.sense);
    want(r.got == comes, "%s: %u bytes instead of %u for length %u, EDTL %u", a->name, r.got, comes,
         allocation, edtl);
    want(!memcmp(in, full, comes), "%s: other bytes for length %u, EDTL %u", a->name, allocation, edtl);
    want(r.residual == (int64_t)has - edtl, "%s: residual %lld for length %u, EDTL %u, with %u bytes",
         a->name, (long long)r.residual, allocation, edtl, has);
}

/* Lengths of up to `most` bytes, of which the answer may depend on nothing but to be cut. */
static void lengths_below(struct raw *c, const struct asks *which, uint32_t most)
{
    static uint8_t full[MOST];
    struct asks a = *which;
    struct raw_answer r;

    memset(full, 0, sizeof full);
    set_length(&a, most);
    raw_command(c, ISCSI_FINAL | RAW_READ, most, a.cdb, a.len, NULL, 0);
    r = raw_answer(c, full, sizeof full);
    want(r.opcode == ISCSI_DATA_IN && !r.status && r.got, "%s: status %02x, sense %06x, %u bytes", a.name,
         (unsigned)r.status, r.sense, r.got);
    want(r.residual == (int64_t)r.got - most, "%s: residual %lld", a.name, (long long)r.residual);
    for (uint32_t n = 0; n <= 8; n++) {
        ask(c, &a, n, n, full, r.got);
        ask(c, &a, n, HEADROOM, full, r.got);
        ask(c, &a, n, 0, full, r.got);
        ask(c, &a, most, n, full, r.got);
    }
    ask(c, &a, r.got, r.got, full, r.got);
    ask(c, &a, r.got - 1, r.got, full, r.got);
    if (r.got < most)
        ask(c, &a, r.got + 1, r.got + 1, full, r.got);
    if (most == MOST)
        ask(c, &a, a.bytes > 2 ? 0xffffffff : 0xffff, MOST, full, r.got);
}

static void all_lengths(struct raw *c, const struct asks *a)
{
    lengths_below(c, a, a->bytes == 1 ? 255 : MOST);
}

static void inquiries(void)
{
    struct raw *c = session(1, "");
    struct asks a = {"INQUIRY", 6, 3, 2, {0x12}};
    uint8_t pages[MOST];
    struct raw_answer r;
    char name[40];

    all_lengths(c, &a);
    r = raw_exchange(c, "\x12\x01\0\x01\0\0", 6, NULL, 0, pages, 256);
    want(!r.status && r.got > 4 && pages[3] == r.got - 4, "page 00h of %u bytes", r.got);
    for (uint32_t i = 4; i < r.got; i++) {
        snprintf(name, sizeof name, "INQUIRY page %02x", pages[i]);
        a = (struct asks){name, 6, 3, 2, {0x12, 1, pages[i]}};
        all_lengths(c, &a);
    }
}

static void mode_pages(void)
{
    static const uint8_t pages[] = {0x08, 0x0a, 0x1c, 0x3f};
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof pages; i++)
        for (uint8_t dbd = 0; dbd <= 8; dbd = (uint8_t)(dbd + 8)) {
            struct asks six = {"MODE SENSE(6)", 6, 4, 1, {0x1a, dbd, pages[i]}};
            struct asks ten = {"MODE SENSE(10)", 10, 7, 2, {0x5a, dbd, pages[i]}};
            struct asks long_lba = {"MODE SENSE(10) LLBAA", 10, 7, 2, {0x5a, (uint8_t)(dbd | 16), pages[i]}};

            all_lengths(c, &six);
            all_lengths(c, &ten);
            all_lengths(c, &long_lba);
        }
}

static void reports(void)
{
    static const struct asks all[] = {
        {"REQUEST SENSE", 6, 4, 1, {0x03}},
        {"REQUEST SENSE, descriptors", 6, 4, 1, {0x03, 1}},
        {"REPORT LUNS", 12, 6, 4, {0xa0}},
        {"REPORT LUNS, well-known", 12, 6, 4, {0xa0, 0, 1}},
        {"REPORT LUNS, all", 12, 6, 4, {0xa0, 0, 2}},
        {"REPORT SUPPORTED OPERATION CODES", 12, 6, 4, {0xa3, 0x0c}},
        {"REPORT SUPPORTED OPERATION CODES, timeouts", 12, 6, 4, {0xa3, 0x0c, 0x80}},
        {"REPORT SUPPORTED OPERATION CODES, one", 12, 6, 4, {0xa3, 0x0c, 0x81, 0x28}},
        {"REPORT SUPPORTED OPERATION CODES, an action", 12, 6, 4, {0xa3, 0x0c, 0x02, 0x9e, 0, 0x10}},
        {"REPORT SUPPORTED OPERATION CODES, none", 12, 6, 4, {0xa3, 0x0c, 0x01, 0xc0}},
        {"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 12, 6, 4, {0xa3, 0x0d}},
        {"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, all", 12, 6, 4, {0xa3, 0x0d, 0x80}},
        {"REPORT TARGET PORT GROUPS", 12, 6, 4, {0xa3, 0x0a}},
        {"REPORT TARGET PORT GROUPS, extended", 12, 6, 4, {0xa3, 0x2a}},
        {"READ CAPACITY(16)", 16, 10, 4, {0x9e, 0x10}},
        {"PERSISTENT RESERVE IN, keys", 10, 7, 2, {0x5e, 0}},
        {"PERSISTENT RESERVE IN, reservation", 10, 7, 2, {0x5e, 1}},
        {"PERSISTENT RESERVE IN, capabilities", 10, 7, 2, {0x5e, 2}},
        {"PERSISTENT RESERVE IN, full status", 10, 7, 2, {0x5e, 3}},
        {"LOG SENSE", 10, 7, 2, {0x4d, 0, 0x40}},
        {"LOG SENSE, subpages", 10, 7, 2, {0x4d, 0, 0x40, 0xff}},
        {"LOG SENSE, exceptions", 10, 7, 2, {0x4d, 0, 0x6f}},
        {"READ DEFECT DATA(10)", 10, 7, 2, {0x37}},
        {"READ DEFECT DATA(12)", 12, 6, 4, {0xb7}},
        {"RECEIVE COPY OPERATING PARAMETERS", 16, 10, 4, {0x84, 3}},
    };
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        all_lengths(c, &all[i]);
}

/* How many descriptors there are is left to us (SBC-3 5.10): one, when there is room for one. */
static void lba_status(void)
{
    static const struct asks a = {"GET LBA STATUS", 16, 10, 4, {0x9e, 0x12}};

    lengths_below(session(1, ""), &a, 24);
}

/* The CDB has no allocation length: the EDTL alone cuts. */
static void capacity10(void)
{
    uint8_t full[8], in[8];
    struct raw *c = session(1, "");
    struct raw_answer r = raw_exchange(c, raw_cdb10(0x25, 0, 0), 10, NULL, 0, full, 8);

    want_is_good(&r);
    for (uint32_t n = 0; n <= 8; n++) {
        raw_command(c, (uint8_t)(ISCSI_FINAL | (n ? RAW_READ : 0)), n, raw_cdb10(0x25, 0, 0), 10, NULL, 0);
        r = raw_answer(c, in, sizeof in);
        want(!r.status && r.got == n && !memcmp(in, full, n) && r.residual == 8 - (int64_t)n,
             "EDTL %u: %u bytes, residual %lld", n, r.got, (long long)r.residual);
    }
}

/* Sense is never more than its own length says. */
static void sense_lengths(void)
{
    struct raw *c = session(1, "MaxRecvDataSegmentLength=512|");

    want_sense(c, raw_command(c, ISCSI_FINAL | RAW_READ, 1, raw_cdb16(0xff, 0, 0), 16, NULL, 0), 0x052000);
    want(c->len >= 2 + 18 && get16(c->data) == c->len - 2 && c->data[2 + 7] == c->len - 2 - 8,
         "sense of %u bytes in a segment of %u", get16(c->data), c->len);
}

const struct hostile_case hostile_lengths[] = {
    {"inq_alloc0", "INQUIRY and each VPD page, lengths 0 to 8 and around what there is",
     "cut there, the same bytes, the residual of RFC 7143 11.4.5", inquiries},
    {"mode_sense_lengths", "MODE SENSE(6) and (10) the same", "the same (SPC-4 4.2.5.6)", mode_pages},
    {"report_lengths", "all that reports the same", "the same", reports},
    {"lba_status_lengths", "GET LBA STATUS the same, up to 24", "the same", lba_status},
    {"capacity_lengths", "READ CAPACITY(10) with EDTL 0 to 8", "overflow of the rest", capacity10},
    {"sense_lengths", "a CHECK CONDITION with EDTL 1", "SenseLength is what comes", sense_lengths},
    {0},
};
