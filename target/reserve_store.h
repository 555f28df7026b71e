/* target/reserve_store.h - persistent reservations that survive a restart (APTPL): named values of the
 * journal, "pr/VM-ID/NUMBER of the disk" (docs/reservations.md). Read once at start-up, written from the
 * pool.
 */
#ifndef ISTHMUS_RESERVE_STORE_H
#define ISTHMUS_RESERVE_STORE_H

#include "reserve.h"
#include "vm.h"
#include "vm_value.h"

struct reserve_store;

/* Blocking, at start-up: reads and checks all there is. only_target: what reserve_get() wants to know.
 * -EPROTONOSUPPORT, -EBADMSG, with why. */
int reserve_store_load(struct reserve_store **, struct journal *, uint16_t only_target, struct why *);
void reserve_store_free(struct reserve_store **);
/* Any thread: what was there for that disk; false: nothing. */
bool reserve_store_get(const struct reserve_store *, const struct vm_spec *, uint8_t number,
                       struct reserve *);

/* One save under way. */
struct reserve_save {
    void (*done)(struct reserve_save *); /* on the loop */
    int status;                          /* 0: stable; -EIO: as before */
    struct why why;
    struct { /* private */
        struct work work;
        struct journal *journal;
        char key[VM_VALUE_KEY_MAX];
        uint8_t *bytes; /* NULL: nothing is kept any more */
        size_t n;
    } in;
};
/* r: NULL, nothing is kept any more. */
void reserve_store_save(struct reserve_save *, struct loop *, struct journal *, const struct vm_spec *,
                        uint8_t number, const struct reserve *);

#endif
