/* journal/store/store_xml.c - see store_xml.h: expat, and a path. Any thread.
 */
#include "store_xml.h"

#include "check.h"
#include "mem.h"

#include <errno.h>
#include <expat.h>
#include <limits.h>
#include <string.h>

struct parse {
    XML_Parser parser;
    void (*element)(void *arg, const char *path, const char *value);
    void *arg;
    char path[STORE_XML_PATH_MAX];
    size_t path_len;
    char value[STORE_XML_VALUE_MAX];
    size_t value_len;
    bool bad;
};

static void give_up(struct parse *p)
{
    p->bad = true;
    XML_StopParser(p->parser, XML_FALSE);
}

static void on_start(void *arg, const char *name, const char **attributes)
{
    struct parse *p = arg;
    size_t n = strlen(name);

    (void)attributes;
    if (p->path_len + n + 2 > sizeof(p->path)) {
        give_up(p);
        return;
    }
    if (p->path_len > 0)
        p->path[p->path_len++] = '/';
    memcpy(p->path + p->path_len, name, n + 1);
    p->path_len += n;
    p->value_len = 0;
}

static void on_text(void *arg, const char *text, int n)
{
    struct parse *p = arg;

    if (p->bad)
        return;
    if ((size_t)n >= sizeof(p->value) - p->value_len) {
        give_up(p);
        return;
    }
    memcpy(p->value + p->value_len, text, (size_t)n);
    p->value_len += (size_t)n;
}

static void on_end(void *arg, const char *name)
{
    static const char blanks[] = " \t\r\n";
    struct parse *p = arg;
    char *value = p->value, *slash;

    (void)name;
    if (p->bad)
        return;
    while (p->value_len > 0 && strchr(blanks, p->value[p->value_len - 1]))
        p->value_len--;
    p->value[p->value_len] = '\0';
    p->element(p->arg, p->path, value + strspn(value, blanks));
    p->value_len = 0;
    slash = strrchr(p->path, '/');
    p->path_len = slash ? (size_t)(slash - p->path) : 0;
    p->path[p->path_len] = '\0';
}

int store_xml_each(const char *text, size_t n,
                   void (*element)(void *arg, const char *path, const char *value), void *arg)
{
    struct parse *p = xcalloc(1, sizeof(*p));
    int rc;

    /* S3 keeps a connection alive with blanks while it is busy. */
    for (; n > 0 && strchr(" \t\r\n", *text); n--)
        text++;
    p->parser = XML_ParserCreate(NULL);
    CHECK(p->parser && n <= INT_MAX);
    p->element = element;
    p->arg = arg;
    XML_SetUserData(p->parser, p);
    XML_SetElementHandler(p->parser, on_start, on_end);
    XML_SetCharacterDataHandler(p->parser, on_text);
    rc = XML_Parse(p->parser, text, (int)n, 1) == XML_STATUS_OK && !p->bad ? 0 : -EBADMSG;
    XML_ParserFree(p->parser);
    free(p);
    return rc;
}

static void on_any(void *arg, const char *path, const char *value)
{
    (void)value;
    if (!strchr(path, '/'))
        strcpy(arg, path);
}

bool store_xml_is(const char *text, size_t n, const char *root)
{
    char found[STORE_XML_PATH_MAX] = "";

    return store_xml_each(text, n, on_any, found) == 0 && strcmp(found, root) == 0;
}

char *store_xml_escape(const char *text)
{
    char *escaped = xmalloc(6 * strlen(text) + 1), *to = escaped;

    for (; *text; text++) {
        switch (*text) {
        case '&':
            to = stpcpy(to, "&amp;");
            break;
        case '<':
            to = stpcpy(to, "&lt;");
            break;
        case '>':
            to = stpcpy(to, "&gt;");
            break;
        case '"':
            to = stpcpy(to, "&quot;");
            break;
        case '\'':
            to = stpcpy(to, "&apos;");
            break;
        default:
            *to++ = *text;
        }
    }
    *to = '\0';
    return escaped;
}
