/* links: raw fake_volumes target */
/* SCSI over a socket: every way write data can come, residuals, ranges, sense, CmdSN order, digests,
 * tiny segments, and Data-Out that is wrong.
 */
#include "target_fixture.h"

static uint8_t pattern[1 << 20];

static int start(void **state)
{
    srandom(7);
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)random();
    return fix_start(state);
}

/* Answers R2Ts with PDUs of at most `piece` bytes until the command has its answer. */
static struct raw_answer write_rest(struct raw *c, const uint8_t *data, uint32_t piece)
{
    for (;;) {
        uint8_t r2t[48];
        uint32_t offset, n;

        assert_int_equal(recv(c->fd, r2t, 48, MSG_PEEK | MSG_WAITALL), 48);
        if ((r2t[0] & 0x3f) != ISCSI_R2T)
            return answer_recv(c, NULL);
        assert_int_equal(pdu_recv(c), ISCSI_R2T);
        memcpy(r2t, c->bhs, 48);
        offset = get32(r2t + AT_BUFFER_OFFSET);
        n = get32(r2t + AT_DESIRED_LENGTH);
        for (uint32_t at = 0, sn = 0; at < n; sn++) {
            uint32_t len = n - at < piece ? n - at : piece;

            data_out(c, get32(r2t + AT_ITT), get32(r2t + AT_TTT), sn, offset + at, at + len == n,
                     data + offset + at, len);
            at += len;
        }
    }
}

/* A write of every length and split: immediate, then unsolicited, then by R2T; PDUs are no multiple of a
 * block. */
static void write_data_comes_in_every_way(void **state)
{
    static const char *const keys[] = {"", "InitialR2T=No|", "ImmediateData=No|",
                                       "InitialR2T=No|ImmediateData=No|",
                                       "HeaderDigest=CRC32C|DataDigest=CRC32C|InitialR2T=No|"};
    static const uint16_t lengths[] = {1, 2, 17, 34, 129, 600, 1500};
    uint32_t lba = 0;

    (void)state;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        char more[200];
        struct raw *c;
        bool immediate = !strstr(keys[k], "ImmediateData=No"), unsolicited = strstr(keys[k], "InitialR2T=No");

        snprintf(more, sizeof more, "%sMaxBurstLength=100000|FirstBurstLength=9000|MaxOutstandingR2T=3|",
                 keys[k]);
        c = session_new(0, (uint8_t)k, more);
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++, lba += 1500) {
            uint32_t bytes = lengths[l] * 512u, first = bytes < 9000 ? bytes : 9000;
            uint32_t now = immediate ? (first < 8192 ? first : 8192) : 0, itt = c->itt;
            bool later = unsolicited && now < first;
            struct raw_answer a;

            command_send(c, (uint8_t)((later ? 0 : F) | W), bytes, raw_cdb10(0x2a, lba, lengths[l]), 10,
                         pattern, now);
            for (uint32_t at = now, sn = 0; later && at < first; sn++) {
                uint32_t len = first - at < 777 ? first - at : 777;

                data_out(c, itt, ISCSI_TAG_NONE, sn, at, at + len == first, pattern + at, len);
                at += len;
            }
            a = write_rest(c, pattern, 3001);
            assert_int_equal(a.status, 0);
            assert_int_equal(a.residual, 0);
            assert_memory_equal(disk(0) + lba * 512, pattern, bytes);
        }
        raw_free(&c);
    }
}

static void reads_are_cut_as_negotiated(void **state)
{
    static const char *const keys[] = {"", "MaxRecvDataSegmentLength=512|",
                                       "MaxRecvDataSegmentLength=16777215|",
                                       "MaxRecvDataSegmentLength=700|MaxBurstLength=1000|DataDigest=CRC32C|"};
    static uint8_t out[1 << 20];

    (void)state;
    memcpy(disk(1) + 3 * 512, pattern, sizeof pattern);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        struct raw *c = session_new(1, (uint8_t)k, keys[k]);

        for (uint16_t n = 1; n <= 2048; n = (uint16_t)(n * 2 + (n < 700))) {
            struct raw_answer a;

            memset(out, 0, sizeof out);
            command_send(c, F | R, n * 512u, raw_cdb10(0x28, 3, n), 10, NULL, 0);
            a = answer_recv(c, out);
            assert_int_equal(a.status, 0);
            assert_int_equal(a.residual, 0);
            assert_int_equal(a.got, n * 512u);
            assert_memory_equal(out, pattern, n * 512u);
        }
        raw_free(&c);
    }
}

