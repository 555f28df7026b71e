/* links: control */
/* The REST API and the boot scripts over a real socket. The catalog, the link and the journal are small
 * stand-ins here, so that each answer of theirs can be had at will. */
#include "check.h"
#include "conf.h"
#include "fake_verbs.h"
#include "mem.h"
#include "metric.h"
#include "paths.h"
#include "rest.h"
#include "vms_pair.h"

#include <errno.h>
#include <jansson.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --- stand-ins --- */

struct vms {
    struct vm *vm[8];
    unsigned n;
} catalog;

static struct vm_spec last_spec;

/* VMs of the other edge: their names begin with "far". */
struct vm *vms_find_exported(struct vms *vms, const char *name)
{
    for (unsigned i = 0; i < vms->n; i++)
        if (strcmp(vms->vm[i]->spec.name, name) == 0)
            return vms->vm[i];
    return NULL;
}

struct vm *vms_find(struct vms *vms, const char *name)
{
    return strncmp(name, "far", 3) == 0 ? NULL : vms_find_exported(vms, name);
}

static const char *other_portals[3]; /* up to NULL */

void paths_each(struct target *t, void (*each)(void *arg, const char *address, uint16_t group), void *arg)
{
    (void)t;
    for (unsigned i = 0; other_portals[i]; i++)
        each(arg, other_portals[i], 32769);
}

void vms_each(struct vms *vms, void (*each)(void *, struct vm *), void *arg)
{
    for (unsigned i = 0; i < vms->n; i++)
        each(arg, vms->vm[i]);
}

struct answer {
    struct task task;
    struct loop *loop;
    struct vms *vms;
    struct vm_spec spec;
    char name[64];
    bool force;
    void (*created)(void *, struct vm *, const struct why *);
    void (*deleted)(void *, int, const struct why *);
    void *arg;
};

static struct loop *loop;

static struct recovery {
    char name[64];
    uint64_t through;
    void (*tell)(void *, const char *);
    void (*done)(void *, int, unsigned, const struct why *);
    void *arg;
    struct task task;
} recovery;

static void on_recovery(struct task *t)
{
    struct why why = {"the object store knows no VM absent that is not here"};

    (void)t;
    recovery.tell(recovery.arg, "recovered to record 7");
    if (strcmp(recovery.name, "absent") == 0)
        recovery.done(recovery.arg, -ENOENT, 0, &why);
    else
        recovery.done(recovery.arg, 0, 2, &why);
}

void vms_recover(struct vms *vms, const char *name, uint64_t through, void (*tell)(void *, const char *),
                 void (*done)(void *, int, unsigned, const struct why *), void *arg)
{
    (void)vms;
    recovery = (struct recovery){.through = through, .tell = tell, .done = done, .arg = arg};
    snprintf(recovery.name, sizeof recovery.name, "%s", name ? name : "");
    recovery.task.run = on_recovery;
    loop_post(loop, &recovery.task);
}

static void on_create(struct task *t)
{
    struct answer *a = container_of(t, struct answer, task);
    struct why why = {"dc1 has no disk absent"};
    struct vm *vm = NULL;

    last_spec = a->spec;
    if (strcmp(a->spec.disks[0].disk, "absent") != 0) {
        vm = a->vms->vm[a->vms->n++] = xcalloc(1, sizeof(*vm));
        vm->spec = a->spec;
        vm->loop = loop;
        vm->spec.disks[0].sectors = 2048;
        vm->spec.disks[0].block_bytes = 512;
        snprintf(vm->spec.iqn, sizeof(vm->spec.iqn), "iqn.2026-11.test:%s", vm->spec.name);
    }
    a->created(a->arg, vm, &why);
    free(a);
}

void vms_create(struct vms *vms, const struct vm_spec *spec,
                void (*done)(void *, struct vm *, const struct why *), void *arg)
{
    struct answer *a = xcalloc(1, sizeof(*a));

    *a = (struct answer){.task.run = on_create, .vms = vms, .spec = *spec, .created = done, .arg = arg};
    loop_post(loop, &a->task);
}

static void on_delete(struct task *t)
{
    struct answer *a = container_of(t, struct answer, task);
    struct why why = {"VM busy has 1 session(s)"};
    int status = 0;

    if (strcmp(a->name, "busy") == 0 && !a->force)
        status = -EBUSY;
    for (unsigned i = 0; status == 0 && i < a->vms->n; i++)
        if (strcmp(a->vms->vm[i]->spec.name, a->name) == 0) {
            free(a->vms->vm[i]);
            a->vms->vm[i] = a->vms->vm[--a->vms->n];
        }
    a->deleted(a->arg, status, &why);
    free(a);
}

