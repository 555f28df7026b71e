/* links: journal; covers: journal/record */
/* What a disk may give back for a record, a sealed value, a generation of keys: a header is accepted only
 * if we could have written it, and nothing that was altered opens.
 */
#include "check.h"
#include "fuzz.h"
#include "keyring.h"
#include "mem.h"
#include "record.h"

#include <string.h>

enum { PLAIN = 64 };

static struct keyring *ring;
static uint8_t entry[KEYRING_ENTRY_BYTES], sealed[PLAIN + SEAL_OVERHEAD];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct aead_key master = {"0123456789abcde"};
    static const uint8_t salt[AEAD_SALT_BYTES] = "salt", plain[PLAIN] = "plain";

    (void)argc;
    (void)argv;
    ring = keyring_new(&master, "isthmus journal");
    keyring_grow(ring, salt, entry);
    keyring_seal(ring, "key", 3, plain, sizeof plain, sealed);
    return 0;
}

static void header(const uint8_t *p, size_t n)
{
    uint8_t bytes[RECORD_HEADER_BYTES];
    struct record_header h;
    uint32_t sectors = 0;

    if (record_decode(&h, p, n))
        return;
    record_encode(bytes, &h);
    CHECK(n == sizeof bytes && !memcmp(bytes, p, n));
    for (uint32_t i = 0, parts = record_parts(h.type, h.nsectors); i < parts; i++) {
        CHECK(record_part_sectors(h.nsectors, i) > 0);
        sectors += record_part_sectors(h.nsectors, i);
    }
    CHECK(sectors == (h.type == RECORD_WRITE ? h.nsectors : 0));
}

/* The input as it is, and as what was changed in a value that is good. */
static void value(const uint8_t *p, size_t n)
{
    struct opener *o = keyring_take(ring);
    size_t room = n > SEAL_OVERHEAD ? n - SEAL_OVERHEAD : 0;
    uint8_t *out = xmalloc(room + 1), plain[PLAIN], copy[sizeof sealed];

    CHECK(keyring_open(ring, o, "key", 3, p, n, out, room) < 0 ||
          (n == sizeof sealed && !memcmp(p, sealed, n)));
    memcpy(copy, sealed, sizeof sealed);
    for (size_t i = 0; i + 1 < n; i += 2)
        copy[p[i] % sizeof copy] ^= p[i + 1];
    CHECK((keyring_open(ring, o, "key", 3, copy, sizeof copy, plain, sizeof plain) == PLAIN) ==
          !memcmp(copy, sealed, sizeof sealed));
    keyring_give(ring, o);
    free(out);
}

static void generation(const uint8_t *p, size_t n)
{
    static const struct aead_key master = {"0123456789abcde"};
    struct keyring *fresh = keyring_new(&master, "isthmus journal");
    uint8_t copy[sizeof entry];

    (void)keyring_add(fresh, n ? p[0] : 0, p, n);
    memcpy(copy, entry, sizeof entry);
    for (size_t i = 0; i + 1 < n; i += 2)
        copy[p[i] % sizeof copy] ^= p[i + 1];
    CHECK((keyring_add(fresh, 1, copy, sizeof copy) == 0) == !memcmp(copy, entry, sizeof entry));
    keyring_free(&fresh);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    header(p, n);
    value(p, n);
    if (n % 4 == 0) /* deriving keys is slow */
        generation(p, n);
    return 0;
}
