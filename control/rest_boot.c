/* control/rest_boot.c - GET /boot/VM.ipxe: a script that boots a VM's disk 0 with iPXE, by the portals of
 * both edges of a pair: iPXE takes what answers, and the iBFT tells the guest of all.
 *
 * It goes over plain HTTP and therefore holds no secret: a VM with CHAP gets iPXE's login prompt. What goes
 * into the script from the request (the Host header, ?initiator=) is checked, so that it cannot add commands.
 */
#include "rest_impl.h"

#include "conf.h"
#include "mem.h"
#include "paths.h"

#include <stdio.h>
#include <string.h>

static bool only(const char *text, const char *good)
{
    return *text && strspn(text, good) == strlen(text);
}

/* Errors, too, are scripts: iPXE shows no other body. */
static void refuse(struct http_request *r, int code, const char *sentence)
{
    CLEANUP_FREE char *text = xasprintf("#!ipxe\necho %s\nsleep 5\nexit 1\n", sentence);

    http_reply_text(r, code, text);
}

static void set_host(char host[CONF_HOST_MAX + 3], const char *plain)
{
    snprintf(host, CONF_HOST_MAX + 3, strchr(plain, ':') ? "[%s]" : "%s", plain);
}

/* The address of the portal as the client can reach it. */
static bool portal_of(struct rest *rest, struct http_request *r, char host[CONF_HOST_MAX + 3], uint16_t *port)
{
    char plain[CONF_HOST_MAX + 1];

    if (*rest->portal && conf_address(rest->portal, plain, port)) {
        set_host(host, plain);
        return true;
    }
    *port = rest->conf.target ? target_port(rest->conf.target, 0) : 3260;
    if (strlen(r->host) > CONF_HOST_MAX ||
        !only(r->host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]"))
        return false;
    strcpy(host, r->host);
    return true;
}

/* One is enough: an iBFT has room for two targets. */
static void take_address(void *arg, const char *address, uint16_t group)
{
    char *first = arg;

    (void)group;
    if (!*first)
        snprintf(first, FORWARD_ADDRESS_MAX + 1, "%s", address);
}

static char *root_path(const char *host, uint16_t port, const struct vm *vm)
{
    return xasprintf(" iscsi:%s::%u:0:%s", host, port, vm->spec.iqn);
}

/* The same by the other edge; "" if there is none. */
static char *root_path_there(struct rest *rest, const struct vm *vm)
{
    char address[FORWARD_ADDRESS_MAX + 1] = "", plain[CONF_HOST_MAX + 1], host[CONF_HOST_MAX + 3];
    uint16_t port;

    if (rest->conf.target)
        paths_each(rest->conf.target, take_address, address);
    if (!conf_address(address, plain, &port))
        return xstrdup("");
    set_host(host, plain);
    return root_path(host, port, vm);
}

void rest_boot(struct rest *rest, struct http_request *r)
{
    const char *dot = strrchr(r->tail, '.'), *initiator = http_query(r, "initiator"),
               *paths = http_query(r, "paths");
    char name[VM_NAME_MAX + 1] = "", host[CONF_HOST_MAX + 3];
    CLEANUP_FREE char *default_initiator = NULL, *text = NULL, *here = NULL, *there = NULL;
    uint16_t port;
    struct vm *vm;
    bool ours;

    if (dot && strcmp(dot, ".ipxe") == 0 && (size_t)(dot - r->tail) < sizeof(name))
        memcpy(name, r->tail, (size_t)(dot - r->tail));
    vm = conf_name_ok(name) ? vms_find_exported(rest->conf.vms, name) : NULL;
    if (!vm) {
        refuse(r, 404, "This edge has no VM of that name.");
        return;
    }
    if (initiator &&
        (strlen(initiator) > VM_IQN_MAX || !only(initiator, "abcdefghijklmnopqrstuvwxyz0123456789.:-"))) {
        refuse(r, 400, "initiator is an iSCSI name: lower case letters, digits, '.', ':' and '-'.");
        return;
    }
    if (paths && strcmp(paths, "1") != 0) {
        refuse(r, 400, "paths is 1, for this edge's portal alone, or is not given.");
        return;
    }
    if (!portal_of(rest, r, host, &port)) {
        refuse(r, 400, "The request has no usable Host header, and no portal is configured.");
        return;
    }
    if (!initiator)
        initiator = default_initiator = xasprintf("%s:initiator:%s", rest->iqn_prefix, name);
    here = root_path(host, port, vm);
    there = paths ? xstrdup("") : root_path_there(rest, vm);
    ours = vms_find(rest->conf.vms, name) != NULL; /* the owner's portal is the better one */
    text = xasprintf("#!ipxe\n"
                     "echo Isthmus: booting %s\n"
                     "set initiator-iqn %s\n"
                     "%s"
                     ":boot\n"
                     "sanboot --keep%s%s || echo Isthmus: %s does not boot, trying again\n"
                     "sleep 5\n"
                     "goto boot\n",
                     name, initiator,
                     *vm->spec.chap_user ? "echo This VM asks for its CHAP user and secret.\nlogin\n" : "",
                     ours ? here : there, ours ? there : here, name);
    http_reply_text(r, 200, text);
}
