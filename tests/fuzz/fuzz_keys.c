/* links: target; covers: target/keys target/chap */
/* Text keys: cut into pairs in place, negotiated in every stage, with an answer buffer of any size; and the
 * encodings of CHAP.
 */
#include "chap.h"
#include "check.h"
#include "fuzz.h"
#include "keys.h"
#include "mem.h"

#include <string.h>

static void value_used_elsewhere(const char *value)
{
    uint8_t out[CHAP_DIGEST_MAX];
    uint32_t number;
    int n = chap_decode(value, out, sizeof out);

    CHECK(n <= (int)sizeof out);
    if (n > 0) { /* written as hex it is the same */
        uint8_t again[CHAP_DIGEST_MAX];
        char hex[2 * CHAP_DIGEST_MAX + 3];

        chap_encode(out, (size_t)n, hex);
        CHECK(chap_decode(hex, again, sizeof again) == n && !memcmp(out, again, (size_t)n));
    }
    CHECK(!chap_choose(value) || chap_digest_bytes(chap_choose(value)));
    CHECK(!keys_number(value, 7, 9, &number) || (number >= 7 && number <= 9));
    (void)keys_list_has(value, "None");
}

static void in_range(const struct params *p)
{
    uint32_t segment = p->value[KEY_MaxRecvDataSegmentLength], burst = p->value[KEY_MaxBurstLength];

    CHECK(segment >= 512 && segment <= KEYS_LENGTH_MAX && burst >= 512 && burst <= 1 << 20);
    CHECK(p->value[KEY_FirstBurstLength] >= 512 && p->value[KEY_FirstBurstLength] <= 65536);
    CHECK(p->value[KEY_MaxOutstandingR2T] >= 1 && p->value[KEY_MaxOutstandingR2T] <= 8);
    CHECK(p->value[KEY_MaxConnections] == 1 && p->value[KEY_ErrorRecoveryLevel] == 0);
    CHECK(p->value[KEY_HeaderDigest] <= 1 && p->value[KEY_DataDigest] <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const unsigned stages[] = {IN_SECURITY, IN_OPERATIONAL, IN_FULL_FEATURE, IN_OPERATIONAL};
    const char *name, *value;
    struct params params;
    struct text answer = {0};
    char *text, *at;
    bool bad = false;
    unsigned when;

    if (n < 2)
        return 0;
    when = stages[p[0] & 3];
    answer.cap = p[1] * 16u + 1;
    answer.bytes = xmalloc(answer.cap);
    n -= 2;
    text = at = xmalloc(n + 1);
    memcpy(text, p + 2, n);
    text[n] = 0;
    params_init(&params, 65536, 1 << 20);
    while (keys_next(&at, text + n, &name, &value, &bad)) {
        enum key_id id = keys_find(name);

        CHECK(strlen(name) <= KEYS_NAME_MAX && strlen(value) <= KEYS_VALUE_MAX);
        value_used_elsewhere(value);
        if (id == KEY_COUNT)
            text_add(&answer, name, "NotUnderstood");
        else if (keys_kind(id) != KEY_TEXT && !keys_negotiate(&params, id, value, when, &answer))
            break;
        in_range(&params);
    }
    CHECK(answer.len <= answer.cap && (!answer.len || !answer.bytes[answer.len - 1]));
    free(answer.bytes);
    free(text);
    return 0;
}
