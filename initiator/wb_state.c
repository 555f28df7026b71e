/* initiator/wb_state.c - what is answered about a VM, what its numbers are, and whether a message fits its
 * stage.
 */
#include "wb_impl.h"

#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- state ---- */

/* Files and NBD exports know no reservations: with nothing else, nothing is held. */
static bool is_held(const struct wb_vm *vm)
{
    bool any = false;

    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        const struct datastore_info *info;
        struct datastore *ds = wb_disk(vm, i, &info);

        if (!ds || (info->reserves && !ds->ops->held(ds)))
            return false;
        any |= info->reserves;
    }
    return any;
}

static bool is_away(const struct wb_vm *vm, struct why *why)
{
    if (!wb_disks_ready(vm, why))
        return true;
    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        const struct why *trouble = source_trouble(wb_source(vm->wb, vm->rec.disks[i]));

        if (trouble) {
            *why = *trouble;
            return true;
        }
    }
    return false;
}

struct buf *wb_state_of(const struct wb_vm *vm)
{
    const struct wb_record *r = &vm->rec;
    struct wb_state s = {.epoch = r->epoch};
    struct why why = {""};

    memcpy(s.vm, r->vm, WB_ID_BYTES);
    if (!r->attached)
        return wb_put_state(&s);
    s.applied = r->applied;
    s.applied_instant_ms = r->applied_ms;
    s.target = r->target;
    s.stage = r->stage;
    s.held = is_held(vm);
    s.alarm = r->alarm != WB_ALARM_NONE;
    s.unreachable = is_away(vm, &why);
    s.pieces = r->stage == WB_STAGE_OPEN ? vm->pieces : r->pieces;
    s.bytes = r->stage == WB_STAGE_OPEN ? vm->bytes : r->bytes;
    s.bytes_applied = vm->bytes_applied < s.bytes ? vm->bytes_applied : s.bytes;
    snprintf(s.text, sizeof s.text, "%.*s", WB_TEXT_MAX,
             s.alarm               ? r->alarm_text
             : vm->trouble.text[0] ? vm->trouble.text
                                   : why.text);
    return wb_put_state(&s);
}

/* ---- does it fit? ---- */

/* All of that cut is here already: what was asked for is answered as if it had just come. */
static void have_all(struct wb_op *op)
{
    bool wanted[WB_OFFER_MAX] = {false};

    if (op->type == PROTO_WB_OFFER)
        wb_op_end(op, 0, NULL, wb_put_wanted(wanted, op->offer.n));
    else if (op->type == PROTO_WB_END)
        wb_op_state(op);
    else
        wb_op_end(op, 0, NULL, NULL);
}

bool wb_stage_wants(struct wb_op *op, uint8_t disk)
{
    const struct wb_record *r = &op->vm->rec;
    uint64_t target = op->head.target;
    struct why why;

    if (r->policy != WB_WRITE_BACK) {
        why_set(&why, 0, "VM %s is cloud-persist: nothing of it is written back", r->name);
        wb_op_end(op, -EPERM, why.text, NULL);
    } else if (target == r->applied || (target == r->target && r->stage >= WB_STAGE_STAGED)) {
        have_all(op);
    } else if (r->stage != WB_STAGE_OPEN || target != r->target) {
        why_set(&why, 0, "no stage for cut %llu of VM %s is open: begin again", (unsigned long long)target,
                r->name);
        wb_op_end(op, -EAGAIN, why.text, NULL);
    } else if (disk >= r->ndisks) {
        why_set(&why, 0, "VM %s has %u disks, there is no disk %u", r->name, r->ndisks, disk);
        wb_op_end(op, -EINVAL, why.text, NULL);
    } else {
        return true;
    }
    return false;
}

int wb_span_check(const struct wb_vm *vm, uint8_t disk, uint64_t lba, uint64_t nsectors, struct why *why)
{
    const struct datastore_info *info;
    unsigned per_block;

    if (!wb_disk(vm, disk, &info))
        return 0; /* found out when it is applied */
    per_block = info->block_bytes / 512;
    if (lba + nsectors > info->bytes / 512)
        return why_set(why, -EINVAL, "disk %s has %llu sectors, there are none from %llu to %llu",
                       vm->rec.disks[disk], (unsigned long long)(info->bytes / 512), (unsigned long long)lba,
                       (unsigned long long)(lba + nsectors));
    if (lba % per_block || nsectors % per_block)
        return why_set(why, -EINVAL, "disk %s is written in blocks of %u bytes, not %llu sectors at %llu",
                       vm->rec.disks[disk], info->block_bytes, (unsigned long long)nsectors,
                       (unsigned long long)lba);
    return 0;
}

/* ---- metrics ---- */

static void make_metrics(struct wb_vm *vm)
{
    static const char *const results[] = {"wanted", "in_stage", "same_place", "elsewhere"};
    struct wb_metrics *m = &vm->metrics;
    const char *name = vm->rec.name;

    memcpy(m->vm, name, sizeof m->vm);
    m->instant = metric_new(METRIC_GAUGE, "isthmus_onprem_applied_instant_seconds",
                            "When the cut that the VM's source disks hold was taken, in seconds since 1970.",
                            "vm=\"%s\"", name);
    metric_scale(m->instant, 1000);
    m->applied = metric_new(METRIC_GAUGE, "isthmus_onprem_applied_seq",
                            "Sequence number of the cut that the VM's source disks hold.", "vm=\"%s\"", name);
    m->alarm = metric_new(METRIC_GAUGE, "isthmus_onprem_alarm",
                          "1 while nothing is applied because an operator has to decide.", "vm=\"%s\"", name);
    m->staged_bytes = metric_new(METRIC_COUNTER, "isthmus_onprem_staged_bytes_total",
                                 "Bytes of disk that came into stages.", "vm=\"%s\"", name);
    m->applied_bytes = metric_new(METRIC_COUNTER, "isthmus_onprem_applied_bytes_total",
                                  "Bytes of disk that were written to datastores.", "vm=\"%s\"", name);
    m->apply_seconds = metric_new(METRIC_HISTOGRAM, "isthmus_onprem_apply_seconds",
                                  "How long it took to bring the source disks to a cut.", "vm=\"%s\"", name);
    for (int i = 0; i < OFFER_RESULTS; i++)
        m->offered[i] = metric_new(METRIC_COUNTER, "isthmus_onprem_offered_blocks_total",
                                   "Blocks that were offered by hash: wanted, or found where.",
                                   "vm=\"%s\",result=\"%s\"", name, results[i]);
}

static void free_metrics(struct wb_metrics *m)
{
    metric_free(&m->instant);
    metric_free(&m->applied);
    metric_free(&m->alarm);
    metric_free(&m->staged_bytes);
    metric_free(&m->applied_bytes);
    metric_free(&m->apply_seconds);
    for (int i = 0; i < OFFER_RESULTS; i++)
        metric_free(&m->offered[i]);
}

void wb_show_metrics(struct wb_vm *vm)
{
    struct wb_metrics *m = &vm->metrics;

    if (m->instant && (!vm->rec.attached || strcmp(m->vm, vm->rec.name) != 0))
        free_metrics(m);
    if (!vm->rec.attached)
        return;
    if (!m->instant)
        make_metrics(vm);
    metric_set(m->instant, vm->rec.applied_ms);
    metric_set(m->applied, vm->rec.applied);
    metric_set(m->alarm, vm->rec.alarm != WB_ALARM_NONE);
}
