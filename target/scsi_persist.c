/* target/scsi_persist.c - PERSISTENT RESERVE IN and OUT (SPC-4 6.15, 6.16): bytes into requests, state into
 * bytes. What a request does is scsi_reserve.c's and reserve.c's. On the VM's loop.
 */
#include "scsi_reserve.h"

#include "scsi.h"
#include "wire.h"

_Static_assert(sizeof((struct reserve_request *)0)->targets == sizeof((struct groups *)0)->tags,
               "all target ports fit");

enum { LIST_BYTES = 24, LIST_MAX = LIST_BYTES + 4 + RESERVE_PORTS_MAX * RESERVE_TRANSPORT_ID_MAX };
enum { SPEC_I_PT = 0x08, ALL_TG_PT = 0x04, APTPL = 0x01, MOVE_UNREG = 0x02, MOVE_APTPL = 0x01 };
enum { AT_KEY = 0, AT_SERVICE_KEY = 8, AT_OPTIONS = 20, AT_MOVE_OPTIONS = 17, AT_MOVE_PORT = 18 };

/* --- PERSISTENT RESERVE IN --- */

enum { READ_KEYS, READ_RESERVATION, REPORT_CAPABILITIES, READ_FULL_STATUS };

static void read_keys(const struct reserve *r, struct command *cmd)
{
    uint8_t *p = command_in(cmd, 8 + 8 * r->n);

    put32(p, r->generation);
    put32(p + 4, 8 * r->n);
    for (unsigned i = 0; i < r->n; i++)
        put64(p + 8 + 8 * i, r->registrants[i].key);
}

static void read_reservation(const struct reserve *r, struct command *cmd)
{
    uint8_t *p = command_in(cmd, r->type ? 24 : 8);

    put32(p, r->generation);
    if (!r->type)
        return;
    put32(p + 4, 16);
    if (r->holder != RESERVE_NOBODY)
        put64(p + 8, r->registrants[r->holder].key);
    p[21] = r->type;
}

static void report_capabilities(const struct reserve *r, struct command *cmd)
{
    enum { SIP_C = 0x08, ATP_C = 0x04, TMV = 0x80, PTPL_C = 0x01, PTPL_A = 0x01 };
    uint8_t *p = command_in(cmd, 8);

    put16(p, 8);
    p[2] = (uint8_t)(SIP_C | ATP_C | (cmd->conn->target->conf.journal ? PTPL_C : 0));
    p[3] = (uint8_t)(TMV | (r->aptpl ? PTPL_A : 0));
    p[4] = 0xea; /* WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX */
    p[5] = 0x01; /* EX_AC_AR */
}

static void read_full_status(const struct reserve *r, struct command *cmd)
{
    enum { EACH = 24, R_HOLDER = 0x01 };
    uint8_t id[RESERVE_TRANSPORT_ID_MAX], *start = command_in(cmd, (uint32_t)(8 + r->n * (EACH + sizeof id))),
                                          *p = start + 8;

    for (unsigned i = 0; i < r->n; i++) {
        const struct registrant *g = &r->registrants[i];
        size_t n = reserve_put_port(&g->nexus.initiator, id);

        put64(p, g->key);
        if (reserve_holds(r, (int)i)) {
            p[12] = R_HOLDER;
            p[13] = r->type;
        }
        put16(p + 18, g->nexus.target);
        put32(p + 20, (uint32_t)n);
        memcpy(p + EACH, id, n);
        p += EACH + n;
    }
    put32(start, r->generation);
    put32(start + 4, (uint32_t)(p - start - 8));
    cmd->in_len = (uint32_t)(p - start);
}

void scsi_persist_in(struct command *cmd)
{
    static const struct reserve none = {.holder = RESERVE_NOBODY};
    const struct reserve *now = scsi_reserve_now(cmd), *r = now ? now : &none;

    switch (cmd->op->action) {
    case READ_KEYS:
        read_keys(r, cmd);
        break;
    case READ_RESERVATION:
        read_reservation(r, cmd);
        break;
    case REPORT_CAPABILITIES:
        report_capabilities(r, cmd);
        break;
    case READ_FULL_STATUS:
        read_full_status(r, cmd);
        break;
    }
    scsi_reply(cmd, get16(cmd->cdb + 7));
}

/* --- PERSISTENT RESERVE OUT --- */

uint32_t scsi_persist_out_prepare(struct command *cmd)
{
    uint32_t n = get32(cmd->cdb + 5);
    int action = cmd->op->action;

    if ((action == RESERVE_RESERVE || action == RESERVE_PREEMPT || action == RESERVE_PREEMPT_ABORT) &&
        !reserve_type_valid(cmd->cdb[2])) { /* with it the scope, which is 0 */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, -1);
        return 0;
    }
    if (n < LIST_BYTES || n > LIST_MAX) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return 0;
    }
    return n;
}

static bool bad_field(struct command *cmd, uint16_t byte, int bit)
{
    command_check_field(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, false, byte, bit);
    return false;
}

