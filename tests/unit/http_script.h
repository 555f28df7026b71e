/* tests/unit/http_script.h - an HTTP server that says what the test wrote down, one answer a request.
 *
 * A thread of its own, one connection at a time. Every request is kept for the test to look at.
 */
#ifndef ISTHMUS_HTTP_SCRIPT_H
#define ISTHMUS_HTTP_SCRIPT_H

#include "check.h"
#include "mem.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SCRIPT_MAX = 32 };

/* What is said to one request. text NULL: nothing, the connection is closed. */
struct answer {
    const char *text; /* from the status line on */
    bool close;       /* close the connection after it */
    bool silent;      /* say nothing and keep the connection open until the server stops */
};

struct script {
    struct answer answers[SCRIPT_MAX];
    size_t nanswers;
    char *kept[SCRIPT_MAX];     /* texts made by script_answer() */
    char *requests[SCRIPT_MAX]; /* headers and body */
    size_t nrequests;           /* look at them after script_stop(), or when their answer has come */
    int listener, stop[2];
    uint16_t port;
    pthread_t thread;
};

/* One request from fd; NULL if the connection ended or the server stops. */
static inline char *script_read(struct script *s, int fd)
{
    char *text = xcalloc(1, 1);
    size_t have = 0, want = 0;

    for (;;) {
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = s->stop[0], .events = POLLIN}};
        char *end = strstr(text, "\r\n\r\n");
        ssize_t n;

        if (end && want == 0) {
            char *length = strcasestr(text, "\r\ncontent-length:");

            want = (size_t)(end + 4 - text) + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
        }
        if (want && have >= want)
            return text;
        CHECK(poll(p, 2, -1) > 0);
        text = xrealloc(text, have + 65537);
        n = p[1].revents ? 0 : read(fd, text + have, 65536);
        if (n <= 0) {
            free(text);
            return NULL;
        }
        have += (size_t)n;
        text[have] = '\0';
    }
}

static inline void script_serve(struct script *s, int fd)
{
    for (;;) {
        char *request = script_read(s, fd);
        struct answer a = {0};
        size_t i = s->nrequests;

        if (!request)
            return;
        CHECK(i < SCRIPT_MAX);
        s->requests[i] = request;
        s->nrequests++;
        if (i < s->nanswers)
            a = s->answers[i];
        if (a.silent) {
            struct pollfd p = {.fd = s->stop[0], .events = POLLIN};

            CHECK(poll(&p, 1, -1) > 0);
            return;
        }
        if (!a.text || send(fd, a.text, strlen(a.text), MSG_NOSIGNAL) < 0 || a.close)
            return;
    }
}

static inline void *script_thread(void *arg)
{
    struct script *s = arg;

    for (;;) {
        struct pollfd p[2] = {{.fd = s->listener, .events = POLLIN}, {.fd = s->stop[0], .events = POLLIN}};
        int fd;

        CHECK(poll(p, 2, -1) > 0);
        if (p[1].revents)
            return NULL;
        fd = accept(s->listener, NULL, NULL);
        if (fd < 0)
            continue;
        script_serve(s, fd);
        close(fd);
    }
}

static inline void script_say(struct script *s, const char *text)
{
    CHECK(s->nanswers < SCRIPT_MAX);
    s->answers[s->nanswers++] = (struct answer){.text = text};
}

/* An answer with this status ("200 OK"), these headers (each with its end of line) and this body. */
static inline void script_answer(struct script *s, const char *status, const char *headers, const char *body)
{
    size_t i = s->nanswers;

    script_say(s, NULL);
    s->kept[i] =
        xasprintf("HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body), headers, body);
    s->answers[i].text = s->kept[i];
}

/* Was this in the request? */
static inline bool script_asked(const struct script *s, size_t i, const char *text)
{
    if (i < s->nrequests && strstr(s->requests[i], text))
        return true;
    printf("'%s' is not in request %zu: %s\n", text, i, i < s->nrequests ? s->requests[i] : "(never made)");
    return false;
}

static inline void script_start(struct script *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(s->listener >= 0 && bind(s->listener, (struct sockaddr *)&a, len) == 0 &&
          listen(s->listener, 8) == 0);
    CHECK(getsockname(s->listener, (struct sockaddr *)&a, &len) == 0 && pipe(s->stop) == 0);
    s->port = ntohs(a.sin_port);
    CHECK(pthread_create(&s->thread, NULL, script_thread, s) == 0);
}

static inline void script_stop(struct script *s)
{
    CHECK(write(s->stop[1], "x", 1) == 1 && pthread_join(s->thread, NULL) == 0);
    close(s->listener);
    close(s->stop[0]);
    close(s->stop[1]);
}

static inline void script_free(struct script *s)
{
    for (size_t i = 0; i < s->nrequests; i++)
        free(s->requests[i]);
    for (size_t i = 0; i < s->nanswers; i++)
        free(s->kept[i]);
    memset(s, 0, sizeof(*s));
}

#endif
