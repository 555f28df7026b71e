/* cache/vms_pair.c - see vms_pair.h.
 */
#include "check.h"
#include "generation.h"
#include "log.h"
#include "mem.h"
#include "vms_pair_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "pair";

enum { DEGRADED_AGE_MS = 1000, PURGE_AGAIN_MS = 1000 };

void vms_pair_came(struct vms_pair *p, struct vm *vm)
{
    vms_pair_send(p, vm, p->mirroring ? MIRROR_IT : CUT_AGE, 0);
    if (p->mirroring)
        vms_far_tell(p->far, vm);
}

void vms_pair_changed(struct vms_pair *p, struct vm *vm)
{
    if (p->mirroring)
        vms_far_tell(p->far, vm);
}

static void tell_all(struct vms_pair *p)
{
    struct vm *vm;

    vms_far_begin(p->far);
    TAILQ_FOREACH (vm, &p->vms->list, in.entry)
        vms_far_tell(p->far, vm);
}

/* --- the pair's moves -----------------------------------------------------------------------------------*/

static void admit(struct vms_pair *p)
{
    if (p->admitting)
        return;
    p->admitting = true;
    vms_admit(p->vms, p->refused, p->arg);
}

void vms_pair_idle(void *arg)
{
    struct vms_pair *p = arg;

    p->busy--;
    if (p->stopping && !p->busy)
        pair_stop(p->pair, p->closed, p->closed_arg);
}

void vms_pair_close_keep(struct vms_pair *p, void (*done)(void *arg))
{
    p->busy++;
    keep_close(p->keep, done, p);
}

static void on_sole(void *arg)
{
    struct vms_pair *p = arg;

    atomic_fetch_add(&p->moves, 1);
    p->mirroring = p->tried = false;
    p->round++;
    p->left = 0;
    p->age_ms = DEGRADED_AGE_MS;
    vms_hand_forget(p->hand);
    vms_far_silence(p->far);
    vms_pair_send_all(p, LEAVE_IT, 0);
    admit(p);
}

static void on_both(void *arg)
{
    struct vms_pair *p = arg;

    atomic_fetch_add(&p->moves, 1);
    p->mirroring = true;
    p->age_ms = p->vms->conf.commit_age_ms;
    vms_pair_send_all(p, CUT_AGE, 0);
    if (!p->purging)
        keep_reopen(p->keep);
    vms_pair_forget_theirs(p);
    vms_pair_look_for_gone(p);
    admit(p);
}

static bool is_in_catalog(void *arg, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vms *vms = arg;
    struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->list, in.entry)
        if (memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0)
            break;
    pthread_mutex_unlock(&vms->lock);
    return vm != NULL;
}

static void purge_run(struct work *w)
{
    struct vms_pair *p = container_of(w, struct vms_pair, purge);

    p->purge_status = keep_purge(p->vms->conf.journal, is_in_catalog, p->vms, &p->purge_why);
}

/* What was kept and is of no use any more. done() on the main loop. */
void vms_pair_purge(struct vms_pair *p, void (*done)(struct work *))
{
    p->busy++;
    p->purge = (struct work){.run = purge_run, .done = done};
    loop_work(p->vms->conf.main, &p->purge);
}

static void purge_done(struct work *w)
{
    struct vms_pair *p = container_of(w, struct vms_pair, purge);

    if (p->purge_status && !p->purge_failed)
        log_error(NULL,
                  "what was kept for the other edge cannot be removed, so nothing is kept until it is: %s",
                  p->purge_why.text);
    p->purging = p->purge_failed = p->purge_status != 0;
    if (!p->stopping && p->purging)
        timer_set_ms(&p->purge_again, PURGE_AGAIN_MS);
    else if (!p->stopping)
        keep_reopen(p->keep);
    vms_pair_idle(p);
}

static void on_purge_again(struct timer *t)
{
    vms_pair_purge(container_of(t, struct vms_pair, purge_again), purge_done);
}

/* Whatever this edge has is the other's by now, or will be; what it kept was of a time that is over. */
static void on_out(void *arg)
{
    struct vms_pair *p = arg;
    struct vm *vm;

    atomic_fetch_add(&p->moves, 1);
    TAILQ_FOREACH (vm, &p->vms->list, in.entry) {
        log_warn(vm->spec.name, "the other edge of the pair serves it, or will: nobody may log in here");
        atomic_store(&vm->fenced, true);
    }
    timer_stop(&p->purge_again);
    p->purging = true;
    vms_pair_purge(p, purge_done);
}

