/* control/ctl_pair.c - isthmusctl pair: what an edge is in its pair. */
#include "ctl.h"
#include "ctl_print.h"

#include <stdio.h>
#include <string.h>

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
        printf("\n%-20s %-16s %-8s %-17s\n", "VM", "OWNER", "MIRRORED", "PREFERS");
    json_array_foreach(vms, i, vm)
    {
        const char *why = ctl_text(vm, "why"), *prefers = ctl_text(vm, "prefers");
        bool astray = *prefers && strcmp(prefers, ctl_text(vm, "owner")) != 0;

        printf("%-20s %-16s %-8s %s%s%s%s\n", ctl_text(vm, "name"), ctl_text(vm, "owner"),
               is_true(vm, "mirrored") ? "yes" : "no", *prefers ? prefers : "-", astray ? " *" : "",
               *why ? "  " : "", why);
    }
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
    if (is_true(answer, "blocked"))
        printf("BLOCKED: nothing is served here\n");
    if (is_true(answer, "taking_in"))
        printf("%s is being taken in\n", ctl_text(answer, "other"));
    if (is_true(answer, "taking_over"))
        printf("its VMs are being taken over\n");
    if (*ctl_text(answer, "waits_for"))
        printf("waits for: %s\n", ctl_text(answer, "waits_for"));
    print_vms(json_object_get(answer, "vms"));
    json_decref(answer);
    return 0;
}
