/* From translated code to the branch predictor and back. */
#ifndef HVMX_ASK_PREDICTOR_H
#define HVMX_ASK_PREDICTOR_H

#include "state.h"

#if HOST_IS_TRANSLATED_FOR
/* Called with the Cpu in RDI, the address of the branch in RDX, and in RCX whether it is taken, or its target. Keeps all
 * registers but RAX, RCX and RDX, of which translated code makes its own use. ZF is set if the branch was not predicted. */
void hvmx_ask_direction(void) __attribute__((visibility("hidden")));
void hvmx_ask_target(void) __attribute__((visibility("hidden")));
#define HVMX_ASK(name, function)                                                \
    __asm__(                                                                    \
        ".text\n"                                                               \
        ".globl " name "\n"                                                     \
        ".hidden " name "\n"                                                    \
        ".type " name ", @function\n"                                           \
        name ":\n"                                                              \
        "push %rsi\npush %rdi\npush %r8\npush %r9\npush %r10\npush %r11\n"      \
        "mov %rdx, %rsi\n"                                                      \
        "mov %rcx, %rdx\n"                                                      \
        "call *" function "(%rdi)\n"                                            \
        "pop %r11\npop %r10\npop %r9\npop %r8\npop %rdi\npop %rsi\n"            \
        "test %eax, %eax\n"                                                     \
        "ret\n"                                                                 \
        ".size " name ", . - " name "\n")
#define HVMX_TEXT(number) #number
#define HVMX_TEXT_OF(number) HVMX_TEXT(number)
/* Where in Cpu the functions are: the assembler needs the numbers. */
#define AT_PREDICTS 136
#define AT_PREDICTS_TARGET 144
_Static_assert(offsetof(Cpu, predicts) == AT_PREDICTS && offsetof(Cpu, predicts_target) == AT_PREDICTS_TARGET,
               "the assembler is told other offsets");
HVMX_ASK("hvmx_ask_direction", HVMX_TEXT_OF(AT_PREDICTS));
HVMX_ASK("hvmx_ask_target", HVMX_TEXT_OF(AT_PREDICTS_TARGET));
#else
static inline void hvmx_ask_direction(void) { }
static inline void hvmx_ask_target(void) { }
#endif

#endif
