/* What a machine can do to a program, done on purpose: loaded into it with LD_PRELOAD.
 *
 * FAULTS_CONTROL names a file that holds a `struct control`; it is mapped, so that whoever writes into it is obeyed at
 * once. FAULTS_FILES is a part of the path of the files whose writes may fail. CLOCK_MONOTONIC is never touched: it is
 * what timers run on, and no machine sets it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t sync_error;  /* what fsync and fdatasync fail with; 0 is not at all */
    int64_t write_error; /* the same for all that changes a file */
    int64_t wall_ns;     /* how far CLOCK_REALTIME is set forward */
    int64_t boot_ns;     /* how far CLOCK_BOOTTIME is: the time that the machine was asleep */
    int64_t struck;      /* how many calls failed so far */
};

static struct control *control;
static const char *files;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0)
        return;
    files = getenv("FAULTS_FILES");
    void *page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED)
        control = page;
    syscall(SYS_close, fd);
}

static int64_t setting(const int64_t *field) { return __atomic_load_n(field, __ATOMIC_SEQ_CST); }

/* Whether a call on this path fails, and then with what. */
static int fails_at(const int64_t *field, const char *path) {
    int error = (int)setting(field);
    if (error == 0 || files == NULL || strstr(path, files) == NULL)
        return 0;
    __atomic_add_fetch(&control->struck, 1, __ATOMIC_SEQ_CST);
    errno = error;
    return 1;
}

static int fails(const int64_t *field, int fd) {
    if (setting(field) == 0)
        return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    return fails_at(field, path);
}

#define SYNC_FAILS(fd) (control && fails(&control->sync_error, fd))
#define WRITE_FAILS(fd) (control && fails(&control->write_error, fd))

int fsync(int fd) { return SYNC_FAILS(fd) ? -1 : (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { return SYNC_FAILS(fd) ? -1 : (int)syscall(SYS_fdatasync, fd); }

ssize_t write(int fd, const void *bytes, size_t length) {
    return WRITE_FAILS(fd) ? -1 : syscall(SYS_write, fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return WRITE_FAILS(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

int ftruncate64(int fd, off64_t length) {
    return WRITE_FAILS(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* On a file system that is read-only, a file cannot be opened to be written, nor be removed. */
static int opening_fails(const char *path, int flags) {
    return (flags & O_ACCMODE) != O_RDONLY && control && setting(&control->write_error) == EROFS
           && fails_at(&control->write_error, path);
}

#define OPEN(name)                                                                                                \
    int name(const char *path, int flags, ...) {                                                                  \
        va_list rest;                                                                                             \
        va_start(rest, flags);                                                                                    \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;                                 \
        va_end(rest);                                                                                             \
        return opening_fails(path, flags) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);           \
    }

OPEN(open)
OPEN(open64)

int unlink(const char *path) {
    if (control && setting(&control->write_error) == EROFS && fails_at(&control->write_error, path))
        return -1;
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

/* The offset of a clock, in nanoseconds. */
static int64_t offset_of(clockid_t clock) {
    if (control == NULL)
        return 0;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        return setting(&control->wall_ns);
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        return setting(&control->boot_ns);
    default:
        return 0;
    }
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    const int64_t second = 1000000000;
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0) {
        int64_t offset = offset_of(clock);
        int64_t nanos = time->tv_nsec + offset % second;
        time->tv_sec += offset / second + (nanos < 0 ? -1 : nanos / second);
        time->tv_nsec = nanos < 0 ? nanos + second : nanos % second;
    }
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into != NULL)
        *into = now.tv_sec;
    return now.tv_sec;
}
