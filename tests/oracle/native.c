/* Runs single user-mode instructions on the processor itself, each from a given state.
 *
 * native.py starts this program with a file descriptor of shared memory, laid out as struct shared
 * and the arrays that it points at. For each run it fills the cases and writes a count to standard
 * input; this program executes each case, stores the results and writes the count back. It is a
 * process of its own because a case may do anything that user code may.
 *
 * Every step happens in a signal handler: a signal (the trap after the instruction, or its fault)
 * gives the state after one case, the handler stores it, puts the next case's state into the signal
 * frame, and returns into that. Control comes back by one of two ways, chosen per case:
 *
 * BY_BREAKPOINT  everything around the instruction is INT3. For all that goes on behind itself, and for
 *                branches to the code pages.
 * BY_TRAP        EFLAGS.TF: a #DB after one instruction, wherever that went. For branches to any
 *                address, and for INT3 itself. Not for what TF would change or miss: PUSHF (stores TF),
 *                loads of SS (hold the trap back over the next instruction), REP (traps after each
 *                iteration), INT1 (is a #DB itself). Several times slower where a hypervisor intercepts #DB.
 *
 * The kernel sees no system call of an instruction under test: seccomp turns what comes from the
 * lowest 4 GiB into SIGSYS, reported as vector SYSTEM_CALL.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <ucontext.h>
#include <unistd.h>

enum { BY_BREAKPOINT = 0, BY_TRAP = 1 };
enum { NO_VECTOR = 0xffff, SYSTEM_CALL = 0x100 };
enum { VECTOR_DB = 1, VECTOR_BP = 3, VECTOR_PF = 14 };
enum { LDT_LENGTH = 16, PATCHES = 2, PATCH_BYTES = 48, FXSAVE_BYTES = 512, INT3 = 0xcc };

#define FLAG_TF 0x100ull
#define FLAGS_OF_FRAME 0x50dd5ull   /* what sigreturn takes from the frame: AC RF OF DF TF SF ZF AF PF CF */
#define FLAGS_STICKY 0x204000ull    /* NT, ID: user code may set them, but sigreturn keeps the handler's */
#define FLAGS_NEUTRAL 0x202ull
#define HWCAP2_FSGSBASE 2

struct segments { uint16_t es, cs, ss, ds, fs, gs; };

struct patch { uint64_t address; uint32_t length; uint8_t bytes[PATCH_BYTES]; uint32_t unused; };

struct test_case {
    uint64_t gpr[16], rip, rflags, fs_base, gs_base;
    uint64_t code_address;              /* linear; rip is the offset in CS */
    struct segments segments;
    uint8_t return_by, with_fxsave, code_length, code[15], unused[2];
    struct patch patches[PATCHES];
};

struct result {
    uint64_t gpr[16], rip, rflags, fs_base, gs_base;
    uint64_t cr2, error_code;
    struct segments segments;
    uint16_t vector, unused;
    uint32_t changed_offset, changed_length, heap_offset, unused2;
};

struct shared {
    uint32_t case_bytes, result_bytes, ldt_count, current;
    uint64_t cases, results, fxsave_in, fxsave_out, heap;   /* offsets from the start */
    uint64_t code_address, code_bytes, data_address, data_bytes, constant_address, constant_bytes;
    uint64_t data, constant, code;                                              /* offsets of the contents */
    struct user_desc ldt[LDT_LENGTH];
};

static struct shared *shared;
static const struct test_case *cases;
static struct result *results;
static uint8_t *fxsave_in, *fxsave_out, *heap, *code, *data, *expected;
static uint32_t count, heap_used;
static int running;
static uint64_t own_fs_base;
static gregset_t home;
static uint8_t home_fxsave[FXSAVE_BYTES];

static const uint8_t GREG_OF_GPR[16] = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static void set_rflags(uint64_t rflags)
{
    __asm__ volatile("push %0\n\tpopfq" : : "r"(rflags) : "memory", "cc");
}

static void apply_patches(const struct test_case *test)
{
    for (int i = 0; i < PATCHES; i++) {
        const struct patch *patch = &test->patches[i];
        uint64_t offset = patch->address - shared->data_address;
        memcpy(data + offset, patch->bytes, patch->length);
        memcpy(expected + offset, patch->bytes, patch->length);
    }
}

static void revert_patches(const struct test_case *test)
{
    const uint8_t *pristine = (uint8_t *)shared + shared->data;
    for (int i = 0; i < PATCHES; i++) {
        const struct patch *patch = &test->patches[i];
        uint64_t offset = patch->address - shared->data_address;
        memcpy(data + offset, pristine + offset, patch->length);
        memcpy(expected + offset, pristine + offset, patch->length);
    }
}

