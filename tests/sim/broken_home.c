/* tests/sim/broken_home.c - broken variants (broken.h) of VMs that go home and come back.
 */
#include "broken.h"

#include "discard.h"
#include "vm_spec.h"
#include "vm_store.h"
#include "writeback.h"

/* As an entry would be whose VM has gone home without throwing its log away. */
int __real_vm_store_change(const struct vm_store *, const struct vm_spec *, struct why *);
int __wrap_vm_store_change(const struct vm_store *, const struct vm_spec *, struct why *);
int __wrap_vm_store_change(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    struct vm_spec kept = *spec;

    if (broken == BROKEN_LOG_STAYS)
        kept.floor = 0;
    return __real_vm_store_change(s, &kept, why);
}

int __real_discard_objects(struct store *, const uint8_t id[VMLOG_ID_BYTES], uint64_t floor,
                           const atomic_bool *stop, struct why *);
int __wrap_discard_objects(struct store *, const uint8_t id[VMLOG_ID_BYTES], uint64_t floor,
                           const atomic_bool *stop, struct why *);
int __wrap_discard_objects(struct store *store, const uint8_t id[VMLOG_ID_BYTES], uint64_t floor,
                           const atomic_bool *stop, struct why *why)
{
    return broken == BROKEN_LOG_STAYS ? 0 : __real_discard_objects(store, id, floor, stop, why);
}

/* On-prem is not asked to let go: the verb only waits for nothing. */
void __real_writeback_detach(struct writeback *, struct writeback_wait *);
void __wrap_writeback_detach(struct writeback *, struct writeback_wait *);
void __wrap_writeback_detach(struct writeback *wb, struct writeback_wait *w)
{
    if (broken == BROKEN_HOLDS_ON)
        writeback_now(wb, w);
    else
        __real_writeback_detach(wb, w);
}

int __real_vm_store_settle(const struct vm_store *, const struct vm_spec *, const struct vm_spec *found,
                           struct why *);
int __wrap_vm_store_settle(const struct vm_store *, const struct vm_spec *, const struct vm_spec *found,
                           struct why *);
int __wrap_vm_store_settle(const struct vm_store *s, const struct vm_spec *spec, const struct vm_spec *found,
                           struct why *why)
{
    return broken == BROKEN_LET_IN ? 0 : __real_vm_store_settle(s, spec, found, why);
}
