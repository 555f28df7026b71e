/* cache/vm_status.c - see vm_status.h. A timer of the VM's loop looks and leaves what it saw under a lock.
 */
#include "vm_status.h"
#include "check.h"
#include "vm.h"

#include <string.h>

enum { TICK_MS = 200 };

void vm_status_look(struct vm *vm)
{
    struct vm_status s = {.open = true, .written = vmlog_last(vm->log)};

    s.committed = map_state(vm->map)->committed;
    s.pending_bytes = cut_pending_bytes(vm->log);
    s.store_lag_ns = commit_lag_ns(vm->commit);
    commit_failing(vm->commit, &s.store_why);
    s.mirrored = vm->mirror != NULL;
    s.has_wb = vm->writeback != NULL;
    if (vm->writeback)
        writeback_status(vm->writeback, &s.wb);
    pthread_mutex_lock(&vm->in.seen.lock);
    vm->in.seen.last = s;
    pthread_mutex_unlock(&vm->in.seen.lock);
}

static void on_timer(struct timer *t)
{
    struct vm *vm = container_of(t, struct vm, in.seen.timer);

    vm_status_look(vm);
    timer_set_ms(t, TICK_MS);
}

void vm_status(struct vm *vm, struct vm_status *out)
{
    pthread_mutex_lock(&vm->in.seen.lock);
    *out = vm->in.seen.last;
    pthread_mutex_unlock(&vm->in.seen.lock);
}

void vm_status_start(struct vm *vm)
{
    timer_init(&vm->in.seen.timer, vm->loop, on_timer);
    vm_status_look(vm);
    timer_set_ms(&vm->in.seen.timer, TICK_MS);
}

void vm_status_stop(struct vm *vm)
{
    if (!vm->in.seen.timer.loop)
        return;
    timer_free(&vm->in.seen.timer);
    pthread_mutex_lock(&vm->in.seen.lock);
    memset(&vm->in.seen.last, 0, sizeof vm->in.seen.last);
    pthread_mutex_unlock(&vm->in.seen.lock);
}
