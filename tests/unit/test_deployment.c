/* links: journal store */
/* Whose a store is: the object "deployment", its bytes, and what an edge does that finds one.
 */
#include "commit_fixture.h"

#include "deployment.h"

#include <stdlib.h>

static const uint8_t salt[AEAD_SALT_BYTES] = {1, 2, 3};

static void seal(uint8_t bytes[DEPLOYMENT_BYTES], uint8_t key)
{
    struct deployment d = {.id = {7}};
    struct aead_key master = {{key}};

    deployment_seal(&master, salt, &d, bytes);
}

static int open_with(uint8_t key, const uint8_t *bytes, size_t n, struct deployment *d)
{
    struct aead_key master = {{key}};
    struct why why = {""};
    int err = deployment_open(&master, bytes, n, d, &why);

    assert_true((err == 0) == (*why.text == '\0'));
    return err;
}

static void opens_with_its_key_only(void **state)
{
    uint8_t bytes[DEPLOYMENT_BYTES];
    struct deployment d;

    (void)state;
    seal(bytes, 1);
    assert_int_equal(open_with(1, bytes, sizeof bytes, &d), 0);
    assert_int_equal(d.id[0], 7);
    assert_int_equal(open_with(2, bytes, sizeof bytes, &d), -EBADMSG);
}

static void any_change_is_noticed(void **state)
{
    uint8_t bytes[DEPLOYMENT_BYTES + 1];
    struct deployment d;

    (void)state;
    seal(bytes, 1);
    for (size_t bit = 0; bit < DEPLOYMENT_BYTES * 8; bit++) {
        int wanted = bit / 8 == 8 || bit / 8 == 9 ? -ENOTSUP : -EBADMSG;

        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(open_with(1, bytes, DEPLOYMENT_BYTES, &d), wanted);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n < DEPLOYMENT_BYTES; n++) {
        uint8_t *exactly = xmalloc(n + 1);

        memcpy(exactly, bytes, n);
        assert_int_equal(open_with(1, exactly, n, &d), -EBADMSG);
        free(exactly);
    }
    assert_int_equal(open_with(1, bytes, sizeof bytes, &d), -EBADMSG);
}

static int enter(struct world *w, uint8_t key, struct deployment *d, struct why *why)
{
    struct aead_key master = {{key}};

    bool ours;
    int err = deployment_enter(w->store, &master, NULL, d, &ours, why);

    assert_true(ours == (err == 0));
    return err;
}

static unsigned files(const struct world *w)
{
    CLEANUP_FREE char *command = xasprintf("find '%s' -type f -not -path '*/.*' | wc -l", w->store_dir);
    FILE *f = popen(command, "r");
    unsigned n = 0;

    assert_int_equal(fscanf(f, "%u", &n), 1);
    pclose(f);
    return n;
}

static void the_first_makes_it_and_the_next_find_it(void **state)
{
    struct world *w = world_new();
    unsigned before = files(w);
    struct deployment first, next;
    struct why why;

    (void)state;
    assert_int_equal(enter(w, 1, &first, &why), 0);
    assert_int_equal(files(w), before + 1); /* nothing of the probe is left */
    assert_int_equal(enter(w, 1, &next, &why), 0);
    assert_memory_equal(first.id, next.id, sizeof first.id);
    world_free(w);
}

static void another_key_or_format_is_refused_untouched(void **state)
{
    struct world *w = world_new();
    struct deployment d;
    struct why why;
    uint8_t bytes[DEPLOYMENT_BYTES];
    struct iovec iov = {bytes, sizeof bytes};
    struct store_req r = {.op = STORE_PUT, .timeout_ms = 5000, .key = "deployment"};
    unsigned before;

    (void)state;
    assert_int_equal(enter(w, 1, &d, &why), 0);
    before = files(w);
    assert_int_equal(enter(w, 2, &d, &why), -EBADMSG);
    assert_non_null(
        strstr(why.text, "belongs to another deployment (deployment: it was sealed with another key"));
    assert_true(deployment_is_final(-EBADMSG));
    assert_int_equal(files(w), before);

    seal(bytes, 1);
    bytes[9] = 2;
    r.put.iov = &iov;
    r.put.niov = 1;
    assert_int_equal(store_wait(w->store, &r, NULL), 0);
    assert_int_equal(enter(w, 1, &d, &why), -ENOTSUP);
    assert_non_null(strstr(why.text, "its format is 2 and this program knows format 1"));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_with_its_key_only),
        cmocka_unit_test(any_change_is_noticed),
        cmocka_unit_test(the_first_makes_it_and_the_next_find_it),
        cmocka_unit_test(another_key_or_format_is_refused_untouched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
