/* initiator/main.c - isthmus-onprem: options, configuration, one loop, signals; nothing else.
 *
 * SIGTERM and SIGINT end it: the link goes first, so that no edge is told an error (it asks again when we are
 * back), then the datastores. SIGHUP reads the configuration again and adds and removes disks.
 */
#include "generation.h"
#include "http.h"
#include "link.h"
#include "log.h"
#include "mem.h"
#include "onprem_conf.h"
#include "pool.h"
#include "serve.h"
#include "stage.h"
#include "step.h"

#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char part[] = "onprem";

enum { POOL_THREADS = 8, EXIT_MS = 5000 };
static const uint64_t budget_bytes = 128 << 20;

struct onprem {
    const char *path; /* of the configuration */
    cfg_t *cfg;
    struct loop *loop;
    struct serve *serve;
    struct writeback *writeback;
    unsigned closing; /* parts that are not gone yet */
    struct link *link;
    struct http *http;
    struct event *signals[3];
    struct timer late;
};

static int start_disks(struct onprem *o, cfg_t *cfg, struct why *why)
{
    for (unsigned i = 0; i < onprem_conf_ndisks(cfg); i++) {
        struct datastore_conf disk = onprem_conf_disk(cfg, i);
        int err = serve_has(o->serve, disk.name) ? 0 : serve_add(o->serve, &disk, why);

        if (err)
            return err;
    }
    return 0;
}

/* What is staged goes on from here. */
static int start_writeback(struct onprem *o, struct why *why)
{
    const char *data = cfg_getstr(o->cfg, "data");
    struct wb_disks disks = serve_disks(o->serve);
    struct stage *stage = NULL;
    struct aead_key key;
    int err = 0;

    if (mkdir(data, 0700) < 0 && errno != EEXIST)
        err = why_set(why, -errno, "cannot make the data directory %s: %s", data, strerror(errno));
    if (!err)
        err = aead_key_load(cfg_getstr(o->cfg, "key"), &key, why);
    if (!err)
        err = stage_open(&stage, data, &key, why);
    explicit_bzero(&key, sizeof key);
    if (err)
        return err;
    err = writeback_open(&o->writeback, o->loop, &stage, &disks, why);
    if (err)
        stage_close(&stage);
    else
        serve_writeback(o->serve, o->writeback);
    return err;
}

static int start_link(struct onprem *o, struct why *why)
{
    const char *congestion = cfg_getstr(o->cfg, "link|congestion");
    struct link_conf conf = {.role = "onprem",
                             .peer_role = "edge",
                             .certificate = cfg_getstr(o->cfg, "link|certificate"),
                             .key = cfg_getstr(o->cfg, "link|key"),
                             .ca = cfg_getstr(o->cfg, "link|ca"),
                             .congestion = congestion[0] ? congestion : NULL};
    struct link_handlers handlers = serve_handlers(o->serve);
    int err = link_new(&o->link, o->loop, &conf, &handlers, why);

    for (unsigned i = 0; !err && i < cfg_size(o->cfg, "edge"); i++) {
        cfg_t *edge = cfg_getnsec(o->cfg, "edge", i);
        err = link_dial(o->link, link_peer(o->link, cfg_title(edge)), cfg_getstr(edge, "address"),
                        (unsigned)cfg_getint(edge, "connections"), why);
    }
    return err;
}

static int start(struct onprem *o, struct why *why)
{
    const char *listen = cfg_getstr(o->cfg, "http|listen");
    int err = start_disks(o, o->cfg, why);

    if (!err)
        err = start_writeback(o, why);
    if (!err)
        err = start_link(o, why);
    if (!err && listen[0])
        err = http_start(&o->http, o->loop, listen, why);
    if (!err && o->http)
        http_metrics(o->http, writeback_healthy, o->writeback);
    return err;
}

/* ---- signals ---- */

static void on_closed(void *arg)
{
    struct onprem *o = arg;

    if (--o->closing == 0)
        loop_stop(o->loop);
}

static void on_late(struct timer *t)
{
    (void)t;
    log_warn(NULL, "the datastores did not let go within %d ms", EXIT_MS);
    _Exit(EXIT_SUCCESS); /* what is staged is stable, and goes on at the next start */
}

static void stop(struct onprem *o)
{
    timer_set_ms(&o->late, EXIT_MS);
    http_stop(&o->http);
    link_free(&o->link);
    o->closing = o->writeback ? 2 : 1;
    if (o->writeback)
        writeback_close(&o->writeback, on_closed, o);
    serve_close(&o->serve, on_closed, o);
}

static void on_stop(evutil_socket_t number, short what, void *arg)
{
    struct onprem *o = arg;

    (void)what;
    if (!o->serve)
        return; /* already on our way */
    log_info(NULL, "%s: ending", strsignal((int)number));
    stop(o);
}

