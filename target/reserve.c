/* target/reserve.c - registrations and reservations of one LUN. Pure; SPC-4 5.13, with one target port. */
#include "reserve.h"

#include "check.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

/* Which class of command of others conflicts with which reservation (SPC-4 table 66, SBC-3 table 13). With
 * REGISTRANTS and ALL the registered are not others. */
static const struct {
    bool old, write_exclusive, exclusive_access;
} conflicts[RESERVE_CLASSES] = {
    [RESERVE_FREE] = {false, false, false},      [RESERVE_STATUS] = {true, false, false},
    [RESERVE_READS] = {true, false, true},       [RESERVE_WRITES] = {true, true, true},
    [RESERVE_PERSISTENT] = {true, false, false},
};

void reserve_init(struct reserve *r)
{
    memset(r, 0, sizeof *r);
    r->holder = RESERVE_NOBODY;
}

bool reserve_type_valid(uint8_t type)
{
    return type == 1 || type == 3 || (type >= 5 && type <= 8);
}

bool reserve_all_hold(uint8_t type)
{
    return type == RESERVE_WRITE_EXCLUSIVE_ALL || type == RESERVE_EXCLUSIVE_ACCESS_ALL;
}

static bool registrants_only(uint8_t type)
{
    return type == RESERVE_WRITE_EXCLUSIVE_REGISTRANTS || type == RESERVE_EXCLUSIVE_ACCESS_REGISTRANTS;
}

static bool port_is(const struct reserve_port *p, const char *name, const uint8_t isid[6])
{
    return !memcmp(p->isid, isid, 6) && !strcmp(p->name, name);
}

int reserve_find(const struct reserve *r, const char *name, const uint8_t isid[6])
{
    for (unsigned i = 0; i < r->n; i++)
        if (port_is(&r->registrants[i].port, name, isid))
            return (int)i;
    return RESERVE_NOBODY;
}

static int find_port(const struct reserve *r, const struct reserve_port *p)
{
    return reserve_find(r, p->name, p->isid);
}

bool reserve_holds(const struct reserve *r, int registrant)
{
    return registrant != RESERVE_NOBODY && r->type && (registrant == r->holder || reserve_all_hold(r->type));
}

bool reserve_conflicts(const struct reserve *r, enum reserve_class class, const char *name,
                       const uint8_t isid[6])
{
    bool excludes = r->type == RESERVE_EXCLUSIVE_ACCESS || r->type == RESERVE_EXCLUSIVE_ACCESS_REGISTRANTS ||
                    r->type == RESERVE_EXCLUSIVE_ACCESS_ALL;
    int mine;

    if (!r->type || !(excludes ? conflicts[class].exclusive_access : conflicts[class].write_exclusive))
        return false;
    mine = reserve_find(r, name, isid);
    return !(reserve_holds(r, mine) || (mine != RESERVE_NOBODY && registrants_only(r->type)));
}

bool reserve_conflicts_old(enum reserve_class class)
{
    return conflicts[class].old;
}

/* --- what the service actions are made of --- */

static void tell(struct reserve_notices *notices, const struct reserve_port *p, uint8_t what)
{
    CHECK(notices->n < RESERVE_REGISTRANTS_MAX);
    notices->each[notices->n].port = *p;
    notices->each[notices->n++].what = what;
}

static void tell_others(const struct reserve *r, int except, struct reserve_notices *notices, uint8_t what)
{
    for (int i = 0; i < (int)r->n; i++)
        if (i != except)
            tell(notices, &r->registrants[i].port, what);
}

static void release(struct reserve *r)
{
    r->type = RESERVE_NONE;
    r->holder = RESERVE_NOBODY;
}

/* Takes registrant i out. A reservation that only it held goes with it. */
static void forget(struct reserve *r, int i)
{
    r->n--;
    memmove(&r->registrants[i], &r->registrants[i + 1], (r->n - (unsigned)i) * sizeof *r->registrants);
    if (r->holder == i || r->n == 0)
        release(r);
    else if (r->holder > i)
        r->holder--;
}

