/* tests/unit/store_script_fixture.h - an object store against the server of http_script.h, which says what
 * the test has written down.
 */
#ifndef ISTHMUS_STORE_SCRIPT_FIXTURE_H
#define ISTHMUS_STORE_SCRIPT_FIXTURE_H

#include "../lib/store_call.h"
#include "http_script.h"
#include "store_conf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

static struct loop *loop;
static struct store *store;
static struct script server;
static struct store_conf conf;
static struct why why;
static char endpoint[60], secret_file[40];
static struct store *(*new_store)(struct loop *, const struct store_conf *, struct why *);

/* The store as conf has it now. */
static inline void reopen(void)
{
    store_free(&store);
    store = new_store(loop, &conf, &why);
    if (!store)
        fail_msg("%s", why.text);
}

/* The server, and the secret in its file. What conf still lacks is the test's, which opens the store then. */
static inline void store_begin(struct store *(*new)(struct loop *, const struct store_conf *, struct why *),
                               const char *url, const char *secret)
{
    int fd;

    pool_start(2);
    loop = loop_new("test");
    script_start(&server);
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
    strcpy(secret_file, "/tmp/isthmus-secret-XXXXXX");
    fd = mkstemp(secret_file);
    assert_true(fd >= 0 && write(fd, secret, strlen(secret)) == (ssize_t)strlen(secret));
    close(fd);
    store_conf_default(&conf, url);
    conf.endpoint = endpoint;
    conf.part_bytes = 5 << 20;
    conf.connections = 1;
    new_store = new;
}

static inline int teardown(void **state)
{
    (void)state;
    store_free(&store);
    loop_free(&loop);
    pool_stop();
    script_stop(&server);
    script_free(&server);
    unlink(secret_file);
    return 0;
}

static inline void say(const char *status, const char *headers, const char *body)
{
    script_answer(&server, status, headers, body);
}

static inline void asked(size_t i, const char *text)
{
    assert_true(script_asked(&server, i, text));
}

/* A table's row: what is said to a put, the status it ends with and the sentence. */
struct refusal {
    const char *status, *code;
    int wanted;
    const char *sentence;
};

static inline void assert_refused(const struct refusal *r, const struct call *c)
{
    if (!strstr(c->req.why.text, r->sentence))
        fail_msg("%s: %s", r->code, c->req.why.text);
    assert_int_equal(c->req.status, r->wanted);
}

#endif
