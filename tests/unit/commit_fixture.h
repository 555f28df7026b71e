/* tests/unit/commit_fixture.h - a VM's log, its map and its way into an object store in a directory; calls
 * that wait.
 */
#ifndef ISTHMUS_COMMIT_FIXTURE_H
#define ISTHMUS_COMMIT_FIXTURE_H

#include "journal_fixture.h"

#include "commit.h"
#include "entry.h"
#include "store_dir.h"
#include "store_gate.h"
#include "store_wait.h"

#include <stdio.h>

enum { AREA = 16384 };

struct world {
    struct fixture *f;
    char store_dir[80], saved[80];
    struct aead_key master;
    struct store *store; /* = &gate->store */
    struct store_gate *gate;
    const char *hold; /* what it holds back, from the next opening on; `held` when it does */
    sem_t held;
    struct map *map;
    struct commit_slots slots;
    struct commit *commit;
    struct worker *worker;
    uint8_t writer;
    uint64_t epoch, floor;
    unsigned age_ms;
    uint64_t bytes;
    bool fenced;
    uint64_t lag_ns;
    sem_t cut; /* a cut was committed */
    sem_t done;
    int status;
    struct commit_wait wait;
};

static inline void on_fenced(void *arg, const struct why *why)
{
    (void)why;
    ((struct world *)arg)->fenced = true;
}

static inline void on_cut(void *arg, uint64_t cut)
{
    (void)cut;
    sem_post(&((struct world *)arg)->cut);
}

static inline void start(struct fixture *f, void *arg)
{
    struct world *w = arg;
    struct commit_conf conf = {.loop = f->loop,
                               .log = f->log,
                               .map = w->map,
                               .store = w->store,
                               .slots = &w->slots,
                               .worker = w->worker,
                               .master = w->master,
                               .vm = "vm",
                               .epoch = w->epoch,
                               .floor = w->floor,
                               .age_ms = w->age_ms,
                               .bytes = w->bytes,
                               .object_bytes = 64 << 10,
                               .fenced = on_fenced,
                               .committed = on_cut,
                               .arg = w};

    memset(conf.writer, w->writer, sizeof conf.writer);
    memcpy(conf.id, f->id, sizeof conf.id);
    cut_resume(f->log, map_state(w->map)->committed);
    w->commit = commit_new(&conf);
}

static inline struct entry_access entry_access(const struct world *w)
{
    return (struct entry_access){.store = w->store, .master = &w->master, .random = w->f->loop};
}

static inline struct vmobj entry_of(const struct world *w, uint8_t writer, uint64_t epoch)
{
    struct vmobj v = {.epoch = epoch};

    memcpy(v.id, w->f->id, sizeof v.id);
    memset(v.writer, writer, sizeof v.writer);
    return v;
}

/* What the store says of the VM, and its etag (may be NULL). */
static inline struct vmobj entry_now(struct world *w, char *etag)
{
    struct entry_access a = entry_access(w);
    char unused[ENTRY_ETAG];
    struct buf *text;
    struct vmobj v;

    if (entry_read(&a, w->f->id, &v, &text, etag ? etag : unused, &w->f->why))
        fail_msg("%s", w->f->why.text);
    vmobj_wipe(&text);
    return v;
}

/* Another entry takes the place of what is there. */
static inline void entry_swap(struct world *w, const struct vmobj *v)
{
    struct entry_access a = entry_access(w);
    char etag[ENTRY_ETAG];

    entry_now(w, etag);
    assert_int_equal(entry_put(&a, v, "{}", etag, &w->f->why), 0);
}

/* It says that this edge writes the log, and nothing else. */
static inline void put_entry(struct world *w, uint8_t writer)
{
    struct vmobj v = entry_of(w, writer, w->epoch);

    entry_swap(w, &v);
}

static inline void open_store(struct fixture *f, void *arg)
{
    struct world *w = arg;
    struct store *dir = store_dir_new(f->loop, w->store_dir, 16, &f->why);

    w->gate = dir ? store_gate_new(dir, w->hold, 0, &w->held) : NULL;
    w->store = dir ? &w->gate->store : NULL;
}

static inline void open_gate(struct fixture *f, void *arg)
{
    (void)f;
    store_gate_open(((struct world *)arg)->gate);
}

static inline void wait_held(struct world *w)
{
    while (sem_wait(&w->held) < 0)
        ;
}

static inline void world_open(struct world *w)
{
    struct fixture *f = w->f;

    fixture_open(f);
    if (map_open(&w->map, f->journal, f->id, "vm", &f->why) != 0)
        fail_msg("%s", f->why.text);
    on_loop(f, open_store, w);
    if (!w->store)
        fail_msg("%s", f->why.text);
    on_loop(f, start, w);
}

static inline void on_stopped(void *arg)
{
    sem_post(&((struct world *)arg)->done);
}

static inline void stop(struct fixture *f, void *arg)
{
    struct world *w = arg;

    (void)f;
    commit_stop(w->commit, on_stopped, w);
}

static inline void free_store(struct fixture *f, void *arg)
{
    (void)f;
    store_free(&((struct world *)arg)->store);
}

static inline void wait_done(struct world *w)
{
    while (sem_wait(&w->done) < 0)
        ;
}

static inline void world_close(struct world *w)
{
    on_loop(w->f, stop, w);
    wait_done(w);
    on_loop(w->f, free_store, w);
    map_close(&w->map);
    fixture_close(w->f);
}

