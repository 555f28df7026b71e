/* cache/remains.c - see remains.h.
 *
 *   main: whose is it? ► the VM's loop: what is in memory, into the answer ► main: sent
 */
#include "remains.h"
#include "check.h"
#include "mem.h"
#include "metric.h"
#include "proto_pair.h"

#include <errno.h>
#include <string.h>

struct one {
    LIST_ENTRY(one) entry;
    struct remains_vm vm;
};

struct remains {
    struct loop *main;
    LIST_HEAD(, one) list;
    struct metric *hits, *misses;
};

struct answer {
    struct task task;
    struct remains *remains;
    struct link_request *request;
    struct pair_remains ask;
    struct ram_remains disk;
    struct loop *main;
    struct buf *body;
    uint32_t given; /* blocks */
    void (*end)(void *arg);
    void *arg;
};

static struct one *find(struct remains *r, const uint8_t id[VMLOG_ID_BYTES])
{
    struct one *one;

    LIST_FOREACH(one, &r->list, entry)
    if (memcmp(one->vm.id, id, VMLOG_ID_BYTES) == 0)
        break;
    return one;
}

void remains_forget(struct remains *r, const uint8_t id[VMLOG_ID_BYTES])
{
    struct one *one = r ? find(r, id) : NULL;

    if (!one)
        return;
    LIST_REMOVE(one, entry);
    free(one);
}

void remains_add(struct remains *r, const struct remains_vm *vm)
{
    struct one *one = xcalloc(1, sizeof *one);

    remains_forget(r, vm->id);
    one->vm = *vm;
    LIST_INSERT_HEAD(&r->list, one, entry);
}

static void on_back(struct task *t)
{
    struct answer *a = container_of(t, struct answer, task);
    const struct iovec iov = {.iov_base = a->body->data, .iov_len = a->body->len};

    metric_add(a->remains->hits, a->given);
    metric_add(a->remains->misses, a->ask.count - a->given);
    link_reply(&a->request, 0, NULL, &iov, 1);
    a->end(a->arg);
    buf_unref(&a->body);
    free(a);
}

/* The VM's loop. */
static void on_vm_loop(struct task *t)
{
    struct answer *a = container_of(t, struct answer, task);
    const uint8_t *pages[PAIR_REMAINS_BLOCKS];
    uint64_t here = 0;

    for (uint32_t i = 0; i < a->ask.count; i++) {
        const struct block *b = ram_remains_find(&a->disk, a->ask.first + i);

        if (!b)
            continue;
        here |= UINT64_C(1) << i;
        pages[a->given++] = b->zero ? NULL : b->data;
    }
    a->body = pair_put_remains_answer(here, pages);
    a->task.run = on_back;
    loop_post(a->main, &a->task);
}

void remains_request(struct remains *r, struct link_request *request, void (*begin)(void *arg),
                     void (*end)(void *arg), void *arg)
{
    struct pair_remains ask;
    const struct one *one;
    struct answer *a;

    if (pair_get_remains(request->body, request->len, &ask)) {
        link_reply(&request, -EBADMSG, "it cannot be read", NULL, 0);
        return;
    }
    one = find(r, ask.vm);
    if (!one || one->vm.epoch + 1 != ask.epoch || one->vm.seq != ask.seq ||
        one->vm.disks[ask.disk].blocks == 0) {
        metric_add(r->misses, ask.count);
        link_reply(&request, -ESTALE, "nothing of that is left here", NULL, 0);
        return;
    }
    a = xcalloc(1, sizeof *a);
    a->remains = r;
    a->request = request;
    a->ask = ask;
    a->disk = one->vm.disks[ask.disk];
    a->main = r->main;
    a->end = end;
    a->arg = arg;
    a->task.run = on_vm_loop;
    begin(arg);
    loop_post(one->vm.loop, &a->task);
}

struct remains *remains_new(struct loop *main)
{
    static const char name[] = "isthmus_peer_cache_served_total",
                      help[] = "Blocks that the other edge has asked of this one's memory";
    struct remains *r = xcalloc(1, sizeof *r);

    r->main = main;
    LIST_INIT(&r->list);
    r->hits = metric_new(METRIC_COUNTER, name, help, "result=\"hit\"");
    r->misses = metric_new(METRIC_COUNTER, name, help, "result=\"miss\"");
    return r;
}

void remains_free(struct remains **pr)
{
    struct remains *r = *pr;
    struct one *one;

    *pr = NULL;
    if (!r)
        return;
    while ((one = LIST_FIRST(&r->list))) {
        LIST_REMOVE(one, entry);
        free(one);
    }
    metric_free(&r->hits);
    metric_free(&r->misses);
    free(r);
}
