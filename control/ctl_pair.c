/* control/ctl_pair.c - isthmusctl pair: what an edge is in its pair. */
#include "ctl.h"
#include "ctl_print.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 300, SAY_LOOKS = 30 };

static bool is_true(json_t *answer, const char *key)
{
    return json_is_true(json_object_get(answer, key));
}

/* Who is not where it prefers to be has a star, and the reason behind it. */
static void print_vms(json_t *vms)
{
    json_t *vm;
    size_t i;

    if (json_array_size(vms))
        printf("\n%-20s %-16s %-8s %s\n", "VM", "OWNER", "MIRRORED", "PREFERS");
    json_array_foreach(vms, i, vm)
    {
        const char *why = ctl_text(vm, "why"), *prefers = ctl_text(vm, "prefers");
        const char *owner = ctl_text(vm, "owner");
        bool astray = *owner && *prefers && strcmp(prefers, owner) != 0;

        printf("%-20s %-16s %-8s %s%s%s%s\n", ctl_text(vm, "name"), *owner ? owner : "?",
               is_true(vm, "mirrored") ? "yes" : "no", *prefers ? prefers : "-", astray ? " *" : "",
               *why ? "  " : "", why);
    }
}

/* Why the first VM that is here still is. */
static const char *why_left(json_t *answer)
{
    json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(answer, "vms"), i, vm)
    {
        if (strcmp(ctl_text(vm, "owner"), ctl_text(answer, "edge")) == 0 && *ctl_text(vm, "why"))
            return ctl_text(vm, "why");
    }
    return "";
}

/* Takes the answer. */
static int wait_for_all(const struct ctl *ctl, json_t *answer, struct why *why)
{
    json_int_t said = -1, left;
    int err = 0;

    for (unsigned looks = 0; !err && is_true(answer, "failing_over") && ctl_int(answer, "vms_here");
         looks++) {
        left = ctl_int(answer, "vms_here");
        if (!ctl->json && (left != said || looks % SAY_LOOKS == 0))
            printf("%lld VM(s) to go: %s\n", (long long)left, why_left(answer));
        fflush(stdout);
        said = left;
        ctl_pause_ms(LOOK_MS);
        json_decref(answer);
        err = ctl_ask(ctl, "GET", "/v1/pair", NULL, &answer, why);
    }
    if (err)
        return err;
    left = ctl_int(answer, "vms_here");
    if (left)
        err = why_set(why, -ECANCELED, "the fail-over was called off, with %lld VM(s) at %.63s",
                      (long long)left, ctl_text(answer, "edge"));
    if (ctl->json)
        return ctl_dump(answer), err;
    if (!err)
        printf("%s serves no VM any more, and gives on what comes: it can be stopped\n",
               ctl_text(answer, "edge"));
    json_decref(answer);
    return err;
}

int ctl_pair_fail_over(const struct ctl *ctl, struct why *why)
{
    json_t *answer;
    int err = ctl_ask(ctl, ctl->cancel ? "DELETE" : "POST", "/v1/pair/fail-over", NULL, &answer, why);

    if (err)
        return err;
    if (!ctl->cancel && !ctl->no_wait)
        return wait_for_all(ctl, answer, why);
    if (ctl->json)
        return ctl_dump(answer);
    printf(ctl->cancel ? "%lld VM(s) stay at %s\n" : "%lld VM(s) are to leave %s\n",
           (long long)ctl_int(answer, "vms_here"), ctl_text(answer, "edge"));
    json_decref(answer);
    return 0;
}

static void print_forced(json_t *forced)
{
    time_t at = (time_t)ctl_int(forced, "at");
    char when[32] = "";
    struct tm tm;

    if (json_is_null(forced) || !gmtime_r(&at, &tm))
        return;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &tm);
    printf("%s was made the only member by force in epoch %lld, %s\n", ctl_text(forced, "edge"),
           (long long)ctl_int(forced, "epoch"), when);
}

int ctl_pair_status(const struct ctl *ctl, struct why *why)
{
    json_t *answer;
    int err = ctl_ask(ctl, "GET", "/v1/pair", NULL, &answer, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    printf("pair %s, epoch %lld: this edge, %s, is %s%s\n", ctl_text(answer, "pair"),
           (long long)ctl_int(answer, "epoch"), ctl_text(answer, "edge"), ctl_text(answer, "role"),
           is_true(answer, "degraded") ? ": DEGRADED, nothing is mirrored" : "");
    printf("%s %s\n", ctl_text(answer, "other"),
           is_true(answer, "other_answers") ? "answers" : "DOES NOT ANSWER");
    printf("written as generation %lld; this edge's program is of generation %lld",
           (long long)ctl_int(answer, "generation"), (long long)ctl_int(answer, "own_generation"));
    if (ctl_int(answer, "other_generation"))
        printf(", the other's of %lld", (long long)ctl_int(answer, "other_generation"));
    putchar('\n');
    print_forced(json_object_get(answer, "forced"));
    if (is_true(answer, "blocked"))
        printf("BLOCKED: nothing is served here\n");
    if (is_true(answer, "taking_in"))
        printf("%s is being taken in\n", ctl_text(answer, "other"));
    if (is_true(answer, "taking_over"))
        printf("its VMs are being taken over\n");
    if (is_true(answer, "failing_over"))
        printf("it gives all its VMs to the other: %lld to go\n", (long long)ctl_int(answer, "vms_here"));
    if (is_true(answer, "forcing"))
        printf("it is to be the only member by force\n");
    if (*ctl_text(answer, "force_refused"))
        printf("it was not made the only member by force: %s\n", ctl_text(answer, "force_refused"));
    if (*ctl_text(answer, "waits_for"))
        printf("waits for: %s\n", ctl_text(answer, "waits_for"));
    print_vms(json_object_get(answer, "vms"));
    json_decref(answer);
    return 0;
}
