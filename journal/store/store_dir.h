/* journal/store/store_dir.h - objects as files of a directory (dir:/path).
 *
 * Opening looks at the directory and makes it (one level) if it is not there: it may block for a moment, so
 * it is for start-up. README.md has the layout.
 */
#ifndef ISTHMUS_STORE_DIR_H
#define ISTHMUS_STORE_DIR_H

#include "store.h"

/* NULL with why. path is absolute. */
struct store *store_dir_new(struct loop *, const char *path, unsigned inflight_max, struct why *);

#endif
