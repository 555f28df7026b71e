/* initiator/iscsi_hold.c - taking, keeping and giving up a persistent reservation; see iscsi_hold.h.
 */
#include "iscsi_hold.h"

#include "check.h"
#include "sense.h"
#include "wire.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

enum step { REGISTER, READ, RESERVE, CLEAR, UNREGISTER };
enum { ANSWER_MAX = 24, ROUNDS_MAX = 3, INVALID_OPCODE = 0x2000 };

void iscsi_hold_forget(struct iscsi_hold *h)
{
    h->registered = h->settled = h->lost = false;
}

void iscsi_hold_doubt(struct iscsi_hold *h)
{
    h->registered = false;
    h->lost |= h->settled;
}

void iscsi_hold_unsettle(struct iscsi_hold *h)
{
    h->settled = h->lost = false;
}

void iscsi_hold_begin(struct iscsi_hold *h, uint64_t key, uint64_t release)
{
    h->releasing = release != 0;
    h->key = release ? release : key;
    h->fresh = false;
    h->rounds = 0;
    h->step = h->registered && !h->releasing ? READ : REGISTER;
}

static struct scsi_task *out(enum scsi_persistent_out_sa action, uint64_t key, uint64_t new_key, bool aptpl)
{
    struct scsi_persistent_reserve_out_basic basic = {
        .reservation_key = key, .service_action_reservation_key = new_key, .aptpl = aptpl};

    return scsi_cdb_persistent_reserve_out(
        action, SCSI_PERSISTENT_RESERVE_SCOPE_LU,
        action == SCSI_PERSISTENT_RESERVE_RESERVE
            ? SCSI_PERSISTENT_RESERVE_TYPE_EXCLUSIVE_ACCESS_REGISTRANTS_ONLY
            : 0,
        &basic);
}

struct scsi_task *iscsi_hold_next(const struct iscsi_hold *h)
{
    struct scsi_task *task = NULL;

    switch ((enum step)h->step) {
    case REGISTER:
        task = out(SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY, 0, h->key, !h->no_aptpl);
        break;
    case READ:
        task = scsi_cdb_persistent_reserve_in(SCSI_PERSISTENT_RESERVE_READ_RESERVATION, ANSWER_MAX);
        break;
    case RESERVE:
        task = out(SCSI_PERSISTENT_RESERVE_RESERVE, h->key, 0, false);
        break;
    case CLEAR:
        task = out(SCSI_PERSISTENT_RESERVE_CLEAR, h->key, 0, false);
        break;
    case UNREGISTER:
        task = out(SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY, h->key, 0, false);
        break;
    }
    CHECK(task);
    return task;
}

static enum iscsi_hold_result go_to(struct iscsi_hold *h, enum step step)
{
    h->step = (int)step;
    return HOLD_MORE;
}

static enum iscsi_hold_result done(struct iscsi_hold *h, enum iscsi_hold_outcome outcome)
{
    if (outcome == HOLD_HELD && h->lost)
        outcome = HOLD_REGAINED;
    h->lost = false;
    h->settled = outcome == HOLD_HELD || outcome == HOLD_REGAINED;
    if (outcome == HOLD_RELEASED)
        h->registered = false;
    h->outcome = outcome;
    return HOLD_DONE;
}

/* One more round, as somebody came in between. */
static enum iscsi_hold_result go_back(struct iscsi_hold *h, enum step step, struct why *why)
{
    if (++h->rounds < ROUNDS_MAX)
        return go_to(h, step);
    why_set(why, 0, "its reservation changes while it is asked");
    return HOLD_LATER;
}

static enum iscsi_hold_result take_reservation(struct iscsi_hold *h, const struct scsi_task *task,
                                               struct why *why)
{
    struct reader r = reader_of(task->datain.data, task->datain.size > 0 ? (size_t)task->datain.size : 0);
    bool none = (read32(&r), read32(&r) == 0);

    h->other = none ? 0 : read64(&r);
    if (r.bad) {
        why_set(why, 0, "its answer to PERSISTENT RESERVE IN is too short");
        return HOLD_LATER;
    }
    if (h->releasing)
        return go_to(h, !none && h->other == h->key ? CLEAR : UNREGISTER);
    if (!none && h->other == h->key)
        return done(h, HOLD_HELD);
    if (!none)
        return done(h, HOLD_TAKEN);
    h->lost |= h->settled;
    return h->fresh ? go_to(h, RESERVE) : go_to(h, REGISTER);
}

static enum iscsi_hold_result answer_conflict(struct iscsi_hold *h, struct why *why)
{
    switch ((enum step)h->step) {
    case RESERVE:
        h->fresh = false;
        return go_back(h, READ, why);
    case CLEAR:
        return go_back(h, REGISTER, why);
    case UNREGISTER:
        return done(h, HOLD_RELEASED);
    default:
        h->other = 0;
        return done(h, HOLD_TAKEN);
    }
}

static enum iscsi_hold_result answer_error(struct iscsi_hold *h, const struct scsi_task *task,
                                           struct why *why)
{
    bool illegal =
        task->status == SCSI_STATUS_CHECK_CONDITION && (int)task->sense.key == SCSI_SENSE_ILLEGAL_REQUEST;
    char words[200];

    if (task->status == SCSI_STATUS_RESERVATION_CONFLICT)
        return answer_conflict(h, why);
    if (sense_judge(task) == SENSE_AGAIN)
        return HOLD_AGAIN;
    if (illegal && h->step == REGISTER && !h->no_aptpl && task->sense.ascq != INVALID_OPCODE) {
        h->no_aptpl = true;
        return HOLD_MORE;
    }
    if (illegal)
        return done(h, HOLD_NONE);
    sense_words(task, words, sizeof words);
    why_set(why, 0, "%s; %s", words, sense_advice(task));
    return HOLD_LATER;
}

enum iscsi_hold_result iscsi_hold_answer(struct iscsi_hold *h, const struct scsi_task *task, struct why *why)
{
    if (task->status != SCSI_STATUS_GOOD)
        return answer_error(h, task, why);
    switch ((enum step)h->step) {
    case REGISTER:
        h->registered = h->fresh = true;
        return go_to(h, READ);
    case READ:
        return take_reservation(h, task, why);
    case RESERVE:
        return done(h, HOLD_HELD);
    default:
        return done(h, HOLD_RELEASED);
    }
}
