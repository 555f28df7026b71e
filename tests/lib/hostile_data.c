/* tests/lib/hostile_data.c - write data: Data-Out for nobody, out of order, twice, too much, never, tiny;
 * immediate data that is not allowed; lengths that disagree.
 */
#include "hostile.h"

#include "mem.h"

enum { PHASE_ERROR = 0x0b4b00 };
static uint8_t data[1 << 20];

/* A write of so many blocks at LBA 0, all of it asked for by R2T. */
static struct raw *with_r2t(uint16_t blocks, struct raw_r2t *r)
{
    struct raw *c = session(1, "InitialR2T=Yes|ImmediateData=No|MaxBurstLength=65536|");
    uint32_t itt =
        raw_command(c, ISCSI_FINAL | RAW_WRITE, blocks * 512u, raw_cdb10(0x2a, 0, blocks), 10, NULL, 0);

    pattern(data, sizeof data, 1);
    *r = want_r2t(c, itt);
    return c;
}

/* --- for nobody --- */

static void orphan(void)
{
    struct raw *c = session(1, "");

    raw_data_out(c, 0x1234, ISCSI_TAG_NONE, 0, 0, true, data, 512);
    want_reject(c, REJECT_INVALID_FIELD);
    raw_data_out(c, 0x1234, 77, 0, 0, true, data, 65536);
    want_reject(c, REJECT_INVALID_FIELD);
    raw_data_out(c, ISCSI_TAG_NONE, 77, 0, 0, true, data, 0);
    want_reject(c, REJECT_INVALID_FIELD);
    want_same(c, 0, 8, 1);
}

static void orphan_tag(void)
{
    struct raw_r2t r;
    struct raw *c = with_r2t(8, &r);

    raw_data_out(c, r.itt, r.ttt + 1, 0, 0, true, data, 4096);
    want_reject(c, REJECT_INVALID_FIELD);
    raw_data_out(c, r.itt, r.ttt, 0, 0, true, data, 4096);
    want_good(c, r.itt);
}

static void for_a_read(void)
{
    struct raw *c = session(1, "");
    uint32_t itt = raw_command(c, ISCSI_FINAL | RAW_READ, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);

    raw_data_out(c, itt, ISCSI_TAG_NONE, 0, 0, true, data, 512);
    want_good(c, itt);
    want_reject(c, REJECT_INVALID_FIELD);
    want_quiet(c);
}

/* --- out of order --- */

/* One Data-Out that is wrong ends its command; what was on its way behind it is dropped. */
static void wrong(uint32_t sn, uint32_t offset, uint32_t len, bool final)
{
    struct raw_r2t r;
    struct raw *c = with_r2t(16, &r);

    raw_data_out(c, r.itt, r.ttt, sn, offset, final, data, len);
    raw_data_out(c, r.itt, r.ttt, 1, 4096, true, data + 4096, 4096);
    want_sense(c, r.itt, PHASE_ERROR);
    want_quiet(c);
    want_same(c, 0, 16, 2);
    hang_up(&c);
}

static void wrong_offset(void)
{
    wrong(0, 8192, 512, true);
    wrong(0, 0x7fffffff, 512, true);
    wrong(0, 0xffffff00, 512, true);
    wrong(0, 512, 512, false);
}

static void wrong_data_sn(void)
{
    wrong(1, 0, 4096, false);
    wrong(0xffffffff, 0, 4096, false);
}

static void wrong_length(void)
{
    wrong(0, 0, 8193, true);
    wrong(0, 0, 65536, true);
    wrong(0, 0, 4096, true); /* the end of the sequence before all is there */
}

static void second_first(void)
{
    struct raw_r2t r;
    struct raw *c = with_r2t(16, &r);

    raw_data_out(c, r.itt, r.ttt, 1, 4096, true, data + 4096, 4096);
    raw_data_out(c, r.itt, r.ttt, 0, 0, false, data, 4096);
    want_sense(c, r.itt, PHASE_ERROR);
    want_quiet(c);
}

static void duplicated(void)
{
    struct raw_r2t r;
    struct raw *c = with_r2t(16, &r);

    raw_data_out(c, r.itt, r.ttt, 0, 0, false, data, 4096);
    raw_data_out(c, r.itt, r.ttt, 0, 0, false, data, 4096);
    want_sense(c, r.itt, PHASE_ERROR);
    want_quiet(c);
}

