/* journal/vm_value.c - see vm_value.h.
 */
#include "vm_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX_MAX = VM_ID_KEY_MAX + 1 };

void vm_id_key(const char *folder, const uint8_t id[VMLOG_ID_BYTES], char key[VM_ID_KEY_MAX])
{
    int n = snprintf(key, 8, "%s/", folder);

    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        n += snprintf(key + n, (size_t)(VM_ID_KEY_MAX - n), "%02x", id[i]);
}

static void prefix_of(const uint8_t id[VMLOG_ID_BYTES], char prefix[PREFIX_MAX])
{
    char key[VM_ID_KEY_MAX];

    vm_id_key("pr", id, key);
    snprintf(prefix, PREFIX_MAX, "%s/", key);
}

void vm_value_key(const uint8_t id[VMLOG_ID_BYTES], uint8_t number, char key[VM_VALUE_KEY_MAX])
{
    char prefix[PREFIX_MAX];

    prefix_of(id, prefix);
    snprintf(key, VM_VALUE_KEY_MAX, "%s%u", prefix, number);
}

struct walk {
    int (*each)(void *arg, uint8_t number, const void *value, size_t n);
    void *arg;
};

static int on_value(void *arg, const char *key, const void *value, size_t n)
{
    const struct walk *w = arg;

    return w->each(w->arg, (uint8_t)strtoul(strrchr(key, '/') + 1, NULL, 10), value, n);
}

int vm_value_each(struct journal *j, const uint8_t id[VMLOG_ID_BYTES],
                  int (*each)(void *arg, uint8_t number, const void *value, size_t n), void *arg,
                  struct why *why)
{
    struct walk w = {each, arg};
    char prefix[PREFIX_MAX];

    prefix_of(id, prefix);
    return journal_meta_each(j, prefix, on_value, &w, why);
}

struct erasing {
    struct journal *journal;
    struct why *why;
};

static int erase_one(void *arg, const char *key, const void *value, size_t n)
{
    struct erasing *e = arg;

    (void)value;
    (void)n;
    return journal_meta_delete(e->journal, key, e->why);
}

int vm_value_erase(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    struct erasing e = {j, why};
    char prefix[PREFIX_MAX];

    prefix_of(id, prefix);
    return journal_meta_each(j, prefix, erase_one, &e, why);
}
