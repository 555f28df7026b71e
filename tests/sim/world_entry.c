/* tests/sim/world_entry.c - what the entries of VMs say, as they are put into the store.
 */
#include "world_inside.h"

#include "check.h"
#include "mem.h"
#include "vm_spec.h"
#include "vmobj.h"

#include <stdio.h>
#include <string.h>

static void look(const uint8_t id[VMLOG_ID_BYTES], const char *hex, const void *bytes, size_t n)
{
    struct vm_spec *spec = xcalloc(1, sizeof *spec);
    struct vmobj v;
    struct why why;
    bool deleting;
    int err;
    struct buf *text = vmobj_open(&world.edges[0].master, id, bytes, n, &v, &err, &why);

    CHECK(text);
    if (vm_spec_from_json((const char *)text->data, text->len, spec, &deleting, &why) == 0) {
        world_passing_entry(id, hex, spec, deleting);
        world_home_entry(spec);
    }
    free(spec);
    vmobj_wipe(&text);
}

void world_entry_put(const char *key, const void *bytes, size_t n)
{
    const char *hex = strncmp(key, "vms/", 4) == 0 ? key + 4 : "";
    uint8_t id[VMLOG_ID_BYTES];

    if (strlen(hex) < WORLD_KEY_HEX + 3)
        return;
    if (strcmp(hex + WORLD_KEY_HEX, "/vm") != 0) {
        world_passing_late(hex);
        return;
    }
    for (unsigned i = 0; i < sizeof id; i++)
        CHECK(sscanf(hex + 2 * i, "%2hhx", &id[i]) == 1);
    look(id, hex, bytes, n);
}
