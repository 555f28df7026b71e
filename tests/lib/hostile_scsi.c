/* tests/lib/hostile_scsi.c - CDBs and parameter lists at and past their edges.
 */
#include "hostile.h"

#include "mem.h"

/* A command without data; its answer must be GOOD. */
static void good(struct raw *c, const void *cdb, size_t n)
{
    want_good(c, raw_command(c, ISCSI_FINAL, 0, cdb, n, NULL, 0));
}

static void sense(struct raw *c, const void *cdb, size_t n, uint32_t what)
{
    want_sense(c, raw_command(c, ISCSI_FINAL, 0, cdb, n, NULL, 0), what);
}

static void length_zero(void)
{
    static const uint8_t ten[] = {0x28, 0x2a, 0x2e, 0x2f}, twelve[] = {0xa8, 0xaa, 0xae, 0xaf},
                         sixteen[] = {0x88, 0x8a, 0x8e, 0x8f, 0x8b, 0x89};
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof ten; i++)
        good(c, raw_cdb10(ten[i], 5, 0), 10);
    for (size_t i = 0; i < sizeof twelve; i++)
        good(c, raw_cdb10(twelve[i], 5, 0), 12);
    for (size_t i = 0; i < sizeof sixteen; i++)
        good(c, raw_cdb16(sixteen[i], 5, 0), 16);
    good(c, raw_cdb10(0x42, 0, 0), 10);     /* UNMAP of no list */
    for (size_t i = 0; i < sizeof ten; i++) /* at the end is not beyond it */
        sense(c, raw_cdb10(ten[i], (uint32_t)world.blocks, 0), 10, 0x052100);
}

static void beyond_end(void)
{
    static const uint8_t ten[] = {0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41},
                         sixteen[] = {0x88, 0x8a, 0x8e, 0x8f, 0x8b, 0x89, 0x90, 0x91, 0x93, 0x9c};
    static const uint64_t far[] = {UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 32,
                                   UINT64_MAX / 512};
    uint32_t end = (uint32_t)world.blocks;
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof ten; i++) {
        sense(c, raw_cdb10(ten[i], end, 1), 10, 0x052100);
        sense(c, raw_cdb10(ten[i], end - 1, 2), 10, 0x052100);
        sense(c, raw_cdb10(ten[i], 0xffffffff, 0xffff), 10, 0x052100);
    }
    for (size_t i = 0; i < sizeof sixteen; i++)
        for (size_t k = 0; k < sizeof far / sizeof *far; k++) {
            uint8_t cdb[16];

            memcpy(cdb, raw_cdb16(sixteen[i], far[k], sixteen[i] == 0x89 ? 0 : 2), 16);
            if (sixteen[i] == 0x89 || sixteen[i] == 0x9c)
                cdb[13] = 1;
            sense(c, cdb, 16, 0x052100);
        }
    sense(c, raw_cdb16(0x9e, 0, 0), 16, 0x052400);
    want_same(c, 0, 8, 1);
}

static void wraps(void)
{
    struct raw *c = session(1, "");
    uint32_t itt = raw_command(c, ISCSI_FINAL | RAW_READ, 1024, raw_cdb16(0x88, UINT64_MAX, 2), 16, NULL, 0);
    struct raw_answer a = want_sense(c, itt, 0x052100);

    want(a.got == 0 && a.residual == -1024, "%u bytes, residual %lld", a.got, (long long)a.residual);
}

static void partly_beyond(void)
{
    struct raw *c = session(1, "");
    uint32_t itt = raw_command(c, ISCSI_FINAL | RAW_READ, 4096,
                               raw_cdb10(0x28, (uint32_t)world.blocks - 4, 8), 10, NULL, 0);
    struct raw_answer a = want_sense(c, itt, 0x052100);

    want(a.got == 0 && a.residual == -4096, "%u bytes, residual %lld", a.got, (long long)a.residual);
    itt = raw_command(c, ISCSI_FINAL | RAW_WRITE, 4096, raw_cdb10(0x2a, (uint32_t)world.blocks - 4, 8), 10,
                      c->data, 4096);
    a = want_sense(c, itt, 0x052100);
    want(a.residual == -4096, "residual %lld", (long long)a.residual);
}

