/* journal/store/azure_impl.h - between the files of the Azure Blob store: the store, an authorized request,
 * what an error means.
 *
 * Loop thread, but for hashing.
 */
#ifndef ISTHMUS_AZURE_IMPL_H
#define ISTHMUS_AZURE_IMPL_H

#include "azure_auth.h"
#include "azure_sign.h"
#include "store_backend.h"
#include "store_web.h"

enum { AZURE_PAIRS_MAX = 8, AZURE_TEXT_MAX = 4 << 20, AZURE_MD5 = 25, AZURE_BLOCKS_MAX = 50000 };
#define AZURE_VERSION "2021-12-02"

struct azure {
    struct store store; /* first */
    struct store_http *http;
    struct azure_auth *auth;
    char *account, *container, *prefix; /* prefix: "" or "a/b/" */
    char *origin;                       /* "https://host:port" */
    char *base;                         /* the container's path: "/container" or "/account/container" */
    uint64_t part_bytes;
    int64_t skew_s; /* the store's clock minus ours, once it has complained */
};

struct azure_named {
    const char *name; /* a literal, in lower case */
    char *value;
};

/* One authorized request. Zeroed, filled, started; ends in done() exactly once, from the loop; then
 * azure_call_clear(). http's method, body, into, got and text_max are set by the caller; its answer is there
 * in done(). */
struct azure_call {
    struct azure *azure;
    struct store_http_call http;
    const char *key; /* of the blob, or NULL for the container itself */
    struct azure_named query[AZURE_PAIRS_MAX], headers[AZURE_PAIRS_MAX];
    size_t nquery, nheaders;
    void (*done)(struct azure_call *);
    /* private */
    struct store_grant_wait wait;
    char *url;
    unsigned version; /* of the secret it was sent with */
    bool waiting, sent_again, cancelled;
};

/* Names are literals, values are formatted. */
void azure_call_query(struct azure_call *, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void azure_call_header(struct azure_call *, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What a put's condition wants. */
void azure_call_condition(struct azure_call *, const struct store_req *);
void azure_call_start(struct azure_call *);
void azure_call_cancel(struct azure_call *);
void azure_call_clear(struct azure_call *);

/* The end of a request that the call's answer does not let go on: sets why and clock, and gives the status.
 */
int azure_failure(struct store_req *, const struct azure_call *);
/* Azure's name of an error ("BlobNotFound"), "" if there is none. */
void azure_error_code(const struct store_http_call *, char code[64]);
/* MD5 of bytes from offset of a vector, in base64, as Content-MD5 wants it. Large ones: pool. */
void azure_md5(const struct iovec *, size_t niov, uint64_t offset, uint64_t bytes, char base64[AZURE_MD5]);

/* azure_read.c, azure_put.c, azure_blocks.c, azure_list.c, azure_delete.c: a running operation is in
 * req->backend and begins with this. */
struct azure_op {
    void (*cancel)(struct azure_op *);
};

void azure_get_start(struct azure *, struct store_req *);
void azure_head_start(struct azure *, struct store_req *);
void azure_list_start(struct azure *, struct store_req *);
void azure_delete_start(struct azure *, struct store_req *);
void azure_put_start(struct azure *, struct store_req *);
void azure_blocks_start(struct azure *, struct store_req *);

#endif
