/* links: journal */
/* The store under the journal after SIGKILL, after a power cut, and on altered files. RocksDB's threads do
 * not live through a fork, so whatever opens a store here is a process of its own.
 */
#include "kv_fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* What the process that dies has done, in memory that outlives it. */
struct life {
    struct store s;
    uint32_t synced; /* the newest version at the last sync, */
    const char *reason;
    char cut_dir[40], segment[64]; /* and where that ended */
    uint64_t synced_bytes;
    uint32_t history[3000][KEYS]; /* the versions after each change */
};

static void remembered_changes(struct life *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        change_many(&l->s, 1);
        memcpy(l->history[l->s.newest], l->s.version, sizeof l->s.version);
    }
}

/* Writes in a process that is gone afterwards, without closing: some changes, a sync, some more. */
static void live_and_die(struct life *l, unsigned synced, unsigned more)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        open_store(&l->s);
        l->s.newest = newest_in(&l->s);
        memcpy(l->s.version, l->history[l->s.newest], sizeof l->s.version);
        remembered_changes(l, synced);
        if (l->s.kv->ops->sync(l->s.kv) != 0)
            _exit(1);
        l->synced = l->s.newest;
        strcpy(l->segment, files_of(l->s.dir).last);
        l->synced_bytes = size_of(l->segment);
        remembered_changes(l, more);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static struct life *life_new(void)
{
    struct life *l = mmap(NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(l, MAP_FAILED);
    strcpy(l->s.dir, "/tmp/isthmus-kv-XXXXXX");
    assert_non_null(mkdtemp(l->s.dir));
    snprintf(l->cut_dir, sizeof l->cut_dir, "%.34s.cut", l->s.dir);
    return l;
}

static void life_free(struct life *l)
{
    run("rm -rf %s %s", l->s.dir, l->cut_dir);
    munmap(l, sizeof *l);
}

/* An ending of a life, looked at by a process of its own. */
static void looked_at(struct life *l, CMUnitTestFunction check)
{
    const struct CMUnitTest test[] = {{.name = "a life's end", .test_func = check, .initial_state = l}};
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit(cmocka_run_group_tests(test, NULL, NULL));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void all_is_there(void **state)
{
    struct life *l = *state;

    open_store(&l->s);
    assert_int_equal(newest_in(&l->s), l->s.newest);
    expect_all(&l->s);
}

static void nothing_is_lost_with_the_process(void **state)
{
    struct life *l = life_new();

    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        srand(100 + round);
        live_and_die(l, 1, round * 17);
        looked_at(l, all_is_there); /* and does not close it either */
    }
    life_free(l);
}

/* What is left is the state before some change, and none that was synced is missing. */
static void a_prefix_is_there(void **state)
{
    const struct life *l = *state;
    struct store *cut = xcalloc(1, sizeof *cut);

    strcpy(cut->dir, l->cut_dir);
    open_store(cut);
    cut->newest = newest_in(cut);
    assert_true(cut->newest >= l->synced && cut->newest <= l->s.newest);
    memcpy(cut->version, l->history[cut->newest], sizeof cut->version);
    expect_all(cut);
    change_many(cut, 20); /* and it goes on from there */
    close_store(cut);
    open_store(cut);
    expect_all(cut);
    close_store(cut);
    free(cut);
}

/* A copy whose newest segment ends earlier, or has something else somewhere behind the last sync. */
static void cut_off(struct life *l, bool altered)
{
    struct files f;
    uint64_t end, at;

    run("rm -rf %s && cp -r %s %s", l->cut_dir, l->s.dir, l->cut_dir);
    f = files_of(l->cut_dir);
    end = size_of(f.last);
    at = l->synced_bytes + (uint64_t)rand() % (end - l->synced_bytes + 1);
    if (altered)
        flip(f.last, at < end ? at : end - 1);
    else
        assert_int_equal(truncate(f.last, (off_t)at), 0);
}

static void a_power_cut_leaves_a_prefix(void **state)
{
    struct life *l = life_new();

    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        srand(200 + round);
        live_and_die(l, 20 + round * 7, 14);
        if (strcmp(files_of(l->s.dir).last, l->segment) != 0)
            l->synced_bytes = 16; /* closing a segment syncs what is before the next */
        for (unsigned i = 0; i < 6; i++) {
            cut_off(l, i % 2);
            looked_at(l, a_prefix_is_there);
        }
    }
    life_free(l);
}

/* Ten keys live alone in the oldest segment, and are replaced after the last sync. */
static void replace_the_oldest(struct life *l)
{
    open_store(&l->s);
    for (uint32_t i = 0; i < 10; i++)
        change(&l->s, i, false);
    for (unsigned i = 0; i < 200 || size_of(files_of(l->s.dir).last) > SEGMENT / 4; i++)
        change(&l->s, 10, false);
    assert_int_equal(l->s.kv->ops->sync(l->s.kv), 0);
    l->synced = l->s.newest;
    l->synced_bytes = size_of(files_of(l->s.dir).last);
    memcpy(l->history[l->synced], l->s.version, sizeof l->s.version);
    for (uint32_t i = 0; i < 11; i++) {
        change(&l->s, i, false);
        memcpy(l->history[l->s.newest], l->s.version, sizeof l->s.version);
    }
    raise(SIGKILL);
}