static void on_prepare(void *arg)
{
    struct vms_pair *p = arg;
    struct vm *vm;

    atomic_fetch_add(&p->moves, 1);
    p->mirroring = true;
    p->round++;
    p->left = 1;
    TAILQ_FOREACH (vm, &p->vms->list, in.entry)
        p->left += 2;
    log_info(NULL, "the other edge is being taken in: %u VM(s) to mirror", p->left / 2);
    vms_pair_send_all(p, MIRROR_IT, p->round);
    tell_all(p);
    vms_pair_tell(p, p->round, 0, NULL);
}

static void on_unprepare(void *arg)
{
    struct vms_pair *p = arg;

    log_warn(NULL, "the other edge is not taken in: it went away, or cannot keep a VM's log");
    p->mirroring = false;
    p->round++;
    p->left = 0;
    vms_far_silence(p->far);
    vms_pair_send_all(p, LEAVE_IT, 0);
}

static void on_clears(struct timer *t)
{
    struct vms_pair *p = container_of(t, struct vms_pair, clears);
    struct pair_status s;

    pair_status(p->pair, &s);
    if (s.role == PAIR_BOTH)
        vms_pair_forget_theirs(p);
}

/* --- from the other edge --------------------------------------------------------------------------------*/

static void begin(void *vms)
{
    vms_begin(vms);
}

static void end(void *vms)
{
    vms_end(vms);
}

void vms_pair_request(struct vms_pair *p, struct link_request *r)
{
    struct why no;

    if (p->stopping)
        link_reply(&r, -ESTALE, "this edge is stopping", NULL, 0);
    else if (r->type == PROTO_HAND_PREPARE || r->type == PROTO_HAND_OVER)
        vms_hand_request(p->hand, r, vms_pair_whole(p->vms, &no) ? NULL : &no);
    else if (r->type == PROTO_REMAINS_READ)
        remains_request(p->vms->remains, r, begin, end, p->vms);
    else if (r->type == PROTO_PAIR_PING)
        pair_request(p->pair, r);
    else if (!pair_keeps(p->pair))
        link_reply(&r, -ESTALE, "this edge keeps nothing for the other now", NULL, 0);
    else if (r->type == PROTO_FORWARD_VM)
        vms_far_request(p->far, r);
    else
        keep_request(p->keep, r);
}

void vms_pair_notice(struct vms_pair *p, uint8_t type, const uint8_t *body, uint32_t len)
{
    struct pair_mark mark;

    if (p->stopping || !pair_keeps(p->pair))
        return;
    keep_notice(p->keep, type, body, len);
    if (type == PROTO_MIRROR_END && pair_get_mark(body, len, &mark) == 0)
        vms_far_left(p->vms, mark.vm);
}

/* --- life -----------------------------------------------------------------------------------------------*/

static void on_lost(void *arg, const struct why *why)
{
    struct vms_pair *p = arg;

    p->lost(p->arg, why);
}

static void on_writes(void *arg, unsigned generation)
{
    (void)arg;
    generation_write(generation);
}

static bool is_idle(void *arg)
{
    const struct vms_pair *p = arg;
    struct vm *vm;

    TAILQ_FOREACH (vm, &p->vms->list, in.entry)
        if (atomic_load(&vm->admitted) && !atomic_load(&vm->fenced))
            return journal_failed(p->vms->conf.journal);
    return true;
}

static bool is_fit(void *arg)
{
    const struct vms_pair *p = arg;

    return !journal_failed(p->vms->conf.journal);
}

