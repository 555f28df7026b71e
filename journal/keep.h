/* journal/keep.h - keeps the records of VMs that the other edge of the pair serves, and their disks'
 * reservations, in this edge's journal.
 *
 * The other end of mirror.h. A kept VM has a log like one that is served (vmlog.h), with the numbers that the
 * owner gave; nobody reads it until this edge takes the VM over. docs/pair.md has the messages.
 *
 * Thread: the main loop (the link's), but for what it does itself on the loops that the kept logs live on.
 */
#ifndef ISTHMUS_KEEP_H
#define ISTHMUS_KEEP_H

#include "link.h"
#include "vmlog.h"

struct keep;

struct keep_conf {
    struct journal *journal;
    struct loop *main, **loops;
    unsigned nloops;
    /* Before a VM is kept: whatever this edge has of it from when it served it goes, then done(), later, with
     * -EBUSY and why if it is not to go. */
    void (*make_room)(void *arg, const uint8_t id[VMLOG_ID_BYTES],
                      void (*done)(void *arg, int status, const struct why *), void *done_arg);
    void *arg;
};

/* It keeps nothing until keep_reopen(). */
struct keep *keep_new(const struct keep_conf *);
/* A VM of that name is kept. */
bool keep_has(const struct keep *, const char *vm);
/* Every VM that is kept. */
void keep_each(const struct keep *, void (*each)(void *arg, const uint8_t id[VMLOG_ID_BYTES]), void *arg);
/* MIRROR_*: answers it, now or later. */
void keep_request(struct keep *, struct link_request *);
/* MIRROR_END: the VM is gone. Another is ignored. */
void keep_notice(struct keep *, uint8_t type, const uint8_t *body, uint32_t len);
/* That VM's log is kept no more; done() later, on the main loop, when it is closed. What was kept stays on
 * disk. false: it was not kept, and done() will not come. */
bool keep_end(struct keep *, const uint8_t id[VMLOG_ID_BYTES], void (*done)(void *arg), void *arg);
/* Every kept log is closed, what was on its way to it is in it or refused; done() later, on the main loop.
 * What was kept stays on disk. Later requests are refused (-ESTALE). */
void keep_close(struct keep *, void (*done)(void *arg), void *arg);
/* From now on it keeps, again. */
void keep_reopen(struct keep *);
/* Closed. */
void keep_free(struct keep **);

/* Blocking (worker.h, or at start-up). Was this VM kept from that writer, and what does the store have to
 * hold of it at least? joined: its owner has said that it does. -ENOENT: it was not. */
int keep_look(struct journal *, const uint8_t id[VMLOG_ID_BYTES], const uint8_t writer[16], uint64_t *from,
              bool *joined, struct why *);
/* Blocking. The last record that this edge has of a VM, which is not open; 0: it has none. */
int keep_last(struct journal *, const uint8_t id[VMLOG_ID_BYTES], uint64_t *last, struct why *);
/* Blocking. Records and reservations that this edge has of a VM, which is not open, go. */
int keep_clear(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);
/* Blocking. It is a VM of this edge now: its records and reservations stay, what says that it was kept goes.
 */
int keep_forget(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);
/* Blocking. All that was kept goes, records and all; but of a VM that is in use here they stay. */
int keep_purge(struct journal *, bool (*in_use)(void *arg, const uint8_t id[VMLOG_ID_BYTES]), void *arg,
               struct why *);

#endif
