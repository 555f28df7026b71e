/* tests/unit/no_link_fixture.h - what an edge's VMs use of the link, where there is none: nobody is up.
 * Include it in one file of a program, which has link_call(), link_call_cancel(), link_notice() and
 * link_reply() of its own.
 */
#ifndef ISTHMUS_NO_LINK_FIXTURE_H
#define ISTHMUS_NO_LINK_FIXTURE_H

#include "check.h"
#include "link.h"

void link_call_promote(struct link_call *c, enum link_class class)
{
    (void)c, (void)class;
    CHECK(false);
}

struct peer *link_peer(struct link *l, const char *name)
{
    (void)l, (void)name;
    return NULL;
}

const char *peer_name(const struct peer *p)
{
    (void)p;
    return "dc1";
}

bool peer_up(const struct peer *p)
{
    (void)p;
    return false;
}

uint64_t peer_rtt_ns(const struct peer *p)
{
    (void)p;
    return 0;
}

uint64_t peer_bytes_per_s(const struct peer *p)
{
    (void)p;
    return 0;
}

#endif
