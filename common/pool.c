/* common/pool.c - a fixed number of threads that take work first come, first served.
 */
#include "pool.h"
#include "check.h"
#include "mem.h"

#include <pthread.h>
#include <stddef.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct work *head, **tail;
    pthread_t *threads;
    unsigned nthreads;
    bool stopping;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER, .tail = &pool.head};

static void reply(struct task *t)
{
    struct work *w = container_of(t, struct work, reply);

    w->done(w);
}

static void *thread_main(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "pool");
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct work *w = pool.head;

        if (!w && pool.stopping)
            break;
        if (!w) {
            pthread_cond_wait(&pool.some, &pool.lock);
            continue;
        }
        pool.head = w->next;
        if (!pool.head)
            pool.tail = &pool.head;
        pthread_mutex_unlock(&pool.lock);
        w->run(w);
        loop_post(w->loop, &w->reply);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

void pool_work(struct loop *l, struct work *w)
{
    w->loop = l;
    w->reply.run = reply;
    w->next = NULL;
    pthread_mutex_lock(&pool.lock);
    CHECK(pool.nthreads && !pool.stopping);
    *pool.tail = w;
    pool.tail = &w->next;
    pthread_cond_signal(&pool.some);
    pthread_mutex_unlock(&pool.lock);
}

void pool_start(unsigned nthreads)
{
    CHECK(nthreads && !pool.nthreads);
    pool.stopping = false;
    pool.threads = xcalloc(nthreads, sizeof *pool.threads);
    pool.nthreads = nthreads;
    for (unsigned i = 0; i < nthreads; i++)
        CHECK(pthread_create(&pool.threads[i], NULL, thread_main, NULL) == 0);
}

void pool_stop(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stopping = true;
    pthread_cond_broadcast(&pool.some);
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; i < pool.nthreads; i++)
        CHECK(pthread_join(pool.threads[i], NULL) == 0);
    free(pool.threads);
    pool.threads = NULL;
    pool.nthreads = 0;
}
