/* load_usage.h - what processes take, by /proc: for load-gen and soak.
 *
 * PROCESS is "/proc/PID". What cannot be read ends the program. One thread.
 */
#ifndef ISTHMUS_LOAD_USAGE_H
#define ISTHMUS_LOAD_USAGE_H

#include <stdint.h>

uint64_t usage_now_ns(void); /* of a clock that only goes forward */

/* CPU seconds of all its threads, to the kernel's tick; 0 if it is gone. */
double usage_cpu(const char *process);
/* Of its threads called "pool": in isthmus what is not on the path of an I/O. */
double usage_cpu_pool(const char *process);
unsigned long usage_rss_kib(const char *process);
/* Seconds this process was on a core, and those it was ready but others had the core. */
void usage_own(double *ran, double *waited);

#endif
