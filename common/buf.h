/* common/buf.h - a refcounted run of bytes that may cross threads.
 *
 * The creator writes it; once shared it is immutable. References are atomic, so that a write's data can be
 * held by a session, the journal's writer and the mirror at once.
 */
#ifndef ISTHMUS_BUF_H
#define ISTHMUS_BUF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    atomic_uint refs;
    uint32_t len; /* bytes in data[]; the owner may lower it */
    _Alignas(16) uint8_t data[];
};

/* One reference, content undefined. */
struct buf *buf_new(size_t len);
struct buf *buf_ref(struct buf *);
/* Drops the reference in *b and leaves NULL there. NULL is allowed. */
void buf_unref(struct buf **b);

#endif
