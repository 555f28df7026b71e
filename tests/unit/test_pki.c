/* links: control_pki */
/* The private CA: what is in its certificates, what it refuses, and that nothing is overwritten. */
#include "conf.h"
#include "mem.h"
#include "pki.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char top[] = "/tmp/isthmus-pki-XXXXXX";
static char *dir;

static X509 *load(const char *file)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, file);
    FILE *f = fopen(path, "r");
    X509 *cert;

    assert_non_null(f);
    cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(cert);
    return cert;
}

static void assert_mode(const char *file, unsigned mode)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, file);
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, mode);
}

static void test_an_issued_certificate_is_good(void **state)
{
    struct pki_issue issue = {.dir = dir,
                              .role = "edge",
                              .name = "edge-a",
                              .sans = {"10.0.0.1", "edge.example", "::1"},
                              .nsans = 3,
                              .days = 7};
    struct why why = {""};
    char text[64];

    (void)state;
    assert_int_equal(pki_init(dir, "Test CA", 365, &why), 0);
    assert_int_equal(pki_issue(&issue, &why), 0);
    assert_mode("ca.key", 0600);
    assert_mode("edge-a.key", 0600);
    X509 *ca = load("ca.pem"), *cert = load("edge-a.pem");
    X509_NAME *subject = X509_get_subject_name(cert);
    assert_true(X509_NAME_get_text_by_NID(subject, NID_commonName, text, sizeof(text)) > 0);
    assert_string_equal(text, "edge-a");
    assert_true(X509_NAME_get_text_by_NID(subject, NID_organizationalUnitName, text, sizeof(text)) > 0);
    assert_string_equal(text, "edge");
    assert_int_equal(X509_check_host(cert, "edge.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(cert, "edge-a", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(cert, "other.example", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(cert, "10.0.0.1", 0), 1);
    assert_int_equal(X509_check_ca(cert), 0);

    for (int purpose = X509_PURPOSE_SSL_CLIENT; purpose <= X509_PURPOSE_SSL_SERVER; purpose++) {
        X509_STORE *store = X509_STORE_new();
        X509_STORE_CTX *ctx = X509_STORE_CTX_new();
        assert_int_equal(X509_STORE_add_cert(store, ca), 1);
        assert_int_equal(X509_STORE_CTX_init(ctx, store, cert, NULL), 1);
        assert_int_equal(X509_STORE_CTX_set_purpose(ctx, purpose), 1);
        X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_X509_STRICT);
        if (X509_verify_cert(ctx) != 1)
            fail_msg("%s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        X509_STORE_CTX_free(ctx);
        X509_STORE_free(store);
    }
    X509_free(ca);
    X509_free(cert);
}

static void test_nothing_is_overwritten(void **state)
{
    struct pki_issue issue = {.dir = dir, .role = "edge", .name = "edge-a", .days = 7};
    CLEANUP_FREE char *pem = xasprintf("%s/edge-b.pem", dir), *key = xasprintf("%s/edge-b.key", dir);
    struct why why = {""};

    (void)state;
    assert_int_equal(pki_init(dir, "Another", 1, &why), -EEXIST);
    assert_non_null(strstr(why.text, "exists already"));
    assert_int_equal(pki_issue(&issue, &why), -EEXIST);
    issue.name = "edge-b";
    assert_int_equal(pki_random_file(key, 4, &why), 0);
    assert_int_equal(pki_issue(&issue, &why), -EEXIST);
    assert_int_equal(access(pem, F_OK), -1);
    assert_int_equal(rename(key, pem), 0);
    assert_int_equal(pki_issue(&issue, &why), -EEXIST);
    assert_int_equal(access(key, F_OK), -1);
}

static void test_refusals(void **state)
{
    static const struct pki_issue bad[] = {
        {.role = "root", .name = "x", .days = 1},
        {.role = "edge", .name = "", .days = 1},
        {.role = "edge", .name = "../x", .days = 1},
        {.role = "edge", .name = "ca", .days = 1},
        {.role = "edge", .name = "x", .days = 0},
        {.role = "edge", .name = "x", .days = 40000},
        {.role = "edge", .name = "x", .days = 1, .sans = {"a,DNS:b"}, .nsans = 1},
        {.role = "edge", .name = "x", .days = 1, .sans = {""}, .nsans = 1},
    };
    CLEANUP_FREE char *key = xasprintf("%s/ca.key", dir);

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pki_issue issue = bad[i];
        struct why why = {""};
        issue.dir = dir;
        assert_int_equal(pki_issue(&issue, &why), -EINVAL);
        assert_true(why.text[0] != '\0');
    }
    struct pki_issue good = {.dir = dir, .role = "onprem", .name = "dc1", .days = 1};
    struct why why = {""};
    assert_int_equal(chmod(key, 0644), 0);
    assert_int_equal(pki_issue(&good, &why), -EACCES);
    assert_int_equal(chmod(key, 0600), 0);
    assert_int_equal(pki_issue(&good, &why), 0);
    good.dir = "/nonexistent";
    assert_int_equal(pki_issue(&good, &why), -ENOENT);
}

static void test_random_files(void **state)
{
    CLEANUP_FREE char *path = xasprintf("%s/token", dir);
    char text[80];
    struct why why;

    (void)state;
    assert_int_equal(pki_random_file(path, 16, &why), 0);
    assert_mode("token", 0600);
    assert_int_equal(conf_read_secret(path, text, sizeof(text), &why), 0);
    assert_int_equal(strspn(text, "0123456789abcdef"), 32);
    assert_int_equal(strlen(text), 32);
    assert_int_equal(pki_random_file(path, 16, &why), -EEXIST);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(top))
        return -1;
    dir = xasprintf("%s/pki", top);
    return 0;
}

static int remove_dir(void **state)
{
    CLEANUP_FREE char *command = xasprintf("rm -r '%s'", top);

    (void)state;
    free(dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_issued_certificate_is_good),
        cmocka_unit_test(test_nothing_is_overwritten),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_random_files),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