struct removal {
    struct onprem *o;
    cfg_t *cfg;
};

/* A disk that is gone from the file, or has another url or number of sessions: stop serving it. */
static void remove_changed(void *arg, const char *name)
{
    struct removal *r = arg;
    cfg_t *now = cfg_gettsec(r->cfg, "disk", name), *before = cfg_gettsec(r->o->cfg, "disk", name);

    if (!now || !before || strcmp(cfg_getstr(now, "url"), cfg_getstr(before, "url")) != 0 ||
        cfg_getint(now, "sessions") != cfg_getint(before, "sessions"))
        serve_remove(r->o->serve, name);
}

static void on_reload(evutil_socket_t number, short what, void *arg)
{
    struct onprem *o = arg;
    struct removal r = {.o = o};
    struct why why;

    (void)number;
    (void)what;
    if (!o->serve)
        return;
    if (onprem_conf_load(&r.cfg, o->path, &why) != 0) {
        log_error(NULL, "configuration not taken over: %s", why.text);
        return;
    }
    log_set_level(cfg_getstr(r.cfg, "log_level"));
    serve_each(o->serve, remove_changed, &r);
    if (start_disks(o, r.cfg, &why) != 0)
        log_error(NULL, "%s", why.text);
    conf_free(&o->cfg);
    o->cfg = r.cfg;
    log_info(NULL, "configuration read again: %u disks", onprem_conf_ndisks(o->cfg));
}

static void watch_signals(struct onprem *o)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < 3; i++) {
        o->signals[i] =
            evsignal_new(loop_base(o->loop), numbers[i], numbers[i] == SIGHUP ? on_reload : on_stop, o);
        event_add(o->signals[i], NULL);
    }
}

/* ---- the program ---- */

static int run(struct onprem *o)
{
    struct why why;
    int err;

    o->loop = loop_new("onprem");
    pool_start(POOL_THREADS);
    timer_init(&o->late, o->loop, on_late);
    o->serve = serve_new(o->loop, budget_bytes, cfg_getbool(o->cfg, "link|thorough"));
    watch_signals(o);
    err = start(o, &why);
    if (err) {
        log_error(NULL, "%s", why.text);
        stop(o);
    } else {
        log_info(NULL, "isthmus-onprem %s serves %u disks to %u edges", ISTHMUS_VERSION,
                 onprem_conf_ndisks(o->cfg), cfg_size(o->cfg, "edge"));
    }
    loop_run(o->loop);
    for (int i = 0; i < 3; i++)
        event_free(o->signals[i]);
    timer_free(&o->late);
    pool_stop();
    loop_free(&o->loop);
    return err ? EXIT_FAILURE : EXIT_SUCCESS;
}

static const char usage[] =
    "Usage: isthmus-onprem [--config FILE] [--check-config]\n"
    "Serves the disks of datastores on this site to Isthmus edges.\n"
    "  -c, --config FILE   configuration (default: /etc/isthmus/onprem.conf)\n"
    "      --check-config  read the configuration, say what is wrong with it, and end\n"
    "      --steps         print the steps that --crash-at knows, and end\n"
    "      --crash-at STEP[:N]   for tests: SIGKILL itself at a step, the N-th time\n"
    "      --version       print the version and end\n"
    "      --help          print this and end\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"check-config", no_argument, NULL, 'k'},
                                            {"steps", no_argument, NULL, 's'},
                                            {"crash-at", required_argument, NULL, 'x'},
                                            {"version", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct onprem o = {.path = "/etc/isthmus/onprem.conf"};
    struct why why;
    bool check = false;
    int c, result;

    while ((c = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        if (c == 'v')
            return printf("isthmus-onprem %s, generation %u\n", ISTHMUS_VERSION, generation_newest()) < 0;
        if (c == 'h')
            return fputs(usage, stdout) < 0;
        if (c == 's') {
            step_print(stdout);
            return EXIT_SUCCESS;
        }
        if (c == 'c')
            o.path = optarg;
        else if (c == 'k')
            check = true;
        else if (c != 'x')
            return 2;
        else if (step_crash_at(optarg, &why) < 0) {
            fprintf(stderr, "isthmus-onprem: %s\n", why.text);
            return 2;
        }
    }
    if (optind != argc) {
        fputs(usage, stderr);
        return 2;
    }
    if (onprem_conf_load(&o.cfg, o.path, &why) != 0) {
        fprintf(stderr, "isthmus-onprem: %s\n", why.text);
        return EXIT_FAILURE;
    }
    log_set_level(cfg_getstr(o.cfg, "log_level"));
    result = check ? EXIT_SUCCESS : run(&o);
    conf_free(&o.cfg);
    return result;
}
