/* cache/onprem.h - the last tier: blocks of the source disk, from the on-prem daemon over the link.
 *
 * The link lives on another loop: requests are handed over in batches and come back the same way. Reads
 * wait for as long as the on-prem side cannot be reached. A read larger than what one frame should carry is
 * split, so that a demand read never queues behind much.
 */
#ifndef ISTHMUS_ONPREM_H
#define ISTHMUS_ONPREM_H

#include "proto.h"
#include "tier.h"

struct peer;
struct readahead;

/* disk is a name in the on-prem daemon's configuration; vm labels metrics and logs. readahead (NULL: none) is
 * told the bandwidth-delay product as the link measures it. link_loop is the loop of the peer's link. */
struct tier *tier_onprem_new(struct loop *, struct loop *link_loop, struct peer *, const char *disk,
                             const char *vm, struct readahead *);

#endif
