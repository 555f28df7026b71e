/* journal/upkeep.c - see upkeep.h.
 *
 *   idle ─► writing (a turn, pool) ─► uploading, naming, removing (worker) ─► noting (a turn) ─► idle
 *
 * A checkpoint counts from when the VM's entry names it, and nothing is removed before: an edge that has lost
 * the VM can name none. A crash anywhere leaves at worst parts that nothing names, an older checkpoint too
 * many, or objects that are gone and still in the table with nothing live: the next round does it again.
 */
#include "upkeep.h"
#include "check.h"
#include "checkpoint_remove.h"
#include "entry.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "step.h"
#include "store_wait.h"
#include "sweep.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char part[] = "upkeep";

enum { TIMEOUT_MS = 60000, OBJECTS = 64, RETRY_MS = 5000 };
static const uint64_t dead_bytes_min = 1 << 20;

struct upkeep {
    struct upkeep_conf conf;
    char *vm, *spool_path;
    bool busy, stopped;
    atomic_bool stop;
    unsigned holds;
    uint64_t retry_ns;
    struct checkpoint_id id; /* the checkpoint, */
    struct map_state state;  /* and as of when */
    uint64_t applied_before; /* as of the one before; 0: not known */
    struct checkpoint_dead dead;
    struct sweep sweep;
    uint64_t swept; /* nothing is left over up to there, since this edge has the VM open */
    FILE *spool;
    struct commit_turn turn;
    struct work work;
    int status;
    struct why why;
    struct map_change *change;
    void (*stop_done)(void *arg);
    void *stop_arg;
    bool paused;
    void (*idle)(void *arg); /* who waits for that */
    void *idle_arg;
    struct task idle_task;
    unsigned out; /* idle_task is */
    struct task task;
    struct metric *m_live, *m_bytes, *m_objects, *m_checkpoints, *m_removed;
};

/* --- whether --------------------------------------------------------------------------------------------*/

struct sums {
    uint64_t since, committed, bytes, dead;
    unsigned fresh;
};

static void sum_up(void *arg, const struct map_object *o)
{
    struct sums *s = arg;

    s->bytes += o->bytes;
    if (o->last <= s->committed && o->data_sectors)
        s->dead += o->bytes - o->bytes / o->data_sectors * o->live_sectors;
    if (o->first > s->since)
        s->fresh++;
}

static bool is_due(struct upkeep *u)
{
    const struct map_state *state = map_state(u->conf.map);
    struct sums s = {.since = state->checkpoint, .committed = state->committed};

    map_objects_each(u->conf.map, sum_up, &s);
    if (state->committed == state->checkpoint)
        return false;
    return s.fresh >= u->conf.objects || (s.dead >= dead_bytes_min && s.dead >= s.bytes / 4);
}

static void end(struct upkeep *u);

/* --- noting ---------------------------------------------------------------------------------------------*/

static void note_run(struct commit_turn *t)
{
    struct upkeep *u = container_of(t, struct upkeep, turn);
    struct map_state state = *map_state(u->conf.map); /* nobody changes it: it is our turn */

    state.checkpoint = u->state.committed;
    u->status = map_forget(u->conf.map, u->dead.firsts, u->dead.n, &u->why);
    STEP("checkpoint.forget", "removed objects are out of the map");
    if (u->status == 0)
        u->status = map_state_store(u->conf.map, &state, &u->change, &u->why);
    STEP("checkpoint.note", "the map knows of its checkpoint");
}

static void note_done(struct commit_turn *t)
{
    struct upkeep *u = container_of(t, struct upkeep, turn);

    if (u->status == 0) {
        map_install(u->conf.map, &u->change);
        u->applied_before = u->state.applied;
        u->swept = u->sweep.through;
        metric_add(u->m_checkpoints, 1);
        metric_add(u->m_removed, u->dead.n);
        log_debug(u->vm, "checkpoint at record %" PRIu64 ", %u object(s) removed", u->state.committed,
                  u->dead.n);
    }
    end(u);
}

/* --- uploading and removing: the worker -----------------------------------------------------------------*/

static int put_part(struct upkeep *u, const char *name, uint8_t *bytes, uint32_t n)
{
    struct iovec iov = {bytes, n};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = TIMEOUT_MS, .key = name};
    int err;

    r.put.iov = &iov;
    r.put.niov = 1;
    err = store_wait_through(u->conf.store, &r, &u->stop, "a checkpoint is put");
    if (err)
        u->why = r.why;
    return err;
}

