/* tests/unit/onprem_fixture.h - an on-prem daemon as docs/writeback.md has it, in memory, at the other end of
 * a real link: what write-back says to it is checked, staged and applied. It can be told to fail.
 */
#ifndef ISTHMUS_ONPREM_FIXTURE_H
#define ISTHMUS_ONPREM_FIXTURE_H

#include "check.h"
#include "link_ends.h"
#include "proto_wb.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ONPREM_DISKS = 3, ONPREM_TYPES = 16 };

struct onprem_piece {
    uint8_t disk;
    enum wb_kind kind;
    uint64_t lba, nsectors;
    uint8_t *data; /* of DATA */
};

struct onprem {
    struct loop *net;
    struct link *edge, *site;
    struct peer *peer; /* the site, as the edge sees it */
    char *pki;
    uint64_t sectors;

    pthread_mutex_t lock; /* all of this */
    uint8_t *image[ONPREM_DISKS];
    bool known, alarm;
    struct wb_attach attach;
    atomic_int policy; /* of attach, for other threads */
    struct wb_state state;
    uint64_t instant;
    struct onprem_piece *pieces;
    unsigned npieces, room;
    unsigned calls[ONPREM_TYPES], offered, wanted, sent;
    /* what it is told: */
    int fail[ONPREM_TYPES]; /* the next call of this type is answered so */
    bool hold_apply;        /* what is staged stays so, until onprem_apply() */
    unsigned lose;          /* as many pieces are lost before the next END */
    unsigned mute;          /* calls of this type are not answered: as if the WAN was down */
    struct link_request *muted[512], *waiting; /* waiting: for "applied" */
    unsigned nmuted;
};

static inline void onprem_reply(struct link_request *r, int status, const char *why, struct buf *body)
{
    struct iovec iov = {body ? body->data : NULL, body ? body->len : 0};

    link_reply(&r, status, why, &iov, body ? 1 : 0);
    buf_unref(&body);
}

static inline struct buf *onprem_state(struct onprem *o)
{
    struct wb_state s = o->state;

    s.alarm = o->alarm;
    s.held = true;
    s.pieces = o->npieces;
    if (o->alarm)
        strcpy(s.text, "somebody else has written to disk sda");
    return wb_put_state(&s);
}

/* --- the stage ---*/

static inline void onprem_drop_stage(struct onprem *o)
{
    for (unsigned i = 0; i < o->npieces; i++)
        free(o->pieces[i].data);
    o->npieces = 0;
    o->state.stage = WB_STAGE_NONE;
    o->state.target = 0;
}

static inline void onprem_add(struct onprem *o, struct onprem_piece p)
{
    for (unsigned i = 0; i < o->npieces; i++)
        if (o->pieces[i].disk == p.disk && o->pieces[i].lba == p.lba) {
            free(o->pieces[i].data);
            o->pieces[i] = p;
            return;
        }
    if (o->npieces == o->room)
        o->pieces = xrealloc(o->pieces, (o->room = o->room * 2 + 64) * sizeof *o->pieces);
    o->pieces[o->npieces++] = p;
}

static inline int onprem_order(const void *a, const void *b)
{
    const struct onprem_piece *x = a, *y = b;

    if (x->disk != y->disk)
        return x->disk < y->disk ? -1 : 1;
    return x->lba < y->lba ? -1 : x->lba > y->lba;
}

static inline void onprem_digest(struct onprem *o, uint8_t digest[WB_HASH_BYTES])
{
    struct wb_digest *d = wb_digest_new();
    uint8_t hash[WB_HASH_BYTES];

    qsort(o->pieces, o->npieces, sizeof *o->pieces, onprem_order);
    for (unsigned i = 0; i < o->npieces; i++) {
        const struct onprem_piece *p = &o->pieces[i], *next = p + 1;

        if (i + 1 < o->npieces && next->disk == p->disk)
            CHECK(p->lba + p->nsectors <= next->lba);
        if (p->kind == WB_PIECE_DATA)
            wb_hash(p->data, p->nsectors * 512, hash);
        wb_digest_add(d, p->disk, p->kind, p->lba, p->nsectors, p->kind == WB_PIECE_DATA ? hash : NULL);
    }
    wb_digest_end(&d, digest);
}

