/* initiator/iscsi_probe.c - the questions asked of a LUN and what their answers mean; see iscsi_probe.h.
 *
 * Answers come from a peer: they are read by hand within their length, and what is out of range is refused.
 * Only readiness and capacity must be answered; a target that knows no VPD pages is taken as it is.
 */
#include "iscsi_probe.h"

#include "check.h"
#include "sense.h"
#include "wire.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <string.h>

enum step { READY, CAPACITY16, CAPACITY10, IDENTITY, LIMITS, PROVISIONING, RESERVES, PROTECTION, STEPS };
enum { ANSWER_MAX = 252, IO_BYTES_MAX = 1 << 20, ZERO_BYTES_MAX = 16 << 20, WRITE_PROTECTED = 0x80 };
enum { LBPME = 0x80, LBPRZ = 0x40 };      /* READ CAPACITY(16): thin; unmapped blocks read as zeros */
enum { LBPWS = 0x40, PAGE_LBPRZ = 0x04 }; /* VPD page b2h: WRITE SAME(16) unmaps; as LBPRZ */

void iscsi_probe_begin(struct iscsi_probe *p, bool whole)
{
    p->whole = whole;
    p->step = whole ? READY : CAPACITY16;
    p->steps = 0;
    if (whole) {
        memset(&p->info, 0, sizeof p->info);
        p->info.max_io_bytes = IO_BYTES_MAX;
        p->info.max_zero_bytes = ZERO_BYTES_MAX;
        p->can = (struct iscsi_abilities){0};
        p->locked_out = p->thin = p->thin_zeros = false;
    }
    if (!whole && p->can.short_cdbs)
        p->step = CAPACITY10;
}

void iscsi_probe_unlocked(struct iscsi_probe *p)
{
    p->whole = true;
    p->locked_out = false;
    p->step = PROTECTION;
    p->steps = 0;
}

struct scsi_task *iscsi_probe_next(const struct iscsi_probe *p)
{
    struct scsi_task *task;

    switch ((enum step)p->step) {
    case READY:
        task = scsi_cdb_testunitready();
        break;
    case CAPACITY16:
        task = scsi_cdb_readcapacity16();
        break;
    case CAPACITY10:
        task = scsi_cdb_readcapacity10(0, 0);
        break;
    case IDENTITY:
        task = scsi_cdb_inquiry(1, SCSI_INQUIRY_PAGECODE_DEVICE_IDENTIFICATION, ANSWER_MAX);
        break;
    case LIMITS:
        task = scsi_cdb_inquiry(1, SCSI_INQUIRY_PAGECODE_BLOCK_LIMITS, ANSWER_MAX);
        break;
    case PROVISIONING:
        task = scsi_cdb_inquiry(1, SCSI_INQUIRY_PAGECODE_LOGICAL_BLOCK_PROVISIONING, ANSWER_MAX);
        break;
    case RESERVES:
        task = scsi_cdb_persistent_reserve_in(SCSI_PERSISTENT_RESERVE_READ_KEYS, ANSWER_MAX);
        break;
    default:
        task =
            scsi_cdb_modesense6(1, SCSI_MODESENSE_PC_CURRENT, SCSI_MODEPAGE_RETURN_ALL_PAGES, 0, ANSWER_MAX);
    }
    CHECK(task);
    return task;
}

static int take_capacity(struct iscsi_probe *p, struct reader r, bool long_form, struct why *why)
{
    uint64_t last = long_form ? read64(&r) : read32(&r);
    uint32_t block = read32(&r);

    if (r.bad)
        return why_set(why, -EPROTO, "its answer to READ CAPACITY is too short");
    if (block != 512 && block != 4096)
        return why_set(why, -EPROTO, "its blocks have %u bytes; only 512 and 4096 can be used", block);
    if (last >= UINT64_MAX / block - 1)
        return why_set(why, -EPROTO, "its answer to READ CAPACITY makes no sense");
    p->info.bytes = (last + 1) * block;
    p->info.block_bytes = block;
    if (long_form) {
        uint8_t thin = (read16(&r), read8(&r)); /* nothing, of an answer that ends before it */
        p->thin = thin & LBPME;
        p->thin_zeros = thin & LBPRZ;
    }
    return 0;
}

