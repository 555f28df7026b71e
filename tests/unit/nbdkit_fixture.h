/* tests/unit/nbdkit_fixture.h - a real nbdkit with one export, as a rule the image of datastore_fixture.h. */
#ifndef ISTHMUS_NBDKIT_FIXTURE_H
#define ISTHMUS_NBDKIT_FIXTURE_H

#include "datastore_fixture.h"

static pid_t server;
static uint16_t port;
static char failing[96]; /* for the filter "error": I/O fails while this file exists */

static void start_server(const char *options)
{
    char command[600];

    snprintf(command, sizeof command, "nbdkit --exit-with-parent -f -i 127.0.0.1 -p %u %s", port, options);
    server = start_program(command);
    WAIT(answers(port));
}

static void serve_image(const char *filters, const char *parameters)
{
    char options[400];

    snprintf(options, sizeof options, "%s file %s %s", filters, image, parameters);
    start_server(options);
}

/* What start_server() serves, when it is open. */
static struct datastore *open_export(void)
{
    struct datastore *ds;
    char url[100];

    snprintf(url, sizeof url, "nbd://127.0.0.1:%u", port);
    ds = open_url(url);
    WAIT(seen.opened);
    return ds;
}

static int begin(void **state)
{
    port = free_port();
    if (fixture_begin(state) != 0)
        return -1;
    snprintf(failing, sizeof failing, "%s/failing", dir);
    return 0;
}

/* Killed, the plugin "sh" would leave a directory in /tmp. */
static bool server_ended(void)
{
    return waitpid(server, NULL, WNOHANG) == server;
}

static int end(void **state)
{
    if (server > 0) {
        kill(server, SIGTERM);
        WAIT(server_ended());
        server = 0;
    }
    return fixture_end(state);
}

#endif
