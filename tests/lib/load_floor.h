/* load_floor.h - the floor of load-gen: 48 bytes to another process, which answers with 4 KiB and its header,
 * again and again.
 *
 * The two are pinned to a core each. done() is told of each exchange, in nanoseconds. poll: this side never
 * sleeps. What does not work ends the program.
 */
#ifndef ISTHMUS_LOAD_FLOOR_H
#define ISTHMUS_LOAD_FLOOR_H

#include <stdbool.h>
#include <stdint.h>

void load_floor(const int cores[2], uint64_t time_ns, bool poll, void (*done)(uint64_t took_ns));

#endif
