/* initiator/stage_impl.h - shared by stage*.c only.
 */
#ifndef ISTHMUS_STAGE_IMPL_H
#define ISTHMUS_STAGE_IMPL_H

#include "keyring.h"
#include "stage.h"
#include "stage_db.h"

enum { STAGE_ROW_MAX = 16384, STAGE_NAME_BYTES = 16 };

struct stage {
    struct stage_db db;
    struct keyring *keys;
    struct aead_key names;                         /* of contents */
    uint8_t sealed[STAGE_ROW_MAX + SEAL_OVERHEAD]; /* who writes */
    uint8_t plain[STAGE_ROW_MAX];                  /* the same */
};

/* Seals and adds. Who writes. The database must be open (stage_db_again). */
void stage_batch_put(struct stage *, rocksdb_writebatch_t *, enum stage_family, const uint8_t *key,
                     size_t key_len, const uint8_t *plain, size_t n);
/* The length, or -EBADMSG with why. */
int stage_unseal(struct stage *, struct opener *, const uint8_t *key, size_t key_len, const uint8_t *value,
                 size_t n, uint8_t *plain, size_t room, struct why *);
/* What stands for a content on the disk. */
void stage_name(const struct stage *, const uint8_t *hash, uint8_t name[STAGE_NAME_BYTES]);

#endif
