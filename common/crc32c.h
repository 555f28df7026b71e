/* common/crc32c.h - CRC32C (Castagnoli), the digest of iSCSI headers and data, and of the journal's batches. */
#ifndef ISTHMUS_CRC32C_H
#define ISTHMUS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Start with crc = 0; feed pieces in order. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);
/* The same by table: what machines without SSE4.2 run, and what the other is tested against. */
uint32_t crc32c_table(uint32_t crc, const void *bytes, size_t n);

#endif
