/* tests/sim/guest.c - see guest.h.
 */
#include "guest_inside.h"

#include "check.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

enum { LOOK_MS = 100 };

static void step(void *arg);

struct guest *guest_new(const struct guest_conf *conf)
{
    struct guest *g = xcalloc(1, sizeof *g);
    uint32_t sizes[GUEST_DISKS] = {conf->nsectors, conf->nsectors};

    g->conf = *conf;
    TAILQ_INIT(&g->path.ops);
    TAILQ_INIT(&g->old.ops);
    g->wanted = conf->nops;
    CHECK(cut_create(conf->path, conf->stamps ? conf->stamps : conf->vm, conf->ndisks, sizes) &&
          cut_model_open(&g->model, conf->path));
    for (unsigned d = 0; d < conf->ndisks; d++) {
        g->sectors[d] = xcalloc(conf->nsectors, sizeof *g->sectors[d]);
        for (uint32_t i = 0; i < conf->nsectors; i++)
            sector_begin(&g->sectors[d][i], 0, false);
    }
    return g;
}

static void copy_file(const char *from, const char *to)
{
    FILE *in = fopen(from, "re"), *out = fopen(to, "we");
    char bytes[4096];
    size_t n;

    CHECK(in && out);
    while ((n = fread(bytes, 1, sizeof bytes, in)) > 0)
        CHECK(fwrite(bytes, 1, n, out) == n);
    fclose(in);
    CHECK(fclose(out) == 0);
}

struct guest *guest_twin(struct guest *g, const char *path, uint64_t before_us)
{
    struct guest *twin = xmalloc(sizeof *twin);

    fflush(g->model.file);
    copy_file(g->conf.path, path);
    *twin =
        (struct guest){.conf = g->conf, .lost = true, .must = GUEST_LOST_DISKS, .lost_before_us = before_us};
    twin->conf.path = path;
    twin->conf.must = NULL;
    twin->conf.settled = NULL;
    twin->conf.acknowledged = NULL;
    TAILQ_INIT(&twin->path.ops);
    TAILQ_INIT(&twin->old.ops);
    CHECK(cut_model_open(&twin->model, path));
    for (unsigned d = 0; d < g->conf.ndisks; d++)
        twin->sectors[d] = xcalloc(g->conf.nsectors, sizeof *twin->sectors[d]);
    return twin;
}

void guest_prepare(const struct guest *g, unsigned disk, uint8_t *bytes)
{
    for (uint32_t i = 0; i < g->conf.nsectors; i++)
        stamp_make((struct stamp *)(void *)(bytes + (size_t)i * STAMP_SECTOR), g->model.disks[disk].id, i, 0);
}

/* --- sectors --- */

void sector_begin(struct sector *s, uint32_t number, bool zeros)
{
    s->n = 0;
    sector_add(s, number, zeros);
    s->floor = 0;
}

void sector_add(struct sector *s, uint32_t number, bool zeros)
{
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 4;
        s->writes = xrealloc(s->writes, s->room * sizeof *s->writes);
    }
    s->writes[s->n].number = number;
    s->writes[s->n++].zeros = zeros;
}

/* --- what a read shows --- */

static void judge_sector(struct guest *g, struct op *op, uint32_t i, const uint8_t *bytes)
{
    uint32_t lba = op->lba + i, shown = 0, floor = op->floors[i];
    struct sector *s = &g->sectors[op->disk][lba];
    bool zeros = stamp_is_zero(bytes);

    if (!zeros && !stamp_read(bytes, g->model.disks[op->disk].id, lba, &shown)) {
        sim_violation("read of disk %u sector %u: bytes of nobody (say write %u)", op->disk, lba, shown);
        return;
    }
    for (uint32_t k = floor; k < s->n; k++) {
        if (zeros ? !s->writes[k].zeros : s->writes[k].zeros || s->writes[k].number != shown)
            continue;
        if (k > s->floor)
            s->floor = k;
        return;
    }
    sim_violation(
        "read of disk %u sector %u shows %s%u, but write %u%s was acknowledged or read before it began",
        op->disk, lba, zeros ? "zeros, not " : "write ", shown, s->writes[floor].number,
        s->writes[floor].zeros ? " (zeros)" : "");
}

