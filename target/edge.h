/* target/edge.h - the whole edge: its parts started in order, stopped in the reverse.
 */
#ifndef ISTHMUS_EDGE_H
#define ISTHMUS_EDGE_H

#include "conf.h"
#include "loop.h"

struct edge;

enum { EDGE_EXIT_LOST = 75 /* the process's status when the other edge of its pair went on alone */ };

/* Blocking, on the main loop's thread before it runs. cfg is borrowed until edge_free(). 0 or -errno with
 * why; on failure the process is expected to end. */
int edge_start(struct edge **, struct loop *main, cfg_t *cfg, struct why *);
/* Main loop: stops serving, closes what is open, then stops the main loop. */
void edge_stop(struct edge *);
/* It had to stop by itself, and has said why. */
bool edge_failed(const struct edge *);
/* After the main loop has ended. */
void edge_free(struct edge **);

#endif
