/* target/peers.c - connections by address (peers.h): a small hash table, an entry for each address that has
 * one.
 */
#include "peers.h"

#include "check.h"
#include "mem.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/queue.h>

enum { BUCKETS = 256 };

struct peer_address {
    LIST_ENTRY(peer_address) entry;
    struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
    unsigned n, bucket;
};

struct peers {
    pthread_mutex_t lock;
    LIST_HEAD(, peer_address) buckets[BUCKETS];
};

struct peers *peers_new(void)
{
    struct peers *p = xcalloc(1, sizeof *p);

    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void peers_free(struct peers **pp)
{
    struct peers *p = *pp;

    if (!p)
        return;
    *pp = NULL;
    for (unsigned i = 0; i < BUCKETS; i++)
        CHECK(LIST_EMPTY(&p->buckets[i]));
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static struct in6_addr address_of(const struct sockaddr_storage *ss)
{
    struct in6_addr a = {.s6_addr = {[10] = 0xff, 0xff}};

    if (ss->ss_family == AF_INET6)
        return ((const struct sockaddr_in6 *)ss)->sin6_addr;
    memcpy(a.s6_addr + 12, &((const struct sockaddr_in *)ss)->sin_addr, 4);
    return a;
}

static unsigned bucket_of(const struct in6_addr *a)
{
    uint32_t h = 2166136261u; /* FNV-1a: an initiator that finds collisions makes its own list longer */

    for (int i = 0; i < 16; i++)
        h = (h ^ a->s6_addr[i]) * 16777619u;
    return (h ^ h >> 16) % BUCKETS;
}

struct peer_address *peers_enter(struct peers *p, const struct sockaddr_storage *ss, unsigned most)
{
    struct in6_addr address = address_of(ss);
    unsigned b = bucket_of(&address);
    struct peer_address *a;

    pthread_mutex_lock(&p->lock);
    LIST_FOREACH(a, &p->buckets[b], entry)
    if (!memcmp(&a->address, &address, sizeof address))
        break;
    if (!a) {
        a = xcalloc(1, sizeof *a);
        a->address = address;
        a->bucket = b;
        LIST_INSERT_HEAD(&p->buckets[b], a, entry);
    }
    if (a->n < most)
        a->n++;
    else
        a = NULL;
    pthread_mutex_unlock(&p->lock);
    return a;
}

void peers_leave(struct peers *p, struct peer_address **pa)
{
    struct peer_address *a = *pa;

    if (!a)
        return;
    *pa = NULL;
    pthread_mutex_lock(&p->lock);
    if (--a->n == 0) {
        LIST_REMOVE(a, entry);
        free(a);
    }
    pthread_mutex_unlock(&p->lock);
}
