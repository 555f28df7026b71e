/* links: initiator link pki */
/* A VM's cuts to disks in files: staged whole, applied, refused, and kept over restarts. */
#include "writeback_fixture.h"

static const struct piece another_cut[] = {
    {0, WB_PIECE_ZERO, 0, 16, 0},
    {0, WB_PIECE_DATA, 1000, 8, 11},
    {1, WB_PIECE_DATA, 5, 1, 12},
};

static void a_cut_is_staged_and_applied(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_true(now.applied == 0 && now.target == 0 && now.stage == WB_STAGE_NONE && !now.alarm);
    write_back(0, 100, PIECES(some_cut));
    assert_true(now.applied == 100 && now.stage == WB_STAGE_NONE && now.target == 0);
    assert_false(now.held); /* files know no reservations */
    assert_true(now.applied_instant_ms == 1764370800100);
    expect_disks();
    write_back(100, 150, PIECES(another_cut));
    expect_disks();
    /* A cut without a change, and messages that come again. */
    write_back(150, 160, some_cut, 0);
    assert_int_equal(begin_cut(150, 160), 0);
    assert_int_equal(send_piece(160, &some_cut[0]), 0);
    assert_int_equal(end_cut(160, some_cut, 0), 0);
    assert_int_equal(simple(PROTO_WB_APPLIED, 160), 0);
    assert_int_equal(now.applied, 160);
    expect_disks();
}

static void a_stage_that_is_not_whole_is_given_up(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(0, 100), 0);
    assert_int_equal(send_piece(100, &some_cut[0]), 0);
    assert_int_equal(end_cut(100, some_cut, 2), -EAGAIN);
    assert_int_equal(simple(PROTO_WB_STATE, 0), 0);
    assert_int_equal(now.stage, WB_STAGE_NONE);
    assert_int_equal(send_piece(100, &some_cut[0]), -EAGAIN); /* none is open */
    assert_int_equal(simple(PROTO_WB_APPLIED, 100), -EAGAIN);
    assert_int_equal(begin_cut(0, 100), 0); /* as many pieces, but not these */
    assert_int_equal(send_piece(100, &some_cut[0]), 0);
    assert_int_equal(end_cut(100, some_cut + 1, 1), -EAGAIN);
    expect_disks();
    write_back(0, 100, PIECES(some_cut));
    expect_disks();
}

static void another_target_takes_the_place_of_an_open_stage(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(0, 100), 0);
    assert_int_equal(send_piece(100, &some_cut[6]), 0);
    assert_int_equal(begin_cut(0, 100), 0); /* the same one goes on */
    assert_int_equal(now.pieces, 1);
    assert_int_equal(begin_cut(0, 120), 0);
    assert_int_equal(now.pieces, 0);
    assert_int_equal(send_piece(100, &some_cut[0]), -EAGAIN);
    write_back(0, 120, PIECES(another_cut));
    expect_disks();
}

static void who_has_lost_the_vm_is_refused(void **state)
{
    (void)state;
    epoch = 5;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(7, 100), -ESTALE); /* not what the disks are at */
    assert_int_equal(begin_cut(0, 100), 0);
    epoch = 4;
    assert_int_equal(simple(PROTO_WB_STATE, 0), -ESTALE);
    assert_int_equal(send_piece(100, &some_cut[0]), -ESTALE);
    assert_int_equal(attach_as(WB_WRITE_BACK), -ESTALE);
    assert_int_equal(simple(PROTO_VM_DETACH, 0), -ESTALE);
    epoch = 6;
    assert_int_equal(simple(PROTO_WB_STATE, 0), 0); /* which only looks */
    assert_true(now.epoch == 5);
    /* any other message tells of a new one */
    assert_int_equal(send_piece(100, &some_cut[0]), 0);
    epoch = 5;
    assert_int_equal(send_piece(100, &some_cut[1]), -ESTALE);
    world_down();
    world_up();
    assert_int_equal(simple(PROTO_WB_STATE, 0), -ESTALE);
    epoch = 6;
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
    assert_int_equal(simple(PROTO_WB_STATE, 0), -ENOENT);
    epoch = 5;
    assert_int_equal(attach_as(WB_WRITE_BACK), -ESTALE); /* that it was detached is no way back in */
    world_down();
    world_up();
    assert_int_equal(attach_as(WB_WRITE_BACK), -ESTALE);
    epoch = 6;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
}

