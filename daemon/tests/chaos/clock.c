/* Clocks that drift: preloaded, makes CLOCK_MONOTONIC_RAW and CLOCK_BOOTTIME run faster by the millionths that the file
 * named by TENURE_TEST_CLOCK says. Both go on from where they are when the rate changes. Other clocks, by which threads
 * sleep, are left alone. How far the first is ahead, in nanoseconds, is written to that name with a dot and the id of the
 * process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const long long SECOND = 1000000000LL;
/* How often the file is looked at. */
static const long long LOOK_EVERY = 50000000LL;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { long long real, shown; } clocks[2];
static long long next_look, millionths;

static long long real_time(clockid_t id) {
    struct timespec now;
    syscall(SYS_clock_gettime, id, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void look(long long now) {
    const char *path = getenv("TENURE_TEST_CLOCK");
    FILE *file = path ? fopen(path, "r") : NULL;
    next_look = now + LOOK_EVERY;
    if (file) {
        if (fscanf(file, "%lld", &millionths) != 1) millionths = 0;
        fclose(file);
    }
    char trace[4096];
    if (path && snprintf(trace, sizeof trace, "%s.%d", path, getpid()) < (int)sizeof trace && (file = fopen(trace, "w"))) {
        fprintf(file, "%lld\n", clocks[0].shown - clocks[0].real);
        fclose(file);
    }
}

int clock_gettime(clockid_t id, struct timespec *out) {
    if (id != CLOCK_MONOTONIC_RAW && id != CLOCK_BOOTTIME) {
        static int (*next)(clockid_t, struct timespec *);
        if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
        return next(id, out);
    }
    int which = id == CLOCK_BOOTTIME;
    pthread_mutex_lock(&lock);
    long long now = real_time(id), raw = real_time(CLOCK_MONOTONIC_RAW);
    if (!clocks[which].real) clocks[which].real = clocks[which].shown = now;
    long long passed = now - clocks[which].real;
    clocks[which].shown += passed + passed * millionths / 1000000;
    clocks[which].real = now;
    long long shown = clocks[which].shown;
    if (next_look <= raw) look(raw);
    pthread_mutex_unlock(&lock);
    out->tv_sec = shown / SECOND;
    out->tv_nsec = shown % SECOND;
    return 0;
}
