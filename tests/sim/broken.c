/* tests/sim/broken.c - see broken.h. __wrap_NAME is called for NAME, __real_NAME is ours.
 */
#include "broken.h"

#include "sim_edge.h"

#include "check.h"
#include "commit.h"
#include "cut.h"
#include "mem.h"
#include "ram_impl.h"
#include "recover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum broken broken;

static const struct {
    const char *name;
    unsigned seeds;
} variants[BROKEN_VARIANTS] = {
    [BROKEN_NOTHING] = {"nothing", 0},
    [BROKEN_ACK_EARLY] = {"acknowledged before the journal has it", 100},
    [BROKEN_NO_SYNC] = {"a flush without an fsync", 20},
    [BROKEN_FUA] = {"a FUA write without an fsync", 150},
    [BROKEN_TRIM_EARLY] = {"the journal is trimmed before the store has it", 200},
    [BROKEN_RECORD_LEFT_OUT] = {"a commit leaves a record out", 10},
    [BROKEN_UNMAP_FORGOTTEN] = {"zeros are forgotten when a cut is coalesced", 10},
    [BROKEN_CUT_UNEVEN] = {"a recovery with one disk at an older cut", 200},
    [BROKEN_NEWEST_IGNORED] = {"a recovery without the newest object", 10},
    [BROKEN_TORN_CUT] = {"a recovery to the middle of a cut", 1000},
    [BROKEN_STALE_CACHE] = {"a write is not laid into the cache", 10},
    [BROKEN_DROP_TOO_MUCH] = {"the map lets go of more than was written back", 30},
    [BROKEN_LOSS_UNNOTICED] = {"what a datastore lost is not written again", 1000},
    [BROKEN_STAGE_UNSYNCED] = {"on-prem's stage is not fsynced", 200},
    [BROKEN_PERSIST_WRITES] = {"cloud-persist writes to the source disks", 30},
    [BROKEN_MIRROR_NOT_AWAITED] = {"a write is acknowledged before the mirror has it", 30},
    [BROKEN_MIRROR_LACKS] = {"the mirror acknowledges what its journal lacks", 30},
    [BROKEN_MIRROR_UNSYNCED] = {"a flush does not wait for the mirror's fsync", 600},
    [BROKEN_KEPT_TRIMMED] = {"a kept log is trimmed before the store has it", 50},
    [BROKEN_LEASE_LONG] = {"one edge takes a lease for longer than the other", 100},
    [BROKEN_LEASE_FROM_ANSWER] = {"a lease is counted from the answer", 1000},
    [BROKEN_KEEPS_ON] = {"records are kept after the swap was sent", 500},
    [BROKEN_TAKES_EARLY] = {"VMs are taken over before the lease is over", 3000},
    [BROKEN_FENCE_SKIPPED] = {"a VM is taken over without a word in its entry", 30},
    [BROKEN_NOT_JOINED] = {"a VM is taken over without what was kept", 30},
    [BROKEN_TAKEN_IN_EARLY] = {"the other is taken in before the store has the rest", 1000},
    [BROKEN_GATE] = {"reads do not look at the lease", 200},
    [BROKEN_SWAP] = {"the record is changed without comparing", 30},
    [BROKEN_ANY_ETAG] = {"a VM handed over is taken whatever its entry is by now", 400},
    [BROKEN_NOT_ASKED] = {"an edge that does not know whose the VM is goes on with it", 200},
    [BROKEN_STREAM_LATE] = {"a stream begins when its VM is in use", 300},
    [BROKEN_REST] = {"a VM is handed over before the store has the rest", 400},
    [BROKEN_KEPT_BESIDE] = {"a log is kept beside what is there of the VM", 300},
    [BROKEN_UNMARKED] = {"the other edge's memory is asked for what was written since", 300},
    [BROKEN_LEFT_BEFORE] = {"what a VM has left in memory an earlier time is given", 1000},
    [BROKEN_ENTRY_FIRST] = {"the entry of a VM goes first", 500},
    [BROKEN_NOT_CONDEMNED] = {"an entry does not say that its VM is being deleted", 100},
    [BROKEN_THEIRS_STAYS] = {"what an edge has of a VM that is no more stays", 500},
    [BROKEN_LOG_STAYS] = {"the log of a VM that went home still counts", 200},
    [BROKEN_HOLDS_ON] = {"on-prem is not asked to let go of the disks of a VM that goes home", 20},
    [BROKEN_LET_IN] = {"initiators are let in before the store says that a VM is back", 200},
    [BROKEN_NOT_CLEARED] = {"what was kept before a force counts after it", 1000},
    [BROKEN_RECOVERS_ANY] = {"VMs of the other edge are recovered by hand, whatever was kept", 1000},
};

