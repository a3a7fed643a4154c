/* The fault shim: counts the calls that change or flush files below one directory, and breaks the n-th.
 *
 * Why here: what a program leaves behind when it dies depends on the system calls, SQLite's included, and only
 * a library between the program and libc sees them all without changing the program.
 * Must not: do anything before shim_arm() was called, nor count what lies outside the armed directory.
 *
 * Loaded with LD_PRELOAD. shim_arm() is called in the child that shall suffer, so one process can fork many.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, BEFORE, AFTER, TORN, FAIL_ONCE, FAIL_ON };

static char root[PATH_MAX];
static size_t root_size;
static int armed, mode, fault, trace_to = -1;
static long target, count;

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

void shim_arm(const char *directory, long at, int how, int error, int trace)
{
    strncpy(root, directory, sizeof root - 1);
    root_size = strlen(root);
    target = at;
    mode = how;
    fault = error;
    trace_to = trace;
    count = 0;
    __atomic_store_n(&armed, 1, __ATOMIC_SEQ_CST);
}

void shim_disarm(void) { __atomic_store_n(&armed, 0, __ATOMIC_SEQ_CST); }
long shim_count(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }

/* An index of SQLite's in shared memory is made anew by whoever opens the database first: nothing to lose there. */
static int is_shared_memory(const char *path)
{
    size_t size = strlen(path);
    return size > 4 && strcmp(path + size - 4, "-shm") == 0;
}

static int is_below(const char *path)
{
    return !is_shared_memory(path) && strncmp(path, root, root_size) == 0 && (path[root_size] == '/' || path[root_size] == 0);
}

static int of_descriptor(int descriptor, char *into)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(name, into, PATH_MAX - 1);
    if (size < 0)
        return 0;
    into[size] = 0;
    return 1;
}

static int of_path(int folder, const char *path, char *into)
{
    if (path[0] == '/') {
        strncpy(into, path, PATH_MAX - 1);
        return 1;
    }
    if (folder == AT_FDCWD) {
        if (!getcwd(into, PATH_MAX))
            return 0;
    } else if (!of_descriptor(folder, into))
        return 0;
    size_t used = strlen(into);
    snprintf(into + used, PATH_MAX - used, "/%s", path);
    return 1;
}

static void die(void)
{
    for (;;) {
        syscall(SYS_kill, getpid(), SIGKILL);
        pause();
    }
}

/* What the call must do. */
enum verdict { GO, GO_AND_DIE, HALF_AND_DIE, FAIL };

static int is_one_of(const char *call, const char *const *calls)
{
    for (; *calls; calls++)
        if (strcmp(call, *calls) == 0)
            return 1;
    return 0;
}

/* A full disk still deletes and flushes, a broken sector is met by data only, a read-only disk takes nothing. */
static int can_fail(const char *call)
{
    static const char *const growing[] = {"write", "pwrite", "create", "mkdir", "link", "rename", "ftruncate", 0};
    static const char *const data[] = {"write", "pwrite", "fsync", "fdatasync", "syncfs", 0};
    if (fault == ENOSPC)
        return is_one_of(call, growing);
    return fault == EIO ? is_one_of(call, data) : 1;
}

static enum verdict judge(const char *call, const char *path)
{
    if (!__atomic_load_n(&armed, __ATOMIC_SEQ_CST) || !is_below(path))
        return GO;
    long number = __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
    if (trace_to >= 0) {
        char line[PATH_MAX + 64];
        int size = snprintf(line, sizeof line, "%s %s\n", call, path + root_size);
        syscall(SYS_write, trace_to, line, (size_t)size);
    }
    if (number < target || mode == COUNT)
        return GO;
    if (mode == FAIL_ON || mode == FAIL_ONCE) {
        if ((mode == FAIL_ONCE && number > target) || !can_fail(call))
            return GO;
        errno = fault;
        return FAIL;
    }
    if (number > target)
        return GO;
    if (mode == BEFORE)
        die();
    return mode == TORN ? HALF_AND_DIE : GO_AND_DIE;
}

static enum verdict judge_descriptor(const char *call, int descriptor)
{
    char path[PATH_MAX];
    if (!__atomic_load_n(&armed, __ATOMIC_SEQ_CST) || !of_descriptor(descriptor, path))
        return GO;
    return judge(call, path);
}

static enum verdict judge_path(const char *call, int folder, const char *name)
{
    char path[PATH_MAX];
    if (!__atomic_load_n(&armed, __ATOMIC_SEQ_CST) || !of_path(folder, name, path))
        return GO;
    return judge(call, path);
}

#define FINISH(judged, result) \
    do { \
        if ((judged) != GO) \
            die(); \
        return (result); \
    } while (0)

#define WHOLE(type, judged, action) \
    do { \
        enum verdict decided = (judged); \
        if (decided == FAIL) \
            return -1; \
        type result = (action); \
        FINISH(decided, result); \
    } while (0)

