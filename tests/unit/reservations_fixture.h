/* tests/unit/reservations_fixture.h - what tests of reservations ask a target, over target_fixture.h. */
#ifndef ISTHMUS_RESERVATIONS_FIXTURE_H
#define ISTHMUS_RESERVATIONS_FIXTURE_H

#include "target_fixture.h"

#include "reserve.h"

#include <stdlib.h>

enum { IN_KEYS, IN_RESERVATION, IN_CAPABILITIES, IN_FULL };
enum { GOOD = 0, CHECKED = 2, CONFLICT = 0x18, APTPL = 1, ALL_TG_PT = 4, SPEC_I_PT = 8 };
enum { PREEMPTED = 0x62a03, RELEASED = 0x62a04, UNREGISTERED = 0x62a05, RESET = 0x62903 };
enum { BAD_LIST = 0x52600, BAD_LENGTH = 0x51a00, BAD_CDB = 0x52400 };

static uint8_t out[65536]; /* data of the last answer */

/* status << 24 | sense */
static inline uint32_t ended(struct raw *c)
{
    struct raw_answer a = answer_recv(c, out);

    return (uint32_t)a.status << 24 | a.sense;
}
#define CHECK_OF(sense) ((uint32_t)CHECKED << 24 | (sense))
#define CONFLICTED      ((uint32_t)CONFLICT << 24)

static inline uint32_t plain(struct raw *c, uint8_t opcode)
{
    uint8_t cdb[10] = {opcode};

    command_send(c, F, 0, cdb, sizeof cdb, NULL, 0);
    return ended(c);
}

static inline uint32_t in(struct raw *c, uint8_t action)
{
    uint8_t cdb[10] = {0x5e, action};

    put16(cdb + 7, 65535);
    memset(out, 0, sizeof out);
    command_send(c, F | R, 65535, cdb, sizeof cdb, NULL, 0);
    return ended(c);
}

static inline void list_send(struct raw *c, uint8_t action, uint8_t type, const uint8_t *list, uint32_t n)
{
    uint8_t cdb[10] = {0x5f, action, type};

    put32(cdb + 5, n);
    command_send(c, F | W, n, cdb, sizeof cdb, list, n);
}

static inline uint32_t pr(struct raw *c, uint8_t action, uint8_t type, uint64_t key, uint64_t service_key,
                          uint8_t options)
{
    uint8_t list[24] = {0};

    put64(list, key);
    put64(list + 8, service_key);
    list[20] = options;
    list_send(c, action, type, list, sizeof list);
    return ended(c);
}

static inline uint32_t access_(struct raw *c, uint8_t opcode)
{
    static const uint8_t zeros[512];

    if (opcode == 0x28)
        command_send(c, F | R, 512, raw_cdb10(0x28, 0, 1), 10, NULL, 0);
    else
        command_send(c, F | W, 512, raw_cdb10(0x2a, 0, 1), 10, zeros, 512);
    return ended(c);
}

/* --- with a journal that keeps them --- */

static char dir[64];

static inline void journal_up(void)
{
    struct journal_conf conf = {.path = dir, .max_bytes = 64 << 20};
    struct why why;

    memset(conf.key.bytes, 7, sizeof conf.key.bytes);
    if (journal_open(&fix_conf.journal, &conf, &why))
        fail_msg("%s", why.text);
}

static inline int start_kept(void **state)
{
    pool_start(1);
    strcpy(dir, "/tmp/isthmus-reservations-XXXXXX");
    assert_non_null(mkdtemp(dir));
    journal_up();
    return fix_start(state);
}

static inline int stop_kept(void **state)
{
    char command[100];

    fix_stop(state);
    pool_stop();
    journal_close(&fix_conf.journal);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static inline void restart(void **state)
{
    fix_stop(state);
    pool_stop();
    journal_close(&fix_conf.journal);
    journal_up();
    pool_start(1);
    fix_start(state);
}

#endif
