/* common/crc32c.c - CRC32C with the SSE4.2 instruction where the machine has it, by table elsewhere.
 *
 * One stream of crc32 instructions is bound by their latency (3 cycles for 8 bytes): three streams over
 * thirds of a block run in its shadow and are joined by multiplying with x^n through a table.
 * Any thread.
 */
#include "crc32c.h"

#include <string.h>

enum { POLYNOMIAL = (int)0x82f63b78, LANE_BYTES = 1024 };

static uint32_t bytes_table[8][256];
static uint32_t lane_table[4][256]; /* crc * x^(8 * LANE_BYTES) */

static uint32_t shift_zeros(uint32_t crc, size_t n)
{
    while (n--)
        crc = bytes_table[0][crc & 0xff] ^ (crc >> 8);
    return crc;
}

__attribute__((constructor)) static void crc32c_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ (uint32_t)POLYNOMIAL : crc >> 1;
        bytes_table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            bytes_table[k][i] = bytes_table[0][bytes_table[k - 1][i] & 0xff] ^ (bytes_table[k - 1][i] >> 8);
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 0; k < 4; k++)
            lane_table[k][i] = shift_zeros(i << (8 * k), LANE_BYTES);
}

uint32_t crc32c_table(uint32_t crc, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    crc = ~crc;
    while (n >= 8) {
        uint32_t a, b;

        memcpy(&a, p, 4);
        memcpy(&b, p + 4, 4);
        a ^= crc;
        crc = bytes_table[7][a & 0xff] ^ bytes_table[6][(a >> 8) & 0xff] ^ bytes_table[5][(a >> 16) & 0xff] ^
              bytes_table[4][a >> 24] ^ bytes_table[3][b & 0xff] ^ bytes_table[2][(b >> 8) & 0xff] ^
              bytes_table[1][(b >> 16) & 0xff] ^ bytes_table[0][b >> 24];
        p += 8;
        n -= 8;
    }
    while (n--)
        crc = bytes_table[0][(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return ~crc;
}

#ifdef __x86_64__
static uint64_t load64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

static uint32_t lane_shift(uint32_t crc)
{
    return lane_table[0][crc & 0xff] ^ lane_table[1][(crc >> 8) & 0xff] ^ lane_table[2][(crc >> 16) & 0xff] ^
           lane_table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t a = (uint32_t)~crc;

    while (n >= 3 * LANE_BYTES) {
        uint64_t b = 0, c = 0;

        for (size_t i = 0; i < LANE_BYTES; i += 8) {
            a = __builtin_ia32_crc32di(a, load64(p + i));
            b = __builtin_ia32_crc32di(b, load64(p + LANE_BYTES + i));
            c = __builtin_ia32_crc32di(c, load64(p + 2 * LANE_BYTES + i));
        }
        a = lane_shift(lane_shift((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
        p += 3 * LANE_BYTES;
        n -= 3 * (size_t)LANE_BYTES;
    }
    for (; n >= 8; p += 8, n -= 8)
        a = __builtin_ia32_crc32di(a, load64(p));
    while (n--)
        a = __builtin_ia32_crc32qi((uint32_t)a, *p++);
    return ~(uint32_t)a;
}
#endif

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, bytes, n);
#endif
    return crc32c_table(crc, bytes, n);
}
