/* links: journal */
/* SIGKILL under load: a child writes and says through a pipe which of its writes were acknowledged; the
 * parent kills it, opens the journal, and looks for every one of them.
 */
#include "journal_fixture.h"

#include <poll.h>
#include <signal.h>

enum { ROUNDS = 12, DEPTH = 16, SLOTS = 512, SLOT_SECTORS = 40 };

/* What the child reports: this slot holds this tag now. */
struct report {
    uint32_t slot, tag;
};

struct load {
    struct vmlog_append append;
    struct task task;
    struct fixture *f;
    struct report report;
    int pipe;
};

static unsigned next_tag;
static uint32_t next_slot;

static uint32_t sectors_of(uint32_t slot)
{
    return slot % 8 == 0 ? SLOT_SECTORS : 8 + slot % 5; /* some of them not whole blocks */
}

/* Slots in turn, so that no two writes of one slot are in flight. */
static void load_next(struct task *t)
{
    struct load *l = container_of(t, struct load, task);

    l->report = (struct report){next_slot, ++next_tag};
    next_slot = (next_slot + 1) % SLOTS;
    l->append.lba = (uint64_t)l->report.slot * SLOT_SECTORS;
    l->append.nsectors = sectors_of(l->report.slot);
    fill_sectors(l->append.data->data, l->append.lba, l->append.nsectors, l->report.tag);
    vmlog_append(l->f->log, &l->append);
}

static void load_done(struct vmlog_append *a)
{
    struct load *l = container_of(a, struct load, append);

    CHECK(write(l->pipe, &l->report, sizeof l->report) == sizeof l->report);
    load_next(&l->task);
}

static _Noreturn void child(const char *dir, int pipe, unsigned first_tag)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct load *loads = xcalloc(DEPTH, sizeof *loads);
    struct journal_conf conf = {.path = dir, .max_bytes = 256 * MIB};

    next_tag = first_tag;
    next_slot = first_tag % SLOTS;
    memset(conf.key.bytes, 1, sizeof conf.key.bytes);
    pool_start(1);
    f->loop = loop_new("child");
    CHECK(journal_open(&f->journal, &conf, &f->why) == 0);
    CHECK(vmlog_open(&f->log, f->journal, f->loop, fixture_id, "vm", &f->why) == 0);
    for (int i = 0; i < DEPTH; i++) {
        loads[i].f = f;
        loads[i].pipe = pipe;
        loads[i].append.type = RECORD_WRITE;
        loads[i].append.data = buf_new(SLOT_SECTORS * 512);
        loads[i].append.done = load_done;
        loads[i].task.run = load_next;
        loop_post(f->loop, &loads[i].task);
    }
    loop_run(f->loop);
    abort();
}

/* Reads what the child reports until `want` reports came, kills it, and reads the rest. */
static unsigned kill_after(pid_t pid, int from, unsigned want, uint32_t *acked, uint32_t *newest)
{
    struct report r;
    unsigned n = 0;
    int status;

    while (read(from, &r, sizeof r) == sizeof r) {
        assert_true(r.slot < SLOTS);
        acked[r.slot] = r.tag;
        if (*newest < r.tag)
            *newest = r.tag;
        if (++n == want)
            kill(pid, SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return n;
}

/* Each slot holds what was acknowledged last, or a later write of it that was in flight; never a mixture. */
static unsigned lost_after_crash(const char *dir, const uint32_t *acked, uint32_t newest)
{
    struct fixture *f = fixture_new();
    unsigned lost = 0;

    remove_tree(f->dir);
    snprintf(f->dir, sizeof f->dir, "%s", dir);
    fixture_open(f);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint64_t lba = (uint64_t)slot * SLOT_SECTORS;
        uint32_t n = sectors_of(slot), tag;
        uint8_t out[SLOT_SECTORS * 512], expected[SLOT_SECTORS * 512];
        unsigned absent;

        assert_int_equal(get(f, lba, n, out, &absent), 0);
        if (acked[slot] == 0)
            continue;
        memcpy(&tag, out + 8, 4);
        fill_sectors(expected, lba, n, tag);
        if (absent || tag < acked[slot] || tag > newest + DEPTH || memcmp(out, expected, n * 512) != 0)
            lost++;
    }
    fixture_close(f);
    strcpy(f->dir, "/tmp/isthmus-journal-none");
    fixture_free(f);
    return lost;
}

static void no_acknowledged_write_is_lost(void **state)
{
    char dir[] = "/tmp/isthmus-crash-XXXXXX";
    uint32_t *acked = xcalloc(SLOTS, sizeof *acked), newest = 0;
    unsigned total = 0;

    (void)state;
    assert_non_null(mkdtemp(dir));
    for (unsigned round = 0; round < ROUNDS; round++) {
        int ends[2];
        pid_t pid;

        assert_int_equal(pipe(ends), 0);
        pid = fork();
        if (pid == 0) {
            close(ends[0]);
            child(dir, ends[1], newest + DEPTH);
        }
        close(ends[1]);
        total += kill_after(pid, ends[0], 50 + round * 377, acked, &newest);
        close(ends[0]);
        assert_int_equal(lost_after_crash(dir, acked, newest), 0);
    }
    print_message("%u acknowledged writes in %u rounds, none lost\n", total, (unsigned)ROUNDS);
    free(acked);
    remove_tree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_acknowledged_write_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
