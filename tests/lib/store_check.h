/* tests/lib/store_check.h - what the questions to a store share: store_check.c asks them,
 * store_check_objects.c has those of objects and lists, store_check_trouble.c those of time and outages. One
 * loop, one thread.
 */
#ifndef ISTHMUS_STORE_CHECK_H
#define ISTHMUS_STORE_CHECK_H

#include "store_call.h"

extern struct loop *loop;
extern struct store *store;

/* Ends the program with a sentence. */
_Noreturn void wrong(const char *what, int line);
/* The status must be this one. */
void want_status(const struct call *, int status, int line);
#define WANT(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            wrong(#x, __LINE__);                                                                             \
    } while (0)
#define STATUS(call, wanted) want_status(call, wanted, __LINE__)

/* A client of its own to the same store. */
struct store *open_another(void);
/* Bytes that depend on where they are; the caller frees them. */
uint8_t *pattern(size_t n, unsigned seed);

void check_round_trips(void);
void check_vectors(void);
void check_absent(void);
void check_ranges(void);
void check_conditions(void);
void check_races(void);
void check_no_conditions(void);
void check_odd_keys(void);
void check_big(void);
void check_lists(void);
void check_short_lists(void);
void check_deadlines(void);
void check_cancelling(void);
void check_probes(void);
void check_say(void);
void check_outage(void);
void check_verify(void);

#endif