static inline struct world *world_new(void)
{
    struct world *w = xcalloc(1, sizeof *w);

    w->f = fixture_new();
    snprintf(w->store_dir, sizeof w->store_dir, "%s-store", w->f->dir);
    snprintf(w->saved, sizeof w->saved, "%s-saved", w->f->dir);
    commit_slots_init(&w->slots, 2);
    sem_init(&w->done, 0, 0);
    sem_init(&w->cut, 0, 0);
    sem_init(&w->held, 0, 0);
    memset(w->master.bytes, 9, sizeof w->master.bytes);
    w->worker = worker_new("worker");
    w->writer = 1;
    w->age_ms = 3600000;
    w->bytes = UINT64_MAX;
    world_open(w);
    struct entry_access a = entry_access(w);
    struct vmobj v = entry_of(w, w->writer, w->epoch);

    assert_int_equal(entry_put(&a, &v, "{}", NULL, &w->f->why), 0);
    return w;
}

static inline void world_free(struct world *w)
{
    world_close(w);
    worker_free(&w->worker);
    remove_tree(w->store_dir);
    remove_tree(w->saved);
    fixture_free(w->f);
    sem_destroy(&w->done);
    sem_destroy(&w->cut);
    sem_destroy(&w->held);
    free(w);
}

static inline void on_committed(struct commit_wait *wait)
{
    struct world *w = container_of(wait, struct world, wait);

    w->status = wait->status;
    sem_post(&w->done);
}

static inline void ask(struct fixture *f, void *arg)
{
    struct world *w = arg;

    (void)f;
    w->wait.done = on_committed;
    commit_now(w->commit, &w->wait);
}

static inline int commit_and_wait(struct world *w)
{
    on_loop(w->f, ask, w);
    wait_done(w);
    return w->status;
}

static inline void random_puts(struct world *w, unsigned n, unsigned tag)
{
    struct burst b = {.n = 0};

    for (unsigned i = 0; i < n; i++) {
        uint32_t sectors = 1 + (uint32_t)rand() % (i % 20 == 0 ? 1500 : 40);
        uint64_t at = (uint64_t)rand() % (AREA - sectors);

        burst_put(&b, w->f, at, sectors, rand() % 8 ? tag + i + 1 : 0);
    }
    burst_end(&b);
}

/* --- reading what the store has ---*/

struct get_object {
    struct store_req req;
    struct store *store;
    sem_t done;
};

static inline void on_got(struct store_req *r)
{
    sem_post(&container_of(r, struct get_object, req)->done);
}

static inline void get_submit(struct fixture *f, void *arg)
{
    struct get_object *g = arg;

    (void)f;
    store_submit(g->store, &g->req);
}

static inline size_t get_object(struct world *w, uint64_t first, uint64_t offset, void *out, size_t n)
{
    struct get_object g = {.store = w->store};
    char key[100], *p = key;

    p += sprintf(p, "vms/");
    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        p += sprintf(p, "%02x", w->f->id[i]);
    sprintf(p, "/log/%016lx", first);
    g.req = (struct store_req){.op = STORE_GET, .timeout_ms = 5000, .done = on_got, .key = key};
    g.req.get.buf = out;
    g.req.get.cap = n;
    g.req.get.offset = offset;
    sem_init(&g.done, 0, 0);
    on_loop(w->f, get_submit, &g);
    while (sem_wait(&g.done) < 0)
        ;
    sem_destroy(&g.done);
    if (g.req.status)
        fail_msg("%s: %s", key, g.req.why.text);
    return g.req.len;
}

static inline void read_piece(struct world *w, const struct map_piece *p, uint8_t *out)
{
    static uint8_t sealed[LOGOBJ_FRAME_BYTES + LOGOBJ_FRAME_OVERHEAD], plain[LOGOBJ_FRAME_BYTES];
    struct logobj_opener *opener;
    struct map_object o;
    int n;

    assert_int_equal(map_object(w->map, p->object, &o), 0);
    assert_int_equal(get_object(w, p->object, o.front_bytes + p->frame_at, sealed, p->frame_bytes),
                     p->frame_bytes);
    opener = logobj_opener_new(&w->master, w->f->id, p->object, o.salt);
    n = logobj_frame_open(opener, p->frame_at, sealed, p->frame_bytes, plain);
    logobj_opener_free(&opener);
    assert_true(n >= (int)((p->frame_sector + p->nsectors) * 512));
    memcpy(out, plain + (size_t)p->frame_sector * 512, (size_t)p->nsectors * 512);
}

/* Everything committed, and nothing left in the journal. source: the disk below, NULL: zeros. */
static inline void expect_store_over(struct world *w, const uint8_t *source)
{
    CLEANUP_FREE uint8_t *disk = xcalloc(AREA, 512);
    struct map_piece pieces[64];

    if (source)
        memcpy(disk, source, AREA * 512);
    for (uint64_t at = 0; at < AREA;) {
        unsigned n;
        uint32_t covered;

        assert_int_equal(map_lookup(w->map, 0, at, (uint32_t)(AREA - at), pieces, 64, &n, &covered), 0);
        for (unsigned i = 0; i < n; i++)
            if (pieces[i].kind == PIECE_DATA)
                read_piece(w, &pieces[i], disk + pieces[i].lba * 512);
            else if (pieces[i].kind == PIECE_ZERO)
                memset(disk + pieces[i].lba * 512, 0, (size_t)pieces[i].nsectors * 512);
        at += covered;
    }
    assert_memory_equal(disk, w->f->model, AREA * 512);
    assert_int_equal(journal_bytes(w->f->journal), 0);
}

static inline void expect_store(struct world *w)
{
    expect_store_over(w, NULL);
}

static inline void copy_tree(const char *from, const char *to)
{
    CLEANUP_FREE char *command = xasprintf("rm -rf '%s' && cp -a '%s' '%s'", to, from, to);

    assert_int_equal(system(command), 0);
}

#endif
