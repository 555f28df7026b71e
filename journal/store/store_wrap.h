/* journal/store/store_wrap.h - stores that only make trouble: delay and fail, put over another from a line of
 * the configuration.
 *
 *      delay:50ms                      every request waits that long (ms or s), then goes on
 *      fail:OPTION,OPTION...           some requests fail; the options are
 *          p=0.01                      which ones: with this probability (or every=N: each Nth),
 *          seed=7                      from this seed,
 *          op=put                      of one operation only (put, get, head, list, delete),
 *          key=log/                    whose key (or prefix) contains this,
 *          file=PATH                   as long as this file exists
 *          how=error                   how: not passed on, answered with error= (the default);
 *              lost                    done, but the answer is lost: error=;
 *              late                    done, answered after=2s later;
 *              half                    a get gives half its bytes and error=; others as error;
 *              flip                    a get gives wrong bytes, and success; others go on
 *              etag                    done, but with a wrong etag
 *          error=EIO                   EIO, EAGAIN, ENOTCONN, ETIMEDOUT, EACCES, ENOSPC, ENOENT, EBADMSG
 *
 * They take what they wrap. Loop thread.
 */
#ifndef ISTHMUS_STORE_WRAP_H
#define ISTHMUS_STORE_WRAP_H

#include "store.h"

/* Puts what spec names over *s, the first word on top. 0, or -EINVAL with why: *s is then untouched. */
int store_wrap(struct store **s, const char *spec, struct why *why);
/* 0, or -EINVAL with the sentence, before there is a store. */
int store_wrap_check(const char *spec, struct why *why);

#endif