static void expects_nothing(void)
{
    struct raw *c = session(1, "");
    struct raw_answer a;

    raw_command(c, ISCSI_FINAL, 0, raw_cdb10(0x28, 0, 8), 10, NULL, 0);
    a = raw_answer(c, NULL, 0);
    want(a.opcode == ISCSI_SCSI_RESPONSE && !a.status && a.residual == 4096, "%s, residual %lld",
         said(c, a.opcode), (long long)a.residual);
    raw_command(c, ISCSI_FINAL | RAW_READ, 100, raw_cdb10(0x28, 0, 8), 10, NULL, 0);
    a = raw_answer(c, NULL, 0);
    want(!a.status && a.got == 100 && a.residual == 3996, "%u bytes, residual %lld", a.got,
         (long long)a.residual);
    raw_command(c, ISCSI_FINAL | RAW_READ, 8192, raw_cdb10(0x28, 0, 8), 10, NULL, 0);
    a = raw_answer(c, NULL, 0);
    want(!a.status && a.got == 4096 && a.residual == -4096, "%u bytes, residual %lld", a.got,
         (long long)a.residual);
}

/* --- LUNs --- */

static void luns(void)
{
    static const uint8_t fields[][8] = {{0, 200},
                                        {0, 1},
                                        {0x40, 1},
                                        {0x3f, 0xff},
                                        {0xc1, 2},
                                        {0x80, 0},
                                        {0, 0, 0, 1},
                                        {0, 0, 0, 0, 0, 0, 0, 1},
                                        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        struct raw_pdu p;
        uint8_t inquiry[6] = {0x12, 0, 0, 0, 36};
        uint32_t itt = raw_command_header(c, &p, ISCSI_FINAL, 0, (uint8_t[6]){0}, 6);
        struct raw_answer a;

        memcpy(p.bhs + AT_LUN, fields[i], 8);
        raw_send(c, &p);
        want_sense(c, itt, 0x052500);
        raw_command_header(c, &p, ISCSI_FINAL | RAW_READ, 36, inquiry, 6);
        memcpy(p.bhs + AT_LUN, fields[i], 8);
        raw_send(c, &p);
        a = raw_answer(c, inquiry, 1);
        want(!a.status && a.got == 36 && inquiry[0] == 0x7f, "INQUIRY of no LUN: %02x, %u bytes", inquiry[0],
             a.got);
    }
}

/* --- parameter lists --- */

static void list(struct raw *c, const void *cdb, size_t n, const void *out, uint32_t len, uint32_t edtl,
                 uint32_t what)
{
    want_sense(c, raw_command(c, ISCSI_FINAL | RAW_WRITE, edtl, cdb, n, out, len), what);
}

static void mode_select(void)
{
    struct raw *c = session(1, "");
    uint8_t junk[64], page[32] = {0}, block[16] = {[7] = 8, [8] = 0, [14] = 2};

    memset(junk, 0xff, sizeof junk);
    list(c, "\x55\x10\0\0\0\0\0\xff\xff\0", 10, junk, 8, 8, 0x051a00);
    list(c, "\x55\x10\0\0\0\0\0\0\x40\0", 10, junk, 64, 64, 0x051a00);
    list(c, "\x55\x10\0\0\0\0\0\0\x03\0", 10, junk, 3, 3, 0x051a00);
    list(c, "\x15\x10\0\0\x40\0", 6, junk, 64, 64, 0x051a00);
    list(c, "\x15\x10\0\0\x01\0", 6, junk, 1, 1, 0x051a00);
    list(c, "\x55\x11\0\0\0\0\0\0\x08\0", 10, junk, 8, 8, 0x052400); /* SP */
    page[8] = 0x3f;                                                  /* no such page */
    page[9] = 10;
    list(c, "\x55\x10\0\0\0\0\0\0\x14\0", 10, page, 20, 20, 0x052600);
    page[8] = 0x0a;
    page[9] = 0xff; /* a length that is not the page's */
    list(c, "\x55\x10\0\0\0\0\0\0\x14\0", 10, page, 20, 20, 0x052600);
    page[9] = 10;
    list(c, "\x55\x10\0\0\0\0\0\0\x0e\0", 10, page, 14, 14, 0x051a00); /* half of it */
    block[11] = 1;                                                     /* another number of blocks */
    list(c, "\x55\x10\0\0\0\0\0\0\x10\0", 10, block, 16, 16, 0x052600);
    want_same(c, 0, 8, 2);
}

