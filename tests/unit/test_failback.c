/* links: control */
/* When a VM is handed to the edge that it prefers, and when it is not; what is said of it. The pair, the
 * catalog and the tasks are the test's. */
#include "check.h"
#include "failback.h"
#include "fake_loop.h"
#include "mem.h"
#include "vms_pair.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { VMS = 4, AFTER_S = 60 };
#define SECOND UINT64_C(1000000000)

static struct fake_loop loop;
static struct failback *failback;
static struct vm *vms[VMS];
static struct pair_status pair;
static bool calm;

void vms_each(struct vms *none, void (*each)(void *arg, struct vm *), void *arg)
{
    (void)none;
    for (int i = 0; i < VMS; i++)
        if (vms[i])
            each(arg, vms[i]);
}

bool vms_pair_status(const struct vms *none, struct pair_status *s)
{
    (void)none;
    *s = pair;
    return true;
}

bool vms_pair_whole(const struct vms *none, struct why *why)
{
    (void)none;
    if (pair.role != PAIR_BOTH)
        why_set(why, 0, "the pair is not whole");
    return pair.role == PAIR_BOTH;
}

bool vms_pair_calm(const struct vms *none, struct why *why)
{
    (void)none;
    if (!calm)
        why_set(why, 0, "the other does not answer");
    return calm;
}

/* --- tasks: the newest is under way, or has ended */

static struct tasks_info task, another;
static int refusal;
static struct {
    struct task post;
    void (*done)(void *arg, uint64_t id, int status, const struct why *);
    void *arg;
} asking;
static unsigned asked;

static void on_asked(struct task *t)
{
    struct why why = {"it is busy"};

    (void)t;
    asking.done(asking.arg, refusal ? 0 : task.id, refusal, &why);
}

void tasks_start(struct tasks *ts, const struct vm_verb_ask *ask,
                 void (*done)(void *arg, uint64_t id, int status, const struct why *), void *arg)
{
    (void)ts;
    asked++;
    task = (struct tasks_info){.id = asked, .ask = *ask, .state = TASK_RUNNING};
    asking.done = done;
    asking.arg = arg;
    asking.post.run = on_asked;
    loop_post(&loop.loop, &asking.post);
}

bool tasks_get(const struct tasks *ts, uint64_t id, struct tasks_info *info)
{
    (void)ts;
    *info = task;
    return id == task.id;
}

void tasks_each(const struct tasks *ts, void (*each)(void *arg, const struct tasks_info *), void *arg)
{
    (void)ts;
    if (another.id)
        each(arg, &another);
    if (task.id && !refusal)
        each(arg, &task);
}

/* --- */

static struct vm *make(int i, const char *name, const char *prefers, uint64_t epoch)
{
    struct vm *vm = vms[i] = xcalloc(1, sizeof *vm);

    snprintf(vm->spec.name, sizeof vm->spec.name, "%s", name);
    snprintf(vm->spec.prefers, sizeof vm->spec.prefers, "%s", prefers);
    vm->spec.id[0] = (uint8_t)(i + 1);
    vm->spec.epoch = epoch;
    return vm;
}

static void drop(int i)
{
    free(vms[i]);
    vms[i] = NULL;
}

static void start(bool on)
{
    struct failback_conf conf = {.main = &loop.loop, .on = on, .after_ns = AFTER_S * SECOND};

    failback = failback_new(&conf);
}

static int set_up(void **state)
{
    (void)state;
    fake_loop_init(&loop, 1);
    loop.now_ns = SECOND;
    pair = (struct pair_status){.self = "edge-a", .other = "edge-b", .role = PAIR_BOTH, .epoch = 3};
    calm = true;
    asked = 0;
    refusal = 0;
    memset(&task, 0, sizeof task);
    memset(&another, 0, sizeof another);
    start(true);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    failback_stop(failback);
    failback_free(&failback);
    for (int i = 0; i < VMS; i++)
        drop(i);
    return 0;
}

static void pass(unsigned seconds)
{
    uint64_t until = loop.now_ns + seconds * SECOND;

    while (loop.now_ns < until)
        assert_true(fake_run_timer(&loop));
}

static void end(enum tasks_state state, const char *sentence)
{
    task.state = state;
    why_set(&task.text, 0, "%s", sentence);
}

static void assert_why(const struct vm *vm, const char *part)
{
    struct why why;

    failback_why(failback, vm, &why);
    if (*part ? !strstr(why.text, part) : *why.text)
        fail_msg("not '%s' but '%s'", part, why.text);
}

