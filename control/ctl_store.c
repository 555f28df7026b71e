/* control/ctl_store.c - what an object store holds, looked at without an edge: list, verify, drop-lost,
 * export.
 *
 * Reads the edge's configuration file: its section store, and its key. Only drop-lost changes the store. Maps
 * are rebuilt in a journal of their own in $TMPDIR, which is removed in the end.
 */
#include "audit.h"
#include "check.h"
#include "ctl.h"
#include "deployment.h"
#include "edge_conf.h"
#include "export.h"
#include "log.h"
#include "mem.h"
#include "store_conf.h"
#include "vm_spec.h"
#include "vm_store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { POOL_THREADS = 4, COPY_BYTES = 1 << 20 };

struct opened {
    const struct ctl *ctl;
    cfg_t *cfg;
    struct aead_key master;
    struct loop *loop;
    struct store *store;
    struct journal *journal;
    char scratch[300];
};

/* --- opening and closing --------------------------------------------------------------------------------*/

static int open_store(struct opened *o, struct why *why)
{
    CLEANUP_FREE char *embedded = xasprintf("dir:%s/store", cfg_getstr(o->cfg, "data"));
    struct deployment d;
    struct store_conf conf;
    int err = store_conf_read(cfg_getsec(o->cfg, "store"), &conf, why);

    if (err)
        return err;
    if (!*conf.url)
        conf.url = embedded;
    pool_start(POOL_THREADS);
    o->loop = loop_new("store");
    o->store = store_open(o->loop, &conf, why);
    loop_start(o->loop);
    if (!o->store)
        return -EINVAL;
    err = deployment_read(o->store, &o->master, NULL, &d, why);
    return err == -ENOENT ? why_set(why, err, "no edge has ever used the object store %s", o->store->name)
                          : err;
}

static int open_scratch(struct opened *o, struct why *why)
{
    struct journal_conf conf = {.path = o->scratch, .max_bytes = 64 << 20};
    const char *folder = getenv("TMPDIR");
    int err;

    snprintf(o->scratch, sizeof o->scratch, "%.250s/isthmusctl-XXXXXX", folder && *folder ? folder : "/tmp");
    if (!mkdtemp(o->scratch)) {
        err = why_set(why, -errno, "%s cannot be made: %s", o->scratch, strerror(errno));
        o->scratch[0] = '\0';
        return err;
    }
    loop_random(o->loop, conf.key.bytes, sizeof conf.key.bytes);
    return journal_open(&o->journal, &conf, why);
}

static int open_all(struct opened *o, const struct ctl *ctl, struct why *why)
{
    int err;

    memset(o, 0, sizeof *o);
    o->ctl = ctl;
    log_set_level("error");
    err = edge_conf_load(&o->cfg, ctl->config ? ctl->config : "/etc/isthmus/edge.conf", why);
    if (!err)
        err = aead_key_load(cfg_getstr(o->cfg, "key"), &o->master, why);
    if (!err)
        err = open_store(o, why);
    return err ? err : open_scratch(o, why);
}

static int on_scratch(const char *path, const struct stat *st, int what, struct FTW *ftw)
{
    (void)st;
    (void)what;
    (void)ftw;
    return remove(path);
}

static void close_all(struct opened *o)
{
    if (o->journal)
        journal_close(&o->journal);
    if (*o->scratch)
        nftw(o->scratch, on_scratch, 8, FTW_DEPTH | FTW_PHYS);
    if (o->loop) {
        loop_stop(o->loop);
        loop_join(o->loop);
        if (o->store)
            store_free(&o->store);
        loop_free(&o->loop);
        pool_stop();
    }
    if (o->cfg)
        conf_free(&o->cfg);
    explicit_bzero(&o->master, sizeof o->master);
}

/* --- VMs ------------------------------------------------------------------------------------------------*/

struct walk {
    struct opened *o;
    int (*each)(struct walk *, struct vm_spec *, struct why *);
    int (*deleted)(struct walk *, struct vm_spec *,
                   struct why *); /* one that is being deleted; NULL: passed over */
    struct vmobj entry;           /* of that VM */
    json_t *list;
    unsigned seen, unsound;
    bool going; /* one of the wanted name is being deleted */
    struct why *why;
};

