/* journal/recover_glance.c - what a recovery would come to, told by little: for who has to decide.
 */
#include "checkpoint.h"
#include "logobj.h"
#include "map.h"
#include "recover_impl.h"

#include <errno.h>
#include <string.h>

struct glance {
    const struct recover_conf *conf;
    uint8_t bytes[LOGOBJ_HEAD_BYTES];
    size_t len;
    int64_t put_s;
};

/* The beginning of that object. */
static int get(struct glance *g, const char *name, struct why *why)
{
    struct store_req req = {.op = STORE_GET, .timeout_ms = RECOVER_TIMEOUT_MS, .key = name};
    int err;

    req.get.buf = g->bytes;
    req.get.cap = sizeof g->bytes;
    err = store_wait_through(g->conf->store, &req, g->conf->stop, "it is looked for what the store holds");
    if (err)
        *why = req.why;
    g->len = req.len;
    g->put_s = req.put_s;
    return err;
}

/* 0; 1: the log ends before it. */
static int look_at(struct glance *g, uint64_t first, struct logobj_head *head, struct why *why)
{
    const struct vmobj *entry = &g->conf->entry;
    char name[MAP_NAME_MAX];
    int err;

    map_object_name(name, entry->id, first);
    err = get(g, name, why);
    if (err)
        return err == -ENOENT || err == -EBADMSG ? 1 : err;
    if (logobj_head_read(head, g->bytes, g->len, entry->id, first, why) < 0)
        return 1;
    return recover_is_left_over(g->conf, head);
}

int recover_glance(const struct recover_conf *conf, uint64_t *cut, int64_t *put_s, struct why *why)
{
    const struct checkpoint_id *newest = &conf->entry.newest;
    struct glance g = {.conf = conf};
    struct logobj_head head;
    char name[MAP_NAME_MAX];
    uint64_t next;
    int err = 0;

    *cut = newest->cut > conf->floor ? newest->cut : 0;
    *put_s = 0;
    if (*cut) {
        checkpoint_name(name, conf->entry.id, newest, CHECKPOINT_END);
        err = get(&g, name, why);
        *put_s = g.put_s;
    }
    next = (*cut ? *cut : conf->floor) + 1;
    while (!err) {
        err = look_at(&g, next, &head, why);
        if (err)
            break;
        next = head.last + 1;
        if (head.ends_cut) {
            *cut = head.last;
            *put_s = g.put_s;
        }
    }
    return err > 0 || err == -ENOENT || err == -EBADMSG ? 0 : err;
}