static void unmap(void)
{
    struct raw *c = session(1, "");
    uint8_t p[40] = {0xff, 0xff, 0xff, 0xff};

    want_same(c, 0, 64, 3);
    list(c, raw_cdb10(0x42, 0, 4), 10, p, 4, 4, 0x051a00);
    put32(p + 16, 8);
    list(c, raw_cdb10(0x42, 0, 24), 10, p, 24, 24, 0x052600); /* longer than the list */
    put16(p, 22);
    put16(p + 2, 16);
    put64(p + 8, UINT64_MAX);
    put32(p + 16, 0xffffffff);
    list(c, raw_cdb10(0x42, 0, 24), 10, p, 24, 24, 0x052100);
    put64(p + 8, UINT64_MAX - 6); /* its end is LBA 1 */
    put32(p + 16, 8);
    list(c, raw_cdb10(0x42, 0, 24), 10, p, 24, 24, 0x052100);
    put64(p + 8, world.blocks - 1);
    put32(p + 16, 2);
    list(c, raw_cdb10(0x42, 0, 24), 10, p, 24, 24, 0x052100);
    put16(p, 38);
    put16(p + 2, 32);
    put64(p + 8, 0); /* a good one, before one that is not */
    put32(p + 16, 8);
    put64(p + 24, world.blocks);
    put32(p + 32, 8);
    list(c, raw_cdb10(0x42, 0, 40), 10, p, 40, 40, 0x052100);
    {
        uint8_t in[4096], out[64 * 512];
        struct raw_answer a = raw_exchange(c, raw_cdb10(0x28, 0, 8), 10, NULL, 0, in, sizeof in);

        want_is_good(&a);
        pattern(out, sizeof out, 3);
        want(!memcmp(in, out, sizeof in), "an UNMAP that failed has unmapped");
    }
}

static void reserve_out(void)
{
    static const uint8_t register_huge[10] = {0x5f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0};
    struct raw *c = session(1, "");
    uint8_t junk[64];

    memset(junk, 0xff, sizeof junk);
    list(c, register_huge, 10, junk, 24, 24, 0x051a00);
    for (uint8_t action = 0; action < 32; action++) {
        uint8_t cdb[10] = {0x5f, action, 0xff, 0, 0, 0, 0, 0, 24, 0};
        struct raw_answer a;

        raw_command(c, ISCSI_FINAL | RAW_WRITE, 24, cdb, 10, junk, 24);
        a = raw_answer(c, NULL, 0);
        want(a.opcode == ISCSI_SCSI_RESPONSE && (a.status == 2 || a.status == 0x18), "action %u: %s", action,
             said(c, a.opcode));
    }
    want_same(c, 0, 8, 4);
}

