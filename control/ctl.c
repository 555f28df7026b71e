/* control/ctl.c - isthmusctl's command line: the commands, their options, help and exit codes.
 */
#include "ctl.h"

#include <getopt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_HELP "  --no-wait                 do not wait for the task's end\n"
#define STORAGE_HELP                                                                                         \
    "  --storage write-back|cloud-persist   whether what it writes goes home (default: as it was)\n"

static const struct command {
    const char *words, *argument; /* one word or two */
    const char *options;          /* letters of the option table that it takes besides the common ones */
    int (*run)(const struct ctl *, struct why *);
    const char *summary, *help;
} commands[] = {
    {"vm create", "NAME", "dabcmBoe", ctl_vm_create, "make a VM from disks that stay on-prem",
     "  --disk ONPREM:DISK        a disk of the on-prem daemon ONPREM; the first is LUN 0; may be repeated\n"
     "  --chap-user USER          the initiator must log in as USER\n"
     "  --chap-secret-file FILE   ... with the secret (12 to 255 bytes) in FILE, of mode 0600\n"
     "  --mutual-user USER        the target proves itself as USER (mutual CHAP)\n"
     "  --mutual-secret-file FILE\n"
     "  --block-bytes 512|4096    logical blocks of the disks (default: as their sources have them)\n"
     "  --storage write-back|cloud-persist   whether what it writes goes home (default: cloud-persist)\n"
     "  --prefer EDGE             which edge of the pair it is to be at (default: the one that is asked)\n"},
    {"vm list", NULL, "", ctl_vm_list, "list the VMs of the edge", ""},
    {"vm show", "NAME", "", ctl_vm_show, "show one VM: disks, sessions, hits by tier", ""},
    {"vm delete", "NAME", "f", ctl_vm_delete,
     "delete a VM and what it wrote; its source disks stay as they are",
     "  --force                   even while an initiator is logged in\n"},
    {"vm add-disk", "NAME", "dlB", ctl_vm_add_disk, "give a VM another disk, while it runs",
     "  --disk ONPREM:DISK        a disk of the on-prem daemon ONPREM\n"
     "  --lun N                   its LUN (default: the lowest that is free)\n"
     "  --block-bytes 512|4096    logical blocks of the disk (default: as its source has them)\n"},
    {"vm remove-disk", "NAME LUN", "f", ctl_vm_remove_disk,
     "take a disk from a VM and forget what the VM wrote to it; its source disk stays as it is",
     "  --force                   even while an initiator is logged in: the guest must have let go of it\n"},
    {"vm recover", "NAME", "u", ctl_vm_recover,
     "take a VM over from the object store ('*': all that are not here)",
     "  --cut N                   go back to the last cut at or before record N (default: the newest)\n"},
    {"run-in-cloud", "NAME", "ow", ctl_run_in_cloud, "bring a VM that runs on-prem here",
     STORAGE_HELP WAIT_HELP},
    {"run-on-prem", "NAME", "fkXw", ctl_run_on_prem, "send a VM home: nothing of it stays here",
     "  --force                   initiators that do not log out are dropped\n"
     "  --commit                  of a cloud-persist VM: what it wrote in the cloud goes home with it\n"
     "  --discard                 of a cloud-persist VM: throw away what it wrote in the cloud\n" WAIT_HELP},
    {"vm storage", "NAME write-back|cloud-persist", "w", ctl_vm_storage,
     "change whether what a VM writes goes home", WAIT_HELP},
    {"vm flush", "NAME", "pw", ctl_vm_flush, "bring what a VM wrote into the object store now",
     "  --on-prem                 and on to the source disks\n" WAIT_HELP},
    {"vm commit", "NAME", "w", ctl_vm_commit,
     "bring what a VM wrote to the source disks now, whatever its storage policy", WAIT_HELP},
    {"vm discard", "NAME", "fyw", ctl_vm_discard,
     "throw away what a VM wrote in the cloud and is not on-prem",
     "  --yes                     really\n"
     "  --force                   initiators that do not log out are dropped\n" WAIT_HELP},
    {"vm pause-writeback", "NAME", "w", ctl_vm_pause, "send nothing home until resume-writeback", WAIT_HELP},
    {"vm resume-writeback", "NAME", "w", ctl_vm_resume, "send home again what the VM writes", WAIT_HELP},
    {"vm clear-alarm", "NAME", "w", ctl_vm_clear_alarm,
     "the cloud's history counts: write-back goes on over what was changed on-prem", WAIT_HELP},
    {"vm hand-over", "NAME", "w", ctl_vm_hand_over,
     "give a VM to the other edge of the pair, while it runs: no initiator sees an error", WAIT_HELP},
    {"vm prefer", "NAME EDGE", "w", ctl_vm_prefer,
     "say which edge of the pair a VM is to be at: it is handed to that one when all is calm", WAIT_HELP},
    {"task list", NULL, "", ctl_task_list, "list the tasks, the newest first", ""},
    {"task show", "ID", "", ctl_task_show, "show one task", ""},
    {"task cancel", "ID", "", ctl_task_cancel, "call a task off: its VM is as it was before", ""},
    {"task wait", "ID", "", ctl_task_wait, "wait for the end of a task", ""},
    {"status", NULL, "", ctl_status, "show the edge: VMs, on-prem daemons, journal, memory", ""},
    {"pair status", NULL, "", ctl_pair_status,
     "show what the edge is in its pair, whether it may serve, and where the VMs are", ""},
    {"pair fail-over", NULL, "Kw", ctl_pair_fail_over,
     "give all VMs of the edge to the other, while they run, so that it can be stopped",
     "  --cancel                  give no more; those that are gone stay there for now\n"
     "  --no-wait                 do not wait until none is left\n"},
    {"pair force", NULL, "Ayw", ctl_pair_force,
     "make the edge, which is out, the only member, for the one that is it is lost for good with its disks",
     "  --accept-loss             really; without it is only said what would be lost\n"
     "  --yes                     do not ask\n"
     "  --no-wait                 do not wait until it is the only member\n"},
    {"store list", "[VM]", "g", ctl_store_list, "what the object store has of the VMs; no edge is asked",
     "  --config FILE             the edge's, for its store and key (default: /etc/isthmus/edge.conf)\n"},
    {"store verify", "[VM]", "g", ctl_store_verify,
     "read all that the object store has of a VM, or of all, and say whether it is sound",
     "  --config FILE             the edge's, for its store and key (default: /etc/isthmus/edge.conf)\n"},
    {"store drop-lost", "VM", "gy", ctl_store_drop_lost,
     "remove what a recovery put aside: what was behind damage, or behind an older cut that was asked for",
     "  --config FILE             the edge's, for its store and key (default: /etc/isthmus/edge.conf)\n"
     "  --yes                     really\n"},
    {"store export", "VM FILE", "gudx", ctl_store_export,
     "write a disk as a raw image, from the object store alone",
     "  --config FILE             the edge's, for its store and key (default: /etc/isthmus/edge.conf)\n"
     "  --cut N                   as of the last cut at or before record N (default: the newest)\n"
     "  --disk N                  which disk (default: 0)\n"
     "  --base FILE               a copy of the source disk: what the VM never wrote is taken from there\n"},
    {"pki init", "DIR", "nD", ctl_pki_init, "make a private CA in DIR: ca.pem, ca.key",
     "  --name NAME               the CA's name (default: Isthmus CA)\n"
     "  --days N                  how long it is good (default: 3650)\n"},
    {"pki issue", "DIR", "nrsD", ctl_pki_issue,
     "issue a daemon's certificate beside the CA: NAME.pem, NAME.key",
     "  --role edge|onprem        what the daemon is\n"
     "  --name NAME               who it is; VMs name their disks' on-prem daemon by it\n"
     "  --san NAME|ADDRESS        another DNS name or IP address of it; may be repeated\n"
     "  --days N                  how long it is good (default: 825)\n"},
    {"key new", "FILE", "", ctl_key_new, "make an encryption key: 32 hex digits in FILE, of mode 0600", ""},
    {"token new", "FILE", "", ctl_token_new, "make an access token for the REST API in FILE, of mode 0600",
     ""},
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static const char common_help[] =
    "  --json                    print JSON\n"
    "  --server URL              the edge's control address (ISTHMUS_SERVER; http://127.0.0.1:7261)\n"
    "  --token-file FILE         its token (ISTHMUS_TOKEN_FILE; /etc/isthmus/token)\n"
    "  --cacert FILE             the CA of an https server\n";

static void help_all(FILE *f)
{
    fputs("usage: isthmusctl COMMAND [OPTIONS]\n\n", f);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(f, "  %-19s %-8s  %s\n", commands[i].words, commands[i].argument ? commands[i].argument : "",
                commands[i].summary);
    fputs("\nisthmusctl COMMAND --help says more. Everywhere:\n", f);
    fputs(common_help, f);
}

static void help_one(FILE *f, const struct command *c)
{
    fprintf(f, "usage: isthmusctl %s%s%s [OPTIONS]\n%s\n\n%s%s", c->words, c->argument ? " " : "",
            c->argument ? c->argument : "", c->summary, c->help, common_help);
}

__attribute__((format(printf, 2, 3))) static _Noreturn void misused(const struct command *c,
                                                                    const char *format, ...)
{
    va_list args;

    fputs("isthmusctl: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("\n\n", stderr);
    if (c)
        help_one(stderr, c);
    else
        help_all(stderr);
    exit(2);
}

/* --- options --- */

static void add(const struct command *c, const char **list, unsigned *n, const char *value)
{
    if (*n == CTL_LIST_MAX)
        misused(c, "at most %d of one option", CTL_LIST_MAX);
    list[(*n)++] = value;
}

static unsigned number(const struct command *c, const char *text, const char *what)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || n > 1000000)
        misused(c, "'%s' is not a number of %s", text, what);
    return (unsigned)n;
}

