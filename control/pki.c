/* control/pki.c - see pki.h. OpenSSL makes keys and certificates; this file says what is in them.
 */
#include "pki.h"

#include "check.h"
#include "conf.h"
#include "mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int crypto_failed(struct why *why, const char *what)
{
    char reason[200];

    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof(reason));
    return why_set(why, -EIO, "cannot %s: %s", what, reason);
}

/* A file that did not exist before. NULL with why. */
static FILE *create(const char *path, mode_t mode, struct why *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *f;

    if (fd < 0 && errno == EEXIST) {
        why_set(why, 0, "%s exists already and is not overwritten", path);
        return NULL;
    }
    f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        why_set(why, 0, "cannot create %s: %s", path, strerror(errno));
    return f;
}

/* Ends what create() began; a file that is not whole is removed. */
static int finish(FILE *f, const char *path, bool ok, struct why *why)
{
    if (fflush(f) != 0 || fsync(fileno(f)) != 0)
        ok = false;
    if (fclose(f) != 0)
        ok = false;
    if (ok)
        return 0;
    unlink(path);
    return why_set(why, -EIO, "cannot write %s", path);
}

/* Both files or none: the key first, so that a certificate always has its key. */
static int write_pair(const char *dir, const char *name, X509 *cert, EVP_PKEY *key, struct why *why)
{
    CLEANUP_FREE char *cert_path = xasprintf("%s/%s.pem", dir, name);
    CLEANUP_FREE char *key_path = xasprintf("%s/%s.key", dir, name);
    FILE *f;
    int err;

    if (access(cert_path, F_OK) == 0)
        return why_set(why, -EEXIST, "%s exists already and is not overwritten", cert_path);
    f = create(key_path, 0600, why);
    if (!f)
        return -EEXIST;
    err = finish(f, key_path, PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1, why);
    if (err)
        return err;
    f = create(cert_path, 0644, why);
    if (!f || (err = finish(f, cert_path, PEM_write_X509(f, cert) == 1, why)) != 0)
        unlink(key_path);
    return f ? err : -EEXIST;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    bool ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool set_serial(X509 *cert)
{
    uint8_t bytes[16];
    BIGNUM *n;
    bool ok;

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always as long */
    n = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return ok;
}

static bool add_name(X509_NAME *name, const char *field, const char *value)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) ==
           1;
}

/* A certificate for key without extensions and signature. Its clock starts an hour ago: clocks differ. */
static X509 *cert_new(EVP_PKEY *key, const char *ou, const char *cn, unsigned days)
{
    X509 *cert = X509_new();

    if (cert && X509_set_version(cert, 2) == 1 && set_serial(cert) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
        X509_time_adj_ex(X509_getm_notAfter(cert), (int)days, 0, NULL) && X509_set_pubkey(cert, key) == 1 &&
        (!ou || add_name(X509_get_subject_name(cert), "OU", ou)) &&
        add_name(X509_get_subject_name(cert), "CN", cn))
        return cert;
    X509_free(cert);
    return NULL;
}

static int check_days(unsigned days, struct why *why)
{
    if (days >= 1 && days <= PKI_DAYS_MAX)
        return 0;
    return why_set(why, -EINVAL, "a certificate is good for 1 to %d days, not %u", PKI_DAYS_MAX, days);
}

int pki_init(const char *dir, const char *name, unsigned days, struct why *why)
{
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    int err = check_days(days, why);

    if (err)
        return err;
    if (strlen(name) == 0 || strlen(name) > 64)
        return why_set(why, -EINVAL, "the name of a CA is 1 to 64 bytes long");
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return why_set(why, -errno, "cannot make the directory %s: %s", dir, strerror(errno));
    key = EVP_EC_gen("P-256");
    cert = key ? cert_new(key, NULL, name, days) : NULL;
    if (cert && X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
        add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(cert, cert, NID_subject_key_identifier, "hash") &&
        X509_sign(cert, key, EVP_sha256()) > 0)
        err = write_pair(dir, "ca", cert, key, why);
    else
        err = crypto_failed(why, "make the CA's certificate");
    X509_free(cert);
    EVP_PKEY_free(key);
    return err;
}