static int on_vm(void *arg, const uint8_t id[VMLOG_ID_BYTES])
{
    struct walk *w = arg;
    struct vm_store s = {.store = w->o->store, .master = &w->o->master, .random = w->o->loop};
    struct vm_spec *spec = xcalloc(1, sizeof *spec);
    const char *wanted = w->o->ctl->argument;
    char etag[ENTRY_ETAG];
    struct why reason = {""};
    bool deleting;
    int err = vm_store_look(&s, id, spec, &w->entry, etag, &deleting, &reason);

    if (err == -EBADMSG || err == -ENOTSUP || err == -ENOENT) { /* the others can be looked at all the same */
        w->unsound++;
        if (w->o->ctl->json)
            json_array_append_new(w->list, json_pack("{s[s]}", "faults", reason.text));
        else
            printf("%s\n", reason.text);
        err = 0;
    } else if (err) {
        *w->why = reason;
    } else if (wanted && strcmp(wanted, spec->name) != 0) {
        ;
    } else if (deleting && !w->deleted) {
        w->going = true;
    } else {
        w->seen++;
        err = deleting ? w->deleted(w, spec, w->why) : w->each(w, spec, w->why);
    }
    vm_spec_wipe(spec);
    free(spec);
    return err;
}

static int walk(struct walk *w, struct why *why)
{
    struct vm_store s = {.store = w->o->store, .master = &w->o->master, .random = w->o->loop};
    int err;

    w->why = why;
    w->list = json_array();
    err = vm_store_each(&s, on_vm, w, why);
    if (!err && w->o->ctl->argument && !w->seen)
        err = why_set(why, -ENOENT, w->going ? "VM %s is being deleted" : "the object store knows no VM %s",
                      w->o->ctl->argument);
    return err;
}

static int end_walk(struct walk *w)
{
    if (w->o->ctl->json) {
        json_t *all = json_pack("{sO}", "vms", w->list);

        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    }
    json_decref(w->list);
    return 0;
}

static struct recover_conf recover_conf_of(const struct walk *w, const struct vm_spec *spec)
{
    return (struct recover_conf){.journal = w->o->journal,
                                 .store = w->o->store,
                                 .master = &w->o->master,
                                 .entry = w->entry,
                                 .vm = spec->name,
                                 .floor = spec->floor,
                                 .through = UINT64_MAX};
}

/* Its objects are going: what is left of them is no cut. */
static int say_deleted(struct walk *w, struct vm_spec *spec, struct why *why)
{
    (void)why;
    if (w->o->ctl->json)
        json_array_append_new(w->list, json_pack("{ss si sI sb s[]}", "name", spec->name, "disks",
                                                 (int)vm_spec_disks(spec), "epoch", (json_int_t)spec->epoch,
                                                 "deleting", true, "faults"));
    else
        printf("%-20s is being deleted: its entry goes when on-prem has let go of its disks\n", spec->name);
    return 0;
}

/* --- list -----------------------------------------------------------------------------------------------*/

static int count(void *arg, uint64_t first)
{
    (void)first;
    ++*(unsigned *)arg;
    return 0;
}

static int list_one(struct walk *w, struct vm_spec *spec, struct why *why)
{
    struct recover_conf c = recover_conf_of(w, spec);
    struct recover_result r;
    uint64_t lost = 0, lost_bytes = 0;
    unsigned objects = 0;
    int err = recover_each_object(&c, count, &objects, why);

    memset(&r, 0, sizeof r);
    if (!err)
        err = recover_lost(&c, false, &lost, &lost_bytes, why);
    if (!err)
        err = recover_vm(&c, &r, why);
    if (err == -ENOENT)
        err = 0; /* nothing was ever written */
    if (err)
        return err;
    if (w->o->ctl->json)
        json_array_append_new(w->list, json_pack("{ss si sI sb sI sI si sI}", "name", spec->name, "disks",
                                                 (int)vm_spec_disks(spec), "epoch", (json_int_t)spec->epoch,
                                                 "deleting", false, "cut", (json_int_t)r.state.committed,
                                                 "checkpoint", (json_int_t)r.newest.cut, "objects",
                                                 (int)objects, "put_aside", (json_int_t)lost));
    else
        printf("%-20s %5u %7" PRIu64 " %12" PRIu64 " %12" PRIu64 " %8u %9" PRIu64 "\n", spec->name,
               vm_spec_disks(spec), spec->epoch, r.state.committed, r.newest.cut, objects, lost);
    return map_delete(w->o->journal, spec->id, why);
}

