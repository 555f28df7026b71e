/* journal/store/wrap_impl.h - the wrappers that make trouble, for store_wrap.c. They take inner; their
 * arguments were found good by the check.
 */
#ifndef ISTHMUS_WRAP_IMPL_H
#define ISTHMUS_WRAP_IMPL_H

#include "store.h"

struct store *store_delay_new(struct store *inner, const char *args);
struct store *store_fail_new(struct store *inner, const char *args);
/* 0, or -EINVAL with the sentence. */
int store_delay_check(const char *args, struct why *why);
int store_fail_check(const char *args, struct why *why);

#endif
