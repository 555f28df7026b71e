/* common/conf.h - configuration files: libconfuse's grammar, our value types, one sentence per mistake.
 *
 * A daemon describes its file with a table of cfg_opt_t (CFG_INT, CFG_STR, CFG_STR_LIST, CFG_BOOL, CFG_SEC of
 * libconfuse, and the CONF_ types below, which are strings whose form is checked while parsing). Every
 * mistake
 * - unknown key, wrong type, bad value, missing key - is one sentence "file:line: ...". Values are read with
 * libconfuse's cfg_get*() and, for the checked types, with conf_bytes(), conf_ns(), conf_address().
 *
 *     cfg_opt_t link_opts[] = {CONF_ADDRESS("listen", "0.0.0.0:7260"), CFG_STR("ca", "", CFGF_NONE),
 * CFG_END()}; cfg_opt_t opts[] = {CONF_REQUIRED("data"), CFG_SEC("link", link_opts, CFGF_NONE), CFG_END()};
 *     cfg_t *cfg;
 *     int err = conf_load(&cfg, "/etc/isthmus/edge.conf", opts, why);
 *     ... cfg_getstr(cfg, "link|listen") ...
 *
 * At start-up, on one thread (libconfuse's lexer is not reentrant).
 */
#ifndef ISTHMUS_CONF_H
#define ISTHMUS_CONF_H

#include "why.h"

#include <confuse.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONF_FILE_MAX = 1024 * 1024, CONF_HOST_MAX = 255, CONF_NAME_MAX = 63 };
enum { CONF_ADDRESS_MAX = CONF_HOST_MAX + 8 }; /* with brackets and port */

int conf_valid_size(cfg_t *, cfg_opt_t *);
int conf_valid_duration(cfg_t *, cfg_opt_t *);
int conf_valid_address(cfg_t *, cfg_opt_t *);
int conf_valid_portal(cfg_t *, cfg_opt_t *);
int conf_valid_log_level(cfg_t *, cfg_opt_t *);
int conf_valid_count(cfg_t *, cfg_opt_t *);
int conf_valid_title(cfg_t *, cfg_opt_t *);

#define CONF_STRING_(key, value, more, valid)                                                                \
    {                                                                                                        \
        .name = (key), .type = CFGT_STR, .flags = (more), .def = {.string = (value)}, .validcb = (valid)     \
    }
/* A string that must be there. */
#define CONF_REQUIRED(key) CONF_STRING_(key, NULL, CFGF_NODEFAULT, NULL)
/* "8G", "512M", "64K" (powers of 1024) or plain bytes. */
#define CONF_SIZE(key, value) CONF_STRING_(key, value, CFGF_NONE, conf_valid_size)
/* "50ms", "10s", "5m", "2h", "100us". */
#define CONF_DURATION(key, value) CONF_STRING_(key, value, CFGF_NONE, conf_valid_duration)
/* "HOST:PORT" or "[v6]:PORT"; "" stands for none and is only allowed as the default. */
#define CONF_ADDRESS(key, value)   CONF_STRING_(key, value, CFGF_NONE, conf_valid_address)
#define CONF_ADDRESS_REQUIRED(key) CONF_STRING_(key, NULL, CFGF_NODEFAULT, conf_valid_address)
/* One or several: listen = {"0.0.0.0:3260", "[::]:3260,2"}; value as in a file: "{0.0.0.0:3260}". */
#define CONF_PORTALS(key, value)                                                                             \
    {                                                                                                        \
        .name = (key), .type = CFGT_STR, .flags = CFGF_LIST, .def = {.parsed = (value)},                     \
        .validcb = conf_valid_portal                                                                         \
    }
#define CONF_LOG_LEVEL(key, value) CONF_STRING_(key, value, CFGF_NONE, conf_valid_log_level)
/* A whole number from 0 to 65535. */
#define CONF_COUNT(key, value)                                                                               \
    {                                                                                                        \
        .name = (key), .type = CFGT_INT, .def = {.number = (value)}, .validcb = conf_valid_count             \
    }
/* name "title" { ... }, any number of them, titles unique and good as names (conf_name_ok). */
#define CONF_NAMED_SECTION(key, options)                                                                     \
    {                                                                                                        \
        .name = (key), .type = CFGT_SEC, .flags = CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES,             \
        .subopts = (options), .validcb = conf_valid_title                                                    \
    }

/* 0 or -errno with why. Values not in the file have their defaults; required ones are there. */
int conf_load(cfg_t **, const char *path, cfg_opt_t *options, struct why *);
void conf_free(cfg_t **);
/* A mistake found after parsing: "file:line: sentence", line being that of the section's end. Returns
 * -EINVAL. */
int conf_refuse(cfg_t *section, struct why *, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Values of CONF_SIZE and CONF_DURATION; key as for cfg_getstr ("cache|ram"). */
uint64_t conf_bytes(cfg_t *, const char *key);
uint64_t conf_ns(cfg_t *, const char *key);

/* The same forms from elsewhere (command lines, REST). false: not of that form, or out of range. */
bool conf_parse_size(const char *text, uint64_t *bytes);
bool conf_parse_duration(const char *text, uint64_t *ns);
/* Splits "HOST:PORT" or "[v6]:PORT". host: without brackets. */
bool conf_address(const char *text, char host[CONF_HOST_MAX + 1], uint16_t *port);
/* Splits "ADDRESS[,TAG]", a portal and its group, in the words of SendTargets. address: as conf_address()
 * takes it. tag: 1 to 65535, or 0 when none is said. */
bool conf_portal(const char *text, char address[CONF_ADDRESS_MAX + 1], uint16_t *tag);
/* A numeric address to bind to or dial without a name service. 0 or -EINVAL with why. */
int conf_sockaddr(const char *text, struct sockaddr_storage *, socklen_t *len, struct why *);
/* Letters, digits, '.', '_' and '-', not first '.' or '-', 1 to CONF_NAME_MAX: names of VMs, disks, daemons.
 */
bool conf_name_ok(const char *);

/* 0 if nobody but the owner may read the file; -EACCES with why (what to run) or the errno of looking. */
int conf_private(const char *path, struct why *);
/* The first line of a private file without its newline; at most max bytes with the NUL. 0 or -errno with why.
 */
int conf_read_secret(const char *path, char *text, size_t max, struct why *);

#endif
