/* tests/unit/link_ends.h - ends of real links, with certificates that tests/lib/pki.h made. */
#ifndef ISTHMUS_LINK_ENDS_H
#define ISTHMUS_LINK_ENDS_H

#include "link.h"
#include "mem.h"
#include "pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* An end as conf has it, with the certificate called files, by the CA called "ca". */
static inline void end_open(struct link **l, struct loop *on, const char *pki_dir, const char *files,
                            struct link_conf conf, const struct link_handlers *handlers)
{
    CLEANUP_FREE char *crt = xasprintf("%s/%s.crt", pki_dir, files),
                      *key = xasprintf("%s/%s.key", pki_dir, files), *ca = xasprintf("%s/ca.crt", pki_dir);
    struct why why;

    conf.certificate = crt;
    conf.key = key;
    conf.ca = ca;
    if (link_new(l, on, &conf, handlers, &why))
        fail_msg("%s", why.text);
}

/* from keeps nconns connections up to the end `to`, whose name is given. */
static inline void end_dials(struct link *from, const struct link *to, const char *name, unsigned nconns)
{
    CLEANUP_FREE char *address = xasprintf("127.0.0.1:%u", link_port(to));
    struct why why;

    if (link_dial(from, link_peer(from, name), address, nconns, &why))
        fail_msg("%s", why.text);
}

/* --- the two edges of a pair --- */

/* The certificates of edge-a and edge-b; the caller's to remove. */
static inline char *twins_pki(void)
{
    char *made = pki_new();

    pki_ca(made, "ca");
    pki_issue(made, "ca", "edge-a", "edge-a", "edge", -60, 3600);
    pki_issue(made, "ca", "edge-b", "edge-b", "edge", -60, 3600);
    return made;
}

static inline void twin_open(struct link **l, struct loop *on, const char *pki_dir, const char *name,
                             const char *twin, bool listens, const struct link_handlers *handlers)
{
    const struct link_conf conf = {
        .role = "edge", .peer_role = "onprem", .listen = listens ? "127.0.0.1:0" : NULL, .twin = twin};

    end_open(l, on, pki_dir, name, conf, handlers);
}

#endif
