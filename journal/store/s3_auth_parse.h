/* journal/store/s3_auth_parse.h - credentials as files, AWS's metadata service and STS write them.
 *
 * Input of others: bounded, refused in a sentence that shows none of it.
 */
#ifndef ISTHMUS_S3_AUTH_PARSE_H
#define ISTHMUS_S3_AUTH_PARSE_H

#include "why.h"

#include <stddef.h>
#include <stdint.h>

struct s3_auth_key {
    char *access, *secret, *token; /* token may be NULL */
    int64_t left_s;                /* until it expires; -1: never; 0: it has */
};

/* Wipes and frees. */
void s3_auth_key_clear(struct s3_auth_key *);

/* A profile of a credentials file (~/.aws/credentials), which must be private. Blocking. */
int s3_auth_read_file(const char *path, const char *profile, struct s3_auth_key *, struct why *);
/* The token in a file, whole, without a newline at its end. Blocking. */
int s3_auth_read_token(const char *path, char **token, struct why *);
/* now_s: the service's clock, 0 for ours. */
int s3_auth_parse_role(const char *json, size_t n, int64_t now_s, struct s3_auth_key *, struct why *);
int s3_auth_parse_sts(const char *xml, size_t n, int64_t now_s, struct s3_auth_key *, struct why *);
/* The code in an error of STS; "" if there is none. */
void s3_auth_parse_refusal(const char *xml, size_t n, char *code, size_t max);

#endif
