/* links: cache pki */
/* Two edges' memories with a link between them: what a VM has left in the one's (remains.h) and the tier of
 * the other that asks for it. Below that tier is "far", which always knows what the disk is now, and counts
 * who had to ask it.
 */
#include "check.h"
#include "link.h"
#include "mem.h"
#include "metric.h"
#include "pki.h"
#include "proto_pair.h"
#include "ram.h"
#include "remains.h"
#include "tier_peer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 4096, BUDGET = 4 << 20, NUMBER = 3, EPOCH = 7, SEQ = 500, PATIENT_MS = 60000 };

static char *pki;
static struct loop *loop;
static struct link *owner, *other; /* the VM's now; and of the edge that had it */
static struct ram *owner_ram, *other_ram;
static struct tier *had, *has,
    *asks; /* the disk at the other, at the owner, and in that stack what is tested */
static struct remains *remains;
static struct remains_vm left;
static atomic_uint under_way;
static unsigned out; /* of remains_request */
static bool hold;    /* a question is not looked at */
static struct link_request *held;
static unsigned questions;
static uint32_t version[BLOCKS]; /* of what the disk is; 0: zeros */

/* --- the loop, run until something is so ---------------------------------------------------------------*/

static struct {
    struct timer poll;
    bool (*so)(void);
    uint64_t end_ns;
    bool ok, runs;
} wait;

static void on_poll(struct timer *t)
{
    wait.ok = wait.so();
    if (wait.ok || loop_now_ns(loop) >= wait.end_ns)
        loop_stop(loop);
    else
        timer_set_ms(t, 1);
}

static void until(bool (*so)(void))
{
    wait.so = so;
    wait.ok = so();
    if (wait.ok)
        return;
    wait.end_ns = loop_now_ns(loop) + 30 * UINT64_C(1000000000);
    timer_set_ms(&wait.poll, 0);
    wait.runs = true;
    loop_run(loop);
    wait.runs = false;
    timer_stop(&wait.poll);
    assert_true(wait.ok);
}

/* --- what is far: all of the disk as it is now ---------------------------------------------------------*/

static struct far {
    struct tier tier;
    uint64_t blocks;
    unsigned promoted;
    struct block_req *kept; /* the last one, if */
    bool keep;              /* it is not to be answered at once */
} far;

static void far_fill(const struct block_req *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        uint64_t block = r->first + i;
        uint8_t *p = r->blocks[i]->data;

        r->blocks[i]->zero = version[block] == 0;
        for (unsigned at = 0; at < BLOCK_BYTES && version[block]; at += 16) {
            memcpy(p + at, &block, 8);
            memcpy(p + at + 8, &version[block], 4);
            memcpy(p + at + 12, &at, 4);
        }
    }
}

static bool far_read(struct tier *t, struct block_req *r)
{
    struct far *f = container_of(t, struct far, tier);

    f->blocks += r->count;
    if (f->keep) {
        f->kept = r;
        return false;
    }
    far_fill(r);
    r->status = 0;
    return true;
}

static void far_promote(struct tier *t, struct block_req *r)
{
    struct far *f = container_of(t, struct far, tier);

    assert_ptr_equal(r, f->kept);
    f->promoted++;
}

static void far_free(struct tier *t)
{
    (void)t;
}

static const struct tier_ops far_ops = {
    .name = "far", .read = far_read, .promote = far_promote, .free = far_free};

/* --- both edges ----------------------------------------------------------------------------------------*/

static void begin(void *arg)
{
    (void)arg;
    out++;
}

static void end(void *arg)
{
    (void)arg;
    out--;
}

static void look_at(struct link_request *r)
{
    remains_request(remains, r, begin, end, NULL);
}

static void on_request(void *arg, struct link_request *r)
{
    (void)arg;
    assert_int_equal(r->type, PROTO_REMAINS_READ);
    assert_int_equal(r->class, LINK_PREFETCH);
    questions++;
    if (hold)
        held = r;
    else
        look_at(r);
}

