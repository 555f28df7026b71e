/* link/tls.c - builds the TLS context, reads identities, and turns OpenSSL's errors into sentences.
 */
#include "tls.h"

#include "proto.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *last_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    return reason ? reason : "no reason given";
}

/* One field of a certificate's subject, as text. */
static bool subject_field(X509 *cert, int nid, char *out, size_t max)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, nid, -1);
    ASN1_STRING *value;
    int n;

    out[0] = 0;
    if (at < 0 || X509_NAME_get_index_by_NID(subject, nid, at) >= 0) /* none, or two */
        return false;
    value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    n = ASN1_STRING_length(value);
    if (n <= 0 || (size_t)n >= max || memchr(ASN1_STRING_get0_data(value), 0, (size_t)n))
        return false;
    memcpy(out, ASN1_STRING_get0_data(value), (size_t)n);
    out[n] = 0;
    return proto_name_ok(out);
}

static int identity_of(X509 *cert, struct tls_identity *id, const char *whose, struct why *why)
{
    if (!subject_field(cert, NID_commonName, id->name, sizeof(id->name)))
        return why_set(why, -EPROTO,
                       "%s certificate has no usable name: its CN must be up to %d letters, digits, dots, "
                       "dashes and underscores",
                       whose, LINK_NAME_MAX);
    if (!subject_field(cert, NID_organizationalUnitName, id->role, sizeof(id->role)))
        return why_set(why, -EPROTO, "%s certificate (%s) names no role: its OU must be edge or onprem",
                       whose, id->name);
    return 0;
}

static int check_key_mode(const char *path, struct why *why)
{
    struct stat st;

    if (stat(path, &st))
        return why_set(why, -errno, "the link's key %s cannot be read: %s", path, strerror(errno));
    if (st.st_mode & 077)
        return why_set(why, -EPERM, "the link's key %s may be read by others (mode %04o): run chmod 600 %s",
                       path, (unsigned)st.st_mode & 07777, path);
    return 0;
}

static int check_readable(const char *path, const char *what, struct why *why)
{
    if (!path || !*path)
        return why_set(why, -EINVAL, "the link's %s is not set", what);
    if (access(path, R_OK))
        return why_set(why, -errno, "the link's %s %s cannot be read: %s", what, path, strerror(errno));
    return 0;
}

/* Verifies our own certificate as a peer would, so that a wrong one is found at start-up. */
static int check_own(SSL_CTX *ctx, const struct link_conf *conf, struct tls_identity *self, struct why *why)
{
    X509 *cert = SSL_CTX_get0_certificate(ctx);
    X509_STORE_CTX *store;
    int rc;

    if ((rc = identity_of(cert, self, "our own", why)))
        return rc;
    if (strcmp(self->role, conf->role))
        return why_set(why, -EINVAL, "the certificate %s is for the role %s, but this daemon's role is %s",
                       conf->certificate, self->role, conf->role);
    store = X509_STORE_CTX_new();
    if (!store || !X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ctx), cert, NULL))
        rc = why_set(why, -ENOMEM, "the certificate %s cannot be checked: %s", conf->certificate,
                     last_reason());
    else if (X509_verify_cert(store) != 1)
        rc = why_set(why, -EINVAL, "the certificate %s does not hold under the CA %s: %s", conf->certificate,
                     conf->ca, X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
    X509_STORE_CTX_free(store);
    return rc;
}

static int load(SSL_CTX *ctx, const struct link_conf *conf, struct why *why)
{
    int rc;

    if ((rc = check_readable(conf->ca, "CA certificate", why)) ||
        (rc = check_readable(conf->certificate, "certificate", why)) ||
        (rc = check_readable(conf->key, "key", why)) || (rc = check_key_mode(conf->key, why)))
        return rc;
    if (SSL_CTX_load_verify_file(ctx, conf->ca) != 1)
        return why_set(why, -EINVAL, "the CA certificate %s is not a PEM certificate: %s", conf->ca,
                       last_reason());
    if (SSL_CTX_use_certificate_chain_file(ctx, conf->certificate) != 1)
        return why_set(why, -EINVAL, "the certificate %s cannot be used: %s", conf->certificate,
                       last_reason());
    if (SSL_CTX_use_PrivateKey_file(ctx, conf->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return why_set(why, -EINVAL, "the key %s cannot be used with the certificate %s: %s", conf->key,
                       conf->certificate, last_reason());
    return 0;
}

/* Never ask a terminal for a pass phrase: a daemon has none. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf, (void)size, (void)rwflag, (void)arg;
    return -1;
}

int tls_context_new(SSL_CTX **out, const struct link_conf *conf, struct tls_identity *self, struct why *why)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    int rc;

    ERR_clear_error();
    if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256")) {
        SSL_CTX_free(ctx);
        return why_set(why, -ENOTSUP, "this OpenSSL cannot do TLS 1.3 with AES-128-GCM: %s", last_reason());
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, 128 * 1024); /* several records per system call */
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(ctx, 4);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    if ((rc = load(ctx, conf, why)) || (rc = check_own(ctx, conf, self, why))) {
        SSL_CTX_free(ctx);
        ERR_clear_error();
        return rc;
    }
    *out = ctx;
    return 0;
}

int tls_peer(SSL *ssl, struct tls_identity *id, struct why *why)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);

    if (!cert || SSL_get_verify_result(ssl) != X509_V_OK)
        return why_set(why, -EPROTO, "the other side showed no certificate of our CA");
    return identity_of(cert, id, "the other side's", why);
}

/* What an alert or a failed check means to the person who has to act. NULL if there is nothing better to say
 * than OpenSSL's own words. */
static const char *meaning(int reason)
{
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return "the other side showed no certificate";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "the other side wants a certificate and we showed none";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        return "the other side refused our certificate: it is not of its CA";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return "the other side refused our certificate: it is expired or not yet valid (is a clock wrong?)";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        return "the other side refused our certificate";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
        return "the other side does not speak TLS 1.3: is this the link's port?";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "the two sides share no TLS version and cipher: TLS 1.3 with AES-128-GCM is needed";
    default:
        return NULL;
    }
}

void tls_explain(SSL *ssl, int ssl_error, int saved_errno, struct why *why)
{
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);
    long verify = SSL_get_verify_result(ssl);

    if (ssl_error == SSL_ERROR_ZERO_RETURN || (ssl_error == SSL_ERROR_SYSCALL && e == 0 && saved_errno == 0))
        why_set(why, 0, "the other side closed the connection");
    else if (ssl_error == SSL_ERROR_SYSCALL && e == 0)
        why_set(why, 0, "the connection broke: %s", strerror(saved_errno));
    else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verify != X509_V_OK)
        why_set(why, 0, "the other side's certificate was refused: %s",
                X509_verify_cert_error_string(verify));
    else if (meaning(reason))
        why_set(why, 0, "%s", meaning(reason));
    else
        why_set(why, 0, "TLS failed: %s",
                ERR_reason_error_string(e) ? ERR_reason_error_string(e) : "no reason");
    ERR_clear_error();
}