static bool digits(const char *text, size_t most)
{
    size_t n = strlen(text);

    return n && n <= most && strspn(text, "0123456789") == n;
}

static void take_disk(struct ctl *ctl, const struct command *c, const char *value)
{
    add(c, ctl->disks, &ctl->ndisks, value);
}

static void take_san(struct ctl *ctl, const struct command *c, const char *value)
{
    add(c, ctl->sans, &ctl->nsans, value);
}

static void take_block_bytes(struct ctl *ctl, const struct command *c, const char *value)
{
    ctl->block_bytes = number(c, value, "bytes");
}

static void take_days(struct ctl *ctl, const struct command *c, const char *value)
{
    ctl->days = number(c, value, "days");
}

static void take_cut(struct ctl *ctl, const struct command *c, const char *value)
{
    if (!digits(value, 18))
        misused(c, "'%s' is not the number of a record", value);
    ctl->cut = value;
}

static void take_lun(struct ctl *ctl, const struct command *c, const char *value)
{
    if (!digits(value, 2))
        misused(c, "'%s' is no LUN", value);
    ctl->lun = value;
}

static void take_storage(struct ctl *ctl, const struct command *c, const char *value)
{
    if (strcmp(value, "write-back") != 0 && strcmp(value, "cloud-persist") != 0)
        misused(c, "'%s' is not write-back or cloud-persist", value);
    ctl->storage = value;
}

