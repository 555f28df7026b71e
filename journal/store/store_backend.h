/* journal/store/store_backend.h - what a backend or a wrapper of an object store calls.
 *
 * store.c checks, queues, keeps deadlines and delivers; a backend only starts, cancels and finishes. Loop
 * thread.
 */
#ifndef ISTHMUS_STORE_BACKEND_H
#define ISTHMUS_STORE_BACKEND_H

#include "store.h"

/* name is copied. */
void store_init(struct store *, const struct store_ops *, struct loop *, const char *name,
                unsigned inflight_max);
/* Ends a started request; every answer field is set before, why with store_fail() or by hand. done() comes
 * from the loop later. Also fine from within ops->start or ops->cancel. */
void store_finish(struct store_req *, int status);
/* Sets why and finishes. */
void store_refuse(struct store_req *, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Milliseconds until the deadline of a started request, at least 1. */
uint32_t store_left_ms(const struct store_req *);

/* A page under construction, for at most limit entries. */
struct store_page *store_page_new(size_t limit);
/* Keys are copied. */
void store_page_add(struct store_page **, const char *key, uint64_t size);

/* For wrappers: what is asked for (not the deadline), and every answer field, the page too. */
void store_ask_copy(struct store_req *to, const struct store_req *from, void (*done)(struct store_req *));
void store_answer_move(struct store_req *to, struct store_req *from);

#endif