static inline void onprem_apply_locked(struct onprem *o)
{
    for (unsigned i = 0; i < o->npieces; i++) {
        const struct onprem_piece *p = &o->pieces[i];
        uint8_t *to = o->image[p->disk] + p->lba * 512;

        if (p->kind == WB_PIECE_DATA)
            memcpy(to, p->data, p->nsectors * 512);
        else
            memset(to, 0, p->nsectors * 512);
    }
    o->state.applied = o->state.target;
    o->state.applied_instant_ms = o->instant;
    onprem_drop_stage(o);
}

/* --- calls ---*/

static inline void onprem_attach(struct onprem *o, struct link_request *r)
{
    struct wb_attach a = {0};

    CHECK(wb_get_attach(r->body, r->len, &a) == 0);
    if (o->known && o->attach.ndisks &&
        (a.ndisks != o->attach.ndisks || memcmp(a.disks, o->attach.disks, sizeof a.disks) != 0)) {
        onprem_reply(r, -EINVAL, "attached with other disks: detach it first", NULL);
        return;
    }
    o->attach = a;
    atomic_store(&o->policy, a.policy);
    if (!o->known) {
        memcpy(o->state.vm, o->attach.vm, WB_ID_BYTES);
        o->state.applied = o->attach.base;
    }
    CHECK(o->attach.policy == WB_WRITE_BACK || o->state.stage < WB_STAGE_STAGED);
    o->known = true;
    if (o->attach.policy == WB_CLOUD_PERSIST && o->state.stage == WB_STAGE_OPEN)
        onprem_drop_stage(o);
    o->state.epoch = o->attach.epoch;
    onprem_reply(r, 0, NULL, onprem_state(o));
}

static inline void onprem_begin(struct onprem *o, struct link_request *r)
{
    struct wb_begin b;

    CHECK(wb_get_begin(r->body, r->len, &b) == 0);
    if (b.base != o->state.applied) {
        onprem_reply(r, -ESTALE, "the base is not what is applied", NULL);
        return;
    }
    CHECK(o->attach.policy == WB_WRITE_BACK); /* cloud-persist: not one byte */
    if (o->state.stage != WB_STAGE_OPEN || o->state.target != b.head.target)
        onprem_drop_stage(o);
    o->state.stage = WB_STAGE_OPEN;
    o->state.target = b.head.target;
    o->instant = b.instant_ms;
    onprem_reply(r, 0, NULL, onprem_state(o));
}

static inline void onprem_offer(struct onprem *o, struct link_request *r)
{
    struct wb_offer f;
    bool wanted[WB_OFFER_MAX];

    CHECK(wb_get_offer(r->body, r->len, &f) == 0);
    for (unsigned i = 0; i < f.n; i++) {
        uint8_t here[WB_HASH_BYTES], *at;
        const uint8_t *hash;
        uint64_t block;

        wb_offer_row(&f, i, &block, &hash);
        at = o->image[f.disk] + block * PROTO_BLOCK;
        wb_hash(at, PROTO_BLOCK, here);
        wanted[i] = memcmp(here, hash, WB_HASH_BYTES) != 0;
        o->wanted += wanted[i];
        if (!wanted[i])
            onprem_add(o, (struct onprem_piece){f.disk, WB_PIECE_DATA, block * 8, 8,
                                                memcpy(xmalloc(PROTO_BLOCK), at, PROTO_BLOCK)});
    }
    o->offered += f.n;
    onprem_reply(r, 0, NULL, wb_put_wanted(wanted, f.n));
}

static inline void onprem_data(struct onprem *o, struct link_request *r)
{
    struct wb_data d;
    uint8_t *pages[WB_DATA_MAX];
    bool zero[WB_DATA_MAX];

    CHECK(wb_get_data(r->body, r->len, &d) == 0);
    for (unsigned i = 0; i < d.n; i++)
        pages[i] = xcalloc(1, PROTO_BLOCK);
    CHECK(runs_decode(d.runs, d.runs_len, pages, zero, d.n) == 0);
    for (unsigned i = 0; i < d.n; i++) {
        uint64_t lba;
        uint8_t nsectors;

        wb_data_row(&d, i, &lba, &nsectors);
        CHECK(lba % 8 + nsectors <= 8 && lba + nsectors <= o->sectors);
        onprem_add(o, (struct onprem_piece){d.disk, WB_PIECE_DATA, lba, nsectors, pages[i]});
    }
    o->sent += d.n;
    onprem_reply(r, 0, NULL, NULL);
}