void vms_delete(struct vms *vms, const char *name, bool force, void (*done)(void *, int, const struct why *),
                void *arg)
{
    struct answer *a = xcalloc(1, sizeof(*a));

    *a = (struct answer){.task.run = on_delete, .vms = vms, .force = force, .deleted = done, .arg = arg};
    snprintf(a->name, sizeof(a->name), "%s", name);
    loop_post(loop, &a->task);
}

void vm_status(struct vm *vm, struct vm_status *s)
{
    (void)vm;
    *s = (struct vm_status){.open = true, .written = 7, .committed = 5, .store_why = {"the bucket is gone"}};
}

void vms_each_far(struct vms *vms, void (*each)(void *, struct vm *), void *arg)
{
    for (unsigned i = 0; i < vms->n; i++)
        if (!vms_find(vms, vms->vm[i]->spec.name))
            each(arg, vms->vm[i]);
}

static struct pair_status pair;

bool vms_pair_mirrors(const struct vms *vms, struct vm *vm)
{
    (void)vms;
    return strcmp(vm->spec.name, "unmirrored") != 0;
}

void failback_why(const struct failback *f, const struct vm *vm, struct why *why)
{
    (void)f;
    why_set(why, 0, "%s", strcmp(vm->spec.name, "astray") == 0 ? "failback is off here" : "");
}

bool vms_pair_status(const struct vms *vms, struct pair_status *s)
{
    (void)vms;
    *s = pair;
    return pair.name != NULL;
}

static struct losing {
    struct task task;
    void (*done)(void *, int, const struct vms_losses *, const struct why *);
    void *arg;
    bool forced, broken;
} losing;

static void on_losses(struct task *t)
{
    struct vms_loss list[] = {{.vm = "web", .whose = VMS_LOSS_THEIRS, .cut = 77, .put_s = 1795447231},
                              {.vm = "mine", .whose = VMS_LOSS_OURS},
                              {.vm = "else", .whose = VMS_LOSS_NOBODYS}};
    struct vms_losses losses = {.member.name = "edge-b", .list = list, .n = 3, .unreadable = 1};
    struct why why = {"the store is away"};

    (void)t;
    losing.done(losing.arg, losing.broken ? -EIO : 0, &losses, &why);
}

int vms_pair_losses(struct vms *vms, void (*done)(void *, int, const struct vms_losses *, const struct why *),
                    void *arg, struct why *why)
{
    (void)vms;
    if (!pair.name)
        return why_set(why, -ENOENT, "this edge is in no pair");
    losing.task.run = on_losses;
    losing.done = done;
    losing.arg = arg;
    loop_post(loop, &losing.task);
    return 0;
}

int vms_pair_force(struct vms *vms, const struct vms_losses *losses, struct why *why)
{
    (void)vms;
    assert_string_equal(losses->member.name, "edge-b");
    if (pair.role != PAIR_OUT)
        return why_set(why, -EINVAL, "only one that is out");
    losing.forced = true;
    return 0;
}

static bool giving;

int failback_give_all(struct failback *f, bool all, struct why *why)
{
    (void)f;
    giving = all && pair.role == PAIR_BOTH;
    return all && !giving ? why_set(why, -EAGAIN, "the pair is not whole") : 0;
}

bool failback_gives_all(const struct failback *f, unsigned *left)
{
    (void)f;
    *left = 5;
    return giving;
}

struct lun_change {
    struct task task;
    char name[64];
    int lun;
    bool force;
    struct vm_disk disk;
    void (*added)(void *, int, const struct why *);
    void (*removed)(void *, int, const struct why *);
    void *arg;
};
static struct vm_disk last_disk;

static void on_lun_change(struct task *t)
{
    struct lun_change *c = container_of(t, struct lun_change, task);
    struct why why = {"so it is"};

    last_disk = c->disk;
    if (c->added)
        c->added(c->arg, c->lun == 7 ? -EEXIST : c->lun < 0 ? 1 : c->lun, &why);
    else
        c->removed(c->arg, c->lun == 9 ? -ENOENT : c->force ? 0 : -EBUSY, &why);
    free(c);
}

void vms_add_disk(struct vms *vms, const char *name, int lun, const struct vm_disk *disk,
                  void (*done)(void *arg, int lun, const struct why *), void *arg)
{
    struct lun_change *c = xcalloc(1, sizeof(*c));

    (void)vms;
    *c = (struct lun_change){.task.run = on_lun_change, .lun = lun, .disk = *disk, .added = done, .arg = arg};
    snprintf(c->name, sizeof(c->name), "%s", name);
    loop_post(loop, &c->task);
}