static void never_answered(void)
{
    for (int i = 0; i < 64; i++) {
        struct raw_r2t r;
        struct raw *c = with_r2t(2048, &r);

        if (i & 1)
            raw_data_out(c, r.itt, r.ttt, 0, 0, false, data, 512);
        if (i & 2)
            hang_up(&c);
        else
            hang_up_hard(&c);
    }
}

static void cut_short(void)
{
    for (uint32_t n = 1; n < 600; n += 37) {
        struct raw_r2t r;
        struct raw *c = with_r2t(1, &r);
        struct raw_pdu p;
        uint8_t out[2000];

        raw_data_out_header(c, &p, r.itt, r.ttt, 0, 0, true);
        p.data = data;
        p.len = 512;
        raw_put(c, &p, out);
        raw_write(c, out, n < 559 ? n : 559);
        hang_up(&c);
    }
}

/* --- tiny --- */

static void one_byte_each(void)
{
    struct raw_r2t r;
    struct raw *c = with_r2t(8, &r);
    uint8_t in[4096];
    struct raw_answer a;

    for (uint32_t i = 0; i < 4096; i++)
        raw_data_out(c, r.itt, r.ttt, i, i, i == 4095, data + i, 1);
    want_good(c, r.itt);
    a = raw_exchange(c, raw_cdb10(0x28, 0, 8), 10, NULL, 0, in, sizeof in);
    want_is_good(&a);
    want(!memcmp(in, data, sizeof in), "other bytes than were written");
}

static void of_nothing(void)
{
    struct raw_r2t r;
    struct raw *c = with_r2t(8, &r);

    for (uint32_t i = 0; i < 5000; i++)
        raw_data_out(c, r.itt, r.ttt, i, 0, false, NULL, 0);
    raw_data_out(c, r.itt, r.ttt, 5000, 0, true, data, 4096);
    want_good(c, r.itt);
}

static void tiny_segments(void)
{
    struct raw *c = session(1, "MaxRecvDataSegmentLength=512|MaxBurstLength=512|FirstBurstLength=512|");

    c->segment = 512; /* ours to keep to */
    want_same(c, 0, 2048, 5);
    c = session(1, "MaxRecvDataSegmentLength=512|");
    want_same(c, 1, 2047, 6);
}

/* --- unsolicited --- */

static void unsolicited_unasked(void)
{
    struct raw *c = session(1, "InitialR2T=Yes|");

    raw_command(c, RAW_WRITE, 4096, raw_cdb10(0x2a, 0, 8), 10, data, 512);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    want_same(c, 0, 8, 7);
}

static void unsolicited_too_much(void)
{
    struct raw *c = session(1, "InitialR2T=No|ImmediateData=No|FirstBurstLength=4096|");
    uint32_t itt = raw_command(c, RAW_WRITE, 16384, raw_cdb10(0x2a, 0, 32), 10, NULL, 0);

    raw_data_out(c, itt, ISCSI_TAG_NONE, 0, 0, false, data, 4096);
    raw_data_out(c, itt, ISCSI_TAG_NONE, 1, 4096, true, data, 512);
    want_sense(c, itt, PHASE_ERROR);
    want_same(c, 0, 8, 8);
}

static void unsolicited_wrong(void)
{
    static const struct {
        uint32_t sn, offset;
    } heads[] = {{0, 512}, {1, 0}, {0, 0xffffff00}, {0, 0x10000}};

    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct raw *c = session(1, "InitialR2T=No|ImmediateData=No|");
        uint32_t itt = raw_command(c, RAW_WRITE, 4096, raw_cdb10(0x2a, 0, 8), 10, NULL, 0);

        raw_data_out(c, itt, ISCSI_TAG_NONE, heads[i].sn, heads[i].offset, true, data, 512);
        want_sense(c, itt, PHASE_ERROR);
        want_same(c, 0, 8, 8);
        hang_up(&c);
    }
}

/* Data for a command whose CmdSN has not come: taken when it is right, and refused when it is not. */
static void unsolicited_early(void)
{
    struct raw *c = session(1, "InitialR2T=No|ImmediateData=No|");
    uint32_t itt, first;

    c->cmd_sn++;
    itt = raw_command(c, RAW_WRITE, 4096, raw_cdb10(0x2a, 0, 8), 10, NULL, 0);
    raw_data_out(c, itt, ISCSI_TAG_NONE, 0, 512, false, data, 512);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    raw_data_out(c, itt, 5, 0, 0, false, data, 512);
    want_reject(c, REJECT_INVALID_FIELD);
    raw_data_out(c, itt, ISCSI_TAG_NONE, 0, 0, true, data, 4096);
    c->cmd_sn -= 2;
    first = raw_command(c, ISCSI_FINAL, 0, (uint8_t[6]){0}, 6, NULL, 0);
    c->cmd_sn++;
    want_good(c, first);
    want_good(c, itt);
}