static void residuals(void **state)
{
    static const struct {
        uint8_t opcode;
        uint16_t blocks;
        uint8_t flags;
        uint32_t edtl, out;
        int residual;
    } cases[] = {
        {0x28, 8, F | R, 8192, 4096, -4096}, {0x28, 8, F | R, 1024, 1024, 3072},
        {0x28, 8, F | R, 100, 100, 3996},    {0x28, 8, F, 0, 0, 4096},
        {0x28, 0, F | R, 512, 0, -512},      {0x2a, 2, F | W, 512, 0, 512},
        {0x2a, 2, F | W, 2048, 0, -1024},    {0x2a, 1, F | W, 0, 0, 512},
        {0x2a, 0, F | W, 512, 0, -512},      {0x2a, 2, F | W, 100, 0, 924},
        {0x00, 0, F | R, 77, 0, -77},
    };
    struct raw *c = session_new(0, 1, "");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct raw_answer a;

        memset(disk(0), 0, 2048);
        command_send(c, cases[i].flags, cases[i].edtl, raw_cdb10(cases[i].opcode, 0, cases[i].blocks),
                     cases[i].opcode ? 10 : 6, pattern, cases[i].flags & W ? cases[i].edtl : 0);
        a = answer_recv(c, NULL);
        assert_int_equal(a.status, 0);
        assert_int_equal(a.residual, cases[i].residual);
        assert_int_equal(a.got, cases[i].out);
    }
    assert_memory_equal(disk(0), "\0\0\0\0", 4); /* 100 bytes are no block */
    raw_free(&c);
}

static void ranges_and_sense(void **state)
{
    static const struct {
        uint8_t cdb[16], n;
        uint32_t sense;
    } cases[] = {
        {{0x28, 0, 0, 1, 0, 0, 0, 0, 1, 0}, 10, 0x052100},       /* just behind the end */
        {{0x28, 0, 0, 0, 0xff, 0xff, 0, 0, 2, 0}, 10, 0x052100}, /* partly behind it */
        {{0x28, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0}, 10, 0},        /* the last one */
        {{0x88, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 16, 0x052100},
        {{0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2}, 16, 0x052100},
        {{0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 16, 0x052100},
        {{0xa8, 0, 0, 0, 0, 0, 0, 0, 0x80, 1}, 12, 0x052400},             /* 16 MiB and a block */
        {{0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0}, 10, 0x052400},             /* RDPROTECT */
        {{0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 16, 0x052400}, /* WRITE SAME to the end */
        {{0xff}, 6, 0x052000},
        {{0x9e, 0x1f}, 16, 0x052400},
        {{0, 0, 0, 0, 0, 4}, 6, 0x052400}, /* NACA */
        {{0x12, 1, 0x55, 0, 0xff}, 6, 0x052400},
        {{0x12, 0, 0x80, 0, 0xff}, 6, 0x052400},
        {{0x1a, 0, 0xc0 | 0x3f, 0, 0xff}, 6, 0x053900},
    };
    struct raw *c = session_new(0, 1, "");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct raw_answer a;

        command_send(c, F | R, 512, cases[i].cdb, cases[i].n, NULL, 0);
        a = answer_recv(c, NULL);
        assert_int_equal(a.sense, cases[i].sense);
        assert_int_equal(a.status, cases[i].sense ? 2 : 0);
    }
    raw_free(&c);
}

/* Every command of the table at allocation lengths 0 to 8, with and without room for the answer. */
static void short_allocation_lengths(void **state)
{
    static const struct {
        uint8_t cdb[16], n, at, width;
    } cases[] = {
        {{0x12}, 6, 3, 2},         {{0x12, 1, 0x83}, 6, 3, 2}, {{0x12, 1, 0xb0}, 6, 3, 2},
        {{0x03}, 6, 4, 1},         {{0x1a, 0, 0x3f}, 6, 4, 1}, {{0x5a, 0, 0x3f}, 10, 7, 2},
        {{0xa0}, 12, 6, 4},        {{0xa3, 0x0c}, 12, 6, 4},   {{0x9e, 0x10}, 16, 10, 4},
        {{0x9e, 0x12}, 16, 10, 4}, {{0xa3, 0x0d}, 12, 6, 4},   {{0xa3, 0x0a}, 12, 6, 4},
        {{0xa3, 0x2a}, 12, 6, 4},  {{0x4d}, 10, 7, 2},         {{0x37}, 10, 7, 2},
        {{0xb7}, 12, 6, 4},        {{0x84, 0x03}, 16, 10, 4},  {{0x12, 1, 0x8f}, 6, 3, 2},
    };
    struct raw *c = session_new(0, 1, "");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t length = 0; length <= 8; length++) {
            uint8_t cdb[16];
            struct raw_answer a;

            memcpy(cdb, cases[i].cdb, 16);
            cdb[cases[i].at + cases[i].width - 1] = (uint8_t)length;
            command_send(c, F | R, 255, cdb, cases[i].n, NULL, 0);
            a = answer_recv(c, NULL);
            assert_int_equal(a.status, 0);
            assert_true(a.got <= length);
            assert_int_equal(a.residual, (int64_t)a.got - 255);
        }
    raw_free(&c);
}

static void data_out_that_is_wrong(void **state)
{
    static const struct {
        uint32_t sn, offset, len;
        bool final;
    } wrong[] = {{1, 0, 512, false}, {0, 512, 512, false},        {0, 0, 4608, true},
                 {0, 0, 512, true},  {0, 0x80000000, 512, false}, {0xffffffff, 0, 512, false}};
    struct raw *c = session_new(0, 1, "ImmediateData=No|");

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint32_t itt = c->itt, ttt;

        command_send(c, F | W, 4096, raw_cdb10(0x2a, 0, 8), 10, NULL, 0);
        assert_int_equal(pdu_recv(c), ISCSI_R2T);
        ttt = get32(c->bhs + AT_TTT);
        data_out(c, itt, ttt, wrong[i].sn, wrong[i].offset, wrong[i].final, pattern, wrong[i].len);
        data_out(c, itt, ttt, 1, 512, true, pattern, 512); /* the rest of it is dropped */
        assert_int_equal(answer_recv(c, NULL).sense, 0x0b4b00);
    }
    data_out(c, 4711, 1, 0, 0, true, pattern, 512); /* nobody's */
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    assert_int_equal(c->bhs[2], REJECT_INVALID_FIELD);
    assert_int_equal(atomic_load(&fix.volumes[0].writes), 0);
    raw_free(&c);
}

