/* target/edge_writer.h - who this edge is in the store's objects: its data directory. */
#ifndef ISTHMUS_EDGE_WRITER_H
#define ISTHMUS_EDGE_WRITER_H

#include "journal.h"
#include "logobj.h"

/* Made with the data directory. Blocking. */
int edge_writer(struct journal *, struct loop *, uint8_t writer[LOGOBJ_WRITER_BYTES], struct why *);

#endif
