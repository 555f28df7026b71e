/* links: control */
/* Tasks: written down before they begin, the same when asked for again, gone on with after a restart,
 * bounded. Their verbs are the test's.
 */
#include "check.h"
#include "fake_loop.h"
#include "fake_verbs.h"
#include "tasks_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fake_loop loop;
static struct loop_ops ops;
static struct tasks *tasks;

static void work_done(struct task *t)
{
    struct work *w = container_of(t, struct work, reply);

    w->done(w);
}

static void work(struct loop *l, struct work *w)
{
    w->run(w);
    w->reply.run = work_done;
    loop_post(l, &w->reply);
}

static void open_tasks(void)
{
    struct tasks_conf conf = {.main = &loop.loop};
    struct why why;

    assert_int_equal(tasks_open(&tasks, &conf, &why), 0);
}

static int set_up(void **state)
{
    (void)state;
    fake_loop_init(&loop, 1);
    ops = *loop.loop.ops;
    ops.work = work;
    loop.loop.ops = &ops;
    fake_begun = 0;
    fake_refusal = 0;
    fake_disk_fails = false;
    open_tasks();
    return 0;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void close_tasks(void)
{
    bool closed = false;

    tasks_close(tasks, on_closed, &closed);
    assert_false(closed);
    fake_run_posted(&loop);
    assert_true(closed);
}

static int tear_down(void **state)
{
    (void)state;
    close_tasks();
    fake_rows_clear();
    return 0;
}

/* What the process leaves when it is killed: the rows. */
static void crash(void)
{
    struct why why;

    for (unsigned i = 0; i < fake_begun && i < FAKE_VERBS; i++)
        if (fake_verbs[i].done)
            fake_verbs[i].done(fake_verbs[i].arg, -ESHUTDOWN, &why);
    memset(fake_verbs, 0, sizeof fake_verbs);
    fake_begun = 0;
    close_tasks();
    open_tasks();
}

static struct {
    uint64_t id;
    int status;
    unsigned times;
    struct why why;
} answered;

static void on_started(void *arg, uint64_t id, int status, const struct why *why)
{
    (void)arg;
    answered.id = id;
    answered.status = status;
    answered.times++;
    answered.why = *why;
}

static uint64_t start(struct vm_verb_ask ask)
{
    unsigned before = answered.times;

    tasks_start(tasks, &ask, on_started, NULL);
    assert_int_equal(answered.times, before);
    fake_run_posted(&loop);
    assert_int_equal(answered.times, before + 1);
    return answered.id;
}

static void end(int status, const char *sentence)
{
    fake_end(status, sentence);
    fake_verbs[(fake_begun - 1) % FAKE_VERBS].done = NULL;
    fake_run_posted(&loop);
}

static struct tasks_info info_of(uint64_t id)
{
    struct tasks_info info;

    assert_true(tasks_get(tasks, id, &info));
    return info;
}

static void from_asking_to_its_end(void **state)
{
    uint64_t id = start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "a"});
    struct tasks_info t = info_of(id);

    (void)state;
    assert_int_equal(id, 1);
    assert_int_equal(fake_begun, 1);
    assert_int_equal(fake_verbs[0].ask.task, 1);
    assert_int_equal(t.state, TASK_RUNNING);
    assert_string_equal(t.text.text, "works");
    fake_verbs[0].report.waiting = true;
    assert_int_equal(info_of(id).state, TASK_WAITING);
    end(0, "");
    t = info_of(id);
    assert_int_equal(t.state, TASK_DONE);
    assert_true(t.ended_s >= t.started_s);
    id = start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "a"});
    assert_int_equal(id, 2);
    end(-EIO, "the store said no");
    t = info_of(id);
    assert_int_equal(t.state, TASK_FAILED);
    assert_string_equal(t.text.text, "the store said no");
    assert_false(tasks_get(tasks, 3, &t));
}

static void nothing_begins_that_is_not_written_down(void **state)
{
    (void)state;
    fake_disk_fails = true;
    assert_int_equal(start((struct vm_verb_ask){.kind = VERB_DISCARD, .vm = "a"}), 0);
    assert_int_equal(answered.status, -EIO);
    assert_string_equal(answered.why.text, "the disk is full");
    assert_int_equal(fake_begun, 0);
    fake_disk_fails = false;
    fake_refusal = -EINVAL;
    assert_int_equal(start((struct vm_verb_ask){.kind = VERB_DISCARD, .vm = "a"}), 0);
    assert_int_equal(answered.status, -EINVAL);
    assert_string_equal(answered.why.text, "VM a will not");
    assert_int_equal(fake_nrows(), 0);
}

static void asked_for_again_it_is_the_same(void **state)
{
    struct vm_verb_ask ask = {.kind = VERB_RUN_ON_PREM, .vm = "a", .discard = true};
    uint64_t id = start(ask);

    (void)state;
    assert_int_equal(start(ask), id);
    assert_int_equal(fake_begun, 1);
    ask.force = true;
    assert_int_equal(start(ask), id);
    assert_true(fake_verbs[0].ask.force);
    ask.discard = false;
    assert_int_equal(start(ask), 0);
    assert_int_equal(answered.status, -EBUSY);
    assert_non_null(strstr(answered.why.text, "task 1 (run-on-prem) works on VM a"));
    assert_int_equal(start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "b"}), 2);
    crash();
    assert_int_equal(fake_begun, 2);
    assert_true(fake_verbs[0].ask.force);
}

