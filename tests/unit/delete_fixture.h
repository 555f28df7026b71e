/* tests/unit/delete_fixture.h - an edge, and a VM of which the store and its journal have something; a link
 * that remembers what it was asked.
 */
#ifndef ISTHMUS_DELETE_FIXTURE_H
#define ISTHMUS_DELETE_FIXTURE_H

#include "commit_fixture.h"
#include "no_link_fixture.h"

#include "link.h"
#include "proto_pair.h"
#include "remains.h"
#include "vm_spec.h"
#include "vms_far.h"
#include "vms_hand.h"
#include "vms_pair_impl.h"

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { ONE = 1, OTHER = 2 }; /* edges */

/* --- what the link is used for --------------------------------------------------------------------------*/

static int replied; /* to a request, last */
static struct link_call *called;
static sem_t calls;

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    (void)why, (void)iov, (void)niov;
    *r = NULL;
    replied = status;
}

void link_call(struct peer *p, struct link_call *c)
{
    (void)p;
    called = c;
    sem_post(&calls);
}

void link_call_cancel(struct link_call *c)
{
    (void)c;
    CHECK(false);
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    (void)p, (void)type, (void)body, (void)len;
    CHECK(false);
}

/* --- an edge --------------------------------------------------------------------------------------------*/

static struct edge {
    struct world *w;
    struct vms *vms;
    struct lease_gate gate;
    struct vms_pair pair;
    struct vm_spec spec;
    sem_t reached, go_on, room, closed;
    bool in_pair, has_room;
    int status;
} e;

static void wait_sem(sem_t *s)
{
    while (sem_wait(s) < 0)
        ;
}

static void wait_run(struct work *w)
{
    (void)w;
    sem_post(&e.reached);
    wait_sem(&e.go_on);
}

static void busy_done(struct work *w)
{
    free(w);
}

/* The worker does nothing more until go_on; it has done all that it had. */
static void busy(void)
{
    struct work *w = xcalloc(1, sizeof *w);

    w->run = wait_run;
    w->done = busy_done;
    worker_do(e.w->worker, e.w->f->loop, w);
    wait_sem(&e.reached);
}

static void put_entry_of(unsigned edge)
{
    const uint8_t writer[LOGOBJ_WRITER_BYTES] = {(uint8_t)edge};
    struct vm_store s = {
        .store = e.w->store, .master = &e.w->master, .writer = writer, .random = e.w->f->loop};

    assert_int_equal(vm_store_create(&s, &e.spec, &e.w->f->why), 0);
    assert_int_equal(vm_store_change(&s, &e.spec, &e.w->f->why), 0);
}

static void put_in_catalog(bool deleting)
{
    char *text = vm_spec_to_json(&e.spec, deleting);

    assert_int_equal(journal_meta_put(e.w->f->journal, "vm/web-1", text, strlen(text), &e.w->f->why), 0);
    secret_free(&text);
}

static void put_damaged_entry(void)
{
    char name[MAP_NAME_MAX];
    struct iovec iov = {(char[]){"no entry"}, 8};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = name};

    vmobj_name(name, e.spec.id);
    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(e.w->store, &r, NULL), 0);
}

static void remove_entry(void)
{
    char name[MAP_NAME_MAX];
    const char *const keys[] = {name};
    struct store_req r = {.op = STORE_DELETE, .timeout_ms = 5000};

    vmobj_name(name, e.spec.id);
    r.del.keys = keys;
    r.del.nkeys = 1;
    assert_int_equal(store_wait(e.w->store, &r, NULL), 0);
}

static int found(void *arg, const char *key, const void *value, size_t n)
{
    (void)arg, (void)key, (void)value, (void)n;
    return 1;
}

static bool is_in_catalog(void)
{
    return journal_meta_each(e.w->f->journal, "vm/web-1", found, NULL, &e.w->f->why) == 1;
}

/* The start after the crash; of an edge in no pair. */
static void start_alone(void)
{
    struct vms_conf conf = {.journal = e.w->f->journal,
                            .main = e.w->f->loop,
                            .loops = &e.w->f->loop,
                            .nloops = 1,
                            .stores = &e.w->store,
                            .worker = e.w->worker,
                            .master = e.w->master,
                            .writer = {ONE},
                            .gate = e.in_pair ? &e.gate : NULL};

    if (vms_open(&e.vms, &conf, &e.w->f->why) != 0)
        fail_msg("%s", e.w->f->why.text);
}

static void start_edge(void)
{
    e.in_pair = true;
    start_alone();
    e.pair = (struct vms_pair){.vms = e.vms};
    TAILQ_INIT(&e.pair.rooms);
    TAILQ_INIT(&e.pair.leaving);
    e.vms->pair = &e.pair;
}

static void new_edge(void)
{
    sem_init(&calls, 0, 0);
    e = (struct edge){.w = world_new(),
                      .spec = {.name = "web-1",
                               .iqn = "iqn.2026-11.org.isthmus:web-1",
                               .id = "another VM's id",
                               .storage = WB_CLOUD_PERSIST,
                               .epoch = 3}};
    sem_init(&e.reached, 0, 0);
    sem_init(&e.go_on, 0, 0);
    sem_init(&e.room, 0, 0);
    sem_init(&e.closed, 0, 0);
}

static void on_edge_closed(void *arg)
{
    (void)arg;
    sem_post(&e.closed);
}

static void close_edge(struct fixture *f, void *arg)
{
    (void)f, (void)arg;
    vms_close(e.vms, on_edge_closed, NULL);
}

static void end_edge(void)
{
    on_loop(e.w->f, close_edge, NULL);
    wait_sem(&e.closed);
    world_free(e.w);
    sem_destroy(&e.reached);
    sem_destroy(&e.go_on);
    sem_destroy(&e.room);
    sem_destroy(&e.closed);
    sem_destroy(&calls);
}

#endif
