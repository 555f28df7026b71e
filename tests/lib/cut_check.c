/* cut-check - are all disks of a VM at one cut of what was written to them?
 *
 *   cut-check prepare HISTORY VM FILE SECTORS [FILE SECTORS]...
 *       source disks whose sectors carry write number 0, and an empty history
 *   cut-check run HISTORY URL... [option]...
 *       checks, then loads until the target dies or the time is over; several URLs are paths to one target
 *   cut-check verify HISTORY URL...|FILE... [option]...
 *       checks only: a target, or an image for each disk
 *
 *   --must WHAT       what must be there: acknowledged (if nothing is said), synced, nothing, or a time in
 *                     microseconds since 1970: what was acknowledged before it
 *   --settle          what is found is the history from now on (run always does)
 *   --ms N            how long to load (60000),
 *   --depth N         and with how many commands (16)
 *   --seed N
 *   --fill            instead of a load: every sector is written once
 *   --login SECONDS   how long to try (30)
 *
 * SIGTERM ends a load as its time does, and a login that does not come about. Prints "lost N torn N
 * acknowledged N", with several paths "switches N stall_ms N" (the longest time without an answer), and of
 * `run` whether the target died. Exit status 1 if anything is lost or torn or a read was stale; 2 if it could
 * not look, or the target refused something.
 */
#include "cut_load.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_SECTORS = 256 };

struct options {
    enum cut_must must;
    uint64_t before_us, seed;
    unsigned ms, depth, login;
    bool settle, fill;
};

static void usage(void)
{
    fprintf(stderr, "usage: cut-check prepare HISTORY VM FILE SECTORS [FILE SECTORS]...\n"
                    "       cut-check run HISTORY URL... [options]\n"
                    "       cut-check verify HISTORY URL...|FILE... [options]\n"
                    "options: --must acknowledged|synced|nothing|US --settle --fill --ms N --depth N --seed "
                    "N --login N\n");
    exit(2);
}

static bool prepare_disk(const char *path, uint64_t id, uint32_t nsectors)
{
    FILE *f = fopen(path, "we");
    struct stamp s;

    for (uint32_t lba = 0; f && lba < nsectors; lba++) {
        stamp_make(&s, id, lba, 0);
        fwrite(&s, sizeof s, 1, f);
    }
    return f && fclose(f) == 0;
}

static int prepare(int argc, char **argv)
{
    uint32_t sectors[CUT_DISKS_MAX];
    unsigned n = 0;

    if (argc < 4 || argc % 2 || argc / 2 - 1 > CUT_DISKS_MAX)
        usage();
    for (int i = 2; i < argc; i += 2, n++) {
        sectors[n] = (uint32_t)strtoul(argv[i + 1], NULL, 0);
        if (!prepare_disk(argv[i], cut_disk_id(argv[1], n), sectors[n])) {
            perror(argv[i]);
            return 2;
        }
    }
    if (!cut_create(argv[0], argv[1], n, sectors)) {
        perror(argv[0]);
        return 2;
    }
    return 0;
}

static bool read_image(struct cut_model *m, uint8_t disk, const char *path)
{
    static uint8_t bytes[CHUNK_SECTORS * STAMP_SECTOR];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint32_t nsectors = m->disks[disk].nsectors;
    bool good = fd >= 0;

    for (uint32_t lba = 0; good && lba < nsectors; lba += CHUNK_SECTORS) {
        uint32_t n = nsectors - lba < CHUNK_SECTORS ? nsectors - lba : CHUNK_SECTORS;

        good = pread(fd, bytes, n * STAMP_SECTOR, (off_t)lba * STAMP_SECTOR) == (ssize_t)(n * STAMP_SECTOR);
        if (good)
            cut_show(m, disk, lba, bytes, n);
    }
    if (!good)
        fprintf(stderr, "cut-check: %s cannot be read, or is too short\n", path);
    if (fd >= 0)
        close(fd);
    return good;
}

static bool is_url(const char *text)
{
    return strncmp(text, "iscsi://", strlen("iscsi://")) == 0;
}

static bool are_paths(char **from, int n)
{
    for (int i = 0; i < n; i++)
        if (!is_url(from[i]))
            return false;
    return n > 0 && n <= CUT_PATHS_MAX;
}

