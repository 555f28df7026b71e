/* tests/lib/hostile.h - exchanges that break the rules, or touch their edges, and the reaction that is right.
 *
 * A case is a function that sends and looks (want_*); what is not as it wants ends it by longjmp, with a
 * sentence. After each the runner (hostile.c) looks whether the target is alive and serves others.
 */
#ifndef ISTHMUS_HOSTILE_H
#define ISTHMUS_HOSTILE_H

#include "raw.h"

struct hostile_case {
    const char *name;
    const char *sent;
    const char *required; /* the reaction, with the clause or the reason */
    void (*run)(void);
};

/* Ended by an entry without a name. */
extern const struct hostile_case hostile_login[], hostile_keys[], hostile_chap[], hostile_ffp[],
    hostile_order[], hostile_manage[], hostile_data[], hostile_r2t[], hostile_scsi[], hostile_lengths[],
    hostile_digests[], hostile_many[], hostile_login_end[];

/* VMs of the target: vm1 for all; vm2 wants CHAP of alice, vm3 mutual CHAP; vm4 is for what disturbs
 * everybody. Each has one disk, of which cases write the first half only. */
struct world {
    const char *address, *iqn; /* of the VMs, without ":vm1" */
    uint16_t port;
    int pid;
    uint64_t blocks;
};
extern struct world world;
#define HOSTILE_SECRET "correct-horse-battery"
#define HOSTILE_MUTUAL "staple-of-the-target"
#define HOSTILE_NAME   "InitiatorName=iqn.2026-11.org.isthmus.test:hostile|"

/* Connections that the runner closes when the case has ended, if it did not. */
struct raw *dial(uint8_t isid);
struct raw *session(uint8_t isid, const char *more); /* vm1; it must succeed */
struct raw *session_with(const char *vm, uint8_t isid, const char *more);
struct raw *discovery(uint8_t isid, const char *more);
void hang_up(struct raw **);
void hang_up_hard(struct raw **);
/* HOSTILE_NAME, TargetName of the VM, SessionType=Normal, and more: in a buffer of the call. */
const char *keys_for(const char *vm, const char *more);

__attribute__((noreturn, format(printf, 1, 2))) void unlike(const char *format, ...);
#define want(condition, ...)                                                                                 \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            unlike(__VA_ARGS__);                                                                             \
    } while (0)
void want_pdu(struct raw *, int opcode); /* the next one */
void want_closed(struct raw *);          /* and nothing before */
/* One request of a login is answered with this status. */
void want_login(struct raw *, uint8_t flags, const char *text, int status);
void want_refused(struct raw *, uint8_t flags, const char *text, int status); /* and closed */
void want_value(const struct raw *, const char *key, const char *value);
void want_reject(struct raw *, int reason);
/* A ping is answered, at once: the session goes on, and nothing was said before. */
void want_quiet(struct raw *);
/* The command's answer: GOOD without residual; or CHECK CONDITION with this sense. */
void want_good(struct raw *, uint32_t itt);
struct raw_answer want_sense(struct raw *, uint32_t itt, uint32_t sense);
void want_is_good(const struct raw_answer *);
struct raw_r2t want_r2t(struct raw *, uint32_t itt);
void want_managed(struct raw *, uint32_t itt, int response);
const char *said(const struct raw *, int opcode); /* what came, in words */

/* A block count of vm1's disk written and read back: bytes by seed. */
void want_same(struct raw *, uint32_t lba, uint16_t blocks, uint8_t seed);
void pattern(uint8_t *, size_t n, uint8_t seed);

#endif
