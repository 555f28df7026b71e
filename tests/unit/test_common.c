/* links: common */
/* Loops, posting, pool, sealing, keys, metrics, the bounded reader. */
#include "aead.h"
#include "buf.h"
#include "log.h"
#include "loop.h"
#include "mem.h"
#include "metric.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { POSTERS = 3, POSTS = 2000 };

static struct {
    struct loop *loop;
    unsigned last[POSTERS], total;
    bool out_of_order;
} posts;

struct post {
    struct task task;
    unsigned poster, number;
};

static void on_post(struct task *t)
{
    struct post *p = (struct post *)t;

    if (p->number != posts.last[p->poster] + 1)
        posts.out_of_order = true;
    posts.last[p->poster] = p->number;
    if (++posts.total == POSTERS * POSTS)
        loop_stop(posts.loop);
    free(p);
}

static void *poster(void *arg)
{
    for (unsigned i = 1; i <= POSTS; i++) {
        struct post *p = xcalloc(1, sizeof *p);

        p->task.run = on_post;
        p->poster = (unsigned)(uintptr_t)arg;
        p->number = i;
        loop_post(posts.loop, &p->task);
    }
    return NULL;
}

static void posts_of_each_thread_run_in_order(void **state)
{
    pthread_t threads[POSTERS];

    (void)state;
    posts.loop = loop_new("test");
    for (unsigned i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, poster, (void *)(uintptr_t)i), 0);
    loop_run(posts.loop);
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    assert_false(posts.out_of_order);
    assert_int_equal(posts.total, POSTERS * POSTS);
    loop_free(&posts.loop);
}

struct chain {
    struct loop *loop;
    struct task task;
    struct timer timer;
    struct work work;
    int step;
    bool returned, on_pool;
};

static void after_work(struct work *w)
{
    struct chain *c = (struct chain *)((char *)w - offsetof(struct chain, work));

    assert_true(c->on_pool);
    c->step = 3;
    loop_stop(c->loop);
}

static void in_work(struct work *w)
{
    struct chain *c = (struct chain *)((char *)w - offsetof(struct chain, work));

    c->on_pool = !loop_is_current(c->loop);
}

static void on_timer(struct timer *t)
{
    struct chain *c = (struct chain *)((char *)t - offsetof(struct chain, timer));

    c->step = 2;
    c->work = (struct work){.run = in_work, .done = after_work};
    loop_work(c->loop, &c->work);
}

static void second(struct task *t)
{
    struct chain *c = (struct chain *)((char *)t - offsetof(struct chain, task));

    assert_true(c->returned);
    timer_set_ms(&c->timer, 1);
}

static void first(struct task *t)
{
    struct chain *c = (struct chain *)((char *)t - offsetof(struct chain, task));

    c->step = 1;
    c->task.run = second;
    loop_post(c->loop, &c->task); /* from the loop itself: only after this returned */
    c->returned = true;
}

static void a_callback_never_fires_before_its_call_returned(void **state)
{
    struct chain c = {0};

    (void)state;
    pool_start(2);
    c.loop = loop_new("test");
    timer_init(&c.timer, c.loop, on_timer);
    c.task.run = first;
    loop_post(c.loop, &c.task);
    loop_run(c.loop);
    assert_int_equal(c.step, 3);
    timer_free(&c.timer);
    loop_free(&c.loop);
    pool_stop();
}

static void sealed_bytes_open_only_unaltered(void **state)
{
    struct aead_key key = {{1, 2, 3}}, other;
    uint8_t plain[100] = "some bytes", sealed[116], out[100];
    const uint8_t salt[AEAD_SALT_BYTES] = {9};
    struct aead *a = aead_new(&key), *b;

    (void)state;
    aead_seal(a, 7, "aad", 3, plain, sizeof plain, sealed);
    assert_int_equal(aead_open(a, 7, "aad", 3, sealed, sizeof plain, out), 0);
    assert_memory_equal(plain, out, sizeof plain);
    assert_int_equal(aead_open(a, 8, "aad", 3, sealed, sizeof plain, out), -EBADMSG);
    assert_int_equal(aead_open(a, 7, "aae", 3, sealed, sizeof plain, out), -EBADMSG);
    sealed[50] ^= 1;
    assert_int_equal(aead_open(a, 7, "aad", 3, sealed, sizeof plain, out), -EBADMSG);
    sealed[50] ^= 1;
    aead_derive(&key, salt, "journal", &other);
    b = aead_new(&other);
    assert_int_equal(aead_open(b, 7, "aad", 3, sealed, sizeof plain, out), -EBADMSG);
    aead_free(&a);
    aead_free(&b);
}