void guest_judge_read(struct guest *g, struct op *op)
{
    struct iovec iov[40];
    uint8_t bytes[STAMP_SECTOR];
    uint32_t at = 0;

    for (uint32_t i = 0; i < op->nsectors; i++, at += STAMP_SECTOR) {
        int n = io_iov(&op->io, at, STAMP_SECTOR, iov, 40);

        CHECK(n >= 1);
        memcpy(bytes, iov[0].iov_base, iov[0].iov_len);
        if (n > 1)
            memcpy(bytes + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
        judge_sector(g, op, i, bytes);
    }
    io_release(&op->io);
}

/* --- the way of an I/O --- */

void guest_op_free(struct op *op)
{
    buf_unref(&op->io.data);
    free(op->floors);
    free(op);
}

void guest_op_drop(struct op *op)
{
    if (op->io.op == IO_READ && op->io.blocks && op->io.status == 0)
        io_release(&op->io);
    guest_op_free(op);
}

static void number(struct guest *g, uint64_t seq)
{
    for (uint32_t n = 1; g->unnumbered && n < g->nwrites; n++)
        if (g->writes[n].done_ns && g->writes[n].seq == UINT64_MAX)
            g->writes[n].seq = seq;
    g->unnumbered = false;
}

static void write_acknowledged(struct guest *g, struct op *op)
{
    struct write *w = &g->writes[op->number];

    w->done_ns = sim_now;
    w->seq = op->io.append.seq;
    g->last_seq = w->seq > g->last_seq ? w->seq : g->last_seq;
    number(g, w->seq);
    cut_done(&g->model, op->number);
    for (uint32_t i = 0; i < op->nsectors; i++) {
        struct sector *s = &g->sectors[op->disk][op->lba + i];

        s->busy = false;
        s->floor = s->n - 1; /* nobody else writes here meanwhile */
    }
    if (op->io.fua)
        w->stable = true;
    if (g->conf.acknowledged)
        g->conf.acknowledged(g->conf.arg, g->path.edge, w->begun_ns);
}

static void on_done(struct io *io)
{
    struct op *op = container_of(io, struct op, io);
    struct guest *g = op->guest;

    if (!g) {
        guest_op_drop(op);
        return;
    }
    if (io->status) {
        if (!g->path.leaving)
            sim_violation("an I/O of the guest fails: %d (%s)", io->status, strerror(-io->status));
    } else if (io->op == IO_READ) {
        guest_judge_read(g, op);
    } else if (io->op == IO_FLUSH) {
        cut_flush(&g->model, true);
    } else {
        write_acknowledged(g, op);
        if (io->fua)
            cut_flush(&g->model, true);
    }
    if (io->op == IO_FLUSH || io->fua)
        g->flushing = false;
    if (!io->status)
        g->done++;
    TAILQ_REMOVE(&g->path.ops, op, entry);
    g->nops--;
    g->heard_ns = sim_now;
    guest_op_free(op);
    guest_plan(g, 0);
}

static void on_answer(struct io *io)
{
    struct op *op = container_of(io, struct op, io);

    guest_seat_end(op->vm);
    op->done(io);
}

static void on_submit(struct task *t)
{
    struct op *op = container_of(t, struct op, task);
    struct loop *here = op->loop;

    op->loop = NULL;
    if (!op->guest) {
        guest_op_free(op);
    } else if (!op->vm || guest_waits_at(op->vm)) {
        op->waits = true;
    } else if (op->vm->loop != here) { /* it was handed over meanwhile */
        guest_post(op);
    } else {
        guest_seat_begin(op->vm);
        if (volume_submit(op->vm->volumes[op->disk], &op->io))
            op->io.done(&op->io);
    }
}

void guest_post(struct op *op)
{
    op->waits = false;
    op->loop = op->vm->loop;
    op->task.run = on_submit;
    loop_post(op->loop, &op->task);
}

void guest_send(struct guest *g, struct path *path, struct op *op)
{
    op->guest = g;
    op->vm = path->vm;
    op->history = g->history;
    op->done = op->io.done;
    op->io.done = on_answer;
    op->io.lba = op->lba;
    op->io.nsectors = op->nsectors;
    TAILQ_INSERT_TAIL(&path->ops, op, entry);
    guest_post(op);
}

void guest_submit(struct guest *g, struct op *op)
{
    op->io.done = op->io.done ? op->io.done : on_done;
    if (g->nops++ == 0)
        g->heard_ns = sim_now;
    guest_send(g, &g->path, op);
}

/* --- what it does next --- */

void guest_plan(struct guest *g, uint64_t after_ns)
{
    if (!g->next)
        g->next = sim_after(NULL, after_ns + sim_below(g->conf.think_ns + 1), step, g);
}

static void step(void *arg)
{
    struct guest *g = arg;

    g->next = NULL;
    if (!g->path.vm) {
        guest_look(g, false);
        guest_plan(g, LOOK_MS * SIM_MS);
    } else if (g->path.leaving && g->nops == 0) {
        guest_leave(&g->path);
        g->lost = true;
        guest_plan(g, 0);
    } else if (g->auditing) {
        guest_audit_step(g);
    } else if (!g->path.leaving && g->nops < g->conf.depth && g->done + g->nops < g->wanted) {
        guest_invent(g);
        guest_plan(g, 0);
    }
}

void guest_more(struct guest *g, unsigned nops)
{
    g->wanted = g->done + nops;
    guest_plan(g, 0);
}

bool guest_running(const struct guest *g)
{
    return g->path.vm && !g->lost && !g->path.leaving;
}

bool guest_content(const struct guest *g)
{
    return guest_running(g) && g->nops == 0 && g->done >= g->wanted;
}

struct vm *guest_vm(const struct guest *g)
{
    return g->path.vm;
}

struct sim_edge *guest_edge(const struct guest *g)
{
    return g->path.edge;
}

uint64_t guest_last(const struct guest *g)
{
    return g->last_seq;
}

unsigned guest_done(const struct guest *g)
{
    return g->done;
}

uint64_t guest_acknowledged_above(const struct guest *g, uint64_t seq)
{
    uint64_t first = UINT64_MAX;

    for (uint32_t i = 1; i < g->nwrites; i++)
        if (g->writes[i].done_ns && g->writes[i].seq > seq && g->writes[i].done_ns / 1000 < first)
            first = g->writes[i].done_ns / 1000;
    return first;
}
