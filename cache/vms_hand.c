/* cache/vms_hand.c - see vms_hand.h.
 *
 *   worker: entry ► map (what came since) ► is it all? ► entry swapped ► catalog
 *   then: opened, and found
 *
 * Until the swap was sent anything that fails is a refusal, and the owner goes on. Once it was sent the entry
 * alone tells, and is asked for as long as that takes; once it is this edge's the rest is done for as long as
 * that takes. A crash leaves the entry as somebody's, whose edge goes on with the VM, or is taken over from.
 */
#include "vms_hand.h"
#include "check.h"
#include "discard.h"
#include "log.h"
#include "mem.h"
#include "proto_pair.h"
#include "recover.h"
#include "step.h"
#include "vm_arrive.h"
#include "vm_place.h"
#include "vm_spec.h"
#include "vms_far.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "pair";

enum { REST_MS = 250 };

struct vms_hand {
    struct vms *vms;
    struct keep *keep;
    enum { HAND_IDLE, HAND_PREPARES, HAND_TAKES, HAND_OPENS } state;
    struct link_request *request;
    struct pair_hand ask;

    bool prepared; /* of `prepared_id` the map is here, up to */
    uint8_t prepared_id[VMLOG_ID_BYTES];
    struct recover_result result; /* this; with the checkpoints of */
    struct vmobj entry;           /* this */

    struct vm_spec *spec;
    bool sent, ours, saved; /* the swap was sent; has happened; and the catalog has it */
    struct work work;
    int status;
    struct why why;
    struct timer timer; /* the next try */
    struct vm_arrival arrival;
    atomic_bool stopping;
    void (*stopped)(void *arg);
    void *stopped_arg;
    struct task task;
};

/* --- on the worker --------------------------------------------------------------------------------------*/

static struct vm_store store_of(const struct vms_hand *h)
{
    struct vm_store s = vm_store_of(h->vms);

    s.stop = &h->stopping;
    return s;
}

static struct recover_conf conf_of(const struct vms_hand *h, const struct vm_store *s,
                                   const struct vmobj *entry)
{
    return (struct recover_conf){.journal = h->vms->conf.journal,
                                 .store = s->store,
                                 .master = s->master,
                                 .entry = *entry,
                                 .vm = h->spec->name,
                                 .floor = h->spec->floor,
                                 .through = UINT64_MAX,
                                 .stop = s->stop};
}

/* What was loaded has all that recoveries begin with, still. */
static bool is_fresh(const struct vms_hand *h, const struct vmobj *entry)
{
    return h->prepared && memcmp(h->prepared_id, entry->id, sizeof h->prepared_id) == 0 &&
           checkpoint_same(&h->entry.newest, &entry->newest) &&
           checkpoint_same(&h->entry.before, &entry->before) && h->entry.epoch == entry->epoch &&
           memcmp(h->entry.writer, entry->writer, sizeof entry->writer) == 0;
}

/* The map up to the newest cut. */
static int load(struct vms_hand *h, const struct vm_store *s, const struct vmobj *entry, struct why *why)
{
    struct recover_conf c = conf_of(h, s, entry);
    struct recover_result from = h->result, result;
    int err = 0;

    if (is_fresh(h, entry)) {
        c.from = &from;
        c.audited = true; /* then */
    } else {
        err = map_delete(h->vms->conf.journal, entry->id, why);
    }
    h->prepared = false;
    if (!err)
        err = recover_vm(&c, &result, why);
    if (err == -ENOENT && result.unwritten)
        err = 0;
    if (!err && result.damaged)
        err = why_set(why, -EBADMSG, "something in the object store is missing or damaged");
    if (err)
        return err;
    h->prepared = true;
    h->result = result;
    h->entry = *entry;
    memcpy(h->prepared_id, entry->id, sizeof h->prepared_id);
    return 0;
}

static int read_entry(struct vms_hand *h, const struct vm_store *s, struct vmobj *entry,
                      char etag[ENTRY_ETAG], struct why *why)
{
    vm_spec_wipe(h->spec);
    return vm_store_get(s, h->ask.vm, h->spec, entry, etag, why);
}

static void prepare_run(struct work *w)
{
    struct vms_hand *h = container_of(w, struct vms_hand, work);
    struct vm_store s = store_of(h);
    char etag[ENTRY_ETAG];
    struct vmobj entry;

    h->status = read_entry(h, &s, &entry, etag, &h->why);
    if (!h->status)
        h->status = load(h, &s, &entry, &h->why);
    STEP("hand.map", "the map of a VM that the other edge has is here");
}

/* Nobody but who has asked for this has swapped the entry. */
static bool is_taken(const struct vms_hand *h, const struct vm_store *s, const struct vmobj *entry)
{
    return h->sent && memcmp(entry->writer, s->writer, sizeof entry->writer) == 0;
}

