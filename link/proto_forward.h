/* link/proto_forward.h - what an edge sends on to the owner of a VM for initiators that came to the other
 * edge's portals; bytes in docs/pair.md, "Paths".
 *
 * put: a new buf, the caller's. get: 0, or -EBADMSG for anything that is not exactly such a body; every bound
 * is checked, what lies in the body stays there (borrowed). Pure; any thread.
 */
#ifndef ISTHMUS_PROTO_FORWARD_H
#define ISTHMUS_PROTO_FORWARD_H

#include "proto.h"

enum {
    FORWARD_ID_BYTES = 16,         /* of a VM */
    FORWARD_PIECE = 256 * 1024,    /* data in one message */
    FORWARD_BYTES_MAX = 16 << 20,  /* data of a command */
    FORWARD_RESPONSE_MAX = 64,     /* sense and its length */
    FORWARD_TEXT_MAX = 256 * 1024, /* a VM's entry */
    FORWARD_NAME_MAX = 223,        /* an initiator's */
    FORWARD_ADDRESS_MAX = 63,      /* of a socket, as text */
    FORWARD_PORTALS_MAX = 16,
};

/* FORWARD_VM: this VM can be reached through you. text: its entry, as in the catalog. */
struct forward_vm {
    uint8_t vm[FORWARD_ID_BYTES];
    uint8_t shut; /* who may log in: 0 anybody, 1 nobody (it runs on-prem), 2 nobody for now */
    const uint8_t *text;
    uint32_t len;
};

/* FORWARD_PORTALS: my portal groups; an address is empty when the other cannot know it. */
struct forward_portals {
    unsigned n;
    struct forward_portal {
        uint16_t group;
        char address[FORWARD_ADDRESS_MAX + 1];
    } each[FORWARD_PORTALS_MAX];
};

/* FORWARD_OPEN: an initiator has logged in here. The answer is the session's number at the owner. */
struct forward_open {
    uint8_t vm[FORWARD_ID_BYTES];
    uint16_t group;
    uint8_t isid[6];
    bool moved; /* it was logged in before, when the asker was the owner */
    char initiator[FORWARD_NAME_MAX + 1];
    char address[FORWARD_ADDRESS_MAX + 1], portal[FORWARD_ADDRESS_MAX + 1]; /* for people */
};

/* FORWARD_DATA: bytes [from, from + len) of the `bytes` that the command brings along. */
struct forward_data {
    uint64_t session, number;
    uint32_t bytes, from, len;
    const uint8_t *data;
};

/* FORWARD_COMMAND: the command, with the last of its data: of a write as many bytes as it says that it
 * brings, or FORWARD_BYTES_MAX if these are more. */
struct forward_command {
    struct forward_data data;
    uint64_t below; /* those with lower numbers were answered, or nobody waits for them */
    bool reads, writes;
    uint8_t lun[8], cdb[16];
    uint32_t edtl;
};
/* Its answer: what the response says, and the first bytes of the data. */
struct forward_answer {
    uint8_t status, response_len;
    uint32_t out_bytes, in_len; /* what the command wanted, and had: for the residual */
    uint32_t bytes;             /* of data, of which len are here */
    uint32_t len;
    const uint8_t *response, *data;
};

/* FORWARD_FETCH: more of the data; its answer is those bytes. */
struct forward_fetch {
    uint64_t session, number;
    uint32_t from, len;
};

/* FORWARD_TASK: a task management function; referenced: the number of the command (ABORT TASK). Its answer is
 * one byte, the response. */
struct forward_task {
    uint64_t session, number, referenced;
    uint8_t function, lun[8];
};

/* FORWARD_CLOSE (number 0), FORWARD_DONE (as `below`), FORWARD_LOGOUT (an event of iSCSI), and the answer of
 * FORWARD_OPEN (number 0). */
struct forward_mark {
    uint64_t session, number;
};

/* NULL: the text is too long. */
struct buf *forward_put_vm(const struct forward_vm *);
int forward_get_vm(const uint8_t *p, uint32_t n, struct forward_vm *);
struct buf *forward_put_portals(const struct forward_portals *);
int forward_get_portals(const uint8_t *p, uint32_t n, struct forward_portals *);
struct buf *forward_put_open(const struct forward_open *);
int forward_get_open(const uint8_t *p, uint32_t n, struct forward_open *);
struct buf *forward_put_data(const struct forward_data *);
int forward_get_data(const uint8_t *p, uint32_t n, struct forward_data *);
struct buf *forward_put_command(const struct forward_command *);
int forward_get_command(const uint8_t *p, uint32_t n, struct forward_command *);
/* data NULL: its len bytes are left to the caller, who fills in the last of the buf. */
struct buf *forward_put_answer(const struct forward_answer *);
int forward_get_answer(const uint8_t *p, uint32_t n, struct forward_answer *);
struct buf *forward_put_fetch(const struct forward_fetch *);
int forward_get_fetch(const uint8_t *p, uint32_t n, struct forward_fetch *);
struct buf *forward_put_task(const struct forward_task *);
int forward_get_task(const uint8_t *p, uint32_t n, struct forward_task *);
struct buf *forward_put_mark(const struct forward_mark *);
int forward_get_mark(const uint8_t *p, uint32_t n, struct forward_mark *);

#endif
