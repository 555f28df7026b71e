/* journal/store/s3_auth_parse.c - see s3_auth_parse.h. Any thread.
 */
#include "s3_auth_parse.h"

#include "conf.h"
#include "mem.h"
#include "store_xml.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 64 * 1024 };

void s3_auth_key_clear(struct s3_auth_key *k)
{
    free(k->access);
    k->access = NULL;
    secret_free(&k->secret);
    secret_free(&k->token);
}

/* What goes into headers: printable, no blanks. */
static bool plain(const char *s)
{
    if (!s || !*s)
        return false;
    for (; *s; s++)
        if (*s <= ' ' || *s >= 0x7f)
            return false;
    return true;
}

static bool complete(const struct s3_auth_key *k)
{
    return plain(k->access) && strlen(k->access) < 200 && plain(k->secret) && (!k->token || plain(k->token));
}

/* "2026-11-23T20:14:00Z"; 0 if it is none. */
static int64_t until(const char *text)
{
    struct tm tm = {0};
    const char *end = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

    return end ? timegm(&tm) : 0;
}

static int64_t left(const char *expires, int64_t now_s)
{
    int64_t s = until(expires) - (now_s ? now_s : time(NULL));

    return s > 0 ? s : 0;
}

/* --- files --- */

static int read_file(const char *path, char **text, struct why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t have = 0;
    ssize_t n;

    if (fd < 0)
        return why_set(why, -EACCES, "cannot read %s: %s", path, strerror(errno));
    *text = xmalloc(FILE_MAX_BYTES + 1);
    while ((n = read(fd, *text + have, FILE_MAX_BYTES - have)) > 0)
        have += (size_t)n;
    close(fd);
    (*text)[have] = '\0';
    if (n == 0 && have < FILE_MAX_BYTES && strlen(*text) == have)
        return 0;
    secret_free(text);
    return why_set(why, -EACCES, "%s cannot be read or is no text of less than %d bytes", path,
                   FILE_MAX_BYTES);
}

int s3_auth_read_token(const char *path, char **token, struct why *why)
{
    int rc = read_file(path, token, why);

    if (rc != 0)
        return rc;
    (*token)[strcspn(*token, "\r\n")] = '\0';
    if (plain(*token))
        return 0;
    secret_free(token);
    return why_set(why, -EACCES, "%s holds no token", path);
}

static char *trim(char *s)
{
    char *end;

    while (isspace((unsigned char)*s))
        s++;
    for (end = s + strlen(s); end > s && isspace((unsigned char)end[-1]);)
        *--end = '\0';
    return s;
}

static void take_value(struct s3_auth_key *k, const char *name, const char *value)
{
    char **to = strcmp(name, "aws_access_key_id") == 0       ? &k->access
                : strcmp(name, "aws_secret_access_key") == 0 ? &k->secret
                : strcmp(name, "aws_session_token") == 0     ? &k->token
                                                             : NULL;

    if (to && !*to)
        *to = xstrdup(value);
}

static void parse_ini(char *text, const char *profile, struct s3_auth_key *k)
{
    bool ours = false;
    char *line;

    while ((line = strsep(&text, "\n"))) {
        char *s = trim(line), *equals = strchr(s, '=');
        size_t n = strlen(s);

        if (s[0] == '[' && s[n - 1] == ']') {
            s[n - 1] = '\0';
            ours = strcmp(trim(s + 1), profile) == 0;
        } else if (ours && s[0] != '#' && s[0] != ';' && equals) {
            *equals = '\0';
            take_value(k, trim(s), trim(equals + 1));
        }
    }
}

int s3_auth_read_file(const char *path, const char *profile, struct s3_auth_key *k, struct why *why)
{
    char *text = NULL;
    int rc = conf_private(path, why);

    if (rc == 0)
        rc = read_file(path, &text, why);
    if (rc != 0)
        return rc;
    *k = (struct s3_auth_key){.left_s = -1};
    parse_ini(text, profile, k);
    explicit_bzero(text, FILE_MAX_BYTES);
    free(text);
    if (complete(k))
        return 0;
    s3_auth_key_clear(k);
    return why_set(why, -EACCES, "%s has no profile '%s' with aws_access_key_id and aws_secret_access_key",
                   path, profile);
}

/* --- services --- */

static char *member(json_t *root, const char *name)
{
    const char *value = json_string_value(json_object_get(root, name));

    return value ? xstrdup(value) : NULL;
}

int s3_auth_parse_role(const char *text, size_t n, int64_t now_s, struct s3_auth_key *k, struct why *why)
{
    json_t *root = json_loadb(text, n, 0, NULL);
    char *expires = member(root, "Expiration");

    *k = (struct s3_auth_key){.access = member(root, "AccessKeyId"),
                              .secret = member(root, "SecretAccessKey"),
                              .token = member(root, "Token"),
                              .left_s = left(expires, now_s)};
    json_decref(root);
    free(expires);
    if (complete(k))
        return 0;
    s3_auth_key_clear(k);
    return why_set(why, -EACCES,
                   "no credentials for the object store: the instance's metadata has none for its role");
}

struct sts {
    struct s3_auth_key *key;
    int64_t now_s;
};

static void on_sts(void *arg, const char *path, const char *value)
{
    struct sts *s = arg;
    const char *name = strrchr(path, '/');
    char **to = NULL;

    if (!name || !strstr(path, "/Credentials/"))
        return;
    if (strcmp(name, "/Expiration") == 0)
        s->key->left_s = left(value, s->now_s);
    else if (strcmp(name, "/AccessKeyId") == 0)
        to = &s->key->access;
    else if (strcmp(name, "/SecretAccessKey") == 0)
        to = &s->key->secret;
    else if (strcmp(name, "/SessionToken") == 0)
        to = &s->key->token;
    if (to && !*to)
        *to = xstrdup(value);
}

int s3_auth_parse_sts(const char *xml, size_t n, int64_t now_s, struct s3_auth_key *k, struct why *why)
{
    struct sts s = {.key = k, .now_s = now_s};

    *k = (struct s3_auth_key){0};
    if (store_xml_each(xml, n, on_sts, &s) == 0 && complete(k))
        return 0;
    s3_auth_key_clear(k);
    return why_set(why, -EACCES, "no credentials for the object store: STS answered without any");
}

struct refusal {
    char *code;
    size_t max;
};

static void on_refusal(void *arg, const char *path, const char *value)
{
    struct refusal *r = arg;
    size_t n = strlen(path);

    if (n > 5 && strcmp(path + n - 5, "/Code") == 0 && plain(value))
        snprintf(r->code, r->max, "%s", value);
}

void s3_auth_parse_refusal(const char *xml, size_t n, char *code, size_t max)
{
    struct refusal r = {.code = code, .max = max};

    code[0] = '\0';
    store_xml_each(xml, n, on_refusal, &r);
}
