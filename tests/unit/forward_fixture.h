/* tests/unit/forward_fixture.h - two targets with a link between them: vm0 is the owner's; vm1, at the other,
 * is the same VM, of which that one only forwards.
 */
#ifndef ISTHMUS_FORWARD_FIXTURE_H
#define ISTHMUS_FORWARD_FIXTURE_H

#include "link_ends.h"
#include "on_loop.h"
#include "proto_forward.h"
#include "reservations_fixture.h"

#include <errno.h>

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { OWNER_GROUP = 1, OTHER_GROUP = OWNER_GROUP + TARGET_GROUPS_SECOND };
enum { ACCESS = 0x62a06, GIVEN_UP = 0xb2f02 };

static struct end {
    struct link *link;
    struct target **target;
    atomic_uint ups, downs;
} owner_end = {.target = &fix.target}, other_end;
static struct target *other;
static struct vm heir; /* takes vm1's place at the other */
static struct volume heir_volume;
static char *pki;
static uint16_t owner_port;

/* --- the main loop ---------------------------------------------------------------------------------------*/

static void on_request(void *arg, struct link_request *r)
{
    const struct end *e = arg;

    if (*e->target)
        target_link_request(*e->target, r);
    else
        link_reply(&r, -ESTALE, "stopping", NULL, 0);
}

static void on_notice(void *arg, struct peer *peer, uint8_t type, const uint8_t *body, uint32_t len)
{
    const struct end *e = arg;

    (void)peer;
    if (*e->target)
        target_link_notice(*e->target, type, body, len);
}

static void on_state(void *arg, struct peer *peer, bool up)
{
    struct end *e = arg;

    (void)peer;
    atomic_fetch_add(up ? &e->ups : &e->downs, 1);
    if (up && *e->target)
        target_link_up(*e->target);
}

static void open_end(struct end *e, const char *name, const char *twin, bool listens)
{
    const struct link_handlers handlers = {on_request, on_notice, on_state, e};

    twin_open(&e->link, fix.main, pki, name, twin, listens, &handlers);
}

static void dial(void)
{
    end_dials(other_end.link, owner_end.link, "edge-a", 1);
}

/* --- both ------------------------------------------------------------------------------------------------*/

static void before(struct target_conf *conf)
{
    static const char *const portal = "127.0.0.1:0";
    struct target_conf mine = *conf;
    struct why why;

    memset(fix.vms[0].spec.id, 7, sizeof fix.vms[0].spec.id);
    memcpy(fix.vms[1].spec.id, fix.vms[0].spec.id, sizeof fix.vms[1].spec.id);
    fix.vms[1].far = true;
    fix.vms[1].in.vms = heir.in.vms = (struct vms *)(void *)&heir; /* only so that it is not the owner's */
    fix.vms[1].volumes[0] = NULL;
    open_end(&owner_end, "edge-a", "edge-b", true);
    open_end(&other_end, "edge-b", "edge-a", false);
    conf->twin = link_peer(owner_end.link, "edge-b");
    mine.vms = fix.vms[1].in.vms;
    mine.twin = link_peer(other_end.link, "edge-a");
    mine.portal_groups_from = TARGET_GROUPS_SECOND;
    mine.portals = (const char **)(uintptr_t)&portal;
    mine.nportals = 1;
    if (target_start(&other, &mine, &why))
        fail_msg("%s", why.text);
    other_end.target = &other;
}

static int start(void **state)
{
    pki = twins_pki();
    memset(&heir, 0, sizeof heir);
    owner_end.ups = other_end.ups = 0;
    fix_before = before;
    fix_start(state);
    owner_port = fix.port;
    memcpy(heir.spec.name, "heir", 5);
    memcpy(heir.spec.id, fix.vms[0].spec.id, sizeof heir.spec.id);
    heir.spec.ndisks = 1;
    heir.loop = fix.loops[1];
    heir.volumes[0] = &heir_volume;
    atomic_store(&heir.admitted, true);
    fake_volume_init(&heir_volume, FIX_SECTORS, 512);
    on_loop(fix.main, dial);
    fix_wait(&owner_end.ups, 1);
    fix_wait(&other_end.ups, 1);
    return 0;
}

static atomic_uint other_quiet, other_gone;

static void on_other_quiet(void *arg)
{
    (void)arg;
    atomic_store(&other_quiet, 1);
}

static void on_other_gone(void *arg)
{
    (void)arg;
    atomic_store(&other_gone, 1);
}

static void stop_other(void)
{
    struct target *t = other;

    other = NULL;
    target_stop(t, on_other_quiet, on_other_gone, NULL);
}

static void stop_owner(void)
{
    struct target *t = fix.target;

    fix.target = NULL;
    target_stop(t, fix_quiet, fix_gone, NULL);
}

static void free_links(void)
{
    link_free(&other_end.link);
    link_free(&owner_end.link);
}

static int stop(void **state)
{
    atomic_store(&other_quiet, 0);
    atomic_store(&other_gone, 0);
    on_loop(fix.main, stop_other);
    fix_wait(&other_gone, 1);
    on_loop(fix.main, stop_owner);
    fix_wait(&fix.gone, 1);
    on_loop(fix.main, free_links);
    fix_end(state);
    assert_int_equal(atomic_load(&heir.refs), 0);
    fake_volume_free(&heir_volume);
    pki_remove(&pki);
    fix_before = NULL;
    return 0;
}

static struct raw *at_owner(uint8_t isid)
{
    fix.port = owner_port;
    return session_new(0, isid, "");
}

static struct raw *at_other(uint8_t isid)
{
    fix.port = target_port(other, 0);
    return session_new(1, isid, "");
}

static uint32_t rw(struct raw *c, bool writes, uint32_t lba, uint32_t n, uint8_t *data)
{
    struct raw_answer a = raw_exchange(c, raw_cdb16(writes ? 0x8a : 0x88, lba, n), 16, writes ? data : NULL,
                                       writes ? n * 512 : 0, writes ? NULL : data, writes ? 0 : n * 512);

    assert_int_equal(a.residual, 0);
    return (uint32_t)a.status << 24 | a.sense;
}

#endif