void vms_remove_disk(struct vms *vms, const char *name, unsigned lun, bool force,
                     void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct lun_change *c = xcalloc(1, sizeof(*c));

    (void)vms;
    *c = (struct lun_change){
        .task.run = on_lun_change, .lun = (int)lun, .force = force, .removed = done, .arg = arg};
    snprintf(c->name, sizeof(c->name), "%s", name);
    loop_post(loop, &c->task);
}

void volume_make_naa(const uint8_t *vm_id, uint8_t disk, uint8_t naa[8])
{
    (void)vm_id;
    memset(naa, disk, 8);
}

uint64_t volume_sectors(const struct volume *v)
{
    (void)v;
    return 0;
}

const uint8_t *volume_naa(const struct volume *v)
{
    return (const uint8_t *)v;
}

uint64_t journal_bytes(const struct journal *j)
{
    (void)j;
    return 4096;
}

bool journal_throttled(const struct journal *j)
{
    (void)j;
    return true;
}

bool journal_failed(const struct journal *j)
{
    (void)j;
    return false;
}

struct peer *link_peer(struct link *l, const char *name)
{
    (void)l;
    return (struct peer *)(uintptr_t)name;
}

const char *peer_name(const struct peer *p)
{
    return (const char *)p;
}

bool peer_up(const struct peer *p)
{
    (void)p;
    return true;
}

uint64_t peer_rtt_ns(const struct peer *p)
{
    (void)p;
    return 50000000;
}

uint64_t peer_bytes_per_s(const struct peer *p)
{
    (void)p;
    return 0;
}

void target_each_session(struct target *t, void (*each)(void *, const struct target_session *), void *arg)
{
    struct target_session s = {
        .initiator = "iqn.x:i", .address = "10.0.0.9:5", .portal = "p", .vm = "busy", .connection = "c1"};

    (void)t;
    each(arg, &s);
}

uint16_t target_port(const struct target *t, unsigned i)
{
    (void)t, (void)i;
    return 3260;
}

/* --- the cast --- */

static const char token[] = "0123456789abcdef0123456789abcdef";
static char dir[] = "/tmp/isthmus-rest-XXXXXX";
static char *token_file;
static struct http *control, *open_http;
static struct rest *rest;

struct on_loop {
    struct task task;
    void (*f)(void);
    sem_t done;
};

static void on_loop_run(struct task *t)
{
    struct on_loop *o = container_of(t, struct on_loop, task);
    o->f();
    sem_post(&o->done);
}

static void on_loop(void (*f)(void))
{
    struct on_loop o = {.task.run = on_loop_run, .f = f};

    sem_init(&o.done, 0, 0);
    loop_post(loop, &o.task);
    sem_wait(&o.done);
    sem_destroy(&o.done);
}

static char answer_text[256 * 1024];

/* Sends a request with body; returns the code. The answer's body is left in answer_text. */
static int ask(struct http *h, const char *method, const char *path, const char *with_token, const char *body)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(http_port(h)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CLEANUP_FREE char *auth =
        with_token ? xasprintf("Authorization: Bearer %s\r\n", with_token) : xstrdup("");
    CLEANUP_FREE char *request = xasprintf(
        "%s %s HTTP/1.1\r\nHost: edge.test:7262\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
        method, path, auth, strlen(body), body);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), code;
    size_t have = 0;
    ssize_t n;

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    while ((n = recv(fd, answer_text + have, sizeof(answer_text) - 1 - have, 0)) > 0)
        have += (size_t)n;
    close(fd);
    answer_text[have] = '\0';
    assert_int_equal(sscanf(answer_text, "HTTP/1.1 %d", &code), 1);
    assert_non_null(strstr(answer_text, "X-Request-Id: r"));
    const char *start = strstr(answer_text, "\r\n\r\n") + 4;
    memmove(answer_text, start, strlen(start) + 1);
    return code;
}

static int api(const char *method, const char *path, const char *body)
{
    return ask(control, method, path, token, body);
}

#define assert_says(text)                                                                                    \
    do {                                                                                                     \
        if (!strstr(answer_text, (text)))                                                                    \
            fail_msg("expected %s in:\n%.600s", (text), answer_text);                                        \
    } while (0)

static void test_a_token_is_asked(void **state)
{
    static const char *const wrong[] = {NULL, "", "0123456789abcdef", "0123456789abcdef0123456789abcdeF",
                                        "0123456789abcdef0123456789abcdef0"};
    CLEANUP_FREE char *long_one = xmalloc(2000);

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(ask(control, "GET", "/v1/status", wrong[i], ""), 401);
        assert_says("{\"error\": \"this needs the edge's token");
    }
    memset(long_one, '0', 1999);
    long_one[1999] = '\0';
    assert_int_equal(ask(control, "GET", "/v1/vms/x", long_one, ""), 401);
    assert_int_equal(api("GET", "/v1/vms", ""), 200);
    assert_int_equal(ask(open_http, "GET", "/v1/vms", token, ""), 404);
}