static void one_after_the_other_when_all_is_calm(void **state)
{
    (void)state;
    make(0, "stays", "edge-a", 1);
    make(1, "first", "edge-b", 1);
    make(2, "any", "", 1);
    make(3, "second", "edge-b", 1);
    pass(1);
    assert_why(vms[0], "");
    assert_why(vms[1], "for 60 s more");
    assert_why(vms[2], "");
    pass(AFTER_S - 5);
    assert_int_equal(asked, 0);
    pass(5);
    assert_int_equal(asked, 1);
    assert_int_equal(task.ask.kind, VERB_HAND_OVER);
    assert_string_equal(task.ask.vm, "first");
    assert_why(vms[1], "task 1");
    assert_why(vms[3], "its turn");
    pass(AFTER_S);
    assert_int_equal(asked, 1);
    end(TASK_DONE, "");
    drop(1);
    pass(1);
    assert_int_equal(asked, 2);
    assert_string_equal(task.ask.vm, "second");
    end(TASK_DONE, "");
    drop(3);
    pass(10 * AFTER_S);
    assert_int_equal(asked, 2);
}

static void not_while_anything_stirs(void **state)
{
    (void)state;
    make(0, "vm", "edge-b", 1);
    for (int i = 0; i < 3; i++) {
        pass(AFTER_S - 5);
        calm = false;
        pass(1);
        assert_why(vms[0], "does not answer");
        calm = true;
    }
    pass(AFTER_S - 5);
    another = (struct tasks_info){.id = 99, .ask = {.kind = VERB_HAND_OVER}, .state = TASK_RUNNING};
    pass(AFTER_S);
    assert_int_equal(asked, 0);
    another.state = TASK_DONE;
    pass(1);
    assert_int_equal(asked, 1);
}

static void who_is_refused_comes_again_later(void **state)
{
    unsigned n = 1;

    (void)state;
    make(0, "vm", "edge-b", 1);
    make(1, "next", "edge-b", 1);
    pass(AFTER_S + 2);
    assert_int_equal(asked, n);
    end(TASK_FAILED, "commands of VM vm do not end");
    pass(1);
    assert_why(vms[0], "do not end");
    assert_int_equal(asked, ++n); /* the other one's turn */
    assert_string_equal(task.ask.vm, "next");
    end(TASK_DONE, "");
    drop(1);
    for (unsigned rest = AFTER_S; rest < 1000; rest *= 2) {
        pass(rest - 5);
        assert_int_equal(asked, n);
        pass(5);
        assert_int_equal(asked, ++n);
        refusal = n % 2 ? -EBUSY : 0; /* its task begins, or does not; of the next */
        end(TASK_FAILED, "commands of VM vm do not end");
        pass(1);
    }
    pass(24 * 3600);
    assert_true(asked < n + 30); /* an hour at most */
    assert_true(asked > n + 20);
}

static void what_was_done_by_command_counts(void **state)
{
    (void)state;
    pass(AFTER_S);
    make(0, "made", "edge-b", 0);
    make(1, "handed", "edge-b", 5);
    pass(1);
    assert_int_equal(asked, 1);
    assert_string_equal(task.ask.vm, "made");
    end(TASK_CANCELLED, "");
    pass(10 * AFTER_S);
    assert_int_equal(asked, 1);
    assert_why(vms[0], "cancelled");
    assert_why(vms[1], "by command");
    snprintf(vms[1]->spec.prefers, sizeof vms[1]->spec.prefers, "edge-a");
    pass(1);
    assert_why(vms[1], "");
    snprintf(vms[1]->spec.prefers, sizeof vms[1]->spec.prefers, "edge-b");
    pass(1);
    assert_int_equal(asked, 2);
    end(TASK_CANCELLED, "");
    pass(1);
    pair.epoch += 2; /* an edge was lost, and taken in */
    pass(AFTER_S - 5);
    assert_int_equal(asked, 2);
    pass(6);
    assert_int_equal(asked, 3);
    end(TASK_DONE, "");
    drop(0);
    pass(1);
    assert_int_equal(asked, 4);
}

/* vm prefer, which ends at once. */
static void prefer(struct vm *vm, const char *edge)
{
    snprintf(vm->spec.prefers, sizeof vm->spec.prefers, "%s", edge);
    another = (struct tasks_info){.id = another.id + 1, .ask = {.kind = VERB_PREFER}, .state = TASK_DONE};
    memcpy(another.ask.vm, vm->spec.name, sizeof another.ask.vm);
}