/* The span from the first to the last changed byte goes to the heap, and the data page is restored. */
static void store_memory(struct result *result)
{
    result->changed_length = 0;
    if (!memcmp(data, expected, shared->data_bytes))
        return;
    uint64_t first = 0, last = shared->data_bytes - 1;
    while (data[first] == expected[first])
        first++;
    while (data[last] == expected[last])
        last--;
    uint32_t length = last - first + 1;
    result->changed_offset = first;
    result->changed_length = length;
    result->heap_offset = heap_used;
    memcpy(heap + heap_used, data + first, length);
    heap_used += length;
    memcpy(data + first, expected + first, length);
}

static void store(uint32_t index, const gregset_t greg, const struct segments *segments, uint64_t fs_base,
                  uint64_t gs_base, int signal, const void *fpstate)
{
    const struct test_case *test = &cases[index];
    struct result *result = &results[index];
    for (int i = 0; i < 16; i++)
        result->gpr[i] = greg[GREG_OF_GPR[i]];
    result->rip = greg[REG_RIP];
    result->rflags = greg[REG_EFL];
    result->segments = *segments;
    result->fs_base = fs_base;
    result->gs_base = gs_base;
    result->error_code = greg[REG_ERR];
    result->vector = signal == SIGSYS ? SYSTEM_CALL : greg[REG_TRAPNO];
    result->cr2 = result->vector == VECTOR_PF ? greg[REG_CR2] : 0;
    if (test->return_by == BY_TRAP) {
        result->rflags &= ~FLAG_TF;
        if (result->vector == VECTOR_DB)
            result->vector = NO_VECTOR;
    } else if (result->vector == VECTOR_BP) {
        result->vector = NO_VECTOR;
        result->rip -= 1;
    }
    store_memory(result);
    if (test->with_fxsave)
        memcpy(fxsave_out + (uint64_t)index * FXSAVE_BYTES, fpstate, FXSAVE_BYTES);
    memset(code + (test->code_address - shared->code_address), INT3, test->code_length);
    revert_patches(test);
}

static void load(uint32_t index, ucontext_t *context)
{
    const struct test_case *test = &cases[index];
    greg_t *greg = context->uc_mcontext.gregs;
    apply_patches(test);
    memcpy(code + (test->code_address - shared->code_address), test->code, test->code_length);
    for (int i = 0; i < 16; i++)
        greg[GREG_OF_GPR[i]] = test->gpr[i];
    greg[REG_RIP] = test->rip;
    greg[REG_EFL] = (test->rflags & FLAGS_OF_FRAME) | (test->return_by == BY_TRAP ? FLAG_TF : 0);
    greg[REG_CSGSFS] = test->segments.cs | (uint64_t)test->segments.ss << 48;
    greg[REG_ERR] = greg[REG_CR2] = 0;
    if (test->with_fxsave) {
        uint8_t *fpstate = (uint8_t *)context->uc_mcontext.fpregs;
        /* The last 48 bytes are the kernel's own, and the XSAVE header's first word says which parts are loaded. */
        memcpy(fpstate, fxsave_in + (uint64_t)index * FXSAVE_BYTES, FXSAVE_BYTES - 48);
        *(uint64_t *)(fpstate + FXSAVE_BYTES) |= 3;
    }
    __asm__ volatile("mov %0, %%ds\n\tmov %1, %%es\n\tmov %2, %%fs\n\tmov %3, %%gs" : :
                     "r"((uint32_t)test->segments.ds), "r"((uint32_t)test->segments.es),
                     "r"((uint32_t)test->segments.fs), "r"((uint32_t)test->segments.gs) : "memory");
    if (!test->segments.fs)
        __asm__ volatile("wrfsbase %0" : : "r"(test->fs_base));
    if (!test->segments.gs)
        __asm__ volatile("wrgsbase %0" : : "r"(test->gs_base));
    set_rflags(FLAGS_NEUTRAL | (test->rflags & FLAGS_STICKY));
}

