/* cache/vms_pair_look.c - what the object store says of the pair and its VMs, whatever this edge believes.
 */
#include "check.h"
#include "mem.h"
#include "store_wait.h"
#include "vm_spec.h"
#include "vms_pair_impl.h"

#include <errno.h>
#include <string.h>

enum { TIMEOUT_MS = 10000 };

/* --- is this edge a member? On the worker ----------------------------------------------------------------*/

static int read_record(const struct vms_pair *p, struct arbiter *record, struct why *why)
{
    const struct vms_conf *conf = &p->vms->conf;
    uint8_t bytes[ARBITER_BYTES + 1]; /* one more, so that a longer one is noticed */
    char key[ARBITER_KEY_MAX];
    struct store_req r = {
        .op = STORE_GET, .timeout_ms = TIMEOUT_MS, .key = key, .get = {.buf = bytes, .cap = sizeof bytes}};
    int err;

    arbiter_key(key, p->name);
    err = store_wait_through(conf->stores[0], &r, &p->vms->stop, "the pair's record is looked at");
    if (err)
        return why_set(why, err, "%s", r.why.text);
    return arbiter_open(&conf->master, p->name, bytes, r.len, record, why);
}

int vms_pair_look_member(const struct vms_pair *p, struct why *why)
{
    struct arbiter_edge me = {.name = p->self, .writer = p->vms->conf.writer};
    struct arbiter record;
    struct why reason;
    int err = read_record(p, &record, &reason);
    enum arbiter_verdict verdict;

    if (err)
        return why_set(why, err, "the pair's record in the object store: %s", reason.text);
    verdict = arbiter_judge(&record, &me);
    if (verdict == ARBITER_SOLE || verdict == ARBITER_BOTH)
        return 0;
    return why_set(why, -ESTALE, "the other edge of the pair has gone on without this one");
}

/* --- VMs that are no more -------------------------------------------------------------------------------*/

/* VMs of the other edge: is there still an entry? */
struct roll {
    struct vms_pair *pair;
    struct work work;
    unsigned n;
    struct {
        uint8_t id[VMLOG_ID_BYTES];
        bool gone;
    } * list;
};

static void call_up(void *arg, const uint8_t id[VMLOG_ID_BYTES])
{
    struct roll *r = arg;

    r->list = xrealloc(r->list, (r->n + 1) * sizeof *r->list);
    memcpy(r->list[r->n].id, id, VMLOG_ID_BYTES);
    r->list[r->n++].gone = false;
}

static void look_run(struct work *w)
{
    struct roll *r = container_of(w, struct roll, work);
    struct vm_store s = vm_store_of(r->pair->vms);
    struct vm_spec *spec = xcalloc(1, sizeof *spec);
    struct vmobj entry;
    char etag[ENTRY_ETAG];
    struct why why;

    for (unsigned i = 0; i < r->n; i++) {
        r->list[i].gone = vm_store_get(&s, r->list[i].id, spec, &entry, etag, &why) == -ENOENT;
        vm_spec_wipe(spec);
    }
    free(spec);
}

/* As if its owner had said so. */
static void look_done(struct work *w)
{
    struct roll *r = container_of(w, struct roll, work);
    struct vms *vms = r->pair->vms;

    for (unsigned i = 0; i < r->n; i++) {
        struct pair_mark mark = {.stream = PAIR_ANY_STREAM};
        struct buf *b;

        if (!r->list[i].gone)
            continue;
        memcpy(mark.vm, r->list[i].id, sizeof mark.vm);
        b = pair_put_mark(&mark);
        vms_pair_notice(r->pair, PROTO_MIRROR_END, b->data, b->len);
        buf_unref(&b);
    }
    free(r->list);
    free(r);
    vms_end(vms);
}

void vms_pair_look_for_gone(struct vms_pair *p)
{
    struct roll *r = xcalloc(1, sizeof *r);
    struct vm *far;

    r->pair = p;
    TAILQ_FOREACH (far, &p->vms->far, in.entry)
        call_up(r, far->spec.id);
    keep_each(p->keep, call_up, r);
    vms_begin(p->vms);
    r->work = (struct work){.run = look_run, .done = look_done};
    worker_do(p->vms->conf.worker, p->vms->conf.main, &r->work);
}