static inline void onprem_zero(struct onprem *o, struct link_request *r)
{
    struct wb_zero z;

    CHECK(wb_get_zero(r->body, r->len, &z) == 0);
    for (unsigned i = 0; i < z.n; i++) {
        uint64_t lba, nsectors;

        wb_zero_row(&z, i, &lba, &nsectors);
        CHECK(lba + nsectors <= o->sectors);
        onprem_add(o, (struct onprem_piece){z.disk, WB_PIECE_ZERO, lba, nsectors, NULL});
    }
    onprem_reply(r, 0, NULL, NULL);
}

static inline void onprem_end(struct onprem *o, struct link_request *r)
{
    uint8_t digest[WB_HASH_BYTES];
    struct wb_end e;

    CHECK(wb_get_end(r->body, r->len, &e) == 0);
    for (; o->lose && o->npieces; o->lose--)
        free(o->pieces[--o->npieces].data);
    onprem_digest(o, digest);
    if (e.pieces != o->npieces || memcmp(digest, e.digest, sizeof digest) != 0) {
        onprem_reply(r, -EAGAIN, "it is not whole", NULL);
        return;
    }
    o->state.stage = WB_STAGE_STAGED;
    onprem_reply(r, 0, NULL, onprem_state(o));
    if (!o->hold_apply)
        onprem_apply_locked(o);
}

static inline void onprem_answer(struct onprem *o, struct link_request *r)
{
    uint8_t type = r->type;

    if (o->fail[type]) {
        int err = o->fail[type];

        o->fail[type] = 0;
        onprem_reply(r, err, "it was told to fail", NULL);
    } else if (type == PROTO_VM_ATTACH) {
        onprem_attach(o, r);
    } else if (!o->known) {
        onprem_reply(r, -ENOENT, "no such VM here", NULL);
    } else if (type == PROTO_WB_STATE) {
        onprem_reply(r, 0, NULL, onprem_state(o));
    } else if (type == PROTO_VM_CLEAR_ALARM) {
        o->alarm = false;
        onprem_reply(r, 0, NULL, onprem_state(o));
    } else if (o->alarm && type >= PROTO_WB_BEGIN) {
        onprem_reply(r, -EBUSY, "there is an alarm", NULL);
    } else if (type == PROTO_WB_BEGIN) {
        onprem_begin(o, r);
    } else if (type == PROTO_VM_DETACH) {
        bool busy = o->state.stage >= WB_STAGE_STAGED;

        o->known = busy;
        if (!busy)
            o->state = (struct wb_state){.epoch = o->state.epoch};
        onprem_reply(r, busy ? -EBUSY : 0, "a cut is being applied", busy ? NULL : onprem_state(o));
    } else if (type == PROTO_WB_APPLIED) {
        struct wb_head h;

        if (o->waiting) /* of an edge that has been restarted */
            link_reply(&o->waiting, -ECANCELED, NULL, NULL, 0);

        CHECK(wb_get_head(r->body, r->len, &h) == 0);
        if (o->state.applied >= h.target)
            onprem_reply(r, 0, NULL, onprem_state(o));
        else
            o->waiting = r;
    } else if (o->state.stage != WB_STAGE_OPEN) {
        onprem_reply(r, -EINVAL, "no stage is open", NULL);
    } else if (type == PROTO_WB_OFFER) {
        onprem_offer(o, r);
    } else if (type == PROTO_WB_DATA) {
        onprem_data(o, r);
    } else if (type == PROTO_WB_ZERO) {
        onprem_zero(o, r);
    } else if (type == PROTO_WB_END) {
        onprem_end(o, r);
    } else {
        onprem_reply(r, -ENOSYS, "what is that?", NULL);
    }
}

static inline void on_onprem_request(void *arg, struct link_request *r)
{
    struct onprem *o = arg;

    pthread_mutex_lock(&o->lock);
    CHECK(r->type < ONPREM_TYPES);
    CHECK(r->class == (r->type >= PROTO_WB_OFFER && r->type <= PROTO_WB_END ? LINK_WRITEBACK : LINK_CONTROL));
    o->calls[r->type]++;
    if (o->mute == r->type && o->nmuted < 512)
        o->muted[o->nmuted++] = r;
    else
        onprem_answer(o, r);
    pthread_mutex_unlock(&o->lock);
}

/* --- what a test does to it, from its own thread ---*/

struct onprem_job {
    struct task task;
    struct onprem *o;
    void (*run)(struct onprem *);
    sem_t done;
};