/* The best name among the designators of VPD page 83h that belong to the LUN itself: NAA, EUI-64, T10. */
static void take_identity(struct iscsi_probe *p, struct reader r)
{
    static const char *const kinds[] = {NULL, "t10", "eui", "naa"};
    int best = 0;

    read_bytes(&r, 4);
    while (!r.bad) {
        bool text = (read8(&r) & 0xf) != SCSI_CODESET_BINARY;
        uint8_t kind = read8(&r);
        uint8_t length = (read8(&r), read8(&r));
        const uint8_t *name = read_bytes(&r, length);
        size_t n = 0, room = sizeof p->info.identity;

        if (!name || (kind >> 4 & 3) != SCSI_ASSOCIATION_LOGICAL_UNIT || (kind & 0xf) > 3 ||
            (kind & 0xf) <= best)
            continue;
        best = kind & 0xf;
        n = (size_t)snprintf(p->info.identity, room, "%s.", kinds[best]);
        for (unsigned i = 0; i < length && n + 3 < room; i++) {
            if (text && (name[i] <= ' ' || name[i] > '~'))
                continue;
            n += (size_t)snprintf(p->info.identity + n, room - n, text ? "%c" : "%02x", name[i]);
        }
    }
}

static void take_limits(struct iscsi_probe *p, struct reader r)
{
    uint32_t blocks;
    uint64_t same;

    read_bytes(&r, 8);
    blocks = read32(&r); /* MAXIMUM TRANSFER LENGTH; 0: not reported */
    if (!r.bad && blocks > 0 && blocks < IO_BYTES_MAX / p->info.block_bytes)
        p->info.max_io_bytes = blocks * p->info.block_bytes / 4096 * 4096;
    if (p->info.max_io_bytes < 4096)
        p->info.max_io_bytes = 4096;
    read_bytes(&r, 24);
    same = read64(&r); /* MAXIMUM WRITE SAME LENGTH; 0: not reported */
    if (r.bad || same == 0 || same >= ZERO_BYTES_MAX / p->info.block_bytes)
        return;
    p->info.max_zero_bytes = (uint32_t)same * p->info.block_bytes / 4096 * 4096;
    if (p->info.max_zero_bytes < 64 << 10) { /* too small to be of use */
        p->info.max_zero_bytes = ZERO_BYTES_MAX;
        p->can.no_write_same = true;
    }
}

static void take_provisioning(struct iscsi_probe *p, struct reader r)
{
    uint8_t flags = (read_bytes(&r, 5), read8(&r));

    p->can.unmaps = p->thin && flags & LBPWS && (p->thin_zeros || flags & PAGE_LBPRZ);
}

static void take_protection(struct iscsi_probe *p, struct reader r)
{
    read_bytes(&r, 2);
    p->info.read_only = read8(&r) & WRITE_PROTECTED;
}

static enum iscsi_probe_result answer_error(struct iscsi_probe *p, const struct scsi_task *task,
                                            struct why *why)
{
    bool conflict = task->status == SCSI_STATUS_RESERVATION_CONFLICT;
    enum sense_verdict verdict = sense_judge(task);
    char words[200];

    sense_words(task, words, sizeof words);
    why_set(why, 0, "%s; %s", words, sense_advice(task));
    if (verdict == SENSE_AGAIN)
        return PROBE_AGAIN;
    if (p->step == CAPACITY16 && p->whole && verdict != SENSE_WAIT && verdict != SENSE_SESSION) {
        p->can.short_cdbs = true;
        p->step = CAPACITY10;
        return PROBE_MORE;
    }
    if (conflict && p->step == PROTECTION)
        p->locked_out = true;
    else if (!(conflict && p->step == READY) &&
             (p->step < IDENTITY || verdict == SENSE_WAIT || verdict == SENSE_SESSION))
        return PROBE_FAILED;
    p->step++; /* an optional question */
    return p->step == STEPS ? PROBE_DONE : PROBE_MORE;
}

enum iscsi_probe_result iscsi_probe_answer(struct iscsi_probe *p, const struct scsi_task *task,
                                           struct why *why)
{
    struct reader r = reader_of(task->datain.data, task->datain.size > 0 ? (size_t)task->datain.size : 0);
    bool capacity = p->step == CAPACITY16 || p->step == CAPACITY10;

    why_set(why, 0, "it does not settle");
    if (task->status != SCSI_STATUS_GOOD)
        return answer_error(p, task, why);
    if (capacity && take_capacity(p, r, p->step == CAPACITY16, why) != 0)
        return PROBE_FAILED;
    if (capacity && !p->whole)
        return PROBE_DONE;
    if (p->step == IDENTITY)
        take_identity(p, r);
    else if (p->step == LIMITS)
        take_limits(p, r);
    else if (p->step == PROVISIONING)
        take_provisioning(p, r);
    else if (p->step == RESERVES)
        p->info.reserves = true;
    else if (p->step == PROTECTION)
        take_protection(p, r);
    p->step = p->step == CAPACITY16 ? IDENTITY : p->step + 1;
    return p->step == STEPS ? PROBE_DONE : PROBE_MORE;
}
