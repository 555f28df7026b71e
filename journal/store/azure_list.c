/* journal/store/azure_list.c - list.
 *
 * Azure cannot begin behind a key. A list with `after` reads from the beginning of the prefix (or from the
 * store's own marker) and passes over what is not greater; our token is "AFTER MARKER", either may be empty.
 * Keys have no blanks. What is no key of ours is passed over.
 */
#include "azure_impl.h"
#include "check.h"
#include "mem.h"
#include "store_xml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ask {
    struct azure_op op; /* first */
    struct store_req *req;
    struct azure_call call;
    char after[STORE_KEY_MAX + 1], *marker; /* marker: of the page that is asked for */
    char *next;                             /* the store's marker of its next page */
    char name[STORE_XML_VALUE_MAX], last[STORE_XML_VALUE_MAX];
    uint64_t size;
    bool full, bad, unordered;
};

static void cancel(struct azure_op *op)
{
    azure_call_cancel(&container_of(op, struct ask, op)->call);
}

static void end(struct ask *a, int status)
{
    struct store_req *r = a->req;

    azure_call_clear(&a->call);
    free(a->marker);
    free(a->next);
    free(a);
    store_finish(r, status);
}

/* The store has to name its blobs in rising order: `after` and the page's end depend on it. */
static void take_entry(struct ask *a)
{
    struct store_req *r = a->req;
    const char *prefix = a->call.azure->prefix, *key = a->name + strlen(prefix);

    if (a->last[0] && strcmp(a->last, a->name) >= 0)
        a->unordered = true;
    strcpy(a->last, a->name);
    if (strncmp(a->name, prefix, strlen(prefix)) != 0 ||
        strncmp(key, r->list.prefix, strlen(r->list.prefix)) != 0) {
        a->bad = true;
        return;
    }
    if (!store_key_ok(key) || strcmp(key, a->after) <= 0 || a->full)
        return;
    if (r->page->count == r->list.limit)
        a->full = true;
    else
        store_page_add(&r->page, key, a->size);
}

static void on_element(void *arg, const char *path, const char *value)
{
    static const char blob[] = "EnumerationResults/Blobs/Blob";
    struct ask *a = arg;

    if (strcmp(path, "EnumerationResults/NextMarker") == 0 && value[0] && !a->next)
        a->next = xstrdup(value);
    if (strncmp(path, blob, sizeof(blob) - 1) != 0)
        return;
    path += sizeof(blob) - 1;
    if (strcmp(path, "/Name") == 0) {
        snprintf(a->name, sizeof(a->name), "%s", value);
        a->size = 0;
    } else if (strcmp(path, "/Properties/Content-Length") == 0) {
        char *rest;

        a->size = strtoull(value, &rest, 10);
        a->bad = a->bad || rest == value || *rest != '\0';
    } else if (path[0] == '\0') {
        take_entry(a);
    }
}

/* Where the next page begins: in the middle of this page of the store's, or with its next one. What it named
 * so far was in rising order: once a key is greater than `after`, all on later pages are. */
static int set_next(struct ask *a)
{
    struct store_page *page = a->req->page;

    if (a->full)
        page->next = xasprintf("%s %s", page->entries[page->count - 1].key, a->marker);
    else if (a->next)
        page->next = xasprintf("%s %s", page->count > 0 ? "" : a->after, a->next);
    return !page->next || strlen(page->next) <= STORE_TOKEN_MAX ? 0 : -EBADMSG;
}

static int take_page(struct ask *a)
{
    const struct store_http_call *h = &a->call.http;
    struct store_req *r = a->req;
    const char *name = a->call.azure->store.name;

    if (h->status != 0 || h->code != 200)
        return azure_failure(r, &a->call);
    r->clock_s = store_http_date_s(h);
    r->page = store_page_new(r->list.limit);
    if (!store_xml_is(h->text, h->text_len, "EnumerationResults") ||
        store_xml_each(h->text, h->text_len, on_element, a) != 0 || a->bad || set_next(a) != 0)
        return why_set(&r->why, -EBADMSG, "%s lists its blobs in a way that cannot be understood", name);
    if (a->unordered)
        return why_set(
            &r->why, -EOPNOTSUPP,
            "%s does not list its blobs in rising order, as accounts with a hierarchical namespace "
            "do: use an account without one",
            name);
    return 0;
}

static void on_list(struct azure_call *c)
{
    struct ask *a = container_of(c, struct ask, call);

    end(a, take_page(a));
}

void azure_list_start(struct azure *azure, struct store_req *r)
{
    const char *from = r->list.token ? r->list.token : r->list.after ? r->list.after : "";
    size_t n = strcspn(from, " ");
    struct ask *a = xcalloc(1, sizeof(*a));

    a->op.cancel = cancel;
    a->req = r;
    r->backend = &a->op;
    snprintf(a->after, sizeof(a->after), "%.*s", (int)n, from);
    a->marker = xstrdup(from[n] ? from + n + 1 : "");
    a->call.azure = azure;
    a->call.done = on_list;
    a->call.http.method = "GET";
    a->call.http.text_max = AZURE_TEXT_MAX;
    azure_call_query(&a->call, "comp", "list");
    azure_call_query(&a->call, "maxresults", "%zu", a->after[0] ? (size_t)STORE_LIST_MAX : r->list.limit);
    azure_call_query(&a->call, "prefix", "%s%s", azure->prefix, r->list.prefix);
    azure_call_query(&a->call, "restype", "container");
    if (a->marker[0])
        azure_call_query(&a->call, "marker", "%s", a->marker);
    azure_call_start(&a->call);
}
