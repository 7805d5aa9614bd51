/* Linux as a program for x86-64 sees it, without a library: its system calls and what they take. */
#pragma once

enum { SIGNAL_USER = 10, SIGNAL_SEGMENT = 11 };
enum { OPEN_READ = 0, OPEN_WRITE = 1, OPEN_READ_WRITE = 2, OPEN_CREATE = 0100 };
enum { PROTECTION_READ = 1, PROTECTION_WRITE = 2, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20 };

/* struct stat of the kernel's, of which nothing is looked at. */
struct file_status {
    unsigned char bytes[144];
};

/* Of struct ucontext what a handler changes: after flags, link and stack come the registers, RIP as the seventeenth. */
struct user_context {
    unsigned long before[5 + 16];
    unsigned long rip;
};

typedef void signal_handler(int number, void *information, struct user_context *context);

static inline long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    register long r9 asm("r9") = 0;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    return result;
}

static inline long read(int file, void *data, long bytes) { return call(0, file, (long)data, bytes, 0, 0); }
static inline long write(int file, const void *data, long bytes) { return call(1, file, (long)data, bytes, 0, 0); }
static inline long open(const char *path, int flags) { return call(2, (long)path, flags, 0600, 0, 0); }
static inline long close(int file) { return call(3, file, 0, 0, 0, 0); }
static inline long stat(const char *path, struct file_status *status) { return call(4, (long)path, (long)status, 0, 0, 0); }
static inline long unmap(void *start, long bytes) { return call(11, (long)start, bytes, 0, 0, 0); }
static inline long getpid(void) { return call(39, 0, 0, 0, 0, 0); }
static inline long fork(void) { return call(57, 0, 0, 0, 0, 0); }
static inline long kill(long process, int number) { return call(62, process, number, 0, 0, 0); }
static inline long wait_child(long child, int *status) { return call(61, child, (long)status, 0, 0, 0); }

/* mmap, from the start of a file. */
static inline void *map(void *at, long bytes, int protection, int flags, int file)
{
    return (void *)call(9, (long)at, bytes, protection, flags, file);
}

static inline long execute(const char *path, char *const arguments[], char *const environment[])
{
    return call(59, (long)path, (long)arguments, (long)environment, 0, 0);
}

static inline long mount(const char *source, const char *target, const char *kind)
{
    return call(165, (long)source, (long)target, (long)kind, 0, 0);
}

static _Noreturn inline void leave(int status)
{
    for (;;)
        call(231, status, 0, 0, 0, 0);
}

static _Noreturn inline void power_off(void)
{
    for (;;)
        call(169, 0xfee1dead, 672274793, 0x4321fedc, 0, 0); /* reboot(), with its two magic numbers */
}

/* rt_sigaction; the kernel returns from a handler by way of a function of the program's. */
extern const char return_from_signal[];

static inline long handle_signal(int number, signal_handler *handler)
{
    struct {
        signal_handler *handler;
        unsigned long flags;
        const char *restorer;
        unsigned long mask;
    } action = { handler, 0x04000004 /* SA_RESTORER, SA_SIGINFO */, return_from_signal, 0 };
    return call(13, number, (long)&action, 0, sizeof action.mask, 0);
}

static inline unsigned long cycles(void)
{
    unsigned low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (unsigned long)high << 32 | low;
}
