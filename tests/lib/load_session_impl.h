/* tests/lib/load_session_impl.h - what a session is made of: load_session.c logs it in and out, load_io.c
 * keeps its reads or writes in flight.
 */
#ifndef ISTHMUS_LOAD_SESSION_IMPL_H
#define ISTHMUS_LOAD_SESSION_IMPL_H

#include "load_session.h"

enum {
    BHS = 48,
    SEGMENT = 262144,
    BURST = 16776192,
    POOL = 8 << 20,
    QUEUE = 4096, /* PDUs */
    RX_SMALL = 256 << 10,
    RX_BIG = 512,
    BIG = 32768,
    IOVS = 256,
};

struct pdu {
    uint8_t head[BHS + 4], tail[4];
    uint32_t head_len, len, tail_len;
    const uint8_t *data;
};

struct slot {
    uint64_t since_ns;
    uint32_t got; /* bytes of Data-In */
    const uint8_t *data;
};

struct load_session {
    struct load *load;
    int fd;
    unsigned number;
    uint8_t login[BHS];
    uint32_t cmd_sn, max_cmd_sn, exp_stat_sn;
    uint32_t segment, first_burst, max_burst; /* the target's */
    bool immediate, header_digest, data_digest;
    uint32_t block_bytes;
    uint64_t blocks, next_block, random;
    struct slot *slots;
    uint32_t *idle, nidle;
    struct pdu *queue; /* ring */
    uint32_t first, count;
    size_t sent_of_first;
    uint8_t *rx;
    size_t rx_have, rx_size, skip;
    bool moved; /* this turn */
};

extern uint8_t *load_pool; /* POOL random bytes */

/* The header of a SCSI command, which takes the next CmdSN. */
void load_put_command(struct load_session *, uint8_t *bhs, uint32_t tag, uint32_t len, const uint8_t *cdb);
/* Behind the header; returns the bytes of both. */
uint32_t load_put_digest(uint8_t *bhs);

#endif
