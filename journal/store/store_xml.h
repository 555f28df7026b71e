/* journal/store/store_xml.h - the small XML documents that object stores answer with.
 *
 * Input of a peer: depth and the length of a value are bounded; what cannot be read is refused.
 */
#ifndef ISTHMUS_STORE_XML_H
#define ISTHMUS_STORE_XML_H

#include <stdbool.h>
#include <stddef.h>

enum { STORE_XML_PATH_MAX = 256, STORE_XML_VALUE_MAX = 8192 };

/* Calls element() at the end of each element with its path from the root ("Error/Code") and its own text
 * without blanks at its ends; attributes are left out. 0, or -EBADMSG: no XML, too deep, or a value too long.
 */
int store_xml_each(const char *text, size_t n,
                   void (*element)(void *arg, const char *path, const char *value), void *arg);
/* Does the text have to be looked at: a document whose root has this name? */
bool store_xml_is(const char *text, size_t n, const char *root);
/* text with & < > " ' written as entities; the caller frees it. */
char *store_xml_escape(const char *text);

#endif
