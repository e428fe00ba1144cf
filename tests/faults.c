/* Loaded before libc into a promotion and the git it starts: the N-th call that changes a file below a folder fails, or
 * kills the whole process group as a power cut would. What is counted lies in a shared file, so all processes count on.
 *
 *   FAULT_ROOT   only files below this folder count
 *   FAULT_STATE  a file of three 64-bit numbers: calls so far, the number of the call that fails (0: none), and how:
 *                1 kill -9, 2 this and every later call that needs room gives ENOSPC, 3 this one call gives EIO
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile int64_t *state;
static const char *root;
static size_t root_length;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void begin(void) {
    if (state) return;
    const char *path = getenv("FAULT_STATE");
    root = getenv("FAULT_ROOT");
    if (!path || !root) return;
    int file = NEXT(open)(path, O_RDWR);
    if (file < 0) return;
    void *shared = mmap(NULL, 24, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED) return;
    root_length = strlen(root);
    state = shared;
}

static int is_below(const char *path) { return strncmp(path, root, root_length) == 0; }

/* 1 where the call must fail; errno is set. */
static int fails(int needs_room) {
    int64_t number = __atomic_add_fetch(&state[0], 1, __ATOMIC_SEQ_CST), at = state[1], how = state[2];
    if (at == 0 || number < at) return 0;
    if (how == 1 && number == at) kill(0, SIGKILL);
    if (how == 2 && needs_room) { errno = ENOSPC; return 1; }
    if (how == 3 && number == at) { errno = EIO; return 1; }
    return 0;
}

static int path_fails(int folder, const char *path, int needs_room) {
    begin();
    if (!state || !path) return 0;
    char whole[8192], where[4096];
    if (path[0] != '/') {
        ssize_t length;
        if (folder == AT_FDCWD) {
            if (!getcwd(where, sizeof where)) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            if ((length = readlink(link, where, sizeof where - 1)) < 0) return 0;
            where[length] = 0;
        }
        snprintf(whole, sizeof whole, "%s/%s", where, path);
        path = whole;
    }
    return is_below(path) && fails(needs_room);
}

static int file_fails(int file, int needs_room) {
    begin();
    if (!state || file < 3) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path) && fails(needs_room);
}

#define MAKES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define MODE_OF(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { MODE_OF(flags) if (MAKES(flags) && path_fails(AT_FDCWD, path, 1)) return -1; return NEXT(open)(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) if (MAKES(flags) && path_fails(AT_FDCWD, path, 1)) return -1; return NEXT(open64)(path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE_OF(flags) if (MAKES(flags) && path_fails(folder, path, 1)) return -1; return NEXT(openat)(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE_OF(flags) if (MAKES(flags) && path_fails(folder, path, 1)) return -1; return NEXT(openat64)(folder, path, flags, mode); }
ssize_t write(int file, const void *from, size_t length) { if (file_fails(file, 1)) return -1; return NEXT(write)(file, from, length); }
ssize_t pwrite(int file, const void *from, size_t length, off_t at) { if (file_fails(file, 1)) return -1; return NEXT(pwrite)(file, from, length, at); }
ssize_t pwrite64(int file, const void *from, size_t length, off64_t at) { if (file_fails(file, 1)) return -1; return NEXT(pwrite64)(file, from, length, at); }
ssize_t writev(int file, const struct iovec *parts, int count) { if (file_fails(file, 1)) return -1; return NEXT(writev)(file, parts, count); }
ssize_t sendfile(int out, int in, off_t *at, size_t length) { if (file_fails(out, 1)) return -1; return ((ssize_t (*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, "sendfile"))(out, in, at, length); }
ssize_t sendfile64(int out, int in, off64_t *at, size_t length) { if (file_fails(out, 1)) return -1; return ((ssize_t (*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64"))(out, in, at, length); }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) { if (file_fails(out, 1)) return -1; return NEXT(copy_file_range)(in, from, out, to, length, flags); }
int fsync(int file) { if (file_fails(file, 1)) return -1; return NEXT(fsync)(file); }
int fdatasync(int file) { if (file_fails(file, 1)) return -1; return NEXT(fdatasync)(file); }
int rename(const char *from, const char *to) { if (path_fails(AT_FDCWD, to, 0)) return -1; return NEXT(rename)(from, to); }
int renameat(int one, const char *from, int other, const char *to) { if (path_fails(other, to, 0)) return -1; return NEXT(renameat)(one, from, other, to); }
int link(const char *from, const char *to) { if (path_fails(AT_FDCWD, to, 1)) return -1; return NEXT(link)(from, to); }
int mkdir(const char *path, mode_t mode) { if (path_fails(AT_FDCWD, path, 1)) return -1; return NEXT(mkdir)(path, mode); }
int unlink(const char *path) { if (path_fails(AT_FDCWD, path, 0)) return -1; return NEXT(unlink)(path); }
