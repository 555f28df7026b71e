/* control/ctl_vm.c - the commands that ask the edge, and their tables for people.
 */
#include "ctl.h"
#include "ctl_print.h"

#include "conf.h"
#include "mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SECRET_MAX = 256 };

const char *ctl_text(json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}

json_int_t ctl_int(json_t *json, const char *key)
{
    return json_integer_value(json_object_get(json, key));
}

/* "1.5G" */
const char *ctl_size(json_int_t bytes, char text[16])
{
    static const char units[] = " KMGTP";
    double n = (double)bytes;
    int unit = 0;

    while (n >= 1024 && unit < 5) {
        n /= 1024;
        unit++;
    }
    snprintf(text, 16, unit && n < 10 ? "%.1f%c" : "%.0f%c", n, units[unit]);
    if (!unit)
        snprintf(text, 16, "%.0f", n);
    return text;
}

int ctl_dump(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
    return 0;
}

char *ctl_vm_path(const char *name, const char *more)
{
    char *quoted = curl_easy_escape(NULL, name, 0);
    char *path = xasprintf("/v1/vms/%s%s", quoted ? quoted : "", more);

    curl_free(quoted);
    return path;
}

static int add_secret(json_t *body, const char *what, const char *user, const char *file, struct why *why)
{
    char secret[SECRET_MAX], user_key[32], secret_key[32];
    int err;

    if (!user && !file)
        return 0;
    if (!user || !file)
        return why_set(why, -EINVAL, "--%s-user and --%s-secret-file come together", what, what);
    err = conf_read_secret(file, secret, sizeof(secret), why);
    if (err)
        return err;
    snprintf(user_key, sizeof(user_key), "%s_user", what);
    snprintf(secret_key, sizeof(secret_key), "%s_secret", what);
    if (json_object_set_new(body, user_key, json_string(user)) != 0 ||
        json_object_set_new(body, secret_key, json_string(secret)) != 0)
        err = why_set(why, -EINVAL, "the user or the secret in %s is not UTF-8", file);
    explicit_bzero(secret, sizeof(secret));
    return err;
}

int ctl_vm_create(const struct ctl *ctl, struct why *why)
{
    json_t *body, *answer, *disks = json_array();
    int err;

    for (unsigned i = 0; i < ctl->ndisks; i++)
        json_array_append_new(disks, json_string(ctl->disks[i]));
    body = json_pack("{ss so}", "name", ctl->argument, "disks", disks);
    if (!body)
        return why_set(why, -EINVAL, "the name is not UTF-8");
    if (ctl->storage)
        json_object_set_new(body, "storage", json_string(ctl->storage));
    if (ctl->block_bytes)
        json_object_set_new(body, "block_bytes", json_integer(ctl->block_bytes));
    if (ctl->prefers)
        json_object_set_new(body, "prefers", json_string(ctl->prefers));
    err = add_secret(body, "chap", ctl->chap_user, ctl->chap_secret_file, why);
    if (!err)
        err = add_secret(body, "mutual", ctl->mutual_user, ctl->mutual_secret_file, why);
    if (!err)
        err = ctl_ask(ctl, "POST", "/v1/vms", body, &answer, why);
    json_decref(body);
    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    printf("VM %s is ready: %s\n", ctl_text(answer, "name"), ctl_text(answer, "iqn"));
    json_decref(answer);
    return 0;
}

static const char *where(json_t *vm)
{
    if (json_is_true(json_object_get(json_object_get(vm, "onprem"), "alarm")))
        return "ALARM";
    return json_is_true(json_object_get(vm, "home")) ? "on-prem" : "cloud";
}

static void print_vms(json_t *vms)
{
    json_t *vm, *disk;
    size_t i, j;
    char size[16], wan[16];

    printf("%-20s %-8s %5s %7s %8s %8s %9s  %s\n", "VM", "RUNS", "DISKS", "SIZE", "SESSIONS", "WAN",
           "READ P99", "IQN");
    json_array_foreach(vms, i, vm)
    {
        json_int_t bytes = 0;
        json_array_foreach(json_object_get(vm, "disks"), j, disk) bytes += ctl_int(disk, "bytes");
        printf("%-20s %-8s %5zu %7s %8zu %8s %6.1f ms  %s\n", ctl_text(vm, "name"), where(vm),
               json_array_size(json_object_get(vm, "disks")), ctl_size(bytes, size),
               json_array_size(json_object_get(vm, "sessions")), ctl_size(ctl_int(vm, "wan_bytes"), wan),
               json_number_value(json_object_get(vm, "read_p99_us")) / 1e3, ctl_text(vm, "iqn"));
    }
}

