/* initiator/sense.c - SCSI status and sense data (SPC-5, 4.4) judged and put into words.
 *
 * One table holds the codes that matter to a user of disks; the rest goes by its sense key. Pure functions.
 */
#include "sense.h"

#include "wire.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>

enum { FIXED_CURRENT = 0x70, FIXED_DEFERRED = 0x71, DESCRIPTORS_CURRENT = 0x72, DESCRIPTORS_DEFERRED = 0x73 };
enum { FIXED_BYTES = 14, DESCRIPTOR_BYTES = 4 }; /* up to the additional sense code qualifier */
enum { KEY_DATA_PROTECT = 7, KEY_ABORTED_COMMAND = 0xb, KEY_VOLUME_OVERFLOW = 0xd };
enum { SPACE_ALLOCATION_FAILED = 0x2707, ASC_RESET = 0x29, ASC_PARAMETERS_CHANGED = 0x2a };

static const char advice_disk[] = "check the array for a failed disk";
static const char advice_lun[] = "check the LUN number and that the LUN is mapped to this initiator";

static const struct code {
    int ascq;
    enum sense_verdict verdict;
    const char *words, *advice;
} codes[] = {
    {0x0400, SENSE_WAIT, "not ready, cause not reported", "look at the array"},
    {0x0401, SENSE_WAIT, "becoming ready", "wait until the array is ready"},
    {0x0402, SENSE_WAIT, "not ready, needs to be started", "start the LUN on the array"},
    {0x0403, SENSE_WAIT, "not ready, manual intervention required", "look at the array"},
    {0x040a, SENSE_WAIT, "asymmetric access state transition", "wait until the array has failed over"},
    {0x040b, SENSE_WAIT, "target port in standby state", "use the address of an active controller"},
    {0x040c, SENSE_WAIT, "target port in unavailable state", "use the address of an active controller"},
    {0x0c00, SENSE_FEW, "write error", advice_disk},
    {0x1100, SENSE_FEW, "unrecovered read error", advice_disk},
    {0x1101, SENSE_FEW, "read retries exhausted", advice_disk},
    {0x1400, SENSE_FEW, "recorded entity not found", advice_disk},
    {0x2000, SENSE_FEW, "invalid command operation code", "the target is no disk that Isthmus can read"},
    {0x2100, SENSE_FEW, "logical block address out of range", "the LUN may have been shrunk"},
    {0x2400, SENSE_FEW, "invalid field in CDB", "the target refuses the form of our request"},
    {0x2500, SENSE_SESSION, "logical unit not supported", advice_lun},
    {0x2700, SENSE_FEW, "write protected", "allow this initiator to write to the LUN"},
    {SPACE_ALLOCATION_FAILED, SENSE_FEW, "space allocation failed", "give the array's pool more space"},
    {0x3e00, SENSE_WAIT, "logical unit has not self-configured yet", "wait until the array is ready"},
    {0x3f0e, SENSE_AGAIN, "reported LUNs data has changed", ""},
    {0x4400, SENSE_FEW, "internal target failure", "look at the target's own log"},
};

/* In an answer's segment sense data stand behind their length (RFC 7143 11.4.7.2). */
static bool sense_came(const struct scsi_task *task)
{
    const uint8_t *p = task->datain.data;
    int n = task->datain.size;

    if (!p || n < 3)
        return false;
    n = get16(p) < n - 2 ? get16(p) : n - 2;
    switch (p[2] & 0x7f) {
    case FIXED_CURRENT:
    case FIXED_DEFERRED:
        return n >= FIXED_BYTES;
    case DESCRIPTORS_CURRENT:
    case DESCRIPTORS_DEFERRED:
        return n >= DESCRIPTOR_BYTES;
    default:
        return false;
    }
}

void sense_take(struct scsi_task *task, int status)
{
    task->status = status;
    if (status == SCSI_STATUS_CHECK_CONDITION && !sense_came(task))
        task->sense = (struct scsi_sense){0};
}

static const struct code *find_code(const struct scsi_task *task)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i].ascq == task->sense.ascq)
            return &codes[i];
    }
    return NULL;
}

static enum sense_verdict judge_sense(const struct scsi_task *task)
{
    const struct code *code = find_code(task);

    switch ((int)task->sense.key) {
    case SCSI_SENSE_UNIT_ATTENTION:
        return SENSE_AGAIN;
    case SCSI_SENSE_NOT_READY:
        return SENSE_WAIT;
    case SCSI_SENSE_MEDIUM_ERROR:
    case SCSI_SENSE_HARDWARE_ERROR:
    case KEY_DATA_PROTECT:
        return SENSE_FEW;
    default:
        return code ? code->verdict : SENSE_FEW;
    }
}

