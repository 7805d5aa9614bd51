/* An interpreter of a small language of bytes, which runs a loop of eleven of them: a jump through a table for each. */
#include "program.h"

enum { PUSH, ADD, MULTIPLY, XOR, DUPLICATE, SWAP, LOAD, STORE, DECREMENT, JUMP_UNLESS_ZERO, END };

static const uint8_t PROGRAM[] = {
    PUSH, 1, STORE, 0, PUSH, 200, STORE, 1,
    LOAD, 0, DUPLICATE, PUSH, 3, MULTIPLY, ADD, LOAD, 1, XOR, STORE, 0, DECREMENT, 1, JUMP_UNLESS_ZERO, 1, 8,
    LOAD, 0, END,
};

static NOINLINE word interpret(const uint8_t *at, word *stack, word *variables)
{
    const uint8_t *start = at;
    for (;;) {
        switch (*at++) {
        case PUSH: *stack++ = *at++; break;
        case ADD: stack--; stack[-1] += stack[0]; break;
        case MULTIPLY: stack--; stack[-1] *= stack[0]; break;
        case XOR: stack--; stack[-1] ^= stack[0]; break;
        case DUPLICATE: stack[0] = stack[-1]; stack++; break;
        case SWAP: { word top = stack[-1]; stack[-1] = stack[-2]; stack[-2] = top; break; }
        case LOAD: *stack++ = variables[*at++]; break;
        case STORE: variables[*at++] = *--stack; break;
        case DECREMENT: variables[*at++]--; break;
        case JUMP_UNLESS_ZERO: at = variables[at[0]] ? start + at[1] : at + 2; break;
        default: return stack[-1];
        }
    }
}

word run(void *data)
{
    word *memory = data, sum = 0;
    for (int round = 0; round < 6; round++)
        sum = sum * 3 + interpret(PROGRAM, memory + 16, memory);
    return sum;
}
