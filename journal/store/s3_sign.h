/* journal/store/s3_sign.h - AWS Signature Version 4, and the encoding it wants.
 *
 * Our own instead of libcurl's: libcurl 7.88 neither sorts nor encodes, and cannot sign with the store's
 * clock.
 */
#ifndef ISTHMUS_S3_SIGN_H
#define ISTHMUS_S3_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { S3_SUM_HEX = 65, S3_SIGNED_MAX = 16, S3_DATE = 17, S3_AUTHORIZATION_MAX = 1024 };
#define S3_SUM_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct s3_key {
    const char *access, *secret;
    const char *token; /* of a session, or NULL */
};

struct s3_header {
    const char *name; /* in lower case */
    const char *value;
};

struct s3_to_sign {
    const char *method;
    const char *path;  /* encoded, from '/' on */
    const char *query; /* encoded, sorted by name, each with '='; "" for none */
    const char *sum;   /* SHA-256 of the body in hex */
    const char *region;
    const char *date; /* s3_date() */
    struct s3_header headers[S3_SIGNED_MAX];
    size_t nheaders;
};

/* 20261123T152031Z */
void s3_date(int64_t unix_s, char date[S3_DATE]);
void s3_hex(const uint8_t *bytes, size_t n, char *hex);
void s3_sum(const void *bytes, size_t n, char hex[S3_SUM_HEX]);
/* Sorts the headers and writes the Authorization header's value. The service is s3. */
void s3_sign(struct s3_to_sign *, const struct s3_key *, char authorization[S3_AUTHORIZATION_MAX]);

#endif
