/* target/paths.c - see paths.h. */
#include "paths.h"

#include "check.h"
#include "log.h"
#include "portal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "target";

struct groups paths_groups(struct target *t)
{
    struct groups all = t->groups;

    pthread_mutex_lock(&t->paths.lock);
    for (unsigned i = 0; i < t->paths.theirs.n; i++)
        groups_add(&all, t->paths.theirs.each[i].group);
    pthread_mutex_unlock(&t->paths.lock);
    return all;
}

enum paths_access paths_access(const struct target *t, uint16_t tag)
{
    if (groups_have(&t->groups, tag))
        return PATHS_OPTIMIZED;
    return t->conf.twin && peer_up(t->conf.twin) ? PATHS_NON_OPTIMIZED : PATHS_UNAVAILABLE;
}

void paths_each(struct target *t, void (*each)(void *arg, const char *address, uint16_t group), void *arg)
{
    pthread_mutex_lock(&t->paths.lock);
    for (unsigned i = 0; i < t->paths.theirs.n; i++)
        if (*t->paths.theirs.each[i].address)
            each(arg, t->paths.theirs.each[i].address, t->paths.theirs.each[i].group);
    pthread_mutex_unlock(&t->paths.lock);
}

static void on_told(struct link_call *call)
{
    struct target *t = container_of(call, struct target, paths.call);

    buf_unref(&call->body);
    if (call->status == 0)
        buf_unref(&call->reply);
    else if (call->status != -ECANCELED)
        log_warn(NULL, "the other edge does not take our portals: %s", call->why.text);
    t->paths.telling = false;
}

void paths_tell(struct target *t)
{
    struct forward_portals ours = {.n = t->nportals};

    if (t->paths.telling)
        return; /* it goes again by itself */
    for (unsigned i = 0; i < t->nportals; i++) {
        struct forward_portal *p = &ours.each[i];

        if (!portal_named(t, i, t->paths.name, p->address, &p->group))
            *p->address = 0;
    }
    t->paths.telling = true;
    t->paths.call = (struct link_call){.type = PROTO_FORWARD_PORTALS, .class = LINK_CONTROL, .done = on_told};
    t->paths.call.body = forward_put_portals(&ours);
    link_call(t->conf.twin, &t->paths.call);
}

void paths_request(struct target *t, struct link_request *r)
{
    struct forward_portals theirs;
    bool clash = false;

    if (forward_get_portals(r->body, r->len, &theirs)) {
        link_reply(&r, -EBADMSG, "this is no list of portals", NULL, 0);
        return;
    }
    for (unsigned i = 0; i < theirs.n; i++)
        clash = clash || groups_have(&t->groups, theirs.each[i].group);
    if (clash) {
        link_reply(&r, -EINVAL, "a portal group of the other edge has the tag of one here", NULL, 0);
        return;
    }
    pthread_mutex_lock(&t->paths.lock);
    t->paths.theirs = theirs;
    pthread_mutex_unlock(&t->paths.lock);
    link_reply(&r, 0, NULL, NULL, 0);
}

void paths_init(struct paths *p, const char *name)
{
    pthread_mutex_init(&p->lock, NULL);
    snprintf(p->name, sizeof p->name, "%s", name ? name : "");
}

void paths_free(struct paths *p)
{
    CHECK(!p->telling);
    pthread_mutex_destroy(&p->lock);
}
