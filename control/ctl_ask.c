/* control/ctl_ask.c - one request to the edge's REST API, with libcurl.
 *
 * The token never leaves the machine in the clear: over http:// only a loopback address is spoken to.
 */
#include "ctl.h"

#include "conf.h"
#include "mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

enum { ANSWER_MAX = 64 * 1024 * 1024, TOKEN_MAX = 256, TIMEOUT_S = 120 };

struct answer {
    char *text;
    size_t n;
};

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;

    n *= size;
    if (a->n + n > ANSWER_MAX)
        return 0;
    a->text = xrealloc(a->text, a->n + n + 1);
    memcpy(a->text + a->n, bytes, n);
    a->n += n;
    a->text[a->n] = '\0';
    return n;
}

static int check_server(const char *server, struct why *why)
{
    CURLU *url = curl_url();
    char *scheme = NULL, *host = NULL;
    int err = 0;

    if (curl_url_set(url, CURLUPART_URL, server, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
        (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        err = why_set(why, -EINVAL, "\"%.200s\" is not the address of a server, such as https://edge:7261",
                      server);
    else if (strcmp(scheme, "http") == 0 && strncmp(host, "127.", 4) != 0 && strcmp(host, "localhost") != 0 &&
             strcmp(host, "[::1]") != 0)
        err = why_set(why, -EINVAL, "the token is not sent to %s without TLS: use https://", host);
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(url);
    return err;
}

/* The answer's JSON, or the sentence of a refusal. */
static int judge(const struct ctl *ctl, long code, const struct answer *a, json_t **out, struct why *why)
{
    json_error_t error;
    json_t *json = a->text ? json_loadb(a->text, a->n, 0, &error) : NULL;
    const char *sentence = json_string_value(json_object_get(json, "error"));

    *out = NULL;
    if (code >= 200 && code < 300 && json) {
        *out = json;
        return 0;
    }
    if (sentence)
        why_set(why, 0, "%s", sentence);
    else
        why_set(why, 0, "%s answered %ld, which is not the answer of an edge", ctl->server, code);
    json_decref(json);
    return -EPROTO;
}

int ctl_ask(const struct ctl *ctl, const char *method, const char *path, json_t *body, json_t **answer,
            struct why *why)
{
    char token[TOKEN_MAX], problem[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    struct answer got = {NULL, 0};
    long code = 0;
    int err = check_server(ctl->server, why);

    if (!err)
        err = conf_read_secret(ctl->token_file, token, sizeof(token), why);
    if (err)
        return err;
    size_t n = strlen(ctl->server);
    while (n > 0 && ctl->server[n - 1] == '/')
        n--;
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    char *header = xasprintf("Authorization: Bearer %s", token);
    CLEANUP_FREE char *url = xasprintf("%.*s%s", (int)n, ctl->server, path);
    CURL *curl = curl_easy_init();

    headers = curl_slist_append(headers, header);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &got);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    if (text)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
    if (ctl->cacert)
        curl_easy_setopt(curl, CURLOPT_CAINFO, ctl->cacert);
    CURLcode rc = curl_easy_perform(curl);
    if (rc != CURLE_OK)
        err = why_set(why, -EIO, "cannot reach %s: %s", ctl->server,
                      *problem ? problem : curl_easy_strerror(rc));
    else
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    explicit_bzero(token, sizeof(token));
    secret_free(&header);
    secret_free(&text);
    if (!err)
        err = judge(ctl, code, &got, answer, why);
    free(got.text);
    return err;
}
