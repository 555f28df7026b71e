/* tests/unit/journal_fixture.h - a journal in a temporary directory, a loop on its own thread, and calls
 * that wait, so that a test reads from top to bottom.
 */
#ifndef ISTHMUS_JOURNAL_FIXTURE_H
#define ISTHMUS_JOURNAL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check.h"
#include "kv.h"
#include "loop.h"
#include "mem.h"
#include "vmlog.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FIXTURE_SECTORS = 131072, MIB = 1 << 20 };

struct fixture {
    char dir[64];
    struct loop *loop;
    struct journal *journal;
    struct vmlog *log;
    struct kv *fail; /* NULL: the real store alone */
    uint64_t max_bytes;
    uint8_t key, id[VMLOG_ID_BYTES];
    struct why why;
    uint8_t *model; /* what disk 0 should hold */
};

static const uint8_t fixture_id[VMLOG_ID_BYTES] = "vm-of-the-tests";

static inline struct fixture *fixture_new(void)
{
    struct fixture *f = xcalloc(1, sizeof *f);

    strcpy(f->dir, "/tmp/isthmus-journal-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->max_bytes = 256 * MIB;
    memcpy(f->id, fixture_id, sizeof f->id);
    f->model = xcalloc(FIXTURE_SECTORS, 512);
    pool_start(2);
    f->loop = loop_new("test");
    loop_start(f->loop);
    return f;
}

static inline void remove_tree(const char *dir)
{
    CLEANUP_FREE char *command = xasprintf("rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static inline void fixture_free(struct fixture *f)
{
    loop_stop(f->loop);
    loop_join(f->loop);
    loop_free(&f->loop);
    pool_stop();
    remove_tree(f->dir);
    free(f->model);
    free(f);
}

static inline int fixture_open_journal(struct fixture *f)
{
    struct journal_conf conf = {.path = f->dir, .max_bytes = f->max_bytes};

    memset(conf.key.bytes, f->key + 1, sizeof conf.key.bytes);
    memset(&f->why, 0, sizeof f->why);
    if (!f->fail)
        return journal_open(&f->journal, &conf, &f->why);
    return journal_open_on(&f->journal, &conf, f->fail, &f->why);
}

static inline void fixture_open(struct fixture *f)
{
    if (fixture_open_journal(f) != 0)
        fail_msg("%s", f->why.text);
    if (vmlog_open(&f->log, f->journal, f->loop, f->id, "vm", &f->why) != 0)
        fail_msg("%s", f->why.text);
}

/* --- calls on the loop that wait ---*/

struct call {
    struct task task;
    void (*run)(struct fixture *, void *arg);
    struct fixture *f;
    void *arg;
    sem_t done;
};

static inline void call_run(struct task *t)
{
    struct call *c = container_of(t, struct call, task);
    c->run(c->f, c->arg);
    sem_post(&c->done);
}

static inline void on_loop(struct fixture *f, void (*run)(struct fixture *, void *), void *arg)
{
    struct call c = {.task = {.run = call_run}, .run = run, .f = f, .arg = arg};

    sem_init(&c.done, 0, 0);
    loop_post(f->loop, &c.task);
    while (sem_wait(&c.done) < 0)
        ;
    sem_destroy(&c.done);
}

static inline void close_log(struct fixture *f, void *arg)
{
    (void)arg;
    vmlog_close(&f->log);
}

static inline void fixture_close(struct fixture *f)
{
    if (f->log)
        on_loop(f, close_log, NULL);
    journal_close(&f->journal);
    f->fail = NULL;
}

/* --- writes ---*/

struct put {
    struct vmlog_append append;
    struct task task;
    struct fixture *f;
    sem_t done;
    atomic_bool finished;
    uint64_t visible_after; /* vmlog_last when it became visible */
};

static inline void put_done(struct vmlog_append *a)
{
    struct put *p = container_of(a, struct put, append);
    atomic_store(&p->finished, true);
    sem_post(&p->done);
}

static inline void put_visible(struct vmlog_append *a)
{
    struct put *p = container_of(a, struct put, append);
    p->visible_after = vmlog_last(p->f->log);
}

static inline void put_start(struct task *t)
{
    struct put *p = container_of(t, struct put, task);
    vmlog_append(p->f->log, &p->append);
}

static inline void fill_sectors(uint8_t *to, uint64_t lba, uint32_t n, unsigned tag)
{
    for (uint32_t i = 0; i < n; i++) {
        memset(to + (size_t)i * 512, (int)(tag * 31 + i + 1) & 0xff, 512);
        memcpy(to + (size_t)i * 512, &(uint64_t){lba + i}, 8);
        memcpy(to + (size_t)i * 512 + 8, &tag, 4);
    }
}

/* tag 0: zeros. */
static inline struct put *put_begin(struct fixture *f, uint64_t lba, uint32_t n, unsigned tag, bool fua)
{
    struct put *p = xcalloc(1, sizeof *p);

    p->f = f;
    sem_init(&p->done, 0, 0);
    p->append.type = tag ? RECORD_WRITE : RECORD_ZERO;
    p->append.lba = lba;
    p->append.nsectors = n;
    p->append.fua = fua;
    p->append.done = put_done;
    p->append.visible = put_visible;
    if (tag) {
        p->append.data = buf_new((size_t)n * 512);
        fill_sectors(p->append.data->data, lba, n, tag);
        memcpy(f->model + lba * 512, p->append.data->data, (size_t)n * 512);
    } else {
        memset(f->model + lba * 512, 0, (size_t)n * 512);
    }
    p->task.run = put_start;
    loop_post(f->loop, &p->task);
    return p;
}

static inline bool put_finished_within(struct put *p, unsigned ms)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (sem_timedwait(&p->done, &until) < 0)
        if (errno == ETIMEDOUT)
            return false;
    sem_post(&p->done);
    return true;
}

static inline uint64_t put_end(struct put *p)
{
    uint64_t seq;

    while (sem_wait(&p->done) < 0)
        ;
    seq = p->append.seq;
    buf_unref(&p->append.data);
    sem_destroy(&p->done);
    free(p);
    return seq;
}

static inline uint64_t put(struct fixture *f, uint64_t lba, uint32_t n, unsigned tag)
{
    return put_end(put_begin(f, lba, n, tag, false));
}

/* Many of them, in order, without waiting for each. */
struct burst {
    struct put *puts[32];
    unsigned n;
};

static inline void burst_end(struct burst *b)
{
    for (unsigned i = 0; i < b->n; i++)
        put_end(b->puts[i]);
    b->n = 0;
}

static inline void burst_put(struct burst *b, struct fixture *f, uint64_t lba, uint32_t n, unsigned tag)
{
    if (b->n == sizeof b->puts / sizeof b->puts[0])
        burst_end(b);
    b->puts[b->n++] = put_begin(f, lba, n, tag, false);
}

/* --- flushes and reads ---*/

struct flush {
    struct vmlog_flush flush;
    struct task task;
    struct fixture *f;
    sem_t done;
};

static inline void flush_done(struct vmlog_flush *vf)
{
    struct flush *fl = container_of(vf, struct flush, flush);
    sem_post(&fl->done);
}

static inline void flush_start(struct task *t)
{
    struct flush *fl = container_of(t, struct flush, task);
    vmlog_flush(fl->f->log, &fl->flush);
}

static inline void flush_begin(struct fixture *f, struct flush *fl)
{
    *fl = (struct flush){.flush = {.done = flush_done}, .task = {.run = flush_start}, .f = f};
    sem_init(&fl->done, 0, 0);
    loop_post(f->loop, &fl->task);
}

static inline void flush_end(struct flush *fl)
{
    while (sem_wait(&fl->done) < 0)
        ;
    sem_destroy(&fl->done);
}

static inline void flush(struct fixture *f)
{
    struct flush fl;

    flush_begin(f, &fl);
    flush_end(&fl);
}

enum { GET_PIECES = 256 };
struct get {
    struct vmlog_fetch fetch;
    struct task task;
    struct fixture *f;
    uint64_t lba;
    uint32_t n;
    uint8_t *out;
    struct vmlog_piece data[GET_PIECES];
    uint8_t *to[GET_PIECES];
    sem_t done;
    unsigned absent;
};

static inline void get_start(struct task *t);

static inline void get_done(struct vmlog_fetch *vf)
{
    struct get *g = container_of(vf, struct get, fetch);

    if (vf->status == -ENOENT)
        get_start(&g->task);
    else
        sem_post(&g->done);
}

static inline void get_start(struct task *t)
{
    struct get *g = container_of(t, struct get, task);
    static struct vmlog_piece all[GET_PIECES];
    uint32_t covered;
    unsigned n = vmlog_pieces(g->f->log, 0, g->lba, g->n, all, GET_PIECES, &covered), ndata = 0;

    CHECK(covered == g->n);
    g->absent = 0;
    memset(g->out, 0, (size_t)g->n * 512);
    for (unsigned i = 0; i < n; i++) {
        if (all[i].kind == PIECE_ABSENT)
            g->absent += all[i].nsectors;
        if (all[i].kind != PIECE_DATA)
            continue;
        g->to[ndata] = g->out + (all[i].lba - g->lba) * 512;
        g->data[ndata++] = all[i];
    }
    g->fetch = (struct vmlog_fetch){.pieces = g->data, .to = g->to, .n = ndata, .done = get_done};
    if (ndata)
        vmlog_fetch(g->f->log, &g->fetch);
    else
        sem_post(&g->done);
}

/* Absent sectors come as zeros; *absent (may be NULL) tells how many. */
static inline int get(struct fixture *f, uint64_t lba, uint32_t n, uint8_t *out, unsigned *absent)
{
    struct get *g = xcalloc(1, sizeof *g);
    int status;

    g->task.run = get_start;
    g->f = f;
    g->lba = lba;
    g->n = n;
    g->out = out;
    sem_init(&g->done, 0, 0);
    loop_post(f->loop, &g->task);
    while (sem_wait(&g->done) < 0)
        ;
    sem_destroy(&g->done);
    status = g->fetch.status;
    if (absent)
        *absent = g->absent;
    free(g);
    return status;
}

static inline void expect_model(struct fixture *f, uint64_t lba, uint32_t n)
{
    CLEANUP_FREE uint8_t *out = xmalloc((size_t)n * 512);

    assert_int_equal(get(f, lba, n, out, NULL), 0);
    assert_memory_equal(out, f->model + lba * 512, (size_t)n * 512);
}

#endif
