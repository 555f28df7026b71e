/* lun-io - one iSCSI command from a shell script: read, write, size, or a long sequential read.
 *
 *   lun-io read  URL LBA SECTORS          the bytes go to stdout
 *   lun-io write URL LBA [fua|flush]      the bytes come from stdin, padded to whole sectors with zeros
 *   lun-io zero  URL LBA SECTORS          WRITE SAME with UNMAP
 *   lun-io size  URL                      "sectors N block_bytes N"
 *   lun-io status URL LBA                 "mapped N" or "unmapped N": that, and how many sectors from LBA on
 * are so lun-io soak  URL LBA SECTORS PAUSE_MS reads 64 KiB at a time, one after the other, and says how it
 * went: "read N errors N longest_ms N" lun-io steal URL                      preempts whoever has the LUN
 * reserved; others may read lun-io free  URL                      removes every reservation and registration
 *
 * URL as libiscsi has it, iscsi://[user%secret@]host[:port]/iqn/lun. A lost connection is made again by
 * libiscsi. INITIATOR names the initiator; BLOCK=4096 is for a LUN whose sectors are that long. Exit status 1
 * with a sentence when the target refuses.
 */
#include <inttypes.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK_MAX = 4096, CHUNK_SECTORS = 128, OUR_KEY = 0x7e1f };

static struct iscsi_context *iscsi;
static int lun;
static uint32_t block = 512; /* bytes of a sector of this LUN */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "lun-io: %s: %s\n", what, iscsi != NULL ? iscsi_get_error(iscsi) : "no context");
    exit(1);
}

static void check(struct scsi_task *task, const char *what)
{
    if (task == NULL || task->status != SCSI_STATUS_GOOD)
        die(what);
    scsi_free_scsi_task(task);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);

    if (*text == '\0' || *end != '\0') {
        fprintf(stderr, "lun-io: '%s' is not a number\n", text);
        exit(2);
    }
    return value;
}

static void login(const char *url_text)
{
    const char *name = getenv("INITIATOR");
    struct iscsi_url *url;

    iscsi = iscsi_create_context(name != NULL ? name : "iqn.2026-11.org.isthmus.test:lun-io");
    if (iscsi == NULL)
        die("context");
    url = iscsi_parse_full_url(iscsi, url_text);
    if (url == NULL)
        die("URL");
    iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL);
    if (iscsi_full_connect_sync(iscsi, url->portal, url->lun) != 0)
        die("login");
    lun = url->lun;
    iscsi_destroy_url(url);
}

/* What was to be told has been told, and nothing was done: it is said again. */
static bool told(struct scsi_task *task)
{
    bool so = task != NULL && task->status == SCSI_STATUS_CHECK_CONDITION &&
              task->sense.key == SCSI_SENSE_UNIT_ATTENTION;

    if (so)
        scsi_free_scsi_task(task);
    return so;
}

/* NULL when the target says it failed: the reason is in iscsi_get_error(). */
static struct scsi_task *read_chunk(uint64_t lba, uint32_t sectors)
{
    struct scsi_task *task;

    do
        task = iscsi_read16_sync(iscsi, lun, lba, sectors * block, (int)block, 0, 0, 0, 0, 0);
    while (told(task));
    if (task == NULL)
        die("read");
    if (task->status == SCSI_STATUS_GOOD && task->datain.size == (int)(sectors * block))
        return task;
    scsi_free_scsi_task(task);
    return NULL;
}

static void do_read(uint64_t lba, uint64_t sectors)
{
    while (sectors > 0) {
        uint32_t n = sectors < CHUNK_SECTORS ? (uint32_t)sectors : CHUNK_SECTORS;
        struct scsi_task *task = read_chunk(lba, n);

        if (task == NULL)
            die("read");
        if (fwrite(task->datain.data, block, n, stdout) != n)
            exit(1);
        scsi_free_scsi_task(task);
        lba += n;
        sectors -= n;
    }
}

static void do_write(uint64_t lba, const char *how)
{
    static unsigned char chunk[CHUNK_SECTORS * BLOCK_MAX];
    size_t n;

    while ((n = fread(chunk, 1, CHUNK_SECTORS * block, stdin)) > 0) {
        uint32_t sectors = (uint32_t)((n + block - 1) / block);
        struct scsi_task *task;

        memset(chunk + n, 0, sectors * block - n);
        do
            task = iscsi_write16_sync(iscsi, lun, lba, chunk, sectors * block, (int)block, 0, 0,
                                      strcmp(how, "fua") == 0, 0, 0);
        while (told(task));
        check(task, "write");
        lba += sectors;
    }
    if (strcmp(how, "flush") == 0)
        check(iscsi_synchronizecache16_sync(iscsi, lun, 0, 0, 0, 0), "flush");
}

static void do_size(void)
{
    struct scsi_task *task = iscsi_readcapacity16_sync(iscsi, lun);
    struct scsi_readcapacity16 *capacity;

    if (task == NULL || task->status != SCSI_STATUS_GOOD || (capacity = scsi_datain_unmarshall(task)) == NULL)
        die("size");
    printf("sectors %" PRIu64 " block_bytes %" PRIu32 "\n", capacity->returned_lba + 1,
           capacity->block_length);
    scsi_free_scsi_task(task);
}

