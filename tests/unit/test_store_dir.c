/* links: store */
/* Objects as files of a directory: what a crash, another process or a bad disk may do to them. */
#include "../lib/store_call.h"

#include "mem.h"
#include "store_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;
static struct store *store;
static char root[] = "/tmp/isthmus-store-XXXXXX";

static int setup(void **state)
{
    struct why why;

    (void)state;
    strcpy(root, "/tmp/isthmus-store-XXXXXX");
    assert_non_null(mkdtemp(root));
    pool_start(4);
    loop = loop_new("test");
    store = store_dir_new(loop, root, 8, &why);
    assert_non_null(store);
    return 0;
}

static int teardown(void **state)
{
    char command[100];

    (void)state;
    store_free(&store);
    loop_free(&loop);
    pool_stop();
    snprintf(command, sizeof(command), "rm -rf %s", root);
    return system(command);
}

static void an_object_goes_and_comes(void **state)
{
    struct call c;
    char buf[64];

    (void)state;
    assert_int_equal(call_put(store, &c, "vms/web/log/1", "hello", 5, STORE_ALWAYS, NULL), 0);
    assert_int_equal(strlen(c.req.etag), 32);
    assert_int_equal(call_get(store, &c, "vms/web/log/1", buf, sizeof(buf), 0, true), 0);
    assert_int_equal(c.req.len, 5);
    assert_int_equal(c.req.size, 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(call_get(store, &c, "vms/web/log/1", buf, 3, 1, false), 0);
    assert_int_equal(c.req.len, 3);
    assert_memory_equal(buf, "ell", 3);
    assert_int_equal(call_get(store, &c, "vms/web/log/1", buf, 3, 9, false), 0);
    assert_int_equal(c.req.len, 0);
    assert_int_equal(call_get(store, &c, "vms/web/log/1", buf, 4, 0, true), -EFBIG);
    assert_int_equal(c.req.size, 5);
    assert_int_equal(call_head(store, &c, "vms/web/log/1"), 0);
    assert_int_equal(c.req.size, 5);
    assert_true(c.req.put_s > 1700000000 && c.req.put_s <= time(NULL));
    assert_int_equal(call_head(store, &c, "vms/web/log/2"), -ENOENT);
    assert_int_equal(call_head(store, &c, "vms/web"), -ENOENT);
    assert_int_equal(call_head(store, &c, "vms/web/log/1/x"), -ENOENT);
    assert_int_equal(call_delete(store, &c, "vms/web/log/1"), 0);
    assert_int_equal(c.req.ndeleted, 1);
    assert_int_equal(call_delete(store, &c, "vms/web/log/1"), 0);
    assert_int_equal(call_head(store, &c, "vms/web/log/1"), -ENOENT);
}

static void a_key_is_no_directory_of_another(void **state)
{
    struct call c;

    (void)state;
    assert_int_equal(call_put(store, &c, "a/b", "x", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(call_put(store, &c, "a", "x", 1, STORE_ALWAYS, NULL), -EINVAL);
    assert_non_null(strstr(c.req.why.text, "lies under, the key of another object"));
    assert_int_equal(call_put(store, &c, "a/b/c", "x", 1, STORE_ALWAYS, NULL), -EINVAL);
    assert_int_equal(call_delete(store, &c, "a"), 0);
    assert_int_equal(call_head(store, &c, "a/b"), 0);
    assert_int_equal(call_delete(store, &c, "a/b"), 0);
    assert_int_equal(call_put(store, &c, "a", "x", 1, STORE_ALWAYS, NULL), 0);
}

static void conditions_are_kept(void **state)
{
    struct call c, d;

    (void)state;
    assert_int_equal(call_put(store, &c, "p", "1", 1, STORE_IF_MATCH, "none"), -ESTALE);
    assert_int_equal(call_put(store, &c, "p", "1", 1, STORE_IF_ABSENT, NULL), 0);
    assert_int_equal(call_put(store, &d, "p", "2", 1, STORE_IF_ABSENT, NULL), -EEXIST);
    assert_int_equal(call_put(store, &d, "p", "2", 1, STORE_IF_MATCH, c.req.etag), 0);
    assert_string_not_equal(c.req.etag, d.req.etag);
    assert_int_equal(call_put(store, &d, "p", "3", 1, STORE_IF_MATCH, c.req.etag), -ESTALE);
    assert_non_null(strstr(d.req.why.text, "any more"));
}

static void pages_are_in_the_order_of_bytes(void **state)
{
    static const char *const keys[] = {"a-b", "a/b", "a/b-c", "a/d/e", "a0", "b/x", "c"};
    enum { N = sizeof(keys) / sizeof(keys[0]) };
    char *token = NULL;
    struct call c;
    size_t i = 0;

    (void)state;
    for (size_t k = 0; k < N; k++)
        assert_int_equal(call_put(store, &c, keys[(k * 3) % N], "12345", 5, STORE_ALWAYS, NULL), 0);
    do {
        assert_int_equal(call_list(store, &c, "", NULL, token, 2), 0);
        free(token);
        token = c.req.page->next ? xstrdup(c.req.page->next) : NULL;
        for (size_t k = 0; k < c.req.page->count; k++, i++) {
            assert_string_equal(c.req.page->entries[k].key, keys[i]);
            assert_int_equal(c.req.page->entries[k].size, 5);
        }
        store_page_free(&c.req.page);
    } while (token);
    assert_int_equal(i, N);
    assert_int_equal(call_list(store, &c, "a/", "a/b", NULL, 9), 0);
    assert_int_equal(c.req.page->count, 2);
    assert_string_equal(c.req.page->entries[0].key, "a/b-c");
    store_page_free(&c.req.page);
    assert_int_equal(call_list(store, &c, "a/b", NULL, NULL, 9), 0);
    assert_int_equal(c.req.page->count, 2);
    store_page_free(&c.req.page);
}

static void edit(const char *name, off_t at, off_t size)
{
    char path[100];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    if (size >= 0)
        assert_int_equal(ftruncate(fd, size), 0);
    else
        assert_int_equal(pwrite(fd, "#", 1, at), 1);
    close(fd);
}

static void a_damaged_file_is_noticed(void **state)
{
    char buf[64];
    struct call c;

    (void)state;
    assert_int_equal(call_put(store, &c, "x", "hello", 5, STORE_ALWAYS, NULL), 0);
    edit("x", 66, -1);
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, true), -EBADMSG);
    edit("x", 0, 68);
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, false), -EBADMSG);
    assert_int_equal(call_head(store, &c, "x"), -EBADMSG);
    edit("x", 0, 10);
    assert_int_equal(call_head(store, &c, "x"), -EBADMSG);
    /* Putting it again mends it. */
    assert_int_equal(call_put(store, &c, "x", "hello", 5, STORE_ALWAYS, NULL), 0);
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, true), 0);
}