static void open_end(struct link **link, const char *name, const char *twin, bool listens)
{
    CLEANUP_FREE char *crt = xasprintf("%s/%s.crt", pki, name), *key = xasprintf("%s/%s.key", pki, name),
                      *ca = xasprintf("%s/ca.crt", pki);
    struct link_conf conf = {.role = "edge",
                             .peer_role = "onprem",
                             .certificate = crt,
                             .key = key,
                             .ca = ca,
                             .listen = listens ? "127.0.0.1:0" : NULL,
                             .twin = twin};
    struct link_handlers handlers = {.request = on_request};
    struct why why;

    if (link_new(link, loop, &conf, &handlers, &why))
        fail_msg("%s", why.text);
}

static bool are_up(void)
{
    return peer_up(link_peer(owner, "edge-b")) && peer_up(link_peer(other, "edge-a"));
}

static struct tier_peer_conf conf_of(unsigned wait_ms)
{
    struct tier_peer_conf c = {.loop = loop,
                               .link_loop = loop,
                               .next = &far.tier,
                               .peer = link_peer(owner, "edge-b"),
                               .under_way = &under_way,
                               .wait_ms = wait_ms,
                               .epoch = EPOCH + 1,
                               .seq = SEQ,
                               .disk = NUMBER,
                               .nblocks = BLOCKS,
                               .vm = "vm1"};

    memset(c.id, 9, sizeof c.id);
    return c;
}

static bool idle;

static void on_idle(void *arg)
{
    (void)arg;
    idle = true;
}

static bool is_idle(void)
{
    return idle;
}

/* As a volume does. */
static void close_tiers(struct tier **t)
{
    idle = false;
    tier_stack_quiesce(*t);
    tier_ram_stop(*t, on_idle, NULL);
    until(is_idle);
    tier_stack_free(t);
}

static void close_has(void)
{
    close_tiers(&has);
}

static void open_has(const struct tier_peer_conf *c)
{
    asks = tier_peer_new(c);
    has = tier_ram_new(owner_ram, asks, 0, BLOCKS, NULL, "vm1");
}

static int setup(void **state)
{
    struct tier_peer_conf c;
    char address[40];
    struct why why;

    (void)state;
    pki = pki_new();
    pki_ca(pki, "ca");
    pki_issue(pki, "ca", "a", "edge-a", "edge", -60, 3600);
    pki_issue(pki, "ca", "b", "edge-b", "edge", -60, 3600);
    loop = loop_new("main");
    timer_init(&wait.poll, loop, on_poll);
    open_end(&owner, "a", "edge-b", false);
    open_end(&other, "b", "edge-a", true);
    snprintf(address, sizeof address, "127.0.0.1:%u", link_port(other));
    assert_int_equal(link_dial(owner, link_peer(owner, "edge-b"), address, 1, &why), 0);
    until(are_up);
    for (unsigned i = 0; i < BLOCKS; i++)
        version[i] = i % 5 ? 1 : 0;
    far = (struct far){.tier = {.ops = &far_ops, .loop = loop}};
    owner_ram = ram_new(loop, BUDGET);
    other_ram = ram_new(loop, BUDGET);
    had = tier_ram_new(other_ram, &far.tier, 0, BLOCKS, NULL, "vm1");
    c = conf_of(PATIENT_MS);
    open_has(&c);
    remains = remains_new(loop);
    questions = out = 0;
    under_way = 0;
    hold = false;
    return 0;
}

static bool nothing_is_out(void)
{
    return !out && !under_way;
}

static int teardown(void **state)
{
    (void)state;
    until(nothing_is_out);
    close_has();
    close_tiers(&had);
    link_free(&owner);
    link_free(&other);
    loop_stop(loop); /* what was posted runs */
    loop_run(loop);
    remains_free(&remains);
    ram_free(&owner_ram);
    ram_free(&other_ram);
    timer_free(&wait.poll);
    loop_free(&loop);
    pki_remove(&pki);
    return 0;
}

