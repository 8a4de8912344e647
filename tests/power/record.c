/* Runs a program and writes down what it does to the files below one directory, in order and with the data; and, if asked,
 * lets some of that fail.
 *
 *     record RECORDING ROOT [--fail RULE]... -- PROGRAM ARGUMENT...
 *
 * It looks at system calls (seccomp stops the program at those that matter, ptrace reads them), not at library calls: the
 * program is any binary as it is shipped, and nothing it does through another library goes unseen. What it does not
 * understand (a writable shared mapping, O_SYNC, io_uring, copy_file_range, ...) ends the run with status 125 and a word on
 * what it was, because a recording that lacks something proves nothing.
 *
 * RULE is OPERATION:PART:NTH:COUNT:ERROR, for example sync:/log/:3:1:EIO. Of the operations (write, grow, sync, create,
 * rename, remove) on paths that have PART in them, the NTH (from 1) and the COUNT - 1 that follow (0: all of them) fail with
 * ERROR and do nothing. Instead of an error it can be KILL or KILLED: the program is killed (SIGKILL) before the call has done
 * anything, or when it has done all it does and the program has not heard of that. Or it can be HELD: the recorder counts from
 * its first SIGUSR1 on, and the thread whose call it is has to wait, when that has done all it does, for the second.
 *
 * A recording is a sequence of records, all numbers little-endian: kind (4 bytes), lengths of path, second path and data (4
 * each), begin, end, file, position, length (8 each), then path, second path, data. Begin and end are positions on one
 * clock that counts calls' beginnings and ends; an end of 2^64 - 1 is that of a call during which the program died. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the registers are those of x86-64"
#endif

enum kind { OPENED = 1, MADE_DIR, WRITTEN, GROWN, CUT, SYNCED, SYNC_FAILED, RENAMED, REMOVED, SYNCED_ALL };
enum { CREATED = 1, EMPTIED = 2, DURABLE = 4 };
/* In the place of an error. */
enum { KILL = 100000, KILLED, HELD };