static void test_a_vm_from_creation_to_deletion(void **state)
{
    json_t *json;

    (void)state;
    assert_int_equal(
        api("POST", "/v1/vms",
            "{\"name\":\"vm1\",\"disks\":[\"dc1:vm1-root\",\"dc1:vm1-data\"],\"chap_user\":\"u\","
            "\"chap_secret\":\"topsecret-123\",\"block_bytes\":4096}"),
        201);
    assert_says("\"iqn\": \"iqn.2026-11.test:vm1\"");
    assert_int_equal(last_spec.ndisks, 2);
    assert_string_equal(last_spec.disks[1].disk, "vm1-data");
    assert_int_equal(last_spec.disks[1].block_bytes, 4096);
    assert_string_equal(last_spec.chap_secret, "topsecret-123");
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"vm1\",\"disks\":[\"dc1:x\"]}"), 409);
    assert_says("there is a VM vm1 already");
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"vm2\",\"disks\":[\"dc1:absent\"]}"), 422);
    assert_says("dc1 has no disk absent");

    assert_int_equal(api("GET", "/v1/vms/vm1", ""), 200);
    assert_null(strstr(answer_text, "topsecret"));
    json = json_loads(answer_text, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "chap_user")), "u");
    json_t *disk = json_array_get(json_object_get(json, "disks"), 0);
    assert_string_equal(json_string_value(json_object_get(disk, "source")), "dc1:vm1-root");
    assert_int_equal(json_integer_value(json_object_get(disk, "bytes")), 1024 * 1024);
    json_decref(json);

    assert_int_equal(api("DELETE", "/v1/vms/vm1?force=2", ""), 400);
    assert_int_equal(api("DELETE", "/v1/vms/vm1", ""), 200);
    assert_int_equal(api("DELETE", "/v1/vms/vm1", ""), 404);
    assert_int_equal(api("GET", "/v1/vms/vm1", ""), 404);
}

static void test_disks_come_and_go(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"vm1\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:more\"}"), 201);
    assert_says("\"lun\": 1");
    assert_string_equal(last_disk.onprem, "dc1");
    assert_string_equal(last_disk.disk, "more");
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"lun\":5,\"block_bytes\":4096}"),
                     201);
    assert_says("\"lun\": 5");
    assert_int_equal(last_disk.block_bytes, 4096);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"lun\":7}"), 409);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"lun\":64}"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1\"}"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "{\"disk\":\"dc1:m\",\"size\":1}"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks", "no"), 400);
    assert_int_equal(api("POST", "/v1/vms/vm1/disks/1", "{\"disk\":\"dc1:m\"}"), 404);
    assert_int_equal(api("POST", "/v1/vms/none/disks", "{\"disk\":\"dc1:m\"}"), 404);
    assert_int_equal(api("POST", "/v1/vms/vm1", "{\"disk\":\"dc1:m\"}"), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1", ""), 409);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1?force=1", ""), 200);
    assert_says("\"removed\": 1");
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/9?force=1", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1x", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1/disks/1?force=2", ""), 400);
    assert_int_equal(api("DELETE", "/v1/vms/none/disks/1", ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/vm1", ""), 200);
}

static void test_a_busy_vm_wants_force(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"busy\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(api("GET", "/v1/vms/busy", ""), 200);
    assert_says("\"initiator\": \"iqn.x:i\"");
    assert_int_equal(api("DELETE", "/v1/vms/busy", ""), 409);
    assert_int_equal(api("DELETE", "/v1/vms/busy?force=1", ""), 200);
}

static void test_recovery(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/recover", "{}"), 200);
    assert_string_equal(recovery.name, "");
    assert_true(recovery.through == UINT64_MAX);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":\"web\",\"cut\":7}"), 200);
    assert_string_equal(recovery.name, "web");
    assert_int_equal(recovery.through, 7);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":\"absent\"}"), 404);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":\"a b\"}"), 400);
    assert_int_equal(api("POST", "/v1/recover", "{\"vm\":7}"), 400);
    assert_int_equal(api("POST", "/v1/recover", "[1"), 400);
}

static void end_done(void)
{
    fake_end(0, "");
}

static void end_cancelled(void)
{
    fake_end(-ECANCELED, "");
}

