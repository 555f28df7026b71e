/* cache/tier_fail.c - a tier that answers some reads with an error: a bad disk for tests and demos.
 *
 * The others go to the next tier untouched. The control file is looked at for each read: this tier is not for
 * speed. Lives on the disk's loop.
 */
#include "check.h"
#include "mem.h"
#include "tier_wrap.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

struct tier_fail {
    struct tier tier;
    unsigned long every, reads;
    int status;
    char *file; /* NULL: always */
};

static const struct {
    const char *name;
    int number;
} errnos[] = {{"EIO", EIO}, {"ENOENT", ENOENT}, {"ECANCELED", ECANCELED}};

static struct tier_fail *tier_fail(struct tier *t)
{
    return container_of(t, struct tier_fail, tier);
}

static bool fail_read(struct tier *t, struct block_req *r)
{
    struct tier_fail *f = tier_fail(t);

    if ((!f->file || access(f->file, F_OK) == 0) && ++f->reads % f->every == 0) {
        r->status = f->status;
        return true;
    }
    return tier_read(t->next, r);
}

static void fail_promote(struct tier *t, struct block_req *r)
{
    tier_promote(t->next, r);
}

static void fail_free(struct tier *t)
{
    struct tier_fail *f = tier_fail(t);

    free(f->file);
    free(f);
}

static const struct tier_ops fail_ops = {
    .name = "fail",
    .read = fail_read,
    .promote = fail_promote,
    .free = fail_free,
};

static bool set_every(struct tier_fail *f, const char *value)
{
    char *end;

    errno = 0;
    f->every = strtoul(value, &end, 10);
    return value[0] >= '0' && value[0] <= '9' && *end == '\0' && !errno && f->every > 0;
}

static bool set_errno(struct tier_fail *f, const char *value)
{
    for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++) {
        if (strcmp(value, errnos[i].name) == 0) {
            f->status = -errnos[i].number;
            return true;
        }
    }
    return false;
}

static bool set_option(struct tier_fail *f, const char *option)
{
    if (strncmp(option, "every=", 6) == 0)
        return set_every(f, option + 6);
    if (strncmp(option, "errno=", 6) == 0)
        return set_errno(f, option + 6);
    if (strncmp(option, "file=", 5) != 0 || option[5] == '\0' || f->file)
        return false;
    f->file = xstrdup(option + 5);
    return true;
}

static int parse(struct tier_fail *f, const char *args, struct why *why)
{
    CLEANUP_FREE char *copy = xstrdup(args);
    char *rest = copy, *option;

    f->every = 1;
    f->status = -EIO;
    while ((option = strsep(&rest, ",")))
        if (!set_option(f, option))
            return why_set(
                why, -EINVAL,
                "tier 'fail:%s': '%s' is not one of every=N, errno=EIO|ENOENT|ECANCELED, file=PATH", args,
                option);
    return 0;
}

int tier_fail_check(const char *args, struct why *why)
{
    struct tier_fail f = {.file = NULL};
    int rc = parse(&f, args, why);

    free(f.file);
    return rc;
}

struct tier *tier_fail_new(struct loop *loop, struct tier *next, const char *args, struct why *why)
{
    struct tier_fail *f = xcalloc(1, sizeof(*f));

    f->tier.ops = &fail_ops;
    f->tier.next = next;
    f->tier.loop = loop;
    if (parse(f, args, why) == 0)
        return &f->tier;
    fail_free(&f->tier);
    return NULL;
}
