/* target/main.c - isthmus-edge: options, configuration, signals; the rest is edge.c.
 */
#include "edge.h"
#include "edge_conf.h"
#include "generation.h"
#include "log.h"
#include "step.h"

#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static const char part[] = "main";

static const char usage[] = "usage: isthmus-edge [--config FILE] [--check-config]\n"
                            "\n"
                            "  -c, --config FILE    default /etc/isthmus/edge.conf\n"
                            "      --check-config   say whether the file is good, and end\n"
                            "      --steps          print the steps that --crash-at knows, and end\n"
                            "      --crash-at STEP[:N]   for tests: SIGKILL itself at a step, the N-th time\n"
                            "  -V, --version\n"
                            "  -h, --help\n";

struct options {
    const char *config;
    bool check;
};

static void parse_options(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'C'},
        {"steps", no_argument, NULL, 's'},
        {"crash-at", required_argument, NULL, 'k'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct why why;
    int c;

    while ((c = getopt_long(argc, argv, "c:Vh", options, NULL)) >= 0) {
        if (c == 'c') {
            o->config = optarg;
        } else if (c == 'C') {
            o->check = true;
        } else if (c == 's') {
            step_print(stdout);
            exit(0);
        } else if (c == 'k') {
            if (step_crash_at(optarg, &why) < 0) {
                fprintf(stderr, "isthmus-edge: %s\n", why.text);
                exit(2);
            }
        } else if (c == 'V') {
            printf("isthmus-edge " ISTHMUS_VERSION ", generation %u\n", generation_newest());
            exit(0);
        } else {
            fputs(usage, c == 'h' ? stdout : stderr);
            exit(c == 'h' ? 0 : 2);
        }
    }
    if (optind < argc) {
        fputs(usage, stderr);
        exit(2);
    }
}

/* A shell starts programs with 1,024 files at most: fewer than connections may be open. */
static void take_files(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
    (void)what;
    log_info(NULL, "signal %d", (int)signo);
    edge_stop(arg);
}

int main(int argc, char **argv)
{
    struct options options = {.config = "/etc/isthmus/edge.conf"};
    static const int stop_signals[] = {SIGTERM, SIGINT};
    struct event *signals[2];
    struct edge *edge = NULL;
    struct loop *loop;
    struct why why;
    cfg_t *cfg;
    int status;

    parse_options(argc, argv, &options);
    if (edge_conf_load(&cfg, options.config, &why) < 0) {
        log_error(NULL, "%s", why.text);
        return 1;
    }
    if (options.check) {
        printf("%s is good\n", options.config);
        conf_free(&cfg);
        return 0;
    }
    log_set_level(cfg_getstr(cfg, "log_level"));
    signal(SIGPIPE, SIG_IGN);
    take_files();
    loop = loop_new("main");
    if (edge_start(&edge, loop, cfg, &why) < 0) {
        log_error(NULL, "%s", why.text);
        return 1;
    }
    for (int i = 0; i < 2; i++) {
        signals[i] = evsignal_new(loop_base(loop), stop_signals[i], on_signal, edge);
        evsignal_add(signals[i], NULL);
    }
    loop_run(loop);
    for (int i = 0; i < 2; i++)
        event_free(signals[i]);
    status = edge_failed(edge);
    edge_free(&edge);
    loop_free(&loop);
    conf_free(&cfg);
    return status;
}
