/* A child process that runs a piece of user-mode machine code on the processor itself, again and again, and times it.
 *
 * The child is forked from Python and never returns there: it makes system calls and runs the code, nothing else, so
 * whatever the code does ends the child at worst. Results go to memory that is shared with the parent (native.py).
 *
 * Each call of the code stands between two runs of a chain of dependent additions whose core cycles are known. The
 * time-stamp counter ticks at a frequency of its own; its ticks for the chain, just before and just after, tell what a
 * tick was worth in core cycles at that moment, whatever frequency the core had chosen.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__) && defined(__linux__)
#define CAN_RUN 1
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#else
#define CAN_RUN 0
#endif

/* Where things are in the child, and in whatever wants to run the same code at the same addresses: below 2 GiB for code
 * of either width, each in a large page of its own if need be, and the stack's top aligned as both ABIs want it. Their
 * first pages differ in the bits by which TLBs and AMD's first-level caches (which predict the way from a hash of bits 12
 * to 27 of the linear address) tell pages apart. */
#define CODE_ADDRESS  0x20440000
#define STACK_ADDRESS 0x28000000
#define DATA_ADDRESS  0x40000000
#define STACK_BYTES   0x10000
#define LARGEST_CODE  0x100000
#define LARGEST_DATA  0x40000000
#define ENTRY_ADDRESS 0x2f000000    /* of the way into 32-bit mode */
#define ENTRY_BYTES   0x1000

/* The chain: so many rounds of so many additions, each of which waits for the one before it: a core cycle each on every
 * processor since the Pentium. (An addition of a constant would not do: Golden Cove does some of those while renaming.) */
#define CHAIN_ROUNDS    1024
#define CHAIN_ADDITIONS 32
#define CHAIN_CYCLES    (CHAIN_ROUNDS * CHAIN_ADDITIONS)

#define EMPTY_SAMPLES 64    /* calls of nothing at all, which tell what the timing itself takes */
#define WARM_UP       2     /* calls that come before those, and are not counted */

#define TEXT(symbol) #symbol
#define NUMBER(symbol) TEXT(symbol)

#if CAN_RUN

struct sample { uint64_t before, ticks, after, result; };

struct call {
    uint64_t own_stack, stack, entry, code, data;
    struct sample sample;
};

struct shared {
    uint32_t problem, step;     /* errno of what the child could not do, and which it was */
    uint64_t done;              /* samples of the code so far */
    struct sample empty[EMPTY_SAMPLES], empty_by_entry[EMPTY_SAMPLES], samples[];
};

enum step { PLACE_CODE = 1, PLACE_ENTRY, PLACE_STACK, PLACE_DATA, PROTECT, ENTER_32_BITS };

void hvmx_native_sample(struct call *call);
extern const uint8_t hvmx_native_enter32[], hvmx_native_enter32_end[], hvmx_native_nothing[];

/* LFENCE on both sides: all before has completed, and nothing after has begun, when RDTSC reads (SDM vol. 2, RDTSC; AMD's
 * manual says the same of processors where LFENCE is dispatch-serialising, as Linux sets them up). */