static void copy_garbage(void)
{
    static const struct {
        uint16_t targets;
        uint32_t segments, inlined;
    } lengths[] = {{0xffff, 0, 0},      {0, 0xffffffff, 0}, {0, 0, 0xffffffff},
                   {32, 0xfffffff0, 0}, {31, 28, 0},        {0x7fe0, 0x7fffffe4, 0x80000000}};
    uint8_t cdb[16] = {0x83}, p[512];
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (uint32_t n = 1; n <= sizeof p; n += n < 20 ? 1 : 41) {
            struct raw_answer a;

            memset(p, 0xe4, sizeof p);
            put16(p + 2, lengths[i].targets);
            put32(p + 8, lengths[i].segments);
            put32(p + 12, lengths[i].inlined);
            put32(cdb + 10, n);
            raw_command(c, ISCSI_FINAL | RAW_WRITE, n, cdb, 16, p, n);
            a = raw_answer(c, NULL, 0);
            want(a.status == 2 && (a.sense == 0x051a00 || a.sense >> 8 == 0x0526),
                 "%zu, %u bytes: status %02x, sense %06x", i, n, (unsigned)a.status, a.sense);
        }
    want_same(c, 0, 8, 7);
}

static void orwrite(void)
{
    struct raw *c = session(1, "");
    uint8_t data[4096];
    struct raw_answer a;

    memset(data, 0x80, sizeof data);
    want_same(c, 0, 8, 5);
    a = raw_exchange(c, raw_cdb16(0x8b, 0, 8), 16, data, sizeof data, NULL, 0);
    want_is_good(&a);
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb16(0x8b, 0, 8), 16, data, 512);
    a = raw_answer(c, NULL, 0);
    want(a.opcode == ISCSI_SCSI_RESPONSE, "%s", said(c, a.opcode));
    want_quiet(c);
}

static void write_same(void)
{
    struct raw *c = session(1, "");
    uint8_t data[512] = {1};

    list(c, raw_cdb16(0x93, 0, 0), 16, data, 512, 512, 0x052400); /* 0 blocks: WSNZ */
    list(c, raw_cdb16(0x93, 0, 0xffffffff), 16, data, 512, 512, 0x052100);
    want_same(c, 0, 8, 6);
}

/* --- every operation code --- */

/* To this LUN, data out (or none) of the same bytes as the CDB: an answer to each. */
static void each_opcode(struct raw *c, const uint8_t lun[8], uint8_t fill, uint32_t out_len)
{
    uint8_t cdb[16], out[512];

    memset(cdb, fill, sizeof cdb);
    memset(out, fill, sizeof out);
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        uint8_t flags = (uint8_t)(ISCSI_FINAL | (out_len ? RAW_WRITE : 0));
        struct raw_answer a;
        struct raw_pdu p;

        cdb[0] = (uint8_t)opcode;
        raw_command_header(c, &p, flags, out_len, cdb, 16);
        memcpy(p.bhs + AT_LUN, lun, 8);
        p.data = out;
        p.len = out_len;
        raw_send(c, &p);
        a = raw_answer(c, NULL, 0);
        want(a.opcode == ISCSI_SCSI_RESPONSE && a.got == 0, "opcode %02x of %02x: %s", opcode, fill,
             said(c, a.opcode));
    }
    want_quiet(c);
}

static const uint8_t lun0[8], report_luns_lun[8] = {0xc1, 1}, no_lun[8] = {0, 77};

static void every_opcode(void)
{
    static const uint8_t fills[] = {0x00, 0xff, 0xa5};
    struct raw *c;

    for (size_t i = 0; i < sizeof fills; i++)
        for (uint32_t out_len = 0; out_len <= 512; out_len += 512) {
            c = session(1, "");
            each_opcode(c, lun0, fills[i], out_len);
            hang_up(&c);
        }
}

/* With unit attentions pending, which belong to other LUNs. */
static void every_opcode_elsewhere(void)
{
    struct raw *c = session(1, "");

    want_managed(c, raw_manage(c, TMF_TARGET_WARM_RESET, 0, ISCSI_TAG_NONE, 0), TMF_COMPLETE);
    each_opcode(c, report_luns_lun, 0x00, 0);
    each_opcode(c, report_luns_lun, 0xff, 512);
    each_opcode(c, no_lun, 0x00, 0);
    each_opcode(c, no_lun, 0xff, 512);
    want_sense(c, raw_command(c, ISCSI_FINAL, 0, (const uint8_t[6]){0}, 6, NULL, 0), 0x062903);
}

