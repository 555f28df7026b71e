#include "mem.h"
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void *xmalloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);

    CHECK(p);
    return p;
}

void *xcalloc(size_t n, size_t bytes)
{
    void *p = calloc(n ? n : 1, bytes ? bytes : 1);

    CHECK(p);
    return p;
}

void *xrealloc(void *p, size_t bytes)
{
    p = realloc(p, bytes ? bytes : 1);
    CHECK(p);
    return p;
}

char *xstrdup(const char *s)
{
    char *copy = strdup(s);

    CHECK(copy);
    return copy;
}

char *xstrndup(const char *s, size_t max)
{
    char *copy = strndup(s, max);

    CHECK(copy);
    return copy;
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    char *s;

    va_start(args, format);
    CHECK(vasprintf(&s, format, args) >= 0);
    va_end(args);
    return s;
}

void secret_free(char **secret)
{
    if (*secret)
        explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}
