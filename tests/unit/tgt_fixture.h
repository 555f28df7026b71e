/* tests/unit/tgt_fixture.h - a real tgtd with one LUN, the image of datastore_fixture.h.
 */
#ifndef ISTHMUS_TGT_FIXTURE_H
#define ISTHMUS_TGT_FIXTURE_H

#include "datastore_fixture.h"

static const char iqn[] = "iqn.2026-11.test:disk";
static pid_t tgtd;
static uint16_t port;
static int control;

static void admin(const char *arguments)
{
    char command[400];

    snprintf(command, sizeof command, "tgtadm -C %d --lld iscsi %s", control, arguments);
    assert_int_equal(run_program(command), 0);
}

static void add_lun(const char *path)
{
    char text[200];

    snprintf(text, sizeof text, "--op new --mode logicalunit --tid 1 --lun 1 -b %s", path);
    admin(text);
}

static void start_target(bool chap, bool lun)
{
    char command[200];

    snprintf(command, sizeof command, "tgtd -f -C %d --iscsi portal=127.0.0.1:%u", control, port);
    tgtd = start_program(command);
    WAIT(answers(port));
    snprintf(command, sizeof command, "--op new --mode target --tid 1 -T %s", iqn);
    admin(command);
    if (lun)
        add_lun(image);
    if (chap) {
        admin("--op new --mode account --user joe --password hush-hush-12");
        admin("--op bind --mode account --tid 1 --user joe");
    }
    admin("--op bind --mode target --tid 1 -I ALL");
}

static struct datastore *open_lun(const char *user, int lun)
{
    char url[200];

    snprintf(url, sizeof url, "iscsi://%s127.0.0.1:%u/%s/%d", user, port, iqn, lun);
    return open_url(url);
}

static int begin(void **state)
{
    port = free_port();
    control = port % 32767; /* tgtd takes no more */
    return fixture_begin(state);
}

static int end(void **state)
{
    char path[64];

    stop_program(&tgtd);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/var/run/tgtd/socket.%d%s", control, i ? ".lock" : "");
        unlink(path);
    }
    return fixture_end(state);
}

#endif
