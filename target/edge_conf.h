/* target/edge_conf.h - isthmus-edge's configuration file, parsed and checked.
 */
#ifndef ISTHMUS_EDGE_CONF_H
#define ISTHMUS_EDGE_CONF_H

#include "conf.h"

/* Values are read with the key paths of docs/operating.md ("iscsi|listen"). 0 or -errno with why; the caller
 * conf_frees it. */
int edge_conf_load(cfg_t **, const char *path, struct why *);

#endif
