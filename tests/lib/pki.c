/* tests/lib/pki.c - see pki.h.
 */
#include "pki.h"

#include "check.h"
#include "mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

char *pki_new(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = xasprintf("%s/isthmus-pki-XXXXXX", tmp ? tmp : "/tmp");

    CHECK(mkdtemp(dir));
    return dir;
}

void pki_remove(char **dir)
{
    DIR *d = opendir(*dir);
    struct dirent *e;

    CHECK(d);
    while ((e = readdir(d)))
        if (e->d_name[0] != '.')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    rmdir(*dir);
    free(*dir);
    *dir = NULL;
}

static FILE *open_file(const char *dir, const char *name, const char *suffix, mode_t mode)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s.%s", dir, name, suffix);
    int fd = open(path, O_RDWR | O_CREAT, mode);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r+");

    CHECK(f);
    return f;
}

static void store(const char *dir, const char *name, X509 *cert, EVP_PKEY *key)
{
    FILE *f = open_file(dir, name, "crt", 0644);

    CHECK(PEM_write_X509(f, cert) == 1);
    fclose(f);
    f = open_file(dir, name, "key", 0600);
    CHECK(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
}

static X509 *make(EVP_PKEY *key, const char *cn, const char *role, long from_s, long to_s)
{
    static long serial = 1;
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);

    CHECK(X509_set_version(cert, 2) && ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++));
    CHECK(X509_gmtime_adj(X509_getm_notBefore(cert), from_s) &&
          X509_gmtime_adj(X509_getm_notAfter(cert), to_s));
    CHECK(X509_set_pubkey(cert, key));
    CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0));
    CHECK(X509_NAME_add_entry_by_txt(subject, "OU", MBSTRING_ASC, (const unsigned char *)role, -1, -1, 0));
    return cert;
}

void pki_ca(const char *dir, const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = make(key, name, "ca", -3600, 86400);
    X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");

    CHECK(ca && X509_add_ext(cert, ca, -1) && X509_set_issuer_name(cert, X509_get_subject_name(cert)));
    CHECK(X509_sign(cert, key, EVP_sha256()) > 0);
    store(dir, name, cert, key);
    X509_EXTENSION_free(ca);
    X509_free(cert);
    EVP_PKEY_free(key);
}

void pki_issue(const char *dir, const char *ca, const char *name, const char *cn, const char *role,
               long from_s, long to_s)
{
    FILE *f = open_file(dir, ca, "crt", 0644);
    X509 *issuer = PEM_read_X509(f, NULL, NULL, NULL), *cert;
    EVP_PKEY *issuer_key, *key = EVP_EC_gen("P-256");

    fclose(f);
    f = open_file(dir, ca, "key", 0600);
    issuer_key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    CHECK(issuer && issuer_key && key);
    cert = make(key, cn, role, from_s, to_s);
    CHECK(X509_set_issuer_name(cert, X509_get_subject_name(issuer)));
    CHECK(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
    store(dir, name, cert, key);
    X509_free(cert);
    X509_free(issuer);
    EVP_PKEY_free(key);
    EVP_PKEY_free(issuer_key);
}
