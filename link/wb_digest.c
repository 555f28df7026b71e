/* link/wb_digest.c - the digest of a stage, and the hash of a piece (proto_wb.h).
 *
 * Any thread; one digest is one thread's at a time.
 */
#include "check.h"
#include "mem.h"
#include "proto_wb.h"
#include "wire.h"

#include <openssl/evp.h>

struct wb_digest {
    EVP_MD_CTX *sha;
};

struct wb_digest *wb_digest_new(void)
{
    struct wb_digest *d = xmalloc(sizeof *d);

    d->sha = EVP_MD_CTX_new();
    CHECK(d->sha && EVP_DigestInit_ex(d->sha, EVP_sha256(), NULL));
    return d;
}

void wb_digest_add(struct wb_digest *d, uint8_t disk, enum wb_kind kind, uint64_t lba, uint64_t nsectors,
                   const uint8_t *hash)
{
    uint8_t row[2 + 8 + 8 + WB_HASH_BYTES] = {disk, (uint8_t)kind};
    size_t n = 2 + 8 + 8;

    CHECK((kind == WB_PIECE_DATA) == (hash != NULL));
    put64(row + 2, lba);
    put64(row + 10, nsectors);
    if (hash) {
        memcpy(row + n, hash, WB_HASH_BYTES);
        n = sizeof row;
    }
    CHECK(EVP_DigestUpdate(d->sha, row, n));
}

void wb_digest_end(struct wb_digest **dp, uint8_t digest[WB_HASH_BYTES])
{
    struct wb_digest *d = *dp;

    *dp = NULL;
    CHECK(EVP_DigestFinal_ex(d->sha, digest, NULL));
    EVP_MD_CTX_free(d->sha);
    free(d);
}

void wb_hash(const void *bytes, size_t n, uint8_t hash[WB_HASH_BYTES])
{
    CHECK(EVP_Digest(bytes, n, hash, NULL, EVP_sha256(), NULL));
}