struct vms_pair *vms_pair_new(struct vms *vms, const struct pair_conf *conf,
                              void (*refused)(void *arg, const struct why *), void *arg)
{
    struct vms_pair *p = xcalloc(1, sizeof *p);
    struct pair_conf mine = *conf;
    struct keep_conf keep = {.journal = vms->conf.journal,
                             .main = vms->conf.main,
                             .loops = vms->conf.loops,
                             .nloops = vms->conf.nloops,
                             .make_room = vms_pair_make_room,
                             .arg = p};

    p->vms = vms;
    snprintf(p->name, sizeof p->name, "%s", conf->name);
    snprintf(p->self, sizeof p->self, "%s", conf->self);
    p->refused = refused;
    p->lost = conf->lost;
    p->peer = conf->peer;
    p->arg = arg;
    p->age_ms = DEGRADED_AGE_MS;
    vms_pair_inherit_init(p);
    timer_init(&p->clears, vms->conf.main, on_clears);
    timer_init(&p->purge_again, vms->conf.main, on_purge_again);
    p->keep = keep_new(&keep);
    p->far = vms_far_new(vms, conf->peer);
    p->hand = vms_hand_new(vms, p->keep);
    TAILQ_INIT(&p->rooms);
    TAILQ_INIT(&p->leaving);
    mine.sole = on_sole;
    mine.both = on_both;
    mine.out = on_out;
    mine.inherit = vms_pair_inherit;
    mine.prepare = on_prepare;
    mine.unprepare = on_unprepare;
    mine.lost = on_lost;
    mine.idle = is_idle;
    mine.fit = is_fit;
    mine.clear = vms_pair_clear;
    mine.generation = generation_newest();
    mine.writes = on_writes;
    mine.arg = p;
    p->pair = pair_new(&mine);
    vms->pair = p;
    vms->remains = p->remains = remains_new(vms->conf.main);
    return p;
}

void vms_pair_peer_wait(struct vms_pair *p, unsigned ms)
{
    p->vms->peer_wait_ms = ms;
}

bool vms_pair_status(const struct vms *vms, struct pair_status *s)
{
    if (!vms->pair || vms->pair->stopping)
        return false;
    pair_status(vms->pair->pair, s);
    return true;
}

bool vms_pair_is_edge(const struct vms *vms, const char *name, struct why *why)
{
    struct pair_status s;

    if (!vms_pair_status(vms, &s)) {
        why_set(why, 0, "this edge is in no pair");
        return false;
    }
    if (strcmp(name, s.self) == 0 || strcmp(name, s.other) == 0)
        return true;
    why_set(why, 0, "%.63s is no edge of this pair: they are %s and %s", name, s.self, s.other);
    return false;
}

bool vms_pair_mirrors(const struct vms *vms, struct vm *vm)
{
    struct pair_status s;
    struct vm_status seen;

    if (!vms_pair_status(vms, &s) || s.role != PAIR_BOTH || s.preparing)
        return false;
    if (vm->far)
        return keep_has(vms->pair->keep, vm->spec.name);
    vm_status(vm, &seen);
    return seen.mirrored && !atomic_load(&vm->fenced);
}

unsigned vms_pair_moves(const struct vms_pair *p)
{
    return atomic_load(&p->moves);
}

bool vms_pair_has(const struct vms_pair *p, const char *name)
{
    return keep_has(p->keep, name);
}

bool vms_pair_member(const struct vms_pair *p, struct why *why)
{
    struct pair_status s;

    if (p->stopping) {
        why_set(why, 0, "this edge is stopping");
        return false;
    }
    pair_status(p->pair, &s);
    if (s.role == PAIR_SOLE || s.role == PAIR_BOTH)
        return true;
    why_set(why, 0, "this edge is no member of its pair now%s%s", *s.why.text ? ": " : "", s.why.text);
    return false;
}

void vms_pair_stop(struct vms_pair *p, void (*done)(void *arg), void *arg)
{
    p->stopping = true;
    p->closed = done;
    p->closed_arg = arg;
    timer_stop(&p->timer);
    timer_stop(&p->clears);
    timer_stop(&p->purge_again);
    vms_pair_look_for_rooms(p);
    vms_pair_send_all(p, FORGET_IT, 0);
    p->busy += 2;
    vms_hand_stop(p->hand, vms_pair_idle, p);
    vms_far_stop(p->far, vms_pair_idle, p);
    vms_pair_close_keep(p, vms_pair_idle);
}

void vms_pair_free(struct vms_pair **pp)
{
    struct vms_pair *p = *pp;

    *pp = NULL;
    if (!p)
        return;
    timer_free(&p->timer);
    timer_free(&p->clears);
    timer_free(&p->purge_again);
    keep_free(&p->keep);
    vms_far_free(&p->far);
    vms_hand_free(&p->hand);
    remains_free(&p->remains);
    free(p);
}
