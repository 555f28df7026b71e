/* tests/unit/fake_verbs.h - verbs that do what the test says, and a journal of named values in memory.
 *
 * Stands in for vm_verb.h and for journal_meta_*; include once, before what is tested is linked.
 */
#ifndef ISTHMUS_FAKE_VERBS_H
#define ISTHMUS_FAKE_VERBS_H

#include "mem.h"
#include "vm_verb.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FAKE_VERBS = 16, FAKE_ROWS = 256 };

struct vm_verb {
    struct vm_verb_ask ask;
    struct vm_verb_report report;
    bool cancelled, last_step;
    void (*done)(void *arg, int status, const struct why *);
    void *arg;
};

static struct vm_verb fake_verbs[FAKE_VERBS]; /* one after the other, in the order they began */
static unsigned fake_begun;
static int fake_refusal; /* what vm_verb_check says */

static struct {
    char key[64];
    char *value;
} fake_rows[FAKE_ROWS];
static bool fake_disk_fails;
static unsigned fake_puts;

static const char *const fake_names[] = {"run-in-cloud", "run-on-prem", "discard",         "flush",
                                         "commit",       "storage",     "pause-writeback", "resume-writeback",
                                         "clear-alarm",  "hand-over",   "prefer"};

const char *vm_verb_name(enum vm_verb_kind kind)
{
    return fake_names[kind];
}

bool vm_verb_of(const char *name, enum vm_verb_kind *kind)
{
    for (int i = 0; i < VERB_KINDS; i++)
        if (strcmp(fake_names[i], name) == 0) {
            *kind = (enum vm_verb_kind)i;
            return true;
        }
    return false;
}

int vm_verb_check(struct vms *vms, const struct vm_verb_ask *ask, struct why *why)
{
    (void)vms;
    return fake_refusal ? why_set(why, fake_refusal, "VM %s will not", ask->vm) : 0;
}

struct vm_verb *vm_verb_start(struct vms *vms, const struct vm_verb_ask *ask,
                              void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct vm_verb *v = &fake_verbs[fake_begun++ % FAKE_VERBS];

    (void)vms;
    *v = (struct vm_verb){.ask = *ask, .done = done, .arg = arg};
    why_set(&v->report.text, 0, "works");
    return v;
}

int vm_verb_cancel(struct vm_verb *v, struct why *why)
{
    if (v->last_step)
        return why_set(why, -EBUSY, "it is in its last step");
    v->cancelled = true;
    return 0;
}

void vm_verb_force(struct vm_verb *v)
{
    v->ask.force = true;
}

void vm_verb_report(const struct vm_verb *v, struct vm_verb_report *r)
{
    *r = v->report;
}

/* The newest verb ends. */
static inline void fake_end(int status, const char *sentence)
{
    struct vm_verb *v = &fake_verbs[(fake_begun - 1) % FAKE_VERBS];
    struct why why;

    why_set(&why, 0, "%s", sentence);
    v->done(v->arg, status, &why);
}

int journal_meta_put(struct journal *j, const char *key, const void *value, size_t n, struct why *why)
{
    int at = -1;

    (void)j;
    if (fake_disk_fails)
        return why_set(why, -EIO, "the disk is full");
    for (int i = 0; i < FAKE_ROWS; i++)
        if (fake_rows[i].value && strcmp(fake_rows[i].key, key) == 0)
            at = i;
    for (int i = 0; i < FAKE_ROWS && at < 0; i++)
        if (!fake_rows[i].value)
            at = i;
    free(fake_rows[at].value);
    snprintf(fake_rows[at].key, sizeof fake_rows[at].key, "%s", key);
    fake_rows[at].value = xstrndup(value, n);
    fake_puts++;
    return 0;
}

int journal_meta_delete(struct journal *j, const char *key, struct why *why)
{
    (void)j;
    (void)why;
    for (int i = 0; i < FAKE_ROWS; i++)
        if (fake_rows[i].value && strcmp(fake_rows[i].key, key) == 0) {
            free(fake_rows[i].value);
            fake_rows[i].value = NULL;
        }
    return 0;
}

/* In the order of the keys, as the real one. */
int journal_meta_each(struct journal *j, const char *prefix,
                      int (*each)(void *arg, const char *key, const void *value, size_t n), void *arg,
                      struct why *why)
{
    char after[64] = "";
    int err = 0;

    (void)j;
    (void)why;
    for (int next = 0; next >= 0 && !err;) {
        next = -1;
        for (int i = 0; i < FAKE_ROWS; i++)
            if (fake_rows[i].value && strncmp(fake_rows[i].key, prefix, strlen(prefix)) == 0 &&
                strcmp(fake_rows[i].key, after) > 0 &&
                (next < 0 || strcmp(fake_rows[i].key, fake_rows[next].key) < 0))
                next = i;
        if (next >= 0) {
            strcpy(after, fake_rows[next].key);
            err = each(arg, after, fake_rows[next].value, strlen(fake_rows[next].value));
        }
    }
    return err;
}

static inline unsigned fake_nrows(void)
{
    unsigned n = 0;

    for (int i = 0; i < FAKE_ROWS; i++)
        n += fake_rows[i].value != NULL;
    return n;
}

static inline void fake_rows_clear(void)
{
    for (int i = 0; i < FAKE_ROWS; i++) {
        free(fake_rows[i].value);
        fake_rows[i].value = NULL;
    }
}

#endif
