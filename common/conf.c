/* common/conf.c - see conf.h.
 *
 * The file is read whole (bounded) and handed to libconfuse as text, so that a directory, a device or a NUL
 * in it is a sentence and not the lexer's exit(). libconfuse's error callback gets no pointer of ours: while
 * a file is parsed, `parsing` says where the first sentence goes. Deliberately no include files.
 */
#include "conf.h"

#include "log.h"
#include "mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Put after the text, in a table with this key more: libconfuse takes the end of the file for the end of an
 * open section or comment, and this key is then unknown or missing. */
#define END_KEY "__end_of_file"

static struct {
    const char *path;
    struct why *why;
    bool failed;
} parsing;

/* libconfuse calls this for its own complaints and for cfg_error() of the checks below. The first one counts:
 * the others follow from it. */
__attribute__((format(printf, 2, 0))) static void on_error(cfg_t *cfg, const char *format, va_list args)
{
    char text[300];

    if (parsing.failed)
        return;
    parsing.failed = true;
    vsnprintf(text, sizeof(text), format, args);
    if (strstr(text, "'" END_KEY "'"))
        snprintf(text, sizeof(text), "a section, a list or a comment is not closed");
    why_set(parsing.why, 0, "%s:%d: %s", parsing.path, cfg && cfg->line > 0 ? cfg->line : 1, text);
}