/* --- reads ---------------------------------------------------------------------------------------------*/

static struct {
    struct block_req req;
    struct block *blocks[256];
    bool done;
} one;

static void on_done(struct block_req *r)
{
    assert_ptr_equal(r, &one.req);
    one.done = true;
    wait.ok = wait.runs && wait.so();
    if (wait.ok)
        loop_stop(loop);
}

static bool is_done(void)
{
    return one.done;
}

static void ask(struct tier *t, uint64_t first, uint32_t count, enum tier_class class)
{
    memset(&one, 0, sizeof one);
    one.req = (struct block_req){
        .first = first, .count = count, .class = class, .blocks = one.blocks, .done = on_done};
    one.done = tier_read(t, &one.req);
}

/* What was read is what the disk is now. */
static void look(void)
{
    uint8_t want[BLOCK_BYTES];
    struct block b = {.data = want}, *blocks[] = {&b};

    until(is_done);
    assert_int_equal(one.req.status, 0);
    for (uint32_t i = 0; i < one.req.count; i++) {
        const struct block_req r = {.first = one.req.first + i, .count = 1, .blocks = blocks};

        memset(want, 0, sizeof want);
        far_fill(&r);
        assert_memory_equal(one.blocks[i]->data, want, sizeof want);
        block_unref(one.blocks[i]);
    }
}

static void read_at(struct tier *t, uint64_t first, uint32_t count)
{
    ask(t, first, count, TIER_DEMAND);
    look();
}

/* The VM goes to the owner, as it is. Far has not been asked by anybody yet. */
static void hand_over(uint64_t sectors)
{
    memset(&left, 0, sizeof left);
    memset(left.id, 9, sizeof left.id);
    left.epoch = EPOCH;
    left.seq = SEQ;
    left.loop = loop;
    left.disks[NUMBER] = tier_ram_remains(had, sectors / BLOCK_SECTORS);
    remains_add(remains, &left);
    far.blocks = 0;
}

static void write_at(struct tier *t, uint64_t block)
{
    uint8_t data[BLOCK_BYTES];
    struct block b = {.data = data}, *blocks[] = {&b};
    const struct block_req r = {.first = block, .count = 1, .blocks = blocks};

    if (t == has)
        tier_peer_written(asks, block * BLOCK_SECTORS, BLOCK_SECTORS);
    version[block]++;
    far_fill(&r);
    tier_ram_written(t, block * BLOCK_SECTORS, BLOCK_SECTORS, data);
}

static uint64_t count(const char *name)
{
    return metric_sum(name, "");
}

static bool is_held(void)
{
    return held != NULL;
}

static bool is_far_asked(void)
{
    return far.kept != NULL;
}

/* --- tests ---------------------------------------------------------------------------------------------*/

static void what_was_left_there_is_not_asked_of_what_is_far(void **state)
{
    (void)state;
    read_at(had, 0, 200);
    write_at(had, 30); /* the disk as it went, not as it was once read */
    write_at(had, 300);
    hand_over(BLOCKS * BLOCK_SECTORS);
    read_at(has, 0, 200);
    read_at(has, 300, 1);
    assert_int_equal(far.blocks, 0);
    assert_int_equal(count("isthmus_peer_cache_asked_total"), 201);
    assert_int_equal(count("isthmus_peer_cache_hits_total"), 201);
    assert_true(count("isthmus_peer_cache_bytes_total") > 100 * BLOCK_BYTES);
    read_at(has, 0, 200);
    assert_int_equal(questions, 4 + 1); /* it is here now */
}

static void the_rest_comes_from_far(void **state)
{
    (void)state;
    read_at(had, 10, 5);
    read_at(had, 20, 1);
    hand_over(BLOCKS * BLOCK_SECTORS);
    read_at(has, 0, 40);
    assert_int_equal(far.blocks, 34);
    assert_int_equal(count("isthmus_peer_cache_hits_total"), 6);
}

