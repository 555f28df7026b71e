/* common/keyring.c - see keyring.h.
 *
 * Generations are only added at start-up, before other threads exist: reading them needs no lock. The free
 * list of openers has one.
 */
#include "keyring.h"
#include "check.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static const uint64_t check_nonce = UINT64_MAX; /* the counter never gets there */

struct generation {
    uint32_t number;
    uint8_t salt[AEAD_SALT_BYTES];
};

enum { CHECK_BYTES = 16 };

struct keyring {
    struct aead_key master;
    char label[CHECK_BYTES];        /* what the check value says, too; zeros behind it */
    struct generation *generations; /* numbers rise */
    size_t n, room;
    struct aead *sealer;
    uint64_t nonce;
    pthread_mutex_t lock; /* guards spare */
    struct opener *spare;
};

struct keyring *keyring_new(const struct aead_key *master, const char *label)
{
    struct keyring *k = xcalloc(1, sizeof *k);

    CHECK(strlen(label) < sizeof k->label);
    k->master = *master;
    memcpy(k->label, label, strlen(label));
    pthread_mutex_init(&k->lock, NULL);
    return k;
}

static void opener_free(struct opener *o)
{
    for (size_t i = 0; i < sizeof o->slot / sizeof o->slot[0]; i++)
        if (o->slot[i].aead)
            aead_free(&o->slot[i].aead);
    free(o);
}

void keyring_free(struct keyring **kp)
{
    struct keyring *k = *kp;

    *kp = NULL;
    while (k->spare) {
        struct opener *o = k->spare;
        k->spare = o->next;
        opener_free(o);
    }
    if (k->sealer)
        aead_free(&k->sealer);
    pthread_mutex_destroy(&k->lock);
    free(k->generations);
    explicit_bzero(&k->master, sizeof k->master);
    free(k);
}

static struct aead *aead_of(const struct keyring *k, const uint8_t *salt)
{
    struct aead_key derived;
    struct aead *a;

    aead_derive(&k->master, salt, k->label, &derived);
    a = aead_new(&derived);
    explicit_bzero(&derived, sizeof derived);
    return a;
}

static void append(struct keyring *k, uint32_t number, const uint8_t *salt)
{
    if (k->n == k->room) {
        k->room = k->room ? k->room * 2 : 16;
        k->generations = xrealloc(k->generations, k->room * sizeof *k->generations);
    }
    k->generations[k->n].number = number;
    memcpy(k->generations[k->n].salt, salt, AEAD_SALT_BYTES);
    k->n++;
}

int keyring_add(struct keyring *k, uint32_t generation, const void *entry, size_t n)
{
    const uint8_t *salt = entry;
    uint8_t aad[4], plain[CHECK_BYTES];
    struct aead *a;
    int err;

    if (n != KEYRING_ENTRY_BYTES || generation == 0 ||
        (k->n > 0 && generation <= k->generations[k->n - 1].number))
        return -EBADMSG;
    put32(aad, generation);
    a = aead_of(k, salt);
    err = aead_open(a, check_nonce, aad, sizeof aad, salt + AEAD_SALT_BYTES, sizeof plain, plain);
    aead_free(&a);
    if (err == 0)
        append(k, generation, salt);
    return err;
}

uint32_t keyring_grow(struct keyring *k, const uint8_t salt[AEAD_SALT_BYTES],
                      uint8_t entry[KEYRING_ENTRY_BYTES])
{
    uint32_t number = k->n > 0 ? k->generations[k->n - 1].number + 1 : 1;
    uint8_t aad[4];

    CHECK(!k->sealer && number != 0);
    put32(aad, number);
    k->sealer = aead_of(k, salt);
    k->nonce = 0;
    memcpy(entry, salt, AEAD_SALT_BYTES);
    aead_seal(k->sealer, check_nonce, aad, sizeof aad, k->label, sizeof k->label, entry + AEAD_SALT_BYTES);
    append(k, number, salt);
    return number;
}

void keyring_seal(struct keyring *k, const void *key, size_t key_len, const void *in, size_t n, void *out)
{
    uint8_t *p = out;
    uint64_t nonce = k->nonce++;

    CHECK(nonce != check_nonce);
    put32(p, k->generations[k->n - 1].number);
    put64(p + 4, nonce);
    aead_seal(k->sealer, nonce, key, key_len, in, n, p + 12);
}

struct opener *keyring_take(struct keyring *k)
{
    struct opener *o;

    pthread_mutex_lock(&k->lock);
    o = k->spare;
    if (o)
        k->spare = o->next;
    pthread_mutex_unlock(&k->lock);
    return o ? o : xcalloc(1, sizeof *o);
}

void keyring_give(struct keyring *k, struct opener *o)
{
    pthread_mutex_lock(&k->lock);
    o->next = k->spare;
    k->spare = o;
    pthread_mutex_unlock(&k->lock);
}

static const struct generation *find(const struct keyring *k, uint32_t number)
{
    size_t low = 0, high = k->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (k->generations[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < k->n && k->generations[low].number == number ? &k->generations[low] : NULL;
}

int keyring_open(struct keyring *k, struct opener *o, const void *key, size_t key_len, const void *sealed,
                 size_t n, void *out, size_t room)
{
    const uint8_t *p = sealed;
    uint32_t number;
    size_t i;

    if (n < SEAL_OVERHEAD || n - SEAL_OVERHEAD > room)
        return -EBADMSG;
    number = get32(p);
    i = number % (sizeof o->slot / sizeof o->slot[0]);
    if (number == 0)
        return -EBADMSG;
    if (o->slot[i].generation != number) {
        const struct generation *g = find(k, number);
        if (!g)
            return -EBADMSG;
        if (o->slot[i].aead)
            aead_free(&o->slot[i].aead);
        o->slot[i].aead = aead_of(k, g->salt);
        o->slot[i].generation = number;
    }
    n -= SEAL_OVERHEAD;
    if (aead_open(o->slot[i].aead, get64(p + 4), key, key_len, p + 12, n, out) < 0)
        return -EBADMSG;
    return (int)n;
}
