/* x87 arithmetic by the host's own unit, under the guest's control word, with exceptions unmasked if the guest has them
 * so: results, status flags, and what an unmasked exception leaves in the destination are those of a processor.
 *
 * Each function loads `control` if it differs from the host's control word, operates, and returns the status word. The
 * host's control word is restored. Unmasked exceptions are cleared with FNCLEX before any instruction that would wait
 * for them. 80-bit values are in memory; FLD and FSTP of these raise no exceptions. The register stack is empty before
 * and after, as the ABI demands at calls; where unmasked exceptions may leave something on it, FFREE empties it.
 */
#ifndef HVMX_X87_HOST_H
#define HVMX_X87_HOST_H

#include <stdint.h>

#if !defined(__x86_64__)
#error "hvmx leaves x87 arithmetic to the host's own x87 unit: it can only be built for x86-64"
#endif

typedef struct { uint8_t bytes[16]; } X87Register; /* 80 bits, as in an FXSAVE image */

enum { X87_BEFORE_RESULT = 0x07 }; /* IE, DE, ZE: if unmasked, there is no result */

#define X87_FUNCTION static __attribute__((noinline, unused)) uint16_t
#define X87_RUN(prepare, operation, after, ...)                                                                       \
    uint16_t saved, status;                                                                                           \
    __asm__ volatile("fnstcw %[saved]\n\tfnclex\n\t" prepare "\n\t"                                                   \
                     "movzwl %[control], %%edx\n\tcmpw %[saved], %%dx\n\tje 1f\n\tfldcw %[control]\n1:\n\t" operation \
                     "\n\tfnstsw %[status]\n\ttestb $0x80, %%al\n\tjz 2f\n\tfnclex\n2:\n\t" after                     \
                     "\n\tcmpw %[saved], %%dx\n\tje 3f\n\tfldcw %[saved]\n3:"                                         \
                     : [saved] "=m"(saved), [status] "=&a"(status), __VA_ARGS__ : "cc", "edx")

/* Only on ST(0). */
#define X87_UNARY(name)                                                                                               \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st)                                                        \
    {                                                                                                                 \
        X87_RUN("fldt %[st]", #name, "fstpt %[st]", [st] "+m"(*st) : [control] "m"(control));                         \
        return status;                                                                                                \
    }

X87_UNARY(ftst)
X87_UNARY(fsqrt)
X87_UNARY(frndint)

/* ST(0) with a memory operand; the result is ST(0). */
#define X87_WITH_MEMORY(name, instruction, type)                                                                      \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st, const void *operand)                                   \
    {                                                                                                                 \
        X87_RUN("fldt %[st]", instruction " %[operand]", "fstpt %[st]",                                               \
                [st] "+m"(*st) : [operand] "m"(*(const type *)operand), [control] "m"(control));                      \
        return status;                                                                                                \
    }

/* The same with a register; the result replaces `st`. */
#define X87_WITH_REGISTER(name, instruction)                                                                          \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st, const X87Register *operand)                            \
    {                                                                                                                 \
        X87_RUN("fldt %[operand]\n\tfldt %[st]", instruction, "fstpt %[st]\n\tfstp %%st(0)",                          \
                [st] "+m"(*st) : [operand] "m"(*operand), [control] "m"(control));                                    \
        return status;                                                                                                \
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
X87_WITH_REGISTER(fprem, "fprem")
X87_WITH_REGISTER(fprem1, "fprem1")
X87_WITH_REGISTER(fscale, "fscale")

/* On ST(0): one result replaces it, then the other is pushed. */
X87_FUNCTION x87_fxtract(uint16_t control, X87Register *st, X87Register *pushed)
{
    X87Register first, second;
    X87_RUN("fldz\n\tfldt %[st]", "fxtract", "fstpt %[first]\n\tfstpt %[second]\n\tffree %%st(0)",
            [first] "=m"(first), [second] "=m"(second) : [st] "m"(*st), [control] "m"(control));
    if (!(status & ~control & X87_BEFORE_RESULT)) {
        __builtin_memcpy(pushed, &first, 10);
        __builtin_memcpy(st, &second, 10);
    }
    return status;
}

/* Loads a new ST(0), whose old value remains if an unmasked exception prevents that. */
#define X87_LOAD(name, instruction, type)                                                                             \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st, const void *operand)                                   \
    {                                                                                                                 \
        X87_RUN("fldt %[st]", instruction " %[operand]", "fstpt %[st]\n\tffree %%st(0)",                              \
                [st] "+m"(*st) : [operand] "m"(*(const type *)operand), [control] "m"(control));                      \
        return status;                                                                                                \
    }

X87_LOAD(fld32, "flds", uint32_t)
X87_LOAD(fld64, "fldl", uint64_t)
X87_LOAD(fild16, "filds", uint16_t)
X87_LOAD(fild32, "fildl", uint32_t)
X87_LOAD(fild64, "fildll", uint64_t)
X87_LOAD(fbld, "fbld", X87Register)

#define X87_CONSTANT(name)                                                                                            \
    X87_FUNCTION x87_##name(uint16_t control, X87Register *st)                                                        \
    {                                                                                                                 \
        X87_RUN("", #name, "fstpt %[st]", [st] "=m"(*st) : [control] "m"(control));                                   \
        return status;                                                                                                \
    }

X87_CONSTANT(fld1)
X87_CONSTANT(fldl2t)
X87_CONSTANT(fldl2e)
X87_CONSTANT(fldpi)
X87_CONSTANT(fldlg2)
X87_CONSTANT(fldln2)
X87_CONSTANT(fldz)

/* Stores ST(0) in memory. The host pops it, unless there is an unmasked exception. */
#define X87_STORE(name, instruction, type)                                                                            \
    X87_FUNCTION x87_##name(uint16_t control, const X87Register *st, void *operand)                                   \
    {                                                                                                                 \
        X87_RUN("fldt %[st]", instruction " %[operand]", "ffree %%st(0)",                                             \
                [operand] "+m"(*(type *)operand) : [st] "m"(*st), [control] "m"(control));                            \
        return status;                                                                                                \
    }

X87_STORE(fst32, "fstps", uint32_t)
X87_STORE(fst64, "fstpl", uint64_t)
X87_STORE(fist16, "fistps", uint16_t)
X87_STORE(fist32, "fistpl", uint32_t)
X87_STORE(fist64, "fistpll", uint64_t)
X87_STORE(fbst, "fbstp", X87Register)

#endif
