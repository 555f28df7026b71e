/* links: initiator link pki */
/* An on-prem daemon that is killed at each of its steps, and the disks that it leaves.
 *
 * Each run is a process of its own (this program, with a step to die at): attach, two cuts, a stage that is
 * not whole, an alarm, detach. Then another one goes on, with what the edge knows: the cut that was confirmed
 * to it. A cut that was staged comes to the disks with no edge.
 */
#include "step.h"
#include "writeback_fixture.h"

static const struct piece first_cut[] = {
    {0, WB_PIECE_DATA, 0, 8, 1},    {0, WB_PIECE_DATA, 27, 3, 4}, {0, WB_PIECE_ZERO, 31, 9, 0},
    {0, WB_PIECE_DATA, 800, 8, 6},  {1, WB_PIECE_DATA, 0, 8, 7},  {1, WB_PIECE_ZERO, 8, 1, 0},
    {1, WB_PIECE_DATA, 2040, 8, 8},
};
static const struct piece second_cut[] = {
    {0, WB_PIECE_DATA, 0, 8, 21},
    {0, WB_PIECE_DATA, 160, 8, 1}, /* as it is at block 0 before: found */
    {0, WB_PIECE_ZERO, 800, 8, 0},
    {1, WB_PIECE_DATA, 5, 1, 22},
};
enum {
    FOUND = 1,
    FIRST = sizeof first_cut / sizeof first_cut[0],
    SECOND = sizeof second_cut / sizeof second_cut[0]
};
static const uint64_t foreign_at = 700000;

/* ---- what the edge knows over its own death ---- */

static void confirmed_set(uint64_t cut)
{
    char path[96];
    FILE *f;

    snprintf(path, sizeof path, "%s/confirmed", dir);
    f = fopen(path, "w");
    fprintf(f, "%llu", (unsigned long long)cut);
    fclose(f);
}

static uint64_t confirmed(void)
{
    unsigned long long cut = 0;
    char path[96];
    FILE *f;

    snprintf(path, sizeof path, "%s/confirmed", dir);
    f = fopen(path, "r");
    if (f) {
        assert_int_equal(fscanf(f, "%llu", &cut), 1);
        fclose(f);
    }
    return cut;
}

/* ---- the run ---- */

static void applied(uint64_t target)
{
    assert_int_equal(simple(PROTO_WB_APPLIED, target), 0);
    if (now.alarm) {
        assert_int_equal(simple(PROTO_VM_CLEAR_ALARM, 0), 0);
        assert_int_equal(simple(PROTO_WB_APPLIED, target), 0);
    }
    assert_int_equal(now.applied, target);
    confirmed_set(target);
}

static void offer_found(void)
{
    struct wb_head h = head_of(150);
    uint8_t hash[1][WB_HASH_BYTES];
    uint64_t block = second_cut[FOUND].lba / 8;
    bool wanted;

    piece_hash(&second_cut[FOUND], hash[0]);
    assert_int_equal(
        ask(PROTO_WB_OFFER, wb_put_offer(&h, 0, 1, &block, (const uint8_t(*)[WB_HASH_BYTES])hash)), 0);
    assert_int_equal(wb_get_wanted(call.reply->data, call.reply->len, &wanted, 1), 0);
    buf_unref(&call.reply);
    if (wanted)
        assert_int_equal(send_piece(150, &second_cut[FOUND]), 0);
}

static void put_second(void)
{
    assert_int_equal(begin_cut(100, 150), 0);
    for (unsigned i = 0; i < SECOND; i++)
        if (i == FOUND)
            offer_found();
        else
            assert_int_equal(send_piece(150, &second_cut[i]), 0);
}

static void foreign_write(void)
{
    struct timespec a_while = {.tv_nsec = 20000000}; /* a file's times are those of the kernel's tick */
    char path[128];
    int fd;

    nanosleep(&a_while, NULL);
    image_path(path, sizeof path, 1);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "mine", 4, (off_t)foreign_at), 4);
    close(fd);
}

static void go_on(void)
{
    if (now.applied == 0) {
        stage_cut(0, 100, first_cut, FIRST);
        applied(100);
    }
    if (now.applied == 100) {
        foreign_write();
        put_second();
        assert_int_equal(end_cut(150, second_cut, SECOND - 1), -EAGAIN);
        put_second();
        assert_int_equal(end_cut(150, second_cut, SECOND), 0);
        applied(150);
    }
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
}

