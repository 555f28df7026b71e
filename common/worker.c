/* common/worker.c - see worker.h.
 */
#include "worker.h"
#include "check.h"
#include "mem.h"

#include <pthread.h>

struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct work *head, **tail; /* lock */
    bool stopping;             /* lock */
    char name[16];
};

static void reply(struct task *t)
{
    struct work *w = container_of(t, struct work, reply);

    w->done(w);
}

static void *thread_main(void *arg)
{
    struct worker *k = arg;

    pthread_setname_np(pthread_self(), k->name);
    pthread_mutex_lock(&k->lock);
    for (;;) {
        struct work *w = k->head;

        if (!w && k->stopping)
            break;
        if (!w) {
            pthread_cond_wait(&k->some, &k->lock);
            continue;
        }
        k->head = w->next;
        if (!k->head)
            k->tail = &k->head;
        pthread_mutex_unlock(&k->lock);
        w->run(w);
        loop_post(w->loop, &w->reply);
        pthread_mutex_lock(&k->lock);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

struct worker *worker_new(const char *name)
{
    struct worker *k = xcalloc(1, sizeof *k);

    for (unsigned i = 0; i < sizeof k->name - 1 && name[i]; i++)
        k->name[i] = name[i];
    k->tail = &k->head;
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->some, NULL);
    CHECK(pthread_create(&k->thread, NULL, thread_main, k) == 0);
    return k;
}

void worker_do(struct worker *k, struct loop *loop, struct work *w)
{
    w->loop = loop;
    w->reply.run = reply;
    w->next = NULL;
    pthread_mutex_lock(&k->lock);
    CHECK(!k->stopping);
    *k->tail = w;
    k->tail = &w->next;
    pthread_cond_signal(&k->some);
    pthread_mutex_unlock(&k->lock);
}

void worker_free(struct worker **kp)
{
    struct worker *k = *kp;

    if (!k)
        return;
    *kp = NULL;
    pthread_mutex_lock(&k->lock);
    k->stopping = true;
    pthread_cond_signal(&k->some);
    pthread_mutex_unlock(&k->lock);
    CHECK(pthread_join(k->thread, NULL) == 0);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->some);
    free(k);
}
