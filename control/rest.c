/* control/rest.c - who may ask what: routes, the token, start and stop. The answers are in rest_*.c.
 */
#include "rest_impl.h"

#include "check.h"
#include "conf.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

static const char part[] = "rest";

enum { TOKEN_MIN = 16 };

static struct {
    unsigned methods;
    const char *path;
    void (*handler)(struct rest *, struct http_request *);
} const control_routes[] = {
    {HTTP_GET, "/v1/status", rest_status},
    {HTTP_GET, "/v1/vms", rest_vms_list},
    {HTTP_POST, "/v1/vms", rest_vm_create},
    {HTTP_GET, "/v1/vms/*", rest_vm_show},
    {HTTP_DELETE, "/v1/vms/*", rest_vm_delete},
    {HTTP_POST, "/v1/vms/*", rest_vm_verb},
    {HTTP_GET, "/v1/tasks", rest_tasks_list},
    {HTTP_GET, "/v1/tasks/*", rest_task_show},
    {HTTP_DELETE, "/v1/tasks/*", rest_task_cancel},
    {HTTP_POST, "/v1/recover", rest_recover},
    {HTTP_GET, "/v1/pair", rest_pair},
    {HTTP_POST | HTTP_DELETE, "/v1/pair/fail-over", rest_pair_fail_over},
    {HTTP_GET | HTTP_POST, "/v1/pair/force", rest_pair_force},
};

enum { CONTROL_ROUTES = sizeof(control_routes) / sizeof(control_routes[0]) };

/* The gates live as long as the process: a listener may call them until it is stopped. One edge, one set. */
static struct rest_gate gates[CONTROL_ROUTES + 1];

/* In a time that says nothing about the token. */
static bool token_fits(const struct rest *rest, const char *authorization)
{
    char given[REST_TOKEN_MAX] = "";

    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return false;
    authorization += 7;
    while (*authorization == ' ')
        authorization++;
    if (strlen(authorization) >= sizeof(given))
        return false;
    strcpy(given, authorization);
    bool same = CRYPTO_memcmp(given, rest->token, sizeof(given)) == 0;
    OPENSSL_cleanse(given, sizeof(given));
    return same;
}

static void on_request(void *arg, struct http_request *r)
{
    struct rest_gate *gate = arg;

    if (!gate->rest) {
        http_reply_error(r, 503, "the edge is stopping");
        return;
    }
    if (!gate->open && !token_fits(gate->rest, http_header(r, "Authorization"))) {
        log_warn(r->id, "%s is refused %.100s: no or wrong token", r->peer, r->path);
        http_reply_header(r, "WWW-Authenticate", "Bearer");
        http_reply_error(r, 401, "this needs the edge's token: Authorization: Bearer TOKEN");
        return;
    }
    gate->handler(gate->rest, r);
}

static int load_token(struct rest *rest, const char *path, struct why *why)
{
    struct why reason;
    int err = conf_read_secret(path, rest->token, sizeof(rest->token), &reason);

    if (err == -ENOENT)
        return why_set(why, err, "the token file %s does not exist; make it with: isthmusctl token new %s",
                       path, path);
    if (err)
        return why_set(why, err, "%s", reason.text);
    if (strlen(rest->token) < TOKEN_MIN)
        return why_set(why, -EINVAL, "the token in %s is shorter than %d bytes", path, TOKEN_MIN);
    return 0;
}

int rest_start(struct rest **out, struct http *control, struct http *open, const struct rest_conf *conf,
               struct why *why)
{
    struct rest *rest = xcalloc(1, sizeof(*rest));
    int err = load_token(rest, conf->token_file, why);

    CHECK(http_loop(control) == conf->main && http_loop(open) == conf->main);
    CHECK(!gates[0].rest);
    *out = NULL;
    if (err) {
        free(rest);
        return err;
    }
    rest->conf = *conf;
    rest->iqn_prefix = xstrdup(conf->iqn_prefix);
    rest->portal = xstrdup(conf->portal ? conf->portal : "");
    rest->started_ns = loop_now_ns(conf->main);
    for (size_t i = 0; i < CONTROL_ROUTES; i++) {
        gates[i] = (struct rest_gate){.rest = rest, .handler = control_routes[i].handler};
        http_route(control, control_routes[i].methods, control_routes[i].path, on_request, &gates[i]);
    }
    gates[CONTROL_ROUTES] = (struct rest_gate){.rest = rest, .handler = rest_boot, .open = true};
    http_route(open, HTTP_GET, "/boot/*", on_request, &gates[CONTROL_ROUTES]);
    *out = rest;
    return 0;
}

void rest_stop(struct rest **rest)
{
    if (!*rest)
        return;
    for (size_t i = 0; i <= CONTROL_ROUTES; i++)
        gates[i].rest = NULL;
    OPENSSL_cleanse((*rest)->token, sizeof((*rest)->token));
    free((*rest)->iqn_prefix);
    free((*rest)->portal);
    free(*rest);
    *rest = NULL;
}

bool rest_stopped(void)
{
    return !gates[0].rest;
}

void rest_reply(struct http_request *r, int code, json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2));

    CHECK(text);
    http_reply(r, code, "application/json", text, strlen(text));
    free(text);
    json_decref(json);
}