static void unsolicited_exact(void)
{
    struct raw *c = session(1, "InitialR2T=No|FirstBurstLength=4096|");
    uint8_t in[16384];
    struct raw_answer a;
    struct raw_r2t r;
    uint32_t itt;

    pattern(data, sizeof data, 9);
    itt = raw_command(c, RAW_WRITE, 16384, raw_cdb10(0x2a, 0, 32), 10, data, 1536);
    raw_data_out(c, itt, ISCSI_TAG_NONE, 0, 1536, true, data + 1536, 2560);
    r = want_r2t(c, itt);
    want(r.offset == 4096 && r.len == 12288, "an R2T for %u at %u", r.len, r.offset);
    raw_data_out(c, itt, r.ttt, 0, 4096, true, data + 4096, 12288);
    want_good(c, itt);
    a = raw_exchange(c, raw_cdb10(0x28, 0, 32), 10, NULL, 0, in, sizeof in);
    want_is_good(&a);
    want(!memcmp(in, data, sizeof in), "other bytes than were written");
}

/* --- immediate --- */

static void immediate(struct raw *c, uint8_t flags, uint32_t edtl, uint32_t len)
{
    raw_command(c, flags, edtl, raw_cdb10(0x2a, 0, (uint16_t)(edtl / 512)), 10, data, len);
    want_reject(c, REJECT_PROTOCOL_ERROR);
    want_same(c, 0, 8, 10);
}

static void immediate_too_much(void)
{
    struct raw *c = session(1, "FirstBurstLength=4096|");

    immediate(c, ISCSI_FINAL | RAW_WRITE, 512, 1024);  /* than EDTL */
    immediate(c, ISCSI_FINAL | RAW_WRITE, 8192, 4097); /* than FirstBurstLength */
    immediate(c, ISCSI_FINAL | RAW_WRITE, 8192, 8192);
    immediate(c, ISCSI_FINAL, 8192, 512); /* without W */
    immediate(c, ISCSI_FINAL | RAW_READ, 8192, 512);
    c = session(2, "ImmediateData=No|");
    c->immediate = false;
    immediate(c, ISCSI_FINAL | RAW_WRITE, 8192, 512);
}

static void immediate_too_long(void)
{
    struct raw *c = session(1, "");

    raw_command(c, ISCSI_FINAL | RAW_WRITE, 1 << 20, raw_cdb10(0x2a, 0, 2048), 10, data, 1 << 20);
    want_closed(c);
}

/* --- lengths that disagree --- */

static void edtl_above(void)
{
    struct raw *c = session(1, "");
    uint32_t itt = raw_command(c, ISCSI_FINAL | RAW_WRITE, 1 << 20, raw_cdb10(0x2a, 0, 1), 10, data, 512);
    struct raw_answer a = raw_answer(c, NULL, 0);

    want(a.opcode == ISCSI_SCSI_RESPONSE && a.itt == itt && !a.status, "%s", said(c, a.opcode));
    want(a.residual == 512 - (1 << 20), "residual %lld", (long long)a.residual);
}

static void edtl_below(void)
{
    struct raw *c = session(1, "");
    struct raw_answer a;

    want_same(c, 0, 8, 11);
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 1024, raw_cdb10(0x2a, 0, 8), 10, data, 1024);
    a = raw_answer(c, NULL, 0);
    want(a.opcode == ISCSI_SCSI_RESPONSE && !a.status && a.residual == 3072, "%s, residual %lld",
         said(c, a.opcode), (long long)a.residual);
    want_quiet(c);
}

static void wrong_direction(void)
{
    struct raw *c = session(1, "");
    struct raw_answer a;

    raw_command(c, ISCSI_FINAL | RAW_READ, 512, raw_cdb10(0x2a, 0, 1), 10, NULL, 0);
    a = raw_answer(c, NULL, 0);
    want(a.opcode == ISCSI_SCSI_RESPONSE && a.got == 0 && a.residual == 512, "%s, residual %lld",
         said(c, a.opcode), (long long)a.residual);
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 512, raw_cdb10(0x28, 0, 1), 10, data, 512);
    a = raw_answer(c, NULL, 0);
    want(a.opcode == ISCSI_SCSI_RESPONSE && a.got == 0 && a.residual == 512, "%s, residual %lld",
         said(c, a.opcode), (long long)a.residual);
    want_same(c, 0, 8, 12);
}

