/* journal/store/store_wrap.c - see store_wrap.h: a line of the configuration becomes wrappers.
 */
#include "store_wrap.h"

#include "mem.h"
#include "wrap_impl.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { LAYERS_MAX = 8 };

static const struct kind {
    const char *prefix;
    struct store *(*make)(struct store *inner, const char *args);
    int (*check)(const char *args, struct why *);
} kinds[] = {{"delay:", store_delay_new, store_delay_check}, {"fail:", store_fail_new, store_fail_check}};

static const struct kind *kind_of(const char *word)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(word, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
            return &kinds[i];
    return NULL;
}

/* The words of spec, checked; they point into copy. Their number, or -EINVAL. */
static int words_of(char *copy, char *words[LAYERS_MAX], struct why *why)
{
    char *rest = copy, *word;
    int n = 0;

    while ((word = strsep(&rest, " \t"))) {
        const struct kind *k;

        if (!word[0])
            continue;
        if (n == LAYERS_MAX)
            return why_set(why, -EINVAL, "a store can have at most %d layers", LAYERS_MAX);
        k = kind_of(word);
        if (!k)
            return why_set(why, -EINVAL, "store layer '%s' is unknown: use delay:TIME or fail:OPTIONS", word);
        if (k->check(word + strlen(k->prefix), why) != 0)
            return -EINVAL;
        words[n++] = word;
    }
    return n;
}

int store_wrap_check(const char *spec, struct why *why)
{
    CLEANUP_FREE char *copy = xstrdup(spec);
    char *words[LAYERS_MAX];
    int n = words_of(copy, words, why);

    return n < 0 ? n : 0;
}

int store_wrap(struct store **s, const char *spec, struct why *why)
{
    CLEANUP_FREE char *copy = xstrdup(spec);
    char *words[LAYERS_MAX];
    int n = words_of(copy, words, why);

    if (n < 0)
        return n;
    while (n > 0) {
        const struct kind *k = kind_of(words[--n]);

        *s = k->make(*s, words[n] + strlen(k->prefix));
    }
    return 0;
}
