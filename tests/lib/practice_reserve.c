/* practice_reserve.c - cases about reservations: whose holder has gone without a word, and whose port they
 * are.
 */
#include "practice.h"

#include "mem.h"

#include <string.h>

/* RESERVE(6), and then it waits to be cut off. */
void case_holds_reservation(void)
{
    struct raw *c = session_of("iqn.2026-11.org.isthmus.test:holder", play.iqn, 1, "", LOGIN_SUCCESS);

    session_ready(c);
    session_quiet(c, "at first");
    WANT(raw_exchange(c, "\x16\0\0\0\0\0", 6, NULL, 0, NULL, 0).status == 0, "RESERVE(6) is refused");
    told("ready");
    c->timeout_ms = 600000;
    while (raw_recv(c) >= 0)
        ;
}

static int write_status(struct raw *c)
{
    static const uint8_t zeros[512];

    return raw_exchange(c, raw_cdb10(0x2a, 0, 1), 10, zeros, 512, NULL, 0).status;
}

/* Somebody holds a reservation who has lost its power: another initiator logs in at once, and is let in when
 * the target has found out: TCP does, a minute after the first byte that is not acknowledged. */
void case_wants_reservation(void)
{
    struct raw *c = session_of("iqn.2026-11.org.isthmus.test:next", play.iqn, 1, "", LOGIN_SUCCESS);
    uint64_t since = now_ms();

    while (write_status(c) == 2) /* unit attentions */
        ;
    WANT(write_status(c) == 0x18, "the reservation does not keep others out");
    while (write_status(c) == 0x18) {
        WANT(now_ms() - since < 80000, "the reservation of one without power stands after 80 s");
        pause_ms(100);
    }
    told("let in after %u ms", (unsigned)(now_ms() - since));
    WANT(write_status(c) == 0, "a write fails");
    session_ends(&c);
}

static int reserve_out(struct raw *c, uint8_t action, uint8_t type, uint64_t key, uint64_t service_key)
{
    uint8_t cdb[10] = {0x5f, action, type}, list[24] = {0};

    put32(cdb + 5, sizeof list);
    put64(list, key);
    put64(list + 8, service_key);
    return raw_exchange(c, cdb, 10, list, sizeof list, NULL, 0).status;
}

/* A registration is of an initiator port, which is name and ISID: it is there after a new login with the same
 * ISID; another ISID is another port, which registers for itself and preempts. */
void case_new_isid(void)
{
    struct raw *c = session_new(1, "");

    WANT(reserve_out(c, 0, 0, 0, 0x1111) == 0 && reserve_out(c, 1, 1, 0x1111, 0) == 0,
         "REGISTER and RESERVE are refused");
    session_reset(&c);
    c = session_new(1, "");
    WANT(write_status(c) == 0, "the same port has lost its reservation by a new login");
    session_reset(&c);
    c = session_new(2, "");
    WANT(write_status(c) == 0x18, "another port writes under a reservation");
    WANT(reserve_out(c, 0, 0, 0, 0x2222) == 0 && reserve_out(c, 4, 1, 0x2222, 0x1111) == 0,
         "the other port cannot register and preempt");
    WANT(write_status(c) == 0, "a write after PREEMPT is refused");
    WANT(reserve_out(c, 3, 0, 0x2222, 0) == 0, "CLEAR is refused");
    session_ends(&c);
}
