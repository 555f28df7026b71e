/* journal/logobj.c - reading log objects, and what reading and building share: header, frames. See logobj.h.
 */
#include "generation.h"
#include "logobj_impl.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <string.h>

const char logobj_magic[8] = {'I', 'S', 'T', 'H', 'L', 'O', 'G', '1'}, logobj_label[] = "isthmus log object";

enum { CODEC_RAW = 0, CODEC_LZ4 = 1, FRAME_HEAD = 8, FLAG_ENDS_CUT = 1 };

void logobj_aad(uint8_t aad[LOGOBJ_AAD_BYTES], const uint8_t vm[16], uint64_t first)
{
    memcpy(aad, vm, 16);
    put64(aad + 16, first);
}

/* --- frames ---------------------------------------------------------------------------------------------*/

uint32_t logobj_frame_pack(const uint8_t *plain, uint32_t n, uint8_t *out)
{
    /* Saving less than a sixteenth is not worth the reader's time. */
    int packed =
        LZ4_compress_default((const char *)plain, (char *)out + FRAME_HEAD, (int)n, (int)(n - n / 16));

    memset(out, 0, FRAME_HEAD);
    out[0] = packed > 0 ? CODEC_LZ4 : CODEC_RAW;
    put32(out + 4, n);
    if (packed <= 0) {
        memcpy(out + FRAME_HEAD, plain, n);
        packed = (int)n;
    }
    return FRAME_HEAD + (uint32_t)packed;
}

int logobj_frame_unseal(struct aead *aead, uint64_t nonce, const void *aad, size_t aad_len,
                        const uint8_t *sealed, uint32_t n, uint8_t *scratch, uint8_t *out, uint32_t room)
{
    uint32_t plain, packed;

    if (n < LOGOBJ_FRAME_OVERHEAD ||
        aead_open(aead, nonce, aad, aad_len, sealed, n - AEAD_TAG_BYTES, scratch) < 0)
        return -EBADMSG;
    plain = get32(scratch + 4);
    packed = n - LOGOBJ_FRAME_OVERHEAD;
    if (plain > room || get24(scratch + 1) != 0)
        return -EBADMSG;
    if (scratch[0] == CODEC_RAW && packed == plain)
        memcpy(out, scratch + FRAME_HEAD, plain);
    else if (scratch[0] != CODEC_LZ4 || LZ4_decompress_safe((const char *)scratch + FRAME_HEAD, (char *)out,
                                                            (int)packed, (int)plain) != (int)plain)
        return -EBADMSG;
    return (int)plain;
}

/* --- the header -----------------------------------------------------------------------------------------*/

void logobj_head_write(uint8_t b[LOGOBJ_HEAD_BYTES], const struct logobj_head *h)
{
    memcpy(b, logobj_magic, sizeof logobj_magic);
    put16(b + 8, generation_format(LOGOBJ_FORMAT));
    put16(b + 10, h->ends_cut ? FLAG_ENDS_CUT : 0);
    put32(b + 12, h->index_bytes);
    memcpy(b + 16, h->vm, 16);
    put64(b + 32, h->first);
    put64(b + 40, h->last);
    put64(b + 48, h->epoch);
    memcpy(b + 56, h->salt, AEAD_SALT_BYTES);
    memcpy(b + 72, h->chain, LOGOBJ_TAG_BYTES);
    put64(b + 88, h->bytes);
}

static bool head_plausible(const struct logobj_head *h, uint16_t flags)
{
    return (flags & ~FLAG_ENDS_CUT) == 0 && h->first > 0 && h->last >= h->first &&
           h->index_bytes >= LOGOBJ_FRAME_OVERHEAD &&
           h->index_bytes <= LOGOBJ_INDEX_BYTES_MAX + LOGOBJ_FRAME_OVERHEAD && h->bytes <= LOGOBJ_BYTES_MAX &&
           h->bytes >= LOGOBJ_HEAD_BYTES + h->index_bytes;
}

int logobj_head_read(struct logobj_head *h, const uint8_t *bytes, size_t n, const uint8_t vm[16],
                     uint64_t first, struct why *why)
{
    struct reader r = reader_of(bytes, n);
    const uint8_t *magic = read_bytes(&r, sizeof logobj_magic), *p;
    uint16_t format = read16(&r), flags = read16(&r);

    memset(h, 0, sizeof *h);
    if (!magic || memcmp(magic, logobj_magic, sizeof logobj_magic) != 0)
        return why_set(why, -EBADMSG, "it is not a log object");
    if (generation_reads(LOGOBJ_FORMAT, format, why))
        return -ENOTSUP;
    h->ends_cut = flags & FLAG_ENDS_CUT;
    h->index_bytes = read32(&r);
    if ((p = read_bytes(&r, 16)))
        memcpy(h->vm, p, 16);
    h->first = read64(&r);
    h->last = read64(&r);
    h->epoch = read64(&r);
    if ((p = read_bytes(&r, AEAD_SALT_BYTES)))
        memcpy(h->salt, p, AEAD_SALT_BYTES);
    if ((p = read_bytes(&r, LOGOBJ_TAG_BYTES)))
        memcpy(h->chain, p, LOGOBJ_TAG_BYTES);
    h->bytes = read64(&r);
    if (r.bad || !head_plausible(h, flags))
        return why_set(why, -EBADMSG, "its header is damaged");
    if (memcmp(h->vm, vm, 16) != 0)
        return why_set(why, -EBADMSG, "it is of another VM");
    if (h->first != first)
        return why_set(why, -EBADMSG, "it begins at %" PRIu64 ", not at %" PRIu64 " as its name says",
                       h->first, first);
    return 0;
}

