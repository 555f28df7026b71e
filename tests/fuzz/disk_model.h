/* tests/fuzz/disk_model.h - what a CDB must do to a disk, written down a second time from SBC-3 and SPC-4:
 * whether it must be refused, and the disk's bytes afterwards. fuzz_cdb compares.
 *
 * It knows what moves or changes data; of every other command only that it changes none. Included once.
 */
#ifndef ISTHMUS_FUZZ_DISK_MODEL_H
#define ISTHMUS_FUZZ_DISK_MODEL_H

#include "world.h"

#include "check.h"
#include "scsi_limits.h"
#include "wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { DISK_BYTES = WORLD_SECTORS * SECTOR_BYTES };

/* [low, high): what may differ from the content that a disk begins with. */
struct disk_model {
    uint8_t bytes[DISK_BYTES];
    uint32_t block, low, high;
};

enum verdict { MAY, MUST, MUST_NOT }; /* end with GOOD */
enum effect {
    CHANGES_NOTHING,
    READS,
    WRITES,
    ORS,
    ZEROES,
    SAME,
    COMPARES,
    COMPARES_AND_WRITES,
    UNMAPS,
    COPIES
};

struct wanted {
    enum verdict verdict;
    enum effect effect;
    uint64_t lba;
    uint64_t count; /* blocks */
    uint32_t out;   /* bytes of data out that the CDB asks for */
};

/* What the initiator offers with a CDB. */
struct offer {
    const uint8_t *cdb, *data;
    uint32_t edtl;
    bool reads, writes;
};

/* What disks begin with: 4 KiB of something, 4 KiB of zeros, and so on. */
static uint8_t content[DISK_BYTES];

static void content_init(void)
{
    for (uint32_t at = 0; at < DISK_BYTES; at++)
        content[at] = at / 512 % 16 < 8 ? (uint8_t)(at * 3 + at / 512 * 7 + 1) : 0;
}

static void touch(struct disk_model *d, uint64_t at, uint64_t n)
{
    if (!n)
        return;
    CHECK(at + n <= DISK_BYTES);
    if (at < d->low)
        d->low = (uint32_t)at;
    if (at + n > d->high)
        d->high = (uint32_t)(at + n);
}

/* --- decoding --- */

static bool has_protection(uint8_t opcode)
{
    return opcode >> 5 != 0;
}

static void decode(const uint8_t *cdb, struct wanted *w)
{
    switch (cdb[0] >> 5) {
    case 0:
        w->lba = get24(cdb + 1) & 0x1fffff;
        w->count = cdb[4] ? cdb[4] : 256;
        break;
    case 4:
        w->lba = get64(cdb + 2);
        w->count = get32(cdb + 10);
        break;
    case 5:
        w->lba = get32(cdb + 2);
        w->count = get32(cdb + 6);
        break;
    default:
        w->lba = get32(cdb + 2);
        w->count = get16(cdb + 7);
    }
}

static enum effect effect_of(const uint8_t *cdb)
{
    switch (cdb[0]) {
    case 0x08:
    case 0x28:
    case 0xa8:
    case 0x88:
        return READS;
    case 0x0a:
    case 0x2a:
    case 0xaa:
    case 0x8a:
    case 0x2e:
    case 0xae:
    case 0x8e:
    case 0x9c:
        return WRITES;
    case 0x8b:
        return ORS;
    case 0x2f:
    case 0xaf:
    case 0x8f:
        return COMPARES;
    case 0x89:
        return COMPARES_AND_WRITES;
    case 0x41:
        return SAME;
    case 0x93:
        return cdb[1] & 1 ? ZEROES : SAME; /* NDOB */
    case 0x42:
        return UNMAPS;
    case 0x83:
        return (cdb[1] & 0x1f) == 0 ? COPIES : CHANGES_NOTHING;
    default:
        return CHANGES_NOTHING;
    }
}

static uint32_t cdb_bytes(uint8_t opcode)
{
    static const uint8_t bytes[8] = {6, 10, 10, 0, 16, 12, 0, 0};

    return bytes[opcode >> 5];
}

/* Bytes that have come when it has all that it asks for and the initiator has. */
static uint32_t arrives(const struct offer *o, uint32_t asked)
{
    uint32_t has = o->writes ? o->edtl : 0;

    return asked < has ? asked : has;
}

static uint32_t unmap_length(const struct offer *o)
{
    return arrives(o, get16(o->cdb + 7));
}

static bool unmap_right(const struct disk_model *d, const struct offer *o)
{
    uint32_t n = unmap_length(o), described;

    if (o->cdb[1] & 1)
        return false;
    if (!get16(o->cdb + 7))
        return true;
    if (n < 8 || (described = get16(o->data + 2)) > n - 8 || described / 16 > UNMAP_DESCRIPTORS_MAX)
        return false;
    for (uint32_t at = 8; at + 16 <= 8 + described; at += 16) {
        uint64_t lba = get64(o->data + at), blocks = DISK_BYTES / d->block;

        if (lba > blocks || get32(o->data + at + 8) > blocks - lba)
            return false;
    }
    return true;
}