static void test_verbs_are_tasks(void **state)
{
    (void)state;
    assert_int_equal(
        api("POST", "/v1/vms", "{\"name\":\"v\",\"disks\":[\"dc1:d\"],\"storage\":\"write-back\"}"), 201);
    assert_int_equal(last_spec.storage, WB_WRITE_BACK);
    assert_int_equal(api("GET", "/v1/vms/v", ""), 200);
    assert_says("\"storage\": \"write-back\"");
    assert_says("\"trouble\": \"the bucket is gone\"");
    assert_int_equal(api("POST", "/v1/vms/v/flush", ""), 202);
    assert_says("\"id\": 1,");
    assert_says("\"kind\": \"flush\"");
    assert_says("\"eta_s\": null");
    assert_int_equal(api("POST", "/v1/vms/v/flush", "{}"), 202);
    assert_says("\"id\": 1,");
    assert_int_equal(api("POST", "/v1/vms/v/storage", "{\"storage\":\"cloud-persist\"}"), 409);
    assert_says("task 1 (flush) works on VM v");
    on_loop(end_done);
    assert_int_equal(api("GET", "/v1/tasks/1", ""), 200);
    assert_says("\"state\": \"done\"");
    assert_int_equal(api("DELETE", "/v1/tasks/1", ""), 409);

    assert_int_equal(api("POST", "/v1/vms/v/discard", "{\"sure\":true,\"force\":true}"), 202);
    assert_true(fake_verbs[1].ask.force);
    assert_int_equal(api("DELETE", "/v1/tasks/2", ""), 202);
    assert_true(fake_verbs[1].cancelled);
    on_loop(end_cancelled);
    assert_int_equal(api("GET", "/v1/tasks", ""), 200);
    assert_says("\"state\": \"cancelled\"");
    fake_refusal = -EINVAL;
    assert_int_equal(api("POST", "/v1/vms/v/run-on-prem", ""), 422);
    assert_says("VM v will not");
    fake_refusal = 0;
    assert_int_equal(api("DELETE", "/v1/vms/v", ""), 200);
}

static void test_malformed_verbs_are_refused(void **state)
{
    static const struct {
        const char *method, *path, *body;
        int code;
    } bad[] = {
        {"POST", "/v1/vms/w/", "", 404},
        {"POST", "/v1/vms/w", "", 404},
        {"POST", "/v1/vms//flush", "", 404},
        {"POST", "/v1/vms/w/dance", "", 404},
        {"POST", "/v1/vms/w/flush/flush", "", 404},
        {"POST", "/v1/vms/absent/flush", "", 404},
        {"POST", "/v1/vms/w/flush", "[", 400},
        {"POST", "/v1/vms/w/flush", "{\"colour\":1}", 400},
        {"POST", "/v1/vms/w/flush", "{\"force\":1}", 400},
        {"POST", "/v1/vms/w/storage", "", 400},
        {"POST", "/v1/vms/w/storage", "{\"storage\":\"tape\"}", 400},
        {"POST", "/v1/vms/w/discard", "", 400},
        {"POST", "/v1/vms/w/run-on-prem", "{\"discard\":true}", 400},
        {"GET", "/v1/tasks/", "", 404},
        {"GET", "/v1/tasks/0", "", 404},
        {"GET", "/v1/tasks/-1", "", 404},
        {"GET", "/v1/tasks/1x", "", 404},
        {"GET", "/v1/tasks/99999999999999999999999", "", 404},
        {"DELETE", "/v1/tasks/77", "", 404},
        {"PUT", "/v1/tasks/1", "", 405},
    };
    unsigned begun = fake_begun;

    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"w\",\"disks\":[\"dc1:d\"]}"), 201);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (api(bad[i].method, bad[i].path, bad[i].body) != bad[i].code)
            fail_msg("%s %s %s: %.200s", bad[i].method, bad[i].path, bad[i].body, answer_text);
    assert_int_equal(fake_begun, begun);
    assert_int_equal(api("DELETE", "/v1/vms/w", ""), 200);
}

static void test_malformed_vms_are_refused(void **state)
{
    static const struct {
        const char *body, *says;
    } bad[] = {
        {"", "this is not JSON"},
        {"{", "this is not JSON"},
        {"[]", "a JSON object"},
        {"{\"name\":\"a\",\"name\":\"b\",\"disks\":[\"d:d\"]}", "this is not JSON"},
        {"{\"disks\":[\"d:d\"]}", "a VM's name is"},
        {"{\"name\":7,\"disks\":[\"d:d\"]}", "is a string"},
        {"{\"name\":\"../x\",\"disks\":[\"d:d\"]}", "a VM's name is"},
        {"{\"name\":\"a\"}", "\\\"disks\\\" is a list"},
        {"{\"name\":\"a\",\"disks\":[]}", "\\\"disks\\\" is a list"},
        {"{\"name\":\"a\",\"disks\":[7]}", "a disk is ONPREM:DISK"},
        {"{\"name\":\"a\",\"disks\":[\"nocolon\"]}", "a disk is ONPREM:DISK"},
        {"{\"name\":\"a\",\"disks\":[\"a:b:c\"]}", "a disk is ONPREM:DISK"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"colour\":\"red\"}", "no property"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"storage\":\"tape\"}", "or \\\"cloud-persist"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"block_bytes\":1024}", "512 or 4096"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"block_bytes\":\"4096\"}", "512 or 4096"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"chap_user\":\"u\"}", "come together"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"chap_user\":\"u\",\"chap_secret\":\"short\"}", "12 to 255"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"mutual_user\":\"u\",\"mutual_secret\":\"0123456789ab\"}",
         "needs chap_user"},
        {"{\"name\":\"a\",\"disks\":[\"d:d\"],\"mutual_user\":\"u\",\"mutual_secret\":\"0123456789ab\","
         "\"chap_user\":\"u\",\"chap_secret\":\"0123456789ab\"}",
         "must differ"},
    };
    char deep[40000];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(api("POST", "/v1/vms", bad[i].body), 400);
        assert_says(bad[i].says);
    }
    memset(deep, '[', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    assert_int_equal(api("POST", "/v1/vms", deep), 400);
    assert_int_equal(api("PUT", "/v1/vms", "{}"), 405);
    assert_int_equal(catalog.n, 0);
}

