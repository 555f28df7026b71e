/* cache/tier_wrap.c - a stack of delay and fail tiers from one line of the configuration. */
#include "tier_wrap.h"

#include "check.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

static const struct kind {
    const char *prefix;
    struct tier *(*make)(struct loop *, struct tier *next, const char *args, struct why *);
    int (*check)(const char *args, struct why *);
} kinds[] = {{"delay:", tier_delay_new, tier_delay_check}, {"fail:", tier_fail_new, tier_fail_check}};

static const char blanks[] = " \t";

/* The kind that a word names, and what it says after the colon. */
static const struct kind *find(const char *word, const char **args, struct why *why)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t n = strlen(kinds[i].prefix);

        if (strncmp(word, kinds[i].prefix, n) == 0) {
            *args = word + n;
            return &kinds[i];
        }
    }
    why_set(why, -EINVAL, "tier '%s' is unknown: use delay:TIME or fail:every=N", word);
    return NULL;
}

/* Cuts the last word off, NULL if there is none: the last is the lowest tier. */
static char *last_word(char *words)
{
    size_t len = strlen(words);
    char *word;

    while (len > 0 && strchr(blanks, words[len - 1]))
        words[--len] = '\0';
    if (len == 0)
        return NULL;
    for (word = words + len; word > words && !strchr(blanks, word[-1]);)
        word--;
    if (word > words)
        word[-1] = '\0';
    return word;
}

int tier_wrap_check(const char *spec, struct why *why)
{
    CLEANUP_FREE char *words = xstrdup(spec);
    char *word;

    while ((word = last_word(words))) {
        const char *args;
        const struct kind *kind = find(word, &args, why);

        if (!kind || kind->check(args, why) != 0)
            return -EINVAL;
        if (word == words)
            break;
    }
    return 0;
}

struct tier *tier_wrap(const char *spec, struct loop *loop, struct tier *next, struct why *why)
{
    CLEANUP_FREE char *words = xstrdup(spec);
    struct tier *top = next;
    char *word;

    if (tier_wrap_check(spec, why) != 0)
        return NULL;
    while ((word = last_word(words))) {
        const char *args;
        const struct kind *kind = find(word, &args, why);

        top = kind->make(loop, top, args, why);
        CHECK(top); /* checked above */
        if (word == words)
            break;
    }
    return top;
}