#define DATA(judged, size, action_of_size) \
    do { \
        enum verdict decided = (judged); \
        if (decided == FAIL) \
            return -1; \
        size_t length = decided == HALF_AND_DIE ? (size) / 2 : (size); \
        ssize_t result = (action_of_size); \
        FINISH(decided, result); \
    } while (0)

ssize_t write(int fd, const void *data, size_t size)
{
    DATA(judge_descriptor("write", fd), size, REAL(write)(fd, data, length));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    DATA(judge_descriptor("pwrite", fd), size, REAL(pwrite)(fd, data, length, at));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    DATA(judge_descriptor("pwrite", fd), size, REAL(pwrite64)(fd, data, length, at));
}

ssize_t writev(int fd, const struct iovec *parts, int many)
{
    enum verdict decided = judge_descriptor("write", fd);
    if (decided == FAIL)
        return -1;
    ssize_t result;
    if (decided == HALF_AND_DIE)
        result = REAL(write)(fd, parts[0].iov_base, parts[0].iov_len / 2);
    else
        result = REAL(writev)(fd, parts, many);
    FINISH(decided, result);
}

ssize_t sendfile(int to, int from, off_t *at, size_t size);
ssize_t sendfile(int to, int from, off_t *at, size_t size)
{
    DATA(judge_descriptor("write", to), size, REAL(sendfile)(to, from, at, length));
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t size);
ssize_t sendfile64(int to, int from, off64_t *at, size_t size)
{
    DATA(judge_descriptor("write", to), size, REAL(sendfile64)(to, from, at, length));
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    DATA(judge_descriptor("write", to), size, REAL(copy_file_range)(from, from_at, to, to_at, length, flags));
}

int fsync(int fd) { WHOLE(int, judge_descriptor("fsync", fd), REAL(fsync)(fd)); }
int fdatasync(int fd) { WHOLE(int, judge_descriptor("fdatasync", fd), REAL(fdatasync)(fd)); }
int syncfs(int fd) { WHOLE(int, judge_descriptor("syncfs", fd), REAL(syncfs)(fd)); }
int ftruncate(int fd, off_t size) { WHOLE(int, judge_descriptor("ftruncate", fd), REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { WHOLE(int, judge_descriptor("ftruncate", fd), REAL(ftruncate64)(fd, size)); }

int rename(const char *from, const char *to)
{
    WHOLE(int, judge_path("rename", AT_FDCWD, to), REAL(rename)(from, to));
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    WHOLE(int, judge_path("rename", to_at, to), REAL(renameat)(from_at, from, to_at, to));
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    WHOLE(int, judge_path("rename", to_at, to), REAL(renameat2)(from_at, from, to_at, to, flags));
}

int link(const char *from, const char *to) { WHOLE(int, judge_path("link", AT_FDCWD, to), REAL(link)(from, to)); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    WHOLE(int, judge_path("link", to_at, to), REAL(linkat)(from_at, from, to_at, to, flags));
}

int unlink(const char *path) { WHOLE(int, judge_path("unlink", AT_FDCWD, path), REAL(unlink)(path)); }

int unlinkat(int at, const char *path, int flags)
{
    WHOLE(int, judge_path(flags & AT_REMOVEDIR ? "rmdir" : "unlink", at, path), REAL(unlinkat)(at, path, flags));
}

int rmdir(const char *path) { WHOLE(int, judge_path("rmdir", AT_FDCWD, path), REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t rights) { WHOLE(int, judge_path("mkdir", AT_FDCWD, path), REAL(mkdir)(path, rights)); }

int mkdirat(int at, const char *path, mode_t rights)
{
    WHOLE(int, judge_path("mkdir", at, path), REAL(mkdirat)(at, path, rights));
}

/* Opening counts only when it makes a file. */
static enum verdict judge_opening(int at, const char *path, int flags)
{
    struct stat found;
    if (!__atomic_load_n(&armed, __ATOMIC_SEQ_CST) || !(flags & O_CREAT))
        return GO;
    if (fstatat(at, path, &found, AT_SYMLINK_NOFOLLOW) == 0)
        return GO;
    return judge_path("create", at, path);
}

#define OPENING(folder, real_call) \
    do { \
        mode_t rights = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list more; \
            va_start(more, flags); \
            rights = va_arg(more, mode_t); \
            va_end(more); \
        } \
        WHOLE(int, judge_opening(folder, path, flags), real_call); \
    } while (0)

int open(const char *path, int flags, ...) { OPENING(AT_FDCWD, REAL(open)(path, flags, rights)); }
int open64(const char *path, int flags, ...) { OPENING(AT_FDCWD, REAL(open64)(path, flags, rights)); }
int openat(int at, const char *path, int flags, ...) { OPENING(at, REAL(openat)(at, path, flags, rights)); }
int openat64(int at, const char *path, int flags, ...) { OPENING(at, REAL(openat64)(at, path, flags, rights)); }
