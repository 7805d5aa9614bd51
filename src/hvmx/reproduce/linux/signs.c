/* /init of the guest of `hvmx reproduce linux-signs`: times what a kernel does for its programs, in guest cycles.
 *
 * Each line on the console is `sign NAME OPERATIONS CYCLES...`: a row of equal rounds, of so many operations each, by the
 * time-stamp counter. Before them comes `features ...`, what the kernel says of the processor; at the end `signs done`.
 * The arguments `only NAME...` at the end of the kernel's command line, after `--`, name the operations to time.
 *
 * The same file is the program that exec and sh start, by argv[0]: `hello`, which does nothing, and `sh -c PROGRAM`, which
 * runs a program in a process of its own and waits for it, as a shell does.
 */
#include "system.h"

enum { ROUNDS = 7, PAGE = 4096, FILE_PAGES = 256 };

static char *const no_environment[] = { 0 };
static char file_content[PAGE];

/* --- the console --- */

static void print(const char *text)
{
    long length = 0;
    while (text[length])
        length++;
    write(1, text, length);
}

static void print_number(unsigned long number)
{
    char digits[24], *first = digits + sizeof digits - 1;
    *first = 0;
    do
        *--first = '0' + number % 10;
    while (number /= 10);
    print(first);
}

static int same(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

/* What a figure would be worthless without. */
static long need(long result, const char *what)
{
    if (result < 0) {
        print("signs failed: ");
        print(what);
        print(", error ");
        print_number(-result);
        print("\n");
        power_off();
    }
    return result;
}

/* --- operations: each does `count` of one kind, and says how many guest cycles they took --- */

static unsigned long time_getpid(int count)
{
    unsigned long start = cycles();
    while (count--)
        getpid();
    return cycles() - start;
}

static int null_file, zero_file;

/* An operation is a read or a write of one byte. */
static unsigned long time_null_io(int count)
{
    char byte = 0;
    unsigned long start = cycles();
    for (; count > 0; count -= 2) {
        read(zero_file, &byte, 1);
        write(null_file, &byte, 1);
    }
    return cycles() - start;
}

static unsigned long time_stat(int count)
{
    struct file_status status;
    unsigned long start = cycles();
    while (count--)
        stat("/init", &status);
    return cycles() - start;
}

static void ignore(int number, void *information, struct user_context *context)
{
    (void)number, (void)information, (void)context;
}

static unsigned long time_signal_install(int count)
{
    unsigned long start = cycles();
    while (count--)
        handle_signal(SIGNAL_USER, ignore);
    return cycles() - start;
}

/* A signal that the process sends to itself. */
static unsigned long time_signal_handling(int count)
{
    long self = getpid();
    handle_signal(SIGNAL_USER, ignore);
    unsigned long start = cycles();
    while (count--)
        kill(self, SIGNAL_USER);
    return cycles() - start;
}

static volatile int faults_left;
extern const char after_store[];

/* The store is tried again and again; the last time it is skipped. */
static void protection_fault(int number, void *information, struct user_context *context)
{
    (void)number, (void)information;
    if (--faults_left == 0)
        context->rip = (unsigned long)after_store;
}

static unsigned long time_protection_fault(int count)
{
    char *page = map(0, PAGE, PROTECTION_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    need((long)page, "mmap");
    (void)*(volatile char *)page; /* present, but not writable */
    handle_signal(SIGNAL_SEGMENT, protection_fault);
    faults_left = count;
    unsigned long start = cycles();
    asm volatile("movb $1, (%0)\n"
                 ".globl after_store\n"
                 "after_store:" : : "r"(page) : "memory");
    unsigned long taken = cycles() - start;
    unmap(page, PAGE);
    return taken;
}

static int mapped_file;

/* Pages of a file that are in memory, but not in the page table. */
static unsigned long time_page_fault(int count)
{
    unsigned long taken = 0;
    while (count > 0) {
        char *pages = map(0, FILE_PAGES * PAGE, PROTECTION_READ, MAP_SHARED, mapped_file);
        need((long)pages, "mmap of a file");
        unsigned long start = cycles();
        for (int page = 0; page < FILE_PAGES; page++)
            (void)*(volatile char *)(pages + page * PAGE);
        taken += cycles() - start;
        unmap(pages, FILE_PAGES * PAGE);
        count -= FILE_PAGES;
    }
    return taken;
}

/* A file is mapped, all of its pages are touched, and it is unmapped. */
static unsigned long time_mmap(int count)
{
    unsigned long start = cycles();
    while (count--) {
        char *pages = map(0, FILE_PAGES * PAGE, PROTECTION_READ | PROTECTION_WRITE, MAP_SHARED, mapped_file);
        need((long)pages, "mmap of a file");
        for (int page = 0; page < FILE_PAGES; page++)
            *(volatile char *)(pages + page * PAGE) = 1;
        unmap(pages, FILE_PAGES * PAGE);
    }
    return cycles() - start;
}

static void wait_for(long child)
{
    int status = 0;
    need(wait_child(child, &status), "wait");
    if (status)
        need(-1, "a child");
}

static unsigned long time_fork(int count)
{
    unsigned long start = cycles();
    while (count--) {
        long child = need(fork(), "fork");
        if (child == 0)
            leave(0);
        wait_for(child);
    }
    return cycles() - start;
}

static void start_program(char *const arguments[])
{
    long child = need(fork(), "fork");
    if (child == 0) {
        execute("/init", arguments, no_environment);
        leave(1);
    }
    wait_for(child);
}

/* A process is made, executes a program that does nothing, and ends. */
static unsigned long time_exec(int count)
{
    char *const arguments[] = { "hello", 0 };
    unsigned long start = cycles();
    while (count--)
        start_program(arguments);
    return cycles() - start;
}

/* The same by way of a shell. */
static unsigned long time_sh(int count)
{
    char *const arguments[] = { "sh", "-c", "hello", 0 };
    unsigned long start = cycles();
    while (count--)
        start_program(arguments);
    return cycles() - start;
}

static const struct {
    const char *name;
    int operations;
    unsigned long (*time)(int count);
} signs[] = {
    { "getpid", 500, time_getpid },
    { "null-io", 500, time_null_io },
    { "stat", 200, time_stat },
    { "signal-install", 500, time_signal_install },
    { "signal-handling", 200, time_signal_handling },
    { "protection-fault", 200, time_protection_fault },
    { "page-fault", FILE_PAGES, time_page_fault },
    { "fork", 4, time_fork },
    { "exec", 4, time_exec },
    { "sh", 2, time_sh },
    { "mmap", 2, time_mmap },
};

/* --- the program --- */

/* The features in /proc/cpuinfo: whether the kernel uses PCIDs and isolates page tables is among them. */
static void print_features(void)
{
    static char text[4 * PAGE];
    need(mount("proc", "/proc", "proc"), "mount of /proc");
    int file = need(open("/proc/cpuinfo", OPEN_READ), "open of /proc/cpuinfo");
    long length = need(read(file, text, sizeof text - 1), "read of /proc/cpuinfo");
    close(file);
    for (char *line = text, *end; line < text + length; line = end + 1) {
        for (end = line; end < text + length && *end != '\n';)
            end++;
        *end = 0;
        char *colon = line;
        while (*colon && *colon != ':')
            colon++;
        if (line[0] == 'f' && line[1] == 'l') {
            print("features");
            print(colon + (*colon == ':'));
            print("\n");
            return;
        }
    }
}

static void prepare(void)
{
    zero_file = need(open("/dev/zero", OPEN_READ), "open of /dev/zero");
    null_file = need(open("/dev/null", OPEN_WRITE), "open of /dev/null");
    mapped_file = need(open("/file", OPEN_READ_WRITE | OPEN_CREATE), "open of /file");
    for (int page = 0; page < FILE_PAGES; page++)
        need(write(mapped_file, file_content, PAGE), "write of /file");
}

/* Before `only` stand options that the kernel did not know. */
static int is_asked_for(const char *name, int count, char **arguments)
{
    int n = 0;
    while (n < count && !same(arguments[n], "only"))
        n++;
    if (n == count)
        return 1;
    while (++n < count)
        if (same(arguments[n], name))
            return 1;
    return 0;
}

static _Noreturn void time_signs(int count, char **arguments)
{
    prepare();
    for (unsigned n = 0; n < sizeof signs / sizeof *signs; n++) {
        unsigned long taken[ROUNDS];
        if (!is_asked_for(signs[n].name, count, arguments))
            continue;
        /* Only then is it printed: the console is a device, and slow. */
        for (int round = 0; round < ROUNDS; round++)
            taken[round] = signs[n].time(signs[n].operations);
        print("sign ");
        print(signs[n].name);
        print(" ");
        print_number(signs[n].operations);
        for (int round = 0; round < ROUNDS; round++) {
            print(" ");
            print_number(taken[round]);
        }
        print("\n");
    }
    print("signs done\n");
    leave(0);
}

/* The kernel reports faults of the first process on the console: another one takes the times. */
static _Noreturn void init(int count, char **arguments)
{
    print_features();
    long child = need(fork(), "fork");
    if (child == 0)
        time_signs(count, arguments);
    wait_for(child);
    power_off();
}

static void shell(char *program)
{
    char *const arguments[] = { program, 0 };
    start_program(arguments);
}

_Noreturn void program(long *stack)
{
    int count = stack[0];
    char **arguments = (char **)(stack + 1);
    if (getpid() == 1)
        init(count - 1, arguments + 1);
    if (count == 3 && same(arguments[0], "sh"))
        shell(arguments[2]);
    leave(0);
}
