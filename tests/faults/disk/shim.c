/* Stands between a process and its disk: preloaded, it takes libc's place for what is done to files in one
 * directory and below, whoever does it: Python, SQLite, Arrow, deltalake, DuckDB. Everything else passes untouched.
 *
 * The environment gives the orders, read when the library is loaded and again by disk_orders():
 *
 *   DISK_WATCH    the directory, absolute, without symbolic links
 *   DISK_FAIL     "CLASS N ERRNO TIMES": operation number N of a class fails with ERRNO, TIMES times (0: for ever);
 *                 an ERRNO of 0 makes a write short instead. A class is write, sync, open, name, close or lock
 *   DISK_REPORT   gets a line for each operation that was made to fail: function, path
 *   DISK_TRACE    gets every operation that succeeded, with its data: struct event, path, second path, data
 *
 * Reads, and what a process does to mapped memory, are not seen. Needs a 64-bit Linux; calls the kernel itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum class { WRITE, SYNC, OPEN, NAME, CLOSE, LOCK, CLASSES };
static const char *const class_names[CLASSES] = {"write", "sync", "open", "name", "close", "lock"};

struct event {
    uint32_t kind; /* open, create, write, truncate, sync, rename, link, unlink, directory made, x: removed, k: closed, mark */
    uint32_t class, number; /* it was the so-manieth of its class */
    uint32_t path_size, second_size, reserved;
    uint64_t inode, offset, data_size;
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char watched[PATH_MAX];
static size_t watched_size;
static int trace = -1, report = -1;
static enum class fail_class;
static long fail_first, fail_times, fail_errno, seen[CLASSES + 1];

static int open_log(const char *name) {
    const char *path = getenv(name);
    return path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
}

__attribute__((constructor)) void disk_orders(void) {
    const char *directory = getenv("DISK_WATCH"), *fail = getenv("DISK_FAIL");
    char name[16] = "";
    fail_first = 0;
    memset(seen, 0, sizeof seen);
    if (fail && sscanf(fail, "%15s %ld %ld %ld", name, &fail_first, &fail_errno, &fail_times) == 4)
        for (int class = 0; class < CLASSES; class++)
            if (!strcmp(name, class_names[class])) fail_class = (enum class)class;
    trace = open_log("DISK_TRACE");
    report = open_log("DISK_REPORT");
    watched_size = directory ? (size_t)snprintf(watched, sizeof watched, "%s", directory) : 0;
}

static int is_watched(const char *path) {
    return watched_size && !strncmp(path, watched, watched_size) && (!path[watched_size] || path[watched_size] == '/');
}