int ctl_store_list(const struct ctl *ctl, struct why *why)
{
    struct opened o;
    struct walk w = {.o = &o, .each = list_one, .deleted = say_deleted};
    int err = open_all(&o, ctl, why);

    if (!err && !ctl->json)
        printf("%-20s %5s %7s %12s %12s %8s %9s\n", "VM", "DISKS", "EPOCH", "NEWEST CUT", "CHECKPOINT",
               "OBJECTS", "PUT ASIDE");
    if (!err) {
        err = walk(&w, why);
        end_walk(&w);
    }
    close_all(&o);
    return err;
}

/* --- verify ---------------------------------------------------------------------------------------------*/

struct verifying {
    const struct vm_spec *spec;
    json_t *faults; /* NULL: they are printed */
};

static void on_fault(void *arg, const char *sentence)
{
    struct verifying *v = arg;

    if (v->faults)
        json_array_append_new(v->faults, json_string(sentence));
    else
        printf("%s: %s\n", v->spec->name, sentence);
}

static void say_verdict(const struct vm_spec *spec, const struct audit_result *r)
{
    if (!r->faults) {
        printf("%s: sound up to record %" PRIu64 ": %" PRIu64 " object(s) of %" PRIu64 " bytes, %" PRIu64
               " bytes live, %" PRIu64 " checkpoint(s), %" PRIu64 " object(s) left over\n",
               spec->name, r->cut, r->objects, r->object_bytes, r->live_bytes, r->checkpoints, r->left_over);
        return;
    }
    printf("%s: %u fault(s); the newest whole cut is at record %" PRIu64, spec->name, r->faults, r->cut);
    if (r->lost_sectors)
        printf(", and %" PRIu64 " bytes of it cannot be read", r->lost_sectors * 512);
    if (r->has_good_cut)
        printf("; it can go back to record %" PRIu64 " (vm recover --cut %" PRIu64 ")\n", r->good_cut,
               r->good_cut);
    else
        printf("; there is no cut to go back to\n");
}

static int verify_one(struct walk *w, struct vm_spec *spec, struct why *why)
{
    struct recover_conf c = recover_conf_of(w, spec);
    struct verifying v = {spec, w->o->ctl->json ? json_array() : NULL};
    struct audit_result r;
    int err;

    c.tell = on_fault;
    c.arg = &v;
    err = audit_vm(&c, &r, why);
    if (!err && r.faults)
        w->unsound++;
    if (!err && v.faults)
        json_array_append_new(
            w->list,
            json_pack("{ss sI sI sI sI sI sI sI so sO}", "name", spec->name, "cut", (json_int_t)r.cut,
                      "objects", (json_int_t)r.objects, "object_bytes", (json_int_t)r.object_bytes,
                      "live_bytes", (json_int_t)r.live_bytes, "checkpoints", (json_int_t)r.checkpoints,
                      "left_over", (json_int_t)r.left_over, "lost_bytes", (json_int_t)(r.lost_sectors * 512),
                      "good_cut", r.has_good_cut ? json_integer((json_int_t)r.good_cut) : json_null(),
                      "faults", v.faults));
    else if (!err)
        say_verdict(spec, &r);
    json_decref(v.faults);
    return err ? err : map_delete(w->o->journal, spec->id, why);
}

int ctl_store_verify(const struct ctl *ctl, struct why *why)
{
    struct opened o;
    struct walk w = {.o = &o, .each = verify_one, .deleted = say_deleted};
    int err = open_all(&o, ctl, why);

    if (!err) {
        err = walk(&w, why);
        end_walk(&w);
    }
    close_all(&o);
    if (!err && w.unsound)
        err = why_set(why, -EBADMSG, "the object store is not sound: %u VM(s) have faults", w.unsound);
    return err;
}

/* --- drop-lost ------------------------------------------------------------------------------------------*/

static int drop_lost(struct walk *w, struct vm_spec *spec, struct why *why)
{
    struct recover_conf c = recover_conf_of(w, spec);
    uint64_t n = 0, bytes = 0;
    int err = recover_lost(&c, true, &n, &bytes, why);

    if (!err)
        printf("%s: %" PRIu64 " object(s) that were put aside are removed, %" PRIu64 " bytes\n", spec->name,
               n, bytes);
    return err;
}

int ctl_store_drop_lost(const struct ctl *ctl, struct why *why)
{
    struct opened o;
    struct walk w = {.o = &o, .each = drop_lost};
    int err;

    if (!ctl->yes)
        return why_set(why, -EINVAL, "what was put aside of VM %s would be gone for good: say --yes",
                       ctl->argument);
    err = open_all(&o, ctl, why);
    if (!err) {
        err = walk(&w, why);
        json_decref(w.list);
    }
    close_all(&o);
    return err;
}

