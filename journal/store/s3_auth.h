/* journal/store/s3_auth.h - who we are for S3: credentials, where they come from, and new ones before they
 * expire.
 *
 * The first of these that is there, decided when the store is opened: the configuration; the environment
 * (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN); a web identity (AssumeRoleWithWebIdentity);
 * a credentials file; the role of the instance (IMDSv2). The last two of AWS's services and the file are
 * asked again when their credentials are about to expire or were refused. Loop thread; files are read on the
 * pool.
 */
#ifndef ISTHMUS_S3_AUTH_H
#define ISTHMUS_S3_AUTH_H

#include "s3_sign.h"
#include "store_conf.h"
#include "store_grant.h"

struct s3_auth;

/* May read files: at start-up. NULL with why. */
struct s3_auth *s3_auth_new(struct loop *, const struct store_conf *, const char *region, struct why *);
/* Nobody waits. Leaves NULL. */
void s3_auth_free(struct s3_auth **);
struct store_grant *s3_auth_grant(struct s3_auth *);
/* Borrowed until the loop turns. Only when the grant was ready, or ended without failure. */
struct s3_key s3_auth_key(const struct s3_auth *);
/* The store says that the key has expired: ask for a new one if there is somebody to ask. */
bool s3_auth_refused(struct s3_auth *, const char *access);

#endif
