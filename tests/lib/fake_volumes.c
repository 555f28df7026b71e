/* tests/lib/fake_volumes.c - VMs and volumes in memory (fake_volumes.h). On each volume's loop. It checks
 * what the real volume takes for granted: ranges, buffers, and that each read is released once.
 */
#include "fake_volumes.h"

#include "check.h"
#include "mem.h"

#include <string.h>

static struct {
    struct vm *vms;
    unsigned n;
} catalog;

void fake_vms(struct vm *vms, unsigned n)
{
    catalog.vms = vms;
    catalog.n = n;
    for (unsigned i = 0; i < n; i++) {
        snprintf(vms[i].spec.name, sizeof vms[i].spec.name, "vm%u", i);
        snprintf(vms[i].spec.iqn, sizeof vms[i].spec.iqn, FAKE_IQN "vm%u", i);
        atomic_store(&vms[i].admitted, true);
    }
}

void fake_volume_init(struct volume *v, uint64_t sectors, uint32_t block_bytes)
{
    CHECK(sectors && sectors % 8 == 0);
    v->bytes = xcalloc(sectors, SECTOR_BYTES);
    v->backed = v->sectors = sectors;
    v->block_bytes = block_bytes;
    memcpy(v->naa, "\x30\1\2\3\4\5\6\7", 8);
}

void fake_volume_free(struct volume *v)
{
    free(v->bytes);
    v->bytes = NULL;
}

struct vm *vms_find_iqn(struct vms *vms, const char *iqn)
{
    (void)vms;
    for (unsigned i = 0; i < catalog.n; i++)
        if (!strcmp(catalog.vms[i].spec.iqn, iqn)) {
            atomic_fetch_add(&catalog.vms[i].refs, 1);
            return &catalog.vms[i];
        }
    return NULL;
}

struct vm *vms_find_id(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    (void)vms;
    for (unsigned i = 0; i < catalog.n; i++)
        if (!memcmp(catalog.vms[i].spec.id, id, VMLOG_ID_BYTES)) {
            atomic_fetch_add(&catalog.vms[i].refs, 1);
            return &catalog.vms[i];
        }
    return NULL;
}

void vms_each_iqn(struct vms *vms, void (*each)(void *arg, const char *iqn), void *arg)
{
    (void)vms;
    for (unsigned i = 0; i < catalog.n; i++)
        each(arg, catalog.vms[i].spec.iqn);
}

void vm_unref(struct vm *vm)
{
    CHECK(atomic_fetch_sub(&vm->refs, 1) > 0);
}

/* Its bytes from byte `from` of the disk on; *run: how many there are in a row. */
static uint8_t *place(struct volume *v, uint64_t from, uint64_t *run)
{
    uint64_t at = from % (v->backed * SECTOR_BYTES);

    *run = v->backed * SECTOR_BYTES - at;
    return v->bytes + at;
}

/* data: NULL for zeros. */
static void lay(struct volume *v, const struct io *io, const uint8_t *data)
{
    uint64_t from = io->lba * SECTOR_BYTES, n = (uint64_t)io->nsectors * SECTOR_BYTES, run;

    while (n) {
        uint8_t *p = place(v, from, &run);

        run = run < n ? run : n;
        if (data)
            memcpy(p, data, run);
        else
            memset(p, 0, run);
        data = data ? data + run : NULL;
        from += run;
        n -= run;
    }
}

/* What was read stays as it was, as blocks of the cache do, whatever is written before it has left. */
static void snapshot(struct volume *v, struct io *io)
{
    uint64_t from = io->lba * SECTOR_BYTES, n = (uint64_t)io->nsectors * SECTOR_BYTES, done = 0, run;
    uint8_t *bytes = xmalloc(n);

    while (done < n) {
        const uint8_t *p = place(v, from + done, &run);

        run = run < n - done ? run : n - done;
        memcpy(bytes + done, p, run);
        done += run;
    }
    io->blocks = (struct block **)(void *)bytes;
    atomic_fetch_add(&v->held, 1);
}

