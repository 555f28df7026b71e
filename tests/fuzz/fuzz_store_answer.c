/* links: store; covers: journal/store/store_xml journal/store/s3_error journal/store/s3_auth_parse */
/* What an object store, STS or the instance's metadata may answer: any text is a status and a sentence.
 */
#include "check.h"
#include "fuzz.h"
#include "mem.h"
#include "s3_auth_parse.h"
#include "s3_impl.h"
#include "store_xml.h"

#include <string.h>

static void on_element(void *arg, const char *path, const char *value)
{
    size_t *elements = arg;

    CHECK(strlen(path) > 0 && strlen(path) < STORE_XML_PATH_MAX && strlen(value) < STORE_XML_VALUE_MAX);
    (*elements)++;
}

/* The sentence has no line's end and does not stop in the middle of nothing. */
static void failure(int code, char *text, size_t n)
{
    static struct s3 s3 = {.store.name = (char *)"s3://bucket",
                           .bucket = (char *)"bucket",
                           .host = (char *)"host",
                           .region = (char *)"region"};
    struct s3_call c = {.s3 = &s3, .used = (char *)"AK"};
    struct store_req r = {.op = STORE_PUT, .key = "k", .put.condition = STORE_IF_ABSENT};
    char code_text[64];

    c.http.code = code;
    c.http.text = text;
    c.http.text_len = n;
    CHECK(s3_failure(&r, &c) < 0 && r.why.text[0] && !strpbrk(r.why.text, "\r\n"));
    s3_error_code(&c.http, code_text);
    CHECK(strlen(code_text) < sizeof(code_text));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const int codes[] = {200, 301, 400, 401, 403, 404, 409, 412, 416, 429, 500, 501, 503, 507, 599};
    struct s3_auth_key key;
    char *text, code[100];
    size_t elements = 0;
    struct why why;
    int status;

    if (n == 0)
        return 0;
    status = codes[p[0] % (sizeof(codes) / sizeof(codes[0]))];
    text = xmalloc(n);
    memcpy(text, p + 1, n - 1);
    text[n - 1] = '\0';
    store_xml_each(text, n - 1, on_element, &elements);
    CHECK(elements <= n);
    failure(status, text, n - 1);
    if (s3_auth_parse_role(text, n - 1, 1, &key, &why) == 0)
        s3_auth_key_clear(&key);
    if (s3_auth_parse_sts(text, n - 1, 1, &key, &why) == 0)
        s3_auth_key_clear(&key);
    s3_auth_parse_refusal(text, n - 1, code, sizeof(code));
    free(text);
    return 0;
}