/* Adds one to a number in an object, n times, by compare-and-swap, in a process of its own. */
static void count_up(int n)
{
    struct loop *l = loop_new("child");
    struct store *s;
    struct call c;

    pool_start(2);
    s = store_dir_new(l, root, 2, NULL);
    while (n > 0) {
        char etag[STORE_ETAG_MAX + 1], text[20] = "";
        int rc;

        CHECK(call_get(s, &c, "number", text, sizeof(text) - 1, 0, true) == 0);
        strcpy(etag, c.req.etag);
        snprintf(text, sizeof(text), "%d", atoi(text) + 1);
        rc = call_put(s, &c, "number", text, strlen(text), STORE_IF_MATCH, etag);
        CHECK(rc == 0 || rc == -ESTALE);
        if (rc == 0)
            n--;
    }
    store_free(&s);
    loop_free(&l);
    pool_stop();
    _exit(0);
}

static void two_processes_swap_without_losing_one(void **state)
{
    enum { EACH = 200, PROCESSES = 3 };
    char text[20] = "";
    struct call c;
    int status;

    (void)state;
    assert_int_equal(call_put(store, &c, "number", "0", 1, STORE_IF_ABSENT, NULL), 0);
    store_free(&store);
    loop_free(&loop);
    pool_stop();
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            count_up(EACH);
    for (int i = 0; i < PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    pool_start(4);
    loop = loop_new("test");
    store = store_dir_new(loop, root, 8, NULL);
    assert_int_equal(call_get(store, &c, "number", text, sizeof(text) - 1, 0, true), 0);
    assert_int_equal(atoi(text), EACH * PROCESSES);
}

static void of_many_at_once_one_wins(void **state)
{
    enum { N = 16 };
    struct call c[N];
    int won = 0;

    (void)state;
    for (int i = 0; i < N; i++)
        call_put_set(&c[i], "deep/er/first", &"0123456789abcdef"[i], 1, STORE_IF_ABSENT, NULL);
    call_all(store, c, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(c[i].done, 1);
        assert_true(c[i].req.status == 0 || c[i].req.status == -EEXIST);
        won += c[i].req.status == 0;
    }
    assert_int_equal(won, 1);
}

/* Deleting the last object of a directory removes it while another is put there. */
static void puts_and_deletes_do_not_trip_over_directories(void **state)
{
    static const char *const keys[] = {"d/e/1", "d/e/2", "d/f/3", "d/g/h/4"};
    struct call c[8];

    (void)state;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 4; i++) {
            call_put_set(&c[i], keys[i], "x", 1, STORE_ALWAYS, NULL);
            memset(&c[4 + i], 0, sizeof(c[0]));
            c[4 + i].req.op = STORE_DELETE;
            c[4 + i].req.del.keys = &keys[(i + round) % 4];
            c[4 + i].req.del.nkeys = 1;
        }
        call_all(store, c, 8);
        for (int i = 0; i < 8; i++)
            assert_int_equal(c[i].req.status, 0);
    }
}