static void serve(struct volume *v, struct io *io)
{
    io->status = io->op == IO_FLUSH ? 0 : atomic_load(&v->status);
    atomic_fetch_add(io->op == IO_READ ? &v->reads : io->op == IO_FLUSH ? &v->flushes : &v->writes, 1);
    if (io->status)
        return;
    if ((io->op == IO_WRITE || io->op == IO_ZERO) && io->fua)
        atomic_fetch_add(&v->forced, 1);
    if (io->op == IO_WRITE)
        lay(v, io, io->data->data + io->data_offset);
    else if (io->op == IO_ZERO)
        lay(v, io, NULL);
    else if (io->op == IO_READ)
        snapshot(v, io);
}

bool volume_submit(struct volume *v, struct io *io)
{
    unsigned n = atomic_load(&v->nparked);

    io->volume = v;
    if (io->op != IO_FLUSH)
        CHECK(io->nsectors > 0 && io->lba <= v->sectors && io->nsectors <= v->sectors - io->lba);
    if (io->op == IO_READ || io->op == IO_WRITE)
        CHECK(io->nsectors <= IO_SECTORS_MAX);
    if (io->op == IO_WRITE)
        CHECK(io->data && io->data_offset + io->nsectors * UINT64_C(512) <= io->data->len);
    if (!atomic_load(&v->stalled) && !atomic_load(io->op == IO_READ ? &v->reads_wait : &v->writes_wait)) {
        serve(v, io);
        return true;
    }
    CHECK(n < FAKE_PARKED);
    v->parked[n] = io;
    atomic_store(&v->nparked, n + 1);
    return false;
}

/* Too late: it comes back with its data, as it may. */
void volume_cancel(struct io *io)
{
    CHECK(io->op == IO_READ);
}

void fake_volume_turn(struct volume *v)
{
    struct io *back[FAKE_PARKED];
    unsigned n = atomic_exchange(&v->nparked, 0);

    memcpy(back, v->parked, n * sizeof *back);
    for (unsigned i = 0; i < n; i++) {
        serve(v, back[i]);
        back[i]->done(back[i]);
    }
}

int io_iov(const struct io *io, uint32_t from, uint32_t n, struct iovec *iov, int max)
{
    const uint64_t at = io->lba * SECTOR_BYTES;
    uint8_t *bytes = (uint8_t *)(void *)io->blocks;
    int i = 0;

    CHECK((uint64_t)from + n <= io->nsectors * UINT64_C(512) && max >= (int)(n / 4096 + 2));
    for (; n; i++) { /* in blocks, as the cache does */
        uint32_t piece = 4096 - (uint32_t)((at + from) % 4096);

        CHECK(i < max);
        piece = piece < n ? piece : n;
        iov[i] = (struct iovec){bytes + from, piece};
        from += piece;
        n -= piece;
    }
    return i;
}

void io_release(struct io *io)
{
    CHECK(atomic_fetch_sub(&io->volume->held, 1) > 0);
    free(io->blocks);
    io->blocks = NULL;
}

/* Zeros are not mapped. */
bool volume_mapped(struct volume *v, uint64_t lba, uint64_t nsectors, uint64_t *same)
{
    static const uint8_t zeros[SECTOR_BYTES];
    uint64_t run;
    bool mapped = memcmp(place(v, lba * SECTOR_BYTES, &run), zeros, SECTOR_BYTES) != 0;

    CHECK(nsectors && lba + nsectors <= v->sectors);
    for (*same = 1; *same < nsectors && *same < v->backed; ++*same)
        if ((memcmp(place(v, (lba + *same) * SECTOR_BYTES, &run), zeros, SECTOR_BYTES) != 0) != mapped)
            break;
    return mapped;
}

uint8_t volume_disk(const struct volume *v)
{
    (void)v;
    return 0;
}

uint64_t volume_sectors(const struct volume *v)
{
    return v->sectors;
}

uint32_t volume_block_bytes(const struct volume *v)
{
    return v->block_bytes;
}

const uint8_t *volume_naa(const struct volume *v)
{
    return v->naa;
}

const char *volume_serial(const struct volume *v)
{
    (void)v;
    return "0123456789abcdef";
}
