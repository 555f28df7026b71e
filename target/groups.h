/* target/groups.h - portal groups, as SCSI sees them.
 *
 * A portal group of a VM's iSCSI target is one SCSI target port: its relative identifier is the group's tag.
 * That port is alone in a target port group, whose number is the tag, too. Pure.
 */
#ifndef ISTHMUS_GROUPS_H
#define ISTHMUS_GROUPS_H

#include "target.h"

#include <stdbool.h>

enum { GROUPS_MAX = 2 * TARGET_PORTALS_MAX /* of both edges of a pair */ };

struct groups {
    uint16_t tags[GROUPS_MAX]; /* ascending */
    unsigned n;
};

/* If it is not there yet. */
void groups_add(struct groups *, uint16_t tag);
bool groups_have(const struct groups *, uint16_t tag);

#endif
