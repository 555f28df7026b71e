/* journal/store/store_fail.c - a store that fails some requests in ways that real ones do: for tests and
 * demonstrations. store_wrap.h has the options.
 *
 * Loop thread. The control file is looked at for each request: this is not for speed.
 */
#include "check.h"
#include "conf.h"
#include "mem.h"
#include "store_backend.h"
#include "wrap_impl.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum how { HOW_ERROR, HOW_LOST, HOW_LATE, HOW_HALF, HOW_FLIP, HOW_ETAG, HOWS };

static const char *const how_names[HOWS] = {"error", "lost", "late", "half", "flip", "etag"};

static const struct {
    const char *name;
    int number;
} errors[] = {{"EIO", EIO},       {"EAGAIN", EAGAIN}, {"ENOTCONN", ENOTCONN}, {"ETIMEDOUT", ETIMEDOUT},
              {"EACCES", EACCES}, {"ENOSPC", ENOSPC}, {"ENOENT", ENOENT},     {"EBADMSG", EBADMSG}};

struct options {
    double p;
    unsigned long every; /* 0: by p */
    uint64_t seed;
    int op; /* -1: all */
    char *key, *file;
    enum how how;
    int status;
    uint64_t after_ms;
};

struct fail {
    struct store store; /* first */
    struct store *inner;
    struct options o;
    unsigned long count;
    uint64_t random;
};

struct failing {
    struct store_req *req;
    struct store_req inner;
    struct timer timer;
    bool hit, below;
    int status; /* HOW_LATE: to be answered */
};

static struct fail *of(struct store *s)
{
    return container_of(s, struct fail, store);
}

/* --- which --- */

static double draw(struct fail *f)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return (double)(f->random >> 11) / (double)(1ull << 53);
}

static bool key_fits(const struct options *o, const struct store_req *r)
{
    if (!o->key)
        return true;
    if (r->op == STORE_LIST)
        return strstr(r->list.prefix, o->key);
    if (r->op != STORE_DELETE)
        return strstr(r->key, o->key);
    for (size_t i = 0; i < r->del.nkeys; i++)
        if (strstr(r->del.keys[i], o->key))
            return true;
    return false;
}

static bool hit(struct fail *f, const struct store_req *r)
{
    const struct options *o = &f->o;

    if ((o->op >= 0 && o->op != (int)r->op) || !key_fits(o, r) || (o->file && access(o->file, F_OK) != 0))
        return false;
    return o->every ? ++f->count % o->every == 0 : draw(f) < o->p;
}

/* --- how --- */

static void end(struct failing *g, int status)
{
    struct store_req *r = g->req;

    timer_free(&g->timer);
    free(g);
    store_finish(r, status);
}

static void end_with_error(struct failing *g, const char *what)
{
    struct store_req *r = g->req;

    store_page_free(&r->page);
    r->etag[0] = '\0';
    why_set(&r->why, 0, "%s: %s of %s was told to fail%s", r->store->name, store_op_name(r->op),
            r->key ? r->key : "objects", what);
    end(g, of(r->store)->o.status);
}

static void on_timer(struct timer *t)
{
    struct failing *g = container_of(t, struct failing, timer);

    end(g, g->status);
}

static void on_answer(struct store_req *inner)
{
    struct failing *g = container_of(inner, struct failing, inner);
    struct fail *f = of(g->req->store);
    struct store_req *r = g->req;
    enum how how = g->hit && inner->status == 0 ? f->o.how : HOW_ERROR;

    store_answer_move(r, inner);
    g->below = false;
    switch (how) {
    case HOW_LOST:
        end_with_error(g, " after it was done");
        return;
    case HOW_LATE:
        g->status = inner->status;
        timer_set_ms(&g->timer, f->o.after_ms);
        return;
    case HOW_HALF:
        memset((uint8_t *)r->get.buf + r->len / 2, 0, r->len - r->len / 2);
        r->len /= 2;
        end_with_error(g, " half-way");
        return;
    case HOW_FLIP:
        if (r->len > 0)
            ((uint8_t *)r->get.buf)[(size_t)(draw(f) * (double)r->len)] ^= 1;
        break;
    case HOW_ETAG:
        if (r->etag[0])
            r->etag[0] = r->etag[0] == 'f' ? '0' : 'f';
        break;
    case HOW_ERROR:
    case HOWS:
        break;
    }
    end(g, inner->status);
}

