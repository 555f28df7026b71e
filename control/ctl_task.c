/* control/ctl_task.c - the verbs, and the tasks that they are.
 */
#include "ctl.h"
#include "ctl_print.h"

#include "mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_MS = 50, LOOK_MS = 500, PATIENCE_S = 60 };

void ctl_pause_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static const char *eta_text(json_t *task, char text[32])
{
    json_t *eta = json_object_get(task, "eta_s");

    text[0] = '\0';
    if (json_is_integer(eta))
        snprintf(text, 32, ", %lld s to go", (long long)json_integer_value(eta));
    return text;
}

/* One line: "12% of 1.5G, 40 s to go: writes ..." */
static void print_progress(json_t *task, bool over)
{
    char size[16], eta[32], how[80] = "";
    json_int_t bytes = ctl_int(task, "bytes");

    if (bytes)
        snprintf(how, sizeof how, "%lld%% of %s%s: ", (long long)(ctl_int(task, "bytes_done") * 100 / bytes),
                 ctl_size(bytes, size), eta_text(task, eta));
    printf("%s%s%s%s", over ? "\r\033[K" : "", how, ctl_text(task, "text"), over ? "" : "\n");
    fflush(stdout);
}

static void print_task(json_t *task)
{
    printf("task %lld  %s  %s  %s", (long long)ctl_int(task, "id"), ctl_text(task, "kind"),
           ctl_text(task, "vm"), ctl_text(task, "state"));
    if (*ctl_text(task, "text")) {
        printf("  ");
        print_progress(task, false);
    } else {
        putchar('\n');
    }
}

static bool has_ended(json_t *task)
{
    return strcmp(ctl_text(task, "state"), "running") != 0 && strcmp(ctl_text(task, "state"), "waiting") != 0;
}

/* The edge may be restarted meanwhile: the task goes on. */
static int look(const struct ctl *ctl, const char *path, time_t *lost, json_t **task, struct why *why)
{
    int err = ctl_ask(ctl, "GET", path, NULL, task, why);

    if (err == 0)
        *lost = 0;
    if (err != -EIO)
        return err;
    if (!*lost)
        *lost = time(NULL);
    return time(NULL) - *lost < PATIENCE_S ? 0 : err;
}

/* Takes the task. */
static int end(const struct ctl *ctl, json_t *task, struct why *why)
{
    bool failed = strcmp(ctl_text(task, "state"), "failed") == 0;
    int err = strcmp(ctl_text(task, "state"), "done") == 0 ? 0 : -ECANCELED;

    if (err)
        why_set(why, err, "task %lld (%s of VM %s) %s%s", (long long)ctl_int(task, "id"),
                ctl_text(task, "kind"), ctl_text(task, "vm"), failed ? "failed: " : "was cancelled",
                ctl_text(task, "text"));
    if (ctl->json)
        return ctl_dump(task), err;
    if (!err)
        printf("%s of VM %s is done\n", ctl_text(task, "kind"), ctl_text(task, "vm"));
    json_decref(task);
    return err;
}

/* Takes the task; says what it is at on a terminal, as it changes elsewhere. */
static int wait_for(const struct ctl *ctl, json_t *task, struct why *why)
{
    CLEANUP_FREE char *path = xasprintf("/v1/tasks/%lld", (long long)ctl_int(task, "id"));
    bool terminal = isatty(STDOUT_FILENO) && !ctl->json;
    char said[400] = "";
    unsigned ms = FIRST_MS;
    time_t lost = 0;

    while (!has_ended(task)) {
        json_t *now = NULL;
        int err;

        if (terminal || (!ctl->json && strcmp(said, ctl_text(task, "text")) != 0))
            print_progress(task, terminal);
        snprintf(said, sizeof said, "%s", ctl_text(task, "text"));
        ctl_pause_ms(ms);
        ms = ms * 2 < LOOK_MS ? ms * 2 : LOOK_MS;
        err = look(ctl, path, &lost, &now, why);
        if (err) {
            json_decref(task);
            return err;
        }
        if (now) {
            json_decref(task);
            task = now;
        }
    }
    if (terminal)
        printf("\r\033[K");
    return end(ctl, task, why);
}