enum sense_verdict sense_judge(const struct scsi_task *task)
{
    switch (task->status) {
    case SCSI_STATUS_CHECK_CONDITION:
        return judge_sense(task);
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL:
    case SCSI_STATUS_RESERVATION_CONFLICT:
    case SCSI_STATUS_TASK_ABORTED:
    case SCSI_STATUS_ACA_ACTIVE:
        return SENSE_WAIT;
    case SCSI_STATUS_CANCELLED:
    case SCSI_STATUS_TIMEOUT:
    case SCSI_STATUS_ERROR:
        return SENSE_SESSION;
    default:
        return SENSE_FEW;
    }
}

static const char *status_words(int status)
{
    switch (status) {
    case SCSI_STATUS_GOOD:
        return "fewer bytes than asked for";
    case SCSI_STATUS_BUSY:
        return "BUSY";
    case SCSI_STATUS_TASK_SET_FULL:
        return "TASK SET FULL";
    case SCSI_STATUS_RESERVATION_CONFLICT:
        return "RESERVATION CONFLICT";
    case SCSI_STATUS_TASK_ABORTED:
        return "TASK ABORTED";
    case SCSI_STATUS_ACA_ACTIVE:
        return "ACA ACTIVE";
    default:
        return "an unexpected status";
    }
}

void sense_words(const struct scsi_task *task, char *out, size_t size)
{
    const struct code *code = find_code(task);
    int ascq = task->sense.ascq;

    if (task->status != SCSI_STATUS_CHECK_CONDITION) {
        snprintf(out, size, "%s (status %xh)", status_words(task->status), (unsigned)task->status);
        return;
    }
    snprintf(out, size, "%s, %s (key %xh, asc/ascq %02xh/%02xh)", scsi_sense_key_str((int)task->sense.key),
             code ? code->words : scsi_sense_ascq_str(ascq), (unsigned)task->sense.key,
             (unsigned)(ascq >> 8) & 0xff, (unsigned)ascq & 0xff);
}

const char *sense_advice(const struct scsi_task *task)
{
    const struct code *code;

    if (task->status == SCSI_STATUS_RESERVATION_CONFLICT)
        return "another host holds an exclusive reservation: release it there";
    if (task->status != SCSI_STATUS_CHECK_CONDITION)
        return "the array is overloaded or busy";
    code = find_code(task);
    if (code && code->advice[0])
        return code->advice;
    switch ((int)task->sense.key) {
    case SCSI_SENSE_MEDIUM_ERROR:
    case SCSI_SENSE_HARDWARE_ERROR:
        return advice_disk;
    case KEY_DATA_PROTECT:
        return "the array protects these blocks: look at its access rules";
    case KEY_ABORTED_COMMAND:
        return "look at the array and at the network to it";
    default:
        return "look at the target's own log";
    }
}

bool sense_says_changed(const struct scsi_task *task)
{
    return task->status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION &&
           (task->sense.ascq == SCSI_SENSE_ASCQ_CAPACITY_DATA_HAS_CHANGED || task->sense.ascq >> 8 == 0x3f ||
            task->sense.ascq >> 8 == 0x29);
}

static bool is_attention(const struct scsi_task *task)
{
    return task->status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION;
}

bool sense_says_reset(const struct scsi_task *task)
{
    return is_attention(task) && task->sense.ascq >> 8 == ASC_RESET;
}

bool sense_says_reserved(const struct scsi_task *task)
{
    int ascq = task->sense.ascq;

    if (task->status == SCSI_STATUS_RESERVATION_CONFLICT)
        return true;
    return is_attention(task) && ascq >> 8 == ASC_PARAMETERS_CHANGED && (ascq & 0xff) >= 3 &&
           (ascq & 0xff) <= 5; /* reservations preempted, released, registrations preempted */
}

int sense_write_status(const struct scsi_task *task)
{
    if (task->status == SCSI_STATUS_RESERVATION_CONFLICT)
        return -EBUSY;
    if (task->status != SCSI_STATUS_CHECK_CONDITION)
        return 0;
    if ((int)task->sense.key == KEY_VOLUME_OVERFLOW || task->sense.ascq == SPACE_ALLOCATION_FAILED)
        return -ENOSPC;
    return (int)task->sense.key == KEY_DATA_PROTECT ? -EROFS : 0;
}