/* --- the index ------------------------------------------------------------------------------------------*/

static bool entry_read(struct reader *r, const struct logobj_head *h, struct logobj_entry *e)
{
    uint64_t data_bytes = h->bytes - LOGOBJ_HEAD_BYTES - h->index_bytes;
    uint8_t kind = read8(r);
    uint16_t sector;
    bool data;

    e->kind = (enum logobj_kind)kind;
    e->disk = read8(r);
    sector = read16(r);
    e->frame_sector = (uint8_t)sector;
    e->nsectors = read32(r);
    e->lba = read64(r);
    e->seq = read64(r);
    e->frame_at = read32(r);
    e->frame_bytes = read32(r);
    data = logobj_is_data(e->kind);
    if (kind < LOGOBJ_DATA || kind > LOGOBJ_MOVED_ZERO || e->disk >= 64 || e->nsectors == 0 ||
        e->lba > UINT64_MAX / 512 - e->nsectors)
        return false;
    if (logobj_is_moved(e->kind) ? e->seq >= h->first : e->seq < h->first || e->seq > h->last)
        return false;
    if (!data)
        return sector == 0 && e->frame_at == 0 && e->frame_bytes == 0;
    return sector + (uint64_t)e->nsectors <= LOGOBJ_FRAME_SECTORS && e->frame_bytes > LOGOBJ_FRAME_OVERHEAD &&
           e->frame_bytes <= LOGOBJ_FRAME_BYTES + LOGOBJ_FRAME_OVERHEAD &&
           (uint64_t)e->frame_at + e->frame_bytes <= data_bytes;
}

static int entries_read(struct logobj_index *x, const struct logobj_head *h, const uint8_t *plain, size_t n,
                        struct why *why)
{
    struct reader r = reader_of(plain, n);
    const uint8_t *writer = read_bytes(&r, LOGOBJ_WRITER_BYTES);
    uint32_t count = read32(&r), zero = read32(&r);

    if (r.bad || zero != 0 || count > LOGOBJ_ENTRIES_MAX ||
        n != LOGOBJ_INDEX_HEAD_BYTES + (size_t)count * LOGOBJ_ENTRY_BYTES)
        return why_set(why, -EBADMSG, "its index is damaged");
    memcpy(x->writer, writer, LOGOBJ_WRITER_BYTES);
    x->entries = xcalloc(count + 1, sizeof *x->entries);
    x->nentries = count;
    for (uint32_t i = 0; i < count; i++)
        if (!entry_read(&r, h, &x->entries[i])) {
            logobj_index_free(x);
            return why_set(why, -EBADMSG, "entry %u of its index is impossible", i);
        }
    return 0;
}

int logobj_index_read(struct logobj_index *x, const struct aead_key *master, const struct logobj_head *h,
                      const uint8_t *front, struct why *why)
{
    uint8_t aad[LOGOBJ_AAD_BYTES + LOGOBJ_HEAD_BYTES];
    CLEANUP_FREE uint8_t *scratch = xmalloc(h->index_bytes);
    CLEANUP_FREE uint8_t *plain = xmalloc(LOGOBJ_INDEX_BYTES_MAX);
    struct aead *aead;
    int n;

    memset(x, 0, sizeof *x);
    aead = aead_new_derived(master, h->salt, logobj_label);
    logobj_aad(aad, h->vm, h->first);
    memcpy(aad + LOGOBJ_AAD_BYTES, front, LOGOBJ_HEAD_BYTES);
    n = logobj_frame_unseal(aead, 0, aad, sizeof aad, front + LOGOBJ_HEAD_BYTES, h->index_bytes, scratch,
                            plain, LOGOBJ_INDEX_BYTES_MAX);
    aead_free(&aead);
    if (n < 0)
        return why_set(why, -EBADMSG, "it was altered, or sealed with another key");
    memcpy(x->tag, front + LOGOBJ_HEAD_BYTES + h->index_bytes - LOGOBJ_TAG_BYTES, LOGOBJ_TAG_BYTES);
    return entries_read(x, h, plain, (size_t)n, why);
}

void logobj_index_free(struct logobj_index *x)
{
    free(x->entries);
    memset(x, 0, sizeof *x);
}

/* --- data frames ----------------------------------------------------------------------------------------*/

struct logobj_opener {
    struct aead *aead;
    uint8_t aad[LOGOBJ_AAD_BYTES];
    uint8_t scratch[LOGOBJ_FRAME_BYTES + LOGOBJ_FRAME_OVERHEAD];
};

struct logobj_opener *logobj_opener_new(const struct aead_key *master, const uint8_t vm[16], uint64_t first,
                                        const uint8_t salt[AEAD_SALT_BYTES])
{
    struct logobj_opener *o = xmalloc(sizeof *o);

    o->aead = aead_new_derived(master, salt, logobj_label);
    logobj_aad(o->aad, vm, first);
    return o;
}

void logobj_opener_free(struct logobj_opener **op)
{
    if (!*op)
        return;
    aead_free(&(*op)->aead);
    free(*op);
    *op = NULL;
}

int logobj_frame_open(struct logobj_opener *o, uint32_t frame_at, const uint8_t *sealed, uint32_t n,
                      uint8_t out[LOGOBJ_FRAME_BYTES])
{
    int plain;

    if (n > sizeof o->scratch)
        return -EBADMSG;
    plain = logobj_frame_unseal(o->aead, (uint64_t)frame_at + 1, o->aad, sizeof o->aad, sealed, n, o->scratch,
                                out, LOGOBJ_FRAME_BYTES);
    return plain > 0 && plain % 512 == 0 ? plain : -EBADMSG;
}
