/* journal/store/store_s3.h - an S3 bucket as a store (s3://bucket/prefix).
 */
#ifndef ISTHMUS_STORE_S3_H
#define ISTHMUS_STORE_S3_H

#include "store_conf.h"

/* Reads credentials from files: for start-up. NULL with why. Needs a real loop. */
struct store *store_s3_new(struct loop *, const struct store_conf *, struct why *);

#endif
