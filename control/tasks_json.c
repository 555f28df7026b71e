/* control/tasks_json.c - a task in the journal.
 */
#include "tasks_impl.h"

#include "check.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { FORMAT = 1 };

static const char *const states[] = {[TASK_RUNNING] = "running",
                                     [TASK_WAITING] = "waiting",
                                     [TASK_DONE] = "done",
                                     [TASK_FAILED] = "failed",
                                     [TASK_CANCELLED] = "cancelled"};

const char *tasks_state_name(enum tasks_state state)
{
    return states[state];
}

void tasks_key(uint64_t id, char key[TASKS_KEY_MAX])
{
    snprintf(key, TASKS_KEY_MAX, "task/%016" PRIx64, id);
}

char *tasks_to_json(const struct tasks_info *t)
{
    json_t *o = json_pack(
        "{si sI ss ss si sb sb sb ss ss ss sI sI sI sI}", "format", FORMAT, "id", (json_int_t)t->id, "kind",
        vm_verb_name(t->ask.kind), "vm", t->ask.vm, "storage", (int)t->ask.storage, "force", t->ask.force,
        "commit", t->ask.commit, "discard", t->ask.discard, "prefers", t->ask.prefers, "state",
        states[t->state], "text", t->text.text, "bytes", (json_int_t)t->bytes, "bytes_done",
        (json_int_t)t->bytes_done, "started", (json_int_t)t->started_s, "ended", (json_int_t)t->ended_s);
    char *text;

    CHECK(o);
    text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    CHECK(text);
    json_decref(o);
    return text;
}

static bool take_state(const char *name, enum tasks_state *state)
{
    for (unsigned i = 0; i < sizeof states / sizeof *states; i++)
        if (strcmp(states[i], name) == 0) {
            *state = (enum tasks_state)i;
            return true;
        }
    return false;
}

int tasks_from_json(const char *text, size_t n, struct tasks_info *t, struct why *why)
{
    json_t *o = json_loadb(text, n, 0, NULL);
    json_int_t id = 0, bytes, bytes_done, started, ended;
    const char *kind, *vm, *state, *says, *prefers = "";
    int format = 0, storage, force, commit = 0, discard, err = -EBADMSG;

    memset(t, 0, sizeof *t);
    if (json_unpack(o, "{si sI}", "format", &format, "id", &id) == 0 && format > FORMAT)
        why_set(why, 0, "task %lld is described in format %d, this isthmus-edge knows up to %d",
                (long long)id, format, FORMAT);
    else if (json_unpack(o, "{ss ss si sb s?b sb s?s ss ss sI sI sI sI}", "kind", &kind, "vm", &vm, "storage",
                         &storage, "force", &force, "commit", &commit, "discard", &discard, "prefers",
                         &prefers, "state", &state, "text", &says, "bytes", &bytes, "bytes_done", &bytes_done,
                         "started", &started, "ended", &ended) < 0 ||
             id <= 0 || strlen(vm) > VM_NAME_MAX || strlen(prefers) >= sizeof t->ask.prefers || storage < 0 ||
             storage > WB_CLOUD_PERSIST || bytes < 0 || bytes_done < 0 || !vm_verb_of(kind, &t->ask.kind) ||
             !take_state(state, &t->state))
        why_set(why, 0, "the record of task %lld cannot be understood", (long long)id);
    else
        err = 0;
    if (!err) {
        strcpy(t->ask.vm, vm);
        strcpy(t->ask.prefers, prefers);
        t->id = t->ask.task = (uint64_t)id;
        t->ask.storage = (enum wb_policy)storage;
        t->ask.force = force;
        t->ask.commit = commit;
        t->ask.discard = discard;
        t->bytes = (uint64_t)bytes;
        t->bytes_done = (uint64_t)bytes_done;
        t->started_s = (uint64_t)started;
        t->ended_s = (uint64_t)ended;
        why_set(&t->text, 0, "%s", says);
    }
    json_decref(o);
    return err;
}
