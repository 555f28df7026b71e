/* links: cache journal store */
/* A VM is made at an edge that believes it is a member of its pair. If the other edge has gone on without it,
 * that has looked already for what it takes over, and nobody would serve the VM.
 */
#include "commit_fixture.h"
#include "no_link_fixture.h"

#include "keep.h"
#include "link.h"
#include "pair_impl.h"
#include "proto.h"
#include "ram.h"
#include "vms_far.h"
#include "vms_pair_impl.h"

enum { ONE = 1, OTHER = 2 }; /* edges */

/* --- a link: on-prem daemons tell how large disks are ---------------------------------------------------*/

void link_call(struct peer *p, struct link_call *c)
{
    struct proto_stat stat = {.name = "disk", .bytes = 1 << 20, .block_bytes = 512};

    (void)p;
    CHECK(c->type == PROTO_DISK_STAT);
    c->status = 0;
    c->reply = proto_put_stat(&stat);
    c->done(c);
}

void link_call_cancel(struct link_call *c)
{
    (void)c;
    CHECK(false);
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    (void)p, (void)type, (void)body, (void)len;
    CHECK(false);
}

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    (void)r, (void)status, (void)why, (void)iov, (void)niov;
    CHECK(false);
}

/* --- an edge --------------------------------------------------------------------------------------------*/

static struct edge {
    struct world *w;
    struct ram *ram;
    unsigned writeback_slots;
    struct vms *vms;
    struct lease_gate gate;
    struct pair arbiter;
    struct vms_pair pair;
    sem_t created, closed;
    bool is_there;
} e;

static void wait_sem(sem_t *s)
{
    while (sem_wait(s) < 0)
        ;
}

static void put_record(const struct arbiter *a)
{
    const uint8_t salt[AEAD_SALT_BYTES] = {5};
    uint8_t bytes[ARBITER_BYTES];
    struct iovec iov = {bytes, sizeof bytes};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = "pairs/zone"};

    arbiter_seal(&e.w->master, "zone", salt, a, bytes);
    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(e.w->store, &r, NULL), 0);
}

/* What the record says, and this edge may not have heard. */
static void both_are_members(bool this_too)
{
    const uint8_t change[16] = {1}, one[ARBITER_WRITER_BYTES] = {ONE}, other[ARBITER_WRITER_BYTES] = {OTHER};
    struct arbiter_edge me = {"zone-1", one, 1}, it = {"zone-2", other, 1};
    struct arbiter a;

    arbiter_first(&a, &me, change);
    arbiter_join(&a, &me, &it, change);
    if (!this_too)
        arbiter_alone(&a, &it, change);
    put_record(&a);
}

static void make_room(void *arg, const uint8_t id[VMLOG_ID_BYTES],
                      void (*done)(void *arg, int status, const struct why *), void *done_arg)
{
    (void)arg, (void)id, (void)done, (void)done_arg;
    CHECK(false);
}

static void start_edge(void)
{
    struct vms_conf conf = {.journal = e.w->f->journal,
                            .main = e.w->f->loop,
                            .loops = &e.w->f->loop,
                            .nloops = 1,
                            .rams = &e.ram,
                            .stores = &e.w->store,
                            .slots = &e.w->slots,
                            .writeback_slots = &e.writeback_slots,
                            .worker = e.w->worker,
                            .spool = e.w->f->dir,
                            .master = e.w->master,
                            .writer = {ONE},
                            .commit_age_ms = 3600000,
                            .commit_bytes = UINT64_MAX,
                            .iqn_prefix = "iqn.2026-11.org.isthmus",
                            .tiers = "",
                            .gate = &e.gate};
    struct keep_conf keep = {
        .journal = conf.journal, .main = conf.main, .loops = conf.loops, .nloops = 1, .make_room = make_room};

    if (vms_open(&e.vms, &conf, &e.w->f->why) != 0)
        fail_msg("%s", e.w->f->why.text);
    e.arbiter = (struct pair){.conf = {.loop = conf.main, .gate = &e.gate}, .role = PAIR_BOTH};
    e.pair = (struct vms_pair){.vms = e.vms, .name = "zone", .self = "zone-1", .pair = &e.arbiter};
    e.pair.age_ms = conf.commit_age_ms;
    e.pair.keep = keep_new(&keep);
    e.pair.far = vms_far_new(e.vms, NULL);
    TAILQ_INIT(&e.pair.rooms);
    TAILQ_INIT(&e.pair.leaving);
    e.vms->pair = &e.pair;
    e.vms->admission.entered = true;
}

static void make_ram(struct fixture *f, void *arg)
{
    (void)arg;
    e.ram = ram_new(f->loop, 1 << 20);
}

static void free_ram(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    ram_free(&e.ram);
}

static void new_edge(void)
{
    e = (struct edge){.w = world_new()};
    sem_init(&e.created, 0, 0);
    sem_init(&e.closed, 0, 0);
    on_loop(e.w->f, make_ram, NULL);
    start_edge();
}

static void on_edge_closed(void *arg)
{
    (void)arg;
    sem_post(&e.closed);
}

