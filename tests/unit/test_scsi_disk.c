/* links: raw fake_volumes target */
/* What a disk is, over a socket: blocks of 4096 bytes, more than 2 TiB, one that grows; the well-known
 * logical unit; and where sense data points at in a request that is wrong.
 */
#include "target_fixture.h"

static const uint8_t ones[8192] = {[0 ... 8191] = 1};

static struct raw_answer ask(struct raw *c, uint8_t *out, const void *cdb, size_t n)
{
    command_send(c, F | R, 65536, cdb, n, NULL, 0);
    return answer_recv(c, out);
}

static const uint8_t *rw16(uint8_t opcode, uint64_t lba, uint32_t count)
{
    static uint8_t cdb[16];

    memset(cdb, 0, sizeof cdb);
    cdb[0] = opcode;
    put64(cdb + 2, lba);
    put32(cdb + 10, count);
    return cdb;
}

static const uint8_t capacity16[16] = {0x9e, 0x10, [13] = 32}, limits[6] = {0x12, 1, 0xb0, 0, 255};

static void blocks_of_4096(void **state)
{
    struct raw *c;
    uint8_t in[8192], cdb[16], list[24] = {0, 22, 0, 16};

    (void)state;
    fix.volumes[0].block_bytes = 4096;
    c = session_new(0, 1, "");
    ask(c, in, raw_cdb10(0x25, 0, 0), 10);
    assert_int_equal(get32(in), FIX_SECTORS / 8 - 1);
    assert_int_equal(get32(in + 4), 4096);
    ask(c, in, capacity16, 16);
    assert_int_equal(get64(in), FIX_SECTORS / 8 - 1);
    assert_int_equal(get32(in + 8), 4096);
    assert_int_equal(in[13], 0); /* as many physical blocks as logical ones */
    ask(c, in, limits, 6);
    assert_int_equal(get16(in + 6), 1);       /* granularity */
    assert_int_equal(get32(in + 8), 16 << 8); /* 16 MiB */
    assert_int_equal(get32(in + 44), 1 << 8); /* atomic: 1 MiB */

    command_send(c, F | W, 8192, raw_cdb10(0x2a, 3, 2), 10, ones, 8192);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_memory_equal(disk(0) + 3 * 4096, ones, 8192);
    assert_int_equal(disk(0)[3 * 4096 - 1] + disk(0)[5 * 4096], 0);
    assert_int_equal(ask(c, in, raw_cdb10(0x28, 4, 1), 10).got, 4096);
    assert_memory_equal(in, ones, 4096);
    assert_int_equal(ask(c, in, raw_cdb10(0x28, FIX_SECTORS / 8, 1), 10).sense, 0x052100);

    memcpy(cdb, rw16(0x89, 3, 0), 16); /* COMPARE AND WRITE */
    cdb[13] = 1;
    command_send(c, F | W, 8192, cdb, 16, ones, 8192);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    memcpy(cdb, raw_cdb10(0x41, 4, 2), 10); /* WRITE SAME */
    command_send(c, F | W, 4096, cdb, 10, ones, 4096);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_memory_equal(disk(0) + 4 * 4096, ones, 8192);
    put64(list + 8, 4); /* UNMAP */
    put32(list + 16, 1);
    command_send(c, F | W, 24, raw_cdb10(0x42, 0, 24), 10, list, 24);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(disk(0)[4 * 4096] + disk(0)[5 * 4096 - 1], 0);
    assert_int_equal(disk(0)[5 * 4096], 1);
    memcpy(cdb, rw16(0x9e, 4, 64), 16); /* GET LBA STATUS */
    cdb[1] = 0x12;
    ask(c, in, cdb, 16);
    assert_int_equal(get64(in + 8), 4);
    assert_int_equal(get32(in + 16), 1);
    assert_int_equal(in[20], 1);
    raw_free(&c);
}