static void add(struct reserve *r, const struct reserve_port *p, const struct reserve_request *q)
{
    CHECK(r->n < RESERVE_REGISTRANTS_MAX);
    r->registrants[r->n++] =
        (struct registrant){.port = *p, .key = q->service_key, .all_ports = q->all_ports};
}

static void reserve(struct reserve *r, int by, uint8_t type)
{
    r->type = type;
    r->holder = reserve_all_hold(type) ? RESERVE_NOBODY : by;
}

/* --- the service actions; mine: the registration of who asks --- */

static enum reserve_result leave(struct reserve *r, int mine, struct reserve_notices *notices)
{
    if (r->holder == mine && registrants_only(r->type))
        tell_others(r, mine, notices, RESERVE_TELL_RELEASED);
    forget(r, mine);
    return RESERVE_GOOD;
}

static enum reserve_result register_new(struct reserve *r, const struct reserve_request *q)
{
    unsigned fresh = 1;

    for (unsigned i = 0; i < q->nports; i++) {
        const struct reserve_port *p = &q->ports[i];

        if (port_is(p, q->from.name, q->from.isid) || find_port(r, p) != RESERVE_NOBODY)
            return RESERVE_BAD_PORTS;
        for (unsigned k = 0; k < i; k++)
            if (port_is(p, q->ports[k].name, q->ports[k].isid))
                return RESERVE_BAD_PORTS;
        fresh++;
    }
    if (fresh > RESERVE_REGISTRANTS_MAX - r->n)
        return RESERVE_FULL;
    add(r, &q->from, q);
    for (unsigned i = 0; i < q->nports; i++)
        add(r, &q->ports[i], q);
    return RESERVE_GOOD;
}

static enum reserve_result do_register(struct reserve *r, const struct reserve_request *q, int mine,
                                       struct reserve_notices *notices)
{
    enum reserve_result result = RESERVE_GOOD;

    if (q->action == RESERVE_REGISTER && q->key != (mine == RESERVE_NOBODY ? 0 : r->registrants[mine].key))
        return RESERVE_CONFLICT;
    if (q->nports && mine != RESERVE_NOBODY)
        return RESERVE_BAD_PORTS;
    if (mine == RESERVE_NOBODY) {
        if (!q->service_key)
            return RESERVE_GOOD;
        result = register_new(r, q);
    } else if (q->service_key) {
        r->registrants[mine].key = q->service_key;
        r->registrants[mine].all_ports = q->all_ports;
    } else {
        result = leave(r, mine, notices);
    }
    if (result == RESERVE_GOOD) {
        r->aptpl = q->aptpl;
        r->generation++;
    }
    return result;
}

static enum reserve_result do_reserve(struct reserve *r, const struct reserve_request *q, int mine)
{
    if (!r->type)
        reserve(r, mine, q->type);
    return reserve_holds(r, mine) && r->type == q->type ? RESERVE_GOOD : RESERVE_CONFLICT;
}

static enum reserve_result do_release(struct reserve *r, const struct reserve_request *q, int mine,
                                      struct reserve_notices *notices)
{
    if (!reserve_holds(r, mine))
        return RESERVE_GOOD;
    if (r->type != q->type)
        return RESERVE_BAD_RELEASE;
    if (registrants_only(r->type) || reserve_all_hold(r->type))
        tell_others(r, mine, notices, RESERVE_TELL_RELEASED);
    release(r);
    return RESERVE_GOOD;
}

static enum reserve_result do_clear(struct reserve *r, int mine, struct reserve_notices *notices)
{
    tell_others(r, mine, notices, RESERVE_TELL_PREEMPTED);
    release(r);
    r->n = 0;
    r->generation++;
    return RESERVE_GOOD;
}

/* Removes who has that key (0: all); *mine is kept when it takes the reservation over. */
static bool remove_key(struct reserve *r, uint64_t key, int *mine, bool keep, uint8_t what,
                       struct reserve_notices *notices)
{
    bool any = false;