/* The calls that are looked at. */
static const int CALLS[] = {
    SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_write, SYS_pwrite64, SYS_writev, SYS_pwritev, SYS_pwritev2,
    SYS_ftruncate, SYS_truncate, SYS_fallocate, SYS_fsync, SYS_fdatasync, SYS_sync, SYS_syncfs, SYS_rename,
    SYS_renameat, SYS_renameat2, SYS_unlink, SYS_unlinkat, SYS_rmdir, SYS_mkdir, SYS_mkdirat, SYS_mmap, SYS_link,
    SYS_linkat, SYS_symlink, SYS_symlinkat, SYS_sendfile, SYS_copy_file_range, SYS_splice, SYS_io_uring_setup,
    SYS_io_submit,
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A thread of the program, and the call it is in. */
struct task {
    pid_t id;
    int inside;
    struct user_regs_struct regs;
    uint64_t begin;
    char path[PATH_MAX], other[PATH_MAX];
    int kind, flags, error;
    uint64_t file, position, length;
    unsigned char *data;
};

struct rule {
    char operation[16], part[256];
    long nth, count, seen;
    int error;
};

static struct task tasks[4096];
static struct rule rules[16];
static size_t rules_count;
static uint64_t clock_now;
static FILE *recording;
static char root[PATH_MAX];
static pid_t program;
/* Whether threads are to be held, and the one that is. */
static volatile sig_atomic_t holding, held;

static void give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("record: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    if (program > 0) kill(program, SIGKILL);
    exit(125);
}

static struct task *task_of(pid_t id) {
    struct task *free_one = NULL;
    for (size_t i = 0; i < COUNT(tasks); i++) {
        if (tasks[i].id == id) return &tasks[i];
        if (tasks[i].id == 0 && !free_one) free_one = &tasks[i];
    }
    if (!free_one) give_up("more threads than were reckoned with");
    free_one->id = id;
    return free_one;
}

static void read_memory(pid_t id, uint64_t from, void *to, size_t length) {
    struct iovec here = {to, length}, there = {(void *)from, length};
    if (length && process_vm_readv(id, &here, 1, &there, 1, 0) != (ssize_t)length)
        give_up("cannot read the program's memory: %s", strerror(errno));
}

/* A text may end just before memory that is not there, so it is read page by page. */
static void read_text(pid_t id, uint64_t from, char *to) {
    for (size_t done = 0; done < PATH_MAX;) {
        size_t part = 4096 - (from + done) % 4096;
        if (part > PATH_MAX - done) part = PATH_MAX - done;
        read_memory(id, from + done, to + done, part);
        if (memchr(to + done, 0, part)) return;
        done += part;
    }
    give_up("a path is too long");
}

/* Where a descriptor leads; empty if it is no file with a name. */
static void path_of(pid_t id, int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/fd/%d", id, descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

/* The whole path of one that is relative to a directory's descriptor. */
static void absolute(struct task *task, int dir, uint64_t from, char *path) {
    char given[PATH_MAX], base[PATH_MAX], link[64];
    read_text(task->id, from, given);
    if (given[0] == '/') {
        strcpy(path, given);
        return;
    }
    if (dir == AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/%d/cwd", task->id);
        ssize_t length = readlink(link, base, sizeof base - 1);
        base[length > 0 ? length : 0] = 0;
    } else {
        path_of(task->id, dir, base);
    }
    if ((size_t)snprintf(path, PATH_MAX, "%s/%s", base, given) >= PATH_MAX) give_up("a path is too long");
}

static int inside_root(const char *path) {
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* The number of the file behind a descriptor; sets `length` if it is wanted. */
static uint64_t file_of(pid_t id, int descriptor, uint64_t *length) {
    char link[64];
    struct stat status;
    snprintf(link, sizeof link, "/proc/%d/fd/%d", id, descriptor);
    if (stat(link, &status)) give_up("stat %s: %s", link, strerror(errno));
    if (length) *length = (uint64_t)status.st_size;
    return (uint64_t)status.st_ino;
}

/* Where the next write through a descriptor goes. */
static uint64_t position_of(pid_t id, int descriptor) {
    char name[64], line[128];
    unsigned long long position = 0, flags = 0;
    snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", id, descriptor);
    FILE *file = fopen(name, "r");
    if (!file) give_up("%s: %s", name, strerror(errno));
    while (fgets(line, sizeof line, file)) {
        sscanf(line, "pos: %llu", &position);
        sscanf(line, "flags: %llo", &flags);
    }
    fclose(file);
    if (flags & O_APPEND) file_of(id, descriptor, (uint64_t *)&position);
    return position;
}

static void put(const void *bytes, size_t length) {
    if (length && fwrite(bytes, length, 1, recording) != 1) give_up("the recording: %s", strerror(errno));
}

static void record(struct task *task, uint64_t end, uint64_t length) {
    uint32_t path = (uint32_t)strlen(task->path), other = (uint32_t)strlen(task->other);
    uint32_t head[] = {(uint32_t)task->kind, path, other, task->data ? (uint32_t)length : 0};
    uint64_t numbers[] = {task->begin, end, task->file, task->kind == WRITTEN ? task->position : (uint64_t)task->flags,
                          task->kind == WRITTEN ? length | ((uint64_t)task->flags << 56) : task->length};
    put(head, sizeof head);
    put(numbers, sizeof numbers);
    put(task->path, path);
    put(task->other, other);
    if (task->data) put(task->data, length);
}

/* What of the call is to be written down: the paths, the file, the data. The call is of no interest if `kind` stays 0. */
static void on_descriptor(struct task *task, enum kind kind) {
    int descriptor = (int)task->regs.rdi;
    char path[PATH_MAX];
    path_of(task->id, descriptor, path);
    if (!inside_root(path)) return;
    task->kind = kind;
    strcpy(task->path, path);
    task->file = file_of(task->id, descriptor, NULL);
}

static void on_write(struct task *task, int is_vector, int has_position, int flags) {
    on_descriptor(task, WRITTEN);
    if (!task->kind) return;
    if (flags & ~(0x2 | 0x1)) give_up("pwritev2 with flags %x", flags);
    task->flags = flags & 0x2 ? DURABLE : 0;
    task->position = has_position ? task->regs.r10 : position_of(task->id, (int)task->regs.rdi);
    struct iovec parts[1024] = {{(void *)task->regs.rsi, task->regs.rdx}};
    size_t count = 1;
    if (is_vector) {
        count = task->regs.rdx;
        if (count > COUNT(parts)) give_up("a write of %zu parts", count);
        read_memory(task->id, task->regs.rsi, parts, count * sizeof *parts);
    }
    task->length = 0;
    for (size_t i = 0; i < count; i++) task->length += parts[i].iov_len;
    task->data = malloc(task->length ? task->length : 1);
    size_t done = 0;
    for (size_t i = 0; i < count; done += parts[i++].iov_len)
        read_memory(task->id, (uint64_t)parts[i].iov_base, task->data + done, parts[i].iov_len);
}

static void on_open(struct task *task, int dir, uint64_t path, int flags) {
    struct stat status;
    absolute(task, dir, path, task->path);
    task->kind = OPENED;
    task->flags = 0;
    if (flags & O_TRUNC) task->flags |= EMPTIED;
    if ((flags & O_CREAT) && lstat(task->path, &status)) task->flags |= CREATED;
    if ((flags & (O_SYNC | O_DSYNC)) && inside_root(task->path)) give_up("%s is opened with O_SYNC or O_DSYNC", task->path);
    if ((flags & O_TMPFILE) == O_TMPFILE) give_up("%s is opened with O_TMPFILE", task->path);
}

static void on_paths(struct task *task, enum kind kind, int dir, uint64_t path, int other_dir, uint64_t other) {
    absolute(task, dir, path, task->path);
    if (other) absolute(task, other_dir, other, task->other);
    if (inside_root(task->path) || inside_root(task->other)) task->kind = kind;
}

/* Calls that would be missing in a recording. */
static void never_inside(struct task *task, int descriptor, const char *what) {
    char path[PATH_MAX];
    path_of(task->id, descriptor, path);
    if (inside_root(path)) give_up("%s on %s is not understood", what, path);
}

static void look(struct task *task) {
    struct user_regs_struct *r = &task->regs;
    switch ((long)r->orig_rax) {
    case SYS_open: on_open(task, AT_FDCWD, r->rdi, (int)r->rsi); break;
    case SYS_creat: on_open(task, AT_FDCWD, r->rdi, O_CREAT | O_TRUNC); break;
    case SYS_openat: on_open(task, (int)r->rdi, r->rsi, (int)r->rdx); break;
    case SYS_write: on_write(task, 0, 0, 0); break;
    case SYS_pwrite64: on_write(task, 0, 1, 0); break;
    case SYS_writev: on_write(task, 1, 0, 0); break;
    case SYS_pwritev: on_write(task, 1, 1, 0); break;
    case SYS_pwritev2: on_write(task, 1, 1, (int)r->r9); break;
    case SYS_ftruncate: on_descriptor(task, CUT); task->length = r->rsi; break;
    case SYS_fallocate:
        on_descriptor(task, GROWN);
        task->length = r->rdx + r->r10;
        if (task->kind && r->rsi) give_up("fallocate of mode %llx", r->rsi);
        break;
    case SYS_fsync: case SYS_fdatasync: on_descriptor(task, SYNCED); break;
    case SYS_sync: case SYS_syncfs: task->kind = SYNCED_ALL; break;
    case SYS_rename: on_paths(task, RENAMED, AT_FDCWD, r->rdi, AT_FDCWD, r->rsi); break;
    case SYS_renameat: on_paths(task, RENAMED, (int)r->rdi, r->rsi, (int)r->rdx, r->r10); break;
    case SYS_renameat2:
        on_paths(task, RENAMED, (int)r->rdi, r->rsi, (int)r->rdx, r->r10);
        if (task->kind && (r->r8 & ~1ull)) give_up("renameat2 with flags %llx", r->r8);
        break;
    case SYS_unlink: case SYS_rmdir: on_paths(task, REMOVED, AT_FDCWD, r->rdi, 0, 0); break;
    case SYS_unlinkat: on_paths(task, REMOVED, (int)r->rdi, r->rsi, 0, 0); break;
    case SYS_mkdir: on_paths(task, MADE_DIR, AT_FDCWD, r->rdi, 0, 0); break;
    case SYS_mkdirat: on_paths(task, MADE_DIR, (int)r->rdi, r->rsi, 0, 0); break;
    case SYS_mmap:
        if ((r->rdx & PROT_WRITE) && (r->r10 & MAP_SHARED) && (int)r->r8 >= 0)
            never_inside(task, (int)r->r8, "a writable shared mapping");
        break;
    case SYS_truncate: case SYS_link: case SYS_linkat: case SYS_symlink: case SYS_symlinkat: {
        int at = (long)r->orig_rax == SYS_linkat;
        char path[PATH_MAX];
        absolute(task, at ? (int)r->rdx : AT_FDCWD, at ? r->r10 : r->rdi, path);
        if (inside_root(path)) give_up("call %lld on %s is not understood", r->orig_rax, path);
        break;
    }
    case SYS_sendfile: never_inside(task, (int)r->rdi, "sendfile"); break;
    case SYS_copy_file_range: case SYS_splice: never_inside(task, (int)r->rdx, "copy_file_range or splice"); break;
    default: give_up("call %lld is not understood", r->orig_rax);
    }
}

static const char *operation(const struct task *task) {
    switch (task->kind) {
    case OPENED: return task->flags & CREATED ? "create" : "";
    case MADE_DIR: return "create";
    case WRITTEN: return "write";
    case GROWN: case CUT: return "grow";
    case SYNCED: return "sync";
    case RENAMED: return "rename";
    case REMOVED: return "remove";
    default: return "";
    }
}

/* The error that the call is to end with, or 0. */
static int error_for(const struct task *task) {
    int error = 0;
    for (size_t i = 0; i < rules_count; i++) {
        struct rule *rule = &rules[i];
        if (rule->error == HELD && !holding) continue;
        if (strcmp(rule->operation, operation(task))) continue;
        if (!strstr(task->path, rule->part) && !strstr(task->other, rule->part)) continue;
        rule->seen++;
        int now = rule->seen >= rule->nth && (rule->count == 0 || rule->seen < rule->nth + rule->count);
        if (now) error = rule->error;
    }
    return error;
}

static void enter(struct task *task) {
    if (ptrace(PTRACE_GETREGS, task->id, 0, &task->regs)) return;
    task->inside = 1;
    task->kind = task->flags = task->error = 0;
    task->path[0] = task->other[0] = 0;
    task->file = task->position = task->length = 0;
    free(task->data);
    task->data = NULL;
    look(task);
    if (task->kind) task->begin = ++clock_now;
    if (task->kind && (task->kind != OPENED || inside_root(task->path))) task->error = error_for(task);
    if (!task->error) return;
    int afterwards = task->error == KILLED || task->error == HELD, killed = task->error == KILL || task->error == KILLED;
    const char *what = !killed ? "it is held" : afterwards ? "it is killed afterwards" : "it is killed";
    if (!killed && !afterwards) what = strerror(task->error);
    fprintf(stderr, "record: %s of %s fails: %s\n", operation(task), task->path, what);
    if (afterwards) return;
    struct user_regs_struct regs = task->regs;
    regs.orig_rax = (unsigned long long)-1;
    ptrace(PTRACE_SETREGS, task->id, 0, &regs);
    if (killed) kill(program, SIGKILL);
}

static void leave(struct task *task) {
    struct user_regs_struct regs;
    task->inside = 0;
    if (ptrace(PTRACE_GETREGS, task->id, 0, &regs)) return;
    if (task->error == KILLED) {
        kill(program, SIGKILL);
    } else if (task->error && task->error != HELD) {
        regs.rax = (unsigned long long)-(long)task->error;
        ptrace(PTRACE_SETREGS, task->id, 0, &regs);
    }
    if (!task->kind) return;
    long result = (long)regs.rax;
    uint64_t end = ++clock_now;
    if (result < 0) {
        if (task->kind != SYNCED) return;
        task->kind = SYNC_FAILED;
    }
    if (task->kind == OPENED) {
        /* By descriptor, because a path may lead through /proc or through a link. */
        path_of(task->id, (int)result, task->path);
        if (!inside_root(task->path)) return;
        task->file = file_of(task->id, (int)result, NULL);
    }
    record(task, end, task->kind == WRITTEN ? (uint64_t)result : task->length);
}

/* The program died in a call: what that has done is not known. */
static void died(struct task *task) {
    if (task->inside && task->kind && task->kind != OPENED && !task->error) record(task, UINT64_MAX, task->length);
    free(task->data);
    memset(task, 0, sizeof *task);
}

static void become(char **command) {
    struct sock_filter filter[COUNT(CALLS) + 6];
    size_t n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT(CALLS); i++)
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)CALLS[i],
                                                   (unsigned char)(COUNT(CALLS) - i), 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog programme = {(unsigned short)n, filter};
    if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(124);
    raise(SIGSTOP);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &programme)) _exit(124);
    execvp(command[0], command);
    fprintf(stderr, "record: %s: %s\n", command[0], strerror(errno));
    _exit(124);
}

