/* tests/sim/guest_audit.c - everything is read, and judged as a cut of what was written.
 */
#include "guest_inside.h"

#include "check.h"
#include "mem.h"

#include <string.h>

enum { CHUNK = 128, AT_ONCE = 4 };

static void say_sentence(void *arg, const char *sentence)
{
    sim_say(NULL, "%s: %s", (const char *)arg, sentence);
}

static void show(struct cut_model *m, unsigned ndisks, uint8_t *const *disks)
{
    for (unsigned d = 0; d < ndisks; d++)
        cut_show(m, (uint8_t)d, 0, disks[d], m->disks[d].nsectors);
}

static bool judge(struct cut_model *m, unsigned ndisks, uint8_t *const *disks, enum cut_must must,
                  uint64_t before_us, const char *what)
{
    show(m, ndisks, disks);
    m->say = say_sentence;
    m->arg = (void *)(uintptr_t)what;
    if (cut_judge(m, must, before_us))
        return true;
    sim_violation("%s: %u writes are lost, %u torn", what, m->lost, m->torn);
    return false;
}

bool guest_judge(struct guest *g, uint8_t *const *disks, uint64_t before_us, const char *what)
{
    struct cut_model twin;
    bool good;

    fflush(g->model.file);
    CHECK(cut_model_open(&twin, g->conf.path));
    good = judge(&twin, g->conf.ndisks, disks, CUT_SINCE, before_us, what);
    cut_model_close(&twin);
    return good;
}

/* A FUA write that was acknowledged is there, or what was written over it later. */
static void judge_stable(const struct guest *g, const struct cut_model *m)
{
    for (uint32_t n = 1; n < g->nwrites; n++) {
        const struct write *w = &g->writes[n];

        for (uint32_t i = 0; w->stable && i < w->nsectors; i++) {
            uint32_t shown = m->disks[w->disk].shown[w->lba + i];

            if (shown < n && !(w->zeros && shown == CUT_ZEROS)) {
                sim_violation("FUA write %u of disk %u is lost: sector %u shows write %u", n, w->disk,
                              w->lba + i, shown);
                return;
            }
        }
    }
}

/* Of a write that was not answered the number is not known: that of the next one is more. */
static void survives(struct guest *g, struct write *w)
{
    w->survived = true;
    if (w->done_ns)
        return;
    w->done_ns = sim_now;
    w->seq = UINT64_MAX;
    g->unnumbered = true;
}

/* What is shown is all there is from now on. */
static void settle(struct guest *g)
{
    for (unsigned d = 0; d < g->conf.ndisks; d++)
        for (uint32_t i = 0; i < g->conf.nsectors; i++) {
            struct sector *s = &g->sectors[d][i];
            uint32_t shown = g->model.disks[d].shown[i];

            s->busy = false;
            sector_begin(s, shown == CUT_ZEROS ? 0 : shown, shown == CUT_ZEROS);
        }
    for (uint32_t n = 1; n < g->nwrites; n++)
        g->writes[n].survived = g->writes[n].stable = false;
    for (uint32_t i = 0; i < g->model.nwrites; i++)
        if (g->model.writes[i].in_set && g->model.writes[i].number < g->nwrites)
            survives(g, &g->writes[g->model.writes[i].number]);
    for (uint32_t n = 1; n < g->nwrites; n++)
        if (!g->writes[n].survived)
            g->writes[n].done_ns = 0;
    g->history++;
    g->last_seq = 0; /* numbers of what was lost are given again */
    cut_settle(&g->model);
}

static void finish(struct guest *g)
{
    static const enum cut_must musts[] = {CUT_ACKNOWLEDGED, CUT_SYNCED, CUT_SINCE};
    static const char *const whats[] = {"after a crash of the process", "after a crash of the machine",
                                        "rebuilt from the store"};

    cut_model_close(&g->model);
    CHECK(cut_model_open(&g->model, g->conf.path));
    judge(&g->model, g->conf.ndisks, g->image, musts[g->must], g->lost_before_us, whats[g->must]);
    if (g->must != GUEST_LOST_DISKS)
        judge_stable(g, &g->model);
    settle(g);
    g->lost = g->auditing = false;
    if (g->conf.settled)
        g->conf.settled(g->conf.arg, g->path.edge);
    sim_say(NULL, "the guest of %s goes on", g->conf.vm);
    guest_plan(g, 0);
}

static void on_read(struct io *io)
{
    struct op *op = container_of(io, struct op, io);
    struct guest *g = op->guest;
    uint8_t *to;
    struct iovec iov[CHUNK];
    int n;

    if (!g) {
        guest_op_drop(op);
        return;
    }
    TAILQ_REMOVE(&g->path.ops, op, entry);
    g->nops--;
    g->heard_ns = sim_now;
    if (io->status) {
        if (!g->path.leaving)
            sim_violation("a read of the audit fails: %d", io->status);
        free(op);
        guest_plan(g, 0);
        return;
    }
    to = g->image[op->disk] + (size_t)op->lba * STAMP_SECTOR;
    n = io_iov(io, 0, op->nsectors * STAMP_SECTOR, iov, CHUNK);
    for (int i = 0; i < n; to += iov[i++].iov_len)
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
    io_release(io);
    free(op);
    if (g->auditing && --g->chunks_left == 0)
        finish(g);
    guest_plan(g, 0);
}

void guest_audit_begin(struct guest *g)
{
    for (unsigned d = 0; d < g->conf.ndisks; d++)
        if (!g->image[d])
            g->image[d] = xmalloc((size_t)g->conf.nsectors * STAMP_SECTOR);
    if (g->conf.must)
        g->must = g->conf.must(g->conf.arg, g->path.edge, &g->lost_before_us);
    g->auditing = true;
    g->next_chunk = 0;
    g->chunks_left = g->conf.ndisks * g->conf.nsectors / CHUNK;
}

void guest_audit_step(struct guest *g)
{
    uint32_t per_disk = g->conf.nsectors / CHUNK;

    while (!g->path.leaving && g->nops < AT_ONCE && g->next_chunk < g->conf.ndisks * per_disk) {
        struct op *op = xcalloc(1, sizeof *op);

        op->disk = (uint8_t)(g->next_chunk / per_disk);
        op->lba = g->next_chunk++ % per_disk * CHUNK;
        op->nsectors = CHUNK;
        op->io = (struct io){.op = IO_READ, .done = on_read};
        guest_submit(g, op);
    }
}
