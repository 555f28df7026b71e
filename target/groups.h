/* target/groups.h - the portal groups of an edge, as SCSI sees them.
 *
 * A portal group of a VM's iSCSI target is one SCSI target port: its relative identifier is the group's tag.
 * That port is alone in a target port group, whose number is the tag, too. Fixed when the target starts; any
 * thread.
 */
#ifndef ISTHMUS_GROUPS_H
#define ISTHMUS_GROUPS_H

#include "target.h"

#include <stdbool.h>

struct groups {
    uint16_t tags[TARGET_PORTALS_MAX]; /* ascending */
    unsigned n;
};

/* Asymmetric access states, as REPORT TARGET PORT GROUPS says them. */
enum groups_access { GROUPS_OPTIMIZED = 0x0 };

/* If it is not there yet. */
void groups_add(struct groups *, uint16_t tag);
bool groups_have(const struct groups *, uint16_t tag);
/* How the VM is reached by that group: the only place that knows. */
enum groups_access groups_access(const struct vm *, uint16_t tag);

#endif
