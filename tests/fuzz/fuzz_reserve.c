/* links: target; covers: target/reserve */
/* What an initiator names as a port (even first byte), and what the journal kept of reservations (odd): what
 * is accepted survives another trip.
 */
#include "check.h"
#include "fuzz.h"
#include "reserve.h"

#include <stdlib.h>
#include <string.h>

static void kept(const uint8_t *p, size_t n)
{
    static struct reserve r, again;
    static uint8_t bytes[RESERVE_SAVED_MAX];

    if (reserve_get(&r, p, n, 1) != 0)
        return;
    CHECK(r.n <= RESERVE_REGISTRANTS_MAX && r.holder < (int)r.n);
    CHECK(reserve_get(&again, bytes, reserve_put(&r, bytes), 1) == 0);
    CHECK(again.n == r.n && again.holder == r.holder && again.type == r.type);
    CHECK(again.aptpl == r.aptpl && again.generation == r.generation);
}

static void port(const uint8_t *p, size_t n)
{
    struct reserve_port one, again;
    uint8_t bytes[RESERVE_TRANSPORT_ID_MAX];
    size_t took = reserve_get_port(&one, p, n);

    CHECK(took <= n);
    if (!took)
        return;
    CHECK(reserve_get_port(&again, bytes, reserve_put_port(&one, bytes)) != 0);
    CHECK(!strcmp(one.name, again.name) && !memcmp(one.isid, again.isid, sizeof one.isid));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    uint8_t *exact;

    if (n < 1)
        return 0;
    exact = malloc(n); /* so that a read past the end is seen */
    CHECK(exact);
    memcpy(exact, p + 1, n - 1);
    exact = realloc(exact, n - 1 ? n - 1 : 1);
    CHECK(exact);
    (p[0] & 1 ? kept : port)(exact, n - 1);
    free(exact);
    return 0;
}
