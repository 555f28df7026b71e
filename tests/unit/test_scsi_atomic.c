/* links: raw fake_volumes target */
/* COMPARE AND WRITE, ORWRITE and WRITE ATOMIC over a socket: what they answer, and that nobody gets between
 * the read and the write, whoever is slow, aborted or gone meanwhile.
 */
#include "target_fixture.h"

enum { LBA = 40, MISCOMPARE = 0x0e1d00 };

static void caw_send(struct raw *c, uint32_t lba, uint8_t blocks, uint8_t old, uint8_t fresh)
{
    uint8_t cdb[16] = {0x89}, data[8 * 512];
    uint32_t half = blocks * 512u;

    put64(cdb + 2, lba);
    cdb[13] = blocks;
    memset(data, old, half);
    memset(data + half, fresh, half);
    command_send(c, F | W, 2 * half, cdb, 16, data, 2 * half);
}

static uint32_t caw(struct raw *c, uint32_t lba, uint8_t blocks, uint8_t old, uint8_t fresh)
{
    caw_send(c, lba, blocks, old, fresh);
    return answer_recv(c, NULL).sense;
}

static void write_send(struct raw *c, uint32_t lba, uint8_t value)
{
    uint8_t data[512];

    memset(data, value, 512);
    command_send(c, F | W, 512, raw_cdb10(0x2a, lba, 1), 10, data, 512);
}

static void compares_then_writes(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t cdb[16] = {0x89}, data[1024] = {0};

    (void)state;
    assert_int_equal(caw(c, LBA, 3, 0, 7), 0);
    for (int i = 0; i < 3 * 512; i++)
        assert_int_equal(disk(0)[LBA * 512 + i], 7);
    assert_int_equal(disk(0)[LBA * 512 + 3 * 512], 0);
    disk(0)[LBA * 512 + 1000] = 8;
    assert_int_equal(caw(c, LBA, 3, 7, 9), MISCOMPARE);
    assert_int_equal(c->data[2] & 0x80, 0x80); /* INFORMATION: where they differ */
    assert_int_equal(get32(c->data + 2 + 3), 1000);
    assert_int_equal(disk(0)[LBA * 512], 7);
    assert_int_equal(caw(c, 65535, 1, 0, 1), 0);
    assert_int_equal(caw(c, 65535, 2, 0, 1), 0x052100);
    assert_int_equal(caw(c, LBA, 0, 0, 1), 0);
    cdb[1] = 0x20;
    cdb[13] = 1;
    command_send(c, F | W, 1024, cdb, 16, data, 1024);
    assert_int_equal(answer_recv(c, NULL).sense, 0x052400); /* WRPROTECT */
    cdb[1] = 0;
    command_send(c, F | W, 512, cdb, 16, data, 512);
    assert_int_equal(answer_recv(c, NULL).sense, 0x050e03); /* half of the data */
    raw_free(&c);
}

/* Two initiators take the same lock while the disk is slow: one of them gets it. */
static void one_of_two_wins(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");
    uint32_t sense;

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    caw_send(a, LBA, 1, 0, 'a');
    fix_wait(&fix.volumes[0].nparked, 1);
    caw_send(b, LBA, 1, 0, 'b');
    disk(0);
    fix_unstall(0);
    sense = answer_recv(a, NULL).sense;
    assert_int_equal(sense, 0);
    sense = answer_recv(b, NULL).sense;
    assert_int_equal(sense, MISCOMPARE);
    assert_int_equal(disk(0)[LBA * 512], 'a');
    raw_free(&a);
    raw_free(&b);
}

