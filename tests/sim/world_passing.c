/* tests/sim/world_passing.c - a VM that is made, used, deleted, and made anew, again and again: of the same
 * name, on the same disks, which somebody fills anew before.
 *
 * Each of its lives has an id of its own, and writes stamps of its own. Of one that was deleted nothing may
 * be seen again, and nothing stays: at the edges, at on-prem, in the store. The last life lasts.
 */
#include "world_inside.h"

#include "check.h"
#include "mem.h"
#include "vm_life.h"
#include "vm_spec.h"
#include "vmobj.h"
#include "vms_far.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAME "passing"

enum { LIVES_MAX = 4096, STEP_PPM = 500000, LATE_S = 130 };

/* An id that an entry of that name had in the store. */
struct life {
    uint8_t id[VMLOG_ID_BYTES];
    char hex[WORLD_KEY_HEX + 1];
    bool was, deleting; /* its entry once said, says that it is there; that it is being deleted */
    bool deleted;       /* somebody was told so */
    bool late;          /* something of it was put after that: only its entry has to go */
    bool empty;         /* the store had nothing of it, after that */
    bool said;
};

static struct {
    enum { COMES, STAYS, GOES, IS_GONE } state;
    struct world_vm *vm;
    struct life lives[LIVES_MAX];
    unsigned nlives, guests;
    struct life *now;      /* STAYS, GOES */
    uint64_t until;        /* STAYS, IS_GONE: for so long */
    bool asked;            /* for its deletion, */
    struct sim_edge *edge; /* there */
    struct task task;
    bool sweep; /* somebody has to look at all that the store has: an edge has lost its disks */
    struct sim_edge *sweeping; /* where that is under way */
    uint64_t sweep_again_ns;   /* what that edge had sent to the store may have come by then; or 0 */
    struct task sweep_task;
    uint64_t looked_ns;
} p;

bool world_passing_is(const struct world_vm *v)
{
    return world.passes && v == p.vm;
}

bool world_passing_stays(const struct world_vm *v)
{
    return !world_passing_is(v) || p.state == STAYS;
}

bool world_passing_waits(const struct world_vm *v)
{
    return world_passing_is(v) && p.state != STAYS && (p.state != COMES || p.sweep);
}

/* --- the store ------------------------------------------------------------------------------------------*/

static struct life *find(const uint8_t id[VMLOG_ID_BYTES])
{
    for (unsigned i = 0; i < p.nlives; i++)
        if (memcmp(p.lives[i].id, id, VMLOG_ID_BYTES) == 0)
            return &p.lives[i];
    return NULL;
}

static struct life *add(const uint8_t id[VMLOG_ID_BYTES], const char *hex)
{
    struct life *l = &p.lives[p.nlives++];

    CHECK(p.nlives <= LIVES_MAX);
    memcpy(l->id, id, sizeof l->id);
    memcpy(l->hex, hex, WORLD_KEY_HEX);
    return l;
}

void world_passing_entry(const uint8_t id[VMLOG_ID_BYTES], const char *hex, const struct vm_spec *spec,
                         bool deleting)
{
    struct life *l = find(id);

    if (!world.passes || strcmp(spec->name, NAME) != 0)
        return;
    l = l ? l : add(id, hex);
    l->deleting = deleting;
    l->was = l->was || !deleting;
    if (!deleting && l->deleted)
        sim_violation("the entry of a VM that was deleted says that it is there");
}

void world_passing_late(const char *hex)
{
    for (unsigned i = 0; i < p.nlives; i++)
        if (strncmp(p.lives[i].hex, hex, WORLD_KEY_HEX) == 0 && p.lives[i].deleting)
            p.lives[i].late = true;
}

static bool has_objects(const struct life *l)
{
    char entry[WORLD_KEY_HEX + 4];

    snprintf(entry, sizeof entry, "%s/vm", l->hex);
    return sim_bucket_last(world.bucket, l->late ? entry : l->hex) != NULL;
}

/* Nobody may find it as a VM any more. */
static bool is_dead(const struct life *l)
{
    return l->deleted || (l->was && l->deleting) || (l != p.now && l->empty);
}

/* --- the edges ------------------------------------------------------------------------------------------*/

static bool is_in(const struct sim_edge *e, const struct life *l, bool live)
{
    const struct vm *vm;

    if (!e->node.alive || !e->vms)
        return false;
    TAILQ_FOREACH (vm, &e->vms->list, in.entry)
        if (memcmp(vm->spec.id, l->id, sizeof l->id) == 0 &&
            (!live || (world_is_live(vm) && !guest_is_quiet_at(vm))))
            return true;
    return !live && vms_is_going(e->vms, l->id);
}