/* What is evicted from the owner's memory must not come back as it was. */
static void what_was_written_since_is_not_asked_for(void **state)
{
    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    tier_peer_written(asks, 5 * BLOCK_SECTORS + 7, 2); /* of blocks 5 and 6, */
    version[5]++;
    version[6]++;
    tier_peer_written(asks, 50 * BLOCK_SECTORS, UINT32_MAX); /* and to the end */
    for (unsigned i = 50; i < BLOCKS; i++)
        version[i]++;
    read_at(has, 0, 64);
    assert_int_equal(far.blocks, 2 + 14);
    read_at(has, 2000, 20);
    assert_int_equal(questions, 1); /* there is nothing to be asked for */
}

static void what_is_written_while_an_answer_is_on_its_way_counts(void **state)
{
    (void)state;
    read_at(had, 0, 8);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    ask(has, 0, 8, TIER_DEMAND);
    until(is_held);
    write_at(has, 3);
    look_at(held);
    look();
    assert_int_equal(far.blocks, 1); /* asked for block 3, for nothing: the write is what is read */
}

static void of_another_record_or_epoch_nothing_is_here(void **state)
{
    struct tier_peer_conf c[] = {conf_of(PATIENT_MS), conf_of(PATIENT_MS), conf_of(PATIENT_MS),
                                 conf_of(PATIENT_MS), conf_of(PATIENT_MS)};
    const unsigned n = sizeof c / sizeof *c;

    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 0; i < BLOCKS; i++) /* so that it would be seen */
        version[i]++;
    c[0].seq = SEQ + 1;
    c[1].epoch = EPOCH;
    c[2].epoch = EPOCH + 2;
    c[3].disk = NUMBER + 1;
    c[4].id[0] = 8;
    for (unsigned i = 0; i < n; i++) {
        close_has();
        open_has(&c[i]);
        read_at(has, 0, 64);
        assert_int_equal(questions, i + 1);
    }
    assert_int_equal(far.blocks, n * 64);
    close_has(); /* and the right ones, when it is forgotten */
    c[0].seq = SEQ;
    open_has(&c[0]);
    remains_forget(remains, left.id);
    read_at(has, 0, 64);
    assert_int_equal(far.blocks, (n + 1) * 64);
}

/* It was padded with zeros: of a disk that has grown it would be wrong. */
static void a_block_that_was_not_whole_is_not_here(void **state)
{
    (void)state;
    read_at(had, 0, 12);
    hand_over(11 * BLOCK_SECTORS + 1);
    version[11]++;
    read_at(has, 0, 12);
    assert_int_equal(far.blocks, 1);
}

static void an_edge_that_dies_under_way_is_not_waited_for(void **state)
{
    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    ask(has, 0, 64, TIER_DEMAND);
    until(is_held);
    link_free(&other);
    look();
    assert_int_equal(far.blocks, 64);
    read_at(has, 64, 64); /* nor asked */
    assert_int_equal(far.blocks, 128);
    assert_int_equal(questions, 1);
    link_reply(&held, 0, NULL, NULL, 0); /* to nobody */
}

static void who_is_late_is_not_waited_for(void **state)
{
    struct tier_peer_conf c = conf_of(5);

    (void)state;
    close_has();
    open_has(&c);
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    far.keep = true;
    ask(has, 0, 64, TIER_PREFETCH);
    until(is_held);
    until(is_far_asked);
    assert_int_equal(count("isthmus_peer_cache_late_total"), 1);
    assert_int_equal(far.kept->class, TIER_PREFETCH);
    tier_promote(has, &one.req);
    assert_int_equal(far.promoted, 1);
    look_at(held); /* it has them all, */
    until(nothing_is_out);
    assert_false(one.done);
    for (unsigned i = 0; i < 64; i++) /* and they are of no use any more */
        version[i]++;
    far_fill(far.kept);
    far.kept->status = 0;
    far.kept->done(far.kept);
    look();
}

