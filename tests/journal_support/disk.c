/* A disk that fails on command and that can lose its power. To be preloaded (LD_PRELOAD).
 *
 * DISK_DIR     the directory whose files are meant, without a slash at the end
 * DISK_FAULT   a file; while it exists its first letter says what fails in DISK_DIR:
 *              S  fsync and fdatasync: EIO    W  writing: EIO    F  writing: ENOSPC
 * DISK_SHADOW  a directory that holds, at every moment, exactly what was synced: the files of DISK_DIR after a power
 *              cut at that moment, every write since the last sync dropped
 * DISK_NAMES   a file to which the path of each folder is added when its names are synced, a line each
 * DISK_STOP    a number n: the process ends in the middle of its n-th write, or just before its n-th call if that
 *              is a sync
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Change {
    struct Change *next;
    off_t offset;
    ssize_t length; /* -1: the file was cut to offset */
    char name[64];
} Change;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Change *first, **end = &first;

/* Whether fd is a file of DISK_DIR; its name. */
static int watched(int fd, char name[64]) {
    const char *folder = getenv("DISK_DIR");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = folder ? readlink(link, path, sizeof path - 1) : -1;
    if (length < 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(folder);
    if (strncmp(path, folder, prefix) || path[prefix] != '/' || strchr(path + prefix + 1, '/')) return 0;
    snprintf(name, 64, "%s", path + prefix + 1);
    return 1;
}

static char fault(void) {
    const char *path = getenv("DISK_FAULT");
    char letter = 0;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        if (read(fd, &letter, 1) < 1) letter = 0;
        close(fd);
    }
    return letter;
}

static int refuse(void) {
    char letter = fault();
    if (letter != 'W' && letter != 'F') return 0;
    errno = letter == 'F' ? ENOSPC : EIO;
    return 1;
}

/* Whether this call is the one that DISK_STOP means. */
static int last_call(void) {
    static long left;
    const char *stop = getenv("DISK_STOP");
    if (!stop) return 0;
    if (!left) left = atol(stop);
    return --left == 0;
}

static void note(const char *name, off_t offset, ssize_t length) {
    if (!getenv("DISK_SHADOW")) return;
    Change *change = calloc(1, sizeof *change);
    change->offset = offset;
    change->length = length;
    strcpy(change->name, name);
    pthread_mutex_lock(&lock);
    *end = change;
    end = &change->next;
    pthread_mutex_unlock(&lock);
}

static ssize_t (*real_pwrite(void))(int, const void *, size_t, off64_t) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return real;
}

/* What was noted for name before this call is on the disk now: take it over into the shadow. */
static void synced(int fd, const char *name) {
    const char *folder = getenv("DISK_SHADOW");
    char path[4096];
    if (!folder) return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    pthread_mutex_lock(&lock);
    int shadow = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    for (Change **place = &first; *place;) {
        Change *change = *place;
        if (strcmp(change->name, name)) {
            place = &change->next;
            continue;
        }
        if (change->length < 0) {
            if (ftruncate(shadow, change->offset)) abort();
        } else {
            char *bytes = malloc(change->length);
            ssize_t got = pread(fd, bytes, change->length, change->offset);
            if (got > 0 && real_pwrite()(shadow, bytes, got, change->offset) != got) abort();
            free(bytes);
        }
        *place = change->next;
        free(change);
    }
    end = &first;
    while (*end) end = &(*end)->next;
    close(shadow);
    pthread_mutex_unlock(&lock);
}

/* The names in a folder are on the disk now: say which folder. */
static void named(int fd) {
    const char *names = getenv("DISK_NAMES");
    char link[64], path[4097];
    struct stat found;
    if (!names || fstat(fd, &found) || !S_ISDIR(found.st_mode)) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    int out = open(names, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (length < 0 || out < 0) abort();
    path[length++] = '\n';
    if (write(out, path, length) != length) abort();
    close(out);
}

static int sync_with(const char *call, int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, call);
    char name[64];
    if (!watched(fd, name)) {
        int result = real(fd);
        if (!result) named(fd);
        return result;
    }
    if (fault() == 'S') {
        errno = EIO;
        return -1;
    }
    if (last_call()) _exit(137);
    int result = real(fd);
    if (!result) synced(fd, name);
    return result;
}

int fsync(int fd) { return sync_with("fsync", fd); }

int fdatasync(int fd) { return sync_with("fdatasync", fd); }

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char name[64];
    if (!watched(fd, name)) return real_pwrite()(fd, bytes, length, offset);
    if (refuse()) return -1;
    if (last_call()) {
        (void)!real_pwrite()(fd, bytes, length / 2, offset);
        _exit(137);
    }
    ssize_t done = real_pwrite()(fd, bytes, length, offset);
    if (done > 0) note(name, offset, done);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

int ftruncate64(int fd, off64_t length) {
    int (*real)(int, off64_t) = dlsym(RTLD_NEXT, "ftruncate64");
    char name[64];
    int result = real(fd, length);
    if (!result && watched(fd, name)) note(name, length, -1);
    return result;
}

int unlink(const char *path) {
    int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
    const char *folder = getenv("DISK_DIR"), *shadow = getenv("DISK_SHADOW");
    char copy[4096];
    int result = real(path);
    size_t prefix = folder ? strlen(folder) : 0;
    if (!result && shadow && folder && !strncmp(path, folder, prefix) && path[prefix] == '/') {
        snprintf(copy, sizeof copy, "%s%s", shadow, path + prefix);
        real(copy);
    }
    return result;
}
