/* SSE4.2's comparisons of strings (SDM vol. 2, 4.1). The control byte is the instruction's immediate:
 *
 *   bit 0      elements are words, not bytes
 *   bit 1      signed
 *   bits 3:2   which comparison: any of a set, any of some ranges, each with its counterpart, a substring's place
 *   bits 5:4   the result is complemented: no, all, no, where the second string has elements
 *   bit 6      the index is that of the last, not the first; the mask is of elements, not of bits
 */
#ifndef HVMX_SSE_STRINGS_H
#define HVMX_SSE_STRINGS_H

#include <stdint.h>
#include <string.h>

enum { STRING_WORDS = 1, STRING_SIGNED = 2, STRING_LAST = 0x40, STRING_ELEMENT_MASK = 0x40 };
enum { COMPARE_SET, COMPARE_RANGES, COMPARE_EACH, COMPARE_SUBSTRING };
enum { RESULT_COMPLEMENTED = 1, RESULT_COMPLEMENTED_WITHIN = 3 }; /* else it is not complemented */
enum { STRING_CF = 1 << 0, STRING_ZF = 1 << 6, STRING_SF = 1 << 7, STRING_OF = 1 << 11 };

/* Out of line: a handler with locals whose addresses are taken could not end with a jump. */
#define STRING_FUNCTION static __attribute__((noinline, unused))

static inline uint32_t string_elements(uint32_t control)
{
    return control & STRING_WORDS ? 8 : 16;
}

/* The implicit length: the number of elements before the first zero. */
STRING_FUNCTION uint32_t string_length(const void *string, uint32_t control)
{
    uint32_t length = 0;
    if (control & STRING_WORDS) {
        uint16_t words[8];
        memcpy(words, string, 16);
        while (length < 8 && words[length])
            length++;
    } else {
        uint8_t bytes[16];
        memcpy(bytes, string, 16);
        while (length < 16 && bytes[length])
            length++;
    }
    return length;
}

/* The explicit length: the register's absolute value, at most the number of elements of a vector. */
static inline uint32_t string_explicit_length(int64_t length, uint32_t control)
{
    uint64_t distance = length < 0 ? -(uint64_t)length : (uint64_t)length;
    return distance < string_elements(control) ? (uint32_t)distance : string_elements(control);
}

static inline void string_read(int32_t element[16], const void *string, uint32_t control)
{
    union { uint8_t ub[16]; int8_t sb[16]; uint16_t uw[8]; int16_t sw[8]; } read;
    memcpy(&read, string, 16);
    for (uint32_t i = 0; i < string_elements(control); i++) {
        if (control & STRING_WORDS)
            element[i] = control & STRING_SIGNED ? read.sw[i] : read.uw[i];
        else
            element[i] = control & STRING_SIGNED ? read.sb[i] : read.ub[i];
    }
}

static inline int string_holds(const int32_t *set, uint32_t length, int32_t element)
{
    for (uint32_t i = 0; i < length; i++)
        if (set[i] == element)
            return 1;
    return 0;
}

static inline int string_ranges_hold(const int32_t *ranges, uint32_t length, int32_t element)
{
    for (uint32_t i = 0; i + 1 < length; i += 2)
        if (ranges[i] <= element && element <= ranges[i + 1])
            return 1;
    return 0;
}

/* Is the first string a substring of the second at `place`, up to the end of the vector? */
static inline int string_stands_at(const int32_t *first, uint32_t first_length, const int32_t *second,
                                   uint32_t second_length, uint32_t place, uint32_t elements)
{
    for (uint32_t i = 0; i < first_length && place + i < elements; i++)
        if (place + i >= second_length || first[i] != second[place + i])
            return 0;
    return 1;
}

/* The result, a bit for each element of the second string, with the flags at their places in EFLAGS << 32 above it. */
STRING_FUNCTION uint64_t string_compare(const void *first_string, uint32_t first_length, const void *second_string,
                                        uint32_t second_length, uint32_t control)
{
    int32_t first[16], second[16];
    uint32_t elements = string_elements(control), result = 0, flags = 0;
    string_read(first, first_string, control);
    string_read(second, second_string, control);
    for (uint32_t i = 0; i < elements; i++) {
        int found;
        switch (control >> 2 & 3) {
        case COMPARE_SET:
            found = i < second_length && string_holds(first, first_length, second[i]);
            break;
        case COMPARE_RANGES:
            found = i < second_length && string_ranges_hold(first, first_length, second[i]);
            break;
        case COMPARE_EACH: /* beyond their ends they are equal */
            found = i < first_length && i < second_length ? first[i] == second[i]
                                                          : i >= first_length && i >= second_length;
            break;
        default:
            found = string_stands_at(first, first_length, second, second_length, i, elements);
        }
        result |= (uint32_t)found << i;
    }
    if ((control >> 4 & 3) == RESULT_COMPLEMENTED)
        result ^= (1u << elements) - 1;
    else if ((control >> 4 & 3) == RESULT_COMPLEMENTED_WITHIN)
        result ^= (1u << second_length) - 1;
    flags |= result ? STRING_CF : 0;
    flags |= second_length < elements ? STRING_ZF : 0;
    flags |= first_length < elements ? STRING_SF : 0;
    flags |= result & 1 ? STRING_OF : 0;
    return result | (uint64_t)flags << 32;
}

/* The index of the first or last bit that is set; if there is none, the number of elements. */
static inline uint32_t string_index(uint32_t result, uint32_t control)
{
    if (!result)
        return string_elements(control);
    return control & STRING_LAST ? 31 - __builtin_clz(result) : __builtin_ctz(result);
}

STRING_FUNCTION void string_mask(void *mask, uint32_t result, uint32_t control)
{
    uint8_t bytes[16] = { 0 };
    uint32_t size = control & STRING_WORDS ? 2 : 1;
    if (control & STRING_ELEMENT_MASK)
        for (uint32_t i = 0; i < 16; i++)
            bytes[i] = result >> i / size & 1 ? 0xff : 0;
    else
        memcpy(bytes, &result, 2);
    memcpy(mask, bytes, 16);
}

#endif
