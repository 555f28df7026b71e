/* journal/logobj_impl.h - what building and reading a log object share. Not for others. */
#ifndef ISTHMUS_LOGOBJ_IMPL_H
#define ISTHMUS_LOGOBJ_IMPL_H

#include "logobj.h"

enum {
    LOGOBJ_AAD_BYTES = 16 + 8,
    LOGOBJ_INDEX_HEAD_BYTES = LOGOBJ_WRITER_BYTES + 8,
    LOGOBJ_INDEX_BYTES_MAX = LOGOBJ_INDEX_HEAD_BYTES + LOGOBJ_ENTRIES_MAX * LOGOBJ_ENTRY_BYTES
};

extern const char logobj_magic[8], logobj_label[];

/* A sealed frame: codec (1), zeros (3), plain bytes (4), data; tag. Nonces: 0 is the index's, a data frame's
 * is its offset + 1. */
/* Before sealing: codec to data. out has room for n + LOGOBJ_FRAME_OVERHEAD; returns the length, which grows
 * by the tag when it is sealed in place. */
uint32_t logobj_frame_pack(const uint8_t *plain, uint32_t n, uint8_t *out);
/* Returns the plain length, at most room, or -EBADMSG. scratch has room for n bytes. */
int logobj_frame_unseal(struct aead *, uint64_t nonce, const void *aad, size_t aad_len, const uint8_t *sealed,
                        uint32_t n, uint8_t *scratch, uint8_t *out, uint32_t room);

void logobj_head_write(uint8_t bytes[LOGOBJ_HEAD_BYTES], const struct logobj_head *);
void logobj_aad(uint8_t aad[LOGOBJ_AAD_BYTES], const uint8_t vm[16], uint64_t first);

#endif
