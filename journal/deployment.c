/* journal/deployment.c - see deployment.h; docs/log.md has the bytes.
 */
#include "deployment.h"
#include "store_probe.h"
#include "store_wait.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

static const char magic[8] = {'I', 'S', 'T', 'H', 'D', 'E', 'P', 'L'}, label[] = "isthmus deployment",
                  name[] = "deployment";
static const uint8_t check[DEPLOYMENT_CHECK_BYTES]; /* zeros */

enum { TRY_MS = 5000, PROBE_MS = 4000, READS = 5 };

void deployment_seal(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES],
                     const struct deployment *d, uint8_t out[DEPLOYMENT_BYTES])
{
    struct aead *aead = aead_new_derived(master, salt, label);

    memset(out, 0, DEPLOYMENT_HEAD_BYTES);
    memcpy(out, magic, sizeof magic);
    put16(out + 8, DEPLOYMENT_FORMAT);
    memcpy(out + 16, d->id, DEPLOYMENT_ID_BYTES);
    memcpy(out + 32, salt, AEAD_SALT_BYTES);
    aead_seal(aead, 0, out, DEPLOYMENT_HEAD_BYTES, check, DEPLOYMENT_CHECK_BYTES,
              out + DEPLOYMENT_HEAD_BYTES);
    aead_free(&aead);
}

int deployment_open(const struct aead_key *master, const uint8_t *p, size_t n, struct deployment *d,
                    struct why *why)
{
    uint8_t plain[DEPLOYMENT_CHECK_BYTES];
    struct aead *aead;
    int rc;

    if (n < DEPLOYMENT_HEAD_BYTES || memcmp(p, magic, sizeof magic) != 0)
        return why_set(why, -EBADMSG, "it is not what an edge puts there");
    if (get16(p + 8) != DEPLOYMENT_FORMAT)
        return why_set(why, -ENOTSUP, "its format is %u and this program knows format %d", get16(p + 8),
                       DEPLOYMENT_FORMAT);
    if (n != DEPLOYMENT_BYTES)
        return why_set(why, -EBADMSG, "it has %zu bytes and not %d", n, DEPLOYMENT_BYTES);
    aead = aead_new_derived(master, p + 32, label);
    rc = aead_open(aead, 0, p, DEPLOYMENT_HEAD_BYTES, p + DEPLOYMENT_HEAD_BYTES, sizeof plain, plain);
    aead_free(&aead);
    if (rc < 0 || memcmp(plain, check, sizeof plain) != 0)
        return why_set(why, -EBADMSG, "it was sealed with another key, or altered");
    memcpy(d->id, p + 16, DEPLOYMENT_ID_BYTES);
    return 0;
}

static int read_once(struct store *s, const struct aead_key *master, const atomic_bool *stop,
                     struct deployment *d, struct why *why)
{
    uint8_t bytes[2 * DEPLOYMENT_BYTES];
    struct store_req r = {.op = STORE_GET, .timeout_ms = TRY_MS, .key = name};
    struct why reason;
    int err;

    r.get.buf = bytes;
    r.get.cap = sizeof bytes;
    err = store_wait(s, &r, stop);
    if (err)
        return why_set(why, err, "%s", r.why.text);
    err = deployment_open(master, bytes, r.len, d, &reason);
    if (err == -ENOTSUP)
        return why_set(why, err, "the object store %s was written by a newer version (%s: %s)", s->name, name,
                       reason.text);
    if (err)
        return why_set(why, err, "the object store %s belongs to another deployment (%s: %s)", s->name, name,
                       reason.text);
    return 0;
}

/* What does not open is read again before it is believed: nothing but another key ends an edge. */
int deployment_read(struct store *s, const struct aead_key *master, const atomic_bool *stop,
                    struct deployment *d, struct why *why)
{
    int err = -EBADMSG;

    for (int i = 0; i < READS && err == -EBADMSG; i++)
        err = read_once(s, master, stop, d, why);
    return err;
}

static int put(struct store *s, const struct aead_key *master, const atomic_bool *stop, struct deployment *d,
               struct why *why)
{
    uint8_t bytes[DEPLOYMENT_BYTES], salt[AEAD_SALT_BYTES];
    struct iovec iov = {bytes, sizeof bytes};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = TRY_MS, .key = name};
    int err;

    loop_random(s->loop, salt, sizeof salt);
    loop_random(s->loop, d->id, sizeof d->id);
    deployment_seal(master, salt, d, bytes);
    r.put.iov = &iov;
    r.put.niov = 1;
    r.put.condition = STORE_IF_ABSENT;
    err = store_wait(s, &r, stop);
    if (err == -EEXIST) /* another edge was faster: ours or not */
        return deployment_read(s, master, stop, d, why);
    return err ? why_set(why, err, "%s", r.why.text) : 0;
}

int deployment_enter(struct store *s, const struct aead_key *master, const atomic_bool *stop,
                     struct deployment *d, bool *ours, struct why *why)
{
    struct store_probe probe = {.needs = STORE_NEED_IF_ABSENT | STORE_NEED_IF_MATCH, .timeout_ms = PROBE_MS};
    int err = deployment_read(s, master, stop, d, why), probed;

    *ours = err == 0;
    if (err && err != -ENOENT)
        return err;
    probed = store_probe_wait(s, &probe);
    if (probed)
        return why_set(why, probed, "%s", probe.why.text);
    if (err)
        err = put(s, master, stop, d, why);
    *ours = err == 0;
    return err;
}

bool deployment_is_final(int err)
{
    return err == -EACCES || err == -EINVAL || err == -EOPNOTSUPP ||
           err == -EBADMSG; /* -ENOTSUP is -EOPNOTSUPP */
}
