/* control/pki.h - a small private CA for the certificates that our daemons show each other.
 *
 * A directory holds ca.pem and ca.key; issuing puts NAME.pem and NAME.key beside them. Keys are EC P-256,
 * files of mode 0600. A certificate says who (CN = name) and what (OU = role) its daemon is; the link
 * accepts nobody else. Nothing that exists is ever overwritten. Blocking: for isthmusctl and tests.
 * Deliberately not here: revocation (make a new CA), intermediate CAs, keys with a passphrase.
 */
#ifndef ISTHMUS_PKI_H
#define ISTHMUS_PKI_H

#include "why.h"

#include <stddef.h>

enum { PKI_SANS_MAX = 32, PKI_DAYS_MAX = 36500 };

struct pki_issue {
    const char *dir;                /* where ca.pem and ca.key are */
    const char *role;               /* "edge" or "onprem" */
    const char *name;               /* a name as of VMs and disks (conf_name_ok), not "ca" */
    const char *sans[PKI_SANS_MAX]; /* DNS names and IP addresses beside the name */
    unsigned nsans;
    unsigned days;
};

/* Makes the directory (0700) if it is not there. 0 or -errno with why. */
int pki_init(const char *dir, const char *name, unsigned days, struct why *);
int pki_issue(const struct pki_issue *, struct why *);

/* A new file of mode 0600 with nbytes random bytes as hex digits and a newline: at-rest keys, tokens. */
int pki_random_file(const char *path, size_t nbytes, struct why *);

#endif
