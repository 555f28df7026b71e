/* target/sense.c - sense data from the table in sense.h. Pure. */
#include "sense.h"

#include "wire.h"

#define SENSE_ROW(name, key, asc, ascq) {#name, key, asc, ascq},
static const struct {
    const char *name;
    uint8_t key, asc, ascq;
} senses[SENSE_COUNT] = {SENSES(SENSE_ROW)};
#undef SENSE_ROW

enum { CURRENT_FIXED = 0x70, CURRENT_DESCRIPTOR = 0x72 };
enum { INFORMATION_VALID = 0x80, FIELD_VALID = 0x80, IN_CDB = 0x40, BIT_VALID = 0x08 };
enum { INFORMATION_DESCRIPTOR = 0x00, FIELD_DESCRIPTOR = 0x02 };

/* Three bytes. */
static void put_field(const struct sense *s, uint8_t *p)
{
    p[0] = FIELD_VALID;
    if (s->in_cdb)
        p[0] |= IN_CDB;
    if (s->bit_valid)
        p[0] = (uint8_t)(p[0] | BIT_VALID | (s->bit & 7));
    put16(p + 1, s->field);
}

static unsigned write_fixed(const struct sense *s, uint8_t *out)
{
    out[0] = CURRENT_FIXED;
    if (s->information_valid && s->information <= UINT32_MAX) {
        out[0] |= INFORMATION_VALID;
        put32(out + 3, (uint32_t)s->information);
    }
    out[2] = senses[s->code].key;
    out[7] = SENSE_BYTES - 8;
    out[12] = senses[s->code].asc;
    out[13] = senses[s->code].ascq;
    if (s->field_valid)
        put_field(s, out + 15);
    return SENSE_BYTES;
}

static unsigned write_descriptors(const struct sense *s, uint8_t *out)
{
    uint8_t *p = out + 8;

    out[0] = CURRENT_DESCRIPTOR;
    out[1] = senses[s->code].key;
    out[2] = senses[s->code].asc;
    out[3] = senses[s->code].ascq;
    if (s->information_valid) {
        p[0] = INFORMATION_DESCRIPTOR;
        p[1] = 10;
        p[2] = INFORMATION_VALID;
        put64(p + 4, s->information);
        p += 12;
    }
    if (s->field_valid) {
        p[0] = FIELD_DESCRIPTOR;
        p[1] = 6;
        put_field(s, p + 4);
        p += 8;
    }
    out[7] = (uint8_t)(p - out - 8);
    return (unsigned)(p - out);
}

unsigned sense_write(const struct sense *s, bool descriptors, uint8_t out[SENSE_BYTES_MAX])
{
    memset(out, 0, SENSE_BYTES_MAX);
    return descriptors ? write_descriptors(s, out) : write_fixed(s, out);
}

const char *sense_name(enum sense_code code)
{
    return senses[code].name;
}
