/* links: raw fake_volumes target */
/* What initiators ask and set beside the data: MODE SENSE and MODE SELECT with what they change, both formats
 * of sense data, PRE-FETCH, GET LBA STATUS, target port groups, logs, defects, and copies.
 */
#include "target_fixture.h"

static struct raw_answer ask(struct raw *c, uint8_t *out, const uint8_t *cdb, size_t n)
{
    command_send(c, F | R, 4096, cdb, n, NULL, 0);
    return answer_recv(c, out);
}

#define ASK(c, out, ...) ask(c, out, (const uint8_t[16]){__VA_ARGS__}, 16)

static uint32_t tell(struct raw *c, const uint8_t *cdb, const void *data, uint32_t n)
{
    command_send(c, F | W, n, cdb, 16, data, n);
    return answer_recv(c, NULL).sense;
}

enum { CACHING = 8, CONTROL = 10 };

/* MODE SELECT(6) of one page, read before with MODE SENSE, with one byte changed. */
static uint32_t select_byte(struct raw *c, uint8_t page, unsigned byte, uint8_t value)
{
    uint8_t list[64] = {0}, n;

    assert_int_equal(ASK(c, list, 0x1a, 8, page, 0, 64).status, 0);
    n = (uint8_t)(list[0] + 1);
    list[0] = list[2] = 0;
    list[4 + byte] = value;
    return tell(c, (const uint8_t[16]){0x15, 0x10, 0, 0, n}, list, n);
}

static uint8_t sense_byte(struct raw *c, uint8_t page, unsigned byte)
{
    uint8_t list[64] = {0};

    assert_int_equal(ASK(c, list, 0x1a, 8, page, 0, 64).status, 0);
    return list[4 + byte];
}

static void without_write_cache(void **state)
{
    struct raw *c = session_new(0, 1, ""), *other = session_new(0, 2, "");
    uint8_t data[512] = {1};

    (void)state;
    assert_int_equal(sense_byte(c, CACHING, 2), 4);
    assert_int_equal(sense_byte(c, 0x40 | CACHING, 2), 4); /* it can be changed */
    assert_int_equal(tell(c, raw_cdb10(0x2a, 0, 1), data, 512), 0);
    assert_int_equal(atomic_load(&fix.volumes[0].forced), 0);
    assert_int_equal(select_byte(c, CACHING, 2, 0), 0);
    assert_int_equal(sense_byte(c, CACHING, 2), 0);
    assert_int_equal(sense_byte(c, 0x80 | CACHING, 2), 4); /* the default stays */
    assert_int_equal(tell(c, raw_cdb10(0x2a, 0, 1), data, 512), 0);
    assert_int_equal(atomic_load(&fix.volumes[0].forced), 1);
    assert_int_equal(ASK(other, NULL, 0x00).sense, 0x062a01); /* the others are told */
    assert_int_equal(ASK(other, NULL, 0x00).sense, 0);
    assert_int_equal(ASK(c, NULL, 0x00).sense, 0);
    raw_free(&c);
    raw_free(&other);
}

static void descriptor_sense(void **state)
{
    struct raw *c = session_new(0, 1, "");

    (void)state;
    assert_int_equal(select_byte(c, CONTROL, 2, 4), 0);
    assert_int_equal(ASK(c, NULL, 0x12, 0, 0x80, 0, 255).status, 2);
    assert_int_equal(c->len, 2 + 8 + 8);
    assert_memory_equal(c->data + 2, "\x72\x05\x24\x00\x00\x00\x00\x08\x02\x06\x00\x00\xcf\x00\x02", 15);
    assert_int_equal(select_byte(c, CONTROL, 2, 0), 0);
    assert_int_equal(ASK(c, NULL, 0x12, 0, 0x80, 0, 255).sense, 0x052400);
    assert_int_equal(c->data[2], 0x70);
    assert_memory_equal(c->data + 2 + 15, "\xcf\x00\x02", 3);
    raw_free(&c);
}

static void write_protect(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t data[512] = {1}, list[64];

    (void)state;
    assert_int_equal(select_byte(c, CONTROL, 4, 8), 0);
    assert_int_equal(tell(c, raw_cdb10(0x2a, 0, 1), data, 512), 0x072702);
    assert_int_equal(ASK(c, NULL, 0x93, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1).sense, 0x072702);
    assert_int_equal(ASK(c, NULL, 0x28, 0, 0, 0, 0, 0, 0, 0, 1).sense, 0);
    assert_int_equal(ASK(c, list, 0x1a, 8, CONTROL, 0, 64).status, 0);
    assert_int_equal(list[2] & 0x80, 0x80);
    assert_int_equal(select_byte(c, CONTROL, 4, 0), 0);
    assert_int_equal(tell(c, raw_cdb10(0x2a, 0, 1), data, 512), 0);
    raw_free(&c);
}