__asm__(
    ".macro read_ticks into\n"
    "       lfence\n"
    "       rdtsc\n"
    "       lfence\n"
    "       shl     $32, %rdx\n"
    "       lea     (%rdx, %rax), \\into\n"
    ".endm\n"

    "       .text\n"
    "       .p2align 6\n"
    "chain:\n"                                  /* its ticks in RAX */
    "       mov     $" NUMBER(CHAIN_ROUNDS) ", %ecx\n"
    "       mov     $1, %esi\n"
    "       read_ticks %r8\n"
    "       .p2align 6\n"
    "1:     .rept " NUMBER(CHAIN_ADDITIONS) "\n"
    "       add     %rsi, %r9\n"
    "       .endr\n"
    "       dec     %ecx\n"
    "       jnz     1b\n"
    "       read_ticks %rax\n"
    "       sub     %r8, %rax\n"
    "       ret\n"

    /* The code under test may change every register but RSP. */
    "       .globl hvmx_native_sample\n"
    "       .hidden hvmx_native_sample\n"
    "       .p2align 6\n"
    "hvmx_native_sample:\n"
    "       push    %rbx\n"
    "       push    %rbp\n"
    "       push    %r12\n"
    "       push    %r13\n"
    "       push    %r14\n"
    "       push    %r15\n"
    "       mov     %rsp, 0(%rdi)\n"            /* own_stack */
    "       mov     8(%rdi), %rsp\n"            /* stack */
    "       push    %rdi\n"
    "       call    chain\n"
    "       mov     (%rsp), %rdi\n"
    "       mov     %rax, 40(%rdi)\n"           /* sample.before */
    "       mov     16(%rdi), %r11\n"           /* entry */
    "       mov     24(%rdi), %r10\n"           /* code */
    "       mov     32(%rdi), %rdi\n"           /* data */
    "       xor     %ebx, %ebx\n"
    "       xor     %ecx, %ecx\n"
    "       xor     %esi, %esi\n"
    "       xor     %ebp, %ebp\n"
    "       xor     %r8d, %r8d\n"
    "       xor     %r9d, %r9d\n"
    "       xor     %r12d, %r12d\n"
    "       xor     %r13d, %r13d\n"
    "       xor     %r14d, %r14d\n"
    "       xor     %r15d, %r15d\n"
    "       read_ticks %rax\n"
    "       push    %rax\n"
    "       xor     %eax, %eax\n"
    "       xor     %edx, %edx\n"
    "       call    *%r11\n"
    "       mov     %rax, %rcx\n"
    "       read_ticks %rax\n"
    "       pop     %rdx\n"
    "       sub     %rdx, %rax\n"
    "       mov     (%rsp), %rdi\n"
    "       mov     %rax, 48(%rdi)\n"           /* sample.ticks */
    "       mov     %rcx, 64(%rdi)\n"           /* sample.result */
    "       cld\n"
    "       call    chain\n"
    "       pop     %rdi\n"
    "       mov     %rax, 56(%rdi)\n"           /* sample.after */
    "       mov     0(%rdi), %rsp\n"
    "       pop     %r15\n"
    "       pop     %r14\n"
    "       pop     %r13\n"
    "       pop     %r12\n"
    "       pop     %rbp\n"
    "       pop     %rbx\n"
    "hvmx_native_nothing:\n"
    "       ret\n"

    /* Copied below 4 GiB, where 32-bit code can be: through Linux's code segment of 32-bit programs, 0x23, and back to
     * that of 64-bit programs, 0x33. The argument is on the stack, and in EAX. */
    "hvmx_native_enter32:\n"
    "       mov     $0x2b, %ecx\n"              /* a 64-bit program has DS and ES null */
    "       mov     %ecx, %ds\n"
    "       mov     %ecx, %es\n"
    "       sub     $40, %rsp\n"
    "       mov     %edi, (%rsp)\n"
    "       lea     2f(%rip), %rcx\n"
    "       mov     %ecx, 16(%rsp)\n"
    "       movl    $0x33, 20(%rsp)\n"
    "       mov     %r10d, %esi\n"
    "       pushq   $0x23\n"
    "       lea     1f(%rip), %rcx\n"
    "       push    %rcx\n"
    "       lretq\n"
    "       .code32\n"
    "1:     mov     %edi, %eax\n"
    "       call    *%esi\n"
    "       add     $16, %esp\n"
    "       lret\n"
    "       .code64\n"
    "2:     mov     $0, %ecx\n"
    "       mov     %ecx, %ds\n"
    "       mov     %ecx, %es\n"
    "       add     $16, %rsp\n"
    "       mov     %eax, %eax\n"
    "       ret\n"
    "hvmx_native_enter32_end:\n"
);

_Static_assert(offsetof(struct call, sample) == 40, "hvmx_native_sample() has these offsets");

static struct shared *shared;

static _Noreturn void fail(enum step step)
{
    shared->problem = errno;
    shared->step = step;
    _exit(1);
}

static void *map(uint64_t address, uint64_t bytes, enum step step)
{
    /* Populated, so that no page fault is timed. */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_FIXED_NOREPLACE;
    void *at = mmap((void *)address, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at != (void *)address) {
        if (at != MAP_FAILED)   /* a kernel older than 4.17 takes the address for a hint */
            errno = EEXIST;
        fail(step);
    }
    return at;
}

static void protect(void *address, uint64_t bytes)
{
    if (mprotect(address, bytes, PROT_READ | PROT_EXEC))
        fail(PROTECT);
}

static void map_data(uint64_t bytes, int huge, const void *data, uint64_t length)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *at = mmap((void *)DATA_ADDRESS, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at != (void *)DATA_ADDRESS)
        fail(PLACE_DATA);
    /* Advice that a kernel without such pages refuses, and then there are none. Touched page by page, after it. */
    madvise(at, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    for (uint64_t offset = 0; offset < bytes; offset += 4096)
        ((volatile uint8_t *)at)[offset] = 0;
    memcpy(at, data, length);
}

static void become_harmless(void)
{
    struct rlimit none = { 0, 0 };
    struct sigaction action = { .sa_handler = SIG_DFL };
    sigset_t nothing;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &none);
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &action, NULL);
    sigemptyset(&nothing);
    sigprocmask(SIG_SETMASK, &nothing, NULL);
}

static void stay_on_this_processor(void)
{
    cpu_set_t set;
    int here = sched_getcpu();
    if (here >= 0) {
        CPU_ZERO(&set);
        CPU_SET(here, &set);
        sched_setaffinity(0, sizeof set, &set);     /* where that is refused, a migration is noise like other noise */
    }
}

