/* control/ctl.h - isthmusctl: one table of commands, one function each. Blocking, one thread.
 *
 * A command returns 0 or fills why and returns -errno; ctl.c says the sentence and ends with 1. A wrong
 * command line ends with 2.
 */
#ifndef ISTHMUS_CTL_H
#define ISTHMUS_CTL_H

#include "why.h"

#include <jansson.h>
#include <stdbool.h>

enum { CTL_LIST_MAX = 64 };

/* What the command line said; NULL, 0 or false where it said nothing. */
struct ctl {
    bool json, force, commit, discard, onprem, yes, no_wait, cancel, accept_loss;
    const char *server, *token_file, *cacert;
    const char *disks[CTL_LIST_MAX], *sans[CTL_LIST_MAX];
    unsigned ndisks, nsans;
    const char *chap_user, *chap_secret_file, *mutual_user, *mutual_secret_file;
    const char *name, *role;
    unsigned days, block_bytes;
    const char *cut, *lun; /* digits */
    const char *storage;   /* write-back or cloud-persist */
    const char *config, *base;
    const char *prefers;  /* an edge */
    const char *argument; /* the word after the command's own, if it takes one */
    const char *file;     /* and the second: a file, a LUN, an edge */
};

/* Asks the edge; body may be NULL (borrowed). *answer is the caller's to drop. */
int ctl_ask(const struct ctl *, const char *method, const char *path, json_t *body, json_t **answer,
            struct why *);

int ctl_vm_create(const struct ctl *, struct why *);
int ctl_vm_list(const struct ctl *, struct why *);
int ctl_vm_show(const struct ctl *, struct why *);
int ctl_vm_recover(const struct ctl *, struct why *);
int ctl_vm_delete(const struct ctl *, struct why *);
int ctl_run_in_cloud(const struct ctl *, struct why *);
int ctl_run_on_prem(const struct ctl *, struct why *);
int ctl_vm_discard(const struct ctl *, struct why *);
int ctl_vm_commit(const struct ctl *, struct why *);
int ctl_vm_clear_alarm(const struct ctl *, struct why *);
int ctl_vm_prefer(const struct ctl *, struct why *);
int ctl_vm_hand_over(const struct ctl *, struct why *);
int ctl_vm_flush(const struct ctl *, struct why *);
int ctl_vm_pause(const struct ctl *, struct why *);
int ctl_vm_resume(const struct ctl *, struct why *);
int ctl_vm_storage(const struct ctl *, struct why *);
int ctl_task_list(const struct ctl *, struct why *);
int ctl_task_show(const struct ctl *, struct why *);
int ctl_task_cancel(const struct ctl *, struct why *);
int ctl_task_wait(const struct ctl *, struct why *);
int ctl_vm_add_disk(const struct ctl *, struct why *);
int ctl_vm_remove_disk(const struct ctl *, struct why *);
int ctl_pair_status(const struct ctl *, struct why *);
int ctl_pair_fail_over(const struct ctl *, struct why *);
int ctl_pair_force(const struct ctl *, struct why *);
int ctl_status(const struct ctl *, struct why *);
int ctl_store_list(const struct ctl *, struct why *);
int ctl_store_verify(const struct ctl *, struct why *);
int ctl_store_drop_lost(const struct ctl *, struct why *);
int ctl_store_export(const struct ctl *, struct why *);
int ctl_pki_init(const struct ctl *, struct why *);
int ctl_pki_issue(const struct ctl *, struct why *);
int ctl_key_new(const struct ctl *, struct why *);
int ctl_token_new(const struct ctl *, struct why *);

#endif
