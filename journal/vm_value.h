/* journal/vm_value.h - the journal's named values that are about one VM: their names, and what other parts
 * keep there for a VM and goes with it.
 */
#ifndef ISTHMUS_VM_VALUE_H
#define ISTHMUS_VM_VALUE_H

#include "vmlog.h"

/* FOLDER/ID */
enum { VM_ID_KEY_MAX = 8 + 2 * VMLOG_ID_BYTES + 1 };
void vm_id_key(const char *folder, const uint8_t id[VMLOG_ID_BYTES], char key[VM_ID_KEY_MAX]);

/* What is kept of the reservations of a disk, by its number (docs/reservations.md): pr/ID/NUMBER */
enum { VM_VALUE_KEY_MAX = VM_ID_KEY_MAX + 4 };
void vm_value_key(const uint8_t id[VMLOG_ID_BYTES], uint8_t number, char key[VM_VALUE_KEY_MAX]);
/* Blocking. each() for every disk's of the VM; non-zero from it stops and is returned. */
int vm_value_each(struct journal *, const uint8_t id[VMLOG_ID_BYTES],
                  int (*each)(void *arg, uint8_t number, const void *value, size_t n), void *arg,
                  struct why *);
/* Blocking: none is left. */
int vm_value_erase(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

#endif