static void test_status(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"s\",\"disks\":[\"dc1:d\",\"dc2:d\",\"dc1:e\"]}"),
                     201);
    struct metric *hits = metric_new(METRIC_COUNTER, "isthmus_tier_blocks_total", "Blocks.", "%s",
                                     "vm=\"s\",tier=\"ram\",result=\"hit\"");
    metric_add(hits, 7);
    assert_int_equal(api("GET", "/v1/status", ""), 200);
    json_t *json = json_loads(answer_text, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "version")), ISTHMUS_VERSION);
    assert_int_equal(json_array_size(json_object_get(json, "peers")), 2);
    assert_true(json_is_true(json_object_get(json_object_get(json, "journal"), "throttled")));
    json_t *tiers = json_object_get(json_array_get(json_object_get(json, "vms"), 0), "tiers");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(tiers, "ram"), "hit_blocks")), 7);
    json_decref(json);
    metric_free(&hits);
    assert_int_equal(api("DELETE", "/v1/vms/s", ""), 200);
}

static void test_pair(void **state)
{
    (void)state;
    assert_int_equal(api("GET", "/v1/pair", ""), 404);
    pair = (struct pair_status){.name = "p1",
                                .self = "edge-a",
                                .other = "edge-b",
                                .role = PAIR_SOLE,
                                .epoch = 7,
                                .why = {"the store is away"}};
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_non_null(strstr(answer_text, "\"role\": \"sole\""));
    assert_non_null(strstr(answer_text, "\"degraded\": true"));
    assert_non_null(strstr(answer_text, "\"epoch\": 7"));
    assert_non_null(strstr(answer_text, "\"waits_for\": \"the store is away\""));
    pair = (struct pair_status){0};
}

static void test_force(void **state)
{
    (void)state;
    assert_int_equal(api("GET", "/v1/pair/force", ""), 404);
    pair = (struct pair_status){.name = "p1", .self = "edge-a", .other = "edge-b", .role = PAIR_OUT};
    assert_int_equal(api("GET", "/v1/pair/force", ""), 200);
    assert_says("\"lost\": \"edge-b\"");
    assert_says("\"cut\": 77");
    assert_says("\"put_at\": 1795447231");
    assert_says("\"whose\": \"nobody\"");
    assert_says("\"unreadable\": 1");
    assert_int_equal(api("POST", "/v1/pair/force", ""), 422);
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": false}"), 422);
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true, \"x\": 1}"), 422);
    losing.broken = true;
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true}"), 409);
    assert_says("the store is away");
    losing.broken = false;
    assert_false(losing.forced);
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true}"), 202);
    assert_true(losing.forced);
    pair.role = PAIR_SOLE;
    assert_int_equal(api("POST", "/v1/pair/force", "{\"accept_loss\": true}"), 422);
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_says("\"forced\": null");
    pair.forced_epoch = 5;
    pair.forced_at_s = 1795447231;
    pair.forced_edge = "edge-a";
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_says("\"at\": 1795447231");
    pair = (struct pair_status){0};
}

/* What the last answer says of a VM. */
static void assert_pair_vm(const char *name, const char *owner, bool mirrored, const char *why)
{
    json_t *json = json_loads(answer_text, 0, NULL), *vm, *found = NULL;
    json_t *wanted = json_pack("{ss ss sb ss ss}", "name", name, "owner", owner, "mirrored", (int)mirrored,
                               "prefers", "edge-b", "why", why);
    size_t i;

    json_array_foreach(json_object_get(json, "vms"), i, vm)
    {
        if (strcmp(json_string_value(json_object_get(vm, "name")), name) == 0) {
            assert_null(found);
            found = vm;
        }
    }
    assert_true(json_equal(found, wanted));
    json_decref(wanted);
    json_decref(json);
}