/* Each of two that come between two looks. */
static void what_is_preferred_again_counts(void **state)
{
    (void)state;
    pass(AFTER_S);
    prefer(make(0, "vm", "", 5), "edge-b");
    pass(AFTER_S); /* what was said before it came here does not */
    assert_why(vms[0], "by command");
    assert_int_equal(asked, 0);
    prefer(vms[0], "edge-a");
    prefer(vms[0], "edge-b");
    pass(1);
    assert_int_equal(asked, 1);
    end(TASK_FAILED, "commands of VM vm do not end");
    pass(5);
    assert_int_equal(asked, 1);
    prefer(vms[0], "edge-b"); /* nor does a refusal stand */
    pass(1);
    assert_int_equal(asked, 2);
    end(TASK_CANCELLED, "");
    pass(10 * AFTER_S);
    assert_why(vms[0], "cancelled");
    assert_int_equal(asked, 2);
}

static void who_cannot_go_says_why(void **state)
{
    struct vm *home = make(0, "home", "edge-b", 1), *stray = make(1, "stray", "edge-x", 1);
    struct vm far = {.far = true};

    (void)state;
    home->spec.home = true;
    make(2, "lost", "edge-b", 1);
    atomic_store(&vms[2]->fenced, true);
    pass(2 * AFTER_S);
    assert_int_equal(asked, 0);
    assert_why(home, "on-prem");
    assert_why(stray, "edge-x is no edge of this pair");
    assert_why(vms[2], ""); /* it is there */
    assert_why(&far, "");
    snprintf(far.spec.prefers, sizeof far.spec.prefers, "edge-b");
    assert_why(&far, "");
    snprintf(far.spec.prefers, sizeof far.spec.prefers, "edge-a");
    assert_why(&far, "edge-b says why");
}

static void it_can_be_off(void **state)
{
    (void)state;
    failback_stop(failback);
    failback_free(&failback);
    start(false);
    make(0, "vm", "edge-b", 1);
    pass(10 * AFTER_S);
    assert_int_equal(asked, 0);
    assert_why(vms[0], "off");
}

static void assert_left(bool all, unsigned n)
{
    unsigned left;

    assert_int_equal(failback_gives_all(failback, &left), all);
    assert_int_equal(left, n);
}

static void all_can_be_given(void **state)
{
    struct why why = {""};

    (void)state;
    failback_stop(failback);
    failback_free(&failback);
    start(false);
    make(0, "first", "edge-a", 1);
    make(1, "second", "", 1);
    make(2, "home", "edge-a", 1)->spec.home = true;
    make(3, "gone", "edge-a", 1);
    atomic_store(&vms[3]->fenced, true);
    pass(1);
    assert_int_equal(failback_give_all(failback, true, &why), 0);
    assert_left(true, 2);
    pass(1);
    assert_int_equal(asked, 1);
    assert_string_equal(task.ask.vm, "first");
    assert_why(vms[0], "task 1");
    assert_why(vms[1], "all VMs of this edge");
    end(TASK_FAILED, "its commands do not end");
    pass(1);
    assert_int_equal(asked, 2);
    assert_why(vms[0], "do not end");
    end(TASK_DONE, "");
    drop(1);
    pass(6);
    assert_left(true, 1);
    assert_int_equal(asked, 3);
    end(TASK_CANCELLED, "");
    pass(1);
    assert_why(vms[0], "cancelled");
    pass(11);
    assert_int_equal(asked, 4);
    end(TASK_DONE, "");
    drop(0);
    pass(1);
    assert_left(true, 0);
    make(0, "comes", "edge-a", 7);
    pass(1);
    assert_int_equal(asked, 5);
    end(TASK_FAILED, "");
    pass(1);
    assert_int_equal(failback_give_all(failback, false, &why), 0);
    pass(10 * AFTER_S);
    assert_int_equal(asked, 5);
    assert_left(false, 1);
    assert_why(vms[0], "");
}

/* Then this edge is the one that has to go on. */
static void not_without_the_other_edge(void **state)
{
    struct why why = {""};

    (void)state;
    make(0, "vm", "edge-a", 1);
    pair.role = PAIR_SOLE;
    calm = false;
    assert_int_equal(failback_give_all(failback, true, &why), -EAGAIN);
    assert_string_equal(why.text, "the pair is not whole");
    pair.role = PAIR_BOTH;
    assert_int_equal(failback_give_all(failback, true, &why), 0);
    pass(5); /* something is being taken here: it waits for that */
    assert_left(true, 1);
    pair.role = PAIR_SOLE;
    pass(1);
    assert_left(false, 1);
    assert_int_equal(asked, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_after_the_other_when_all_is_calm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(not_while_anything_stirs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_refused_comes_again_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_done_by_command_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_preferred_again_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_cannot_go_says_why, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_can_be_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(all_can_be_given, set_up, tear_down),
        cmocka_unit_test_setup_teardown(not_without_the_other_edge, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