/* "DNS:a,DNS:b,IP:c", checked: OpenSSL reads it as a small language of its own. */
static int alt_names(const struct pki_issue *p, char **out, struct why *why)
{
    char *text = xasprintf("DNS:%s", p->name);
    uint8_t address[16];

    for (unsigned i = 0; i < p->nsans; i++) {
        const char *san = p->sans[i];
        bool ip = inet_pton(AF_INET, san, address) == 1 || inet_pton(AF_INET6, san, address) == 1;
        static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
        if (!ip && (!*san || strlen(san) > 253 || strspn(san, good) != strlen(san))) {
            free(text);
            return why_set(why, -EINVAL, "\"%.100s\" is neither an IP address nor a DNS name", san);
        }
        char *longer = xasprintf("%s,%s:%s", text, ip ? "IP" : "DNS", san);
        free(text);
        text = longer;
    }
    *out = text;
    return 0;
}

static int load_ca(const char *dir, X509 **cert, EVP_PKEY **key, struct why *why)
{
    CLEANUP_FREE char *cert_path = xasprintf("%s/ca.pem", dir);
    CLEANUP_FREE char *key_path = xasprintf("%s/ca.key", dir);
    int err = conf_private(key_path, why);
    FILE *f;

    if (err)
        return err;
    if ((f = fopen(cert_path, "re"))) {
        *cert = PEM_read_X509(f, NULL, NULL, NULL);
        fclose(f);
    }
    if ((f = fopen(key_path, "re"))) {
        *key = PEM_read_PrivateKey(f, NULL, NULL, "");
        fclose(f);
    }
    if (!*cert || !*key || X509_check_private_key(*cert, *key) != 1)
        return why_set(why, -EINVAL, "%s and %s are not a CA's certificate and its key", cert_path, key_path);
    return 0;
}

int pki_issue(const struct pki_issue *p, struct why *why)
{
    CLEANUP_FREE char *sans = NULL;
    EVP_PKEY *key = NULL, *ca_key = NULL;
    X509 *cert = NULL, *ca = NULL;
    int err = check_days(p->days, why);

    if (!err && strcmp(p->role, "edge") != 0 && strcmp(p->role, "onprem") != 0)
        err = why_set(why, -EINVAL, "a role is edge or onprem, not \"%.60s\"", p->role);
    if (!err && (!conf_name_ok(p->name) || strcmp(p->name, "ca") == 0))
        err =
            why_set(why, -EINVAL,
                    "\"%.80s\" is not a daemon's name: letters, digits, '.', '_' and '-', at most %d, not ca",
                    p->name, CONF_NAME_MAX);
    if (!err)
        err = alt_names(p, &sans, why);
    if (!err)
        err = load_ca(p->dir, &ca, &ca_key, why);
    if (err)
        goto out;
    key = EVP_EC_gen("P-256");
    cert = key ? cert_new(key, p->role, p->name, p->days) : NULL;
    if (cert && X509_set_issuer_name(cert, X509_get_subject_name(ca)) == 1 &&
        add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
        add_extension(cert, ca, NID_subject_key_identifier, "hash") &&
        add_extension(cert, ca, NID_authority_key_identifier, "keyid") &&
        add_extension(cert, ca, NID_subject_alt_name, sans) && X509_sign(cert, ca_key, EVP_sha256()) > 0)
        err = write_pair(p->dir, p->name, cert, key, why);
    else
        err = crypto_failed(why, "make the certificate");
out:
    X509_free(cert);
    X509_free(ca);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    return err;
}

int pki_random_file(const char *path, size_t nbytes, struct why *why)
{
    uint8_t bytes[64];
    FILE *f;
    bool ok = true;
    int err;

    CHECK(nbytes <= sizeof(bytes));
    if (RAND_bytes(bytes, (int)nbytes) != 1)
        return crypto_failed(why, "get random bytes");
    f = create(path, 0600, why);
    if (!f)
        return -EEXIST;
    for (size_t i = 0; i < nbytes; i++)
        ok = fprintf(f, "%02x", bytes[i]) == 2 && ok;
    ok = fputc('\n', f) != EOF && ok;
    err = finish(f, path, ok, why);
    explicit_bzero(bytes, sizeof(bytes));
    return err;
}
