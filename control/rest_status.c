/* control/rest_status.c - how the edge and its VMs are, as JSON. Numbers come from the metrics where those
 * count them already.
 */
#include "rest_impl.h"

#include "log.h"
#include "mem.h"
#include "metric.h"

#include <stdio.h>
#include <string.h>

static uint64_t blocks_of(const char *vm, const char *tier, const char *result)
{
    CLEANUP_FREE char *labels = xasprintf("vm=\"%s\",tier=\"%s\",result=\"%s\"", vm, tier, result);

    return metric_sum("isthmus_tier_blocks_total", labels);
}

static uint64_t sum_of(const char *metric, const char *label, const char *value)
{
    CLEANUP_FREE char *labels = xasprintf("%s=\"%s\"", label, value);

    return metric_sum(metric, labels);
}

static json_t *tiers_json(const char *vm)
{
    static const char *const tiers[] = {"ram", "journal", "onprem"};
    json_t *all = json_object();

    for (size_t i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++) {
        json_int_t hits = (json_int_t)blocks_of(vm, tiers[i], "hit");
        json_object_set_new(all, tiers[i],
                            json_pack("{sI sI}", "hit_blocks", hits, "miss_blocks",
                                      (json_int_t)blocks_of(vm, tiers[i], "miss")));
    }
    return all;
}

static double read_us(const char *vm, double q)
{
    CLEANUP_FREE char *labels = xasprintf("vm=\"%s\",tier=\"ram\"", vm);

    return (double)metric_quantile_ns("isthmus_tier_read_seconds", labels, q) / 1e3;
}

static json_t *disk_json(const struct vm *vm, unsigned lun)
{
    const struct vm_disk *disk = &vm->spec.disks[lun];
    char source[sizeof(disk->onprem) + sizeof(disk->disk) + 2], naa[24] = "";
    uint8_t id[8];

    snprintf(source, sizeof(source), "%s:%s", disk->onprem, disk->disk);
    volume_make_naa(vm->spec.id, disk->number, id);
    for (int i = 0; i < 8; i++)
        snprintf(naa + 2 * i, 3, "%02x", id[i]);
    return json_pack("{si ss sI si ss}", "lun", (int)lun, "source", source, "bytes",
                     (json_int_t)(disk->sectors * SECTOR_BYTES), /* the volume's own belongs to its loop */
                     "block_bytes", (int)disk->block_bytes, "naa", naa);
}

struct session_list {
    const char *vm;
    json_t *list;
};

/* Under the target's lock. */
static void add_session(void *arg, const struct target_session *s)
{
    struct session_list *l = arg;

    if (s->vm && strcmp(s->vm, l->vm) == 0)
        json_array_append_new(l->list, json_pack("{ss ss ss ss si sI sI}", "connection", s->connection,
                                                 "initiator", s->initiator ? s->initiator : "", "address",
                                                 s->address ? s->address : "", "portal",
                                                 s->portal ? s->portal : "", "portal_group",
                                                 (int)s->portal_group, "commands", (json_int_t)s->commands,
                                                 "age_s", (json_int_t)(s->age_ns / 1000000000)));
}

/* Does the object store say that it is this edge's, and on-prem that the source disks are, where it has to?
 */
static const char *ownership(const struct vm *vm)
{
    if (atomic_load(&vm->fenced))
        return "lost";
    return atomic_load(&vm->admitted) && atomic_load(&vm->place) != WRITEBACK_UNKNOWN ? "ours" : "unknown";
}

static json_t *onprem_json(const struct writeback_status *s)
{
    static const char *const steps[] = {[WRITEBACK_IDLE] = "idle",
                                        [WRITEBACK_COMMITTING] = "committing",
                                        [WRITEBACK_SENDING] = "sending",
                                        [WRITEBACK_APPLYING] = "applying",
                                        [WRITEBACK_CONFIRMING] = "confirming"};

    return json_pack("{sb sb sb ss sI sf sI sf sI sI ss}", "attached", (int)s->attached, "held", (int)s->held,
                     "alarm", (int)s->alarm, "step", steps[s->step], "applied", (json_int_t)s->applied,
                     "applied_instant", (double)s->applied_instant_ms / 1e3, "unapplied_bytes",
                     (json_int_t)s->unapplied_bytes, "unapplied_s", (double)s->unapplied_ns / 1e9, "bytes",
                     (json_int_t)s->bytes, "bytes_done", (json_int_t)s->bytes_done, "trouble", s->why.text);
}

/* How far what it wrote has come. */
static void add_state(json_t *json, struct vm *vm)
{
    struct vm_status s;
    json_t *state;

    vm_status(vm, &s);
    state = json_pack("{sI sI sI sf ss}", "written", (json_int_t)s.written, "committed",
                      (json_int_t)s.committed, "pending_bytes", (json_int_t)s.pending_bytes, "store_lag_s",
                      (double)s.store_lag_ns / 1e9, "trouble", s.store_why.text);
    if (s.has_wb)
        json_object_set_new(json, "onprem", onprem_json(&s.wb));
    json_object_set_new(json, "storage", json_string(rest_storage_name(vm->spec.storage)));
    json_object_set_new(json, "home", json_boolean(vm->spec.home));
    json_object_set_new(json, "paused", json_boolean(vm->spec.paused));
    json_object_set_new(json, "log", state);
}

