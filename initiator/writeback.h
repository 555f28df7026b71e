/* initiator/writeback.h - a VM's cuts on their way to its source disks: staged whole, then applied in order.
 *
 * The states and what a crash leaves are in docs/writeback.md. One loop owns it all; the stage (stage.h) is
 * written on a worker and read on the pool. Whatever is staged or being applied goes on by itself from
 * start-up on, with no edge. What an edge can make wait is bounded by the link's window: messages of one VM
 * are done one after the other.
 */
#ifndef ISTHMUS_WRITEBACK_H
#define ISTHMUS_WRITEBACK_H

#include "link.h"
#include "source.h"
#include "stage.h"

struct writeback;

/* The disks that are served. find(): NULL if there is none of that name. */
struct wb_disks {
    struct source *(*find)(void *arg, const char *name);
    void *arg;
};

/* Takes *stage. Reads what it knows: blocking, at start-up. 0 or -errno with why. */
int writeback_open(struct writeback **, struct loop *, struct stage **stage, const struct wb_disks *,
                   struct why *);
/* Nothing new begins from now on; closing the disks ends what waits for them. Then done(), and all is freed,
 * the stage too (what it holds goes on at the next start). After link_free(). */
void writeback_close(struct writeback **, void (*done)(void *arg), void *arg);

/* Is this a message of write-back (proto_wb.h)? Then it takes *r and answers it, now or later. */
bool writeback_request(struct writeback *, struct link_request *r);

/* Of the disks: it can be used (again), with another size too; it is about to be closed; somebody else has
 * its reservation. */
void writeback_disk_up(struct writeback *, const char *disk);
void writeback_disk_gone(struct writeback *, const char *disk);
void writeback_disk_taken(struct writeback *, const char *disk, const struct why *);

/* false with a sentence while a VM has an alarm. For /healthz. */
bool writeback_healthy(void *writeback, struct why *);

#endif