static void on_signal(int signal, siginfo_t *info, void *frame)
{
    struct segments segments;
    uint64_t fs_base, gs_base;
    set_rflags(FLAGS_NEUTRAL);
    __asm__ volatile("mov %%es, %0\n\tmov %%ds, %1\n\tmov %%fs, %2\n\tmov %%gs, %3\n\trdfsbase %4\n\trdgsbase %5"
                     : "=m"(segments.es), "=m"(segments.ds), "=m"(segments.fs), "=m"(segments.gs),
                       "=r"(fs_base), "=r"(gs_base));
    if (segments.fs)
        __asm__ volatile("mov %0, %%fs" : : "r"(0) : "memory");
    if (running)
        __asm__ volatile("wrfsbase %0" : : "r"(own_fs_base) : "memory");
    ucontext_t *context = frame;
    greg_t *greg = context->uc_mcontext.gregs;
    (void)info;
    segments.cs = greg[REG_CSGSFS];
    segments.ss = (uint64_t)greg[REG_CSGSFS] >> 48;

    if (!running) {                                     /* run() called: its INT3 is where to go back to */
        running = 1;
        shared->current = 0;
        heap_used = 0;
        own_fs_base = fs_base;
        memcpy(home, greg, sizeof home);
        memcpy(home_fxsave, context->uc_mcontext.fpregs, FXSAVE_BYTES - 48);
    } else {
        store(shared->current, greg, &segments, fs_base, gs_base, signal, context->uc_mcontext.fpregs);
        shared->current += 1;
    }
    if (shared->current < count) {
        load(shared->current, context);
    } else {
        running = 0;
        memcpy(greg, home, sizeof home);
        memcpy(context->uc_mcontext.fpregs, home_fxsave, FXSAVE_BYTES - 48);
        *(uint64_t *)((uint8_t *)context->uc_mcontext.fpregs + FXSAVE_BYTES) |= 3;
    }
}

static __attribute__((noinline)) void run(void)
{
    __asm__ volatile("int3" : : : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                     "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void *map(uint64_t address, uint64_t bytes, int protection, int file, uint64_t offset)
{
    /* Populated: a first touch would be a page fault of a page that is not there, not of its rights. */
    int flags = MAP_SHARED | MAP_POPULATE | (address ? MAP_FIXED_NOREPLACE : 0);
    void *at = mmap((void *)address, bytes, protection, flags, file, offset);
    if (at == MAP_FAILED || (address && at != (void *)address))
        fail("mmap");
    return at;
}

static void refuse_system_calls_from_low_addresses(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        fail("seccomp");
}

static void catch_signals(void)
{
    static const int SIGNALS[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS };
    uint64_t bytes = 65536 + getauxval(AT_MINSIGSTKSZ);
    stack_t stack = { .ss_sp = malloc(bytes), .ss_size = bytes };
    if (!stack.ss_sp || sigaltstack(&stack, NULL))
        fail("sigaltstack");
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++)
        if (sigaction(SIGNALS[i], &action, NULL))
            fail("sigaction");
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int file = atoi(argv[1]);
    shared = map(0, strtoull(argv[2], NULL, 0), PROT_READ | PROT_WRITE, file, 0);
    if (shared->case_bytes != sizeof(struct test_case) || shared->result_bytes != sizeof(struct result)) {
        fprintf(stderr, "case of %zu and result of %zu bytes, native.py has %u and %u\n",
                sizeof(struct test_case), sizeof(struct result), shared->case_bytes, shared->result_bytes);
        return 1;
    }
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) {
        fprintf(stderr, "the kernel does not let user code write FS.base\n");
        return 1;
    }
    uint8_t *base = (uint8_t *)shared;
    cases = (struct test_case *)(base + shared->cases);
    results = (struct result *)(base + shared->results);
    fxsave_in = base + shared->fxsave_in;
    fxsave_out = base + shared->fxsave_out;
    heap = base + shared->heap;
    code = base + shared->code;
    map(shared->code_address, shared->code_bytes, PROT_READ | PROT_EXEC, file, shared->code);
    map(shared->constant_address, shared->constant_bytes, PROT_READ, file, shared->constant);
    data = mmap((void *)shared->data_address, shared->data_bytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    expected = malloc(shared->data_bytes);
    if (data == MAP_FAILED || !expected)
        fail("data");
    memcpy(data, base + shared->data, shared->data_bytes);
    memcpy(expected, base + shared->data, shared->data_bytes);
    memset(code, INT3, shared->code_bytes);
    for (uint32_t i = 0; i < shared->ldt_count; i++)
        if (syscall(SYS_modify_ldt, 0x11, &shared->ldt[i], sizeof shared->ldt[i]))
            fail("modify_ldt");
    catch_signals();
    refuse_system_calls_from_low_addresses();
    while (read(0, &count, sizeof count) == sizeof count) {
        run();
        if (write(1, &count, sizeof count) != sizeof count)
            return 1;
    }
    return 0;
}