static void do_status(uint64_t lba)
{
    struct scsi_task *task = iscsi_get_lba_status_sync(iscsi, lun, lba, 8 + 16);
    struct scsi_get_lba_status *s;

    if (task == NULL || task->status != SCSI_STATUS_GOOD || (s = scsi_datain_unmarshall(task)) == NULL ||
        s->num_descriptors == 0)
        die("LBA status");
    printf("%s %" PRIu32 "\n",
           s->descriptors[0].provisioning == SCSI_PROVISIONING_TYPE_MAPPED ? "mapped" : "unmapped",
           s->descriptors[0].num_blocks);
    scsi_free_scsi_task(task);
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int do_soak(uint64_t lba, uint64_t sectors, uint64_t pause_ms)
{
    uint64_t reads = 0, errors = 0, longest_ms = 0, end = lba + sectors;

    for (; lba + CHUNK_SECTORS <= end; lba += CHUNK_SECTORS) {
        uint64_t start_ms = now_ms(), took_ms;
        struct scsi_task *task = read_chunk(lba, CHUNK_SECTORS);

        if (task == NULL)
            errors++;
        else
            scsi_free_scsi_task(task);
        took_ms = now_ms() - start_ms;
        if (took_ms > longest_ms)
            longest_ms = took_ms;
        reads++;
        usleep((useconds_t)(pause_ms * 1000));
    }
    printf("read %" PRIu64 " errors %" PRIu64 " longest_ms %" PRIu64 "\n", reads, errors, longest_ms);
    return errors != 0;
}

static void reserve_out(enum scsi_persistent_out_sa action, uint64_t key, uint64_t other, const char *what)
{
    struct scsi_persistent_reserve_out_basic basic = {.reservation_key = key,
                                                      .service_action_reservation_key = other};
    int type = action == SCSI_PERSISTENT_RESERVE_PREEMPT ? SCSI_PERSISTENT_RESERVE_TYPE_WRITE_EXCLUSIVE : 0;

    check(iscsi_persistent_reserve_out_sync(iscsi, lun, (int)action, SCSI_PERSISTENT_RESERVE_SCOPE_LU, type,
                                            &basic),
          what);
}

static uint64_t holder(void)
{
    struct scsi_task *task =
        iscsi_persistent_reserve_in_sync(iscsi, lun, SCSI_PERSISTENT_RESERVE_READ_RESERVATION, 252);
    struct scsi_persistent_reserve_in_read_reservation *r;
    uint64_t key;

    if (task == NULL || task->status != SCSI_STATUS_GOOD || (r = scsi_datain_unmarshall(task)) == NULL)
        die("read reservation");
    if (!r->reserved) {
        fprintf(stderr, "lun-io: the LUN is not reserved\n");
        exit(1);
    }
    key = r->reservation_key;
    scsi_free_scsi_task(task);
    return key;
}

static void do_reservations(bool steal)
{
    reserve_out(SCSI_PERSISTENT_RESERVE_REGISTER_AND_IGNORE_EXISTING_KEY, 0, OUR_KEY, "register");
    if (steal)
        reserve_out(SCSI_PERSISTENT_RESERVE_PREEMPT, OUR_KEY, holder(), "preempt");
    else
        reserve_out(SCSI_PERSISTENT_RESERVE_CLEAR, OUR_KEY, 0, "clear");
}

static int usage(void)
{
    fprintf(
        stderr,
        "usage: lun-io read URL LBA SECTORS | write URL LBA [fua|flush] | zero URL LBA SECTORS |\n"
        "              size URL | status URL LBA | soak URL LBA SECTORS PAUSE_MS | steal URL | free URL\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "", *sector = getenv("BLOCK");
    int status = 0;

    if (sector != NULL)
        block = number(sector) == BLOCK_MAX ? BLOCK_MAX : 512;
    if (strcmp(verb, "read") == 0 && argc == 5) {
        login(argv[2]);
        do_read(number(argv[3]), number(argv[4]));
    } else if (strcmp(verb, "write") == 0 && (argc == 4 || argc == 5)) {
        login(argv[2]);
        do_write(number(argv[3]), argc == 5 ? argv[4] : "");
    } else if (strcmp(verb, "zero") == 0 && argc == 5) {
        static unsigned char zeros[BLOCK_MAX];

        login(argv[2]);
        check(iscsi_writesame16_sync(iscsi, lun, number(argv[3]), zeros, block, (uint32_t)number(argv[4]), 0,
                                     1, 0, 0),
              "write same");
    } else if (strcmp(verb, "size") == 0 && argc == 3) {
        login(argv[2]);
        do_size();
    } else if (strcmp(verb, "status") == 0 && argc == 4) {
        login(argv[2]);
        do_status(number(argv[3]));
    } else if (strcmp(verb, "soak") == 0 && argc == 6) {
        login(argv[2]);
        status = do_soak(number(argv[3]), number(argv[4]), number(argv[5]));
    } else if ((strcmp(verb, "steal") == 0 || strcmp(verb, "free") == 0) && argc == 3) {
        login(argv[2]);
        do_reservations(strcmp(verb, "steal") == 0);
    } else {
        return usage();
    }
    iscsi_logout_sync(iscsi);
    iscsi_destroy_context(iscsi);
    return status;
}