static int verb(const struct ctl *ctl, const char *name, json_t *body, struct why *why)
{
    CLEANUP_FREE char *more = xasprintf("/%s", name);
    CLEANUP_FREE char *path = ctl_vm_path(ctl->argument, more);
    json_t *task;
    int err = ctl_ask(ctl, "POST", path, body, &task, why);

    json_decref(body);
    if (err)
        return err;
    if (!ctl->no_wait)
        return wait_for(ctl, task, why);
    if (ctl->json)
        return ctl_dump(task);
    print_task(task);
    json_decref(task);
    return 0;
}

int ctl_run_in_cloud(const struct ctl *ctl, struct why *why)
{
    json_t *body = json_object();

    if (ctl->storage)
        json_object_set_new(body, "storage", json_string(ctl->storage));
    return verb(ctl, "run-in-cloud", body, why);
}

int ctl_run_on_prem(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, "run-on-prem",
                json_pack("{sb sb sb sb}", "force", ctl->force, "commit", ctl->commit, "discard",
                          ctl->discard, "sure", ctl->discard),
                why);
}

int ctl_vm_discard(const struct ctl *ctl, struct why *why)
{
    if (!ctl->yes)
        return why_set(why, -EINVAL,
                       "what VM %s wrote in the cloud and is not on-prem would be lost for good: say --yes",
                       ctl->argument);
    return verb(ctl, "discard", json_pack("{sb sb}", "force", ctl->force, "sure", 1), why);
}

int ctl_vm_flush(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, ctl->onprem ? "commit" : "flush", json_object(), why);
}

int ctl_vm_commit(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, "commit", json_object(), why);
}

int ctl_vm_clear_alarm(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, "clear-alarm", json_object(), why);
}

int ctl_vm_hand_over(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, "hand-over", json_object(), why);
}

int ctl_vm_prefer(const struct ctl *ctl, struct why *why)
{
    json_t *body = json_pack("{ss}", "edge", ctl->file);

    return body ? verb(ctl, "prefer", body, why) : why_set(why, -EINVAL, "the edge's name is not UTF-8");
}

int ctl_vm_pause(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, "pause-writeback", json_object(), why);
}

int ctl_vm_resume(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, "resume-writeback", json_object(), why);
}

int ctl_vm_storage(const struct ctl *ctl, struct why *why)
{
    return verb(ctl, "storage", json_pack("{ss}", "storage", ctl->file), why);
}

int ctl_task_list(const struct ctl *ctl, struct why *why)
{
    json_t *answer, *task;
    size_t i;
    int err = ctl_ask(ctl, "GET", "/v1/tasks", NULL, &answer, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    json_array_foreach(json_object_get(answer, "tasks"), i, task) print_task(task);
    json_decref(answer);
    return 0;
}

static int ask_task(const struct ctl *ctl, const char *method, json_t **task, struct why *why)
{
    CLEANUP_FREE char *path = xasprintf("/v1/tasks/%s", ctl->argument);

    if (!*ctl->argument || strspn(ctl->argument, "0123456789") != strlen(ctl->argument))
        return why_set(why, -EINVAL, "'%.40s' is not the number of a task", ctl->argument);
    return ctl_ask(ctl, method, path, NULL, task, why);
}

int ctl_task_show(const struct ctl *ctl, struct why *why)
{
    json_t *task;
    int err = ask_task(ctl, "GET", &task, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(task);
    print_task(task);
    json_decref(task);
    return 0;
}

int ctl_task_cancel(const struct ctl *ctl, struct why *why)
{
    json_t *task;
    int err = ask_task(ctl, "DELETE", &task, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(task);
    printf("task %s is being cancelled\n", ctl->argument);
    json_decref(task);
    return 0;
}

int ctl_task_wait(const struct ctl *ctl, struct why *why)
{
    json_t *task;
    int err = ask_task(ctl, "GET", &task, why);

    return err ? err : wait_for(ctl, task, why);
}
