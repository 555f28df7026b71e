/* link/tls.h - TLS 1.3 with AES-128-GCM and mutual certificates, and who is at the other end.
 *
 * A daemon's certificate names it: CN is its name, OU its role. Only certificates of our own CA count; the
 * system's are never asked. Loading files blocks: at start-up only. The rest: the loop's thread.
 */
#ifndef ISTHMUS_TLS_H
#define ISTHMUS_TLS_H

#include "link.h"
#include "why.h"

#include <openssl/ssl.h>

struct tls_identity {
    char name[LINK_NAME_MAX + 1];
    char role[32];
};

/* Checks our files (key of mode 0600, certificate signed by the CA, not expired, of our role). */
int tls_context_new(SSL_CTX **, const struct link_conf *, struct tls_identity *self, struct why *);
/* After the handshake: the name and role in the peer's certificate. -EPROTO if it has none that can be used.
 */
int tls_peer(SSL *, struct tls_identity *, struct why *);
/* A sentence for why SSL_do_handshake, SSL_read or SSL_write just failed (ssl_error from SSL_get_error). */
void tls_explain(SSL *, int ssl_error, int saved_errno, struct why *);

#endif