static void what_a_power_cut_brings_back_is_still_there(void **state)
{
    struct life *l = life_new();
    int status;
    pid_t pid;

    (void)state;
    pid = fork();
    if (pid == 0)
        replace_the_oldest(l);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    run("cp -r %s %s", l->s.dir, l->cut_dir);
    assert_int_equal(truncate(files_of(l->cut_dir).last, (off_t)l->synced_bytes), 0);
    looked_at(l, a_prefix_is_there);
    life_free(l);
}

static void it_is_refused(void **state)
{
    struct life *l = *state;

    assert_int_equal(try_open(&l->s), -EBADMSG);
    assert_non_null(strstr(l->s.why.text, l->reason));
    close_store(&l->s);
}

/* Only the end of the newest segment can be torn: anything else is damage, and is not passed over. */
static void an_altered_or_missing_segment_is_refused(void **state)
{
    struct life *l = life_new();
    struct files f;

    (void)state;
    srand(6);
    live_and_die(l, 10, 0);
    run("cp -r %s %s", l->s.dir, l->cut_dir); /* its index knows nothing of what comes now */
    live_and_die(l, 0, 150);
    run("cp -n %s/*.log %s && rm -r %s && mv %s %s", l->s.dir, l->cut_dir, l->s.dir, l->cut_dir, l->s.dir);
    f = files_of(l->s.dir);
    assert_true(f.n >= 3);
    l->reason = "is missing";
    run("mv %s %s.kept", f.first, f.first);
    looked_at(l, it_is_refused);
    run("mv %s.kept %s", f.first, f.first);
    l->reason = "is altered";
    flip(f.first, size_of(f.first) / 2);
    looked_at(l, it_is_refused);
    life_free(l);
}

/* true: reading says that something is wrong. */
static bool key_is_damaged(struct store *s, uint32_t number)
{
    uint8_t key[KEY_BYTES], row[4];
    struct seen seen;
    int err;

    put32(row, number);
    data_key(key, number, s->version[number]);
    err = s->kv->ops->get(s->kv, KV_LOG, row, 4, see, &seen);
    if (err == 0)
        err = s->kv->ops->get(s->kv, KV_DATA, key, KEY_BYTES, see, &seen);
    return err < 0 && err != -ENOENT;
}

static void it_is_noticed_or_harmless(void **state)
{
    static const uint8_t end[32] = {[0 ... 31] = 0xff};
    const struct life *l = *state;
    struct store *cut = xcalloc(1, sizeof *cut);
    unsigned rows = 0;
    bool damaged;

    strcpy(cut->dir, l->cut_dir);
    memcpy(cut->version, l->s.version, sizeof cut->version);
    if (try_open(cut) < 0) {
        assert_true(strlen(cut->why.text) > 0);
    } else {
        damaged = cut->kv->ops->each(cut->kv, KV_LOG, "", 0, end, sizeof end, count_one, &rows) < 0;
        for (uint32_t i = 0; i < KEYS && !damaged; i++)
            damaged = key_is_damaged(cut, i);
        if (!damaged)
            expect_all(cut);
    }
    close_store(cut);
    free(cut);
}

static void close_well(void **state)
{
    struct life *l = *state;

    open_store(&l->s);
    close_store(&l->s);
}

/* RocksDB's own files: bits that flipped, an end that is missing, a file that is gone. Never are other values
 * read, or fewer, without a word. */
static void a_damaged_index_is_noticed(void **state)
{
    static const char *const damages[] = {
        "printf '\\125' | dd of=%s bs=1 seek=$(($(stat -c %%s %s) / 2)) conv=notrunc status=none",
        "truncate -s $(($(stat -c %%s %s) / 2)) %s", "rm %s; : %s"};
    struct life *l = life_new();
    struct dirent *e;
    char index[64];
    DIR *dir;

    (void)state;
    srand(7);
    live_and_die(l, 100, 400);
    looked_at(l, close_well);
    snprintf(index, sizeof index, "%s/index", l->s.dir);
    dir = opendir(index);
    while ((e = readdir(dir)))
        for (size_t i = 0; i < sizeof damages / sizeof *damages && e->d_name[0] != '.'; i++) {
            CLEANUP_FREE char *file = xasprintf("%s/index/%s", l->cut_dir, e->d_name);

            run("rm -rf %s && cp -r %s %s", l->cut_dir, l->s.dir, l->cut_dir);
            run(damages[i], file, file);
            looked_at(l, it_is_noticed_or_harmless);
        }
    closedir(dir);
    life_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_with_the_process),
        cmocka_unit_test(a_power_cut_leaves_a_prefix),
        cmocka_unit_test(what_a_power_cut_brings_back_is_still_there),
        cmocka_unit_test(an_altered_or_missing_segment_is_refused),
        cmocka_unit_test(a_damaged_index_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
