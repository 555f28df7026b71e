/* tests/lib/cut_model.c - see cut_model.h.
 */
#include "cut_model.h"
#include "stamp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { SAID_MAX = 10, NAME_MAX_BYTES = 64 };
#define CUT_MAGIC 0x3130545543545349ULL /* "ISTCUT01" */
#define NEVER     UINT64_MAX

struct cut_header {
    uint64_t magic;
    char vm[NAME_MAX_BYTES];
    uint32_t ndisks, nsectors[CUT_DISKS_MAX];
};

static void *must_have(void *p)
{
    if (!p) {
        fprintf(stderr, "cut: out of memory\n");
        abort();
    }
    return p;
}

static uint64_t now_us(void)
{
    struct timeval t;

    gettimeofday(&t, NULL);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

uint64_t cut_disk_id(const char *vm, unsigned disk)
{
    uint64_t hash = 14695981039346656037ULL;

    for (; *vm; vm++)
        hash = (hash ^ (uint8_t)*vm) * 1099511628211ULL;
    return hash << 8 | disk;
}

/* --- the history ----------------------------------------------------------------------------------------*/

bool cut_create(const char *path, const char *vm, unsigned ndisks, const uint32_t *nsectors)
{
    struct cut_header h = {.magic = CUT_MAGIC, .ndisks = ndisks};
    FILE *f = fopen(path, "we");
    bool good;

    if (!f)
        return false;
    snprintf(h.vm, sizeof h.vm, "%s", vm);
    memcpy(h.nsectors, nsectors, ndisks * sizeof *nsectors);
    good = fwrite(&h, sizeof h, 1, f) == 1;
    return fclose(f) == 0 && good;
}

static struct cut_write *write_of(struct cut_model *m, uint32_t number)
{
    uint32_t low = 0, high = m->nwrites;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (m->writes[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->nwrites && m->writes[low].number == number ? &m->writes[low] : NULL;
}

static bool take_begin(struct cut_model *m, const struct cut_event *e)
{
    if (e->disk >= m->ndisks || e->nsectors == 0 || e->lba > m->disks[e->disk].nsectors ||
        e->nsectors > m->disks[e->disk].nsectors - e->lba || e->number < m->next_number)
        return false;
    if (m->nwrites == m->room) {
        m->room = m->room * 2 + 1024;
        m->writes = must_have(realloc(m->writes, m->room * sizeof *m->writes));
    }
    m->writes[m->nwrites++] = (struct cut_write){.number = e->number,
                                                 .disk = e->disk,
                                                 .zeros = e->zeros,
                                                 .lba = e->lba,
                                                 .nsectors = e->nsectors,
                                                 .begun = m->events,
                                                 .done = NEVER};
    m->next_number = e->number + 1;
    return true;
}

static bool take(struct cut_model *m, const struct cut_event *e)
{
    struct cut_write *w;

    switch (e->kind) {
    case CUT_BEGIN:
        if (!take_begin(m, e))
            return false;
        break;
    case CUT_DONE:
    case CUT_VOID:
        w = write_of(m, e->number);
        if (!w)
            return false;
        w->done = m->events;
        w->done_us = e->us;
        w->is_void = e->kind == CUT_VOID;
        break;
    case CUT_FLUSH:
        m->flush_begun = m->events;
        break;
    case CUT_FLUSHED:
        m->flushed = m->flush_begun;
        break;
    default:
        return false;
    }
    m->events++;
    return true;
}

static void drop_void(struct cut_model *m)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->nwrites; i++)
        if (!m->writes[i].is_void)
            m->writes[n++] = m->writes[i];
    m->nwrites = n;
}

bool cut_model_open(struct cut_model *m, const char *path)
{
    struct cut_event events[256];
    struct cut_header h;
    size_t n;
    bool good;

    memset(m, 0, sizeof *m);
    m->next_number = 1;
    m->file = fopen(path, "r+e");
    if (!m->file || fread(&h, sizeof h, 1, m->file) != 1 || h.magic != CUT_MAGIC || h.ndisks == 0 ||
        h.ndisks > CUT_DISKS_MAX) {
        fprintf(stderr, "cut: %s is no history\n", path);
        return false;
    }
    h.vm[NAME_MAX_BYTES - 1] = '\0';
    m->ndisks = h.ndisks;
    for (unsigned d = 0; d < m->ndisks; d++) {
        struct cut_disk *disk = &m->disks[d];

        disk->nsectors = h.nsectors[d];
        disk->id = cut_disk_id(h.vm, d);
        disk->shown = must_have(malloc((disk->nsectors + 1) * sizeof *disk->shown));
        memset(disk->shown, 0xfe, disk->nsectors * sizeof *disk->shown); /* of nobody's */
    }
    for (good = true; good && (n = fread(events, sizeof *events, 256, m->file)) > 0;)
        for (size_t i = 0; i < n && good; i++)
            good = take(m, &events[i]);
    drop_void(m);
    if (!good)
        fprintf(stderr, "cut: event %" PRIu64 " of %s is impossible\n", m->events, path);
    fseek(m->file, 0, SEEK_END);
    return good;
}

void cut_model_close(struct cut_model *m)
{
    if (m->file && fclose(m->file) != 0) {
        perror("cut: the history");
        abort();
    }
    for (unsigned d = 0; d < m->ndisks; d++) {
        free(m->disks[d].shown);
        free(m->disks[d].at);
        free(m->disks[d].first);
        free(m->disks[d].chain);
    }
    free(m->writes);
    memset(m, 0, sizeof *m);
}

static void note(struct cut_model *m, struct cut_event *e)
{
    e->us = now_us();
    if (!take(m, e) || fwrite(e, sizeof *e, 1, m->file) != 1) {
        perror("cut: the history");
        abort();
    }
}

uint32_t cut_begin(struct cut_model *m, uint8_t disk, bool zeros, uint32_t lba, uint32_t nsectors)
{
    struct cut_event e = {.kind = CUT_BEGIN,
                          .disk = disk,
                          .zeros = zeros,
                          .number = m->next_number,
                          .lba = lba,
                          .nsectors = nsectors};

    note(m, &e);
    return e.number;
}

void cut_done(struct cut_model *m, uint32_t number)
{
    struct cut_event e = {.kind = CUT_DONE, .number = number};

    note(m, &e);
}

void cut_flush(struct cut_model *m, bool acknowledged)
{
    struct cut_event e = {.kind = acknowledged ? CUT_FLUSHED : CUT_FLUSH};

    note(m, &e);
}

/* --- what the disks show --------------------------------------------------------------------------------*/

void cut_show(struct cut_model *m, uint8_t disk, uint32_t lba, const uint8_t *bytes, uint32_t nsectors)
{
    struct cut_disk *d = &m->disks[disk];

    for (uint32_t i = 0; i < nsectors; i++) {
        const uint8_t *sector = bytes + (size_t)i * STAMP_SECTOR;
        uint32_t *shown = &d->shown[lba + i];

        if (stamp_is_zero(sector))
            *shown = CUT_ZEROS;
        else if (!stamp_read(sector, d->id, lba + i, shown))
            *shown = CUT_FOREIGN;
    }
}

static uint32_t chain_length(const struct cut_disk *d, uint32_t lba)
{
    return (uint32_t)(d->first[lba + 1] - d->first[lba]);
}

/* The write at a place of a sector's chain, from 1. */
static uint32_t chain_write(const struct cut_disk *d, uint32_t lba, uint32_t place)
{
    return d->chain[d->first[lba] + place - 1];
}

static bool matches(const struct cut_model *m, const struct cut_disk *d, uint32_t lba, uint32_t place)
{
    const struct cut_write *w;

    if (place == 0)
        return d->shown[lba] == 0;
    w = &m->writes[chain_write(d, lba, place)];
    return d->shown[lba] == (w->zeros ? CUT_ZEROS : w->number);
}

static void build_chains(struct cut_model *m, uint8_t disk)
{
    struct cut_disk *d = &m->disks[disk];
    uint64_t sum = 0;
    uint64_t *fill = must_have(calloc(d->nsectors + 1, sizeof *fill));

    d->first = must_have(calloc(d->nsectors + 1, sizeof *d->first));
    d->at = must_have(calloc(d->nsectors + 1, sizeof *d->at));
    for (uint32_t i = 0; i < m->nwrites; i++)
        for (uint32_t s = 0; m->writes[i].disk == disk && s < m->writes[i].nsectors; s++)
            fill[m->writes[i].lba + s]++;
    for (uint32_t s = 0; s <= d->nsectors; s++) {
        d->first[s] = sum;
        sum += fill[s];
        fill[s] = d->first[s];
    }
    d->chain = must_have(malloc((sum + 1) * sizeof *d->chain));
    for (uint32_t i = 0; i < m->nwrites; i++)
        for (uint32_t s = 0; m->writes[i].disk == disk && s < m->writes[i].nsectors; s++)
            d->chain[fill[m->writes[i].lba + s]++] = i;
    free(fill);
}

/* --- judging --------------------------------------------------------------------------------------------*/

struct judge {
    struct cut_model *m;
    uint32_t *todo, ntodo; /* writes in the set whose sectors have not been looked at */
    uint32_t *by_done;     /* acknowledged writes, in that order, */
    uint32_t ndone, taken; /* and how many of them are in the set because something begun later is */
};

static void __attribute__((format(printf, 2, 3))) say(struct cut_model *m, const char *format, ...)
{
    char sentence[300];
    va_list args;

    if (!m->say || m->lost + m->torn > SAID_MAX)
        return;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    m->say(m->arg, sentence);
}

static void put_in(struct judge *j, uint32_t write)
{
    struct cut_write *w = &j->m->writes[write];

    if (w->in_set)
        return;
    w->in_set = true;
    j->todo[j->ntodo++] = write;
}

static const char *shown_text(uint32_t shown, char text[32])
{
    if (shown == CUT_ZEROS)
        return "zeros";
    if (shown == CUT_FOREIGN)
        return "bytes of nobody";
    snprintf(text, 32, "write %u", shown);
    return text;
}

/* The set has w; the sector shows something older, or what is in no place of its chain. */
static void refuse(struct cut_model *m, struct cut_write *w, uint32_t lba)
{
    char text[32];

    if (w->refused)
        return;
    w->refused = true;
    if (w->must)
        m->lost++;
    else
        m->torn++;
    say(m, "%s: write %u of disk %u, sectors %u to %u%s, %s, and sector %u shows %s",
        w->must ? "lost" : "torn", w->number, w->disk, w->lba, w->lba + w->nsectors - 1,
        w->zeros ? " (zeros)" : "",
        w->must ? "had to survive" : "is there in part, or something that came after it is there", lba,
        shown_text(m->disks[w->disk].shown[lba], text));
}

/* The sector must show the write at `place` of its chain or one that came after it. */
static void advance(struct judge *j, uint8_t disk, uint32_t lba, uint32_t place)
{
    struct cut_disk *d = &j->m->disks[disk];
    uint32_t n = chain_length(d, lba), to = place;

    if (d->at[lba] >= place)
        return;
    while (to <= n && !matches(j->m, d, lba, to))
        to++;
    if (to > n) {
        refuse(j->m, &j->m->writes[chain_write(d, lba, place)], lba);
        to = place;
    }
    for (uint32_t i = d->at[lba] + 1; i <= to; i++)
        put_in(j, chain_write(d, lba, i));
    d->at[lba] = to;
}

static uint32_t place_of(const struct cut_disk *d, uint32_t lba, uint32_t write)
{
    uint32_t low = 1, high = chain_length(d, lba);

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (chain_write(d, lba, middle) < write)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void spread(struct judge *j)
{
    while (j->ntodo > 0) {
        uint32_t write = j->todo[--j->ntodo];
        const struct cut_write *w = &j->m->writes[write];

        while (j->taken < j->ndone && j->m->writes[j->by_done[j->taken]].done < w->begun)
            put_in(j, j->by_done[j->taken++]);
        for (uint32_t s = 0; s < w->nsectors; s++)
            advance(j, w->disk, w->lba + s, place_of(&j->m->disks[w->disk], w->lba + s, write));
    }
}

static const struct cut_write *sorting; /* qsort has no argument */

static int by_done(const void *a, const void *b)
{
    uint64_t x = sorting[*(const uint32_t *)a].done, y = sorting[*(const uint32_t *)b].done;

    return (x > y) - (x < y);
}

static void list_done(struct judge *j)
{
    for (uint32_t i = 0; i < j->m->nwrites; i++)
        if (j->m->writes[i].done != NEVER)
            j->by_done[j->ndone++] = i;
    sorting = j->m->writes;
    qsort(j->by_done, j->ndone, sizeof *j->by_done, by_done);
}

/* What each sector shows at the least. */
static void begin_with_shown(struct judge *j, uint8_t disk)
{
    struct cut_disk *d = &j->m->disks[disk];

    for (uint32_t lba = 0; lba < d->nsectors; lba++) {
        uint32_t place = 0, n = chain_length(d, lba);
        char text[32];

        while (place <= n && !matches(j->m, d, lba, place))
            place++;
        if (place > n) {
            j->m->torn++;
            say(j->m, "torn: sector %u of disk %u shows %s, which was never written there", lba, disk,
                shown_text(d->shown[lba], text));
        } else if (place > 0) {
            advance(j, disk, lba, place);
        }
    }
}

static bool must_be(const struct cut_model *m, const struct cut_write *w, enum cut_must must,
                    uint64_t before_us)
{
    switch (must) {
    case CUT_NOTHING:
        return false;
    case CUT_ACKNOWLEDGED:
        return w->done != NEVER;
    case CUT_SYNCED:
        return w->done < m->flushed;
    case CUT_SINCE:
        return w->done != NEVER && w->done_us < before_us;
    }
    return false;
}

bool cut_judge(struct cut_model *m, enum cut_must must, uint64_t before_us)
{
    struct judge j = {.m = m};

    m->lost = m->torn = 0;
    j.todo = must_have(malloc((m->nwrites + 1) * sizeof *j.todo));
    j.by_done = must_have(malloc((m->nwrites + 1) * sizeof *j.by_done));
    list_done(&j);
    for (unsigned d = 0; d < m->ndisks; d++)
        build_chains(m, (uint8_t)d);
    for (uint32_t i = 0; i < m->nwrites; i++) {
        m->writes[i].must = must_be(m, &m->writes[i], must, before_us);
        if (m->writes[i].must)
            put_in(&j, i);
    }
    for (unsigned d = 0; d < m->ndisks; d++)
        begin_with_shown(&j, (uint8_t)d);
    spread(&j);
    free(j.todo);
    free(j.by_done);
    return m->lost == 0 && m->torn == 0;
}

void cut_settle(struct cut_model *m)
{
    for (uint32_t i = 0; i < m->nwrites; i++) {
        struct cut_write *w = &m->writes[i];
        struct cut_event e = {.kind = w->in_set ? CUT_DONE : CUT_VOID, .number = w->number};

        if (!w->in_set || w->done == NEVER)
            note(m, &e);
    }
    drop_void(m);
}