/* The last of the spool is the end. */
static int upload(struct upkeep *u)
{
    CLEANUP_FREE uint8_t *bytes = xmalloc(CHECKPOINT_PART_MAX);
    uint8_t length[4];
    char name[MAP_NAME_MAX];
    uint32_t number = 0, n = 0;
    int err = 0;

    rewind(u->spool);
    while (!err && fread(length, sizeof length, 1, u->spool) == 1) {
        if (n) {
            checkpoint_name(name, u->conf.id, &u->id, number++);
            err = put_part(u, name, bytes, n);
            STEP("checkpoint.part", "a part of a checkpoint is in the store");
        }
        n = get32(length);
        if (!err && (n > CHECKPOINT_PART_MAX || fread(bytes, n, 1, u->spool) != 1))
            err = why_set(&u->why, -EIO, "the spool %s cannot be read back", u->spool_path);
    }
    if (err)
        return err;
    checkpoint_name(name, u->conf.id, &u->id, CHECKPOINT_END);
    return put_part(u, name, bytes, n);
}

/* The entry, if it is still ours; name: with this checkpoint as the newest. */
static int look_at_entry(struct upkeep *u, bool name, struct vmobj *now)
{
    struct entry_access a = {
        .store = u->conf.store, .master = &u->conf.master, .random = u->conf.loop, .stop = &u->stop};
    struct entry_edit e = {.mine.epoch = u->conf.epoch, .patient = true};

    memcpy(e.mine.id, u->conf.id, sizeof e.mine.id);
    memcpy(e.mine.writer, u->conf.writer, sizeof e.mine.writer);
    if (name) {
        e.checkpoint = u->id;
        e.whole = u->id.cut;
    }
    return entry_change(&a, &e, now, &u->why);
}

/* The one before must be what it was taken for when the dead were told from the others. */
static int check_before(struct upkeep *u, const struct vmobj *entry)
{
    if (entry->before.cut >= u->dead.through)
        return 0;
    return why_set(&u->why, -EBADMSG,
                   "the VM's entry names a checkpoint at record %" PRIu64
                   ", the newest was at record %" PRIu64,
                   entry->before.cut, u->dead.through);
}

static void upload_run(struct work *w)
{
    struct upkeep *u = container_of(w, struct upkeep, work);
    struct vmobj entry;

    u->status = look_at_entry(u, false, &entry); /* else it would be put for nothing */
    if (u->status == 0)
        u->status = upload(u);
    STEP("checkpoint.upload", "a checkpoint is in the store, with its end");
    if (u->status == 0)
        u->status = look_at_entry(u, true, &entry);
    STEP("checkpoint.name", "the VM's entry names the checkpoint");
    if (u->status == 0)
        u->status = check_before(u, &entry);
    if (u->status == 0)
        u->status = checkpoint_remove_dead(&u->dead, u->conf.store, u->conf.id, &u->stop, &u->why);
    STEP("checkpoint.remove", "objects of which nothing is live are gone");
    if (u->status == 0)
        u->status = checkpoint_remove_old(&entry, u->conf.epoch, u->conf.store, &u->stop, &u->why);
    STEP("checkpoint.remove_old", "checkpoints before the last but one are gone");
    if (u->status == 0)
        u->status = sweep_run(&u->sweep, u->conf.store, u->conf.id, &u->stop, &u->why);
    STEP("checkpoint.sweep", "what was left over up to the checkpoint is gone");
}

static void upload_done(struct work *w)
{
    struct upkeep *u = container_of(w, struct upkeep, work);

    if (u->status) {
        end(u);
        return;
    }
    u->turn = (struct commit_turn){.run = note_run, .done = note_done};
    commit_take_turn(u->conf.commit, &u->turn);
}

/* --- writing it out: a turn -----------------------------------------------------------------------------*/

/* The map is at a cut, unless one was given up in the midst of its objects: what it says then is of no cut.
 */
static bool is_at_cut(const struct upkeep *u)
{
    return u->state.last == u->state.committed;
}

static void write_run(struct commit_turn *t)
{
    struct upkeep *u = container_of(t, struct upkeep, turn);

    u->state = *map_state(u->conf.map);
    if (!is_at_cut(u))
        return;
    u->id = (struct checkpoint_id){.cut = u->state.committed, .epoch = u->conf.epoch};
    loop_random(u->conf.loop, &u->id.upload, sizeof u->id.upload);
    sweep_note(&u->sweep, u->conf.map, u->swept, u->state.committed);
    u->dead.applied = u->state.applied;
    u->dead.applied_before = u->applied_before;
    u->spool = fopen(u->spool_path, "w+e");
    if (!u->spool) {
        u->status = why_set(&u->why, -errno, "%s cannot be made: %s", u->spool_path, strerror(errno));
        return;
    }
    unlink(u->spool_path);
    u->status = checkpoint_write(u->conf.map, u->conf.journal, u->conf.loop, &u->conf.master, u->conf.id,
                                 &u->id, &u->state, u->spool, &u->dead, &u->why);
    STEP("checkpoint.write", "the map is written out to the spool");
}

static void write_done(struct commit_turn *t)
{
    struct upkeep *u = container_of(t, struct upkeep, turn);

    if (u->status || !is_at_cut(u) || atomic_load(&u->stop)) {
        end(u);
        return;
    }
    u->work = (struct work){.run = upload_run, .done = upload_done};
    worker_do(u->conf.worker, u->conf.loop, &u->work);
}