/* The rest of the map; is it all that the owner has written? */
static int complete(struct vms_hand *h, const struct vm_store *s, const struct vmobj *entry, struct why *why)
{
    int err;

    if (!is_fresh(h, entry))
        return why_set(why, -EAGAIN, "there is a newer checkpoint than when its map was read");
    err = load(h, s, entry, why);
    if (!err && (h->result.state.committed != h->ask.seq || h->result.state.last != h->ask.seq))
        err = why_set(why, -EAGAIN,
                      "the object store ends at record %" PRIu64 ", and its log at record %" PRIu64,
                      h->result.state.committed, h->ask.seq);
    return err ? err : vm_place_note(h->vms->conf.journal, h->spec, false, why);
}

/* 0: the entry is this edge's. -ESTALE: it is another one than the swap is for, and was not swapped. */
static int look(struct vms_hand *h, const struct vm_store *s, struct vmobj *entry, struct why *why)
{
    char etag[ENTRY_ETAG];
    int err = read_entry(h, s, entry, etag, why);

    if (!err && is_taken(h, s, entry))
        return 0;
    if (err == -ENOENT || (!err && strcmp(etag, h->ask.etag) != 0)) {
        h->sent = false; /* nor can it happen any more */
        return why_set(why, -ESTALE, "its entry in the object store was changed meanwhile");
    }
    return err ? err : -EINPROGRESS;
}

static int swap(struct vms_hand *h, const struct vm_store *s, struct why *why)
{
    struct vmobj entry, next;
    struct recover_conf c;
    int err = look(h, s, &entry, why);

    if (err != -EINPROGRESS)
        return err;
    err = h->sent ? 0 : complete(h, s, &entry, why);
    if (err)
        return err;
    h->spec->epoch++;
    h->spec->task = 0; /* another edge counted its tasks */
    h->spec->since = h->ask.seq + 1;
    h->spec->joined = 0; /* the store has all of it */
    c = conf_of(h, s, &entry);
    next = recover_entry(&c, &h->result);
    STEP("hand.rest_map", "the rest of the map is here, what was kept of the log is closed");
    h->sent = true;
    err = vm_store_take(s, h->spec, &next, h->ask.etag, why);
    if (err == -ESTALE) /* or it was ours before, and that was not heard */
        err = look(h, s, &entry, why);
    return err;
}

/* It is this edge's. */
static int settle(struct vms_hand *h, const struct vm_store *s, struct why *why)
{
    int err = 0;

    if (h->spec->floor)
        err = discard_objects(s->store, h->spec->id, h->spec->floor, s->stop, why);
    if (!err)
        err = vmlog_delete(h->vms->conf.journal, h->spec->id, why); /* what was kept; its reservations stay */
    STEP("hand.clear", "nothing is left of what was kept of a VM that is this edge's by now");
    if (!err)
        err = vm_save(h->vms, h->spec, false, why);
    STEP("hand.catalog", "it is in the catalog");
    return err ? err : keep_forget(h->vms->conf.journal, h->spec->id, why);
}

static void take_run(struct work *w)
{
    struct vms_hand *h = container_of(w, struct vms_hand, work);
    struct vm_store s = store_of(h);

    h->status = h->ours ? 0 : swap(h, &s, &h->why);
    if (h->status)
        return;
    h->ours = true;
    STEP("recover.take", "the VM is this edge's, by its entry");
    if (!h->saved)
        h->status = settle(h, &s, &h->why);
    h->saved = h->status == 0;
}

/* --- on the main loop -----------------------------------------------------------------------------------*/

static void on_stopped(struct task *t)
{
    struct vms_hand *h = container_of(t, struct vms_hand, task);

    h->stopped(h->stopped_arg);
}

static void look_stopped(struct vms_hand *h)
{
    if (!h->stopping || h->state != HAND_IDLE || !h->stopped)
        return;
    h->task.run = on_stopped;
    loop_post(h->vms->conf.main, &h->task);
}

static void end(struct vms_hand *h)
{
    if (h->status)
        log_warn(h->spec->name, "it is not taken from the other edge now: %s", h->why.text);
    vm_spec_wipe(h->spec);
    h->state = HAND_IDLE;
    h->vms->recovering = false;
    link_reply(&h->request, h->status, h->why.text, NULL, 0);
    look_stopped(h);
    vms_end(h->vms);
}

static void work(struct vms_hand *h, void (*run)(struct work *), void (*done)(struct work *))
{
    h->work = (struct work){.run = run, .done = done};
    worker_do(h->vms->conf.worker, h->vms->conf.main, &h->work);
}

static void prepare_done(struct work *w)
{
    struct vms_hand *h = container_of(w, struct vms_hand, work);

    if (!h->status)
        log_info(h->spec->name,
                 "what it is was read up to record %" PRIu64 ", to take it from the other edge",
                 h->result.state.committed);
    end(h);
}

static void take_done(struct work *w);