/* A write that came before is compared with; one that came later is not lost; others do not wait. */
static void writes_keep_their_place(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    write_send(a, LBA, 5);
    fix_wait(&fix.volumes[0].nparked, 1);
    caw_send(b, LBA, 1, 5, 6);
    command_send(b, F | R, 512, raw_cdb10(0x28, LBA, 1), 10, NULL, 0);
    fix_wait(&fix.volumes[0].nparked, 2); /* the read waits for nobody */
    write_send(a, LBA, 7);
    write_send(a, LBA + 1, 8);
    fix_wait(&fix.volumes[0].nparked, 3); /* nor does a write beside it */
    fix_unstall(0);
    assert_int_equal(answer_recv(a, NULL).sense, 0);
    assert_int_equal(answer_recv(a, NULL).sense, 0);
    assert_int_equal(answer_recv(a, NULL).sense, 0);
    assert_int_equal(answer_recv(b, NULL).sense, 0);
    assert_int_equal(answer_recv(b, NULL).sense, 0);
    assert_int_equal(disk(0)[LBA * 512], 7);
    assert_int_equal(disk(0)[(LBA + 1) * 512], 8);
    raw_free(&a);
    raw_free(&b);
}

/* Who has the blocks is aborted, and who waits for them; the next one gets them. */
static void aborted_in_between(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    caw_send(a, LBA, 1, 0, 'a');
    fix_wait(&fix.volumes[0].nparked, 1);
    caw_send(a, LBA, 1, 0, 'c');
    caw_send(b, LBA, 1, 0, 'b');
    write_send(b, LBA, 'w');
    assert_int_equal(tmf(a, TMF_ABORT_TASK_SET, ISCSI_TAG_NONE, 0), TMF_COMPLETE);
    fix_unstall(0);
    assert_int_equal(answer_recv(b, NULL).sense, 0);
    assert_int_equal(answer_recv(b, NULL).sense, 0);
    assert_int_equal(disk(0)[LBA * 512], 'w');
    raw_free(&a);
    raw_free(&b);
}

/* The same with an initiator that is gone. */
static void gone_in_between(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");

    (void)state;
    atomic_store(&fix.volumes[0].stalled, true);
    caw_send(a, LBA, 1, 0, 'a');
    fix_wait(&fix.volumes[0].nparked, 1);
    caw_send(a, LBA, 1, 0, 'c');
    caw_send(b, LBA, 1, 0, 'b');
    disk(0);
    raw_free(&a);
    disk(0);
    fix_unstall(0);
    assert_int_equal(answer_recv(b, NULL).sense, 0);
    assert_int_equal(disk(0)[LBA * 512], 'b');
    raw_free(&b);
}

/* A counter that four sessions count up with nothing but COMPARE AND WRITE, window full, loses no step. */
static void a_counter_is_exact(void **state)
{
    enum { SESSIONS = 4, EACH = 60 };
    struct raw *c[SESSIONS];
    uint8_t know[SESSIONS] = {0};
    unsigned done[SESSIONS] = {0}, all = 0;

    (void)state;
    for (int i = 0; i < SESSIONS; i++)
        c[i] = session_new(0, (uint8_t)(i + 1), "");
    while (all < SESSIONS * EACH) {
        for (int i = 0; i < SESSIONS; i++)
            if (done[i] < EACH)
                caw_send(c[i], LBA, 1, know[i], (uint8_t)(know[i] + 1));
        for (int i = 0; i < SESSIONS; i++) {
            if (done[i] >= EACH)
                continue;
            if (answer_recv(c[i], NULL).sense == 0) {
                done[i]++;
                all++;
            }
            know[i] = disk(0)[LBA * 512];
        }
    }
    assert_int_equal(disk(0)[LBA * 512], SESSIONS * EACH);
    for (int i = 0; i < SESSIONS; i++)
        raw_free(&c[i]);
}

static void atomic_writes_have_limits(void **state)
{
    static const struct {
        uint64_t lba;
        uint16_t boundary, blocks;
        uint32_t sense;
    } cases[] = {
        {8, 0, 8, 0},        {9, 0, 1, 0},     {16, 0, 0, 0},           {8, 0, 2049, 0x052400},
        {8, 8, 8, 0x052400}, {65528, 0, 8, 0}, {65536, 0, 8, 0x052100}, {UINT64_C(1) << 63, 0, 8, 0x052100}};
    struct raw *c = session_new(0, 1, "");
    static uint8_t data[2049 * 512];

    (void)state;
    memset(data, 3, sizeof data);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t cdb[16] = {0x9c};

        put64(cdb + 2, cases[i].lba);
        put16(cdb + 10, cases[i].boundary);
        put16(cdb + 12, cases[i].blocks);
        command_send(c, F | W, cases[i].blocks * 512u, cdb, 16, data,
                     cases[i].sense ? 0 : cases[i].blocks * 512u);
        assert_int_equal(answer_recv(c, NULL).sense, cases[i].sense);
    }
    assert_memory_equal(disk(0) + 8 * 512, data, 8 * 512);
    raw_free(&c);
}