static void beyond_2_tib(void **state)
{
    const uint64_t sectors = (UINT64_C(5) << 40) / 512 + 8, last = sectors - 1;
    struct raw *c;
    uint8_t in[4096], list[24] = {0, 22, 0, 16};

    (void)state;
    fix.volumes[0].sectors = sectors;
    c = session_new(0, 1, "");
    ask(c, in, raw_cdb10(0x25, 0, 0), 10);
    assert_int_equal(get32(in), UINT32_MAX);
    ask(c, in, capacity16, 16);
    assert_int_equal(get64(in), last);
    assert_int_equal(in[13], 3);
    command_send(c, F | W, 512, rw16(0x8a, last, 1), 16, ones, 512);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(ask(c, in, rw16(0x88, last, 1), 16).got, 512);
    assert_memory_equal(in, ones, 512);
    assert_int_equal(ask(c, in, rw16(0x88, last, 2), 16).sense, 0x052100);
    assert_int_equal(ask(c, in, rw16(0x88, sectors, 1), 16).sense, 0x052100);
    assert_int_equal(ask(c, in, rw16(0x88, UINT64_MAX, 1), 16).sense, 0x052100);
    assert_int_equal(ask(c, in, rw16(0x88, UINT64_C(1) << 63, 1), 16).sense, 0x052100);
    put64(list + 8, last);
    put32(list + 16, 1);
    command_send(c, F | W, 24, raw_cdb10(0x42, 0, 24), 10, list, 24);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    ask(c, in, rw16(0x88, last, 1), 16);
    assert_int_equal(in[0], 0);
    raw_free(&c);
}

static void grows_while_it_runs(void **state)
{
    static const uint8_t ready[6];
    struct raw *c = session_new(0, 1, ""), *d = session_new(0, 2, "");
    uint8_t in[64];

    (void)state;
    assert_int_equal(ask(c, in, rw16(0x88, FIX_SECTORS, 1), 16).sense, 0x052100);
    disk(0); /* its loop is quiet */
    fix.volumes[0].sectors = 2 * FIX_SECTORS;
    atomic_fetch_add(&fix.vms[0].capacity_generation, 1);
    assert_int_equal(ask(c, NULL, ready, 6).sense, 0x062a09);
    assert_int_equal(ask(c, NULL, ready, 6).sense, 0);
    assert_int_equal(ask(d, NULL, ready, 6).sense, 0x062a09);
    ask(c, in, capacity16, 16);
    assert_int_equal(get64(in), 2 * FIX_SECTORS - 1);
    assert_int_equal(ask(c, NULL, rw16(0x88, FIX_SECTORS, 1), 16).status, 0);
    raw_free(&c);
    raw_free(&d);
}

/* Of LUN field C101h. */
static struct raw_answer ask_well_known(struct raw *c, uint8_t *out, const void *cdb, size_t n)
{
    uint8_t bhs[48];

    command_header(c, bhs, F | R, 4096, cdb, n);
    put16(bhs + AT_LUN, 0xc101);
    pdu_send(c, bhs, NULL, 0);
    return answer_recv(c, out);
}

static void the_well_known_logical_unit(void **state)
{
    static const uint8_t inquiry[6] = {0x12, 0, 0, 0, 96}, names[6] = {0x12, 1, 0x83, 0, 255}, ready[6],
                         serial[6] = {0x12, 1, 0x80, 0, 255}, sense[6] = {0x03, 0, 0, 0, 18},
                         pages[6] = {0x12, 1, 0, 0, 255};
    struct raw *c = session_new(0, 1, "");
    uint8_t in[4096], luns[12] = {0xa0, [9] = 64};

    (void)state;
    for (uint8_t select = 0; select < 3; select++) {
        static const uint32_t lengths[] = {8, 8, 16};

        luns[2] = select;
        for (int there = 0; there < 2; there++) {
            there ? ask_well_known(c, in, luns, 12) : ask(c, in, luns, 12);
            assert_int_equal(get32(in), lengths[select]);
            assert_int_equal(get16(in + 8), select ? 0xc101 : 0);
            if (select == 2)
                assert_int_equal(get16(in + 16), 0);
        }
    }
    ask_well_known(c, in, inquiry, 6);
    assert_int_equal(in[0], 0x1e);
    ask_well_known(c, in, pages, 6);
    assert_int_equal(get16(in + 2), 2);
    assert_int_equal(in[5], 0x83);
    ask_well_known(c, in, names, 6);
    assert_int_equal(in[0], 0x1e);
    assert_int_equal(in[5] & 0x30, 0x10); /* of the port, not of a logical unit */
    assert_int_equal(ask_well_known(c, in, serial, 6).sense, 0x052400);
    assert_int_equal(ask_well_known(c, in, ready, 6).status, 0);
    assert_int_equal(ask_well_known(c, in, sense, 6).got, 18);
    assert_int_equal(in[2], 0);
    assert_int_equal(ask_well_known(c, in, raw_cdb10(0x28, 0, 1), 10).sense, 0x052000);
    assert_int_equal(ask_well_known(c, in, capacity16, 16).sense, 0x052000);
    /* A reset is not its business, and stays for LUN 0. */
    assert_int_equal(tmf(c, TMF_TARGET_WARM_RESET, 0, 0), TMF_COMPLETE);
    assert_int_equal(ask_well_known(c, in, ready, 6).status, 0);
    assert_int_equal(ask(c, in, ready, 6).sense, 0x062903);
    raw_free(&c);
}