static int read_text(const char *path, char **text, struct why *why)
{
    struct stat st;
    size_t have = 0;
    int err = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    *text = NULL;
    if (fd < 0 || fstat(fd, &st) != 0) {
        err = why_set(why, -errno, "cannot read the configuration %s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err = why_set(why, -EINVAL, "cannot read the configuration %s: it is not a regular file", path);
        goto out;
    }
    *text = xmalloc(CONF_FILE_MAX + 64);
    while (have <= CONF_FILE_MAX) {
        ssize_t n = read(fd, *text + have, CONF_FILE_MAX + 1 - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = why_set(why, -errno, "cannot read the configuration %s: %s", path, strerror(errno));
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    if (!err && have > CONF_FILE_MAX)
        err = why_set(why, -EFBIG, "the configuration %s is larger than %d bytes", path, CONF_FILE_MAX);
    else if (!err && memchr(*text, 0, have))
        err = why_set(why, -EINVAL, "the configuration %s is not text: it holds a zero byte", path);
    strcpy(*text + (have <= CONF_FILE_MAX ? have : 0), "\n" END_KEY " = 1\n");
out:
    if (fd >= 0)
        close(fd);
    return err;
}

/* Required keys of this section and of those in it. */
static int check_required(cfg_t *cfg)
{
    for (unsigned i = 0; i < cfg_num(cfg); i++) {
        cfg_opt_t *opt = cfg_getnopt(cfg, i);

        if (opt->type == CFGT_SEC) {
            for (unsigned j = 0; j < cfg_opt_size(opt); j++)
                if (check_required(cfg_opt_getnsec(opt, j)) != 0)
                    return -1;
        } else if ((opt->flags & CFGF_NODEFAULT) && cfg_opt_size(opt) == 0) {
            const char *title = cfg_title(cfg);
            if (strcmp(opt->name, END_KEY) == 0)
                cfg_error(cfg, "a comment is not closed");
            else if (title)
                cfg_error(cfg, "%s \"%s\" needs the key '%s'", cfg_name(cfg), title, opt->name);
            else
                cfg_error(cfg, "the key '%s' is missing", opt->name);
            return -1;
        }
    }
    return 0;
}

/* Makes spaces of comments, because libconfuse counts the line of a '#' comment twice. Quoted strings are
 * left alone. An open comment is left to libconfuse, which swallows END_KEY with it. */
static void blank_comments(char *p)
{
    char before = '\n', quote = 0;

    for (; *p; before = *p++) {
        if (quote) {
            if (*p == '\\' && p[1])
                p++;
            else if (*p == quote)
                quote = 0;
            continue;
        }
        if (*p == '"' || *p == '\'') {
            quote = *p;
            continue;
        }
        if (!strchr(" \t\r\n{}=,;\"'", before))
            continue;
        if (*p == '#' || (p[0] == '/' && p[1] == '/')) {
            for (; *p && *p != '\n'; p++)
                *p = ' ';
            p--;
        } else if (p[0] == '/' && p[1] == '*') {
            const char *end = strstr(p + 2, "*/");
            for (; end && p < end + 2; p++)
                if (*p != '\n')
                    *p = ' ';
            if (end)
                p--;
        }
    }
}

static cfg_t *init_with_end(cfg_opt_t *options)
{
    static const cfg_opt_t end[] = {CFG_INT(END_KEY, 0, CFGF_NODEFAULT), CFG_END()};
    size_t n = 0;

    while (options[n].name)
        n++;
    CLEANUP_FREE cfg_opt_t *all = xcalloc(n + 2, sizeof(*all));
    memcpy(all, options, n * sizeof(*all));
    memcpy(all + n, end, sizeof(end));
    return cfg_init(all, CFGF_NONE);
}

int conf_load(cfg_t **out, const char *path, cfg_opt_t *options, struct why *why)
{
    CLEANUP_FREE char *text = NULL;
    struct why ignored;
    int err = read_text(path, &text, why);

    *out = NULL;
    if (err)
        return err;
    blank_comments(text);
    parsing.path = path;
    parsing.why = why ? why : &ignored;
    parsing.failed = false;
    cfg_t *cfg = init_with_end(options);
    if (!cfg)
        return why_set(why, -ENOMEM, "cannot read the configuration %s: no memory", path);
    cfg_set_error_function(cfg, on_error);
    if (cfg_parse_buf(cfg, text) != CFG_SUCCESS || check_required(cfg) != 0) {
        cfg_error(cfg, "this is not understood"); /* unless something better was said */
        cfg_free(cfg);
        return -EINVAL;
    }
    cfg_set_error_function(cfg, NULL);
    free(cfg->filename);
    cfg->filename = xstrdup(path);
    for (unsigned i = 0; i < cfg_num(cfg); i++) { /* for conf_refuse: each section knows its file */
        cfg_opt_t *opt = cfg_getnopt(cfg, i);
        for (unsigned j = 0; opt->type == CFGT_SEC && j < cfg_opt_size(opt); j++) {
            cfg_t *sec = cfg_opt_getnsec(opt, j);
            free(sec->filename);
            sec->filename = xstrdup(path);
        }
    }
    *out = cfg;
    return 0;
}

void conf_free(cfg_t **cfg)
{
    if (*cfg)
        cfg_free(*cfg);
    *cfg = NULL;
}

int conf_refuse(cfg_t *section, struct why *why, const char *format, ...)
{
    char text[300];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return why_set(why, -EINVAL, "%s:%d: %s", section->filename ? section->filename : "configuration",
                   section->line > 0 ? section->line : 1, text);
}

static const char *newest(cfg_opt_t *opt)
{
    const char *text = cfg_opt_getnstr(opt, cfg_opt_size(opt) - 1);
    return text ? text : "";
}

int conf_valid_size(cfg_t *cfg, cfg_opt_t *opt)
{
    uint64_t bytes;

    if (conf_parse_size(newest(opt), &bytes))
        return 0;
    cfg_error(cfg, "'%s' is a size such as \"512M\" or \"8G\", not \"%.60s\"", opt->name, newest(opt));
    return -1;
}

int conf_valid_duration(cfg_t *cfg, cfg_opt_t *opt)
{
    uint64_t ns;

    if (conf_parse_duration(newest(opt), &ns))
        return 0;
    cfg_error(cfg, "'%s' is a duration such as \"50ms\" or \"10s\", not \"%.60s\"", opt->name, newest(opt));
    return -1;
}

int conf_valid_address(cfg_t *cfg, cfg_opt_t *opt)
{
    char host[CONF_HOST_MAX + 1];
    uint16_t port;

    if (conf_address(newest(opt), host, &port))
        return 0;
    cfg_error(cfg, "'%s' is an address HOST:PORT or [IPV6]:PORT, not \"%.60s\"", opt->name, newest(opt));
    return -1;
}

int conf_valid_portal(cfg_t *cfg, cfg_opt_t *opt)
{
    char address[CONF_ADDRESS_MAX + 1];
    uint16_t tag;

    if (conf_portal(newest(opt), address, &tag))
        return 0;
    cfg_error(cfg,
              "'%s' is an address HOST:PORT or [IPV6]:PORT, with ,1 to ,65535 for its group, not \"%.60s\"",
              opt->name, newest(opt));
    return -1;
}

int conf_valid_log_level(cfg_t *cfg, cfg_opt_t *opt)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(newest(opt), names[i]) == 0)
            return 0;
    cfg_error(cfg, "'%s' is error, warn, info or debug, not \"%.60s\"", opt->name, newest(opt));
    return -1;
}

int conf_valid_count(cfg_t *cfg, cfg_opt_t *opt)
{
    long n = cfg_opt_getnint(opt, cfg_opt_size(opt) - 1);

    if (n >= 0 && n <= 65535)
        return 0;
    cfg_error(cfg, "'%s' is a number from 0 to 65535, not %ld", opt->name, n);
    return -1;
}

int conf_valid_title(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *title = cfg_title(cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1));

    if (title && conf_name_ok(title))
        return 0;
    cfg_error(cfg, "a name of %s is letters, digits, '.', '_' and '-' (at most %d), not \"%.80s\"", opt->name,
              CONF_NAME_MAX, title ? title : "");
    return -1;
}

uint64_t conf_bytes(cfg_t *cfg, const char *key)
{
    const char *text = cfg_getstr(cfg, key);
    uint64_t bytes = 0;

    if (text)
        conf_parse_size(text, &bytes);
    return bytes;
}

uint64_t conf_ns(cfg_t *cfg, const char *key)
{
    const char *text = cfg_getstr(cfg, key);
    uint64_t ns = 0;

    if (text)
        conf_parse_duration(text, &ns);
    return ns;
}

