/* journal/store/http_loop.h - libcurl's multi handle on a loop: sockets and the timer from libevent.
 *
 * Loop thread. A transfer ends exactly once, from the loop, after http_loop_add() has returned.
 */
#ifndef ISTHMUS_HTTP_LOOP_H
#define ISTHMUS_HTTP_LOOP_H

#include "loop.h"

#include <curl/curl.h>
#include <stdbool.h>

struct http_loop;

struct http_transfer {
    CURL *easy;                                      /* the owner's; its CURLOPT_PRIVATE is ours */
    void (*ended)(struct http_transfer *, CURLcode); /* easy is no longer in the multi handle */
    bool cancelled;
    /* private */
    struct http_loop *driver;
    struct task task;
    CURLcode result;
    bool over;
};

struct http_loop *http_loop_new(struct loop *, unsigned connections);
void http_loop_free(struct http_loop **); /* no transfer may be left */
void http_loop_add(struct http_loop *, struct http_transfer *);
/* Sets cancelled; ended() comes from the loop. Nothing if it was over. Never from within a curl callback. */
void http_loop_cancel(struct http_loop *, struct http_transfer *);

#endif
