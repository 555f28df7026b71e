/* journal/logobj_build.c - building a log object in memory; see logobj.h.
 *
 * Extents are packed side by side into frames of up to 64 KiB, each compressed and sealed when it is full:
 * small random writes share a frame and compress together. The index is kept aside until the end.
 */
#include "check.h"
#include "logobj_impl.h"
#include "mem.h"
#include "wire.h"

#include <string.h>

struct logobj_builder {
    struct logobj_head head;
    uint8_t writer[LOGOBJ_WRITER_BYTES];
    struct aead *aead;
    uint8_t aad[LOGOBJ_AAD_BYTES];
    struct logobj_entry *entries;
    unsigned nentries, entries_room;
    unsigned frame_first; /* the first entry that may point into the open frame */
    uint8_t *frames;      /* sealed */
    size_t frames_len, frames_room;
    uint32_t open_sectors; /* in the open frame */
    uint8_t open[LOGOBJ_FRAME_BYTES];
};

struct logobj_builder *logobj_begin(const struct aead_key *master, const struct logobj_head *head,
                                    const uint8_t writer[LOGOBJ_WRITER_BYTES])
{
    struct logobj_builder *b = xcalloc(1, sizeof *b);

    b->head = *head;
    memcpy(b->writer, writer, sizeof b->writer);
    b->aead = aead_new_derived(master, head->salt, logobj_label);
    logobj_aad(b->aad, head->vm, head->first);
    return b;
}

void logobj_free(struct logobj_builder **bp)
{
    struct logobj_builder *b = *bp;

    if (!b)
        return;
    *bp = NULL;
    aead_free(&b->aead);
    free(b->entries);
    free(b->frames);
    free(b);
}

uint64_t logobj_size(const struct logobj_builder *b)
{
    return LOGOBJ_HEAD_BYTES + (uint64_t)b->nentries * LOGOBJ_ENTRY_BYTES + b->frames_len +
           (uint64_t)b->open_sectors * 512;
}

/* One extent of the largest write takes at most 32768 / 128 + 1 entries. */
bool logobj_full(const struct logobj_builder *b)
{
    return b->nentries >= LOGOBJ_ENTRIES_MAX - 512 || logobj_size(b) >= LOGOBJ_BYTES_MAX / 2;
}

static struct logobj_entry *entry_new(struct logobj_builder *b)
{
    if (b->nentries == b->entries_room) {
        b->entries_room = b->entries_room ? b->entries_room * 2 : 256;
        b->entries = xrealloc(b->entries, b->entries_room * sizeof *b->entries);
    }
    CHECK(b->nentries < LOGOBJ_ENTRIES_MAX);
    return &b->entries[b->nentries++];
}

static void close_frame(struct logobj_builder *b)
{
    uint32_t plain = b->open_sectors * 512, packed;
    uint8_t *frame;

    if (plain == 0)
        return;
    if (b->frames_room - b->frames_len < plain + LOGOBJ_FRAME_OVERHEAD) {
        b->frames_room = b->frames_room * 2 + 2 * LOGOBJ_FRAME_BYTES;
        b->frames = xrealloc(b->frames, b->frames_room);
    }
    frame = b->frames + b->frames_len;
    packed = logobj_frame_pack(b->open, plain, frame);
    aead_seal(b->aead, b->frames_len + 1, b->aad, sizeof b->aad, frame, packed, frame);
    for (unsigned i = b->frame_first; i < b->nentries; i++)
        if (logobj_is_data(b->entries[i].kind)) {
            b->entries[i].frame_at = (uint32_t)b->frames_len;
            b->entries[i].frame_bytes = packed + AEAD_TAG_BYTES;
        }
    b->frames_len += packed + AEAD_TAG_BYTES;
    b->frame_first = b->nentries;
    b->open_sectors = 0;
}

static void add_zero(struct logobj_builder *b, const struct logobj_entry *e, uint64_t lba, uint32_t nsectors)
{
    struct logobj_entry *last = b->nentries ? &b->entries[b->nentries - 1] : NULL;
    enum logobj_kind kind = logobj_is_moved(e->kind) ? LOGOBJ_MOVED_ZERO : LOGOBJ_ZERO;

    if (last && last->kind == kind && last->disk == e->disk && last->seq == e->seq &&
        last->lba + last->nsectors == lba) {
        last->nsectors += nsectors;
        return;
    }
    *entry_new(b) =
        (struct logobj_entry){.kind = kind, .disk = e->disk, .lba = lba, .nsectors = nsectors, .seq = e->seq};
}

