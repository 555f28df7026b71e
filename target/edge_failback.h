/* target/edge_failback.h - the part of edge.c that is about failback. */
#ifndef ISTHMUS_EDGE_FAILBACK_H
#define ISTHMUS_EDGE_FAILBACK_H

#include "conf.h"
#include "failback.h"

/* As configured, where the tasks are; NULL: this edge is in no pair. */
struct failback *edge_failback(cfg_t *, const struct tasks_conf *, struct tasks *);

#endif
