/* control/tasks_impl.h - a task as it is kept; for tasks*.c.
 */
#ifndef ISTHMUS_TASKS_IMPL_H
#define ISTHMUS_TASKS_IMPL_H

#include "tasks.h"

enum { TASKS_KEY_MAX = 32 };

void tasks_key(uint64_t id, char key[TASKS_KEY_MAX]);
/* The caller frees. */
char *tasks_to_json(const struct tasks_info *);
int tasks_from_json(const char *text, size_t n, struct tasks_info *, struct why *);
const char *tasks_state_name(enum tasks_state);

#endif