const char *broken_name(enum broken b)
{
    return variants[b].name;
}

unsigned broken_seeds(enum broken b)
{
    return variants[b].seeds;
}

bool broken_is_of_pair(enum broken b)
{
    return b >= BROKEN_MIRROR_NOT_AWAITED && b < BROKEN_LOG_STAYS && b != BROKEN_ENTRY_FIRST &&
           b != BROKEN_NOT_CONDEMNED;
}

bool broken_is_of_deleting(enum broken b)
{
    return b >= BROKEN_ENTRY_FIRST && b < BROKEN_LOG_STAYS;
}

bool broken_is_of_homing(enum broken b)
{
    return b >= BROKEN_LOG_STAYS && b < BROKEN_NOT_CLEARED;
}

bool broken_is_of_forcing(enum broken b)
{
    return b >= BROKEN_NOT_CLEARED;
}

/* --- the log --- */

/* Is it of a kept log? Only those take no notice when it becomes visible. */
static bool is_kept(const struct vmlog_append *a)
{
    return !a->visible;
}

void __real_vmlog_append(struct vmlog *, struct vmlog_append *);
void __wrap_vmlog_append(struct vmlog *, struct vmlog_append *);
void __wrap_vmlog_append(struct vmlog *log, struct vmlog_append *a)
{
    if (broken == BROKEN_FUA)
        a->fua = false;
    if (broken == BROKEN_MIRROR_LACKS && is_kept(a) && sim_chance(50000)) {
        a->type = RECORD_ZERO;
        a->data = NULL;
    }
    __real_vmlog_append(log, a);
}

/* --- a cut --- */

void __real_cut_close(struct cut *, bool committed, void (*closed)(struct cut *));
void __wrap_cut_close(struct cut *, bool committed, void (*closed)(struct cut *));
void __wrap_cut_close(struct cut *c, bool committed, void (*closed)(struct cut *))
{
    __real_cut_close(c, committed || broken == BROKEN_TRIM_EARLY, closed);
}

void __real_cut_sort(struct cut *);
void __wrap_cut_sort(struct cut *);
void __wrap_cut_sort(struct cut *c)
{
    unsigned n = 0;

    __real_cut_sort(c);
    if (broken == BROKEN_RECORD_LEFT_OUT && c->n > 1)
        c->n--;
    for (unsigned i = 0; broken == BROKEN_UNMAP_FORGOTTEN && i < c->n; i++)
        if (!c->extents[i].zero)
            c->extents[n++] = c->extents[i];
    if (broken == BROKEN_UNMAP_FORGOTTEN)
        c->n = n;
}

/* --- recovery --- */

static uint64_t newest; /* object that the store has, during a recovery; else 0 */

static const char *last_object(struct sim_bucket *bucket, const uint8_t id[VMLOG_ID_BYTES])
{
    char part[2 * VMLOG_ID_BYTES + 8];
    int n = 0;

    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        n += snprintf(part + n, sizeof part - (size_t)n, "%02x", id[i]);
    snprintf(part + n, sizeof part - (size_t)n, "/log/");
    return sim_bucket_last(bucket, part);
}

int __real_recover_vm(const struct recover_conf *, struct recover_result *, struct why *);
int __wrap_recover_vm(const struct recover_conf *, struct recover_result *, struct why *);
int __wrap_recover_vm(const struct recover_conf *conf, struct recover_result *res, struct why *why)
{
    struct sim_edge *e = container_of(sim_node_current(), struct sim_edge, node);
    const char *key = last_object(e->bucket, conf->entry.id);
    struct recover_conf other = *conf;
    int rc;

    newest = key ? strtoull(strstr(key, "/log/") + 5, NULL, 16) : 0;
    if (broken == BROKEN_NEWEST_IGNORED && newest > 1)
        other.through = newest - 1;
    rc = __real_recover_vm(&other, res, why);
    newest = 0;
    return rc;
}

int __real_map_apply(struct map *, const struct logobj_head *, const struct logobj_entry *, unsigned n,
                     const struct map_state *, bool stable, struct map_change **, struct why *);
int __wrap_map_apply(struct map *, const struct logobj_head *, const struct logobj_entry *, unsigned n,
                     const struct map_state *, bool stable, struct map_change **, struct why *);
int __wrap_map_apply(struct map *m, const struct logobj_head *h, const struct logobj_entry *entries,
                     unsigned n, const struct map_state *state, bool stable, struct map_change **change,
                     struct why *why)
{
    struct logobj_entry *some;
    unsigned left = 0;
    int rc;