    for (int i = (int)r->n - 1; i >= 0; i--) {
        if (key && r->registrants[i].key != key)
            continue;
        any = true;
        if (i == *mine && keep)
            continue;
        if (i != *mine)
            tell(notices, &r->registrants[i].port, what);
        forget(r, i);
        if (i == *mine)
            *mine = RESERVE_NOBODY;
        else if (i < *mine)
            --*mine;
    }
    return any;
}

static enum reserve_result do_preempt(struct reserve *r, const struct reserve_request *q, int mine,
                                      struct reserve_notices *notices)
{
    uint8_t what = RESERVE_TELL_UNREGISTERED, old = r->type;
    bool all = reserve_all_hold(r->type);
    bool takes = all ? !q->service_key
                     : r->holder != RESERVE_NOBODY && r->registrants[r->holder].key == q->service_key;

    if (!q->service_key && !all)
        return RESERVE_BAD_KEY;
    if (q->action == RESERVE_PREEMPT_ABORT)
        what |= RESERVE_TELL_ABORT;
    if (!remove_key(r, q->service_key, &mine, takes, what, notices))
        return RESERVE_CONFLICT;
    if (takes) {
        release(r);
        reserve(r, mine, q->type);
        if (old != q->type)
            tell_others(r, mine, notices, RESERVE_TELL_RELEASED);
    }
    r->generation++;
    return RESERVE_GOOD;
}

static enum reserve_result do_move(struct reserve *r, const struct reserve_request *q, int mine)
{
    const struct reserve_port *to = &q->ports[0];
    int at;

    if (r->holder != mine)
        return RESERVE_CONFLICT;
    if (!q->service_key)
        return RESERVE_BAD_KEY;
    if (port_is(to, q->from.name, q->from.isid))
        return RESERVE_BAD_TARGET;
    at = find_port(r, to);
    if (at == RESERVE_NOBODY) {
        if (r->n == RESERVE_REGISTRANTS_MAX)
            return RESERVE_FULL;
        at = (int)r->n;
        add(r, to, q);
    }
    r->registrants[at].key = q->service_key;
    r->holder = at;
    if (q->unregister)
        forget(r, mine);
    r->aptpl = q->aptpl;
    r->generation++;
    return RESERVE_GOOD;
}

enum reserve_result reserve_out(struct reserve *r, const struct reserve_request *q,
                                struct reserve_notices *notices)
{
    int mine = find_port(r, &q->from);

    notices->n = 0;
    if (q->action == RESERVE_REGISTER || q->action == RESERVE_REGISTER_IGNORE)
        return do_register(r, q, mine, notices);
    if (mine == RESERVE_NOBODY || r->registrants[mine].key != q->key)
        return RESERVE_CONFLICT;
    switch (q->action) {
    case RESERVE_RESERVE:
        return do_reserve(r, q, mine);
    case RESERVE_RELEASE:
        return do_release(r, q, mine, notices);
    case RESERVE_CLEAR:
        return do_clear(r, mine, notices);
    case RESERVE_MOVE:
        return do_move(r, q, mine);
    default:
        return do_preempt(r, q, mine, notices);
    }
}

/* --- bytes --- */

enum { ALL_PORTS = 1, HOLDER = 2, PROTOCOL_ISCSI = 5, FORMAT_PORT = 0x40, ISID_DIGITS = 12 };

size_t reserve_put(const struct reserve *r, uint8_t out[RESERVE_SAVED_MAX])
{
    uint8_t *p = out + 8;

    memset(out, 0, 8);
    put16(out, RESERVE_FORMAT);
    out[2] = r->type;
    put16(out + 4, (uint16_t)r->n);
    for (unsigned i = 0; i < r->n; i++) {
        const struct registrant *g = &r->registrants[i];
        size_t n = strlen(g->port.name);

        put64(p, g->key);
        memcpy(p + 8, g->port.isid, 6);
        p[14] = (uint8_t)((g->all_ports ? ALL_PORTS : 0) | (r->holder == (int)i ? HOLDER : 0));
        p[15] = (uint8_t)n;
        memcpy(p + 16, g->port.name, n);
        p += 16 + n;
    }
    return (size_t)(p - out);
}