static void commands_are_put_in_order(void **state)
{
    struct raw *c = session_new(0, 1, "InitialR2T=No|");
    uint8_t bhs[48];
    uint32_t sn = c->cmd_sn;

    (void)state;
    command_header(c, bhs, F | W, 512, raw_cdb10(0x2a, 5, 1), 10);
    put32(bhs + AT_CMD_SN, sn + 2);
    put32(bhs + AT_ITT, 70);
    pdu_send(c, bhs, pattern + 512, 512);
    pdu_send(c, bhs, pattern + 512, 512); /* twice */
    put32(bhs + AT_CMD_SN, sn + 3); /* the same tag while the other is held: refused, its number counts */
    pdu_send(c, bhs, pattern + 512, 512);
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    assert_int_equal(c->bhs[2], REJECT_TASK_IN_PROGRESS);
    command_header(c, bhs, W, 512, raw_cdb10(0x2a, 5, 1), 10); /* its data comes before its turn */
    put32(bhs + AT_CMD_SN, sn + 1);
    put32(bhs + AT_ITT, 71);
    pdu_send(c, bhs, NULL, 0);
    data_out(c, 71, ISCSI_TAG_NONE, 0, 0, true, pattern, 512);
    command_header(c, bhs, F | R, 512, raw_cdb10(0x28, 5, 1), 10);
    put32(bhs + AT_CMD_SN, sn);
    put32(bhs + AT_ITT, 72);
    atomic_store(&fix.volumes[0].stalled, true);
    pdu_send(c, bhs, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, 3); /* each of them once */
    fix_unstall(0);
    assert_int_equal(answer_recv(c, NULL).itt, 72);
    assert_int_equal(answer_recv(c, NULL).itt, 71);
    assert_int_equal(answer_recv(c, NULL).itt, 70);
    assert_memory_equal(disk(0) + 5 * 512, pattern + 512, 512);
    c->cmd_sn = sn + 4 + 4000; /* outside the window: as if it had never come */
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    c->cmd_sn = sn + 4;
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).itt, c->itt - 1);
    raw_free(&c);
}

