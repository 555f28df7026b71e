/* initiator/wb_record.h - what is stable of a VM's write-back: one row of the stage (docs/writeback.md).
 *
 * A VM that was detached leaves its id and the highest epoch seen, so that who has lost it cannot come back.
 */
#ifndef ISTHMUS_WB_RECORD_H
#define ISTHMUS_WB_RECORD_H

#include "datastore.h"
#include "proto_wb.h"

enum wb_alarm {
    WB_ALARM_NONE,
    WB_ALARM_WRITTEN, /* a mark is another: somebody else wrote */
    WB_ALARM_TAKEN,   /* somebody else has the reservation */
    WB_ALARM_DAMAGED  /* the stage cannot be read: it will not be whole on the disks */
};

struct wb_mark {
    bool known;
    uint8_t len, bytes[DATASTORE_MARK_MAX];
};

struct wb_record {
    uint8_t vm[WB_ID_BYTES];
    uint64_t epoch; /* the highest seen */
    bool attached;  /* if not, nothing below means anything */
    enum wb_policy policy;
    char name[PROTO_NAME_MAX + 1];
    unsigned ndisks;
    char disks[WB_DISKS_MAX][PROTO_NAME_MAX + 1];
    struct wb_mark marks[WB_DISKS_MAX]; /* when the disks were seen last */

    uint64_t applied, applied_ms; /* the cut that the disks hold, and its instant */
    enum wb_stage stage;
    uint64_t number; /* of the stage in the database; 0: none */
    uint64_t target, target_ms;
    uint64_t pieces, bytes; /* of it, once it is staged */

    enum wb_alarm alarm;
    char alarm_text[WB_TEXT_MAX + 1];
};

enum { WB_RECORD_MAX = 14000 };
/* Returns the bytes put; row has room for WB_RECORD_MAX. */
size_t wb_record_put(const struct wb_record *, uint8_t *row);
/* 0, or -EBADMSG for what wb_record_put() cannot have made. */
int wb_record_get(const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n, struct wb_record *);

#endif
