/* journal/store/store_azure.h - an Azure Blob container as a store (azure://account/container/prefix).
 */
#ifndef ISTHMUS_STORE_AZURE_H
#define ISTHMUS_STORE_AZURE_H

#include "store_conf.h"

/* Reads secrets from files: for start-up. NULL with why. Needs a real loop. */
struct store *store_azure_new(struct loop *, const struct store_conf *, struct why *);

#endif
