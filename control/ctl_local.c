/* control/ctl_local.c - the commands that make files: certificates, keys, tokens.
 */
#include "ctl.h"

#include "pki.h"

#include <errno.h>
#include <stdio.h>

static void say(const struct ctl *ctl, json_t *json, const char *sentence)
{
    if (ctl->json)
        json_dumpf(json, stdout, JSON_INDENT(2));
    else
        fputs(sentence, stdout);
    putchar('\n');
    json_decref(json);
}

int ctl_pki_init(const struct ctl *ctl, struct why *why)
{
    int err =
        pki_init(ctl->argument, ctl->name ? ctl->name : "Isthmus CA", ctl->days ? ctl->days : 3650, why);
    char sentence[600];

    if (err)
        return err;
    snprintf(sentence, sizeof(sentence),
             "%s/ca.pem and ca.key are made: keep ca.key where no daemon can read it", ctl->argument);
    say(ctl, json_pack("{ss+ ss+}", "certificate", ctl->argument, "/ca.pem", "key", ctl->argument, "/ca.key"),
        sentence);
    return 0;
}

int ctl_pki_issue(const struct ctl *ctl, struct why *why)
{
    struct pki_issue issue = {.dir = ctl->argument,
                              .role = ctl->role,
                              .name = ctl->name,
                              .nsans = ctl->nsans,
                              .days = ctl->days ? ctl->days : 825};
    char sentence[700], certificate[600], key[600];
    int err;

    if (ctl->nsans > PKI_SANS_MAX)
        return why_set(why, -EINVAL, "at most %d --san", PKI_SANS_MAX);
    for (unsigned i = 0; i < ctl->nsans; i++)
        issue.sans[i] = ctl->sans[i];
    err = pki_issue(&issue, why);
    if (err)
        return err;
    snprintf(certificate, sizeof(certificate), "%s/%s.pem", ctl->argument, ctl->name);
    snprintf(key, sizeof(key), "%s/%s.key", ctl->argument, ctl->name);
    snprintf(sentence, sizeof(sentence), "%s and its key are made", certificate);
    say(ctl, json_pack("{ss ss}", "certificate", certificate, "key", key), sentence);
    return 0;
}

static int random_file(const struct ctl *ctl, size_t nbytes, struct why *why)
{
    int err = pki_random_file(ctl->argument, nbytes, why);
    char sentence[600];

    if (err)
        return err;
    snprintf(sentence, sizeof(sentence), "%s is made", ctl->argument);
    say(ctl, json_pack("{ss}", "file", ctl->argument), sentence);
    return 0;
}

int ctl_key_new(const struct ctl *ctl, struct why *why)
{
    return random_file(ctl, 16, why);
}

int ctl_token_new(const struct ctl *ctl, struct why *why)
{
    return random_file(ctl, 32, why);
}
