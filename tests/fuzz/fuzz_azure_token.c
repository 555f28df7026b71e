/* links: store; covers: journal/store/azure_auth_parse */
/* What Azure's metadata service answers, and keys and SAS tokens as people write them: whole, or a sentence.
 */
#include "azure_auth.h"
#include "check.h"
#include "fuzz.h"
#include "mem.h"

#include <string.h>

static void token_is_whole(const char *text, size_t n)
{
    char *token = NULL;
    int64_t left_s = 0;
    struct why why = {""};

    if (azure_auth_parse_token(text, n, &token, &left_s, &why) == 0)
        CHECK(token[0] && left_s > 0);
    else
        CHECK(!token && why.text[0]);
    secret_free(&token);
}

static void sas_is_whole(const char *text)
{
    int64_t left_s = 0;
    struct why why = {""};

    if (azure_auth_parse_sas(text, 1795447231, &left_s, &why))
        CHECK(left_s > 0 || left_s == STORE_GRANT_FOREVER);
    else
        CHECK(why.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    char *text = xmalloc(n + 1); /* the NUL at its end, and nothing behind it that a reader could lean on */
    uint8_t key[AZURE_KEY_MAX];

    memcpy(text, p, n);
    text[n] = '\0';
    token_is_whole(text, n);
    sas_is_whole(text);
    CHECK(azure_key_decode(text, key) <= AZURE_KEY_MAX);
    free(text);
    return 0;
}
