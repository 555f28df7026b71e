/* initiator/serve.h - answers the edges: what a disk is, and its bytes; write-back is passed on.
 *
 * Holds the configured disks and is the link's handlers. A read waits for as long as its datastore is away;
 * DISK_STAT waits 10 s at most and then says what is wrong. Loop thread.
 */
#ifndef ISTHMUS_SERVE_H
#define ISTHMUS_SERVE_H

#include "datastore.h"
#include "link.h"
#include "writeback.h"

struct serve;

/* budget_bytes: of reads in flight. thorough: compress for a slow line (proto.h, runs_encode). */
struct serve *serve_new(struct loop *, uint64_t budget_bytes, bool thorough);
/* The disks, for writeback_open(); and who gets messages of write-back, and is told of the disks, from then
 * on. Before the first disk is added. NULL: such messages are refused. */
struct wb_disks serve_disks(struct serve *);
void serve_writeback(struct serve *, struct writeback *);
/* For link_new(). */
struct link_handlers serve_handlers(struct serve *);

/* Starts serving a disk. 0 or -errno with why (bad URL, name taken). Copies conf. */
int serve_add(struct serve *, const struct datastore_conf *, struct why *);
/* Stops serving it: its waiting reads are answered -ENOENT. -ENOENT if there is none of that name. */
int serve_remove(struct serve *, const char *name);
bool serve_has(const struct serve *, const char *name);
/* Calls each() with every disk's name; it may remove the one it is called for. */
void serve_each(struct serve *, void (*each)(void *arg, const char *name), void *arg);

/* Takes *serve: closes every disk, then done() and all is freed. After link_free(). */
void serve_close(struct serve **serve, void (*done)(void *arg), void *arg);

#endif