/* The absolute path that a directory and a path relative to it mean; tells whether it is watched. */
static int resolve(int directory, const char *path, char *full) {
    if (!watched_size || !path) return 0;
    if (*path == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        ssize_t size = directory == AT_FDCWD ? syscall(SYS_getcwd, base, sizeof base) - 1
                       : (snprintf(link, sizeof link, "/proc/self/fd/%d", directory),
                          syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1));
        if (size < 0) return 0;
        base[size] = 0;
        if (snprintf(full, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    return is_watched(full);
}

static int resolve_file(int file, char *full) {
    char link[64];
    if (!watched_size || file < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, full, PATH_MAX - 1);
    if (size < 0) return 0;
    full[size] = 0;
    return is_watched(full);
}

static uint64_t inode_of(int file) {
    struct stat found;
    return fstat(file, &found) ? 0 : found.st_ino;
}

/* Whether the operation now asked for is one that shall fail. */
static int fails(enum class class, const char *function, const char *path) {
    long number = ++seen[class];
    if (!fail_first || class != fail_class || number < fail_first) return 0;
    if (fail_times && number >= fail_first + fail_times) return 0;
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%s %s\n", function, path);
    if (report >= 0) syscall(SYS_write, report, line, size);
    errno = (int)fail_errno;
    return 1;
}

static void note(char kind, enum class class, const char *path, const char *second, uint64_t inode, uint64_t offset,
                 const struct iovec *data, int count, size_t size) {
    if (trace < 0) return;
    int kept = errno;
    struct event event = {(uint32_t)kind, class, (uint32_t)seen[class], (uint32_t)strlen(path),
                          second ? (uint32_t)strlen(second) : 0, 0, inode, offset, size};
    syscall(SYS_write, trace, &event, sizeof event);
    syscall(SYS_write, trace, path, (size_t)event.path_size);
    if (second) syscall(SYS_write, trace, second, (size_t)event.second_size);
    for (int i = 0; i < count && size; i++) {
        size_t part = data[i].iov_len < size ? data[i].iov_len : size;
        syscall(SYS_write, trace, data[i].iov_base, part);
        size -= part;
    }
    errno = kept;
}

/* A step of the program itself, put between its operations. */
void disk_mark(const char *name) {
    pthread_mutex_lock(&turn);
    note('m', CLASSES, name, NULL, 0, 0, NULL, 0, 0);
    pthread_mutex_unlock(&turn);
}

/* Files */

static int open_at(const char *function, int directory, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    if (!writes || (flags & O_TMPFILE) == O_TMPFILE || !resolve(directory, path, full))
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    pthread_mutex_lock(&turn);
    int file = -1;
    if (!fails(OPEN, function, full)) {
        int is_new = syscall(SYS_faccessat, AT_FDCWD, full, F_OK) != 0;
        file = (int)syscall(SYS_openat, directory, path, flags, mode);
        char kind = is_new ? 'c' : flags & O_TRUNC ? 't' : 'o';
        if (file >= 0) note(kind, OPEN, full, NULL, inode_of(file), 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&turn);
    return file;
}

#define MODE(flags, mode)                          \
    mode_t mode = 0;                               \
    if ((flags) & (O_CREAT | O_TMPFILE)) {         \
        va_list rest;                              \
        va_start(rest, flags);                     \
        mode = (mode_t)va_arg(rest, unsigned int); \
        va_end(rest);                              \
    }
int open(const char *path, int flags, ...) { MODE(flags, mode) return open_at("open", AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return open_at("open", AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_at("openat", at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode) return open_at("openat", at, path, flags, mode); }
int __open_2(const char *path, int flags) { return open_at("open", AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at("open", AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_at("openat", at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_at("openat", at, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_at("creat", AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int file) {
    char full[PATH_MAX];
    if (!resolve_file(file, full) || (syscall(SYS_fcntl, file, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return (int)syscall(SYS_close, file);
    pthread_mutex_lock(&turn);
    int done = fails(CLOSE, "close", full) ? -1 : 0, why = errno;
    if (!done) note('k', CLOSE, full, NULL, inode_of(file), 0, NULL, 0, 0);
    syscall(SYS_close, file); /* a descriptor is gone whatever close answers */
    errno = why;
    pthread_mutex_unlock(&turn);
    return done;
}

/* offset -1: where the file stands */
static ssize_t put(const char *function, int file, const struct iovec *parts, int count, off_t offset) {
    char full[PATH_MAX];
    if (!resolve_file(file, full))
        return offset < 0 ? syscall(SYS_writev, file, parts, count) : syscall(SYS_pwritev, file, parts, count, offset, 0);
    pthread_mutex_lock(&turn);
    ssize_t done = -1;
    struct iovec half = {parts[0].iov_base, (parts[0].iov_len + 1) / 2};
    int failed = fails(WRITE, function, full);
    if (failed && !errno) parts = &half, count = 1, failed = 0;
    if (!failed) {
        off_t at = offset;
        if (syscall(SYS_fcntl, file, F_GETFL) & O_APPEND) {
            struct stat found;
            at = fstat(file, &found) ? 0 : found.st_size;
        } else if (offset < 0) {
            at = syscall(SYS_lseek, file, 0, SEEK_CUR);
        }
        done = offset < 0 ? syscall(SYS_writev, file, parts, count) : syscall(SYS_pwritev, file, parts, count, offset, 0);
        if (done > 0) note('w', WRITE, full, NULL, inode_of(file), (uint64_t)at, parts, count, (size_t)done);
    }
    pthread_mutex_unlock(&turn);
    return done;
}

ssize_t write(int file, const void *data, size_t size) {
    char full[PATH_MAX];
    struct iovec part = {(void *)data, size};
    return resolve_file(file, full) ? put("write", file, &part, 1, -1) : syscall(SYS_write, file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    struct iovec part = {(void *)data, size};
    return put("pwrite", file, &part, 1, offset);
}
ssize_t pwrite64(int file, const void *data, size_t size, off_t offset) { return pwrite(file, data, size, offset); }
ssize_t writev(int file, const struct iovec *parts, int count) { return put("writev", file, parts, count, -1); }
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) { return put("pwritev", file, parts, count, at); }
ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t at) { return put("pwritev", file, parts, count, at); }

int ftruncate(int file, off_t size) {
    char full[PATH_MAX];
    if (!resolve_file(file, full)) return (int)syscall(SYS_ftruncate, file, size);
    pthread_mutex_lock(&turn);
    int done = -1;
    if (!fails(WRITE, "ftruncate", full) || !errno) {
        done = (int)syscall(SYS_ftruncate, file, size);
        if (!done) note('t', WRITE, full, NULL, inode_of(file), (uint64_t)size, NULL, 0, 0);
    }
    pthread_mutex_unlock(&turn);
    return done;
}
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }

/* What the disk would keep is the simulation's business: that it was asked is all that counts, and much faster. */
static int sync_file(const char *function, long number, int file) {
    char full[PATH_MAX];
    if (!resolve_file(file, full)) return (int)syscall(number, file);
    pthread_mutex_lock(&turn);
    int done = -1;
    if (!fails(SYNC, function, full)) {
        note('s', SYNC, full, NULL, inode_of(file), 0, NULL, 0, 0);
        done = 0;
    }
    pthread_mutex_unlock(&turn);
    return done;
}
int fsync(int file) { return sync_file("fsync", SYS_fsync, file); }
int fdatasync(int file) { return sync_file("fdatasync", SYS_fdatasync, file); }

/* A lock leaves nothing on the disk: it may fail, and is in no trace. */
int flock(int file, int how) {
    char full[PATH_MAX];
    if (!resolve_file(file, full)) return (int)syscall(SYS_flock, file, how);
    pthread_mutex_lock(&turn);
    int failed = fails(LOCK, "flock", full), why = errno;
    pthread_mutex_unlock(&turn);
    errno = why;
    return failed ? -1 : (int)syscall(SYS_flock, file, how);
}

/* Names */

static int two_names(char kind, const char *function, int from_at, const char *from, int to_at, const char *to, int flags) {
    char old[PATH_MAX], new[PATH_MAX];
    long number = kind == 'r' ? SYS_renameat2 : SYS_linkat;
    int in = resolve(to_at, to, new);
    if (!resolve(from_at, from, old) || !in) return (int)syscall(number, from_at, from, to_at, to, flags);
    pthread_mutex_lock(&turn);
    int done = -1;
    if (!fails(NAME, function, new)) {
        done = (int)syscall(number, from_at, from, to_at, to, flags);
        if (!done) note(kind, NAME, old, new, 0, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&turn);
    return done;
}
int rename(const char *from, const char *to) { return two_names('r', "rename", AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return two_names('r', "renameat", a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned int flags) {
    return two_names('r', "renameat2", a, from, b, to, (int)flags);
}
int link(const char *from, const char *to) { return two_names('l', "link", AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return two_names('l', "linkat", a, from, b, to, flags); }

static int remove_at(const char *function, int directory, const char *path, int flags) {
    char full[PATH_MAX];
    if (!resolve(directory, path, full)) return (int)syscall(SYS_unlinkat, directory, path, flags);
    pthread_mutex_lock(&turn);
    int done = -1;
    if (!fails(NAME, function, full)) {
        done = (int)syscall(SYS_unlinkat, directory, path, flags);
        if (!done) note(flags & AT_REMOVEDIR ? 'x' : 'u', NAME, full, NULL, 0, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&turn);
    return done;
}
int unlink(const char *path) { return remove_at("unlink", AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return remove_at("unlinkat", at, path, flags); }
int rmdir(const char *path) { return remove_at("rmdir", AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int done = unlink(path);
    return done && errno == EISDIR ? rmdir(path) : done;
}

static int make_directory(const char *function, int directory, const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (!resolve(directory, path, full)) return (int)syscall(SYS_mkdirat, directory, path, mode);
    pthread_mutex_lock(&turn);
    int done = -1;
    if (!fails(OPEN, function, full)) {
        done = (int)syscall(SYS_mkdirat, directory, path, mode);
        if (!done) note('d', OPEN, full, NULL, 0, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&turn);
    return done;
}
int mkdir(const char *path, mode_t mode) { return make_directory("mkdir", AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return make_directory("mkdirat", at, path, mode); }