static bool get_registrant(struct reserve *r, struct reader *in)
{
    struct registrant *g = &r->registrants[r->n];
    uint8_t flags, n;
    const uint8_t *isid, *name;

    g->key = read64(in);
    isid = read_bytes(in, 6);
    flags = read8(in);
    n = read8(in);
    name = read_bytes(in, n);
    if (!isid || !name || n == 0 || n > ISCSI_NAME_MAX || memchr(name, 0, n) || flags & ~(ALL_PORTS | HOLDER))
        return false;
    if (flags & HOLDER && r->holder != RESERVE_NOBODY)
        return false;
    memcpy(g->port.isid, isid, 6);
    memcpy(g->port.name, name, n);
    g->all_ports = flags & ALL_PORTS;
    if (flags & HOLDER)
        r->holder = (int)r->n;
    r->n++;
    return true;
}

int reserve_get(struct reserve *r, const uint8_t *bytes, size_t n)
{
    unsigned count;
    struct reader in;

    reserve_init(r);
    if (n < 8)
        return -EBADMSG;
    if (get16(bytes) > RESERVE_FORMAT)
        return -EPROTONOSUPPORT;
    r->type = bytes[2];
    count = get16(bytes + 4);
    if (get16(bytes) != RESERVE_FORMAT || count == 0 || count > RESERVE_REGISTRANTS_MAX ||
        (r->type && !reserve_type_valid(r->type)))
        return -EBADMSG;
    in = reader_of(bytes + 8, n - 8);
    while (r->n < count)
        if (!get_registrant(r, &in))
            return -EBADMSG;
    if (in.p != in.end || (r->holder != RESERVE_NOBODY) != (r->type && !reserve_all_hold(r->type)))
        return -EBADMSG;
    r->aptpl = true;
    return 0;
}

size_t reserve_put_port(const struct reserve_port *p, uint8_t out[RESERVE_TRANSPORT_ID_MAX])
{
    const uint8_t *i = p->isid;
    size_t n;

    memset(out, 0, RESERVE_TRANSPORT_ID_MAX);
    n = (size_t)snprintf((char *)out + 4, RESERVE_TRANSPORT_ID_MAX - 4, "%s,i,0x%02x%02x%02x%02x%02x%02x",
                         p->name, i[0], i[1], i[2], i[3], i[4], i[5]);
    n = (n / 4 + 1) * 4; /* NUL-terminated, padded */
    out[0] = FORMAT_PORT | PROTOCOL_ISCSI;
    put16(out + 2, (uint16_t)n);
    return 4 + n;
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

size_t reserve_get_port(struct reserve_port *p, const uint8_t *bytes, size_t n)
{
    const char *text = (const char *)bytes + 4, *comma;
    size_t len;

    memset(p, 0, sizeof *p);
    if (n < 4 || bytes[0] != (FORMAT_PORT | PROTOCOL_ISCSI))
        return 0;
    len = get16(bytes + 2);
    if (len < 20 || len % 4 || len > n - 4 || !memchr(text, 0, len))
        return 0;
    comma = strchr(text, ',');
    if (!comma || comma == text || comma - text > ISCSI_NAME_MAX || strncasecmp(comma, ",i,0x", 5) != 0 ||
        strlen(comma + 5) != ISID_DIGITS)
        return 0;
    memcpy(p->name, text, (size_t)(comma - text));
    for (int i = 0; i < ISID_DIGITS; i++) {
        int d = digit(comma[5 + i]);

        if (d < 0)
            return 0;
        p->isid[i / 2] = (uint8_t)(p->isid[i / 2] << 4 | d);
    }
    return 4 + len;
}
