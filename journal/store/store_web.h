/* journal/store/store_web.h - what the stores that speak HTTP have in common: encoding, ETags, sizes,
 * checksums of what is sent, XML errors, and the parts of their URLs.
 *
 * Pure functions, any thread.
 */
#ifndef ISTHMUS_STORE_WEB_H
#define ISTHMUS_STORE_WEB_H

#include "store_http.h"
#include "store_xml.h"

#include <openssl/types.h>

/* Everything but letters, digits and -._~ becomes %XX; '/' stays if it is a path. The caller frees it. */
char *store_web_encode(const char *text, bool path);
/* An ETag without its quotes, at most 127 characters; false if text is none (NULL too). */
bool store_web_etag(const char *text, char etag[128]);
/* The size of the whole object in an answer: Content-Range of a 206 and a 416, otherwise Content-Length. */
bool store_web_size(const struct store_http_call *, uint64_t *bytes);
/* Of bytes from offset of a vector. Blocking if there are many. */
void store_web_digest(const EVP_MD *, const struct iovec *, size_t niov, uint64_t offset, uint64_t bytes,
                      uint8_t *sum);

/* An error's body, shown as far as it is plain text: the first line of each, "" for what is not there. */
struct store_web_error {
    char code[64], message[200], detail[160];
};
/* detail: the name of the element that is kept beside <Code> and <Message>. */
void store_web_error(const struct store_http_call *, const char *detail, struct store_web_error *);
/* One line of printable text. */
void store_web_plain(const char *from, char *to, size_t max);

/* "http[s]://host[:port]": where the host begins and its length. 0, or -EINVAL with why. */
int store_web_endpoint(const char *endpoint, const char **host, size_t *n, struct why *);
/* The prefix in url as "" or "a/b/", the caller frees it also after a failure. 0, or -EINVAL with why. */
int store_web_prefix(const char *url, const char *in_url, char **prefix, struct why *);

#endif
