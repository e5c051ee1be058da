/* Preloaded into the daemon. Makes calls fail while a file with the fault's name exists in the directory FOREBAY_FAULTS.
 *
 *   sync-fails       fdatasync of a log segment: EIO
 *   sync-fails-once  the same, once; the file is then removed
 *   sync-slow        the sync takes as many milliseconds as the file says
 *   catalog-sync-fails        fsync or fdatasync of the catalog's SQLite log: EIO
 *   catalog-sync-fails-once   the same, once; the file is then removed
 *   catalog-write-fails-once  a write to it: EIO, once; the file is then removed
 *   staged-unreadable         a read of a staged file: EIO
 *   names-fail       fsync of a directory of the tables: EIO
 *   disk-full        every write to a file of the data directory: ENOSPC
 *   almost-full      the same, until the ballast file is removed
 *   clock            the file's number of seconds is added to the wall clock
 *   unreadable       "PATH OFFSET": reading a block of 4096 bytes of the file that ends with PATH: EIO
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NEXT(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

static int fault(const char *name, char *path, size_t size) {
    const char *dir = getenv("FOREBAY_FAULTS");
    return dir && snprintf(path, size, "%s/%s", dir, name) > 0 && access(path, F_OK) == 0;
}

/* The end of `dir` in the path of an open file, or NULL. */
static char *within(int fd, const char *dir, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 16);
    path[length < 0 ? 0 : length] = 0;
    char *found = strstr(path, dir);
    return found ? found + strlen(dir) : NULL;
}

static long number_in(const char *path) {
    char text[32] = {0};
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    long number = read(fd, text, sizeof text - 1) > 0 ? atol(text) : 0;
    close(fd);
    return number;
}

static int once(const char *name) {
    char path[PATH_MAX];
    return fault(name, path, sizeof path) && unlink(path) == 0;
}

static int is_catalog_log(int fd) {
    char path[PATH_MAX];
    return within(fd, "/data/catalog.db-wal", path) != NULL;
}

static int catalog_sync_fails(int fd) {
    char path[PATH_MAX];
    if (!is_catalog_log(fd)) return 0;
    return fault("catalog-sync-fails", path, sizeof path) || once("catalog-sync-fails-once");
}

int fdatasync(int fd) {
    char path[PATH_MAX];
    if (catalog_sync_fails(fd)) return errno = EIO, -1;
    if (within(fd, "/data/wal/", path)) {
        int fails = fault("sync-fails", path, sizeof path);
        if (!fails && fault("sync-fails-once", path, sizeof path)) fails = unlink(path) == 0;
        if (fails) return errno = EIO, -1;
        long slow = fault("sync-slow", path, sizeof path) ? number_in(path) : 0;
        struct timespec pause = { slow / 1000, slow % 1000 * 1000000 };
        if (slow) nanosleep(&pause, NULL);
    }
    return NEXT(fdatasync)(fd);
}

int fsync(int fd) {
    char path[PATH_MAX];
    if (catalog_sync_fails(fd)) return errno = EIO, -1;
    char *table = within(fd, "/data/tables", path);
    int is_dir = table && !strstr(table, ".parquet");
    if (is_dir && fault("names-fail", path, sizeof path)) return errno = EIO, -1;
    return NEXT(fsync)(fd);
}

static int read_fails(int fd) {
    char path[PATH_MAX];
    int before = errno;
    const char *name = within(fd, "/data/staged/", path);
    int fails = name && strstr(name, ".parquet") && fault("staged-unreadable", path, sizeof path);
    errno = fails ? EIO : before;
    return fails;
}

static int write_fails(int fd) {
    int before = errno;
    if (is_catalog_log(fd) && once("catalog-write-fails-once")) return errno = EIO, 1;
    char path[PATH_MAX];
    int full = fault("disk-full", path, sizeof path);
    int almost = fault("almost-full", path, sizeof path);
    char *name = full || almost ? within(fd, "/data/", path) : NULL;
    if (name && !full) {
        strcpy(name, "ballast");
        full = access(path, F_OK) == 0;
    }
    full = full && name;
    errno = full ? ENOSPC : before;
    return full;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return write_fails(fd) ? -1 : NEXT(write)(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return write_fails(fd) ? -1 : NEXT(pwrite)(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return write_fails(fd) ? -1 : NEXT(pwrite64)(fd, bytes, count, at);
}

/* The longest part of a read before the block that cannot be read; -1 if it starts in that block. */
static ssize_t readable(int fd, size_t count, off64_t at) {
    if (read_fails(fd)) return -1;
    char path[PATH_MAX], wanted[PATH_MAX], text[PATH_MAX] = {0};
    if (!fault("unreadable", path, sizeof path)) return count;
    int fault_fd = open(path, O_RDONLY);
    ssize_t length = fault_fd < 0 ? -1 : NEXT(read)(fault_fd, text, sizeof text - 1);
    if (fault_fd >= 0) close(fault_fd);
    long long block;
    if (length <= 0 || sscanf(text, "%4095s %lld", wanted, &block) != 2) return count;
    char *name = within(fd, wanted, path);
    if (!name || *name) return count;
    if (at >= block + 4096 || at + (off64_t)count <= block) return count;
    return at < block ? block - at : -1;
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    ssize_t part = readable(fd, count, at);
    return part < 0 ? (errno = EIO, -1) : NEXT(pread64)(fd, bytes, part, at);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t at) {
    return pread64(fd, bytes, count, at);
}

ssize_t read(int fd, void *bytes, size_t count) {
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t part = at < 0 ? (ssize_t)count : readable(fd, count, at);
    return part < 0 ? (errno = EIO, -1) : NEXT(read)(fd, bytes, part);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = NEXT(clock_gettime)(clock, time);
    char path[PATH_MAX];
    if (result == 0 && clock == CLOCK_REALTIME && fault("clock", path, sizeof path)) {
        time->tv_sec += number_in(path);
    }
    return result;
}