enum { CDB = 0xc0, LIST = 0x80 };

/* Sense key ILLEGAL REQUEST comes with a pointer at the field. */
static void sense_points_at_the_field(void **state)
{
    static const uint8_t unmap_beyond[24] = {0, 22, 0, 16, [15] = 1, [16] = 0xff};
    static const struct {
        uint8_t cdb[16], n;
        uint32_t sense;
        uint8_t where, byte;
        const uint8_t *data;
        uint32_t len;
    } wrong[] = {
        {{0xff}, 6, 0x052000, CDB, 0, NULL, 0},
        {{0x9e, 0x1f}, 16, 0x052400, CDB, 1, NULL, 0},
        {{0x08, 0x1f, 0xff, 0xff, 1}, 6, 0x052100, CDB, 1, NULL, 0},
        {{0x28, 0, 0xff}, 10, 0x052100, CDB, 2, NULL, 0},
        {{0x28, 0, 0, 0, 0xff, 0xff, 0, 1, 0}, 10, 0x052100, CDB, 7, NULL, 0},
        {{0xa8, 0, 0, 0, 0, 0, 0, 0, 0x81, 0}, 12, 0x052400, CDB, 6, NULL, 0}, /* 33,024 blocks: too many */
        {{0xa8, 0, 0, 0, 0, 0, 0, 2}, 12, 0x052100, CDB, 6, NULL, 0},
        {{0x88, 0, 0x80}, 16, 0x052100, CDB, 2, NULL, 0},
        {{0x88, 0, [10] = 1}, 16, 0x052100, CDB, 10, NULL, 0},
        {{0x88, 0x20, [13] = 1}, 16, 0x052400, CDB, 1, NULL, 0},
        {{0x89, 0, [8] = 0xff, 0xff, [13] = 2}, 16, 0x052100, CDB, 13, NULL, 0},
        {{0x9c, 0, [8] = 0xff, 0xff, [13] = 2}, 16, 0x052100, CDB, 12, NULL, 0},
        {{0x42, [8] = 24}, 10, 0x052100, LIST, 16, unmap_beyond, 24},
        {{0x42, [8] = 4}, 10, 0x051a00, CDB, 7, unmap_beyond, 4},
        {{0x55, 0x10, [8] = 4}, 10, 0x051a00, CDB, 7, unmap_beyond, 4},
        {{0x15, 0x10, [4] = 2}, 6, 0x051a00, CDB, 4, unmap_beyond, 2},
        {{0x1a, 0, 0xc8, 0, 255}, 6, 0x053900, CDB, 2, NULL, 0},
        {{0x5f, 0, [8] = 8}, 10, 0x051a00, CDB, 5, unmap_beyond, 8},
        {{0x83, 0, [13] = 8}, 16, 0x051a00, CDB, 10, unmap_beyond, 8},
        {{0x93, 0, [13] = 1}, 16, 0x050e03, CDB, 10, ones, 24},
    };
    struct raw *c = session_new(0, 1, "");

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        command_send(c, (uint8_t)(F | (wrong[i].data ? W : R)), wrong[i].data ? wrong[i].len : 65536,
                     wrong[i].cdb, wrong[i].n, wrong[i].data, wrong[i].len);
        assert_int_equal(answer_recv(c, NULL).sense, wrong[i].sense);
        assert_int_equal(c->data[2 + 15] & 0xc0, wrong[i].where);
        assert_int_equal(get16(c->data + 2 + 16), wrong[i].byte);
    }
    raw_free(&c);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, fix_start, fix_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(blocks_of_4096),
        STORY(beyond_2_tib),
        STORY(grows_while_it_runs),
        STORY(the_well_known_logical_unit),
        STORY(sense_points_at_the_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