static void what_does_not_belong_is_rejected(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t bhs[48];

    (void)state;
    for (unsigned opcode = 0x07; opcode < 0x40; opcode++) {
        memset(bhs, 0, 48);
        bhs[0] = (uint8_t)opcode;
        bhs[1] = 0x80;
        pdu_send(c, bhs, pattern, opcode);
        assert_int_equal(pdu_recv(c), ISCSI_REJECT);
        assert_int_equal(c->bhs[2], opcode == ISCSI_SNACK    ? REJECT_SNACK
                                    : opcode >= ISCSI_NOP_IN ? REJECT_PROTOCOL_ERROR
                                                             : REJECT_NOT_SUPPORTED);
        assert_memory_equal(c->data, bhs, 48);
    }
    command_send(c, F | W, 512, raw_cdb10(0x2a, 0, 1), 10, pattern, 1024); /* more than it announces */
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, pattern, 512); /* data with a read */
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    command_send(c, W, 512, raw_cdb10(0x2a, 0, 1), 10, NULL, 0); /* unsolicited, against InitialR2T */
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    command_send(c, F | W, 1 << 20, raw_cdb10(0x2a, 0, 2048), 10, pattern, 65537); /* over FirstBurstLength */
    assert_int_equal(pdu_recv(c), ISCSI_REJECT);
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    raw_free(&c);
}

static void a_wrong_digest_ends_the_connection(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        struct raw *c = session_new(0, 1, "HeaderDigest=CRC32C|DataDigest=CRC32C|");
        uint8_t bhs[48], out[1024];
        size_t n;

        command_header(c, bhs, F | W, 512, raw_cdb10(0x2a, 0, 1), 10);
        n = pdu_put(c, out, bhs, pattern, 512);
        out[which ? 60 : 40] ^= 1;
        client_write(c, out, n);
        while (pdu_recv(c) >= 0)
            ;
        assert_int_equal(atomic_load(&fix.volumes[0].writes), 0);
        raw_free(&c);
    }
}

static void lists_of_unmap(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t list[40] = {0, 38, 0, 32};
    uint8_t cdb[10] = {0x42, 0, 0, 0, 0, 0, 0, 0, 40};

    (void)state;
    memset(disk(0), 0xaa, 20 * 512);
    put64(list + 8, 2);
    put32(list + 16, 3);
    put64(list + 24, 10);
    put32(list + 32, 1);
    command_send(c, F | W, 40, cdb, 10, list, 40);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(disk(0)[2 * 512 - 1], 0xaa);
    assert_int_equal(disk(0)[2 * 512], 0);
    assert_int_equal(disk(0)[5 * 512 - 1], 0);
    assert_int_equal(disk(0)[5 * 512], 0xaa);
    assert_int_equal(disk(0)[10 * 512], 0);
    put32(list + 32, FIX_SECTORS); /* the second beyond the end: the first is not done either */
    put64(list + 8, 12);
    command_send(c, F | W, 40, cdb, 10, list, 40);
    assert_int_equal(answer_recv(c, NULL).sense, 0x052100);
    assert_int_equal(disk(0)[12 * 512], 0xaa);
    put16(list + 2, 0xffff); /* more than there is */
    command_send(c, F | W, 40, cdb, 10, list, 40);
    assert_int_equal(answer_recv(c, NULL).sense, 0x052600);
    put16(list + 2, 32); /* immediate data beyond the parameter list is not part of it */
    put32(list + 32, 1);
    cdb[8] = 24;
    command_send(c, F | W, 40, cdb, 10, list, 40);
    assert_int_equal(answer_recv(c, NULL).sense, 0x052600);
    assert_int_equal(disk(0)[12 * 512], 0xaa);
    cdb[8] = 7;
    command_send(c, F | W, 7, cdb, 10, list, 7);
    assert_int_equal(answer_recv(c, NULL).sense, 0x051a00);
    raw_free(&c);
}

