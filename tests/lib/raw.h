/* tests/lib/raw.h - an iSCSI initiator that says exactly what a test wants, right or wrong.
 *
 * It has a PDU's bytes in its hands: each header field, segment and digest may be set to anything. What comes
 * back is handed over as it is. One thread's; it waits (timeout_ms) for what it asks for. Nothing here judges
 * the target but for the digests of its PDUs.
 */
#ifndef ISTHMUS_RAW_H
#define ISTHMUS_RAW_H

#include "iscsi.h"
#include "wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Instead of an opcode or a status. */
enum {
    RAW_CLOSED = -1, /* by the target: end of stream or reset */
    RAW_SILENT = -2, /* nothing within timeout_ms */
    RAW_GARBAGE = -3 /* a digest is wrong, or a segment is larger than any we allow */
};

enum { RAW_DATA_MAX = 1 << 20, RAW_READ = ISCSI_CMD_READ, RAW_WRITE = ISCSI_CMD_WRITE };
enum {
    RAW_TO_FULL = 0x87,
    RAW_SECURITY_TO_OPERATIONAL = 0x81,
    RAW_SECURITY_TO_FULL = 0x83
}; /* T, CSG, NSG */

struct raw {
    int fd, timeout_ms;
    uint32_t cmd_sn, exp_stat_sn, itt; /* of the next request */
    uint32_t exp_cmd_sn, max_cmd_sn;   /* the target's last */
    uint8_t isid[6];
    uint16_t tsih, cid;
    bool header_digest, data_digest;
    bool immediate, initial_r2t; /* agreed on, as the numbers are; segment: what the target takes */
    uint32_t segment, first_burst, max_burst;
    bool show_pings;             /* else a NOP-In that asks for an answer has one, and is not shown */
    void (*watch)(struct raw *); /* or NULL: sees every PDU before its numbers are taken up */
    void *watch_arg;

    uint8_t bhs[BHS_BYTES]; /* the PDU that came last */
    uint8_t *data;          /* its segment, and a NUL */
    uint32_t len;
};

/* A request to be sent. The lengths in the header are set from ahs_len and len, unless lengths_as_is. */
struct raw_pdu {
    uint8_t bhs[BHS_BYTES];
    const void *ahs, *data;
    uint32_t ahs_len, len; /* ahs_len: a multiple of 4 */
    bool lengths_as_is;
    uint32_t header_digest_xor, data_digest_xor;
};

/* Over a socket that is connected; takes it. */
struct raw *raw_over(int fd, uint8_t isid);
/* Connected, IPv4, or NULL. isid: the last byte of the ISID, so that a test can have several ports. */
struct raw *raw_connect(const char *address, uint16_t port, uint8_t isid);
void raw_free(struct raw **); /* closes it */
/* Ends the connection with a reset instead of a FIN. */
void raw_reset(struct raw **);

/* Sending: false when the target has closed, or takes nothing for timeout_ms. */
bool raw_write(struct raw *, const void *, size_t);
size_t raw_put(const struct raw *, struct raw_pdu *,
               uint8_t *out); /* on the wire: at most 1100 + len bytes */
bool raw_send(struct raw *, struct raw_pdu *);
/* The next PDU into bhs and data: its opcode, or RAW_*. */
int raw_recv(struct raw *);

/* Login. */
void raw_login_header(const struct raw *, struct raw_pdu *, uint8_t flags);
/* Text with '|' for each NUL: what "a=b|c=d|" is on the wire. Returns its length. */
uint32_t raw_text(char *out, const char *text);
/* One login request and its response: its status, or RAW_*, or RAW_GARBAGE for another PDU. Takes up what is
 * agreed on, and digests with the last one. */
int raw_login(struct raw *, uint8_t flags, const char *text);
/* The value of a key in the PDU that came last, or "". */
const char *raw_value(const struct raw *, const char *key);
/* Logged in without authentication, in one step; more: further keys, each ended by '|'. NULL: refused. */
struct raw *raw_session(const char *address, uint16_t port, const char *iqn, uint8_t isid, const char *more);

/* Requests: they use up a tag, which is returned, and a CmdSN. flags: RAW_READ, RAW_WRITE, ISCSI_FINAL. */
uint32_t raw_command_header(struct raw *, struct raw_pdu *, uint8_t flags, uint32_t edtl, const void *cdb,
                            size_t n);
uint32_t raw_command(struct raw *, uint8_t flags, uint32_t edtl, const void *cdb, size_t n, const void *data,
                     uint32_t len);
/* Any other opcode, final, immediate (no CmdSN is used up) or not; the rest of the header is zero but for the
 * tags (TTT: none) and numbers. */
uint32_t raw_request_header(struct raw *, struct raw_pdu *, uint8_t opcode);
void raw_data_out_header(const struct raw *, struct raw_pdu *, uint32_t itt, uint32_t ttt, uint32_t sn,
                         uint32_t offset, bool final);
bool raw_data_out(struct raw *, uint32_t itt, uint32_t ttt, uint32_t sn, uint32_t offset, bool final,
                  const void *data, uint32_t len);
/* A ping (immediate) with data to be echoed. */
uint32_t raw_ping(struct raw *, const void *data, uint32_t len);
/* A task management function on a LUN (immediate), about the task with this tag. Returns its own tag. */
uint32_t raw_manage(struct raw *, uint8_t function, uint8_t lun, uint32_t task, uint32_t ref_cmd_sn);
uint32_t raw_text_request(struct raw *, uint8_t flags, uint32_t ttt, const char *text);
uint32_t raw_logout(struct raw *, uint8_t reason);

/* CDBs with a 32 bit LBA and a 16 bit count, and with 64 and 32 bits; in a buffer of the call. */
const uint8_t *raw_cdb10(uint8_t opcode, uint32_t lba, uint16_t count);
const uint8_t *raw_cdb16(uint8_t opcode, uint64_t lba, uint32_t count);

struct raw_r2t {
    uint32_t itt, ttt, sn, offset, len;
};
/* The R2T that came last. */
struct raw_r2t raw_r2t(const struct raw *);

/* What a command's answer was. */
struct raw_answer {
    int opcode; /* of the PDU that ended it: SCSI Response, Data-In with status, or anything else, or RAW_* */
    int status;
    uint32_t itt, sense; /* sense key, ASC, ASCQ: 0xKKAACC, or 0 */
    uint32_t got;        /* bytes of Data-In */
    int64_t residual;    /* negative: underflow */
    uint32_t data_pdus, r2ts;
};
/* Gathers Data-In in `in` (room bytes of it) until a PDU that ends it. An R2T ends it too. */
struct raw_answer raw_answer(struct raw *, void *in, uint32_t room);
/* A whole command: immediate data as agreed on, each R2T answered in segments the target takes. */
struct raw_answer raw_exchange(struct raw *, const void *cdb, size_t n, const void *out, uint32_t out_len,
                               void *in, uint32_t in_len);

#endif
