/* journal/commit_whole.c - before a VM's first cut counts, its entry says that the store holds a whole one.
 *
 * From then on a store that leads to none has lost something; until then what is there are pieces of first
 * commits that never ended, however many, and the VM's source disks are its only cut. Once in a VM's life,
 * and again after a discard; the worker waits for the store.
 */
#include "check.h"
#include "commit_impl.h"
#include "entry.h"
#include "step.h"

#include <errno.h>
#include <string.h>

static void name_run(struct work *w)
{
    struct commit *c = container_of(w, struct commit, name);
    struct entry_access a = {
        .store = c->conf.store, .master = &c->conf.master, .random = c->conf.loop, .stop = &c->name_stop};
    struct entry_edit e = {.mine.epoch = c->conf.epoch, .whole = c->name_cut};
    struct vmobj now;

    memcpy(e.mine.id, c->conf.id, sizeof e.mine.id);
    memcpy(e.mine.writer, c->conf.writer, sizeof e.mine.writer);
    c->name_status = entry_change(&a, &e, &now, &c->name_why);
    STEP("commit.whole", "the VM's entry says that the store holds a whole cut");
}

static void name_done(struct work *w)
{
    struct commit *c = container_of(w, struct commit, name);

    c->naming = false;
    if (c->name_status == 0)
        c->named = true;
    else if ((c->name_status == -ESTALE || c->name_status == -ENOENT) && !c->failed)
        commit_fence(c, &c->name_why);
    else
        commit_fail(c, c->name_status, "the VM's entry in the object store cannot be changed", &c->name_why);
    commit_moved(c);
}

bool commit_whole(struct commit *c, const struct logobj_head *head)
{
    if (!head->ends_cut || c->named)
        return true;
    if (c->naming)
        return false;
    c->naming = true;
    c->name_cut = head->last;
    atomic_store(&c->name_stop, false);
    c->name = (struct work){.run = name_run, .done = name_done};
    worker_do(c->conf.worker, c->conf.loop, &c->name);
    return false;
}