/* One that the other edge has gone on without may not know yet. */
static bool serves(const struct sim_edge *e)
{
    return !world.pair || (e->node.alive && lease_gate_open(&e->gate, sim_node_clock(&e->node)));
}

/* --- what may not be ------------------------------------------------------------------------------------*/

static void look_at(struct life *l)
{
    if (!l->empty && l != p.now && !has_objects(l))
        l->empty = true;
    for (unsigned i = 0; i < WORLD_EDGES && l->deleted && !l->said; i++)
        if (serves(&world.edges[i]) && is_in(&world.edges[i], l, true)) {
            sim_violation("a VM that was deleted is back at %s", world.edges[i].node.name);
            l->said = true;
        }
}

/* As the other edge's. */
static bool is_exported(const struct sim_edge *e, const struct life *l)
{
    return e->node.alive && e->vms && vms_far_find(e->vms, l->id);
}

/* NULL: nothing is left of it. */
static const char *left_of(const struct life *l)
{
    for (unsigned i = 0; i < WORLD_EDGES; i++)
        if (is_in(&world.edges[i], l, false) || is_exported(&world.edges[i], l))
            return world.edges[i].node.name;
    if (sim_onprem_has(&world.onprem, l->id))
        return "on-prem";
    return l->empty ? NULL : "the store";
}

/* --- it is made -----------------------------------------------------------------------------------------*/

static void new_life(void)
{
    p.state = COMES;
    p.now = NULL;
    p.vm->created = p.vm->recover = false;
    p.vm->committed = p.vm->applied = 0;
    memset(p.vm->holds, 0, sizeof p.vm->holds);
    p.vm->home = &world.edges[world.pair ? sim_below(WORLD_EDGES) : 0];
    world_passing_guest(p.vm, ++p.guests);
}

static void fill_disks(void)
{
    const struct world_vm *v = p.vm;

    for (unsigned d = 0; d < v->ndisks; d++) {
        struct sim_volume *volume = &world.volumes[v->disk + d];
        uint8_t *bytes = xmalloc(volume->n);

        guest_prepare(v->guest, d, bytes);
        sim_volume_fill(volume, bytes);
        free(bytes);
    }
}

static void look_whether_it_came(void)
{
    struct vm *vm;
    struct sim_edge *e = world_find_live(NAME, &vm);
    struct life *l = e ? find(vm->spec.id) : NULL;

    if (!l || is_dead(l)) {
        if (world.pair && !p.vm->asked) /* the edge that is asked may not know yet that the name is free */
            p.vm->home = &world.edges[sim_below(WORLD_EDGES)];
        return;
    }
    sim_say(&e->node, "%s begins its life %u", NAME, p.guests);
    p.state = STAYS;
    p.now = l;
    p.until = sim_now + sim_between(200, sim_chance(500000) ? 2000 : 10000) * SIM_MS;
    p.vm->created = true;
    p.vm->recover = false;
    memset(p.vm->holds, 0, sizeof p.vm->holds); /* what was lost meanwhile was not its */
    fill_disks();
    guest_target(p.vm->guest, &world.edges[0], world.pair ? &world.edges[1] : NULL);
    if (!world.storming && world.stormed)
        guest_more(p.vm->guest, 20);
}

/* --- it is deleted --------------------------------------------------------------------------------------*/

static void is_gone(void)
{
    p.state = IS_GONE;
    p.asked = false;
    p.until = sim_now + (sim_chance(500000) ? 0 : sim_below(8000) * SIM_MS);
}

static void on_deleted(void *arg, int status, const struct why *why)
{
    (void)arg;
    p.asked = false;
    sim_say(&p.edge->node, "%s is %s%s", NAME, status ? "not deleted: " : "deleted", status ? why->text : "");
    if (status)
        return;
    p.now->deleted = true;
    if (p.now->was && !p.now->deleting && has_objects(p.now))
        sim_violation("a VM was deleted, and its entry does not say so");
    is_gone();
}

static void on_ask(struct task *t)
{
    (void)t;
    vms_delete(p.edge->vms, NAME, true, on_deleted, NULL);
}

/* What is not answered, for its edge has died, is asked for again where the VM is then; or was done. */
static void go_on_deleting(void)
{
    struct vm *vm;
    struct sim_edge *e;

    if (p.asked)
        return;
    if (is_dead(p.now)) {
        is_gone();
        return;
    }
    e = world_find_live(NAME, &vm);
    if (!e || memcmp(vm->spec.id, p.now->id, sizeof p.now->id) != 0)
        return;
    p.edge = e;
    p.asked = true;
    sim_say(&e->node, "is asked to delete %s", NAME);
    p.task.run = on_ask;
    loop_post(e->main, &p.task);
}

static bool may_lose_disks(const struct sim_edge *e)
{
    const struct world_vm *first = &world.vms[0];

    return world.pair ? world_pair_may_lose(e) : first->created && !first->recover;
}