/* Whether the fields of a CDB with an LBA are what the command takes. */
static bool fields_right(const struct disk_model *d, const struct offer *o, struct wanted *w)
{
    uint64_t blocks = DISK_BYTES / d->block;
    uint8_t opcode = o->cdb[0], flags = o->cdb[1];
    unsigned bytchk = flags >> 1 & 3;

    if (w->effect == UNMAPS)
        return unmap_right(d, o);
    decode(o->cdb, w);
    if (opcode == 0x9c)
        w->count = get16(o->cdb + 12);
    if (opcode == 0x89)
        w->count = o->cdb[13];
    if ((has_protection(opcode) && flags & 0xe0) || w->lba >= blocks || w->count > blocks - w->lba)
        return false;
    w->out = (uint32_t)w->count * d->block;
    switch (w->effect) {
    case SAME:
    case ZEROES:
        w->out = w->effect == SAME ? d->block : 0;
        return !(flags & 0x10) && w->count && (w->effect == ZEROES || (o->writes && o->edtl == d->block));
    case COMPARES_AND_WRITES:
        w->out *= 2;
        return o->edtl == w->out && (o->writes || !w->out);
    case COMPARES:
        w->out = !w->count || !bytchk ? 0 : bytchk == 3 ? d->block : w->out;
        return bytchk != 2 && arrives(o, w->out) == w->out;
    case READS:
        w->out = 0;
        return true;
    default:
        return opcode != 0x9c || (!get16(o->cdb + 10) && w->count * d->block <= ATOMIC_BYTES_MAX);
    }
}

static struct wanted wanted_of(const struct disk_model *d, const struct offer *o)
{
    struct wanted w = {.effect = effect_of(o->cdb)};
    uint32_t bytes = cdb_bytes(o->cdb[0]);

    if (w.effect == CHANGES_NOTHING)
        return w;
    if (w.effect == COPIES) {
        w.verdict = MAY;
        return w;
    }
    w.verdict = !(o->cdb[bytes - 1] & 4) && fields_right(d, o, &w) ? MUST : MUST_NOT;
    return w;
}

/* --- effects --- */

/* Whether what is compared is the same; data of one block is repeated if `repeat`. */
static bool same_bytes(const struct disk_model *d, const struct wanted *w, const uint8_t *data, bool repeat)
{
    for (uint64_t i = 0; i < w->count; i++)
        if (memcmp(d->bytes + (w->lba + i) * d->block, data + (repeat ? 0 : i * d->block), d->block) != 0)
            return false;
    return true;
}

static bool compares(const struct disk_model *d, const struct wanted *w, const struct offer *o)
{
    if (w->effect == COMPARES)
        return !w->out || same_bytes(d, w, o->data, (o->cdb[1] & 6) == 6);
    return w->effect != COMPARES_AND_WRITES || same_bytes(d, w, o->data, false);
}

static void put_bytes(struct disk_model *d, uint64_t at, const uint8_t *data, uint64_t n, bool or)
{
    touch(d, at, n);
    for (uint64_t i = 0; or &&i < n; i++)
        d->bytes[at + i] |= data[i];
    if (! or)
        memcpy(d->bytes + at, data, n);
}

static void zero_bytes(struct disk_model *d, uint64_t at, uint64_t n)
{
    touch(d, at, n);
    memset(d->bytes + at, 0, n);
}

static void unmapped(struct disk_model *d, const struct offer *o)
{
    uint32_t n = unmap_length(o), described = n ? get16(o->data + 2) : 0;

    for (uint32_t at = 8; at + 16 <= 8 + described; at += 16)
        zero_bytes(d, get64(o->data + at) * d->block, (uint64_t)get32(o->data + at + 8) * d->block);
}

/* It has ended with GOOD. */
static void apply(struct disk_model *d, const struct wanted *w, const struct offer *o)
{
    uint64_t at = w->lba * d->block, n = w->count * d->block;

    switch (w->effect) {
    case WRITES:
    case ORS:
        n = arrives(o, w->out) / d->block * d->block;
        put_bytes(d, at, o->data, n, w->effect == ORS);
        break;
    case COMPARES_AND_WRITES:
        put_bytes(d, at, o->data + n, n, false);
        break;
    case ZEROES:
        zero_bytes(d, at, n);
        break;
    case SAME:
        for (uint64_t i = 0; i < w->count; i++)
            put_bytes(d, at + i * d->block, o->data, d->block, false);
        break;
    case UNMAPS:
        unmapped(d, o);
        break;
    default:
        break;
    }
}

/* EXTENDED COPY with a list that was found good: all of it. disks: of the VM, by LUN, NAA as the world says.
 */
static void copied(struct disk_model *const *disks, unsigned ndisks, const uint8_t *const *naa,
                   const uint8_t *list, uint32_t n)
{
    const uint8_t *segment;

    if (n < 16)
        return;
    segment = list + 16 + get16(list + 2);
    for (uint32_t i = 0; i < get32(list + 8) / 28; i++, segment += 28) {
        struct disk_model *from = NULL, *to = NULL;

        for (unsigned lun = 0; lun < ndisks; lun++) {
            if (!memcmp(list + 16 + 32 * get16(segment + 4) + 8, naa[lun], 8))
                from = disks[lun];
            if (!memcmp(list + 16 + 32 * get16(segment + 6) + 8, naa[lun], 8))
                to = disks[lun];
        }
        CHECK(from && to && from->block == to->block);
        for (uint64_t k = 0, bytes = (uint64_t)get16(segment + 10) * from->block; k < bytes;) {
            uint64_t piece = bytes - k < 256 << 10 ? bytes - k : 256 << 10; /* ours: what overlaps shows it */
            static uint8_t held[256 << 10];

            CHECK(get64(segment + 12) * from->block + k + piece <= DISK_BYTES);
            memcpy(held, from->bytes + get64(segment + 12) * from->block + k, piece);
            put_bytes(to, get64(segment + 20) * to->block + k, held, piece, false);
            k += piece;
        }
    }
}

#endif