json_t *rest_vm_json(struct rest *rest, struct vm *vm)
{
    const struct vm_spec *spec = &vm->spec;
    struct session_list sessions = {spec->name, json_array()};
    json_t *disks = json_array(), *json;

    for (unsigned i = 0; i < spec->ndisks; i++)
        if (vm_has_disk(spec, i))
            json_array_append_new(disks, disk_json(vm, i));
    if (rest->conf.target)
        target_each_session(rest->conf.target, add_session, &sessions);
    json = json_pack("{ss ss ss ss so so ss ss ss sb so sI sf sf}", "name", spec->name, "iqn", spec->iqn,
                     "ownership", ownership(vm), "prefers", spec->prefers, "disks", disks, "sessions",
                     sessions.list, "chap_user", spec->chap_user, "mutual_user", spec->mutual_user, "loop",
                     vm->loop ? vm->loop->name : "", "deleting", (int)atomic_load(&vm->deleting), "tiers",
                     tiers_json(spec->name), "wan_bytes",
                     (json_int_t)sum_of("isthmus_onprem_reply_bytes_total", "vm", spec->name), "read_p50_us",
                     read_us(spec->name, 0.5), "read_p99_us", read_us(spec->name, 0.99));
    add_state(json, vm);
    return json;
}

struct vm_list {
    struct rest *rest;
    json_t *list;
};

static void add_vm(void *arg, struct vm *vm)
{
    struct vm_list *l = arg;

    json_array_append_new(l->list, rest_vm_json(l->rest, vm));
}

json_t *rest_vms_json(struct rest *rest)
{
    struct vm_list all = {rest, json_array()};

    vms_each(rest->conf.vms, add_vm, &all);
    return all.list;
}

static json_t *peer_json(const struct peer *peer)
{
    static const char bytes[] = "isthmus_link_bytes_total";
    CLEANUP_FREE char *sent = xasprintf("peer=\"%s\",direction=\"sent\"", peer_name(peer));
    CLEANUP_FREE char *received = xasprintf("peer=\"%s\",direction=\"received\"", peer_name(peer));

    return json_pack("{ss sb sf sI sI sI}", "name", peer_name(peer), "up", (int)peer_up(peer), "rtt_ms",
                     (double)peer_rtt_ns(peer) / 1e6, "bytes_sent", (json_int_t)metric_sum(bytes, sent),
                     "bytes_received", (json_int_t)metric_sum(bytes, received), "bytes_per_s",
                     (json_int_t)peer_bytes_per_s(peer));
}

struct peer_list {
    struct rest *rest;
    json_t *peers; /* by name */
};

/* The on-prem daemons that VMs have disks at. */
static void add_peers(void *arg, struct vm *vm)
{
    struct peer_list *l = arg;

    for (unsigned i = 0; i < vm->spec.ndisks; i++) {
        const char *name = vm->spec.disks[i].onprem;
        struct peer *peer = !vm_has_disk(&vm->spec, i) || json_object_get(l->peers, name)
                                ? NULL
                                : link_peer(l->rest->conf.link, name);
        if (!peer)
            continue;
        json_object_set_new(l->peers, name, peer_json(peer));
    }
}

static json_t *peers_json(struct rest *rest)
{
    struct peer_list by_name = {rest, json_object()};
    json_t *list = json_array(), *peer;
    const char *name;

    vms_each(rest->conf.vms, add_peers, &by_name);
    json_object_foreach(by_name.peers, name, peer) json_array_append(list, peer);
    json_decref(by_name.peers);
    return list;
}

void rest_status(struct rest *rest, struct http_request *r)
{
    struct journal *j = rest->conf.journal;
    uint64_t uptime = loop_now_ns(rest->conf.main) - rest->started_ns;
    json_t *journal = json_pack("{sI sI sb sb}", "bytes", (json_int_t)journal_bytes(j), "max_bytes",
                                (json_int_t)metric_sum("isthmus_journal_max_bytes", ""), "throttled",
                                (int)journal_throttled(j), "failed", (int)journal_failed(j));
    json_t *ram =
        json_pack("{sI sI}", "used_bytes", (json_int_t)metric_sum("isthmus_ram_bytes", "kind=\"used\""),
                  "max_bytes", (json_int_t)metric_sum("isthmus_ram_bytes", "kind=\"limit\""));

    rest_reply(r, 200,
               json_pack("{ss sI so so so so}", "version", ISTHMUS_VERSION, "uptime_s",
                         (json_int_t)(uptime / 1000000000), "vms", rest_vms_json(rest), "peers",
                         peers_json(rest), "journal", journal, "ram", ram));
}