static void take(struct call *call, struct sample *samples, uint64_t count, uint64_t *done)
{
    for (uint64_t i = 0; i < count; i++) {
        hvmx_native_sample(call);
        samples[i] = call->sample;
        if (done)
            *(volatile uint64_t *)done = i + 1;
    }
}

static _Noreturn void child(const Py_buffer *code, const Py_buffer *data, uint64_t data_bytes, int width, int huge,
                            uint64_t repetitions)
{
    struct sample warm[WARM_UP];
    become_harmless();
    uint8_t *to = map(CODE_ADDRESS, (code->len + 4095) & ~4095ull, PLACE_CODE);
    memcpy(to, code->buf, code->len);
    protect(to, (code->len + 4095) & ~4095ull);
    uint8_t *entry = map(ENTRY_ADDRESS, ENTRY_BYTES, PLACE_ENTRY);
    uint64_t entry_bytes = hvmx_native_enter32_end - hvmx_native_enter32;
    memcpy(entry, hvmx_native_enter32, entry_bytes);
    memcpy(entry + entry_bytes, hvmx_native_nothing, 1);
    protect(entry, ENTRY_BYTES);
    map(STACK_ADDRESS, STACK_BYTES, PLACE_STACK);
    if (data_bytes)
        map_data(data_bytes, huge, data->buf, data->len);
    stay_on_this_processor();

    uint64_t nothing = ENTRY_ADDRESS + entry_bytes;
    struct call call = {
        .stack = STACK_ADDRESS + STACK_BYTES, .entry = nothing, .code = nothing, .data = DATA_ADDRESS,
    };
    take(&call, warm, WARM_UP, NULL);
    take(&call, shared->empty, EMPTY_SAMPLES, NULL);
    if (width == 32) {
        call.entry = ENTRY_ADDRESS;
        shared->problem = ENOSYS;       /* unless it comes back: Linux may be without 32-bit programs */
        shared->step = ENTER_32_BITS;
    }
    take(&call, warm, WARM_UP, NULL);
    shared->step = 0;
    take(&call, shared->empty_by_entry, EMPTY_SAMPLES, NULL);
    call.code = CODE_ADDRESS;
    if (width == 64)
        call.entry = call.code;
    take(&call, shared->samples, repetitions, &shared->done);
    _exit(0);
}

static PyObject *start(PyObject *module, PyObject *arguments)
{
    Py_buffer code, data, results;
    unsigned long long data_bytes, repetitions;
    int width, huge;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*KipKw*", &code, &data, &data_bytes, &width, &huge, &repetitions, &results))
        return NULL;
    pid_t pid = -1;
    uint64_t room = results.len < (Py_ssize_t)sizeof *shared ? 0 : (results.len - sizeof *shared) / sizeof(struct sample);
    if (!code.len || code.len > LARGEST_CODE || data_bytes > LARGEST_DATA || (uint64_t)data.len > data_bytes ||
        (width != 32 && width != 64) || !repetitions || repetitions > room) {
        PyErr_SetString(PyExc_ValueError, "code, data, width or repetitions are not within the limits");
    } else {
        shared = results.buf;
        pid = fork();
        if (pid == 0)
            child(&code, &data, data_bytes, width, huge, repetitions);
        if (pid < 0)
            PyErr_SetFromErrno(PyExc_OSError);
    }
    PyBuffer_Release(&code);
    PyBuffer_Release(&data);
    PyBuffer_Release(&results);
    return pid < 0 ? NULL : PyLong_FromLong(pid);
}

#endif

static PyMethodDef METHODS[] = {
#if CAN_RUN
    { "start", start, METH_VARARGS, NULL },
#endif
    { NULL, NULL, 0, NULL },
};

static int add_numbers(PyObject *module)
{
    static const struct { const char *name; long value; } NUMBERS[] = {
        { "CAN_RUN", CAN_RUN }, { "CODE_ADDRESS", CODE_ADDRESS }, { "STACK_ADDRESS", STACK_ADDRESS },
        { "STACK_BYTES", STACK_BYTES }, { "DATA_ADDRESS", DATA_ADDRESS }, { "LARGEST_CODE", LARGEST_CODE },
        { "LARGEST_DATA", LARGEST_DATA }, { "CHAIN_CYCLES", CHAIN_CYCLES }, { "EMPTY_SAMPLES", EMPTY_SAMPLES },
    };
    for (unsigned i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++)
        if (PyModule_AddIntConstant(module, NUMBERS[i].name, NUMBERS[i].value))
            return -1;
    return 0;
}

static PyModuleDef_Slot SLOTS[] = { { Py_mod_exec, add_numbers }, { 0, NULL } };

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, .m_name = "hvmx.cost.native_child", .m_methods = METHODS, .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit_native_child(void)
{
    return PyModuleDef_Init(&MODULE);
}
