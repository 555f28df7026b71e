/* target/reserve_bytes.c - reservations as bytes: what is kept of them (docs/reservations.md), and how
 * initiator ports are named in SCSI. Pure.
 */
#include "reserve.h"

#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

enum { HOLDER = 2, PROTOCOL_ISCSI = 5, FORMAT_PORT = 0x40, ISID_DIGITS = 12 };
enum { FORMAT_ONE_TARGET = 1, ONE_TARGET_FLAGS = 3 /* ALL_TG_PT said nothing there */ };
enum { FORMAT_APTPL = 2 /* and before: kept only with it */ };
enum { HEAD_BYTES = 12, OLDER_HEAD_BYTES = 8, APTPL = 1 };

size_t reserve_put(const struct reserve *r, uint8_t out[RESERVE_SAVED_MAX])
{
    uint8_t *p = out + HEAD_BYTES;

    memset(out, 0, HEAD_BYTES);
    put16(out, RESERVE_FORMAT);
    out[2] = r->type;
    out[3] = r->aptpl ? APTPL : 0;
    put16(out + 4, (uint16_t)r->n);
    put32(out + 8, r->generation);
    for (unsigned i = 0; i < r->n; i++) {
        const struct registrant *g = &r->registrants[i];
        const struct reserve_port *port = &g->nexus.initiator;
        size_t n = strlen(port->name);

        put64(p, g->key);
        memcpy(p + 8, port->isid, 6);
        put16(p + 14, g->nexus.target);
        p[16] = r->holder == (int)i ? HOLDER : 0;
        p[17] = (uint8_t)n;
        memcpy(p + 18, port->name, n);
        p += 18 + n;
    }
    return (size_t)(p - out);
}

static bool get_registrant(struct reserve *r, struct reader *in, uint16_t only_target)
{
    struct registrant *g = &r->registrants[r->n];
    uint8_t flags, n;
    const uint8_t *isid, *name;

    g->key = read64(in);
    isid = read_bytes(in, 6);
    g->nexus.target = only_target ? only_target : read16(in);
    flags = read8(in);
    n = read8(in);
    name = read_bytes(in, n);
    if (!isid || !name || n == 0 || n > ISCSI_NAME_MAX || memchr(name, 0, n) || g->nexus.target == 0 ||
        flags & ~(only_target ? ONE_TARGET_FLAGS : HOLDER))
        return false;
    if (flags & HOLDER && r->holder != RESERVE_NOBODY)
        return false;
    memcpy(g->nexus.initiator.isid, isid, 6);
    memcpy(g->nexus.initiator.name, name, n);
    if (flags & HOLDER)
        r->holder = (int)r->n;
    r->n++;
    return true;
}

/* The head, up to the registrants: how many there are. */
static int get_head(struct reserve *r, const uint8_t *bytes, size_t n, unsigned *count, size_t *head)
{
    unsigned format;

    if (n < OLDER_HEAD_BYTES)
        return -EBADMSG;
    format = get16(bytes);
    if (format > RESERVE_FORMAT)
        return -EPROTONOSUPPORT;
    r->type = bytes[2];
    *count = get16(bytes + 4);
    if (format < FORMAT_ONE_TARGET || *count > RESERVE_REGISTRANTS_MAX ||
        (r->type && (!reserve_type_valid(r->type) || *count == 0)))
        return -EBADMSG;
    if (format <= FORMAT_APTPL) {
        r->aptpl = true;
        *head = OLDER_HEAD_BYTES;
        return *count ? 0 : -EBADMSG;
    }
    if (n < HEAD_BYTES || bytes[3] & ~APTPL || get16(bytes + 6))
        return -EBADMSG;
    r->aptpl = bytes[3] & APTPL;
    r->generation = get32(bytes + 8);
    *head = HEAD_BYTES;
    return 0;
}

int reserve_get(struct reserve *r, const uint8_t *bytes, size_t n, uint16_t only_target)
{
    unsigned count;
    struct reader in;
    size_t head;
    int rc;

    reserve_init(r);
    rc = get_head(r, bytes, n, &count, &head);
    if (rc)
        return rc;
    in = reader_of(bytes + head, n - head);
    while (r->n < count)
        if (!get_registrant(r, &in, get16(bytes) == FORMAT_ONE_TARGET ? only_target : 0))
            return -EBADMSG;
    if (in.p != in.end || (r->holder != RESERVE_NOBODY) != (r->type && !reserve_all_hold(r->type)))
        return -EBADMSG;
    return 0;
}

int reserve_get_sent(struct reserve *r, const uint8_t *bytes, size_t n)
{
    if (n < 2 || get16(bytes) <= FORMAT_APTPL)
        return -EBADMSG;
    return reserve_get(r, bytes, n, 0);
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
