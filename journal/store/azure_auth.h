/* journal/store/azure_auth.h - who we are for Azure Storage: an account's key, a SAS token, or a managed
 * identity's token.
 *
 * The first of these that is there, decided when the store is opened: account_key_file; sas_file; the
 * environment (AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN); the machine's managed identity, asked for at its
 * metadata service (AZURE_POD_IDENTITY_AUTHORITY_HOST instead of the usual address). Files are read again,
 * and the metadata service asked again, when a credential is about to expire or was refused. Loop thread;
 * files are read on the pool.
 */
#ifndef ISTHMUS_AZURE_AUTH_H
#define ISTHMUS_AZURE_AUTH_H

#include "azure_sign.h"
#include "store_conf.h"
#include "store_grant.h"

struct azure_auth;

enum azure_way { AZURE_SHARED_KEY, AZURE_SAS, AZURE_IDENTITY };

/* Borrowed until the loop turns. */
struct azure_secret {
    enum azure_way way;
    unsigned version; /* another one for every secret */
    const uint8_t *key;
    size_t key_bytes;
    const char *text; /* the SAS token, "sv=...&sig=...", or the identity's token */
};

/* May read files: at start-up. NULL with why. */
struct azure_auth *azure_auth_new(struct loop *, const struct store_conf *, struct why *);
/* Nobody waits. Leaves NULL. */
void azure_auth_free(struct azure_auth **);
struct store_grant *azure_auth_grant(struct azure_auth *);
/* Only when the grant was ready, or ended without failure. */
struct azure_secret azure_auth_secret(const struct azure_auth *);
/* The store refused the secret of this version. true: there may be another, ask the grant. */
bool azure_auth_refused(struct azure_auth *, unsigned version);
/* Does the credential itself travel with every request? */
bool azure_auth_bearer(const struct azure_auth *);
/* What we are, for a sentence: "the account key in /etc/isthmus/key". */
const char *azure_auth_words(const struct azure_auth *);

/* What the metadata service answers. 0, or -EACCES with why. The caller frees *token with secret_free(). */
int azure_auth_parse_token(const char *json, size_t n, char **token, int64_t *left_s, struct why *);
/* A SAS token as people write it ("?sv=..." too): where it begins, or NULL with why. *left_s: until its
 * expiry at now_s, 0 if it has passed. */
const char *azure_auth_parse_sas(const char *text, int64_t now_s, int64_t *left_s, struct why *);

#endif
