/* tests/lib/pki.h - a private CA and certificates for tests, in a temporary directory.
 *
 * Files are DIR/NAME.crt and DIR/NAME.key (mode 0600). Everything here ends the test program on failure.
 */
#ifndef ISTHMUS_TEST_PKI_H
#define ISTHMUS_TEST_PKI_H

/* Makes a directory under TMPDIR; pki_remove deletes it with everything in it. */
char *pki_new(void);
void pki_remove(char **dir);

/* A self-signed CA called name. */
void pki_ca(const char *dir, const char *name);
/* A certificate by that CA in the files called name: CN = cn, OU = role, valid from now + from_s to now +
 * to_s. */
void pki_issue(const char *dir, const char *ca, const char *name, const char *cn, const char *role,
               long from_s, long to_s);

#endif
