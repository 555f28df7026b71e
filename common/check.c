#include "check.h"
#include "log.h"

#include <stdlib.h>

static const char part[] = "check";

void check_failed(const char *expression, const char *file, int line, const char *function)
{
    log_error(NULL, "%s:%d %s: broken: %s", file, line, function, expression);
    abort();
}
