/* control/ctl_force.c - isthmusctl pair force: what is lost is said first, and asked for.
 */
#include "ctl.h"
#include "ctl_print.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 300, SAY_LOOKS = 30, RESTART_LOOKS = 400 };

static const char path[] = "/v1/pair/force";

static bool is_true(json_t *answer, const char *key)
{
    return json_is_true(json_object_get(answer, key));
}

static void print_loss(json_t *vm, const char *lost)
{
    time_t at = (time_t)ctl_int(vm, "put_at");
    const char *whose = ctl_text(vm, "whose");
    char when[64] = "";
    struct tm tm;

    printf("VM %s: ", ctl_text(vm, "name"));
    if (at && gmtime_r(&at, &tm))
        strftime(when, sizeof when, ", which came there at %Y-%m-%d %H:%M:%S UTC", &tm);
    if (strcmp(whose, "here") == 0)
        printf("it is this edge's own, which loses nothing of it\n");
    else if (is_true(vm, "deleting"))
        printf("it was being deleted by an edge that is neither, and stays so: vm recover goes on with it\n");
    else if (strcmp(whose, "nobody") == 0)
        printf("it is neither edge's, and stays so: vm recover takes it\n");
    else if (is_true(vm, "home"))
        printf("it runs on-prem, and nothing of it is lost\n");
    else if (!ctl_int(vm, "cut"))
        printf(
            "the object store holds nothing of it: it comes back as its source disks are; all that it wrote "
            "at %s is LOST\n",
            lost);
    else
        printf("the object store holds it up to record %lld%s, %lld s ago; all that %s acknowledged after "
               "that is "
               "LOST\n",
               (long long)ctl_int(vm, "cut"), when, (long long)ctl_int(vm, "age_s"), lost);
}

static void print_losses(json_t *answer)
{
    const char *lost = ctl_text(answer, "lost");
    json_t *vm;
    size_t i;

    printf("%s is the pair's only member, and is to be given up as lost with its disks.\n", lost);
    json_array_foreach(json_object_get(answer, "vms"), i, vm) print_loss(vm, lost);
    if (ctl_int(answer, "unreadable"))
        printf("%lld VM(s) cannot be read in the object store: the edge's log says which\n",
               (long long)ctl_int(answer, "unreadable"));
    printf("Persistent reservations and, if its disks can still be read, what is on them and not in the "
           "store are\n"
           "lost, too. If %s can be brought back, bring it back instead: nothing is lost then.\n"
           "It must not run: while it reaches the object store it is found out and this is refused, but one "
           "that\n"
           "reaches neither the store nor this edge may go on answering initiators until it reaches the "
           "store.\n",
           lost);
}

static int confirm(const struct ctl *ctl, const char *lost, struct why *why)
{
    char line[80] = "";

    if (ctl->yes)
        return 0;
    if (!isatty(STDIN_FILENO))
        return why_set(why, -EINVAL, "nothing was done: this needs --yes, or a terminal to ask at");
    printf("Is %s off for good, and is all of this to be lost? Its name, to go on: ", lost);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, lost) == 0 ? 0 : why_set(why, -ECANCELED, "nothing was done");
}

static int judge(const struct ctl *ctl, json_t *answer, struct why *why)
{
    if (*ctl_text(answer, "force_refused"))
        return why_set(why, -EBUSY, "%s", ctl_text(answer, "force_refused"));
    if (strcmp(ctl_text(answer, "role"), "sole") != 0 && strcmp(ctl_text(answer, "role"), "both") != 0)
        return why_set(why, -EBUSY, "this edge is '%s' after all: its log says why",
                       ctl_text(answer, "role"));
    if (ctl->json)
        return ctl_dump(json_incref(answer));
    printf("%s is the only member, epoch %lld, and takes the VMs over (pair status)\n",
           ctl_text(answer, "edge"), (long long)ctl_int(answer, "epoch"));
    return 0;
}

/* Until it is refused, or the edge has ended and started again. */
static int wait_for_it(const struct ctl *ctl, struct why *why)
{
    for (unsigned looks = 0, restarting = 0;; looks++) {
        json_t *answer = NULL;
        int err = ctl_ask(ctl, "GET", "/v1/pair", NULL, &answer, why);
        bool forcing = is_true(answer, "forcing");
        bool starts = err == -EIO || strcmp(ctl_text(answer, "role"), "unknown") == 0;

        restarting += starts;
        if (!err && ((!forcing && !starts) || restarting > RESTART_LOOKS)) {
            err = judge(ctl, answer, why);
            json_decref(answer);
            return err;
        }
        if (err && (!starts || restarting > RESTART_LOOKS))
            return err;
        if (forcing && !ctl->json && looks % SAY_LOOKS == 0)
            printf("%s\n", ctl_text(answer, "waits_for"));
        fflush(stdout);
        json_decref(answer);
        ctl_pause_ms(LOOK_MS);
    }
}

int ctl_pair_force(const struct ctl *ctl, struct why *why)
{
    json_t *answer, *body;
    int err = ctl_ask(ctl, "GET", path, NULL, &answer, why);

    if (err)
        return err;
    if (!ctl->json)
        print_losses(answer);
    else if (!ctl->accept_loss)
        ctl_dump(json_incref(answer));
    if (!ctl->accept_loss)
        err = why_set(why, -EINVAL, "nothing was done: --accept-loss does it");
    else
        err = confirm(ctl, ctl_text(answer, "lost"), why);
    json_decref(answer);
    if (err)
        return err;
    body = json_pack("{sb}", "accept_loss", 1);
    err = ctl_ask(ctl, "POST", path, body, &answer, why);
    json_decref(body);
    if (err)
        return err;
    json_decref(answer);
    return ctl->no_wait ? 0 : wait_for_it(ctl, why);
}
