/* control/ctl_print.h - what the commands that ask the edge share: JSON taken apart, and shown.
 */
#ifndef ISTHMUS_CTL_PRINT_H
#define ISTHMUS_CTL_PRINT_H

#include <jansson.h>

const char *ctl_text(json_t *, const char *key); /* "" if there is none */
json_int_t ctl_int(json_t *, const char *key);
const char *ctl_size(json_int_t bytes, char text[16]); /* "1.5G" */
int ctl_dump(json_t *);                                /* as JSON, to stdout; takes it. 0 */
/* "/v1/vms/NAME" and more; the caller frees. */
char *ctl_vm_path(const char *name, const char *more);
void ctl_pause_ms(unsigned);

#endif
