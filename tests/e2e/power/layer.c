/* A layer between a program and the disk, by LD_PRELOAD: it writes down, in order, what is done to files below POWER_HOME
 * and what leaves by sockets, and makes the disk fail while the file POWER_FAULT exists (its text says how).
 *
 * A record: kind (1 byte), length of path (4), length of data (4), offset (8), path, data; little-endian.
 * W write, T truncate to offset, C create, D make a folder, R rename to data, U unlink, F sync, S send.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096
#define PATH 512
#define MOST (1 << 20)

static char paths[FILES][PATH];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static char home[PATH], fault[PATH];

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("POWER_TRACE");
    if (name) trace = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if ((name = getenv("POWER_HOME"))) strncpy(home, name, PATH - 1);
    if ((name = getenv("POWER_FAULT"))) strncpy(fault, name, PATH - 1);
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int ours(const char *path) { return home[0] && path && strncmp(path, home, strlen(home)) == 0; }
static const char *path_of(int fd) { return fd >= 0 && fd < FILES && paths[fd][0] ? paths[fd] : NULL; }

static void put(char kind, const char *path, const void *data, size_t length, int64_t offset) {
    if (trace < 0) return;
    static char record[MOST + PATH + 32];
    uint32_t path_length = (uint32_t)strlen(path), data_length = (uint32_t)(length > MOST ? MOST : length);
    size_t at = 0;
    record[at++] = kind;
    memcpy(record + at, &path_length, 4), at += 4;
    memcpy(record + at, &data_length, 4), at += 4;
    memcpy(record + at, &offset, 8), at += 8;
    memcpy(record + at, path, path_length), at += path_length;
    memcpy(record + at, data, data_length), at += data_length;
    syscall(SYS_write, trace, record, at);
}

/* What the disk does wrong now: 0, or the error. `is` is w(rite), s(ync) or o(pen). */
static int failing(char is, size_t *length) {
    if (!fault[0]) return 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, fault, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[32] = {0};
    syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (!strncmp(text, "full", 4)) return is == 's' ? 0 : ENOSPC;
    if (!strncmp(text, "readonly", 8)) return is == 's' ? 0 : EROFS;
    if (!strncmp(text, "denied", 6)) return is == 'o' ? EACCES : 0;
    if (!strncmp(text, "sync", 4)) return is == 's' ? EIO : 0;
    if (!strncmp(text, "broken", 6)) return EIO;
    if (!strncmp(text, "short", 5) && is == 'w' && length) {
        /* A part is written, the rest finds no room. */
        if (*length < 2) return ENOSPC;
        *length /= 2;
    }
    return 0;
}

/* === files === */