static inline void on_onprem_job(struct task *t)
{
    struct onprem_job *j = container_of(t, struct onprem_job, task);

    j->run(j->o);
    sem_post(&j->done);
}

static inline void onprem_do(struct onprem *o, void (*run)(struct onprem *))
{
    struct onprem_job j = {.task = {.run = on_onprem_job}, .o = o, .run = run};

    sem_init(&j.done, 0, 0);
    loop_post(o->net, &j.task);
    while (sem_wait(&j.done) < 0)
        ;
    sem_destroy(&j.done);
}

static inline void onprem_unmute_run(struct onprem *o)
{
    pthread_mutex_lock(&o->lock);
    o->mute = 0;
    for (unsigned i = 0; i < o->nmuted; i++)
        onprem_answer(o, o->muted[i]);
    o->nmuted = 0;
    pthread_mutex_unlock(&o->lock);
}

static inline void onprem_apply_run(struct onprem *o)
{
    struct link_request *r = o->waiting;

    pthread_mutex_lock(&o->lock);
    o->waiting = NULL;
    o->hold_apply = false;
    if (o->state.stage == WB_STAGE_STAGED)
        onprem_apply_locked(o);
    if (r)
        onprem_reply(r, 0, NULL, onprem_state(o));
    pthread_mutex_unlock(&o->lock);
}

#define ONPREM_SET(o, what)                                                                                  \
    do {                                                                                                     \
        pthread_mutex_lock(&(o)->lock);                                                                      \
        what;                                                                                                \
        pthread_mutex_unlock(&(o)->lock);                                                                    \
    } while (0)

static inline void onprem_nothing(void *arg, struct link_request *r)
{
    (void)arg;
    link_reply(&r, -ENOSYS, "an edge answers nothing", NULL, 0);
}

static inline struct link *onprem_link(struct onprem *o, bool site)
{
    const struct link_conf conf = {.role = site ? "onprem" : "edge",
                                   .peer_role = site ? "edge" : "onprem",
                                   .listen = site ? NULL : "127.0.0.1:0"};
    const struct link_handlers h = {.request = site ? on_onprem_request : onprem_nothing, .arg = o};
    struct link *link;

    end_open(&link, o->net, o->pki, site ? "site" : "edge", conf, &h);
    return link;
}

/* The WAN is cut. */
static inline void onprem_cut(struct onprem *o)
{
    pthread_mutex_lock(&o->lock);
    for (unsigned i = 0; i < o->nmuted; i++)
        link_reply(&o->muted[i], -ECANCELED, NULL, NULL, 0);
    o->nmuted = o->mute = 0;
    if (o->waiting)
        link_reply(&o->waiting, -ECANCELED, NULL, NULL, 0);
    pthread_mutex_unlock(&o->lock);
    link_free(&o->site);
}

static inline void onprem_heal(struct onprem *o)
{
    o->site = onprem_link(o, true);
    end_dials(o->site, o->edge, "edge-a", 2);
}

static inline void onprem_up(struct onprem *o)
{
    o->edge = onprem_link(o, false);
    o->peer = link_peer(o->edge, "dc1");
    onprem_heal(o);
}

static inline void onprem_down(struct onprem *o)
{
    onprem_cut(o);
    link_free(&o->edge);
}

static inline struct onprem *onprem_new(uint64_t sectors)
{
    struct onprem *o = xcalloc(1, sizeof *o);

    pthread_mutex_init(&o->lock, NULL);
    o->sectors = sectors;
    for (unsigned i = 0; i < ONPREM_DISKS; i++)
        o->image[i] = xcalloc(sectors, 512);
    o->pki = pki_new();
    pki_ca(o->pki, "ca");
    pki_issue(o->pki, "ca", "edge", "edge-a", "edge", -3600, 3600);
    pki_issue(o->pki, "ca", "site", "dc1", "onprem", -3600, 3600);
    o->net = loop_new("net");
    loop_start(o->net);
    onprem_do(o, onprem_up);
    return o;
}

static inline void onprem_free(struct onprem *o)
{
    onprem_do(o, onprem_down);
    loop_stop(o->net);
    loop_join(o->net);
    loop_free(&o->net);
    onprem_drop_stage(o);
    free(o->pieces);
    for (unsigned i = 0; i < ONPREM_DISKS; i++)
        free(o->image[i]);
    pki_remove(&o->pki);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

#endif
