/* target/keys.c - the table of text keys, and how each kind is negotiated (keys.h). Pure. */
#include "keys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct key {
    const char *name;
    enum key_kind kind;
    uint32_t low, high, initial, offer;
    unsigned by, when;
};

#define KEY_ROW(name, kind, low, high, initial, offer, by, when)                                             \
    {#name, kind, low, high, initial, offer, by, when},
static const struct key keys[KEY_COUNT] = {KEYS(KEY_ROW)};
#undef KEY_ROW

_Static_assert(KEY_COUNT <= 64, "params.seen is one word");

void params_init(struct params *p, uint32_t first_burst, uint32_t max_burst)
{
    memset(p, 0, sizeof *p);
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        p->value[i] = keys[i].initial;
        p->offer[i] = keys[i].offer;
    }
    if (max_burst)
        p->offer[KEY_MaxBurstLength] = max_burst;
    if (first_burst)
        p->offer[KEY_FirstBurstLength] = first_burst;
}

void text_add(struct text *t, const char *key, const char *format, ...)
{
    size_t room = t->cap - t->len;
    va_list ap;
    int n, m;

    n = snprintf(t->bytes + t->len, room, "%s=", key);
    if (n < 0 || (size_t)n + 1 >= room) {
        t->full = true;
        return;
    }
    va_start(ap, format);
    m = vsnprintf(t->bytes + t->len + n, room - (size_t)n, format, ap);
    va_end(ap);
    if (m < 0 || (size_t)(n + m) + 1 > room) {
        t->full = true;
        return;
    }
    t->len += (size_t)(n + m) + 1;
}

bool keys_next(char **p, char *end, const char **name, const char **value, bool *bad)
{
    size_t left = (size_t)(end - *p), len;
    char *eq;

    while (left && !**p) { /* padding, and pairs of nothing */
        (*p)++;
        left--;
    }
    if (!left)
        return false;
    len = strnlen(*p, left);
    (*p)[len] = 0;
    eq = memchr(*p, '=', len);
    if (!eq || eq == *p || eq - *p > KEYS_NAME_MAX || len > KEYS_VALUE_MAX) {
        *bad = true;
        return false;
    }
    *eq = 0;
    *name = *p;
    *value = eq + 1;
    *p += len;
    return true;
}

enum key_id keys_find(const char *name)
{
    for (unsigned i = 0; i < KEY_COUNT; i++)
        if (!strcmp(keys[i].name, name))
            return (enum key_id)i;
    return KEY_COUNT;
}

enum key_kind keys_kind(enum key_id id)
{
    return keys[id].kind;
}

const char *keys_name(enum key_id id)
{
    return keys[id].name;
}

bool keys_number(const char *s, uint32_t low, uint32_t high, uint32_t *out)
{
    unsigned long long v;
    char *end;

    if (*s < '0' || *s > '9') /* neither sign nor space */
        return false;
    errno = 0;
    v = strtoull(s, &end, s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 16 : 10);
    if (errno || *end || v < low || v > high)
        return false;
    *out = (uint32_t)v;
    return true;
}

bool keys_list_has(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (!strncmp(p, word, n) && (!p[n] || p[n] == ','))
            return true;
    return false;
}

/* The first word of the list that we know: 0 None, 1 CRC32C; -1 for none of them. */
static int digest_choose(const char *list, uint32_t best)
{
    const char *p = list;

    while (p && *p) {
        size_t n = strcspn(p, ",");

        if (n == 4 && !strncmp(p, "None", 4))
            return 0;
        if (n == 6 && !strncmp(p, "CRC32C", 6) && best >= 1)
            return 1;
        p = p[n] ? p + n + 1 : NULL;
    }
    return -1;
}

static bool boolean(const char *s, uint32_t *out)
{
    *out = !strcmp(s, "Yes");
    return *out || !strcmp(s, "No");
}

static uint32_t lower(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The result for what the other side offers; false: not a value of this key. */
static bool agree(const struct params *p, enum key_id id, const char *value, uint32_t *result)
{
    const struct key *k = &keys[id];
    uint32_t theirs = 0, ours = p->offer[id];
    int digest;

    switch (k->kind) {
    case KEY_NUMBER:
    case KEY_MINIMUM:
    case KEY_MAXIMUM:
        if (!keys_number(value, k->low, k->high, &theirs))
            return false;
        *result = k->kind == KEY_MINIMUM ? lower(theirs, ours) : theirs;
        if (k->kind == KEY_MAXIMUM && ours > theirs)
            *result = ours;
        return true;
    case KEY_AND:
    case KEY_OR:
    case KEY_OBSOLETE:
        if (!boolean(value, &theirs))
            return false;
        *result = k->kind == KEY_OR ? (theirs | ours) : (theirs & ours);
        return true;
    case KEY_DIGEST:
        digest = digest_choose(value, ours);
        *result = (uint32_t)digest;
        return digest >= 0;
    case KEY_TEXT:
        break;
    }
    return false;
}

static void answer_value(struct text *answer, const struct key *k, uint32_t v)
{
    if (k->kind == KEY_DIGEST)
        text_add(answer, k->name, "%s", v ? "CRC32C" : "None");
    else if (k->kind == KEY_AND || k->kind == KEY_OR || k->kind == KEY_OBSOLETE)
        text_add(answer, k->name, "%s", v ? "Yes" : "No");
    else
        text_add(answer, k->name, "%u", v);
}

bool keys_negotiate(struct params *p, enum key_id id, const char *value, unsigned when, struct text *answer)
{
    const struct key *k = &keys[id];
    uint64_t bit = UINT64_C(1) << id;
    uint32_t v = 0;

    if (!(k->when & when) || !(k->by & BY_INITIATOR))
        return false;
    if ((p->seen & bit) && when != IN_FULL_FEATURE)
        return false;
    p->seen |= bit;
    if (!agree(p, id, value, &v)) {
        if (k->kind == KEY_NUMBER)
            return false;
        text_add(answer, k->name, "Reject");
        return true;
    }
    /* What exceeds MaxBurstLength can never be sent; the order of the two keys does not matter to login,
     * which applies the larger rule once more when all keys are in. */
    if (id == KEY_FirstBurstLength && (p->seen & UINT64_C(1) << KEY_MaxBurstLength))
        v = lower(v, p->value[KEY_MaxBurstLength]);
    p->value[id] = v;
    if (k->kind != KEY_NUMBER)
        answer_value(answer, k, v);
    return true;
}
