/* links: cache; covers: cache/vm_spec */
/* A VM's entry in the catalog: what is understood is written and read again as the same VM.
 */
#include "check.h"
#include "fuzz.h"
#include "mem.h"
#include "vm_spec.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct vm_spec s, again;
    bool deleting = false, deleting_again = false;
    char *copy = xmalloc(n + 1), *json;
    struct why why;

    memcpy(copy, p, n); /* no NUL behind it that a reader could lean on */
    if (!vm_spec_from_json(copy, n, &s, &deleting, &why)) {
        (void)vm_spec_check(&s, &why);
        json = vm_spec_to_json(&s, deleting);
        CHECK(!vm_spec_from_json(json, strlen(json), &again, &deleting_again, &why));
        CHECK(deleting == deleting_again && !memcmp(&s, &again, sizeof s));
        free(json);
    }
    vm_spec_wipe(&s);
    free(copy);
    return 0;
}
