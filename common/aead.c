/* common/aead.c - AES-128-GCM and HKDF through OpenSSL's EVP, and reading master keys.
 */
#include "aead.h"
#include "check.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct aead {
    EVP_CIPHER_CTX *seal, *open;
};

struct aead *aead_new(const struct aead_key *key)
{
    struct aead *a = xcalloc(1, sizeof *a);

    a->seal = EVP_CIPHER_CTX_new();
    a->open = EVP_CIPHER_CTX_new();
    CHECK(a->seal && a->open);
    CHECK(EVP_EncryptInit_ex(a->seal, EVP_aes_128_gcm(), NULL, key->bytes, NULL) == 1);
    CHECK(EVP_DecryptInit_ex(a->open, EVP_aes_128_gcm(), NULL, key->bytes, NULL) == 1);
    return a;
}

void aead_free(struct aead **a)
{
    if (!*a)
        return;
    EVP_CIPHER_CTX_free((*a)->seal);
    EVP_CIPHER_CTX_free((*a)->open);
    free(*a);
    *a = NULL;
}

static void nonce_bytes(uint64_t nonce, uint8_t out[AEAD_NONCE_BYTES])
{
    memset(out, 0, AEAD_NONCE_BYTES - 8);
    put64(out + AEAD_NONCE_BYTES - 8, nonce);
}

void aead_seal(struct aead *a, uint64_t nonce, const void *aad, size_t aad_len, const void *in, size_t n,
               void *out)
{
    uint8_t iv[AEAD_NONCE_BYTES];
    int len;

    CHECK(n <= INT32_MAX && aad_len <= INT32_MAX);
    nonce_bytes(nonce, iv);
    CHECK(EVP_EncryptInit_ex(a->seal, NULL, NULL, NULL, iv) == 1);
    if (aad_len)
        CHECK(EVP_EncryptUpdate(a->seal, NULL, &len, aad, (int)aad_len) == 1);
    if (n)
        CHECK(EVP_EncryptUpdate(a->seal, out, &len, in, (int)n) == 1 && (size_t)len == n);
    CHECK(EVP_EncryptFinal_ex(a->seal, (uint8_t *)out + n, &len) == 1 && len == 0);
    CHECK(EVP_CIPHER_CTX_ctrl(a->seal, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_BYTES, (uint8_t *)out + n) == 1);
}

int aead_open(struct aead *a, uint64_t nonce, const void *aad, size_t aad_len, const void *in, size_t n,
              void *out)
{
    uint8_t iv[AEAD_NONCE_BYTES], tag[AEAD_TAG_BYTES], none[1];
    int len;

    CHECK(n <= INT32_MAX && aad_len <= INT32_MAX);
    nonce_bytes(nonce, iv);
    memcpy(tag, (const uint8_t *)in + n, sizeof tag);
    CHECK(EVP_DecryptInit_ex(a->open, NULL, NULL, NULL, iv) == 1);
    if (aad_len)
        CHECK(EVP_DecryptUpdate(a->open, NULL, &len, aad, (int)aad_len) == 1);
    if (n)
        CHECK(EVP_DecryptUpdate(a->open, out, &len, in, (int)n) == 1 && (size_t)len == n);
    CHECK(EVP_CIPHER_CTX_ctrl(a->open, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_BYTES, tag) == 1);
    if (EVP_DecryptFinal_ex(a->open, none, &len) == 1)
        return 0;
    memset(out, 0, n);
    return -EBADMSG;
}

void aead_derive(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES], const char *label,
                 struct aead_key *out)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)master->bytes,
                                          AEAD_KEY_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt, AEAD_SALT_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)label, strlen(label)),
        OSSL_PARAM_construct_end(),
    };

    CHECK(ctx && EVP_KDF_derive(ctx, out->bytes, AEAD_KEY_BYTES, params) == 1);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
}

struct aead *aead_new_derived(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES],
                              const char *label)
{
    struct aead_key key;
    struct aead *aead;

    aead_derive(master, salt, label, &key);
    aead = aead_new(&key);
    explicit_bzero(&key, sizeof key);
    return aead;
}

static int parse_hex_key(const char *text, struct aead_key *out)
{
    for (int i = 0; i < AEAD_KEY_BYTES; i++) {
        unsigned byte;
        char digits[3] = {text[2 * i], text[2 * i] ? text[2 * i + 1] : 0, 0};

        if (strspn(digits, "0123456789abcdefABCDEF") != 2 || sscanf(digits, "%x", &byte) != 1)
            return -EINVAL;
        out->bytes[i] = (uint8_t)byte;
    }
    return strspn(text + 2 * AEAD_KEY_BYTES, " \r\n") == strlen(text + 2 * AEAD_KEY_BYTES) ? 0 : -EINVAL;
}

static int read_key_file(const char *path, char text[80], struct why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    ssize_t n;

    if (fd < 0)
        return why_set(why, -errno, "cannot read the key file %s: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0 || (st.st_mode & 077)) {
        close(fd);
        return why_set(why, -EACCES, "the key file %s may be read by others: chmod 600 it", path);
    }
    n = read(fd, text, 79);
    close(fd);
    if (n < 0)
        return why_set(why, -errno, "cannot read the key file %s: %s", path, strerror(errno));
    text[n] = 0;
    return 0;
}

static int read_key_command(const char *command, char text[80], struct why *why)
{
    FILE *f = popen(command, "re");
    size_t n;
    int status;

    if (!f)
        return why_set(why, -errno, "cannot run the key command: %s", strerror(errno));
    n = fread(text, 1, 79, f);
    text[n] = 0;
    status = pclose(f);
    if (status != 0)
        return why_set(why, -EIO, "the key command ended with status %d",
                       WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return 0;
}

int aead_key_load(const char *source, struct aead_key *out, struct why *why)
{
    static const char command[] = "command:";
    bool is_command = strncmp(source, command, sizeof command - 1) == 0;
    char text[80];
    int rc;

    rc = is_command ? read_key_command(source + sizeof command - 1, text, why)
                    : read_key_file(source, text, why);
    if (rc == 0 && parse_hex_key(text, out) < 0)
        rc = why_set(why, -EINVAL, "%s does not hold a key: 32 hex digits are wanted",
                     is_command ? "the key command's output" : source);
    explicit_bzero(text, sizeof text);
    return rc;
}