static void lists_that_are_wrong(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t list[64] = {0};

    (void)state;
    assert_int_equal(select_byte(c, CACHING, 3, 1), 0x052600); /* cannot be changed */
    assert_int_equal(get16(c->data + 2 + 16), 4 + 3);
    assert_int_equal(select_byte(c, CACHING, 1, 17), 0x052600);
    assert_int_equal(select_byte(c, CACHING, 0, 0x3e), 0x052600);
    assert_int_equal(tell(c, (const uint8_t[16]){0x15, 0x11, 0, 0, 4}, list, 4), 0x052400); /* SP */
    assert_int_equal(tell(c, (const uint8_t[16]){0x15, 0x00, 0, 0, 4}, list, 4), 0x052400); /* not PF */
    assert_int_equal(tell(c, (const uint8_t[16]){0x15, 0x10, 0, 0, 3}, list, 3), 0x051a00);
    assert_int_equal(tell(c, (const uint8_t[16]){0x15, 0x10, 0, 0, 0}, list, 0), 0);
    assert_int_equal(tell(c, (const uint8_t[16]){0x15, 0x10, 0, 0, 4}, list, 4), 0);
    memset(list, 0xff, sizeof list);
    for (uint32_t n = 4; n < 64; n++)
        assert_true(tell(c, (const uint8_t[16]){0x15, 0x10, 0, 0, (uint8_t)n}, list, n));
    for (uint32_t n = 8; n < 64; n++) /* the list is said to be longer than it is */
        assert_true(tell(c, (const uint8_t[16]){0x55, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff}, list, n));
    assert_int_equal(sense_byte(c, CACHING, 2), 4);
    raw_free(&c);
}

static void a_reset_brings_defaults(void **state)
{
    struct raw *c = session_new(0, 1, "");

    (void)state;
    assert_int_equal(select_byte(c, CACHING, 2, 0), 0);
    assert_int_equal(tmf(c, TMF_LOGICAL_UNIT_RESET, 0, 0), TMF_COMPLETE);
    assert_int_equal(ASK(c, NULL, 0x00).sense, 0x062903);
    assert_int_equal(sense_byte(c, CACHING, 2), 4);
    raw_free(&c);
}

static void prefetch(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t immed[10];

    (void)state;
    command_send(c, F, 0, raw_cdb10(0x34, 0, 64), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).status, 4);
    command_send(c, F, 0, raw_cdb10(0x34, 65535, 2), 10, NULL, 0);
    assert_int_equal(answer_recv(c, NULL).sense, 0x052100);
    command_send(c, F, 0, raw_cdb10(0x34, 0, 0), 10, NULL, 0); /* all: more than it fetches at once */
    assert_int_equal(answer_recv(c, NULL).status, 0);
    assert_int_equal(atomic_load(&fix.volumes[0].reads), 2);
    atomic_store(&fix.volumes[0].stalled, true);
    memcpy(immed, raw_cdb10(0x34, 0, 64), 10);
    immed[1] = 2;
    for (int i = 0; i < 40; i++) { /* IMMED: answered while they are under way, but not for ever more */
        command_send(c, F, 0, immed, 10, NULL, 0);
        assert_int_equal(answer_recv(c, NULL).status, i < 32 ? 4 : 0);
    }
    raw_free(&c);
    fix_unstall(0);
    disk(0);
    assert_int_equal(atomic_load(&fix.volumes[0].reads), 34);
}

static void lba_status(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t out[4096];

    (void)state;
    memset(disk(0) + 512 * 10, 1, 512 * 5);
    assert_int_equal(ASK(c, out, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 4, 0).got, 8 + 3 * 16);
    assert_int_equal(get32(out), 4 + 3 * 16);
    assert_int_equal(get64(out + 8), 3);
    assert_int_equal(get32(out + 16), 7);
    assert_int_equal(out[20], 1);
    assert_int_equal(get64(out + 24), 10);
    assert_int_equal(get32(out + 32), 5);
    assert_int_equal(out[36], 0);
    assert_int_equal(get64(out + 40), 15);
    assert_int_equal(get32(out + 48), 65536 - 15);
    assert_int_equal(ASK(c, out, 0x9e, 0x12, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0).sense, 0x052100);
    raw_free(&c);
}

