/* target/out.h - something to be sent: one plain PDU, or a command's Data-In PDUs and response. */
#ifndef ISTHMUS_OUT_H
#define ISTHMUS_OUT_H

#include "iscsi.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct command;

/* What its StatSN is: a number of its own, the next one shown, or reserved. */
enum out_sn { SN_ADVANCE, SN_SHOW };

struct out {
    STAILQ_ENTRY(out) entry;
    struct command *command; /* or NULL: bhs and data are the PDU */
    enum out_sn sn;
    bool close_after;
    uint8_t bhs[BHS_BYTES];
    uint32_t len;
    uint8_t *data;
};

#endif
