/* journal/checkpoint.h - the map of a VM as objects of the store, so that recovery need not read the whole
 * log.
 *
 * A checkpoint at cut C is parts of at most 4 MiB of rows each, and an end that says how many and closes it:
 * without its end, or with a part that does not open, it is none. Each upload has names of its own, so what
 * comes late, or twice, or was left by a crash, is in nobody's way; which one counts says the VM's entry
 * (vmobj.h). docs/log.md has the bytes. Blocking; any thread; the map must not change meanwhile.
 */
#ifndef ISTHMUS_CHECKPOINT_H
#define ISTHMUS_CHECKPOINT_H

#include "map.h"

#include <stdio.h>

enum { CHECKPOINT_HEAD_BYTES = 72, CHECKPOINT_PART_MAX = 5 << 20 /* bytes of a part, sealed */ };

/* One upload of the map as of a cut. */
struct checkpoint_id {
    uint64_t cut; /* 0: none */
    uint64_t epoch;
    uint32_t upload; /* random */
};
bool checkpoint_same(const struct checkpoint_id *, const struct checkpoint_id *);

/* "vms/ID/map/CUT-EPOCH-UPLOAD-NUMBER", the end: "...-end". */
#define CHECKPOINT_END UINT32_MAX
void checkpoint_name(char name[MAP_NAME_MAX], const uint8_t id[VMLOG_ID_BYTES], const struct checkpoint_id *,
                     uint32_t number);
/* Of which checkpoint is the object of that name? false: of none. */
bool checkpoint_of(const char *name, struct checkpoint_id *);

/* Objects that nobody needs any more: the checkpoint leaves them out. Up to cut `through`, nothing live, and
 * not such as the checkpoint before still leads to: of what has left the map because the source disks hold it
 * (up to `applied`) only what they held by then, too. */
struct checkpoint_dead {
    uint64_t through;                 /* the caller's; 0: none */
    uint64_t applied, applied_before; /* and these: now, and as of the checkpoint before */
    uint64_t *firsts;                 /* the caller frees */
    unsigned n;
};

/* Writes the parts, sealed, one after the other to `spool`: each as u32 length and bytes, the end last.
 * random: a source of salts. The cut is the state's. */
int checkpoint_write(struct map *, struct journal *, struct loop *random, const struct aead_key *master,
                     const uint8_t id[VMLOG_ID_BYTES], const struct checkpoint_id *, const struct map_state *,
                     FILE *spool, struct checkpoint_dead *, struct why *);

/* One part, as fetched, into the journal's rows of a VM whose map is closed. */
int checkpoint_load(struct journal *, const struct aead_key *master, const uint8_t id[VMLOG_ID_BYTES],
                    const struct checkpoint_id *, uint32_t number, const uint8_t *bytes, size_t n,
                    struct why *);
/* The end: the state at the cut and the number of parts. */
int checkpoint_load_end(const struct aead_key *master, const uint8_t id[VMLOG_ID_BYTES],
                        const struct checkpoint_id *, const uint8_t *bytes, size_t n, struct map_state *,
                        uint32_t *parts, struct why *);

#endif
