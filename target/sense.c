/* target/sense.c - sense data from the table in sense.h. Pure. */
#include "sense.h"

#include "wire.h"

#define SENSE_ROW(name, key, asc, ascq) {#name, key, asc, ascq},
static const struct {
    const char *name;
    uint8_t key, asc, ascq;
} senses[SENSE_COUNT] = {SENSES(SENSE_ROW)};
#undef SENSE_ROW

enum { CURRENT_FIXED = 0x70, INFORMATION_VALID = 0x80, FIELD_VALID = 0x80, IN_CDB = 0x40, BIT_VALID = 0x08 };

void sense_write(const struct sense *s, uint8_t out[SENSE_BYTES])
{
    memset(out, 0, SENSE_BYTES);
    out[0] = CURRENT_FIXED;
    if (s->information_valid) {
        out[0] |= INFORMATION_VALID;
        put32(out + 3, s->information);
    }
    out[2] = senses[s->code].key;
    out[7] = SENSE_BYTES - 8;
    out[12] = senses[s->code].asc;
    out[13] = senses[s->code].ascq;
    if (s->field_valid) {
        out[15] = FIELD_VALID;
        if (s->in_cdb)
            out[15] |= IN_CDB;
        if (s->bit_valid)
            out[15] = (uint8_t)(out[15] | BIT_VALID | (s->bit & 7));
        put16(out + 16, s->field);
    }
}

const char *sense_name(enum sense_code code)
{
    return senses[code].name;
}
