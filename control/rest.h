/* control/rest.h - the edge's REST API (docs/openapi.yaml) and its boot scripts.
 *
 * /v1/... on the control listener, every request with the bearer token of a private file; GET /boot/VM.ipxe
 * on the open listener, which holds no secret. Both listeners run on the main loop, where the catalog lives.
 * Refusals are {"error": "sentence"}; each request has an id (r7) in the log and in X-Request-Id.
 */
#ifndef ISTHMUS_REST_H
#define ISTHMUS_REST_H

#include "failback.h"
#include "http.h"
#include "ram.h"
#include "target.h"
#include "tasks.h"

struct rest;

struct rest_conf { /* strings are copied */
    struct vms *vms;
    struct tasks *tasks;
    struct failback *failback; /* NULL: in no pair */
    struct link *link;
    struct journal *journal;
    struct target *target;
    struct loop *main;
    struct ram **rams; /* borrowed; one for each loop */
    unsigned nrams;
    const char *iqn_prefix;
    const char *portal;     /* "HOST:PORT" in boot scripts; NULL or "": the address the script was asked at */
    const char *token_file; /* made with isthmusctl token new */
};

/* Adds the routes; 0 or -errno with why (a token file that is missing, open to others or too short). */
int rest_start(struct rest **, struct http *control, struct http *open, const struct rest_conf *,
               struct why *);
/* From now on requests are answered 503; frees it. The listeners may go later. NULL is allowed. */
void rest_stop(struct rest **);

#endif