static void write_same_and_verify(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t same[16] = {0x93, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 4, 0};
    uint8_t verify[10] = {0x2f, 2, 0, 0, 0, 4, 0, 0, 2, 0};

    (void)state;
    command_send(c, F | W, 512, same, 16, pattern, 512);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    for (const uint8_t *p = disk(0) + 4 * 512, *end = p + 1024 * 512; p < end; p += 512)
        assert_memory_equal(p, pattern, 512);
    assert_int_equal(disk(0)[1028 * 512], 0);
    command_send(c, F | W, 1024, same, 16, pattern, 1024);
    assert_int_equal(answer_recv(c, NULL).status, 2);
    command_send(c, F | W, 1024, verify, 10, disk(0) + 4 * 512, 1024);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    command_send(c, F | W, 1024, verify, 10, pattern, 1024);
    assert_int_equal(answer_recv(c, NULL).sense, 0x0e1d00);
    same[1] = 1; /* NDOB */
    command_send(c, F, 0, same, 16, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(disk(0)[4 * 512], 0);
    raw_free(&c);
}

/* Gone without a word, with everything in flight at once. */
static void gone_in_the_middle(void **state)
{
    (void)state;
    for (uint8_t round = 0; round < 40; round++) {
        struct raw *c = session_new(round % 2, round, "InitialR2T=No|MaxRecvDataSegmentLength=512|");
        struct linger linger = {1, 0};

        atomic_store(&fix.volumes[round % 2].stalled, round % 3 == 0);
        for (uint32_t i = 0; i < 60; i++)
            command_send(c, F | R, 262144, raw_cdb10(0x28, 0, 512), 10, NULL, 0);
        command_send(c, W, 65536, raw_cdb10(0x2a, 0, 128), 10, pattern, 8192);
        data_out(c, c->itt - 1, ISCSI_TAG_NONE, 0, 8192, false, pattern, 4000);
        if (round % 4 == 1)
            tmf_send(c, TMF_LOGICAL_UNIT_RESET, 0, 0);
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        raw_free(&c);
        fix_unstall(round % 2);
    }
}

static void nop(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t bhs[48] = {ISCSI_NOP_OUT | ISCSI_IMMEDIATE, 0x80};

    (void)state;
    put32(bhs + AT_ITT, 99);
    put32(bhs + AT_TTT, ISCSI_TAG_NONE);
    pdu_send(c, bhs, pattern, 5001);
    assert_int_equal(pdu_recv(c), ISCSI_NOP_IN);
    assert_int_equal(c->len, 5001);
    assert_memory_equal(c->data, pattern, 5001);
    put32(bhs + AT_TTT, 1234); /* an answer to a ping that never was */
    pdu_send(c, bhs, NULL, 0);
    command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    bhs[0] = ISCSI_LOGOUT_REQUEST | ISCSI_IMMEDIATE;
    bhs[1] = 0x80;
    pdu_send(c, bhs, NULL, 0);
    assert_int_equal(pdu_recv(c), ISCSI_LOGOUT_RESPONSE);
    assert_int_equal(pdu_recv(c), -1);
    raw_free(&c);
}

/* Writes of more than the session may hold: the R2Ts wait, all get their turn. */
static void more_write_data_than_memory(void **state)
{
    struct raw *c = session_new(0, 1, "ImmediateData=No|MaxOutstandingR2T=1|MaxBurstLength=1048576|");
    unsigned n = 0, answered_ = 0;

    (void)state;
    for (n = 0; n < 100; n++)
        command_send(c, F | W, 1 << 20, raw_cdb10(0x2a, 0, 2048), 10, NULL, 0);
    while (answered_ < n) {
        int opcode = pdu_recv(c);

        if (opcode == ISCSI_R2T) {
            uint32_t itt = get32(c->bhs + AT_ITT), ttt = get32(c->bhs + AT_TTT),
                     len = get32(c->bhs + AT_DESIRED_LENGTH);

            for (uint32_t at = 0, sn = 0; at < len; at += 262144, sn++)
                data_out(c, itt, ttt, sn, at, at + 262144 >= len, pattern + at, 262144);
        } else {
            assert_int_equal(opcode, ISCSI_SCSI_RESPONSE);
            assert_int_equal(c->bhs[AT_STATUS], 0);
            answered_++;
        }
    }
    assert_memory_equal(disk(0), pattern, sizeof pattern);
    raw_free(&c);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, start, fix_stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(write_data_comes_in_every_way),
        STORY(reads_are_cut_as_negotiated),
        STORY(residuals),
        STORY(ranges_and_sense),
        STORY(short_allocation_lengths),
        STORY(data_out_that_is_wrong),
        STORY(commands_are_put_in_order),
        STORY(what_does_not_belong_is_rejected),
        STORY(a_wrong_digest_ends_the_connection),
        STORY(lists_of_unmap),
        STORY(write_same_and_verify),
        STORY(gone_in_the_middle),
        STORY(nop),
        STORY(more_write_data_than_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
