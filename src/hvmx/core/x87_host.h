/* x87 arithmetic by the host's own unit, under the guest's own control word, exceptions unmasked or not: so results,
 * status flags, and what an unmasked exception leaves in the destination are those of a processor.
 *
 * Each function loads `control`, operates, and returns the status word; the host's control word is put back and no
 * exception is left pending. Nothing here waits with an exception pending: FNCLEX comes first. 80-bit values are in
 * memory, and neither FLD nor FSTP of those can raise anything. The register stack is empty before and after, as the
 * ABI has it at every call.
 */
#ifndef HVMX_X87_HOST_H
#define HVMX_X87_HOST_H

#include <stdint.h>

#if !defined(__x86_64__)
#error "hvmx leaves x87 arithmetic to the host's own x87 unit: it can only be built for x86-64"
#endif

typedef struct { uint8_t bytes[16]; } X87Register; /* 80 bits, as in an FXSAVE image */

#define X87_FUNCTION static __attribute__((noinline, unused)) uint16_t
#define X87_RUN(prepare, operation, after, ...)                                                                       \
    uint16_t saved, status;                                                                                           \
    __asm__ volatile("fnstcw %[saved]\n\tfnclex\n\t" prepare "\n\tfldcw %[control]\n\t" operation                     \
                     "\n\tfnstsw %[status]\n\tfnclex\n\t" after "\n\tfldcw %[saved]"                                  \
                     : [saved] "=m"(saved), [status] "=a"(status), __VA_ARGS__);                                      \
    return status

/* ST(0) with a memory operand; the result is ST(0). */
#define X87_WITH_MEMORY(name, instruction, type)                                                                      \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st, const void *operand)                                   \
    {                                                                                                                 \
        X87_RUN("fldt %[st]", instruction " %[operand]", "fstpt %[st]",                                               \
                [st] "+m"(*st) : [operand] "m"(*(const type *)operand), [control] "m"(control));                      \
    }

/* The same with a register; the result replaces `st`. */
#define X87_WITH_REGISTER(name, instruction)                                                                          \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st, const X87Register *operand)                            \
    {                                                                                                                 \
        X87_RUN("fldt %[operand]\n\tfldt %[st]", instruction, "fstpt %[st]\n\tfstp %%st(0)",                          \
                [st] "+m"(*st) : [operand] "m"(*operand), [control] "m"(control));                                    \
    }

#define X87_ARITHMETIC(name)                                                                                          \
    X87_WITH_REGISTER(f##name, "f" #name " %%st(1)")                                                                  \
    X87_WITH_MEMORY(f##name##32, "f" #name "s", uint32_t)                                                             \
    X87_WITH_MEMORY(f##name##64, "f" #name "l", uint64_t)                                                             \
    X87_WITH_MEMORY(fi##name##16, "fi" #name "s", uint16_t)                                                           \
    X87_WITH_MEMORY(fi##name##32, "fi" #name "l", uint32_t)

X87_ARITHMETIC(add)
X87_ARITHMETIC(mul)
X87_ARITHMETIC(com)
X87_ARITHMETIC(sub)
X87_ARITHMETIC(subr)
X87_ARITHMETIC(div)
X87_ARITHMETIC(divr)
X87_WITH_REGISTER(fucom, "fucom %%st(1)")

/* ST(0) alone. */
#define X87_UNARY(name)                                                                                               \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st)                                                        \
    {                                                                                                                 \
        X87_RUN("fldt %[st]", #name, "fstpt %[st]", [st] "+m"(*st) : [control] "m"(control));                         \
    }

X87_UNARY(ftst)

/* A new ST(0); what an unmasked exception keeps from being loaded reads as 0. FFREE empties the register of that 0. */
#define X87_LOAD(name, instruction, type)                                                                             \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st, const void *operand)                                   \
    {                                                                                                                 \
        X87_RUN("fldz", instruction " %[operand]", "fstpt %[st]\n\tffree %%st(0)",                                    \
                [st] "=m"(*st) : [operand] "m"(*(const type *)operand), [control] "m"(control));                      \
    }

X87_LOAD(fld32, "flds", uint32_t)
X87_LOAD(fld64, "fldl", uint64_t)
X87_LOAD(fild16, "filds", uint16_t)
X87_LOAD(fild32, "fildl", uint32_t)
X87_LOAD(fild64, "fildll", uint64_t)

#define X87_CONSTANT(name)                                                                                            \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st)                                                        \
    {                                                                                                                 \
        X87_RUN("", #name, "fstpt %[st]", [st] "=m"(*st) : [control] "m"(control));                                   \
    }

X87_CONSTANT(fld1)
X87_CONSTANT(fldl2t)
X87_CONSTANT(fldl2e)
X87_CONSTANT(fldpi)
X87_CONSTANT(fldlg2)
X87_CONSTANT(fldln2)
X87_CONSTANT(fldz)

/* ST(0) to memory, popped or, after an unmasked exception, not: FFREE does for both. */
#define X87_STORE(name, instruction, type)                                                                            \
    X87_FUNCTION x87_##name(uint16_t control, const X87Register *st, void *operand)                                   \
    {                                                                                                                 \
        X87_RUN("fldt %[st]", instruction " %[operand]", "ffree %%st(0)",                                             \
                [operand] "+m"(*(type *)operand) : [st] "m"(*st), [control] "m"(control));                            \
    }

X87_STORE(fst32, "fstps", uint32_t)
X87_STORE(fst64, "fstpl", uint64_t)
X87_STORE(fist16, "fistps", uint16_t)
X87_STORE(fist32, "fistpl", uint32_t)
X87_STORE(fist64, "fistpll", uint64_t)

#endif