/* Whoever gets to a step of it. */
static void at_step(void *arg, struct sim_node *node, const char *name)
{
    struct sim_edge *e = container_of(node, struct sim_edge, node);

    if (!world.storming || (e != &world.edges[0] && e != &world.edges[1]))
        return;
    if (!sim_chance(400000) || !may_lose_disks(e)) {
        world_at_step(arg, node, name);
        return;
    }
    sim_say(node, "dies at the step %s", name);
    world_edge_dies(e, GUEST_LOST_DISKS);
}

static void begin_deletion(void)
{
    p.state = GOES;
    guest_end(p.vm->guest);
    if (sim_chance(STEP_PPM))
        world_arm_step("delete.", at_step);
    go_on_deleting();
}

/* --- an edge has lost its disks, and there is no other to go on -----------------------------------------*/

static void on_told(void *arg, const char *sentence)
{
    const struct sim_edge *e = arg;

    sim_say(&e->node, "%s", sentence);
}

static void on_swept(void *arg, int status, unsigned recovered, const struct why *why)
{
    const struct sim_edge *e = arg;

    p.sweeping = NULL;
    p.sweep = status != 0;
    sim_say(&e->node, "recovered %u of all: %s", recovered, status ? why->text : "good");
}

static void on_sweep(struct task *t)
{
    struct sim_edge *e = p.sweeping;

    (void)t;
    vms_recover(e->vms, NULL, UINT64_MAX, on_told, on_swept, e);
}

static bool may_sweep(const struct sim_edge *e)
{
    struct why why;

    if (world.pair)
        return e->ready && world_pair_is_member(e) && vms_admitted(e->vms, &why);
    return e == &world.edges[0] && e->ready && !world.vms[0].asked && !world.vms[0].recover;
}

static void sweep(void)
{
    for (unsigned i = 0; i < WORLD_EDGES && !p.sweeping; i++)
        if (may_sweep(&world.edges[i])) {
            p.sweeping = &world.edges[i];
            p.sweep_task.run = on_sweep;
            loop_post(p.sweeping->main, &p.sweep_task);
        }
}

void world_passing_is_left(void)
{
    p.sweep = true;
}

/* --- all the time ---------------------------------------------------------------------------------------*/

void world_passing_begin(struct world_vm *v)
{
    p.vm = v;
    snprintf(v->name, sizeof v->name, NAME);
    v->home = &world.edges[0];
    new_life();
}

void world_passing_look(void)
{
    if (!world.passes)
        return;
    if (p.state != STAYS && p.vm->recover) {
        p.vm->recover = false;
        p.sweep = true;
    }
    if (sim_now - p.looked_ns > SIM_S || p.nlives < 4) {
        p.looked_ns = sim_now;
        for (unsigned i = 0; i < p.nlives; i++)
            look_at(&p.lives[i]);
    }
    if (p.sweep_again_ns && sim_now > p.sweep_again_ns) {
        p.sweep_again_ns = 0;
        p.sweep = true;
    }
    if (p.sweep)
        sweep();
    if (p.state == COMES)
        look_whether_it_came();
    else if (p.state == STAYS && world.storming && sim_now > p.until && !p.vm->asked)
        begin_deletion();
    else if (p.state == GOES)
        go_on_deleting();
    else if (p.state == IS_GONE && sim_now > p.until)
        new_life();
}

void world_passing_lost(const struct sim_edge *e, enum guest_must must)
{
    if (!world.passes)
        return;
    if (p.edge == e)
        p.asked = false;
    if (e == p.sweeping)
        p.sweeping = NULL;
    p.sweep = p.sweep || (must == GUEST_LOST_DISKS && !world.pair);
    if (must == GUEST_LOST_DISKS)
        p.sweep_again_ns = sim_now + LATE_S * SIM_S;
}

bool world_passing_done(void)
{
    if (!world.passes)
        return true;
    for (unsigned i = 0; i < p.nlives; i++)
        if (&p.lives[i] != p.now && left_of(&p.lives[i]))
            return false;
    return p.state == STAYS && !p.sweep && !p.sweep_again_ns;
}

void world_passing_say_why_not(const char *phase)
{
    static const char *const states[] = {"being made", "there", "being deleted", "gone"};

    if (!world.passes || world_passing_done())
        return;
    sim_violation("%s: %s is %s%s", phase, NAME, states[p.state], p.sweep ? ", and to be recovered" : "");
    for (unsigned i = 0; i < p.nlives; i++) {
        const char *where = &p.lives[i] == p.now ? NULL : left_of(&p.lives[i]);

        if (where)
            sim_violation("%s: something of a VM that was deleted is left: %s has %s", phase, where,
                          p.lives[i].hex);
    }
}