/* 0 or -errno, as cut_read_disks. */
static int look(struct cut_model *m, char **from, int n, const struct options *o,
                struct cut_session **session)
{
    *session = NULL;
    if (are_paths(from, n)) {
        *session = cut_login(from, (unsigned)n, o->login);
        return *session ? cut_read_disks(*session, m) : -EIO;
    }
    if ((unsigned)n != m->ndisks)
        usage();
    for (int i = 0; i < n; i++)
        if (!read_image(m, (uint8_t)i, from[i]))
            return -EIO;
    return 0;
}

static void on_violation(void *arg, const char *sentence)
{
    (void)arg;
    fprintf(stderr, "cut-check: %s\n", sentence);
}

static int check(bool run, char **argv, int argc, const struct options *o)
{
    struct cut_load_result result = {0};
    struct cut_session *session;
    struct cut_model m;
    int status;
    bool good;

    if (argc < 2 || (run && !are_paths(argv + 1, argc - 1)))
        usage();
    if (!cut_model_open(&m, argv[0]))
        return 2;
    m.say = on_violation;
    status = look(&m, argv + 1, argc - 1, o, &session);
    if (status) {
        cut_logout(&session);
        cut_model_close(&m);
        if (status == -EPIPE)
            printf("lost 0 torn 0 acknowledged 0 died before all was read\n");
        return run && status == -EPIPE ? 0 : 2;
    }
    good = cut_judge(&m, o->must, o->before_us);
    if (good && (run || o->settle))
        cut_settle(&m);
    if (good && run) {
        printf("loading\n");
        fflush(stdout);
        if (o->fill)
            cut_fill(session, &m, &result);
        else
            cut_load(session, &m, o->depth, o->ms, o->seed, &result);
    } else {
        cut_logout(&session);
    }
    printf("lost %u torn %u acknowledged %u", m.lost, m.torn + result.stale, result.acknowledged);
    if (run && argc > 2)
        printf(" switches %u stall_ms %u", result.switches, result.stall_ms);
    printf("%s\n", result.died ? " died" : "");
    status = !good || result.stale ? 1 : result.refused ? 2 : 0;
    cut_model_close(&m);
    return status;
}

static void take_must(const char *text, struct options *o)
{
    static const char *const names[] = {
        [CUT_NOTHING] = "nothing", [CUT_ACKNOWLEDGED] = "acknowledged", [CUT_SYNCED] = "synced"};
    char *end;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            o->must = (enum cut_must)i;
            return;
        }
    o->must = CUT_SINCE;
    o->before_us = strtoull(text, &end, 10);
    if (*end || end == text)
        usage();
}

static void on_term(int number)
{
    (void)number;
    cut_stopping = 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"must", required_argument, NULL, 'm'},  {"settle", no_argument, NULL, 's'},
        {"fill", no_argument, NULL, 'f'},        {"ms", required_argument, NULL, 't'},
        {"depth", required_argument, NULL, 'd'}, {"seed", required_argument, NULL, 'r'},
        {"login", required_argument, NULL, 'l'}, {NULL, 0, NULL, 0},
    };
    struct options o = {.must = CUT_ACKNOWLEDGED, .seed = 1, .ms = 60000, .depth = 16, .login = 30};
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (c == 'm')
            take_must(optarg, &o);
        else if (c == 's')
            o.settle = true;
        else if (c == 'f')
            o.fill = true;
        else if (c == 't')
            o.ms = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'd')
            o.depth = (unsigned)strtoul(optarg, NULL, 10);
        else if (c == 'r')
            o.seed = strtoull(optarg, NULL, 0);
        else if (c == 'l')
            o.login = (unsigned)strtoul(optarg, NULL, 10);
        else
            usage();
    }
    signal(SIGTERM, on_term);
    argc -= optind;
    argv += optind;
    if (argc >= 2 && strcmp(argv[0], "prepare") == 0)
        return prepare(argc - 1, argv + 1);
    if (argc >= 2 && (strcmp(argv[0], "run") == 0 || strcmp(argv[0], "verify") == 0))
        return check(argv[0][0] == 'r', argv + 1, argc - 1, &o);
    usage();
    return 2;
}