/* Decimal digits; *end is where they stop. */
static bool parse_number(const char *text, const char **end, uint64_t *n)
{
    *n = 0;
    for (*end = text; isdigit((unsigned char)**end); (*end)++)
        if (__builtin_mul_overflow(*n, 10u, n) || __builtin_add_overflow(*n, (uint64_t)(**end - '0'), n))
            return false;
    return *end != text;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static bool parse_unit(const char *text, const struct unit *units, uint64_t *value)
{
    const char *end;

    if (!parse_number(text, &end, value))
        return false;
    for (; units->name; units++)
        if (strcmp(end, units->name) == 0)
            return !__builtin_mul_overflow(*value, units->factor, value) && *value <= INT64_MAX;
    return false;
}

bool conf_parse_size(const char *text, uint64_t *bytes)
{
    static const struct unit units[] = {
        {"", 1},           {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30},
        {"T", 1ull << 40}, {"k", 1ull << 10}, {NULL, 0},
    };

    return parse_unit(text, units, bytes);
}

bool conf_parse_duration(const char *text, uint64_t *ns)
{
    static const struct unit units[] = {
        {"ns", 1},         {"us", 1000},        {"ms", 1000000},
        {"s", 1000000000}, {"m", 60000000000u}, {"h", 3600000000000ull},
        {NULL, 0},
    };

    return parse_unit(text, units, ns);
}

bool conf_address(const char *text, char host[CONF_HOST_MAX + 1], uint16_t *port)
{
    const char *colon = strrchr(text, ':'), *from = text, *end;
    size_t len;
    uint64_t n;

    if (!colon || !parse_number(colon + 1, &end, &n) || *end || n > 65535)
        return false;
    len = (size_t)(colon - text);
    if (*text == '[') {
        if (len < 3 || colon[-1] != ']')
            return false;
        from++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return false;
    }
    if (len == 0 || len > CONF_HOST_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)from[i]) && !strchr(".-:%_", from[i]))
            return false;
    memcpy(host, from, len);
    host[len] = '\0';
    *port = (uint16_t)n;
    return true;
}

bool conf_portal(const char *text, char address[CONF_ADDRESS_MAX + 1], uint16_t *tag)
{
    const char *comma = strchr(text, ','), *end;
    size_t len = comma ? (size_t)(comma - text) : strlen(text);
    char host[CONF_HOST_MAX + 1];
    uint64_t n = 0;
    uint16_t port;

    if (len > CONF_ADDRESS_MAX)
        return false;
    if (comma && (!parse_number(comma + 1, &end, &n) || *end || n == 0 || n > UINT16_MAX))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    *tag = (uint16_t)n;
    return conf_address(address, host, &port);
}

int conf_sockaddr(const char *text, struct sockaddr_storage *address, socklen_t *len, struct why *why)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    char host[CONF_HOST_MAX + 1], service[8];
    uint16_t port;

    if (!conf_address(text, host, &port))
        return why_set(why, -EINVAL, "\"%.100s\" is not an address ADDRESS:PORT or [IPV6]:PORT", text);
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return why_set(why, -EINVAL, "\"%.100s\" is not a numeric address such as 127.0.0.1:%u", text, port);
    memset(address, 0, sizeof(*address));
    memcpy(address, found->ai_addr, found->ai_addrlen);
    *len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

bool conf_name_ok(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > CONF_NAME_MAX || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= 'A' && name[i] <= 'Z') &&
            !(name[i] >= '0' && name[i] <= '9') && !strchr("._-", name[i]))
            return false;
    return true;
}

static int check_private(int fd, const char *path, struct why *why)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return why_set(why, -errno, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return why_set(why, -EINVAL, "%s is not a regular file", path);
    if (st.st_mode & 077)
        return why_set(why, -EACCES, "%s holds a secret and others may read it; run: chmod 600 %s", path,
                       path);
    return 0;
}

int conf_private(const char *path, struct why *why)
{
    int err, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return why_set(why, -errno, "cannot read %s: %s", path, strerror(errno));
    err = check_private(fd, path, why);
    close(fd);
    return err;
}

int conf_read_secret(const char *path, char *text, size_t max, struct why *why)
{
    int err, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = 0;

    if (fd < 0)
        return why_set(why, -errno, "cannot read %s: %s", path, strerror(errno));
    err = check_private(fd, path, why);
    if (!err && (n = read(fd, text, max)) < 0)
        err = why_set(why, -errno, "cannot read %s: %s", path, strerror(errno));
    close(fd);
    if (err)
        return err;
    size_t len = 0;
    while (len < (size_t)n && text[len] != '\n' && text[len] != '\0')
        len++;
    if (len == max)
        return why_set(why, -EINVAL, "the secret in %s is longer than %zu bytes", path, max - 1);
    if (len > 0 && text[len - 1] == '\r')
        len--;
    memset(text + len, 0, max - len);
    if (len == 0)
        return why_set(why, -EINVAL, "%s is empty: it should hold a secret on its first line", path);
    return 0;
}