static void test_vms_of_a_pair(void **state)
{
    static const char *const names[] = {"unmirrored", "astray", "far2"};
    char body[128];

    (void)state;
    pair = (struct pair_status){.name = "p1", .self = "edge-a", .other = "edge-b", .role = PAIR_BOTH};
    for (int i = 0; i < 3; i++) {
        snprintf(body, sizeof body, "{\"name\":\"%s\",\"disks\":[\"dc1:d\"],\"prefers\":\"edge-b\"}",
                 names[i]);
        assert_int_equal(api("POST", "/v1/vms", body), 201);
        assert_string_equal(last_spec.prefers, "edge-b");
    }
    catalog.vm[catalog.n - 1]->far = true;
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_pair_vm("unmirrored", "edge-a", false, "");
    assert_pair_vm("astray", "edge-a", true, "failback is off here");
    assert_pair_vm("far2", "edge-b", true, "");
    pair.role = PAIR_UNKNOWN;
    assert_int_equal(api("GET", "/v1/pair", ""), 200);
    assert_pair_vm("astray", "", true, "");
    pair.role = PAIR_BOTH;
    assert_int_equal(api("POST", "/v1/vms/far2/hand-over", ""), 409);
    assert_says("ask that one");
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"x\",\"disks\":[\"dc1:d\"],\"prefers\":\"a b\"}"),
                     400);
    assert_int_equal(api("POST", "/v1/vms/astray/prefer", ""), 400);
    assert_int_equal(api("POST", "/v1/vms/astray/prefer", "{\"edge\":\"-\"}"), 400);
    assert_int_equal(api("POST", "/v1/vms/astray/prefer", "{\"edge\":\"edge-a\"}"), 202);
    assert_string_equal(fake_verbs[(fake_begun - 1) % FAKE_VERBS].ask.prefers, "edge-a");
    on_loop(end_done);
    assert_int_equal(api("POST", "/v1/pair/fail-over", ""), 200);
    assert_says("\"failing_over\": true");
    assert_says("\"vms_here\": 5");
    assert_int_equal(api("DELETE", "/v1/pair/fail-over", ""), 200);
    assert_says("\"failing_over\": false");
    pair.role = PAIR_SOLE;
    assert_int_equal(api("POST", "/v1/pair/fail-over", ""), 422);
    assert_int_equal(api("DELETE", "/v1/vms/astray", ""), 200);
    assert_int_equal(api("DELETE", "/v1/vms/unmirrored", ""), 200);
    free(catalog.vm[--catalog.n]);
    pair = (struct pair_status){0};
}

static void test_boot_scripts(void **state)
{
    (void)state;
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"b.1\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(ask(open_http, "GET", "/boot/b.1.ipxe", NULL, ""), 200);
    assert_int_equal(strncmp(answer_text, "#!ipxe\n", 7), 0);
    assert_says("set initiator-iqn iqn.2026-11.test:initiator:b.1\n");
    assert_says("sanboot --keep iscsi:edge.test::3260:0:iqn.2026-11.test:b.1 ||");
    assert_null(strstr(answer_text, "login"));
    assert_int_equal(ask(open_http, "GET", "/boot/b.1.ipxe?initiator=iqn.1999-01.x:me", NULL, ""), 200);
    assert_says("set initiator-iqn iqn.1999-01.x:me\n");
    assert_int_equal(ask(open_http, "GET", "/boot/b.1.ipxe?initiator=a%0ashell", NULL, ""), 400);
    assert_int_equal(ask(open_http, "GET", "/boot/none.ipxe", NULL, ""), 404);
    assert_says("#!ipxe\necho");
    assert_int_equal(ask(open_http, "GET", "/boot/b.1", NULL, ""), 404);
    assert_int_equal(api("DELETE", "/v1/vms/b.1", ""), 200);

    assert_int_equal(
        api("POST", "/v1/vms",
            "{\"name\":\"c\",\"disks\":[\"d:d\"],\"chap_user\":\"u\",\"chap_secret\":\"topsecret-123\"}"),
        201);
    assert_int_equal(ask(open_http, "GET", "/boot/c.ipxe", NULL, ""), 200);
    assert_says("\nlogin\n");
    assert_null(strstr(answer_text, "topsecret"));
    assert_int_equal(api("DELETE", "/v1/vms/c", ""), 200);
}

