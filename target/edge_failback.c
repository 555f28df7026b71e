/* target/edge_failback.c - see edge_failback.h. docs/operating.md says what the keys mean. */
#include "edge_failback.h"
#include "edge_pair.h"

struct failback *edge_failback(cfg_t *cfg, const struct tasks_conf *where, struct tasks *tasks)
{
    struct failback_conf conf = {.vms = where->vms,
                                 .tasks = tasks,
                                 .main = where->main,
                                 .on = cfg_getbool(cfg, "pair|failback"),
                                 .after_ns = conf_ns(cfg, "pair|failback_after")};

    return edge_pair_peer(cfg) ? failback_new(&conf) : NULL;
}