static void cloud_persist_is_not_one_byte(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_CLOUD_PERSIST), 0);
    assert_int_equal(begin_cut(0, 100), -EPERM);
    assert_int_equal(send_piece(100, &some_cut[0]), -EPERM);
    assert_int_equal(send_piece(100, &some_cut[5]), -EPERM);
    assert_int_equal(end_cut(100, some_cut, 0), -EPERM);
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(0, 100), 0);
    assert_int_equal(send_piece(100, &some_cut[0]), 0);
    assert_int_equal(attach_as(WB_CLOUD_PERSIST), 0); /* gives up what is open */
    assert_int_equal(now.stage, WB_STAGE_NONE);
    assert_int_equal(end_cut(100, some_cut, 1), -EPERM);
    expect_disks();
}

static void somebody_else_wrote(unsigned disk, uint64_t at)
{
    struct timespec a_while = {.tv_nsec = 20000000}; /* a file's times are those of the kernel's tick */
    char path[128];
    int fd;

    nanosleep(&a_while, NULL);
    image_path(path, sizeof path, disk);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "mine", 4, (off_t)at), 4);
    close(fd);
    memcpy(model[disk] + at, "mine", 4);
}

static void a_foreign_write_is_an_alarm(void **state)
{
    struct why why;

    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    write_back(0, 100, PIECES(some_cut));
    assert_true(writeback_healthy(writeback, &why));
    somebody_else_wrote(1, 700000);
    stage_cut(100, 150, PIECES(another_cut));
    assert_int_equal(simple(PROTO_WB_APPLIED, 150), 0);
    assert_true(now.alarm && now.applied == 100 && now.target == 150);
    assert_non_null(strstr(now.text, "disk1 was written by somebody else"));
    assert_false(writeback_healthy(writeback, &why));
    expect_disks(); /* not one byte */
    assert_int_equal(simple(PROTO_VM_DETACH, 0), -EBUSY);
    world_down();
    world_up();
    assert_int_equal(simple(PROTO_WB_APPLIED, 150), 0);
    assert_true(now.alarm && now.applied == 100);
    expect_disks();
    assert_int_equal(simple(PROTO_VM_CLEAR_ALARM, 0), 0);
    assert_int_equal(simple(PROTO_WB_APPLIED, 150), 0);
    assert_true(!now.alarm && now.applied == 150);
    in_model(PIECES(another_cut));
    expect_disks();
}

static void a_stage_outlives_a_restart(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(0, 100), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(send_piece(100, &some_cut[i]), 0);
    world_down();
    world_up();
    assert_int_equal(simple(PROTO_WB_STATE, 0), 0);
    assert_true(now.stage == WB_STAGE_OPEN && now.target == 100);
    assert_int_equal(begin_cut(0, 100), 0);
    for (unsigned i = 4; i < 11; i++)
        assert_int_equal(send_piece(100, &some_cut[i]), 0);
    assert_int_equal(end_cut(100, PIECES(some_cut)), 0);
    assert_int_equal(simple(PROTO_WB_APPLIED, 100), 0);
    in_model(PIECES(some_cut));
    expect_disks();
    world_down();
    world_up();
    assert_int_equal(simple(PROTO_WB_STATE, 0), 0);
    assert_true(now.applied == 100 && now.applied_instant_ms == 1764370800100);
}

static void offer(uint64_t target, uint8_t disk, const struct piece *pieces, unsigned n, bool *wanted)
{
    struct wb_head h = head_of(target);
    uint64_t blocks[16];
    uint8_t hashes[16][WB_HASH_BYTES];

    for (unsigned i = 0; i < n; i++) {
        blocks[i] = pieces[i].lba / 8;
        piece_hash(&pieces[i], hashes[i]);
    }
    start_call(PROTO_WB_OFFER, LINK_CONTROL,
               wb_put_offer(&h, disk, n, blocks, (const uint8_t(*)[WB_HASH_BYTES])hashes));
    assert_int_equal(end_call(), 0);
    assert_int_equal(wb_get_wanted(call.reply->data, call.reply->len, wanted, n), 0);
    buf_unref(&call.reply);
}

