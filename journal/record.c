/* journal/record.c - see record.h. No I/O, no sealing.
 */
#include "record.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

void record_key(uint8_t key[RECORD_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint64_t seq)
{
    memcpy(key, id, VMLOG_ID_BYTES);
    put64(key + VMLOG_ID_BYTES, seq);
}

void record_part_key(uint8_t key[RECORD_PART_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint64_t seq,
                     uint32_t number)
{
    record_key(key, id, seq);
    put32(key + RECORD_KEY_BYTES, number);
}

/* Sequence numbers never reach 2^64 - 1, so that key ends the VM's range in both spaces. */
void record_key_end(uint8_t key[RECORD_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES])
{
    record_key(key, id, UINT64_MAX);
}

void record_encode(uint8_t bytes[RECORD_HEADER_BYTES], const struct record_header *h)
{
    bytes[0] = (uint8_t)h->type;
    bytes[1] = h->disk;
    put16(bytes + 2, 0);
    put64(bytes + 4, h->lba);
    put32(bytes + 12, h->nsectors);
}

int record_decode(struct record_header *h, const uint8_t *bytes, size_t n)
{
    struct reader r = reader_of(bytes, n);
    uint8_t type = read8(&r);
    uint16_t zero;

    h->type = (enum record_type)type;
    h->disk = read8(&r);
    zero = read16(&r);
    h->lba = read64(&r);
    h->nsectors = read32(&r);
    if (r.bad || r.p != r.end || zero != 0 || (type != RECORD_WRITE && type != RECORD_ZERO))
        return -EBADMSG;
    if (h->disk >= VMLOG_DISKS || h->nsectors == 0 || h->lba > UINT64_MAX / SECTOR - h->nsectors)
        return -EBADMSG;
    if (type == RECORD_WRITE && h->nsectors > VMLOG_WRITE_SECTORS)
        return -EBADMSG;
    return 0;
}