/* The n bytes of TransportIDs from at. */
static bool parse_ports(struct command *cmd, struct reserve_request *q, uint32_t at, uint32_t n)
{
    while (n) {
        size_t took;

        if (q->nports == RESERVE_PORTS_MAX) {
            command_check(cmd, SENSE_REGISTRANTS_FULL);
            return false;
        }
        took = reserve_get_port(&q->ports[q->nports], cmd->data->data + at, n);
        if (!took)
            return bad_field(cmd, (uint16_t)at, -1);
        q->nports++;
        at += (uint32_t)took;
        n -= (uint32_t)took;
    }
    return true;
}

static bool parse_move(struct command *cmd, struct reserve_request *q)
{
    const struct groups all = paths_groups(cmd->conn->target);
    const uint8_t *p = cmd->data->data;

    q->aptpl = p[AT_MOVE_OPTIONS] & MOVE_APTPL;
    q->unregister = p[AT_MOVE_OPTIONS] & MOVE_UNREG;
    if (get32(p + 20) != cmd->out_bytes - LIST_BYTES) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    q->targets[0] = get16(p + AT_MOVE_PORT);
    q->ntargets = 1;
    if (!groups_have(&all, q->targets[0]))
        return bad_field(cmd, AT_MOVE_PORT, -1);
    if (!parse_ports(cmd, q, LIST_BYTES, cmd->out_bytes - LIST_BYTES))
        return false;
    return q->nports == 1 ? true : bad_field(cmd, LIST_BYTES, -1);
}

static bool registers(const struct reserve_request *q)
{
    return q->action == RESERVE_REGISTER || q->action == RESERVE_REGISTER_IGNORE || q->action == RESERVE_MOVE;
}

static bool parse_others(struct command *cmd, struct reserve_request *q)
{
    const struct groups all = paths_groups(cmd->conn->target);
    const uint8_t *p = cmd->data->data;
    bool names_ports = p[AT_OPTIONS] & SPEC_I_PT;
    uint32_t n = cmd->out_bytes;

    q->aptpl = p[AT_OPTIONS] & APTPL;
    if (p[AT_OPTIONS] & ALL_TG_PT && registers(q)) {
        q->ntargets = all.n;
        memcpy(q->targets, all.tags, sizeof q->targets);
    }
    if (names_ports && q->action != RESERVE_REGISTER)
        return bad_field(cmd, AT_OPTIONS, 3);
    if (names_ports ? n < LIST_BYTES + 4 || get32(p + LIST_BYTES) != n - LIST_BYTES - 4 : n != LIST_BYTES) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    return !names_ports || parse_ports(cmd, q, LIST_BYTES + 4, n - LIST_BYTES - 4);
}

/* False: it has its answer. */
static bool parse(struct command *cmd, struct reserve_request *q)
{
    const struct session *s = cmd->conn->session;

    memset(q, 0, sizeof *q);
    if (cmd->received < cmd->out_bytes) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    q->action = (enum reserve_action)cmd->op->action;
    q->type = cmd->cdb[2];
    q->key = get64(cmd->data->data + AT_KEY);
    q->service_key = get64(cmd->data->data + AT_SERVICE_KEY);
    memcpy(q->from.initiator.name, s->initiator, sizeof q->from.initiator.name);
    memcpy(q->from.initiator.isid, s->isid, 6);
    q->from.target = cmd->conn->group;
    if (!(q->action == RESERVE_MOVE ? parse_move(cmd, q) : parse_others(cmd, q)))
        return false;
    if (q->aptpl && registers(q) && !cmd->conn->target->conf.journal)
        return q->action == RESERVE_MOVE ? bad_field(cmd, AT_MOVE_OPTIONS, 0) : bad_field(cmd, AT_OPTIONS, 0);
    return true;
}

/* cmd->at: what came of the change. */
static void answer(struct command *cmd)
{
    switch (cmd->at) {
    case RESERVE_GOOD:
        command_good(cmd);
        break;
    case RESERVE_CONFLICT:
        command_conflict(cmd);
        break;
    case RESERVE_BAD_PORTS:
        bad_field(cmd, AT_OPTIONS, 3);
        break;
    case RESERVE_BAD_KEY:
        bad_field(cmd, AT_SERVICE_KEY, -1);
        break;
    case RESERVE_BAD_TARGET:
        bad_field(cmd, LIST_BYTES, -1);
        break;
    case RESERVE_BAD_RELEASE:
        command_check_field(cmd, SENSE_INVALID_RELEASE, true, 2, -1); /* scope and type */
        break;
    case RESERVE_FULL:
        command_check(cmd, SENSE_REGISTRANTS_FULL);
        break;
    case RESERVE_NOT_SAVED:
        command_check(cmd, SENSE_INTERNAL_TARGET_FAILURE);
        break;
    }
}

void scsi_persist_out(struct command *cmd)
{
    struct reserve_request q;

    if (parse(cmd, &q))
        scsi_reserve_change(cmd, &q, answer);
}