static void unknown_opcodes(void)
{
    static const uint8_t none[] = {0x01, 0x04, 0x0b, 0x3b, 0x7f, 0xc0, 0xff};
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof none; i++)
        sense(c, raw_cdb16(none[i], 0, 0), 16, 0x052000);
    sense(c, raw_cdb10(0xa3, 0x1f000000, 0), 12, 0x052400);
    sense(c, (const uint8_t[6]){0, 0, 0, 0, 0, 4}, 6, 0x052400); /* NACA */
}

/* --- additional header segments of a command --- */

static void command_ahs(void)
{
    static const uint8_t heads[][4] = {
        {0xff, 0xff, 0xff, 0xff}, {0, 0, 1, 0}, {0, 17, 1, 0}, {0, 5, 2, 0}, {0, 0, 0, 0},
        {0xff, 0xff, 1, 0}};
    struct raw *c = session(1, "");

    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (uint32_t n = 4; n <= ISCSI_AHS_MAX; n += 254 * 4) {
            uint8_t ahs[ISCSI_AHS_MAX] = {0};
            struct raw_pdu p;
            uint32_t itt = raw_command_header(c, &p, ISCSI_FINAL, 0, (uint8_t[6]){0}, 6);

            memcpy(ahs, heads[i], 4);
            p.ahs = ahs;
            p.ahs_len = n;
            raw_send(c, &p);
            want_good(c, itt);
        }
}

const struct hostile_case hostile_scsi[] = {
    {"length_zero", "transfer length 0, within the disk and at its end", "GOOD; 5/21/00 (SBC-3 5.13)",
     length_zero},
    {"beyond_end", "LBAs beyond the end, 2^63, 2^64-1", "5/21/00 and no data", beyond_end},
    {"lba_wrap", "READ(16) LBA 2^64-1, 2 blocks", "5/21/00, underflow 1024", wraps},
    {"partly_beyond", "4 of 8 blocks beyond the end", "5/21/00, no data at all, underflow of all",
     partly_beyond},
    {"edtl_zero_read", "READ(10) of 8 blocks, EDTL 0, 100, 8192", "overflow, overflow, underflow",
     expects_nothing},
    {"lun_64", "LUN 200, other formats and levels", "5/25/00; INQUIRY says 7f (SPC-4 6.4.2)", luns},
    {"modesel_garbage", "MODE SELECT of junk, 65535 bytes claimed", "5/1a/00, 5/26/00, 5/24/00", mode_select},
    {"unmap_garbage", "UNMAP lists with impossible lengths and LBAs",
     "5/1a/00, 5/26/00, 5/21/00; nothing is unmapped", unmap},
    {"prout_garbage", "PERSISTENT RESERVE OUT of junk, each action", "5/1a/00; never GOOD", reserve_out},
    {"orwrite", "ORWRITE, also with too little data", "an answer", orwrite},
    {"write_same", "WRITE SAME of 0 and of 2^32-1 blocks", "5/24/00, 5/21/00", write_same},
    {"every_opcode", "each operation code with 00, ff and a5, with data out and without",
     "an answer, no data in", every_opcode},
    {"every_opcode_lun", "the same to the REPORT LUNS well-known LUN, and to none, after a reset",
     "an answer; LUN 0's unit attention is still there", every_opcode_elsewhere},
    {"copy_garbage", "EXTENDED COPY with impossible list lengths", "5/1a/00 or 5/26/xx", copy_garbage},
    {"unknown_opcode", "operation codes and actions that are none, NACA", "5/20/00, 5/24/00",
     unknown_opcodes},
    {"ahs_bogus", "TEST UNIT READY with AHS of bogus types and lengths", "GOOD: skipped", command_ahs},
    {0},
};