static void close_edge(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_close(e.vms, on_edge_closed, NULL);
}

static void end_edge(void)
{
    on_loop(e.w->f, close_edge, NULL);
    wait_sem(&e.closed);
    keep_free(&e.pair.keep);
    vms_far_free(&e.pair.far);
    on_loop(e.w->f, free_ram, NULL);
    world_free(e.w);
    sem_destroy(&e.created);
    sem_destroy(&e.closed);
}

static void on_created(void *arg, struct vm *vm, const struct why *why)
{
    (void)arg, (void)why;
    e.is_there = vm != NULL;
    sem_post(&e.created);
}

static void ask_for_it(struct fixture *f, void *arg)
{
    struct vm_spec spec = {.name = "web-1",
                           .storage = WB_CLOUD_PERSIST,
                           .ndisks = 2, /* nobody on-prem has to hold them both */
                           .disks = {{.onprem = "dc1", .disk = "disk"}, {.onprem = "dc2", .disk = "disk"}}};

    (void)f, (void)arg;
    vms_create(e.vms, &spec, on_created, NULL);
}

static void create(void)
{
    on_loop(e.w->f, ask_for_it, NULL);
    wait_sem(&e.created);
}

static int count(void *arg, const uint8_t id[VMLOG_ID_BYTES])
{
    (void)id;
    ++*(unsigned *)arg;
    return 0;
}

/* VMs that the store knows of, but for the one of the fixture. */
static unsigned in_store(void)
{
    struct vm_store s = vm_store_of(e.vms);
    unsigned n = 0;

    assert_int_equal(vm_store_each(&s, count, &n, &e.w->f->why), 0);
    return n - 1;
}

static void nothing(struct work *w)
{
    (void)w;
}

static void done(struct work *w)
{
    (void)w;
    sem_post(&e.created);
}

/* The worker has done what it had. */
static void let_it_be_erased(void)
{
    struct work w = {.run = nothing, .done = done};

    worker_do(e.w->worker, e.w->f->loop, &w);
    wait_sem(&e.created);
}

/* --- the tests ------------------------------------------------------------------------------------------*/

static void a_member_makes_it(void **state)
{
    (void)state;
    new_edge();
    both_are_members(true);
    create();
    assert_true(e.is_there);
    assert_int_equal(in_store(), 1);
    end_edge();
}

static void one_that_was_left_does_not(void **state)
{
    (void)state;
    new_edge();
    both_are_members(false);
    create();
    assert_false(e.is_there);
    let_it_be_erased();
    assert_int_equal(in_store(), 0);
    end_edge();
}

static struct timer later;

static void on_later(struct timer *timer)
{
    timer_free(timer);
    sem_post(&e.created);
}

static void set_timer(struct fixture *f, void *arg)
{
    (void)arg;
    timer_init(&later, f->loop, on_later);
    timer_set_ms(&later, 1);
}

/* What was to be done at once was done: timers keep their order. */
static void let_it_look(void)
{
    on_loop(e.w->f, set_timer, NULL);
    wait_sem(&e.created);
}

static void begin_recovery(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    e.vms->recovering = true;
}

static void end_recovery(struct fixture *f, void *arg)
{
    struct vm theirs = {
        .spec = {.name = "web-1", .iqn = "iqn.2026-11.org.isthmus:theirs", .id = "another VM's id"},
        .loop = f->loop,
        .in.vms = e.vms};

    (void)arg;
    vms_far_adopt(e.vms, &theirs);
    e.vms->recovering = false;
}

/* What is being taken over may have that very name. */
static void one_waits_until_it_is_known_which_names_are_taken(void **state)
{
    (void)state;
    new_edge();
    both_are_members(true);
    on_loop(e.w->f, begin_recovery, NULL);
    on_loop(e.w->f, ask_for_it, NULL);
    let_it_look();
    on_loop(e.w->f, end_recovery, NULL);
    wait_sem(&e.created);
    assert_false(e.is_there);
    let_it_be_erased();
    assert_int_equal(in_store(), 0);
    end_edge();
}

static bool is_taken;

static void look_at_name(struct fixture *f, void *arg)
{
    const struct vm_spec spec = {.name = "web-1", .iqn = "iqn.2026-11.org.isthmus:theirs"};

    (void)f, (void)arg;
    is_taken = vms_creates_name(e.vms, &spec);
}

/* Who waits has no name yet: else what is taken over could not have it. */
static void while_it_waits_the_name_is_free(void **state)
{
    (void)state;
    new_edge();
    both_are_members(true);
    on_loop(e.w->f, begin_recovery, NULL);
    on_loop(e.w->f, ask_for_it, NULL);
    let_it_look();
    on_loop(e.w->f, look_at_name, NULL);
    assert_false(is_taken);
    on_loop(e.w->f, end_recovery, NULL);
    wait_sem(&e.created);
    end_edge();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_makes_it),
        cmocka_unit_test(one_that_was_left_does_not),
        cmocka_unit_test(one_waits_until_it_is_known_which_names_are_taken),
        cmocka_unit_test(while_it_waits_the_name_is_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