static void what_is_here_is_not_wanted(void **state)
{
    /* Seeds 1, 2, 3 are at blocks 0, 1, 2 after the first cut, 7 at block 0 of the other disk. */
    static const struct piece offered[] = {
        {0, WB_PIECE_DATA, 0, 8, 1},  /* where it is */
        {0, WB_PIECE_DATA, 8, 8, 3},  /* two blocks further on */
        {0, WB_PIECE_DATA, 16, 8, 7}, /* on the other disk */
        {0, WB_PIECE_DATA, 24, 8, 99}, {0, WB_PIECE_DATA, 800, 8, 98},
    };
    static const struct piece again[] = {{0, WB_PIECE_DATA, 24, 8, 99}, {0, WB_PIECE_DATA, 40, 8, 99}};
    static const struct piece all[] = {
        {0, WB_PIECE_DATA, 0, 8, 1},   {0, WB_PIECE_DATA, 8, 8, 3},   {0, WB_PIECE_DATA, 16, 8, 7},
        {0, WB_PIECE_DATA, 24, 8, 99}, {0, WB_PIECE_DATA, 40, 8, 99}, {0, WB_PIECE_DATA, 800, 8, 98},
    };
    bool wanted[5];

    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    write_back(0, 100, PIECES(some_cut));
    assert_int_equal(begin_cut(100, 200), 0);
    offer(200, 0, offered, 5, wanted);
    assert_true(!wanted[0] && !wanted[1] && !wanted[2] && wanted[3] && wanted[4]);
    assert_int_equal(send_piece(200, &offered[3]), 0);
    assert_int_equal(send_piece(200, &offered[4]), 0);
    offer(200, 0, again, 2, wanted); /* there, and elsewhere in this stage */
    assert_true(!wanted[0] && !wanted[1]);
    assert_int_equal(end_cut(200, PIECES(all)), 0);
    assert_int_equal(simple(PROTO_WB_APPLIED, 200), 0);
    in_model(PIECES(all));
    expect_disks();
}

/* The index says where a content was; that place may hold another one now. */
static void a_wrong_guess_is_never_wrong_data(void **state)
{
    static const struct piece other = {0, WB_PIECE_DATA, 0, 8, 55};
    static const struct piece moved = {1, WB_PIECE_DATA, 80, 8, 1};
    bool wanted[1];

    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    write_back(0, 100, PIECES(some_cut));
    write_back(100, 110, &other, 1);
    assert_int_equal(begin_cut(110, 120), 0);
    offer(120, 1, &moved, 1, wanted);
    assert_true(wanted[0]);
}

static void what_does_not_fit_is_refused(void **state)
{
    static const struct piece beyond = {1, WB_PIECE_DATA, IMAGE_BYTES / 512, 8, 1};
    static const struct piece zeros = {1, WB_PIECE_ZERO, 2040, 9, 0};
    static const struct piece elsewhere = {2, WB_PIECE_DATA, 0, 8, 1};

    (void)state;
    assert_int_equal(simple(PROTO_WB_STATE, 0), -ENOENT);
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(begin_cut(0, 100), 0);
    WAIT((simple(PROTO_WB_STATE, 0), !now.unreachable));
    assert_int_equal(send_piece(100, &beyond), -EINVAL);
    assert_int_equal(send_piece(100, &zeros), -EINVAL);
    assert_int_equal(send_piece(100, &elsewhere), -EINVAL);
    assert_int_equal(ask(PROTO_WB_DATA, wb_put_head(&(struct wb_head){.target = 1})), -EBADMSG);
    ndisks = 1;
    assert_int_equal(attach_as(WB_WRITE_BACK), -EINVAL); /* its disks cannot change */
    ndisks = 2;
}

static void a_vm_that_is_not_known_is_where_its_edge_says(void **state)
{
    (void)state;
    assert_int_equal(attach_at(WB_WRITE_BACK, 100), 0);
    assert_true(now.applied == 100 && now.applied_instant_ms == 0);
    assert_int_equal(attach_at(WB_CLOUD_PERSIST, 50), 0);
    assert_true(now.applied == 100); /* known by now */
    assert_int_equal(attach_at(WB_WRITE_BACK, 100), 0);
    assert_int_equal(begin_cut(50, 150), -ESTALE);
    write_back(100, 150, PIECES(another_cut));
    expect_disks();
}

static void a_disk_belongs_to_one_vm(void **state)
{
    static struct wb_attach a = {.vm = "another vm", .epoch = 1, .policy = 1, .name = "db", .ndisks = 1};

    (void)state;
    strcpy(a.disks[0], "disk1");
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(ask(PROTO_VM_ATTACH, wb_put_attach(&a)), -EBUSY);
    assert_non_null(strstr(call.why.text, "belongs to VM web"));
    assert_int_equal(simple(PROTO_VM_DETACH, 0), 0);
    start_call(PROTO_VM_ATTACH, LINK_CONTROL, wb_put_attach(&a));
    assert_int_equal(end_state(), 0);
}