/* A read that waits keeps no write out, but sees an atomic one as a whole: it is made once more. A read that
 * comes after an atomic write waits for that. */
static void atomic_writes_and_reads(void **state)
{
    struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");
    uint8_t cdb[16] = {0x9c}, data[1024], out[4096];

    (void)state;
    memset(data, 1, sizeof data);
    put64(cdb + 2, LBA);
    put16(cdb + 12, 2);
    atomic_store(&fix.volumes[0].stalled, true);
    command_send(a, F | R, 4096, raw_cdb10(0x28, LBA, 8), 10, NULL, 0);
    command_send(a, F | R, 4096, raw_cdb10(0x28, LBA + 2, 8), 10, NULL, 0); /* beside it */
    fix_wait(&fix.volumes[0].nparked, 2);
    command_send(b, F | W, 1024, cdb, 16, data, 1024);
    fix_wait(&fix.volumes[0].nparked, 3);
    command_send(a, F | R, 4096, raw_cdb10(0x28, LBA, 8), 10, NULL, 0); /* waits for the atomic write */
    write_send(b, LBA + 9, 2);
    fix_wait(&fix.volumes[0].nparked, 4);
    fix_unstall(0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(answer_recv(a, out).status, 0);
    assert_memory_equal(out, data, 1024);
    for (int i = 0; i < 2; i++)
        assert_int_equal(answer_recv(b, NULL).status, 0);
    disk(0);
    assert_int_equal(atomic_load(&fix.volumes[0].reads), 4); /* one of the three was made twice */
    raw_free(&a);
    raw_free(&b);
}

/* A read that is to be made once more, but is aborted, or whose initiator goes. */
static void torn_and_given_up(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct raw *a = session_new(0, 1, ""), *b = session_new(0, 2, "");
        uint8_t cdb[16] = {0x9c}, data[512] = {1};

        put64(cdb + 2, LBA);
        put16(cdb + 12, 1);
        atomic_store(&fix.volumes[0].stalled, true);
        command_send(a, F | R, 4096, raw_cdb10(0x28, LBA, 8), 10, NULL, 0);
        fix_wait(&fix.volumes[0].nparked, 1);
        command_send(b, F | W, 512, cdb, 16, data, 512);
        fix_wait(&fix.volumes[0].nparked, 2);
        if (gone)
            raw_free(&a);
        else
            assert_int_equal(tmf(a, TMF_ABORT_TASK_SET, ISCSI_TAG_NONE, 0), TMF_COMPLETE);
        fix_unstall(0);
        assert_int_equal(answer_recv(b, NULL).status, 0);
        if (!gone)
            raw_free(&a);
        raw_free(&b);
        fix_wait(&fix.vms[0].sessions, 0);
    }
}

static void orwrite(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t cdb[16] = {0x8b}, data[1024];

    (void)state;
    memset(disk(0) + LBA * 512, 0x0f, 512);
    memset(data, 0x31, sizeof data);
    put64(cdb + 2, LBA);
    put32(cdb + 10, 2);
    command_send(c, F | W, 1024, cdb, 16, data, 1024);
    assert_int_equal(answer_recv(c, NULL).status, 0);
    for (int i = 0; i < 1024; i++)
        assert_int_equal(disk(0)[LBA * 512 + i], i < 512 ? 0x3f : 0x31);
    raw_free(&c);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, fix_start, fix_stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(compares_then_writes),      STORY(one_of_two_wins),
        STORY(writes_keep_their_place),   STORY(aborted_in_between),
        STORY(gone_in_between),           STORY(a_counter_is_exact),
        STORY(atomic_writes_have_limits), STORY(atomic_writes_and_reads),
        STORY(torn_and_given_up),         STORY(orwrite),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