static int after_open(int fd, const char *path, int created) {
    if (fd < 0 || fd >= FILES) return fd;
    pthread_mutex_lock(&lock);
    paths[fd][0] = 0;
    if (ours(path)) {
        strncpy(paths[fd], path, PATH - 1);
        if (created) put('C', path, "", 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static int refused(const char *path, int flags) {
    if (!ours(path) || !(flags & (O_WRONLY | O_RDWR | O_CREAT))) return 0;
    int error = failing('o', NULL);
    /* A full disk opens what is there. */
    if (error == ENOSPC && access(path, F_OK) == 0) return 0;
    return error;
}

#define OPEN(name)                                                                                   \
    int name(const char *path, int flags, ...) {                                                     \
        va_list list;                                                                                \
        va_start(list, flags);                                                                       \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0;                    \
        va_end(list);                                                                                \
        REAL(name);                                                                                  \
        int error = refused(path, flags);                                                            \
        if (error) return errno = error, -1;                                                         \
        int created = (flags & O_CREAT) && ours(path) && access(path, F_OK) != 0;                    \
        return after_open(real(path, flags, mode), path, created);                                   \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                 \
    int name(int folder, const char *path, int flags, ...) {                                         \
        va_list list;                                                                                \
        va_start(list, flags);                                                                       \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0;                    \
        va_end(list);                                                                                \
        REAL(name);                                                                                  \
        int error = refused(path, flags);                                                            \
        if (error) return errno = error, -1;                                                         \
        int created = (flags & O_CREAT) && ours(path) && access(path, F_OK) != 0;                    \
        return after_open(real(folder, path, flags, mode), path, created);                           \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    REAL(close);
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FILES) paths[fd][0] = 0;
    pthread_mutex_unlock(&lock);
    return real(fd);
}

/* The real call and its record are one step, so that the order of the records is the order of the disk. */
#define PWRITE(name, offset_type)                                                                    \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) {                      \
        REAL(name);                                                                                  \
        const char *path = path_of(fd);                                                              \
        if (!path) return real(fd, data, length, offset);                                            \
        pthread_mutex_lock(&lock);                                                                   \
        int error = failing('w', &length);                                                           \
        ssize_t done = error ? (errno = error, -1) : real(fd, data, length, offset);                 \
        if (done > 0) put('W', path, data, (size_t)done, offset);                                    \
        pthread_mutex_unlock(&lock);                                                                 \
        if (error) errno = error;                                                                    \
        return done;                                                                                 \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static int leaves(const void *data, size_t length) {
    return memmem(data, length, "-DRAIN-Voucher", 14) || memmem(data, length, "x-drain-voucher", 15)
        || memmem(data, length, "eth_sendRawTransaction", 22);
}

static void sending(const void *data, size_t length) {
    if (!leaves(data, length)) return;
    pthread_mutex_lock(&lock);
    put('S', "", data, length, 0);
    pthread_mutex_unlock(&lock);
}

static void sending_parts(const struct iovec *parts, int count) {
    static __thread char all[1 << 18];
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        size_t part = parts[i].iov_len;
        if (length + part > sizeof all) part = sizeof all - length;
        memcpy(all + length, parts[i].iov_base, part);
        length += part;
    }
    sending(all, length);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write);
    const char *path = path_of(fd);
    if (!path) {
        sending(data, length);
        return real(fd, data, length);
    }
    pthread_mutex_lock(&lock);
    int error = failing('w', &length);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = error ? -1 : real(fd, data, length);
    if (done > 0) put('W', path, data, (size_t)done, offset);
    pthread_mutex_unlock(&lock);
    if (error) errno = error;
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (!path_of(fd)) sending_parts(parts, count);
    return real(fd, parts, count);
}

ssize_t send(int fd, const void *data, size_t length, int flags) {
    REAL(send);
    sending(data, length);
    return real(fd, data, length, flags);
}

ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size) {
    REAL(sendto);
    sending(data, length);
    return real(fd, data, length, flags, to, size);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(sendmsg);
    sending_parts(message->msg_iov, (int)message->msg_iovlen);
    return real(fd, message, flags);
}

#define TRUNCATE(name, length_type)                                                                  \
    int name(int fd, length_type length) {                                                           \
        REAL(name);                                                                                  \
        const char *path = path_of(fd);                                                              \
        if (!path) return real(fd, length);                                                          \
        pthread_mutex_lock(&lock);                                                                   \
        int error = failing('w', NULL);                                                              \
        int done = error ? -1 : real(fd, length);                                                    \
        if (done == 0) put('T', path, "", 0, length);                                                \
        pthread_mutex_unlock(&lock);                                                                 \
        if (error) errno = error;                                                                    \
        return done;                                                                                 \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                                                   \
    int name(int fd) {                                                                               \
        REAL(name);                                                                                  \
        const char *path = path_of(fd);                                                              \
        if (!path) return real(fd);                                                                  \
        pthread_mutex_lock(&lock);                                                                   \
        int error = failing('s', NULL);                                                              \
        int done = error ? -1 : real(fd);                                                            \
        if (done == 0) put('F', path, "", 0, 0);                                                     \
        pthread_mutex_unlock(&lock);                                                                 \
        if (error) errno = error;                                                                    \
        return done;                                                                                 \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!ours(from)) return real(from, to);
    pthread_mutex_lock(&lock);
    int error = failing('o', NULL);
    int done = error && error != EACCES ? -1 : real(from, to);
    if (done == 0) put('R', from, to, strlen(to), 0);
    pthread_mutex_unlock(&lock);
    if (done != 0 && error) errno = error;
    return done;
}

int unlink(const char *path) {
    REAL(unlink);
    if (!ours(path)) return real(path);
    pthread_mutex_lock(&lock);
    int done = real(path);
    if (done == 0) put('U', path, "", 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    int done = real(path, mode);
    if (done == 0 && ours(path)) {
        pthread_mutex_lock(&lock);
        put('D', path, "", 0, 0);
        pthread_mutex_unlock(&lock);
    }
    return done;
}
