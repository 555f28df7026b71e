/* cache/vm_sizes.c - see vm_sizes.h.
 */
#include "vm_sizes.h"
#include "check.h"
#include "ram.h"

#include <errno.h>

static void ask(struct vm_sizes *s);

/* The first from lun on, or ndisks. */
static unsigned next_disk(const struct vm_spec *spec, unsigned lun)
{
    while (lun < spec->ndisks && !vm_has_disk(spec, lun))
        lun++;
    return lun;
}

/* Larger blocks than the source's can be served, smaller ones cannot. */
static int check_blocks(const struct vm_disk *d, const struct proto_stat *stat, struct why *why)
{
    if (d->block_bytes && d->block_bytes < stat->block_bytes)
        return why_set(why, -EINVAL, "disk %s:%s has blocks of %u bytes, which cannot be served as %u",
                       d->onprem, d->disk, stat->block_bytes, d->block_bytes);
    if (d->block_bytes && stat->bytes % d->block_bytes)
        return why_set(why, -EINVAL, "disk %s:%s is not a whole number of blocks of %u bytes", d->onprem,
                       d->disk, d->block_bytes);
    return 0;
}

static void on_stat(struct link_call *call)
{
    struct vm_sizes *s = container_of(call, struct vm_sizes, in.call);
    struct vm_disk *d = &s->spec->disks[s->disk];
    struct proto_stat stat;

    s->in.asking = false;
    buf_unref(&call->body);
    s->status = call->status;
    if (call->status)
        s->why = call->why;
    else if (proto_get_stat(call->reply->data, call->reply->len, &stat) < 0 || stat.bytes < SECTOR_BYTES ||
             stat.bytes / BLOCK_BYTES >= RAM_DISK_BLOCKS_MAX)
        s->status = why_set(&s->why, -EPROTO, "disk %s:%s: %s gave no usable description of it", d->onprem,
                            d->disk, d->onprem);
    else
        s->status = check_blocks(d, &stat, &s->why);
    buf_unref(&call->reply);
    if (s->status) {
        s->done(s);
        return;
    }
    if (!d->block_bytes)
        d->block_bytes = stat.block_bytes;
    d->sectors = stat.bytes / SECTOR_BYTES;
    s->disk = next_disk(s->spec, s->disk + 1);
    if (s->disk == s->spec->ndisks)
        s->done(s);
    else
        ask(s);
}

static void ask(struct vm_sizes *s)
{
    const struct vm_disk *d = &s->spec->disks[s->disk];

    s->in.call = (struct link_call){.type = PROTO_DISK_STAT,
                                    .class = LINK_CONTROL,
                                    .body = proto_put_stat_call(d->disk),
                                    .done = on_stat};
    s->in.asking = true;
    link_call(link_peer(s->in.link, d->onprem), &s->in.call);
}

void vm_sizes_ask(struct vm_sizes *s, struct link *link)
{
    s->in.link = link;
    s->disk = next_disk(s->spec, 0);
    s->status = 0;
    ask(s);
}

void vm_sizes_cancel(struct vm_sizes *s)
{
    if (s->in.asking)
        link_call_cancel(&s->in.call);
}