int ctl_vm_list(const struct ctl *ctl, struct why *why)
{
    json_t *answer;
    int err = ctl_ask(ctl, "GET", "/v1/vms", NULL, &answer, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    print_vms(json_object_get(answer, "vms"));
    json_decref(answer);
    return 0;
}

static void print_onprem(json_t *o)
{
    time_t instant = (time_t)json_number_value(json_object_get(o, "applied_instant"));
    char size[16], when[32] = "";
    struct tm tm;

    if (instant && gmtime_r(&instant, &tm))
        strftime(when, sizeof when, " of %Y-%m-%d %H:%M:%S UTC", &tm);
    printf("  on-prem   record %lld%s; lacks %s, the oldest %.0f s old; %s%s\n",
           (long long)ctl_int(o, "applied"), when, ctl_size(ctl_int(o, "unapplied_bytes"), size),
           json_number_value(json_object_get(o, "unapplied_s")), ctl_text(o, "step"),
           !json_is_true(json_object_get(o, "attached")) ? ", not attached"
           : json_is_true(json_object_get(o, "held"))    ? ", disks reserved"
                                                         : "");
    if (*ctl_text(o, "trouble"))
        printf("  %s   %s\n", json_is_true(json_object_get(o, "alarm")) ? "ALARM  " : "TROUBLE",
               ctl_text(o, "trouble"));
}

/* How far what it wrote has come. */
static void print_log(json_t *vm)
{
    json_t *log = json_object_get(vm, "log"), *onprem = json_object_get(vm, "onprem");
    char size[16];

    printf("  runs      %s\n  storage   %s%s\n",
           json_is_true(json_object_get(vm, "home")) ? "on-prem" : "in the cloud", ctl_text(vm, "storage"),
           json_is_true(json_object_get(vm, "paused")) ? ", write-back is paused" : "");
    printf("  log       record %lld; in the object store to %lld, the rest %.1f s old, %s\n",
           (long long)ctl_int(log, "written"), (long long)ctl_int(log, "committed"),
           json_number_value(json_object_get(log, "store_lag_s")),
           ctl_size(ctl_int(log, "pending_bytes"), size));
    if (*ctl_text(log, "trouble"))
        printf("  TROUBLE   %s\n", ctl_text(log, "trouble"));
    if (onprem)
        print_onprem(onprem);
}

static void print_vm(json_t *vm)
{
    json_t *item;
    const char *tier;
    size_t i;
    char size[16];

    printf("VM %s\n  iqn       %s\n  loop      %s\n", ctl_text(vm, "name"), ctl_text(vm, "iqn"),
           ctl_text(vm, "loop"));
    if (strcmp(ctl_text(vm, "ownership"), "ours") != 0)
        printf("  not served: %s\n", strcmp(ctl_text(vm, "ownership"), "lost") == 0
                                         ? "another edge has taken it over"
                                         : "the object store is waited for");
    print_log(vm);
    if (*ctl_text(vm, "prefers"))
        printf("  prefers   %s\n", ctl_text(vm, "prefers"));
    if (*ctl_text(vm, "chap_user"))
        printf("  CHAP      user %s%s%s\n", ctl_text(vm, "chap_user"),
               *ctl_text(vm, "mutual_user") ? ", mutual user " : "", ctl_text(vm, "mutual_user"));
    json_array_foreach(json_object_get(vm, "disks"), i, item)
        printf("  LUN %-4lld  %s  %s  naa.%s\n", (long long)ctl_int(item, "lun"), ctl_text(item, "source"),
               ctl_size(ctl_int(item, "bytes"), size), ctl_text(item, "naa"));
    json_array_foreach(json_object_get(vm, "sessions"), i, item) printf(
        "  session   %s from %s, %lld s, %lld commands\n", ctl_text(item, "initiator"),
        ctl_text(item, "address"), (long long)ctl_int(item, "age_s"), (long long)ctl_int(item, "commands"));
    json_object_foreach(json_object_get(vm, "tiers"), tier, item)
        printf("  %-8s  %lld blocks hit, %lld missed\n", tier, (long long)ctl_int(item, "hit_blocks"),
               (long long)ctl_int(item, "miss_blocks"));
    printf("  WAN       %s\n  reads     p50 %.2f ms, p99 %.2f ms\n", ctl_size(ctl_int(vm, "wan_bytes"), size),
           json_number_value(json_object_get(vm, "read_p50_us")) / 1e3,
           json_number_value(json_object_get(vm, "read_p99_us")) / 1e3);
}

int ctl_vm_show(const struct ctl *ctl, struct why *why)
{
    CLEANUP_FREE char *path = ctl_vm_path(ctl->argument, "");
    json_t *answer;
    int err = ctl_ask(ctl, "GET", path, NULL, &answer, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    print_vm(answer);
    json_decref(answer);
    return 0;
}

int ctl_vm_delete(const struct ctl *ctl, struct why *why)
{
    CLEANUP_FREE char *path = ctl_vm_path(ctl->argument, ctl->force ? "?force=1" : "");
    json_t *answer;
    int err = ctl_ask(ctl, "DELETE", path, NULL, &answer, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    printf("VM %s is deleted\n", ctl_text(answer, "deleted"));
    json_decref(answer);
    return 0;
}

int ctl_vm_add_disk(const struct ctl *ctl, struct why *why)
{
    CLEANUP_FREE char *path = ctl_vm_path(ctl->argument, "/disks");
    json_t *answer, *body = json_pack("{ss}", "disk", ctl->disks[0]);
    int err;

    if (!body)
        return why_set(why, -EINVAL, "the disk is not UTF-8");
    if (ctl->lun)
        json_object_set_new(body, "lun", json_integer(strtol(ctl->lun, NULL, 10)));
    if (ctl->block_bytes)
        json_object_set_new(body, "block_bytes", json_integer(ctl->block_bytes));
    err = ctl_ask(ctl, "POST", path, body, &answer, why);
    json_decref(body);
    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    printf("VM %s has %s as LUN %lld\n", ctl_text(answer, "vm"), ctl->disks[0],
           (long long)ctl_int(answer, "lun"));
    json_decref(answer);
    return 0;
}

int ctl_vm_remove_disk(const struct ctl *ctl, struct why *why)
{
    CLEANUP_FREE char *tail = xasprintf("/disks/%s%s", ctl->file, ctl->force ? "?force=1" : "");
    CLEANUP_FREE char *path = ctl_vm_path(ctl->argument, tail);
    json_t *answer;
    int err = ctl_ask(ctl, "DELETE", path, NULL, &answer, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    printf("VM %s has no LUN %lld any more\n", ctl_text(answer, "vm"), (long long)ctl_int(answer, "removed"));
    json_decref(answer);
    return 0;
}

int ctl_vm_recover(const struct ctl *ctl, struct why *why)
{
    json_t *body = json_object(), *answer, *sentence;
    size_t i;
    int err;

    if (strcmp(ctl->argument, "*") != 0)
        json_object_set_new(body, "vm", json_string(ctl->argument));
    if (ctl->cut)
        json_object_set_new(body, "cut", json_integer(strtoll(ctl->cut, NULL, 10)));
    err = ctl_ask(ctl, "POST", "/v1/recover", body, &answer, why);
    json_decref(body);
    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    json_array_foreach(json_object_get(answer, "log"), i, sentence)
        printf("%s\n", json_string_value(sentence));
    printf("%lld VM(s) recovered\n", (long long)ctl_int(answer, "recovered"));
    json_decref(answer);
    return 0;
}

int ctl_status(const struct ctl *ctl, struct why *why)
{
    json_t *answer, *peer, *journal, *ram;
    char used[16], max[16];
    size_t i;
    int err = ctl_ask(ctl, "GET", "/v1/status", NULL, &answer, why);

    if (err)
        return err;
    if (ctl->json)
        return ctl_dump(answer);
    journal = json_object_get(answer, "journal");
    ram = json_object_get(answer, "ram");
    printf("isthmus-edge %s, up %lld s\n", ctl_text(answer, "version"),
           (long long)ctl_int(answer, "uptime_s"));
    printf("journal  %s of %s%s%s\n", ctl_size(ctl_int(journal, "bytes"), used),
           ctl_size(ctl_int(journal, "max_bytes"), max),
           json_is_true(json_object_get(journal, "throttled")) ? ", filling: writes are slowed down" : "",
           json_is_true(json_object_get(journal, "failed")) ? ", its disk refuses: writes wait" : "");
    printf("memory   %s of %s\n", ctl_size(ctl_int(ram, "used_bytes"), used),
           ctl_size(ctl_int(ram, "max_bytes"), max));
    json_array_foreach(json_object_get(answer, "peers"), i, peer) printf(
        "on-prem  %s %s, round trip %.1f ms, %s received\n", ctl_text(peer, "name"),
        json_is_true(json_object_get(peer, "up")) ? "up" : "DOWN",
        json_number_value(json_object_get(peer, "rtt_ms")), ctl_size(ctl_int(peer, "bytes_received"), used));
    print_vms(json_object_get(answer, "vms"));
    json_decref(answer);
    return 0;
}
