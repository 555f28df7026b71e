/* target/login_auth.c - AuthMethod and CHAP (login_auth.h). On the connection's loop; it sends nothing.
 *
 * A challenge is used for one answer: whatever that is, the login goes on or ends. Which of name and response
 * was wrong is not told to anybody.
 */
#include "login_auth.h"

#include <openssl/crypto.h>
#include <string.h>

bool auth_required(const struct auth *auth)
{
    return auth->user && *auth->user;
}

static const char *choose_method(struct auth *auth, const char *list, struct text *answer)
{
    bool required = auth_required(auth);
    const char *method = required ? "CHAP" : "None";

    if (auth->state != AUTH_START)
        return "AuthMethod was agreed on before";
    if (!keys_list_has(list, method))
        return required ? "CHAP is required, and the initiator does not offer it"
                        : "the initiator insists on authentication, and none is configured here";
    text_add(answer, "AuthMethod", "%s", method);
    auth->state = required ? AUTH_METHOD : AUTH_PASSED;
    return NULL;
}

static const char *challenge(struct auth *auth, struct loop *loop, const char *list, struct text *answer)
{
    char hex[2 * CHAP_CHALLENGE_BYTES + 3];

    if (auth->state != AUTH_METHOD)
        return "CHAP_A out of turn";
    auth->chap.algorithm = chap_choose(list);
    if (!auth->chap.algorithm)
        return "no CHAP algorithm of the initiator is known here";
    loop_random(loop, &auth->chap.id, sizeof auth->chap.id);
    loop_random(loop, auth->chap.challenge, sizeof auth->chap.challenge);
    chap_encode(auth->chap.challenge, sizeof auth->chap.challenge, hex);
    text_add(answer, "CHAP_A", "%u", auth->chap.algorithm);
    text_add(answer, "CHAP_I", "%u", auth->chap.id);
    text_add(answer, "CHAP_C", "%s", hex);
    auth->state = AUTH_CHALLENGED;
    return NULL;
}

/* The initiator challenges us. */
static const char *answer_challenge(const struct auth *auth, const struct auth_keys *k, struct text *answer)
{
    uint8_t theirs[CHAP_CHALLENGE_MAX], digest[CHAP_DIGEST_MAX];
    char hex[2 * CHAP_DIGEST_MAX + 3];
    uint32_t id;
    size_t n;
    int len;

    if (!k->i || !k->c || !keys_number(k->i, 0, 255, &id))
        return "CHAP_I and CHAP_C of the initiator are not right";
    if (!auth->mutual_user || !*auth->mutual_user || !auth->mutual_secret)
        return "the initiator wants mutual CHAP, which is not configured here";
    len = chap_decode(k->c, theirs, sizeof theirs);
    if (len <= 0)
        return "CHAP_C of the initiator is not right";
    if ((size_t)len == sizeof auth->chap.challenge && !memcmp(theirs, auth->chap.challenge, (size_t)len))
        return "our own challenge came back";
    n = chap_compute(auth->chap.algorithm, (uint8_t)id, auth->mutual_secret, theirs, (size_t)len, digest);
    if (!n)
        return "the answer to CHAP_C cannot be computed";
    chap_encode(digest, n, hex);
    text_add(answer, "CHAP_N", "%s", auth->mutual_user);
    text_add(answer, "CHAP_R", "%s", hex);
    return NULL;
}

static const char *verify(struct auth *auth, const struct auth_keys *k, struct text *answer)
{
    const char *secret = auth->secret ? auth->secret : "", *why = NULL;

    if (auth->state != AUTH_CHALLENGED)
        return "CHAP_N or CHAP_R out of turn";
    if (!k->n || !k->r)
        return "CHAP_N and CHAP_R must come together";
    if (!*secret || !chap_verify(&auth->chap, auth->user, secret, k->n, k->r))
        return "CHAP name or secret wrong";
    if (k->i || k->c)
        why = answer_challenge(auth, k, answer);
    OPENSSL_cleanse(&auth->chap, sizeof auth->chap);
    if (!why)
        auth->state = AUTH_PASSED;
    return why;
}

const char *auth_answer(struct auth *auth, struct loop *loop, const struct auth_keys *k, struct text *answer)
{
    const char *why = NULL;

    if (k->method)
        why = choose_method(auth, k->method, answer);
    if (!why && k->a)
        why = challenge(auth, loop, k->a, answer);
    if (!why && (k->n || k->r))
        why = verify(auth, k, answer);
    else if (!why && (k->i || k->c))
        why = "CHAP_I or CHAP_C out of turn";
    return why;
}