static void a_disk_that_is_away_is_waited_for(void **state)
{
    (void)state;
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    assert_int_equal(serve_remove(serve, "disk1"), 0);
    stage_cut(0, 100, PIECES(some_cut));
    assert_int_equal(simple(PROTO_WB_STATE, 0), 0);
    assert_true(now.unreachable && now.stage == WB_STAGE_STAGED);
    assert_non_null(strstr(now.text, "disk1 of VM web is not in the configuration"));
    expect_disks();
    add_disk(1);
    assert_int_equal(simple(PROTO_WB_APPLIED, 100), 0);
    in_model(PIECES(some_cut));
    expect_disks();
    assert_int_equal(simple(PROTO_WB_STATE, 0), 0);
    assert_true(!now.unreachable && now.text[0] == 0);
}

static pid_t serve_second(const char *socket, const char *filter)
{
    char command[400], path[128];

    unlink(socket);
    image_path(path, sizeof path, 1);
    snprintf(command, sizeof command, "nbdkit --exit-with-parent -f -U %s %s file %s", socket,
             filter ? "--filter=delay" : "", path);
    if (filter)
        snprintf(command + strlen(command), sizeof command - strlen(command), " %s", filter);
    return start_program(command);
}

/* The server of disk1 dies while it is written, and what it had not made stable is gone. */
static void writes_that_a_datastore_loses_are_written_again(void **state)
{
    char socket[128], url[160], command[400], path[128];
    struct piece pieces[24];
    pid_t server;

    (void)state;
    if (!find_program("nbdkit"))
        skip();
    world_down();
    snprintf(socket, sizeof socket, "%s/nbd.sock", dir);
    snprintf(url, sizeof url, "nbd+unix:///?socket=%s", socket);
    second_url = url;
    server = serve_second(socket, "delay-write=100ms");
    world_up();
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    for (unsigned i = 0; i < 24; i++)
        pieces[i] = (struct piece){1, WB_PIECE_DATA, i * 16, 8, (uint8_t)(i + 1)};
    image_path(path, sizeof path, 1);
    snprintf(command, sizeof command, "cp %s %s.old", path, path);
    assert_int_equal(run_program(command), 0);
    stage_cut(0, 100, pieces, 24);
    WAIT((simple(PROTO_WB_STATE, 0), now.bytes_applied > 0));
    assert_int_equal(now.stage, WB_STAGE_APPLYING);
    stop_program(&server);
    snprintf(command, sizeof command, "cp %s.old %s", path, path);
    assert_int_equal(run_program(command), 0);
    server = serve_second(socket, NULL);
    assert_int_equal(simple(PROTO_WB_APPLIED, 100), 0);
    assert_int_equal(now.applied, 100);
    in_model(pieces, 24);
    expect_disks();
    stop_program(&server);
    world_down();
    second_url = NULL;
    world_up();
}

static void a_vm_of_64_disks(void **state)
{
    struct piece pieces[3 * DISKS_MAX];

    (void)state;
    world_down();
    ndisks = DISKS_MAX;
    make_images();
    world_up();
    for (unsigned i = 0; i < DISKS_MAX; i++) {
        uint8_t disk = (uint8_t)i;

        pieces[3 * i] = (struct piece){disk, WB_PIECE_DATA, i * 8, 8, disk};
        pieces[3 * i + 1] = (struct piece){disk, WB_PIECE_DATA, 1000 + i % 8, 1, (uint8_t)(disk + 64)};
        pieces[3 * i + 2] = (struct piece){disk, WB_PIECE_ZERO, 1500, i + 1, 0};
    }
    assert_int_equal(attach_as(WB_WRITE_BACK), 0);
    write_back(0, 100, pieces, 3 * DISKS_MAX);
    assert_int_equal(now.applied, 100);
    expect_disks();
    ndisks = 2;
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, world_new, world_end)
    const struct CMUnitTest tests[] = {
        CASE(a_cut_is_staged_and_applied),
        CASE(a_stage_that_is_not_whole_is_given_up),
        CASE(another_target_takes_the_place_of_an_open_stage),
        CASE(who_has_lost_the_vm_is_refused),
        CASE(cloud_persist_is_not_one_byte),
        CASE(a_foreign_write_is_an_alarm),
        CASE(a_stage_outlives_a_restart),
        CASE(what_is_here_is_not_wanted),
        CASE(a_wrong_guess_is_never_wrong_data),
        CASE(what_does_not_fit_is_refused),
        CASE(a_vm_that_is_not_known_is_where_its_edge_says),
        CASE(a_disk_belongs_to_one_vm),
        CASE(a_disk_that_is_away_is_waited_for),
        CASE(writes_that_a_datastore_loses_are_written_again),
        CASE(a_vm_of_64_disks),
    };

    return cmocka_run_group_tests(tests, serve_begin, fixture_end);
}
