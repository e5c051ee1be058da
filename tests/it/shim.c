/* Preloaded into the daemon by tests/it/durability.rs: makes the disk fail and the clock go wrong on request.
 *
 * In the directory $FOREBAY_SHIM: a file `eio` makes syncs of files below `wal/` fail (only the first N, if it holds a
 * number), `enospc` makes writes below `data/` fail, `slow` makes syncs of files below `wal/` take that many
 * milliseconds, `clock` holds the seconds by which the clock is off.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int asked(const char *name, long *value) {
    char path[PATH_MAX];
    const char *dir = getenv("FOREBAY_SHIM");
    if (!dir) return 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (access(path, F_OK) != 0) return 0;
    if (value) {
        FILE *file = fopen(path, "re");
        if (!file) return 0;
        if (fscanf(file, "%ld", value) != 1) *value = 0;
        fclose(file);
    }
    return 1;
}

static int below(int fd, const char *part) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return strstr(path, part) != NULL;
}

static int sync_fails(int fd) {
    static int failed;
    long value = 0;
    if (asked("slow", &value) && below(fd, "/wal/")) {
        struct timespec pause = { value / 1000, value % 1000 * 1000000 };
        nanosleep(&pause, NULL);
    }
    if (!asked("eio", &value) || !below(fd, "/wal/")) return 0;
    if (value > 0 && __sync_fetch_and_add(&failed, 1) >= value) return 0;
    errno = EIO;
    return 1;
}

static int write_fails(int fd) {
    if (!asked("enospc", NULL) || !below(fd, "/data/")) return 0;
    errno = ENOSPC;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fdatasync(int fd) { return sync_fails(fd) ? -1 : REAL(fdatasync)(fd); }
int fsync(int fd) { return sync_fails(fd) ? -1 : REAL(fsync)(fd); }
ssize_t write(int fd, const void *bytes, size_t len) { return write_fails(fd) ? -1 : REAL(write)(fd, bytes, len); }
ssize_t writev(int fd, const struct iovec *parts, int n) { return write_fails(fd) ? -1 : REAL(writev)(fd, parts, n); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) {
    return write_fails(fd) ? -1 : REAL(pwrite)(fd, bytes, len, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    return write_fails(fd) ? -1 : REAL(pwrite64)(fd, bytes, len, at);
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int outcome = REAL(clock_gettime)(clock, time);
    long off = 0;
    if (outcome == 0 && clock == CLOCK_REALTIME && asked("clock", &off)) time->tv_sec += off;
    return outcome;
}
