/* initiator/onprem_conf.h - the configuration file of isthmus-onprem.
 */
#ifndef ISTHMUS_ONPREM_CONF_H
#define ISTHMUS_ONPREM_CONF_H

#include "conf.h"
#include "datastore.h"

/* 0 or -errno with why: every mistake one sentence with file and line. A file that holds a secret (in a
 * disk's url) must be readable by its owner only. Keys:
 *     data, key, log_level, link { certificate key ca congestion }, http { listen },
 *     edge "NAME" { address connections }, disk "NAME" { url sessions } */
int onprem_conf_load(cfg_t **, const char *path, struct why *);

/* Disk number i of the file; strings are borrowed from cfg. */
struct datastore_conf onprem_conf_disk(cfg_t *, unsigned i);
unsigned onprem_conf_ndisks(cfg_t *);

#endif
