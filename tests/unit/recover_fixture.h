/* tests/unit/recover_fixture.h - a VM with a history of several cuts in its store, each of which is kept to
 * compare.
 */
#ifndef ISTHMUS_RECOVER_FIXTURE_H
#define ISTHMUS_RECOVER_FIXTURE_H

#include "commit_fixture.h"

#include "checkpoint.h"
#include "recover.h"

enum { CUTS = 6 };

struct history {
    struct world *w;
    uint8_t *model[CUTS + 1]; /* as of cut i */
    uint64_t seq[CUTS + 1];
    uint64_t first; /* it is recovered up to there first, then on from there; 0: in one go */
};

static inline void play(struct history *h, unsigned i)
{
    random_puts(h->w, 60, i * 1000);
    assert_int_equal(commit_and_wait(h->w), 0);
    h->seq[i] = map_state(h->w->map)->committed;
    h->model[i] = xmalloc(AREA * 512);
    memcpy(h->model[i], h->w->f->model, AREA * 512);
}

static inline void put_object(struct world *w, const char *key, const uint8_t *bytes, size_t n)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = key};

    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(w->store, &r, NULL), 0);
}

/* As upkeep does it, but the removing. name: in the VM's entry, too. */
static inline struct checkpoint_id checkpoint_as(struct world *w, uint32_t upload, bool name)
{
    FILE *spool = tmpfile();
    struct checkpoint_dead dead = {0};
    struct map_state state = *map_state(w->map);
    struct checkpoint_id id = {.cut = state.committed, .epoch = w->epoch, .upload = upload};
    struct vmobj v = entry_now(w, NULL);
    uint8_t length[4], *bytes = xmalloc(CHECKPOINT_PART_MAX);
    char key[MAP_NAME_MAX];
    uint32_t n = 0, before = 0;

    if (checkpoint_write(w->map, w->f->journal, w->f->loop, &w->master, w->f->id, &id, &state, spool, &dead,
                         &w->f->why))
        fail_msg("%s", w->f->why.text);
    rewind(spool);
    for (uint32_t i = 0; fread(length, 4, 1, spool) == 1; i++) {
        if (i) {
            checkpoint_name(key, w->f->id, &id, i - 1);
            put_object(w, key, bytes, before);
        }
        n = (uint32_t)length[0] << 24 | (uint32_t)length[1] << 16 | (uint32_t)length[2] << 8 | length[3];
        assert_int_equal(fread(bytes, n, 1, spool), 1);
        before = n;
    }
    checkpoint_name(key, w->f->id, &id, CHECKPOINT_END);
    put_object(w, key, bytes, before);
    fclose(spool);
    free(bytes);
    free(dead.firsts);
    if (name) {
        v.before = v.newest;
        v.newest = id;
        entry_swap(w, &v);
    }
    return id;
}

static inline void checkpoint(struct world *w)
{
    checkpoint_as(w, 0x600d, true);
}

static inline struct history *history_new(unsigned cuts, unsigned checkpoint_at)
{
    struct history *h = xcalloc(1, sizeof *h);

    srand(41);
    h->w = world_new();
    for (unsigned i = 1; i <= cuts; i++) {
        play(h, i);
        if (i == checkpoint_at)
            checkpoint(h->w);
    }
    return h;
}

static inline void history_free(struct history *h)
{
    world_free(h->w);
    for (unsigned i = 1; i <= CUTS; i++)
        free(h->model[i]);
    free(h);
}

/* What the last recovery said, a line each. */
static char said[2000];

/* Why the last recovery was refused. */
static struct why refusal;

static inline void on_recovery_told(void *arg, const char *sentence)
{
    size_t n = strlen(said);

    (void)arg;
    snprintf(said + n, sizeof said - n, "%s\n", sentence);
}

/* An edge whose disks are gone, and the store as it is: recovered, and the VM taken over. */
static inline struct recover_result recover(struct history *h, uint64_t through, int expected)
{
    struct world *w = h->w;
    struct fixture *f = w->f;
    struct recover_result result, before;
    struct recover_conf conf = {.master = &w->master,
                                .entry = entry_now(w, NULL),
                                .vm = "vm",
                                .floor = w->floor,
                                .through = through,
                                .tell = on_recovery_told};

    *said = '\0';
    world_close(w);
    remove_tree(f->dir);
    assert_int_equal(fixture_open_journal(f), 0);
    on_loop(f, open_store, w);
    conf.journal = f->journal;
    conf.store = w->store;
    if (h->first) {
        conf.through = h->first;
        assert_int_equal(recover_vm(&conf, &before, &f->why), 0);
        conf.through = through;
        conf.from = &before;
        conf.audited = true;
    }
    assert_int_equal(recover_vm(&conf, &result, &f->why), expected);
    refusal = f->why;
    if (expected == 0 || result.unwritten) {
        struct vmobj next = recover_entry(&conf, &result);

        next.epoch = w->epoch = conf.entry.epoch + 1;
        next.since = result.state.committed + 1;
        memset(next.writer, w->writer, sizeof next.writer);
        assert_int_equal(recover_keep_entry(&conf, &result, &f->why), 0);
        entry_swap(w, &next);
        assert_int_equal(recover_put_aside(&conf, &result, &f->why), 0);
    }
    on_loop(f, free_store, w);
    journal_close(&f->journal);
    world_open(w);
    return result;
}

static inline void expect_cut_is(struct history *h, unsigned i)
{
    memcpy(h->w->f->model, h->model[i], AREA * 512);
    assert_int_equal(map_state(h->w->map)->committed, h->seq[i]);
    expect_store(h->w);
}

/* --- files of the store ---*/

static inline char *path_of(struct history *h, const char *name)
{
    return xasprintf("find '%s' -name '%s*' -type f | head -1", h->w->store_dir, strrchr(name, '/') + 1);
}

/* shell on the file that holds an object. */
static inline void damage(struct history *h, const char *name, const char *how)
{
    CLEANUP_FREE char *find = path_of(h, name);
    CLEANUP_FREE char *command = xasprintf("f=$(%s) && test -n \"$f\" && %s", find, how);

    assert_int_equal(system(command), 0);
}

/* How many files of the store have this in their path. */
static inline unsigned files(struct history *h, const char *part)
{
    CLEANUP_FREE char *command = xasprintf("find '%s' -type f -path '*%s*' | wc -l", h->w->store_dir, part);
    FILE *f = popen(command, "r");
    char line[32] = "";

    assert_non_null(fgets(line, sizeof line, f));
    pclose(f);
    return (unsigned)strtoul(line, NULL, 10);
}

/* which: of the sorted names of the log's objects, those to remove. */
static inline void the_log_without(struct history *h, const char *which)
{
    CLEANUP_FREE char *command = xasprintf("cd '%s'/vms/*/log && rm $(ls | %s)", h->w->store_dir, which);

    assert_int_equal(system(command), 0);
}

#endif
