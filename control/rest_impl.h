/* control/rest_impl.h - what the files of the REST API share. Not for others. */
#ifndef ISTHMUS_REST_IMPL_H
#define ISTHMUS_REST_IMPL_H

#include "rest.h"

#include <jansson.h>

enum { REST_TOKEN_MAX = 256 };

struct rest {
    struct rest_conf conf;
    char *iqn_prefix, *portal;
    char token[REST_TOKEN_MAX];
    uint64_t started_ns;
};

/* Routes point at one of these, which outlives struct rest: the listeners may still be asked. */
struct rest_gate {
    struct rest *rest; /* NULL: stopping */
    void (*handler)(struct rest *, struct http_request *);
    bool open; /* no token asked */
};

void rest_recover(struct rest *, struct http_request *);
void rest_vms_list(struct rest *, struct http_request *);
void rest_vm_create(struct rest *, struct http_request *);
void rest_vm_show(struct rest *, struct http_request *);
void rest_vm_delete(struct rest *, struct http_request *);
void rest_vm_verb(struct rest *, struct http_request *);
void rest_tasks_list(struct rest *, struct http_request *);
void rest_task_show(struct rest *, struct http_request *);
void rest_task_cancel(struct rest *, struct http_request *);
/* POST NAME/disks (among the verbs), DELETE NAME/disks/LUN */
void rest_disk_add(struct rest *, struct http_request *);
void rest_disk_remove(struct rest *, struct http_request *);
void rest_status(struct rest *, struct http_request *);
void rest_pair(struct rest *, struct http_request *);
void rest_pair_fail_over(struct rest *, struct http_request *);
void rest_pair_force(struct rest *, struct http_request *);
void rest_boot(struct rest *, struct http_request *);

/* "write-back", "cloud-persist"; false: it is neither. */
bool rest_storage_of(const char *name, enum wb_policy *);
const char *rest_storage_name(enum wb_policy);
/* For an answer that comes when struct rest may be gone. */
bool rest_stopped(void);

/* "dc1:vm1-root" */
int rest_take_disk(struct vm_disk *, const char *text, struct why *);
/* Everything about a VM that may be shown. */
json_t *rest_vm_json(struct rest *, struct vm *);
json_t *rest_vms_json(struct rest *);
/* Answers with the object and drops it. */
void rest_reply(struct http_request *, int code, json_t *);

#endif
