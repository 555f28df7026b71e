/* journal/keep_reserve.c - a kept VM's reservations: written into the journal as they come, one after the
 * other, on its loop.
 *
 * What they say was looked at by target/, which will serve them when this edge takes the VM over.
 */
#include "check.h"
#include "keep_impl.h"
#include "vm_value.h"

#include <errno.h>
#include <inttypes.h>

static void write_first(struct kept *k);

static void write_run(struct work *w)
{
    struct keep_request *q = container_of(w, struct keep_request, work);
    char key[VM_VALUE_KEY_MAX];

    vm_value_key(q->kept->id, q->reserve.disk, key);
    q->status = journal_meta_put(q->kept->journal, key, q->reserve.state, q->reserve.len, &q->why);
}

static void write_done(struct work *w)
{
    struct keep_request *q = container_of(w, struct keep_request, work);
    struct kept *k = q->kept;
    struct why why = q->why;

    STAILQ_REMOVE_HEAD(&k->reserves, entry);
    k->broken = k->broken || q->status;
    keep_answer(q, q->status, why.text);
    write_first(k);
}

static void write_first(struct kept *k)
{
    struct keep_request *q;

    while ((q = STAILQ_FIRST(&k->reserves)) && q->again) {
        STAILQ_REMOVE_HEAD(&k->reserves, entry);
        keep_answer(q, 0, NULL);
    }
    if (!q)
        return;
    q->work = (struct work){.run = write_run, .done = write_done};
    loop_work(k->loop, &q->work);
}

void keep_reserve(struct keep_request *q)
{
    struct kept *k = q->kept;
    struct why why = {"reservations cannot be read"};
    int rc = pair_get_reserve(q->request->body, q->request->len, &q->reserve);

    if (rc == 0 && q->reserve.number > k->next_reserve)
        rc = why_set(&why, -EPROTO, "reservations %" PRIu64 " came before %" PRIu64, q->reserve.number,
                     k->next_reserve);
    if (rc) {
        k->broken = true;
        keep_answer(q, rc, why.text);
        return;
    }
    q->again = q->reserve.number < k->next_reserve; /* its answer was lost */
    if (!q->again)
        k->next_reserve++;
    STAILQ_INSERT_TAIL(&k->reserves, q, entry);
    if (q == STAILQ_FIRST(&k->reserves))
        write_first(k);
}
