/* target/edge_iscsi.h - section iscsi of edge.conf: what the target is started with. At start-up, blocking.
 */
#ifndef ISTHMUS_EDGE_ISCSI_H
#define ISTHMUS_EDGE_ISCSI_H

#include "conf.h"
#include "target.h"

/* Fills the limits and the number of portals; -EINVAL with why when they make no sense. */
int edge_iscsi_limits(cfg_t *, struct target_conf *, struct why *);
/* The rest too, secrets read from their files, and starts it. */
int edge_iscsi_start(struct target **, struct target_conf *, cfg_t *, struct why *);

#endif