static void fail_start(struct store *s, struct store_req *r)
{
    struct failing *g = xcalloc(1, sizeof(*g));
    struct fail *f = of(s);
    enum how how = f->o.how;

    g->req = r;
    r->backend = g;
    timer_init(&g->timer, s->loop, on_timer);
    g->hit = hit(f, r) && (how != HOW_FLIP || r->op == STORE_GET);
    if (g->hit && (how == HOW_ERROR || (how == HOW_HALF && r->op != STORE_GET))) {
        end_with_error(g, "");
        return;
    }
    g->below = true;
    store_ask_copy(&g->inner, r, on_answer);
    g->inner.timeout_ms = store_left_ms(r);
    store_submit(f->inner, &g->inner);
}

static void fail_cancel(struct store *s, struct store_req *r)
{
    struct failing *g = r->backend;

    (void)s;
    if (g->below)
        store_cancel(&g->inner);
    else
        end(g, -ECANCELED);
}

static void options_free(struct options *o)
{
    free(o->key);
    free(o->file);
}

static void fail_free(struct store *s)
{
    struct fail *f = of(s);

    store_free(&f->inner);
    options_free(&f->o);
    free(f);
}

static const struct store_ops fail_ops = {
    .name = "fail", .start = fail_start, .cancel = fail_cancel, .free = fail_free};

/* --- options --- */

static bool set_text(char **to, const char *value)
{
    if (*to || !value[0])
        return false;
    *to = xstrdup(value);
    return true;
}

static bool set_number(const char *value, uint64_t *n)
{
    char *end;

    errno = 0;
    *n = strtoull(value, &end, 10);
    return value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0;
}

static bool set_p(struct options *o, const char *value)
{
    char *end;

    o->p = strtod(value, &end);
    return value[0] && *end == '\0' && o->p >= 0 && o->p <= 1;
}

static bool set_named(struct options *o, const char *name, const char *value)
{
    if (strcmp(name, "op") == 0) {
        for (o->op = 0; o->op < STORE_OPS; o->op++)
            if (strcmp(value, store_op_name((enum store_op)o->op)) == 0)
                return true;
        return false;
    }
    if (strcmp(name, "how") == 0) {
        for (int how = 0; how < HOWS; how++) {
            o->how = (enum how)how;
            if (strcmp(value, how_names[how]) == 0)
                return true;
        }
        return false;
    }
    for (size_t i = 0; strcmp(name, "error") == 0 && i < sizeof(errors) / sizeof(errors[0]); i++) {
        o->status = -errors[i].number;
        if (strcmp(value, errors[i].name) == 0)
            return true;
    }
    return false;
}

static bool set_option(struct options *o, char *option)
{
    char *value = strchr(option, '=');
    uint64_t n;

    if (!value)
        return false;
    *value++ = '\0';
    if (strcmp(option, "p") == 0)
        return set_p(o, value);
    if (strcmp(option, "key") == 0)
        return set_text(&o->key, value);
    if (strcmp(option, "file") == 0)
        return set_text(&o->file, value);
    if (strcmp(option, "after") == 0) {
        bool good = conf_parse_duration(value, &n);
        o->after_ms = n / 1000000;
        return good;
    }
    if (strcmp(option, "seed") == 0)
        return set_number(value, &o->seed);
    if (strcmp(option, "every") == 0) {
        bool good = set_number(value, &n) && n > 0;
        o->every = n;
        return good;
    }
    return set_named(o, option, value);
}

static int parse(struct options *o, const char *args, struct why *why)
{
    CLEANUP_FREE char *copy = xstrdup(args);
    char *rest = copy, *option;

    *o = (struct options){.p = 1, .seed = 1, .op = -1, .status = -EIO, .after_ms = 1000};
    while (args[0] && (option = strsep(&rest, ","))) {
        CLEANUP_FREE char *whole = xstrdup(option);

        if (!set_option(o, option)) {
            options_free(o);
            return why_set(
                why, -EINVAL,
                "store layer 'fail:%s': '%s' is not one of p=0..1, every=N, seed=N, op=OPERATION, key=PART, "
                "file=PATH, how=error|lost|late|half|flip|etag, error=ERRNO, after=TIME",
                args, whole);
        }
    }
    return 0;
}

int store_fail_check(const char *args, struct why *why)
{
    struct options o;
    int rc = parse(&o, args, why);

    if (rc == 0)
        options_free(&o);
    return rc;
}

struct store *store_fail_new(struct store *inner, const char *args)
{
    struct fail *f = xcalloc(1, sizeof(*f));

    CHECK(parse(&f->o, args, NULL) == 0);
    store_init(&f->store, &fail_ops, inner->loop, inner->name, inner->inflight_max);
    f->inner = inner;
    f->random = f->o.seed * 0x9E3779B97F4A7C15u | 1;
    return &f->store;
}
