/* target/scsi.h - SCSI commands: one table by operation code, one function each.
 *
 * prepare() looks at the CDB before any write data is asked for: it returns how many bytes of data out the
 * command wants, or sets an answer (command_check). run() follows when the data is there. REPORT SUPPORTED
 * OPERATION CODES answers from the same table.
 */
#ifndef ISTHMUS_SCSI_H
#define ISTHMUS_SCSI_H

#include "reserve.h"
#include "session.h"

enum { ANY_ACTION = -1 };
/* Works without a LUN; neither reports nor clears a UA; works on the well-known logical unit. */
enum { SCSI_ANY_LUN = 1, SCSI_NO_ATTENTION = 2, SCSI_WELL_KNOWN = 4 };

struct scsi_op {
    uint8_t opcode;
    int action; /* service action, or ANY_ACTION */
    const char *name;
    enum op_kind kind;
    unsigned flags;
    enum reserve_class class; /* what it is to a reservation of others */
    uint8_t cdb_bytes;
    uint8_t usage[16];                     /* CDB usage data: bits that are looked at */
    uint32_t (*prepare)(struct command *); /* NULL: no data out */
    void (*run)(struct command *);
};

extern const struct scsi_op scsi_ops[];
extern const unsigned scsi_nops;

/* Sets command->out_bytes and besides; false if it has its answer already (which is then queued). */
bool scsi_prepare(struct command *);
void scsi_run(struct command *);

struct volume *scsi_volume(const struct command *); /* NULL: there is no such LUN */
uint64_t scsi_blocks(const struct command *);       /* of the disk */
uint32_t scsi_block_bytes(const struct command *);
/* Keeps at most the allocation length of what is in command->in, and ends with GOOD. */
void scsi_reply(struct command *, uint32_t allocation_length);
/* CHECK CONDITION about the CDB's count of blocks, or its parameter list's length. */
void scsi_check_length(struct command *, enum sense_code);
/* lba and count within the disk and count within the transfer limit, or an answer and false. */
bool scsi_range(struct command *, uint64_t lba, uint64_t count, bool transfers);

/* scsi_inquiry.c */
void scsi_inquiry(struct command *);
/* scsi_rw.c */
uint32_t scsi_read_prepare(struct command *);
void scsi_read(struct command *);
uint32_t scsi_write_prepare(struct command *);
void scsi_write(struct command *);
uint32_t scsi_verify_prepare(struct command *);
void scsi_verify(struct command *);
void scsi_synchronize_cache(struct command *);
uint32_t scsi_prefetch_prepare(struct command *);
void scsi_prefetch(struct command *);
/* scsi_atomic.c */
uint32_t scsi_orwrite_prepare(struct command *);
void scsi_orwrite(struct command *);
uint32_t scsi_compare_and_write_prepare(struct command *);
void scsi_compare_and_write(struct command *);
uint32_t scsi_write_atomic_prepare(struct command *);
/* scsi_zero.c */
uint32_t scsi_unmap_prepare(struct command *);
void scsi_unmap(struct command *);
uint32_t scsi_write_same_prepare(struct command *);
void scsi_write_same(struct command *);
/* scsi_copy.c */
uint32_t scsi_copy_prepare(struct command *);
void scsi_copy(struct command *);
void scsi_copy_results(struct command *);
uint32_t scsi_copy_page(struct command *, uint8_t *p);
/* scsi_mode.c */
void scsi_mode_sense(struct command *);
uint32_t scsi_mode_select_prepare(struct command *);
void scsi_mode_select(struct command *);
/* scsi_reserve.c */
void scsi_reserve(struct command *);
void scsi_release(struct command *);
/* scsi_persist.c */
void scsi_persist_in(struct command *);
uint32_t scsi_persist_out_prepare(struct command *);
void scsi_persist_out(struct command *);
/* scsi_report.c */
void scsi_log_sense(struct command *);
void scsi_read_defect_data(struct command *);
void scsi_report_target_port_groups(struct command *);
/* scsi_misc.c */
void scsi_test_unit_ready(struct command *);
void scsi_request_sense(struct command *);
void scsi_report_luns(struct command *);
void scsi_read_capacity10(struct command *);
void scsi_read_capacity16(struct command *);
void scsi_get_lba_status(struct command *);
void scsi_start_stop(struct command *);
void scsi_prevent_allow(struct command *);
void scsi_report_opcodes(struct command *);
void scsi_report_tmfs(struct command *);

#endif