/* --- export ---------------------------------------------------------------------------------------------*/

/* The base's data, its holes left out. */
static int copy_base(const char *path, int to, uint64_t bytes, struct why *why)
{
    CLEANUP_FREE char *buf = xmalloc(COPY_BYTES);
    int from = open(path, O_RDONLY | O_CLOEXEC), err = 0;
    off_t at = 0, hole;

    if (from < 0)
        return why_set(why, -errno, "the base %s cannot be opened: %s", path, strerror(errno));
    while (!err && (uint64_t)at < bytes && (at = lseek(from, at, SEEK_DATA)) >= 0) {
        hole = lseek(from, at, SEEK_HOLE);
        for (ssize_t n = 0; !err && at < hole && (uint64_t)at < bytes; at += n) {
            size_t want = hole - at < COPY_BYTES ? (size_t)(hole - at) : COPY_BYTES;

            n = pread(from, buf, bytes - (uint64_t)at < want ? bytes - (uint64_t)at : want, at);
            if (n <= 0 || pwrite(to, buf, (size_t)n, at) != n)
                err = why_set(why, errno ? -errno : -EIO, "the base %s cannot be copied: %s", path,
                              strerror(errno));
        }
    }
    if (!err && at < 0 && errno != ENXIO)
        err = why_set(why, -errno, "the base %s cannot be read: %s", path, strerror(errno));
    close(from);
    return err;
}

static int write_image(struct opened *o, const struct vm_spec *spec, unsigned lun, struct map *map, int fd,
                       struct why *why)
{
    const char *base = o->ctl->base;
    uint64_t bytes = spec->disks[lun].sectors * 512;
    struct export_conf c = {.store = o->store,
                            .map = map,
                            .master = &o->master,
                            .disk = spec->disks[lun].number,
                            .fd = fd,
                            .punch = base != NULL};
    struct export_result r;
    int err = 0;

    memcpy(c.id, spec->id, sizeof c.id);
    if (ftruncate(fd, (off_t)bytes) < 0)
        return why_set(why, -errno, "%s cannot be made: %s", o->ctl->file, strerror(errno));
    if (base)
        err = copy_base(base, fd, bytes, why);
    if (!err)
        err = export_disk(&c, &r, why);
    if (err)
        return err;
    printf("disk %u of %s at record %" PRIu64 " is in %s: %" PRIu64 " of its %" PRIu64
           " bytes are from the object store%s%s\n",
           lun, spec->name, map_state(map)->committed, o->ctl->file, r.data_bytes + r.zero_bytes, bytes,
           base ? ", the others from " : "", base ? base : "");
    if (!base && r.data_bytes + r.zero_bytes < bytes)
        fprintf(stderr,
                "isthmusctl: what the VM never wrote is on its source disk %s:%s and is zeros in %s; --base "
                "FILE fills it in\n",
                spec->disks[lun].onprem, spec->disks[lun].disk, o->ctl->file);
    return 0;
}

static void print_told(void *arg, const char *sentence)
{
    (void)arg;
    fprintf(stderr, "%s\n", sentence);
}

static int export_one(struct walk *w, struct vm_spec *spec, struct why *why)
{
    const struct ctl *ctl = w->o->ctl;
    unsigned lun = ctl->ndisks ? (unsigned)strtoul(ctl->disks[0], NULL, 10) : 0;
    struct recover_conf c = recover_conf_of(w, spec);
    struct recover_result r;
    struct map *map = NULL;
    int fd, err;

    if (!vm_has_disk(spec, lun))
        return why_set(why, -EINVAL, "VM %s has no LUN %u", spec->name, lun);
    c.through = ctl->cut ? strtoull(ctl->cut, NULL, 10) : UINT64_MAX;
    c.tell = print_told;
    err = recover_vm(&c, &r, why);
    if (!err)
        err = map_open(&map, c.journal, c.entry.id, c.vm, why);
    if (err)
        return err;
    fd = open(ctl->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        err = why_set(why, -errno, "%s cannot be made: %s", ctl->file, strerror(errno));
    else
        err = write_image(w->o, spec, lun, map, fd, why);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && err)
        unlink(ctl->file);
    map_close(&map);
    return err;
}

int ctl_store_export(const struct ctl *ctl, struct why *why)
{
    struct opened o;
    struct walk w = {.o = &o, .each = export_one};
    int err = open_all(&o, ctl, why);

    if (!err) {
        err = walk(&w, why);
        json_decref(w.list);
    }
    close_all(&o);
    return err;
}