static void on_prem_alone(void)
{
    uint64_t target = now.target;

    WAIT((simple(PROTO_WB_STATE, 0), now.alarm || now.applied == target));
    if (now.alarm)
        applied(target);
}

static void recover(void **state)
{
    int status;

    (void)state;
    in_model(first_cut, FIRST);
    memcpy(model[1] + foreign_at, "mine", 4);
    in_model(second_cut, SECOND);
    status = simple(PROTO_WB_STATE, 0);
    if (status == -ENOENT) {
        assert_int_equal(attach_at(WB_WRITE_BACK, confirmed()), 0);
    } else {
        assert_int_equal(status, 0);
        assert_true(now.applied >= confirmed());
    }
    if (now.stage >= WB_STAGE_STAGED)
        on_prem_alone();
    go_on();
    expect_disks();
}

static void run(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    go_on();
}

/* ---- the processes ---- */

static int child_begin(void **state)
{
    (void)state;
    if (!getenv("TEST_VERBOSE"))
        log_set_level("error");
    pool_start(4);
    loop = loop_new("test");
    snprintf(data_dir, sizeof data_dir, "%s/data", dir);
    for (unsigned i = 0; i < ndisks; i++) {
        model[i] = xmalloc(IMAGE_BYTES);
        for (uint64_t at = 0; at < IMAGE_BYTES; at += 8)
            memcpy(model[i] + at, &at, 8);
    }
    world_up();
    return 0;
}

static int child_end(void **state)
{
    (void)state;
    world_down();
    pool_stop();
    loop_free(&loop);
    for (unsigned i = 0; i < ndisks; i++)
        free(model[i]);
    return 0;
}

static int child(const char *where, const char *step)
{
    const struct CMUnitTest running[] = {cmocka_unit_test(run)}, recovering[] = {cmocka_unit_test(recover)};
    struct why why;

    snprintf(dir, sizeof dir, "%s", where);
    if (!step)
        return cmocka_run_group_tests(recovering, child_begin, child_end);
    if (strcmp(step, "-") != 0 && step_crash_at(step, &why) != 0)
        return 2;
    return cmocka_run_group_tests(running, child_begin, child_end);
}

static char program[256];

static void fresh_site(void)
{
    char command[160];

    ndisks = 2;
    snprintf(command, sizeof command, "rm -rf %s/data %s/confirmed", dir, dir);
    assert_int_equal(run_program(command), 0);
    snprintf(data_dir, sizeof data_dir, "%s/data", dir);
    assert_int_equal(mkdir(data_dir, 0700), 0);
    make_images();
}

/* false: it ended before it came there as often. */
static bool dies_at(const char *step)
{
    char command[512];
    int status;

    fresh_site();
    snprintf(command, sizeof command, "%s %s %s", program, dir, step);
    status = run_program(command);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("%s: the run ended with %x", step, status);
    snprintf(command, sizeof command, "%s %s", program, dir);
    status = run_program(command);
    if (status != 0)
        fail_msg("%s: what it left did not come right (%x)", step, status);
    return true;
}

static void every_step_may_be_the_last(void **state)
{
    char *steps = NULL, *line, *save = NULL, step[64];
    size_t n;
    FILE *f = open_memstream(&steps, &n);
    unsigned died = 0;

    (void)state;
    step_print(f);
    fclose(f);
    for (line = strtok_r(steps, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "onprem.", 7) != 0)
            continue;
        line[strcspn(line, "\t")] = 0;
        if (!dies_at(line))
            fail_msg("the run does not come to %s", line);
        died++;
        /* In the middle of what comes several times, and in the second cut. */
        snprintf(step, sizeof step, "%s:%u", line, strstr(line, "data") || strstr(line, "write") ? 6u : 2u);
        died += dies_at(step);
    }
    free(steps);
    assert_true(died >= 20);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_step_may_be_the_last)};
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);

    if (n < 0)
        return 2;
    if (argc > 1)
        return child(argv[1], argc > 2 ? argv[2] : NULL);
    return cmocka_run_group_tests(tests, serve_begin, fixture_end);
}
