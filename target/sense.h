/* target/sense.h - sense data: one table of what can be said, and its two formats (SPC-4 4.5). */
#ifndef ISTHMUS_SENSE_H
#define ISTHMUS_SENSE_H

#include <stdbool.h>
#include <stdint.h>

enum { SENSE_BYTES = 18, SENSE_BYTES_MAX = 32 }; /* fixed format; descriptors at most */
enum {
    SCSI_GOOD = 0x00,
    SCSI_CHECK_CONDITION = 0x02,
    SCSI_CONDITION_MET = 0x04,
    SCSI_BUSY = 0x08,
    SCSI_RESERVATION_CONFLICT = 0x18,
    SCSI_TASK_SET_FULL = 0x28
};

/* name, sense key, ASC, ASCQ */
#define SENSES(X)                                                                                            \
    X(NONE, 0x0, 0x00, 0x00)                                                                                 \
    X(UNRECOVERED_READ_ERROR, 0x3, 0x11, 0x00)                                                               \
    X(WRITE_ERROR, 0x3, 0x0c, 0x00)                                                                          \
    X(PARAMETER_LIST_LENGTH, 0x5, 0x1a, 0x00)                                                                \
    X(INVALID_OPCODE, 0x5, 0x20, 0x00)                                                                       \
    X(LBA_OUT_OF_RANGE, 0x5, 0x21, 0x00)                                                                     \
    X(INVALID_FIELD_IN_CDB, 0x5, 0x24, 0x00)                                                                 \
    X(LUN_NOT_SUPPORTED, 0x5, 0x25, 0x00)                                                                    \
    X(INVALID_FIELD_IN_PARAMETER_LIST, 0x5, 0x26, 0x00)                                                      \
    X(INVALID_RELEASE, 0x5, 0x26, 0x04)                                                                      \
    X(REGISTRANTS_FULL, 0x5, 0x55, 0x04)                                                                     \
    X(INVALID_INFORMATION_UNIT, 0x5, 0x0e, 0x03)                                                             \
    X(RESET_OCCURRED, 0x6, 0x29, 0x03)                                                                       \
    X(MODE_PARAMETERS_CHANGED, 0x6, 0x2a, 0x01)                                                              \
    X(ACCESS_STATE_CHANGED, 0x6, 0x2a, 0x06)                                                                 \
    X(CLEARED_BY_SERVER, 0xb, 0x2f, 0x02)                                                                    \
    X(SOFTWARE_WRITE_PROTECTED, 0x7, 0x27, 0x02)                                                             \
    X(TOO_MANY_TARGET_DESCRIPTORS, 0x5, 0x26, 0x06)                                                          \
    X(UNSUPPORTED_TARGET_DESCRIPTOR, 0x5, 0x26, 0x07)                                                        \
    X(TOO_MANY_SEGMENT_DESCRIPTORS, 0x5, 0x26, 0x08)                                                         \
    X(UNSUPPORTED_SEGMENT_DESCRIPTOR, 0x5, 0x26, 0x09)                                                       \
    X(INLINE_DATA_LENGTH_EXCEEDED, 0x5, 0x26, 0x0b)                                                          \
    X(COPY_ABORTED, 0xa, 0x00, 0x00)                                                                         \
    X(COPY_DEVICE_FAILURE, 0xa, 0x0d, 0x01)                                                                  \
    X(COPY_DEVICE_NOT_REACHABLE, 0xa, 0x0d, 0x02)                                                            \
    X(COMMANDS_CLEARED, 0x6, 0x2f, 0x00)                                                                     \
    X(RESERVATIONS_PREEMPTED, 0x6, 0x2a, 0x03)                                                               \
    X(RESERVATIONS_RELEASED, 0x6, 0x2a, 0x04)                                                                \
    X(REGISTRATIONS_PREEMPTED, 0x6, 0x2a, 0x05)                                                              \
    X(REPORTED_LUNS_CHANGED, 0x6, 0x3f, 0x0e)                                                                \
    X(CAPACITY_CHANGED, 0x6, 0x2a, 0x09)                                                                     \
    X(UNEXPECTED_UNSOLICITED_DATA, 0xb, 0x0c, 0x0c)                                                          \
    X(NOT_ENOUGH_UNSOLICITED_DATA, 0xb, 0x0c, 0x0d)                                                          \
    X(DATA_PHASE_ERROR, 0xb, 0x4b, 0x00)                                                                     \
    X(INTERNAL_TARGET_FAILURE, 0xb, 0x44, 0x00)                                                              \
    X(SAVING_PARAMETERS_NOT_SUPPORTED, 0x5, 0x39, 0x00)                                                      \
    X(MISCOMPARE, 0xe, 0x1d, 0x00)

#define SENSE_ID(name, ...) SENSE_##name,
enum sense_code { SENSES(SENSE_ID) SENSE_COUNT };
#undef SENSE_ID

struct sense {
    enum sense_code code;
    bool field_valid, in_cdb, bit_valid; /* sense-key specific: a field pointer */
    uint8_t bit;
    uint16_t field;
    bool information_valid;
    uint64_t information;
};

/* A current error; returns its length. */
unsigned sense_write(const struct sense *, bool descriptors, uint8_t out[SENSE_BYTES_MAX]);
const char *sense_name(enum sense_code);

#endif