static void add_rule(const char *text) {
    static const struct { const char *name; int error; } ERRORS[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT},
                                                               {"KILL", KILL}, {"KILLED", KILLED},
                                                               {"HELD", HELD}};
    char error[16];
    if (rules_count == COUNT(rules)) give_up("too many rules");
    struct rule *rule = &rules[rules_count++];
    if (sscanf(text, "%15[^:]:%255[^:]:%ld:%ld:%15s", rule->operation, rule->part, &rule->nth, &rule->count, error) != 5)
        give_up("%s is no rule", text);
    for (size_t i = 0; i < COUNT(ERRORS); i++)
        if (!strcmp(ERRORS[i].name, error)) rule->error = ERRORS[i].error;
    if (!rule->error) give_up("%s is no error that is known here", error);
}

static void told(int signal) {
    (void)signal;
    pid_t thread = held;
    held = 0;
    if (thread) ptrace(PTRACE_CONT, thread, 0, 0);
    holding = 1;
}

int main(int count, char **arguments) {
    int at = 3;
    for (; at + 1 < count && !strcmp(arguments[at], "--fail"); at += 2) add_rule(arguments[at + 1]);
    if (count < at + 2 || strcmp(arguments[at], "--") || !realpath(arguments[2], root))
        give_up("usage: record RECORDING ROOT [--fail RULE]... -- PROGRAM ARGUMENT...");
    recording = fopen(arguments[1], "w");
    if (!recording) give_up("%s: %s", arguments[1], strerror(errno));
    struct sigaction when_told = {.sa_handler = told, .sa_flags = SA_RESTART};
    if (sigaction(SIGUSR1, &when_told, NULL)) give_up("sigaction: %s", strerror(errno));
    program = fork();
    if (program == 0) become(arguments + at + 1);
    int status, ended = 1;
    if (program < 0 || waitpid(program, &status, 0) != program) give_up("the program cannot be started");
    long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
                   PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, program, 0, options)) give_up("ptrace: %s", strerror(errno));
    ptrace(PTRACE_CONT, program, 0, 0);
    for (pid_t id; (id = waitpid(-1, &status, __WALL)) > 0;) {
        struct task *task = task_of(id);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            died(task);
            if (id == program) ended = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        int signal = WSTOPSIG(status), how = PTRACE_CONT;
        if (status >> 8 == (SIGTRAP | (PTRACE_EVENT_SECCOMP << 8))) {
            enter(task);
            how = PTRACE_SYSCALL;
            signal = 0;
        } else if (signal == (SIGTRAP | 0x80)) {
            leave(task);
            signal = 0;
            if (task->error == HELD) {
                held = id;
                continue;
            }
        } else if (status >> 16 || signal == SIGSTOP || signal == SIGTRAP) {
            signal = 0; /* a thread begins, or the program is replaced */
        }
        ptrace(how, id, 0, signal);
    }
    if (fclose(recording)) give_up("the recording: %s", strerror(errno));
    return ended;
}
