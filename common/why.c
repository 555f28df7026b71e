#include "why.h"

#include <stdarg.h>
#include <stdio.h>

int why_set(struct why *why, int err, const char *format, ...)
{
    va_list args;

    if (!why)
        return err;
    va_start(args, format);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    return err;
}