static void a_restart_goes_on_with_it(void **state)
{
    uint64_t done = start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "a"}), id;

    (void)state;
    end(0, "");
    id = start((struct vm_verb_ask){.kind = VERB_RUN_IN_CLOUD, .vm = "b", .storage = WB_WRITE_BACK});
    crash();
    assert_int_equal(fake_begun, 1);
    assert_int_equal(fake_verbs[0].ask.kind, VERB_RUN_IN_CLOUD);
    assert_string_equal(fake_verbs[0].ask.vm, "b");
    assert_int_equal(fake_verbs[0].ask.storage, WB_WRITE_BACK);
    assert_int_equal(fake_verbs[0].ask.task, id);
    assert_int_equal(info_of(done).state, TASK_DONE);
    assert_int_equal(info_of(id).state, TASK_RUNNING);
    end(0, "");
    crash();
    assert_int_equal(fake_begun, 0);
    assert_int_equal(info_of(id).state, TASK_DONE);
    assert_int_equal(start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "b"}), id + 1);
}

static void cancelled(void **state)
{
    uint64_t id = start((struct vm_verb_ask){.kind = VERB_RUN_ON_PREM, .vm = "a"});
    struct why why;

    (void)state;
    fake_verbs[0].last_step = true;
    assert_int_equal(tasks_cancel(tasks, id, &why), -EBUSY);
    fake_verbs[0].last_step = false;
    assert_int_equal(tasks_cancel(tasks, id, &why), 0);
    assert_true(fake_verbs[0].cancelled);
    end(-ECANCELED, "");
    assert_int_equal(info_of(id).state, TASK_CANCELLED);
    assert_int_equal(tasks_cancel(tasks, id, &why), -EALREADY);
    assert_int_equal(tasks_cancel(tasks, 99, &why), -ENOENT);
}

static void how_long_it_will_take(void **state)
{
    uint64_t id = start((struct vm_verb_ask){.kind = VERB_RUN_ON_PREM, .vm = "a"});

    (void)state;
    assert_int_equal(info_of(id).eta_s, -1);
    fake_verbs[0].report.bytes = 1000000;
    for (unsigned i = 1; i <= 10; i++) {
        fake_verbs[0].report.bytes_done = i * 10000;
        assert_true(fake_run_timer(&loop));
    }
    assert_int_equal(info_of(id).eta_s, 90);
    fake_verbs[0].report.bytes_done = 1000000;
    assert_true(fake_run_timer(&loop));
    assert_int_equal(info_of(id).eta_s, 0);
}

static void count(void *arg, const struct tasks_info *t)
{
    unsigned *n = arg;

    (*n)++;
    assert_true(t->id > 0);
}

static void the_oldest_are_forgotten(void **state)
{
    struct tasks_info info;
    unsigned n = 0;

    (void)state;
    start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "runs"});
    for (unsigned i = 0; i < TASKS_KEPT + 10; i++) {
        start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "a"});
        end(0, "");
    }
    assert_int_equal(fake_nrows(), TASKS_KEPT + 1);
    tasks_each(tasks, count, &n);
    assert_int_equal(n, TASKS_KEPT + 1);
    assert_true(tasks_get(tasks, 1, &info));
    assert_false(tasks_get(tasks, 2, &info));
    assert_true(tasks_get(tasks, TASKS_KEPT + 11, &info));
}

static void an_end_is_written_down_when_the_disk_is_back(void **state)
{
    uint64_t id = start((struct vm_verb_ask){.kind = VERB_FLUSH, .vm = "a"});

    (void)state;
    fake_disk_fails = true;
    end(0, "");
    assert_int_equal(info_of(id).state, TASK_DONE);
    assert_true(fake_run_timer(&loop));
    fake_disk_fails = false;
    assert_true(fake_run_timer(&loop));
    crash();
    assert_int_equal(info_of(id).state, TASK_DONE);
    assert_int_equal(fake_begun, 0);
}

static void records_are_checked(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"format\":1,\"id\":1}",
        "{\"bytes\":0,\"bytes_done\":0,\"discard\":false,\"ended\":0,\"force\":false,\"format\":1,\"id\":0,"
        "\"kind\":\"flush\",\"started\":1,\"state\":\"done\",\"storage\":0,\"text\":\"\",\"vm\":\"a\"}",
        "{\"bytes\":0,\"bytes_done\":0,\"discard\":false,\"ended\":0,\"force\":false,\"format\":1,\"id\":1,"
        "\"kind\":\"fly\",\"started\":1,\"state\":\"done\",\"storage\":0,\"text\":\"\",\"vm\":\"a\"}",
        "{\"bytes\":0,\"bytes_done\":0,\"discard\":false,\"ended\":0,\"force\":false,\"format\":1,\"id\":1,"
        "\"kind\":\"flush\",\"started\":1,\"state\":\"odd\",\"storage\":0,\"text\":\"\",\"vm\":\"a\"}",
        "{\"format\":2,\"id\":1}",
    };
    struct tasks_info t = {.id = 7,
                           .ask = {.kind = VERB_STORAGE,
                                   .vm = "a",
                                   .storage = WB_CLOUD_PERSIST,
                                   .prefers = "edge-b"}},
                      u;
    struct why why;
    char *json = tasks_to_json(&t);

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tasks_from_json(bad[i], strlen(bad[i]), &u, &why), -EBADMSG);
    assert_non_null(strstr(why.text, "format 2"));
    assert_int_equal(tasks_from_json(json, strlen(json), &u, &why), 0);
    assert_int_equal(u.id, 7);
    assert_int_equal(u.ask.storage, WB_CLOUD_PERSIST);
    assert_string_equal(u.ask.prefers, "edge-b");
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(from_asking_to_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_begins_that_is_not_written_down, set_up, tear_down),
        cmocka_unit_test_setup_teardown(asked_for_again_it_is_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_restart_goes_on_with_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cancelled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(how_long_it_will_take, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_are_forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_is_written_down_when_the_disk_is_back, set_up, tear_down),
        cmocka_unit_test(records_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
