/* load_usage.c - what processes take, by /proc.
 */
#include "load_usage.h"

#include "load_session.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t usage_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* By the kernel's ticks, of what dir/stat tells of; 0 if it is gone, or its name is not this (NULL: any). */
static double cpu_of(const char *dir, const char *name)
{
    char path[128], text[1024], *p, *open;
    unsigned long user = 0, system = 0;
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "%s/stat", dir);
    f = fopen(path, "r");
    if (!f)
        return 0;
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    open = strchr(text, '(');
    p = strrchr(text, ')');
    if (!open || !p ||
        sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        load_die("%s is not understood", path);
    *p = '\0';
    if (name && strcmp(open + 1, name) != 0)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

double usage_cpu(const char *process)
{
    return cpu_of(process, NULL);
}

double usage_cpu_pool(const char *process)
{
    char path[128];
    struct dirent *e;
    double sum = 0;
    DIR *tasks;

    snprintf(path, sizeof path, "%s/task", process);
    tasks = opendir(path);
    if (!tasks)
        load_die("%s: %s", path, strerror(errno));
    while ((e = readdir(tasks))) {
        snprintf(path, sizeof path, "%s/task/%.20s", process, e->d_name);
        if (e->d_name[0] != '.')
            sum += cpu_of(path, "pool");
    }
    closedir(tasks);
    return sum;
}

void usage_own(double *ran, double *waited)
{
    unsigned long long ran_ns = 0, waited_ns = 0;
    FILE *f = fopen("/proc/self/schedstat", "r");

    if (!f || fscanf(f, "%llu %llu", &ran_ns, &waited_ns) != 2)
        load_die("/proc/self/schedstat is not understood");
    fclose(f);
    *ran = (double)ran_ns / 1e9;
    *waited = (double)waited_ns / 1e9;
}

unsigned long usage_rss_kib(const char *process)
{
    char path[64];
    unsigned long pages = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/statm", process);
    f = fopen(path, "r");
    if (!f || fscanf(f, "%*u %lu", &pages) != 1)
        load_die("%s is not understood", path);
    fclose(f);
    return pages * (unsigned long)(sysconf(_SC_PAGESIZE) / 1024);
}