/* Each once: its name, the letter that commands list it by (the common ones are capitals, and j), and where
 * its value goes: a flag, a text as it is, or what take() makes of it. */
#define FLAG(field)  offsetof(struct ctl, field), false, NULL
#define TEXT(field)  offsetof(struct ctl, field), true, NULL
#define TAKEN(taker) 0, true, taker
static const struct option_row {
    const char *name;
    char letter;
    size_t at;
    bool has_value;
    void (*take)(struct ctl *, const struct command *, const char *value);
} rows[] = {
    {"json", 'j', FLAG(json)},
    {"server", 'S', TEXT(server)},
    {"token-file", 'T', TEXT(token_file)},
    {"cacert", 'C', TEXT(cacert)},
    {"disk", 'd', TAKEN(take_disk)},
    {"chap-user", 'a', TEXT(chap_user)},
    {"chap-secret-file", 'b', TEXT(chap_secret_file)},
    {"mutual-user", 'c', TEXT(mutual_user)},
    {"mutual-secret-file", 'm', TEXT(mutual_secret_file)},
    {"block-bytes", 'B', TAKEN(take_block_bytes)},
    {"force", 'f', FLAG(force)},
    {"cut", 'u', TAKEN(take_cut)},
    {"storage", 'o', TAKEN(take_storage)},
    {"commit", 'k', FLAG(commit)},
    {"discard", 'X', FLAG(discard)},
    {"on-prem", 'p', FLAG(onprem)},
    {"yes", 'y', FLAG(yes)},
    {"no-wait", 'w', FLAG(no_wait)},
    {"cancel", 'K', FLAG(cancel)},
    {"accept-loss", 'A', FLAG(accept_loss)},
    {"lun", 'l', TAKEN(take_lun)},
    {"name", 'n', TEXT(name)},
    {"role", 'r', TEXT(role)},
    {"san", 's', TAKEN(take_san)},
    {"days", 'D', TAKEN(take_days)},
    {"config", 'g', TEXT(config)},
    {"base", 'x', TEXT(base)},
    {"prefer", 'e', TEXT(prefers)},
};
#undef FLAG
#undef TEXT
#undef TAKEN
enum { OPTIONS = sizeof(rows) / sizeof(rows[0]) };

/* The table as getopt wants it, with the two that end the program. */
static void options_for_getopt(struct option options[OPTIONS + 3])
{
    for (size_t i = 0; i < OPTIONS; i++)
        options[i] = (struct option){.name = rows[i].name,
                                     .has_arg = rows[i].has_value ? required_argument : no_argument,
                                     .val = rows[i].letter};
    options[OPTIONS] = (struct option){.name = "help", .val = 'h'};
    options[OPTIONS + 1] = (struct option){.name = "version", .val = 'V'};
    options[OPTIONS + 2] = (struct option){0};
}

static const struct option_row *row_of(int letter)
{
    for (size_t i = 0; i < OPTIONS; i++)
        if (rows[i].letter == letter)
            return &rows[i];
    return NULL;
}