static void reports(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t out[4096];

    (void)state;
    assert_int_equal(ASK(c, out, 0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255).got, 16);
    assert_memory_equal(out, "\0\0\0\14\0\1\0\1\0\0\0\1\0\0\0\1", 16);
    assert_int_equal(ASK(c, out, 0xa3, 0x2a, 0, 0, 0, 0, 0, 0, 0, 255).got, 20);
    assert_memory_equal(out, "\0\0\0\20\20\0\0\0\0\1\0\1", 12);
    assert_int_equal(ASK(c, out, 0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 0, 255).sense, 0x052400);
    assert_int_equal(ASK(c, out, 0x12, 0, 0, 0, 96).got, 96);
    assert_int_equal(out[5] & 0x30, 0x10);
    assert_int_equal(ASK(c, out, 0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64).got, 6);
    assert_memory_equal(out, "\0\0\0\2\0\x2f", 6);
    assert_int_equal(ASK(c, out, 0x4d, 0, 0x6f, 0, 0, 0, 0, 0, 64).got, 12);
    assert_memory_equal(out, "\x2f\0\0\x8\0\0\3\4\0\0\xff\xff", 12); /* no temperatures */
    assert_int_equal(ASK(c, out, 0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 64).sense, 0x052400);
    assert_int_equal(ASK(c, out, 0x37, 0, 0x1d, 0, 0, 0, 0, 0, 64).got, 4);
    assert_memory_equal(out, "\0\x1d\0\0", 4);
    assert_int_equal(ASK(c, out, 0xb7, 0x1d, 0, 0, 0, 0, 0, 0, 0, 64).got, 8);
    assert_int_equal(ASK(c, out, 0x03, 1, 0, 0, 64).got, 8);
    assert_int_equal(out[0], 0x72);
    raw_free(&c);
}

/* EXTENDED COPY within the disk: a list that is right, and every cut and flipped byte of it. */
static void copies(void **state)
{
    struct raw *c = session_new(0, 1, "");
    uint8_t list[16 + 32 + 2 * 28] = {9}, bad[sizeof list], out[64];
    uint8_t cdb[16] = {0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, sizeof list}, *s = list + 48, *bytes;

    (void)state;
    bytes = disk(0);
    for (int i = 0; i < 1000 * 512; i++)
        bytes[i] = (uint8_t)(i / 512 + i);
    put16(list + 2, 32);
    put32(list + 8, 2 * 28);
    memcpy(list + 16, "\xe4\0\0\0\1\3\0\10\x30\1\2\3\4\5\6\7", 16);
    for (int i = 0; i < 2; i++, s += 28) {
        s[0] = 2;
        put16(s + 2, 24);
        put16(s + 10, i ? 1 : 999);
        put64(s + 12, i ? 0 : 1);
        put64(s + 20, i ? 3000 : 2001);
    }
    assert_int_equal(ASK(c, out, 0x84, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64).sense, 0x052400);
    assert_int_equal(tell(c, cdb, list, sizeof list), 0);
    assert_memory_equal(disk(0) + 2001 * 512, disk(0) + 512, 999 * 512);
    assert_memory_equal(disk(0) + 3000 * 512, disk(0), 512);
    assert_int_equal(ASK(c, out, 0x84, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64).got, 12);
    assert_memory_equal(out, "\0\0\0\10\1\0\2\1\0\0\1\xf4", 12);
    assert_int_equal(ASK(c, out, 0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64).got, 46);
    for (uint8_t n = 1; n < sizeof list; n++) {
        cdb[13] = n;
        assert_int_equal(tell(c, cdb, list, n), 0x051a00);
    }
    cdb[13] = sizeof list;
    for (size_t i = 0; i < sizeof list; i++) { /* whatever is answered */
        memcpy(bad, list, sizeof bad);
        bad[i] ^= 0xff;
        tell(c, cdb, bad, sizeof bad);
    }
    put64(list + 48 + 20, 65536 - 998);
    assert_int_equal(tell(c, cdb, list, sizeof list), 0x0a0000);
    list[16 + 9] ^= 1;
    assert_int_equal(tell(c, cdb, list, sizeof list), 0x0a0d02);
    list[16] = 0xe0;
    assert_int_equal(tell(c, cdb, list, sizeof list), 0x052607);
    raw_free(&c);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, fix_start, fix_stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(without_write_cache),
        STORY(descriptor_sense),
        STORY(write_protect),
        STORY(lists_that_are_wrong),
        STORY(a_reset_brings_defaults),
        STORY(prefetch),
        STORY(lba_status),
        STORY(reports),
        STORY(copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