static void a_key_file_that_others_can_read_is_refused(void **state)
{
    char path[] = "/tmp/isthmus-key-XXXXXX";
    int fd = mkstemp(path);
    struct aead_key key;
    struct why why;

    (void)state;
    assert_int_equal(write(fd, "000102030405060708090a0b0c0d0e0f\n", 33), 33);
    assert_int_equal(aead_key_load(path, &key, &why), 0);
    assert_int_equal(key.bytes[15], 15);
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(aead_key_load(path, &key, &why), -EACCES);
    assert_non_null(strstr(why.text, "chmod 600"));
    assert_int_equal(fchmod(fd, 0600), 0);
    assert_int_equal(ftruncate(fd, 20), 0);
    assert_int_equal(aead_key_load(path, &key, &why), -EINVAL);
    close(fd);
    unlink(path);
    assert_int_equal(aead_key_load("command:echo 000102030405060708090a0b0c0d0e0f", &key, &why), 0);
    assert_int_equal(key.bytes[3], 3);
    assert_int_equal(aead_key_load("command:exit 3", &key, &why), -EIO);
}

static void metrics_of_one_name_are_one_line(void **state)
{
    struct metric *a = metric_new(METRIC_COUNTER, "isthmus_x_total", "X", "vm=\"%s\"", "a");
    struct metric *b = metric_new(METRIC_COUNTER, "isthmus_x_total", "X", "vm=\"a\"");
    struct metric *h = metric_new(METRIC_HISTOGRAM, "isthmus_y_seconds", "Y", "%s", "");
    char *text;

    (void)state;
    metric_add(a, 2);
    metric_add(b, 3);
    metric_observe_ns(h, 15000);
    metric_observe_ns(h, 3000000000000);
    text = metric_render();
    assert_non_null(strstr(text, "# TYPE isthmus_x_total counter\nisthmus_x_total{vm=\"a\"} 5\n"));
    assert_non_null(strstr(text, "isthmus_y_seconds_bucket{le=\"1e-05\"} 0\n"));
    assert_non_null(strstr(text, "isthmus_y_seconds_bucket{le=\"2e-05\"} 1\n"));
    assert_non_null(strstr(text, "isthmus_y_seconds_bucket{le=\"+Inf\"} 2\n"));
    assert_int_equal(metric_sum("isthmus_x_total", "vm=\"a\""), 5);
    assert_int_equal(metric_quantile_ns("isthmus_y_seconds", "", 0.5), 20000);
    free(text);
    metric_free(&a);
    metric_free(&b);
    metric_free(&h);
}

static void a_reader_cannot_run_past_its_end(void **state)
{
    const uint8_t bytes[] = {1, 2, 3, 4, 5};
    struct reader r = reader_of(bytes, sizeof bytes);

    (void)state;
    assert_int_equal(read32(&r), 0x01020304);
    assert_false(r.bad);
    assert_int_equal(read16(&r), 0);
    assert_true(r.bad);
    assert_int_equal(read8(&r), 0);
    assert_null(read_bytes(&r, 1));
}

static void a_buffer_goes_with_its_last_reference(void **state)
{
    struct buf *a = buf_new(10), *b = buf_ref(a);

    (void)state;
    assert_int_equal(a->len, 10);
    buf_unref(&a);
    assert_null(a);
    b->data[9] = 1;
    buf_unref(&b);
    buf_unref(&b);
}

static void peers_do_not_fill_the_log(void **state)
{
    unsigned lines = 0;

    (void)state;
    for (int i = 0; i < 5000; i++)
        lines += log_peer_line();
    assert_in_range(lines, 100, 200); /* a second may have begun in between */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_do_not_fill_the_log),
        cmocka_unit_test(posts_of_each_thread_run_in_order),
        cmocka_unit_test(a_callback_never_fires_before_its_call_returned),
        cmocka_unit_test(sealed_bytes_open_only_unaltered),
        cmocka_unit_test(a_key_file_that_others_can_read_is_refused),
        cmocka_unit_test(metrics_of_one_name_are_one_line),
        cmocka_unit_test(a_reader_cannot_run_past_its_end),
        cmocka_unit_test(a_buffer_goes_with_its_last_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
