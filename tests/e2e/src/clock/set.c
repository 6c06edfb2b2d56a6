/*
 * The time of day of a machine whose clock is set while its processes run.
 *
 * A test cannot set the clock of the machine that it runs on. But a process asks the C library what time it is, and a
 * library that is loaded before that one answers in its place: the true time and as many seconds as a file says. The file
 * is mapped, so that whoever writes it sets the clock in that moment.
 *
 * CLOCK_MONOTONIC and its kin are left alone: time passes as before, however a clock is set.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

/* A process that runs by another clock than its test believes would show nothing: none is started. */
__attribute__((constructor)) static void map_the_file(void) {
    const char *path = getenv("ACRPULL_E2E_CLOCK");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *mapped = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (file < 0 || mapped == MAP_FAILED) abort();
    close(file);
    ahead = mapped;
}

/* Not by dlsym: other libraries ask for the time before this one is ready to look for anything. */
int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (failed == 0 && ahead != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        time->tv_sec += *ahead;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return (time_t)-1;
    if (result != NULL) *result = now.tv_sec;
    return now.tv_sec;
}