static void test_boot_scripts_name_both_edges(void **state)
{
    (void)state;
    other_portals[0] = "10.0.0.2:3260";
    other_portals[1] = "10.0.0.3:3260";
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"mine\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(ask(open_http, "GET", "/boot/mine.ipxe", NULL, ""), 200);
    assert_says("sanboot --keep iscsi:edge.test::3260:0:iqn.2026-11.test:mine "
                "iscsi:10.0.0.2::3260:0:iqn.2026-11.test:mine ||");
    assert_int_equal(ask(open_http, "GET", "/boot/mine.ipxe?paths=1", NULL, ""), 200);
    assert_says("sanboot --keep iscsi:edge.test::3260:0:iqn.2026-11.test:mine ||");
    assert_int_equal(ask(open_http, "GET", "/boot/mine.ipxe?paths=3", NULL, ""), 400);

    other_portals[0] = "[fd00::2]:3261";
    assert_int_equal(api("POST", "/v1/vms", "{\"name\":\"far1\",\"disks\":[\"dc1:d\"]}"), 201);
    assert_int_equal(ask(open_http, "GET", "/boot/far1.ipxe", NULL, ""), 200);
    assert_says("sanboot --keep iscsi:[fd00::2]::3261:0:iqn.2026-11.test:far1 "
                "iscsi:edge.test::3260:0:iqn.2026-11.test:far1 ||");
    other_portals[0] = NULL;
}

static void stop_rest(void)
{
    rest_stop(&rest);
}

static void try_bad_token_files(void)
{
    struct rest_conf conf = {
        .vms = &catalog, .main = loop, .iqn_prefix = "iqn.x", .token_file = "/none/token"};
    struct why why = {""};
    FILE *f;

    CHECK(rest_start(&rest, control, open_http, &conf, &why) == -ENOENT &&
          strstr(why.text, "isthmusctl token new"));
    conf.token_file = token_file;
    chmod(token_file, 0644);
    CHECK(rest_start(&rest, control, open_http, &conf, &why) == -EACCES && strstr(why.text, "chmod 600"));
    chmod(token_file, 0600);
    f = fopen(token_file, "w");
    fputs("short\n", f);
    fclose(f);
    CHECK(rest_start(&rest, control, open_http, &conf, &why) == -EINVAL && strstr(why.text, "shorter"));
}

static void test_after_the_end_and_with_bad_token_files(void **state)
{
    (void)state;
    on_loop(stop_rest);
    assert_int_equal(api("GET", "/v1/vms", ""), 503);
    assert_int_equal(ask(open_http, "GET", "/boot/x.ipxe", NULL, ""), 503);
    on_loop(try_bad_token_files);
}

static struct tasks *tasks;

static void start(void)
{
    struct tasks_conf with = {.vms = &catalog, .main = loop};
    struct rest_conf conf = {
        .vms = &catalog, .main = loop, .iqn_prefix = "iqn.2026-11.test", .token_file = token_file};
    struct why why = {""};

    conf.target = (struct target *)&conf;
    CHECK(tasks_open(&tasks, &with, &why) == 0);
    conf.tasks = tasks;
    conf.failback = (struct failback *)&conf;
    CHECK(http_start(&control, loop, "127.0.0.1:0", &why) == 0);
    CHECK(http_start(&open_http, loop, "127.0.0.1:0", &why) == 0);
    CHECK(rest_start(&rest, control, open_http, &conf, &why) == 0);
}

static void on_tasks_closed(void *arg)
{
    sem_post(arg);
}

static sem_t tasks_closed;

static void stop(void)
{
    tasks_close(tasks, on_tasks_closed, &tasks_closed);
    http_stop(&control);
    http_stop(&open_http);
}

static int set_up(void **state)
{
    FILE *f;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    token_file = xasprintf("%s/token", dir);
    f = fopen(token_file, "w");
    fprintf(f, "%s\n", token);
    fclose(f);
    chmod(token_file, 0600);
    pool_start(1);
    loop = loop_new("test");
    loop_start(loop);
    on_loop(start);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sem_init(&tasks_closed, 0, 0);
    on_loop(stop);
    sem_wait(&tasks_closed);
    sem_destroy(&tasks_closed);
    pool_stop();
    fake_rows_clear();
    loop_stop(loop);
    loop_join(loop);
    loop_free(&loop);
    unlink(token_file);
    free(token_file);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_is_asked),
        cmocka_unit_test(test_a_vm_from_creation_to_deletion),
        cmocka_unit_test(test_disks_come_and_go),
        cmocka_unit_test(test_a_busy_vm_wants_force),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_verbs_are_tasks),
        cmocka_unit_test(test_malformed_verbs_are_refused),
        cmocka_unit_test(test_malformed_vms_are_refused),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_vms_of_a_pair),
        cmocka_unit_test(test_force),
        cmocka_unit_test(test_boot_scripts),
        cmocka_unit_test(test_boot_scripts_name_both_edges),
        cmocka_unit_test(test_after_the_end_and_with_bad_token_files),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
