/* target/edge_pair.h - section pair of edge.conf: the other edge, and what this one is started with. At
 * start-up.
 */
#ifndef ISTHMUS_EDGE_PAIR_H
#define ISTHMUS_EDGE_PAIR_H

#include "conf.h"
#include "target.h"
#include "vms_pair.h"

/* The other edge's name; NULL: this edge is in no pair. */
const char *edge_pair_peer(cfg_t *);
/* 0, or -EINVAL with a sentence that names file and line. */
int edge_pair_check(cfg_t *, struct why *);

/* What the target has to know of the pair, if there is one: the other edge, and tags that it does not have.
 */
int edge_pair_target(struct target_conf *, cfg_t *, struct link *, struct why *);

/* From the other edge, to whom it concerns. target NULL: this edge is stopping. */
void edge_pair_request(struct vms_pair *, struct target *, struct link_request *);
void edge_pair_notice(struct vms_pair *, struct target *, uint8_t type, const uint8_t *body, uint32_t len);

struct edge_pair_conf {
    cfg_t *cfg;
    struct vms *vms;
    struct link *link;
    struct loop *main;
    struct aead_key master;
    const uint8_t *writer;
    struct lease_gate *gate;
    void (*lost)(void *arg, const struct why *);
    void (*refused)(void *arg, const struct why *);
    void *arg;
};
/* Dials the other edge, if that is this one's part, and begins. *store: the pair's own, to be freed after it.
 */
int edge_pair_start(struct vms_pair **, struct store **store, const struct edge_pair_conf *, struct why *);

#endif