static void add_data(struct logobj_builder *b, const struct logobj_entry *e, uint64_t lba, uint32_t nsectors,
                     const uint8_t *data)
{
    while (nsectors) {
        uint32_t room = LOGOBJ_FRAME_SECTORS - b->open_sectors, n = nsectors < room ? nsectors : room;
        struct logobj_entry *x = entry_new(b);

        *x = *e;
        x->lba = lba;
        x->nsectors = n;
        x->frame_sector = (uint8_t)b->open_sectors;
        memcpy(b->open + (size_t)b->open_sectors * 512, data, (size_t)n * 512);
        b->open_sectors += n;
        if (b->open_sectors == LOGOBJ_FRAME_SECTORS)
            close_frame(b);
        lba += n;
        nsectors -= n;
        data += (size_t)n * 512;
    }
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

void logobj_add(struct logobj_builder *b, const struct logobj_entry *e, const uint8_t *data)
{
    CHECK(logobj_is_moved(e->kind) ? e->seq < b->head.first : e->seq >= b->head.first);
    CHECK(logobj_is_data(e->kind) == (data != NULL) && e->nsectors > 0);
    if (!data) {
        add_zero(b, e, e->lba, e->nsectors);
        return;
    }
    for (uint32_t at = 0; at < e->nsectors;) {
        uint32_t left = e->nsectors - at, n = left < LOGOBJ_FRAME_SECTORS ? left : LOGOBJ_FRAME_SECTORS;

        if (all_zero(data + (size_t)at * 512, (size_t)n * 512))
            add_zero(b, e, e->lba + at, n);
        else
            add_data(b, e, e->lba + at, n, data + (size_t)at * 512);
        at += n;
    }
}

static void entry_write(uint8_t *p, const struct logobj_entry *e)
{
    p[0] = (uint8_t)e->kind;
    p[1] = e->disk;
    put16(p + 2, e->frame_sector);
    put32(p + 4, e->nsectors);
    put64(p + 8, e->lba);
    put64(p + 16, e->seq);
    put32(p + 24, e->frame_at);
    put32(p + 28, e->frame_bytes);
}

/* The header, which holds the index's length, is additional data of the sealed index. */
static struct buf *seal_front(struct logobj_builder *b, uint8_t tag[LOGOBJ_TAG_BYTES])
{
    size_t n = LOGOBJ_INDEX_HEAD_BYTES + (size_t)b->nentries * LOGOBJ_ENTRY_BYTES;
    CLEANUP_FREE uint8_t *plain = xcalloc(1, n);
    struct buf *front = buf_new(LOGOBJ_HEAD_BYTES + n + LOGOBJ_FRAME_OVERHEAD);
    uint8_t aad[LOGOBJ_AAD_BYTES + LOGOBJ_HEAD_BYTES], *index = front->data + LOGOBJ_HEAD_BYTES;
    uint32_t packed;

    memcpy(plain, b->writer, LOGOBJ_WRITER_BYTES);
    put32(plain + LOGOBJ_WRITER_BYTES, b->nentries);
    for (unsigned i = 0; i < b->nentries; i++)
        entry_write(plain + LOGOBJ_INDEX_HEAD_BYTES + (size_t)i * LOGOBJ_ENTRY_BYTES, &b->entries[i]);
    packed = logobj_frame_pack(plain, (uint32_t)n, index);
    b->head.index_bytes = packed + AEAD_TAG_BYTES;
    b->head.bytes = LOGOBJ_HEAD_BYTES + b->head.index_bytes + b->frames_len;
    logobj_head_write(front->data, &b->head);
    memcpy(aad, b->aad, LOGOBJ_AAD_BYTES);
    memcpy(aad + LOGOBJ_AAD_BYTES, front->data, LOGOBJ_HEAD_BYTES);
    aead_seal(b->aead, 0, aad, sizeof aad, index, packed, index);
    front->len = LOGOBJ_HEAD_BYTES + b->head.index_bytes;
    memcpy(tag, index + packed, LOGOBJ_TAG_BYTES);
    return front;
}

void logobj_end(struct logobj_builder **bp, uint64_t last, bool ends_cut, struct logobj_built *out)
{
    struct logobj_builder *b = *bp;

    CHECK(last >= b->head.first);
    close_frame(b);
    b->head.last = last;
    b->head.ends_cut = ends_cut;
    out->front = seal_front(b, out->tag);
    out->frames = buf_new(b->frames_len);
    if (b->frames_len)
        memcpy(out->frames->data, b->frames, b->frames_len);
    out->head = b->head;
    out->entries = b->entries;
    out->nentries = b->nentries;
    b->entries = NULL;
    logobj_free(bp);
}

void logobj_built_free(struct logobj_built *o)
{
    buf_unref(&o->front);
    buf_unref(&o->frames);
    free(o->entries);
    memset(o, 0, sizeof *o);
}
