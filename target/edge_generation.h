/* target/edge_generation.h - as which generation an edge writes (common/generation.h), from its start on.
 */
#ifndef ISTHMUS_EDGE_GENERATION_H
#define ISTHMUS_EDGE_GENERATION_H

#include "journal.h"

/* Blocking, before anything is read or written but the journal. alone: it is in no pair, so it writes as its
 * program's own, and its journal notes that; in a pair the record says more (journal/pair.h). Not 0, with
 * why: a later program has written here. */
int edge_generation(struct journal *, bool alone, struct why *);

#endif