    if (broken != BROKEN_CUT_UNEVEN || h->first != newest)
        return __real_map_apply(m, h, entries, n, state, stable, change, why);
    some = xcalloc(n + 1, sizeof *some);
    for (unsigned i = 0; i < n; i++)
        if (entries[i].disk == 0)
            some[left++] = entries[i];
    rc = __real_map_apply(m, h, some, left, state, stable, change, why);
    free(some);
    return rc;
}

int __real_logobj_head_read(struct logobj_head *, const uint8_t *bytes, size_t n, const uint8_t vm[16],
                            uint64_t first, struct why *);
int __wrap_logobj_head_read(struct logobj_head *, const uint8_t *bytes, size_t n, const uint8_t vm[16],
                            uint64_t first, struct why *);
int __wrap_logobj_head_read(struct logobj_head *h, const uint8_t *bytes, size_t n, const uint8_t vm[16],
                            uint64_t first, struct why *why)
{
    int rc = __real_logobj_head_read(h, bytes, n, vm, first, why);

    if (broken == BROKEN_TORN_CUT && rc == 0 && newest)
        h->ends_cut = true;
    return rc;
}

/* --- the tiers --- */

void __real_tier_ram_written(struct tier *, uint64_t lba, uint32_t nsectors, const uint8_t *data);
void __wrap_tier_ram_written(struct tier *, uint64_t lba, uint32_t nsectors, const uint8_t *data);
void __wrap_tier_ram_written(struct tier *t, uint64_t lba, uint32_t nsectors, const uint8_t *data)
{
    if (broken != BROKEN_STALE_CACHE || !sim_chance(50000))
        __real_tier_ram_written(t, lba, nsectors, data);
}

int __real_map_drop(struct map *, uint64_t through, const struct map_state *, struct map_change **,
                    struct why *);
int __wrap_map_drop(struct map *, uint64_t through, const struct map_state *, struct map_change **,
                    struct why *);
int __wrap_map_drop(struct map *m, uint64_t through, const struct map_state *state,
                    struct map_change **change, struct why *why)
{
    return __real_map_drop(m, broken == BROKEN_DROP_TOO_MUCH ? UINT64_MAX - 1 : through, state, change, why);
}

/* --- sizes ---- not broken: small, so that a cut has several objects, checkpoints come often, and a RAM
 * holds less than a VM */

struct ram *__real_ram_new(struct loop *, uint64_t budget_bytes);
struct ram *__wrap_ram_new(struct loop *, uint64_t budget_bytes);
struct ram *__wrap_ram_new(struct loop *loop, uint64_t budget_bytes)
{
    const struct sim_edge *e = container_of(sim_loop_node(loop), struct sim_edge, node);
    struct ram *m = __real_ram_new(loop, budget_bytes);
    uint32_t n = e->conf.ram_blocks;

    if (n == 0)
        return m;
    CHECK(n < m->npages);
    for (uint32_t i = n; i < m->npages; i++) {
        m->free_map[i / 64] &= ~(UINT64_C(1) << i % 64);
        if (m->free_map[i / 64] == 0)
            m->free_summary[i / 4096] &= ~(UINT64_C(1) << i / 64 % 64);
    }
    m->npages = m->free_pages = n;
    m->nslots = m->free_slots = n + n / 2;
    return m;
}

struct commit *__real_commit_new(const struct commit_conf *);
struct commit *__wrap_commit_new(const struct commit_conf *);
struct commit *__wrap_commit_new(const struct commit_conf *conf)
{
    const struct sim_edge *e = container_of(sim_loop_node(conf->loop), struct sim_edge, node);
    struct commit_conf small = *conf;

    small.object_bytes = e->conf.object_bytes;
    return __real_commit_new(&small);
}

struct upkeep *__real_upkeep_new(const struct upkeep_conf *);
struct upkeep *__wrap_upkeep_new(const struct upkeep_conf *);
struct upkeep *__wrap_upkeep_new(const struct upkeep_conf *conf)
{
    const struct sim_edge *e = container_of(sim_loop_node(conf->loop), struct sim_edge, node);
    struct upkeep_conf small = *conf;

    small.objects = e->conf.checkpoint_objects;
    return __real_upkeep_new(&small);
}

struct writeback *__real_writeback_new(const struct writeback_conf *);
struct writeback *__wrap_writeback_new(const struct writeback_conf *);
struct writeback *__wrap_writeback_new(const struct writeback_conf *conf)
{
    struct writeback_conf other = *conf;

    if (broken == BROKEN_PERSIST_WRITES)
        other.policy = WB_WRITE_BACK;
    return __real_writeback_new(&other);
}
