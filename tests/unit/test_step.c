/* links: common */
/* A process that is told to dies at a step, the N-th time and not before; the steps list themselves. */
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { TURNS = 10 };

static _Atomic unsigned *passed; /* shared with the child */

static void walk(void)
{
    for (unsigned i = 0; i < TURNS; i++) {
        STEP("walk.begin", "a turn has begun");
        atomic_fetch_add(passed, 1);
        STEP("walk.end", "a turn is over");
    }
}

static void elsewhere(void)
{
    STEP("walk.end", "a turn is over");
}

static void *walk_of_a_thread(void *arg)
{
    walk();
    return arg;
}

/* How a process ended that was told `spec` and walked, with so many threads. */
static int died_of(const char *spec, unsigned threads)
{
    int status;
    pid_t pid;

    atomic_store(passed, 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pthread_t others[8];

        if (step_crash_at(spec, NULL) != 0)
            _exit(3);
        for (unsigned i = 0; i < threads; i++)
            pthread_create(&others[i], NULL, walk_of_a_thread, NULL);
        for (unsigned i = 0; i < threads; i++)
            pthread_join(others[i], NULL);
        if (threads == 0)
            walk();
        elsewhere();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void it_dies_the_nth_time(void **state)
{
    (void)state;
    assert_int_equal(died_of("walk.begin", 0), -SIGKILL);
    assert_int_equal(*passed, 0);
    assert_int_equal(died_of("walk.end:3", 0), -SIGKILL);
    assert_int_equal(*passed, 3);
    assert_int_equal(died_of("walk.begin:11", 0), 0);
    assert_int_equal(*passed, TURNS);
}

static void one_name_at_two_places_is_one_step(void **state)
{
    (void)state;
    assert_int_equal(died_of("walk.end:11", 0), -SIGKILL);
    assert_int_equal(died_of("walk.end:12", 0), 0);
}

static void threads_count_together(void **state)
{
    (void)state;
    assert_int_equal(died_of("walk.begin:41", 4), 0);
    assert_int_equal(died_of("walk.begin:40", 4), -SIGKILL);
}

static void what_is_no_step_is_refused(void **state)
{
    static const char *const bad[] = {
        "walk", "walk.begin:0", "walk.begin:", "walk.begin:x", "walk.begin:1x", "walk.beginning"};
    struct why why;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(step_crash_at(bad[i], &why), -EINVAL);
    assert_non_null(strstr(why.text, "walk.beginning is not a step"));
    walk(); /* nothing was armed */
}

static void the_list_has_each_name_once(void **state)
{
    CLEANUP_FREE char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);

    (void)state;
    step_print(f);
    fclose(f);
    assert_string_equal(text, "walk.begin\ta turn has begun\nwalk.end\ta turn is over\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_dies_the_nth_time),        cmocka_unit_test(one_name_at_two_places_is_one_step),
        cmocka_unit_test(threads_count_together),      cmocka_unit_test(what_is_no_step_is_refused),
        cmocka_unit_test(the_list_has_each_name_once),
    };

    passed = mmap(NULL, sizeof *passed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (passed == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