static void nothing_is_left_in_the_way(void **state)
{
    char path[100], command[200];
    struct call c;

    (void)state;
    assert_int_equal(call_put(store, &c, "a/b/c", "x", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(call_put(store, &c, "a/b/c", "x", 1, STORE_IF_ABSENT, NULL), -EEXIST);
    assert_int_equal(call_put(store, &c, "a/b/c", "x", 1, STORE_IF_MATCH, "y"), -ESTALE);
    assert_int_equal(call_delete(store, &c, "a/b/c"), 0);
    snprintf(path, sizeof(path), "%s/a", root);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(command, sizeof(command), "test -z \"$(ls -A %s/.tmp)\"", root);
    assert_int_equal(system(command), 0);
}

static void a_path_that_cannot_be_is_refused(void **state)
{
    struct why why;

    (void)state;
    assert_null(store_dir_new(loop, "relative", 1, &why));
    assert_string_equal(why.text, "the store 'dir:relative' needs an absolute path: dir:/srv/store");
    assert_null(store_dir_new(loop, "/proc/no/where", 1, &why));
    assert_non_null(strstr(why.text, "cannot make the store's directory /proc/no/where"));
    assert_null(store_dir_new(loop, "/dev/null", 1, &why));
    assert_non_null(strstr(why.text, "Not a directory"));
}

static void a_big_put_can_be_cancelled(void **state)
{
    static char big[64 << 20];
    struct call c;
    unsigned left = 1;

    (void)state;
    call_put_set(&c, "big", big, sizeof(big), STORE_ALWAYS, NULL);
    c.req.done = call_done;
    c.req.timeout_ms = 60000;
    c.left = &left;
    store_submit(store, &c.req);
    store_cancel(&c.req);
    loop_run(loop);
    assert_int_equal(c.req.status, -ECANCELED);
    assert_int_equal(call_head(store, &c, "big"), -ENOENT);
}

static void lock_everything(int fds[64])
{
    char path[100];

    for (int i = 0; i < 64; i++) {
        snprintf(path, sizeof(path), "%s/.lock/%02d", root, i);
        fds[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(flock(fds[i], LOCK_EX), 0);
    }
}

/* The file of the put that is under way, once all of it is written. */
static void written_file(char path[100])
{
    char head[8] = "", pattern[100];

    snprintf(pattern, sizeof(pattern), "%s/.tmp/*", root);
    while (memcmp(head, "IsthObj1", 8) != 0) {
        glob_t found;
        int fd;

        if (glob(pattern, 0, NULL, &found) == 0) {
            snprintf(path, 100, "%s", found.gl_pathv[0]);
            fd = open(path, O_RDONLY | O_CLOEXEC);
            assert_int_not_equal(fd, -1);
            assert_in_range(pread(fd, head, 8, 0), 0, 8);
            close(fd);
            globfree(&found);
        }
        usleep(1000);
    }
}

/* Our clock may jump days ahead in the middle of a put. */
static void only_the_dead_are_swept(void **state)
{
    const struct timespec old[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    char tmp[100], dead[100], buf[8];
    unsigned left = 1;
    struct store *again;
    struct why why;
    struct call c;
    int fds[64];

    (void)state;
    lock_everything(fds);
    call_put_set(&c, "x", "hello", 5, STORE_ALWAYS, NULL);
    c.req.done = call_done;
    c.req.timeout_ms = 60000;
    c.left = &left;
    store_submit(store, &c.req);
    written_file(tmp);
    snprintf(dead, sizeof(dead), "%s/.tmp/dead", root);
    close(open(dead, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(utimensat(AT_FDCWD, tmp, old, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, dead, old, 0), 0);
    again = store_dir_new(loop, root, 8, &why);
    assert_non_null(again);
    store_free(&again);
    assert_int_equal(access(tmp, F_OK), 0);
    assert_int_equal(access(dead, F_OK), -1);
    for (int i = 0; i < 64; i++)
        close(fds[i]);
    loop_run(loop);
    assert_int_equal(c.req.status, 0);
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, true), 0);
    assert_int_equal(access(tmp, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_object_goes_and_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_is_no_directory_of_another, setup, teardown),
        cmocka_unit_test_setup_teardown(conditions_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_are_in_the_order_of_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(two_processes_swap_without_losing_one, setup, teardown),
        cmocka_unit_test_setup_teardown(of_many_at_once_one_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(puts_and_deletes_do_not_trip_over_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_left_in_the_way, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_that_cannot_be_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_dead_are_swept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_big_put_can_be_cancelled, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