static void who_has_little_is_asked_less(void **state)
{
    (void)state;
    read_at(had, 0, 1);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 1000; i < 3000; i++)
        read_at(has, i, 1);
    assert_in_range(questions, 8, 14);
    assert_int_equal(far.blocks, 2000);
    read_at(had, 3000, 200); /* in a real one nothing comes; here it has much all at once */
    far.blocks = 0;
    for (unsigned i = 3000; i < 3200; i++)
        read_at(has, i, 1);
    assert_true(far.blocks < 100);
}

static void a_disk_that_goes_waits_for_nobody(void **state)
{
    (void)state;
    read_at(had, 0, 64);
    hand_over(BLOCKS * BLOCK_SECTORS);
    hold = true;
    held = NULL;
    ask(has, 0, 64, TIER_DEMAND);
    until(is_held);
    tier_stack_quiesce(has);
    until(is_done);
    assert_int_equal(one.req.status, -ECANCELED);
    assert_int_equal(far.blocks, 0);
    look_at(held);
}

static void on_nothing(struct block_req *r)
{
    block_unref(r->blocks[0]);
}

static bool are_asked(void)
{
    return questions == 32;
}

static void few_questions_are_under_way(void **state)
{
    struct block *blocks[50] = {NULL};
    struct block_req reqs[50];

    (void)state;
    read_at(had, 0, 50);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 0; i < 50; i++) {
        reqs[i] = (struct block_req){.first = i, .count = 1, .blocks = &blocks[i], .done = on_nothing};
        if (tier_read(has, &reqs[i]))
            block_unref(blocks[i]);
    }
    assert_int_equal(far.blocks, 50 - 32);
    assert_int_equal(under_way, 32);
    until(are_asked);
    until(nothing_is_out);
    under_way = 64; /* by other disks */
    read_at(has, 100, 1);
    assert_int_equal(questions, 32);
    under_way = 0;
}

static void make_room(struct tier *noise, uint64_t first, uint32_t n)
{
    ask(noise, first, n, TIER_DEMAND);
    until(is_done);
    for (uint32_t i = 0; i < n; i++)
        block_unref(one.blocks[i]);
}

/* Reads and writes of a disk at its new owner, whose memory is small, in any order; the other's forgets. */
static void it_is_never_as_it_was(void **state)
{
    struct tier *noise = tier_ram_new(other_ram, &far.tier, 1, BLOCKS, NULL, "vm2");
    uint64_t random = 42;

    (void)state;
    for (unsigned i = 0; i < 1000; i += 100)
        read_at(had, i, 100);
    hand_over(BLOCKS * BLOCK_SECTORS);
    for (unsigned i = 0; i < 4000; i++) {
        unsigned at, n;

        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        at = (unsigned)(random >> 40) % 1200;
        n = 1 + (unsigned)(random >> 33) % 100;
        if (i % 4 == 0)
            write_at(has, at);
        else
            read_at(has, i % 16 == 1 ? at + 1200 : at, n);
        if (i % 64 == 0)
            make_room(noise, at, 20);
    }
    assert_true(count("isthmus_peer_cache_hits_total") > 1000);
    close_tiers(&noise);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_left_there_is_not_asked_of_what_is_far, setup, teardown),
        cmocka_unit_test_setup_teardown(the_rest_comes_from_far, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_written_since_is_not_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_written_while_an_answer_is_on_its_way_counts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(of_another_record_or_epoch_nothing_is_here, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_that_was_not_whole_is_not_here, setup, teardown),
        cmocka_unit_test_setup_teardown(an_edge_that_dies_under_way_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_late_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_little_is_asked_less, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_goes_waits_for_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(few_questions_are_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_never_as_it_was, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