static void on_arrived(struct vm_arrival *a)
{
    struct vms_hand *h = container_of(a, struct vms_hand, arrival);

    h->status = a->status;
    h->why = a->why;
    if (a->status) {
        log_error(h->spec->name, "taken from the other edge, but it cannot be opened, and is tried again: %s",
                  a->why.text);
        timer_set_ms(&h->timer, REST_MS);
        return;
    }
    vms_refresh(a->vm); /* what the daemons said meanwhile was heard by nobody */
    log_info(h->spec->name, "taken from the other edge at record %" PRIu64 ": %s", h->ask.seq, h->spec->iqn);
    end(h);
}

static void on_timer(struct timer *t)
{
    struct vms_hand *h = container_of(t, struct vms_hand, timer);

    if (h->stopping) { /* the next start goes on, with whatever the entry says */
        h->status = why_set(&h->why, -ESHUTDOWN, "this edge is stopping");
        end(h);
    } else if (h->state == HAND_OPENS) {
        vm_arrive(&h->arrival, h->spec);
    } else {
        work(h, take_run, take_done);
    }
}

static void take_done(struct work *w)
{
    struct vms_hand *h = container_of(w, struct vms_hand, work);

    if (h->status && (h->sent || h->ours)) {
        log_warn(h->spec->name, "to take it from the other edge is tried again: %s", h->why.text);
        timer_set_ms(&h->timer, REST_MS);
        return;
    }
    h->prepared = false;
    if (h->status || h->stopping) {
        end(h);
        return;
    }
    h->state = HAND_OPENS;
    h->arrival.vms = h->vms;
    h->arrival.handed = true;
    h->arrival.done = on_arrived;
    vm_arrive(&h->arrival, h->spec);
}

static void on_kept_closed(void *arg)
{
    struct vms_hand *h = arg;

    work(h, take_run, take_done);
}

/* What is to be erased yet of that VM, which this edge had before, or of another of its name, would go with
 * what is here of it by then: its map, its entry in the catalog.
 */
static bool is_left_over(const struct vms_hand *h, const struct vm *far)
{
    return vms_find(h->vms, far->spec.name) || vms_is_going(h->vms, far->spec.id) ||
           vms_has_going(h->vms, far->spec.name);
}

static int may_begin(struct vms_hand *h, const struct link_request *r, struct why *why)
{
    const struct vm *far;

    if (pair_get_hand(r->body, r->len, &h->ask))
        return why_set(why, -EBADMSG, "it cannot be read");
    if (h->vms->recovering)
        return why_set(why, -EBUSY, "another VM is being taken over");
    far = vms_far_find(h->vms, h->ask.vm);
    if (!far)
        return why_set(why, -EAGAIN, "the other edge does not know that VM yet");
    if (is_left_over(h, far))
        return why_set(why, -EBUSY,
                       "what the other edge has had of that VM, or of its name, is not gone yet");
    return vms_admitted(h->vms, why) ? 0 : -EAGAIN;
}

void vms_hand_request(struct vms_hand *h, struct link_request *r, const struct why *no)
{
    struct why why = {""};
    int err = 0;

    if (no)
        err = why_set(&why, -EAGAIN, "%s", no->text);
    else if (h->state != HAND_IDLE || h->stopping)
        err = why_set(&why, -EBUSY, "another VM is being taken over");
    else
        err = may_begin(h, r, &why);
    if (err) {
        link_reply(&r, err, why.text, NULL, 0);
        return;
    }
    vms_begin(h->vms);
    h->vms->recovering = true;
    h->request = r;
    h->why.text[0] = '\0';
    h->sent = h->ours = h->saved = false;
    if (r->type == PROTO_HAND_PREPARE) {
        h->state = HAND_PREPARES;
        work(h, prepare_run, prepare_done);
        return;
    }
    h->state = HAND_TAKES;
    if (keep_end(h->keep, h->ask.vm, on_kept_closed, h))
        return;
    h->status = why_set(&h->why, -EAGAIN, "its log is not kept here");
    end(h);
}

void vms_hand_forget(struct vms_hand *h)
{
    if (h->state == HAND_IDLE)
        h->prepared = false;
}

void vms_hand_stop(struct vms_hand *h, void (*done)(void *arg), void *arg)
{
    h->stopping = true;
    h->stopped = done;
    h->stopped_arg = arg;
    look_stopped(h);
}

struct vms_hand *vms_hand_new(struct vms *vms, struct keep *keep)
{
    struct vms_hand *h = xcalloc(1, sizeof *h);

    h->vms = vms;
    h->keep = keep;
    h->spec = xcalloc(1, sizeof *h->spec);
    timer_init(&h->timer, vms->conf.main, on_timer);
    return h;
}

void vms_hand_free(struct vms_hand **ph)
{
    struct vms_hand *h = *ph;

    *ph = NULL;
    if (!h)
        return;
    CHECK(h->state == HAND_IDLE);
    timer_free(&h->timer);
    vm_spec_wipe(h->spec);
    free(h->spec);
    free(h);
}