static void huge(void)
{
    struct raw *c = session(1, "");

    raw_command(c, ISCSI_FINAL | RAW_WRITE, 0xffffffff, raw_cdb16(0x8a, 0, 0xffffffff), 16, data, 512);
    want_sense(c, c->itt - 1, 0x052100);
    raw_command(c, ISCSI_FINAL | RAW_WRITE, 0xffffffff, raw_cdb16(0x8a, 0, 32769), 16, data, 512);
    want_sense(c, c->itt - 1, world.blocks < 32769 ? 0x052100 : 0x052400);
    raw_command(c, ISCSI_FINAL | RAW_READ, 0xffffffff, raw_cdb16(0x88, 0, 0xffffffff), 16, NULL, 0);
    want_sense(c, c->itt - 1, 0x052100);
    want_same(c, 0, 8, 13);
}

const struct hostile_case hostile_data[] = {
    {"dataout_orphan", "Data-Out for no task", "Reject 09, the session goes on", orphan},
    {"dataout_orphan_ttt", "Data-Out with a TTT never given", "Reject 09; the right one is taken",
     orphan_tag},
    {"dataout_for_read", "Data-Out for a READ", "its answer, Reject 09", for_a_read},
    {"dataout_offset", "Buffer Offsets past the end, and too far", "b/4b/00, one answer: RFC 7143 7.3",
     wrong_offset},
    {"dataout_sn", "a wrong DataSN", "b/4b/00, one answer, no silence", wrong_data_sn},
    {"dataout_length", "more than was asked for; F too early", "b/4b/00", wrong_length},
    {"dataout_reordered", "the second Data-Out first", "b/4b/00: DataPDUInOrder is Yes", second_first},
    {"dataout_twice", "a Data-Out twice", "b/4b/00", duplicated},
    {"close_in_r2t", "R2Ts never answered, or half, then FIN or RST", "nothing is left of them",
     never_answered},
    {"dataout_cut", "a Data-Out cut by the end of the connection", "nothing is left of it", cut_short},
    {"dataout_tiny", "4 KiB in Data-Outs of one byte", "GOOD, and the right bytes", one_byte_each},
    {"dataout_empty", "5,000 Data-Outs of nothing", "taken, bounded, then GOOD", of_nothing},
    {"tiny_segments", "1 MiB at 512 bytes of segment and burst", "the right bytes", tiny_segments},
    {"unsolicited_unasked", "a write without F though InitialR2T=Yes", "Reject 04", unsolicited_unasked},
    {"unsolicited_burst", "unsolicited data beyond FirstBurstLength", "b/4b/00", unsolicited_too_much},
    {"unsolicited_wrong", "unsolicited data with a wrong DataSN or Buffer Offset", "b/4b/00",
     unsolicited_wrong},
    {"unsolicited_early", "unsolicited data of a command whose CmdSN has not come, wrong and right",
     "Reject 04, 09; then GOOD in its turn", unsolicited_early},
    {"unsolicited_exact", "immediate and unsolicited data up to FirstBurstLength",
     "an R2T for the rest alone", unsolicited_exact},
    {"imm_gt_edtl", "immediate data beyond EDTL or FirstBurstLength, without W, though not agreed on",
     "Reject 04, no other answer", immediate_too_much},
    {"mrdsl_exceed", "immediate data of 1 MiB, beyond MaxRecvDataSegmentLength", "closed: RFC 7143 13.12",
     immediate_too_long},
    {"edtl_gt_cdb", "WRITE(10) of 1 block with EDTL 1 MiB", "GOOD, underflow, no R2T: RFC 7143 11.4.5.2",
     edtl_above},
    {"edtl_lt_cdb", "WRITE(10) of 8 blocks with EDTL 1 KiB", "overflow 3072", edtl_below},
    {"wrong_direction", "WRITE with R, READ with W", "no data, overflow of all of it", wrong_direction},
    {"edtl_huge_write", "lengths of 2^32-1 blocks", "5/21/00; 5/24/00 above the transfer limit", huge},
    {0},
};