/* --- the round ------------------------------------------------------------------------------------------*/

static void on_stopped(struct task *t)
{
    struct upkeep *u = container_of(t, struct upkeep, task);
    struct metric **metrics[] = {&u->m_live, &u->m_bytes, &u->m_objects, &u->m_checkpoints, &u->m_removed};
    void (*done)(void *arg) = u->stop_done;
    void *arg = u->stop_arg;

    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        metric_free(metrics[i]);
    explicit_bzero(&u->conf.master, sizeof u->conf.master);
    free(u->vm);
    free(u->spool_path);
    free(u);
    done(arg);
}

static void stop_if_idle(struct upkeep *u)
{
    if (u->busy || u->out || !u->stop_done || u->stopped)
        return;
    u->stopped = true;
    u->task.run = on_stopped;
    loop_post(u->conf.loop, &u->task);
}

static void on_idle(struct task *t)
{
    struct upkeep *u = container_of(t, struct upkeep, idle_task);
    void (*idle)(void *arg) = u->idle;

    u->idle = NULL;
    u->out--;
    if (idle)
        idle(u->idle_arg);
    stop_if_idle(u);
}

static void say_idle(struct upkeep *u)
{
    if (u->busy || !u->idle || u->out)
        return;
    u->out++;
    u->idle_task.run = on_idle;
    loop_post(u->conf.loop, &u->idle_task);
}

static void show(struct upkeep *u)
{
    uint64_t live, bytes;
    unsigned objects;

    map_sums(u->conf.map, &live, &bytes, &objects);
    metric_set(u->m_live, live);
    metric_set(u->m_bytes, bytes);
    metric_set(u->m_objects, objects);
}

static void end(struct upkeep *u)
{
    if (u->spool)
        fclose(u->spool);
    u->spool = NULL;
    free(u->dead.firsts);
    u->dead = (struct checkpoint_dead){0};
    sweep_clear(&u->sweep);
    u->busy = false;
    if (u->status && !atomic_load(&u->stop)) {
        log_error(u->vm, "no checkpoint could be made: %s", u->why.text);
        u->retry_ns = loop_now_ns(u->conf.loop) + RETRY_MS * UINT64_C(1000000);
    }
    show(u);
    say_idle(u);
    stop_if_idle(u);
}

void upkeep_look(struct upkeep *u)
{
    show(u);
    if (u->busy || u->paused || atomic_load(&u->stop) || loop_now_ns(u->conf.loop) < u->retry_ns ||
        !is_due(u))
        return;
    u->busy = true;
    /* The checkpoint before this one must stay good, too, with the log behind it. */
    u->dead.through = u->holds ? 0 : map_state(u->conf.map)->checkpoint;
    u->turn = (struct commit_turn){.run = write_run, .done = write_done};
    commit_take_turn(u->conf.commit, &u->turn);
}

void upkeep_hold(struct upkeep *u)
{
    u->holds++;
}

void upkeep_release(struct upkeep *u)
{
    CHECK(u->holds);
    u->holds--;
}

void upkeep_pause(struct upkeep *u, void (*idle)(void *arg), void *arg)
{
    u->paused = true;
    u->idle = idle;
    u->idle_arg = arg;
    say_idle(u);
}

void upkeep_resume(struct upkeep *u)
{
    u->paused = false;
    u->idle = NULL;
}

void upkeep_stop(struct upkeep *u, void (*done)(void *arg), void *arg)
{
    atomic_store(&u->stop, true);
    u->stop_done = done;
    u->stop_arg = arg;
    stop_if_idle(u);
}

struct upkeep *upkeep_new(const struct upkeep_conf *conf)
{
    struct upkeep *u = xcalloc(1, sizeof *u);
    char name[MAP_NAME_MAX];

    u->conf = *conf;
    u->vm = xstrdup(conf->vm);
    if (!u->conf.objects)
        u->conf.objects = OBJECTS;
    map_object_name(name, conf->id, 0);
    u->spool_path = xasprintf("%s/%.32s.map", conf->spool, name + strlen("vms/"));
    u->m_live =
        metric_new(METRIC_GAUGE, "isthmus_store_live_bytes",
                   "Data of a VM that the store holds and the source disk lacks.", "vm=\"%s\"", u->vm);
    u->m_bytes = metric_new(METRIC_GAUGE, "isthmus_store_object_bytes", "Size of a VM's log objects.",
                            "vm=\"%s\"", u->vm);
    u->m_objects = metric_new(METRIC_GAUGE, "isthmus_store_objects", "Log objects of a VM in the store.",
                              "vm=\"%s\"", u->vm);
    u->m_checkpoints = metric_new(METRIC_COUNTER, "isthmus_store_checkpoints_total",
                                  "Checkpoints of the map.", "vm=\"%s\"", u->vm);
    u->m_removed = metric_new(METRIC_COUNTER, "isthmus_store_objects_removed_total",
                              "Log objects removed because nothing of them was live.", "vm=\"%s\"", u->vm);
    show(u);
    return u;
}
