/* journal/store/s3_impl.h - between the files of the S3 store: the store, a signed request, what an error
 * means.
 *
 * Loop thread, but for hashing.
 */
#ifndef ISTHMUS_S3_IMPL_H
#define ISTHMUS_S3_IMPL_H

#include "s3_auth.h"
#include "s3_sign.h"
#include "store_backend.h"
#include "store_web.h"

enum { S3_HEADERS_MAX = 8, S3_HEADER_MAX = 256, S3_TEXT_MAX = 4 << 20 };
/* One put cannot be larger, nor one part; there are at most so many parts. */
#define S3_PUT_MAX   (5ull << 30)
#define S3_PARTS_MAX 10000
#define S3_META_SUM  "x-amz-meta-isthmus-sha256"

struct s3 {
    struct store store; /* first */
    struct store_http *http;
    struct s3_auth *auth;
    char *bucket, *prefix; /* prefix: "" or "a/b/" */
    char *origin, *host;   /* "https://host:port"; what the Host header says */
    char *base;            /* path before the key: "/" or "/bucket/" */
    char *region;
    char *sse, *sse_key; /* "" for none */
    uint64_t part_bytes;
    int64_t skew_s; /* the store's clock minus ours, once it has complained */
};

/* One signed request. Zeroed, filled, started; ends in done() exactly once, from the loop; then
 * s3_call_clear(). http's method, body, into, got and text_max are set by the caller; its answer is there in
 * done(). */
struct s3_call {
    struct s3 *s3;
    struct store_http_call http;
    const char *key; /* of the object, or NULL for the bucket itself */
    char *query;     /* encoded and sorted; NULL for none. Freed by s3_call_clear() */
    struct {
        char name[48]; /* lower case */
        char value[S3_HEADER_MAX];
    } headers[S3_HEADERS_MAX];
    size_t nheaders;
    char sum[S3_SUM_HEX]; /* SHA-256 of the body; "" for the empty one */
    void (*done)(struct s3_call *);
    /* private */
    struct store_grant_wait wait;
    char *url, *used; /* used: the access key it was signed with */
    bool waiting, sent_again, cancelled;
};

void s3_call_header(struct s3_call *, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void s3_call_sse(struct s3_call *); /* what the configuration wants of a put */
void s3_call_start(struct s3_call *);
void s3_call_cancel(struct s3_call *);
void s3_call_clear(struct s3_call *);

/* The end of a request that the call's answer does not let go on: sets why and clock, and gives the status.
 */
int s3_failure(struct store_req *, const struct s3_call *);
/* <Code> of an error body, "" if there is none. */
void s3_error_code(const struct store_http_call *, char code[64]);
/* SHA-256 of bytes from offset of a vector, in hex. Blocking: pool. */
void s3_sum_vector(const struct iovec *, size_t niov, uint64_t offset, uint64_t bytes, char hex[S3_SUM_HEX]);

/* s3_ops.c, s3_put.c and s3_parts.c: one of each for an operation. A running one is in req->backend. */
struct s3_op {
    void (*cancel)(struct s3_op *);
};

void s3_get_start(struct s3 *, struct store_req *);
void s3_head_start(struct s3 *, struct store_req *);
void s3_list_start(struct s3 *, struct store_req *);
void s3_delete_start(struct s3 *, struct store_req *);
void s3_put_start(struct s3 *, struct store_req *);
void s3_parts_start(struct s3 *, struct store_req *);

#endif
