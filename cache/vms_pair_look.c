/* cache/vms_pair_look.c - what the object store says of the pair, whatever this edge believes. On the worker.
 */
#include "check.h"
#include "store_wait.h"
#include "vms_pair_impl.h"

#include <errno.h>
#include <string.h>

enum { TIMEOUT_MS = 10000 };

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
