/* initiator/wb_record.c - see wb_record.h. */
#include "wb_record.h"

#include "proto_in.h"

enum { MARK_UNKNOWN = 0xff };

static uint8_t *put_disks(uint8_t *p, const struct wb_record *r)
{
    *p++ = (uint8_t)r->ndisks;
    for (unsigned i = 0; i < r->ndisks; i++) {
        const struct wb_mark *m = &r->marks[i];

        p = put_text(p, r->disks[i]);
        *p++ = m->known ? m->len : MARK_UNKNOWN;
        if (m->known) {
            memcpy(p, m->bytes, m->len);
            p += m->len;
        }
    }
    return p;
}

static uint8_t *put_stage(uint8_t *p, const struct wb_record *r)
{
    put64(p, r->applied);
    put64(p + 8, r->applied_ms);
    p[16] = (uint8_t)r->stage;
    put64(p + 17, r->number);
    put64(p + 25, r->target);
    put64(p + 33, r->target_ms);
    put64(p + 41, r->pieces);
    put64(p + 49, r->bytes);
    p[57] = (uint8_t)r->alarm;
    return put_text(p + 58, r->alarm_text);
}

size_t wb_record_put(const struct wb_record *r, uint8_t *row)
{
    uint8_t *p = row;

    put64(p, r->epoch);
    p[8] = r->attached;
    p += 9;
    if (r->attached) {
        *p++ = (uint8_t)r->policy;
        p = put_text(p, r->name);
        p = put_stage(put_disks(p, r), r);
    }
    CHECK(p - row <= WB_RECORD_MAX);
    return (size_t)(p - row);
}

static void get_disks(struct reader *in, struct wb_record *r)
{
    r->ndisks = read8(in);
    if (r->ndisks == 0 || r->ndisks > WB_DISKS_MAX) {
        in->bad = true;
        r->ndisks = 0;
    }
    for (unsigned i = 0; i < r->ndisks; i++) {
        struct wb_mark *m = &r->marks[i];
        const uint8_t *p;

        read_name(in, r->disks[i]);
        m->len = read8(in);
        m->known = m->len != MARK_UNKNOWN;
        if (!m->known)
            m->len = 0;
        p = m->len <= DATASTORE_MARK_MAX ? read_bytes(in, m->len) : NULL;
        if (p)
            memcpy(m->bytes, p, m->len);
        else
            in->bad = true;
    }
}

static void get_stage(struct reader *in, struct wb_record *r)
{
    r->applied = read64(in);
    r->applied_ms = read64(in);
    r->stage = read8(in);
    r->number = read64(in);
    r->target = read64(in);
    r->target_ms = read64(in);
    r->pieces = read64(in);
    r->bytes = read64(in);
    r->alarm = read8(in);
    read_text(in, r->alarm_text, sizeof r->alarm_text);
    if (r->stage > WB_STAGE_APPLYING || r->alarm > WB_ALARM_DAMAGED ||
        (r->stage != WB_STAGE_NONE) != (r->number != 0) ||
        (r->stage != WB_STAGE_NONE && r->target <= r->applied))
        in->bad = true;
}

int wb_record_get(const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n, struct wb_record *r)
{
    struct reader in = reader_of(row, n);
    uint8_t attached;

    memset(r, 0, sizeof *r);
    memcpy(r->vm, vm, WB_ID_BYTES);
    r->epoch = read64(&in);
    attached = read8(&in);
    r->attached = attached == 1;
    if (attached > 1)
        in.bad = true;
    if (r->attached) {
        r->policy = read8(&in);
        if (r->policy != WB_WRITE_BACK && r->policy != WB_CLOUD_PERSIST)
            in.bad = true;
        read_name(&in, r->name);
        get_disks(&in, r);
        get_stage(&in, r);
    }
    return finish(&in);
}