static void take_option(struct ctl *ctl, const struct command *c, const struct option_row *row,
                        const char *value)
{
    void *field = (char *)ctl + row->at;

    if (!strchr("jSTC", row->letter) && !strchr(c->options, row->letter))
        misused(c, "'%s' does not take one of these options", c->words);
    if (row->take)
        row->take(ctl, c, value);
    else if (row->has_value)
        *(const char **)field = value;
    else
        *(bool *)field = true;
}

/* --- the command line --- */

/* The command that the first words name; *used gets how many words those are. */
static const struct command *find(char **words, int nwords, int *used)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        const char *space = strchr(commands[i].words, ' ');
        size_t first = space ? (size_t)(space - commands[i].words) : strlen(commands[i].words);

        *used = space ? 2 : 1;
        if (nwords >= *used && strlen(words[0]) == first &&
            strncmp(words[0], commands[i].words, first) == 0 && (!space || strcmp(words[1], space + 1) == 0))
            return &commands[i];
    }
    return NULL;
}

/* "VM", "[VM]" or "VM FILE". */
static void take_arguments(struct ctl *ctl, const struct command *c, char **words, int n)
{
    int most = !c->argument ? 0 : strchr(c->argument, ' ') ? 2 : 1;
    int least = c->argument && *c->argument == '[' ? 0 : most;

    if (n < least || n > most)
        misused(c,
                !c->argument ? "'%s' takes no %s"
                : most == 1  ? "'%s' wants one %s"
                             : "'%s' wants %s",
                c->words, c->argument ? c->argument : "argument");
    ctl->argument = n > 0 ? words[0] : NULL;
    ctl->file = n > 1 ? words[1] : NULL;
}

/* Options may stand anywhere: getopt moves the words to the end, then the command is known, then the options
 * are looked at again, now knowing which of them belong to it. */
static const struct command *parse(int argc, char **argv, struct ctl *ctl)
{
    static const struct option_row *given[256];
    static const char *values[256];
    struct option options[OPTIONS + 3];
    const struct command *c;
    int letter, n = 0, used;
    bool help = false;

    opterr = 0;
    options_for_getopt(options);
    while ((letter = getopt_long(argc, argv, ":jhV", options, NULL)) >= 0) {
        if (letter == 'V') {
            puts("isthmusctl " ISTHMUS_VERSION);
            exit(0);
        } else if (letter == 'h') {
            help = true;
        } else if (letter == '?') {
            misused(NULL, "there is no option %s", argv[optind - 1]);
        } else if (letter == ':') {
            misused(NULL, "the option %s wants a value", argv[optind - 1]);
        } else if (n < 256) {
            values[n] = optarg;
            given[n++] = row_of(letter);
        }
    }
    c = find(argv + optind, argc - optind, &used);
    if (help) {
        c ? help_one(stdout, c) : help_all(stdout);
        exit(0);
    }
    if (optind == argc)
        misused(NULL, "a command is missing");
    if (!c)
        misused(NULL, "there is no command '%s%s%s'", argv[optind], optind + 1 < argc ? " " : "",
                optind + 1 < argc ? argv[optind + 1] : "");
    for (int i = 0; i < n; i++)
        take_option(ctl, c, given[i], values[i]);
    if (c->run == ctl_vm_create && !ctl->ndisks)
        misused(c, "a VM needs a --disk");
    if (c->run == ctl_pki_issue && (!ctl->role || !ctl->name))
        misused(c, "a certificate needs --role and --name");
    if (c->run == ctl_vm_add_disk && ctl->ndisks != 1)
        misused(c, "it wants one --disk");
    take_arguments(ctl, c, argv + optind + used, argc - optind - used);
    if (c->run == ctl_vm_remove_disk && (!*ctl->file || strspn(ctl->file, "0123456789") != strlen(ctl->file)))
        misused(c, "'%s' is no LUN", ctl->file);
    return c;
}

int main(int argc, char **argv)
{
    static struct ctl ctl;
    const struct command *c;
    struct why why = {"it failed"};

    c = parse(argc, argv, &ctl);
    if (!ctl.server)
        ctl.server = getenv("ISTHMUS_SERVER");
    if (!ctl.server || !*ctl.server)
        ctl.server = "http://127.0.0.1:7261";
    if (!ctl.token_file)
        ctl.token_file = getenv("ISTHMUS_TOKEN_FILE");
    if (!ctl.token_file || !*ctl.token_file)
        ctl.token_file = "/etc/isthmus/token";
    if (c->run(&ctl, &why) == 0)
        return fflush(stdout) == 0 ? 0 : 1;
    fflush(stdout);
    fprintf(stderr, "isthmusctl: %s\n", why.text);
    return 1;
}
