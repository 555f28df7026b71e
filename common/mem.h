/* common/mem.h - memory that is there, or the process is not.
 *
 * An allocation of ours is bounded by configuration before it is made; if the machine cannot give it the
 * process says so and ends (DESIGN.md part 2, 10: everything restarts). What a peer can make large is
 * checked against its bound first.
 */
#ifndef ISTHMUS_MEM_H
#define ISTHMUS_MEM_H

#include <stddef.h>
#include <stdlib.h>

void *xmalloc(size_t bytes);
void *xcalloc(size_t n, size_t bytes); /* zeroed; n * bytes must not overflow */
void *xrealloc(void *p, size_t bytes);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t max);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Free a secret: wiped first. NULL is allowed. */
void secret_free(char **secret);

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}
/* A scratch pointer that is freed at the end of its scope. */
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))

#endif
