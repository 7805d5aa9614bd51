/* A program for any processor from the 486 on, with no library: x87 instructions, long doubles as text, and functions
 * that have several variants, of which CPUID chooses. Lines that begin with "processor:" say what it found; all others
 * must be the same on every processor. */
#include <stddef.h>
#include <stdint.h>

#include "aes.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int is_guest;
static uint32_t features_edx, features_ecx;
enum { EDX_FPU = 1 << 0, EDX_CMOV = 1 << 15, EDX_MMX = 1 << 23, EDX_FXSR = 1 << 24, EDX_SSE = 1 << 25, EDX_SSE2 = 1 << 26 };
enum { ECX_SSSE3 = 1 << 9, ECX_SSE42 = 1 << 20, ECX_POPCNT = 1 << 23, ECX_AES = 1 << 25 };

/* --- output ----------------------------------------------------------------------------------------------------------- */
static char buffer[4096];
static uint32_t buffered;

static void flush(void)
{
    if (is_guest) {
        for (uint32_t i = 0; i < buffered; i++)
            __asm__ volatile("outb %0, $0xe9" : : "a"(buffer[i]));
    } else {
        uint32_t written;
        __asm__ volatile("int $0x80" : "=a"(written) : "a"(4), "b"(1), "c"(buffer), "d"(buffered) : "memory");
    }
    buffered = 0;
}

static void put(char c)
{
    if (buffered == sizeof buffer)
        flush();
    buffer[buffered++] = c;
}

static void text(const char *s)
{
    while (*s)
        put(*s++);
}

static void hex(uint32_t value, int digits)
{
    while (digits--)
        put("0123456789abcdef"[value >> 4 * digits & 15]);
}

static void number(uint32_t value)
{
    if (value >= 10)
        number(value / 10);
    put((char)('0' + value % 10));
}

/* --- long doubles as text ------------------------------------------------------------------------------------------------ */
typedef union {
    long double value;
    struct { uint32_t low, high; uint16_t exponent; } bits;
} Extended;

enum { BASE = 1000000000 };
static uint32_t big[2200]; /* an integer, the least significant nine digits first */
static uint32_t big_words;

static void big_multiply(uint32_t factor, uint32_t carry)
{
    for (uint32_t i = 0; i < big_words; i++) {
        uint64_t product = (uint64_t)big[i] * factor + carry;
        __asm__("divl %4" : "=a"(carry), "=d"(big[i]) : "0"((uint32_t)product), "1"((uint32_t)(product >> 32)), "r"(BASE));
    }
    if (carry)
        big[big_words++] = carry;
}

static uint32_t power_of_5(int exponent)
{
    return exponent ? 5 * power_of_5(exponent - 1) : 1;
}

/* `digits` significant digits, rounded from the exact value, to even where that lies in the middle. */
static void decimal(long double value, uint32_t digits)
{
    static char exact[sizeof big / sizeof *big * 9 + 1];
    Extended x = { value };
    uint32_t length = 0;
    int exponent, round_up, rest = 0;
    if (x.bits.exponent & 0x8000)
        put('-');
    x.bits.exponent &= 0x7fff;
    if (x.bits.exponent == 0x7fff) {
        text(x.bits.high == 0x80000000 && !x.bits.low ? "inf" : "nan");
        return;
    }
    big_words = 0;
    for (int i = 31; i >= 0; i--)
        big_multiply(2, x.bits.high >> i & 1);
    for (int i = 31; i >= 0; i--)
        big_multiply(2, x.bits.low >> i & 1);
    if (!big_words) {
        text("0");
        return;
    }
    exponent = (x.bits.exponent ? x.bits.exponent : 1) - 16383 - 63;
    for (int i = 0; i < exponent; i += 16)
        big_multiply(exponent - i < 16 ? 1u << (exponent - i) : 1 << 16, 0);
    for (int i = exponent; i < 0; i += 8) /* n / 2 is 5 n / 10 */
        big_multiply(i > -8 ? power_of_5(-i) : 390625, 0);
    for (uint32_t i = big_words; i-- > 0;)
        for (uint32_t unit = BASE / 10; unit; unit /= 10)
            if (length || big[i] / unit % 10)
                exact[length++] = (char)('0' + big[i] / unit % 10);
    exponent = (exponent < 0 ? exponent : 0) + (int)length - 1;
    for (uint32_t i = length; i < digits + 1; i++)
        exact[length++] = '0';
    for (uint32_t i = digits + 1; i < length; i++)
        rest |= exact[i] != '0';
    round_up = exact[digits] > '5' || (exact[digits] == '5' && (rest || (exact[digits - 1] & 1)));
    for (uint32_t i = digits; round_up && i-- > 0;) {
        round_up = exact[i] == '9';
        exact[i] = (char)(round_up ? '0' : exact[i] + 1);
    }
    if (round_up) { /* all were nines */
        exact[0] = '1';
        exponent++;
    }
    put(exact[0]);
    put('.');
    for (uint32_t i = 1; i < digits; i++)
        put(exact[i]);
    put('e');
    put(exponent < 0 ? '-' : '+');
    number((uint32_t)(exponent < 0 ? -exponent : exponent));
}

static void extended(long double value)
{
    Extended x = { value };
    put(' ');
    hex(x.bits.exponent, 4);
    put(':');
    hex(x.bits.high, 8);
    hex(x.bits.low, 8);
}

/* --- x87 ------------------------------------------------------------------------------------------------------------------ */
#define ONE_TO_ONE(name)                                             \
    static long double x87_##name(long double x, long double y)      \
    {                                                                \
        (void)y;                                                     \
        __asm__(#name : "+t"(x));                                    \
        return x;                                                    \
    }
#define TWO_TO_ONE(name)                                             \
    static long double x87_##name(long double x, long double y)      \
    {                                                                \
        __asm__(#name : "+t"(x) : "u"(y) : "st(1)");                 \
        return x;                                                    \
    }
#define TWO_KEEPING(name)                                            \
    static long double x87_##name(long double x, long double y)      \
    {                                                                \
        __asm__(#name : "+t"(x) : "u"(y));                           \
        return x;                                                    \
    }
#define ONE_TO_TWO(name)                                             \
    static long double x87_##name(long double x, long double y)      \
    {                                                                \
        __asm__(#name : "=t"(y), "=u"(x) : "0"(x));                  \
        return x;                                                    \
    }                                                                \
    static long double pushed_##name(long double x, long double y)   \
    {                                                                \
        __asm__(#name : "=t"(y), "=u"(x) : "0"(x));                  \
        return y;                                                    \
    }

ONE_TO_ONE(fsin)
ONE_TO_ONE(fcos)
ONE_TO_ONE(fsqrt)
ONE_TO_ONE(frndint)
ONE_TO_ONE(f2xm1)
TWO_TO_ONE(fpatan)
TWO_TO_ONE(fyl2x)
TWO_TO_ONE(fyl2xp1)
TWO_KEEPING(fscale)
TWO_KEEPING(fprem)
TWO_KEEPING(fprem1)
ONE_TO_TWO(fptan)
ONE_TO_TWO(fsincos)
ONE_TO_TWO(fxtract)

#define OPERATION(name, limit) { #name, x87_##name, limit }
#define PUSHING(name, limit) OPERATION(name, limit), { #name " pushed", pushed_##name, limit }
static const struct {
    const char *name;
    long double (*operation)(long double, long double);
    long double limit; /* of the argument's magnitude */
} operations[] = {
    OPERATION(fsin, 1e18L), OPERATION(fcos, 1e18L), PUSHING(fptan, 1e18L), PUSHING(fsincos, 1e18L),
    OPERATION(fsqrt, 1e4930L), OPERATION(frndint, 1e4930L), OPERATION(f2xm1, 1), OPERATION(fpatan, 1e4930L),
    OPERATION(fyl2x, 1e4930L), OPERATION(fyl2xp1, 0.29L), OPERATION(fscale, 1e4930L), OPERATION(fprem, 1e6L),
    OPERATION(fprem1, 1e6L), PUSHING(fxtract, 1e4930L),
};
static const long double arguments[] = {
    0.0L, 0.5L, -0.25L, 1.0L, 0.1L, -2.5L, 3.14159265358979323846L, 100.0L, -12345.678L, 1e-10L, 1e15L, 1e300L, -1e-4000L,
    3.6e-4951L, 1.18e4932L,
};

static void set_control(uint16_t control)
{
    __asm__ volatile("fldcw %0" : : "m"(control));
}

static void mathematics(void)
{
    for (size_t f = 0; f < COUNT(operations); f++)
        for (size_t a = 0; a < COUNT(arguments); a++) {
            long double x = arguments[a];
            if ((x < 0 ? -x : x) > operations[f].limit)
                continue;
            text(operations[f].name);
            extended(x);
            text(" =");
            for (uint16_t control = 0x003f; control <= 0x0f3f; control += 0x100) {
                if ((control & 0x300) == 0x100)
                    continue; /* a reserved precision */
                volatile long double y = 2.75L;
                set_control(control);
                y = operations[f].operation(x, y);
                set_control(0x037f);
                extended(y);
            }
            put('\n');
        }
    for (size_t a = 0; a < COUNT(arguments); a++) {
        uint8_t bcd[10];
        decimal(arguments[a], 25);
        put(' ');
        decimal(x87_fsqrt(arguments[a] < 0 ? -arguments[a] : arguments[a], 0), 3);
        if (arguments[a] < 1e17L && arguments[a] > -1e17L) {
            __asm__("fbstp %0" : "=m"(bcd) : "t"(arguments[a] * 10) : "st");
            put(' ');
            for (int i = 9; i >= 0; i--)
                hex(bcd[i], 2);
        }
        put('\n');
    }
}

/* --- functions with variants ------------------------------------------------------------------------------------------------ */
static void copy_string(uint8_t *to, const uint8_t *from, uint32_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static void copy_mmx(uint8_t *to, const uint8_t *from, uint32_t size)
{
    for (; size >= 8; size -= 8, to += 8, from += 8)
        __asm__ volatile("movq (%1), %%mm0\n\tmovq %%mm0, (%0)" : : "r"(to), "r"(from) : "memory");
    __asm__ volatile("emms");
    copy_string(to, from, size);
}

static void copy_sse(uint8_t *to, const uint8_t *from, uint32_t size)
{
    for (; size >= 16; size -= 16, to += 16, from += 16)
        __asm__ volatile("movups (%1), %%xmm0\n\tmovups %%xmm0, (%0)" : : "r"(to), "r"(from) : "memory");
    copy_string(to, from, size);
}

static uint32_t length_string(const char *s)
{
    uint32_t left = ~0u;
    __asm__("repne scasb" : "+D"(s), "+c"(left) : "a"(0) : "memory");
    return ~left - 1;
}

static uint32_t length_sse2(const char *s)
{
    const char *block = (const char *)((uintptr_t)s & ~(uintptr_t)15);
    uint32_t zeros;
    __asm__("pxor %%xmm0, %%xmm0\n\tpcmpeqb (%1), %%xmm0\n\tpmovmskb %%xmm0, %0" : "=r"(zeros) : "r"(block) : "memory");
    zeros &= ~0u << (s - block);
    while (!zeros) {
        block += 16;
        __asm__("pxor %%xmm0, %%xmm0\n\tpcmpeqb (%1), %%xmm0\n\tpmovmskb %%xmm0, %0" : "=r"(zeros) : "r"(block) : "memory");
    }
    return (uint32_t)(block - s) + (uint32_t)__builtin_ctz(zeros);
}

static uint32_t ones_c(uint32_t value)
{
    uint32_t ones = 0;
    for (; value; value &= value - 1)
        ones++;
    return ones;
}

static uint32_t ones_popcnt(uint32_t value)
{
    __asm__("popcnt %0, %0" : "+r"(value));
    return value;
}

static uint32_t crc_c(uint32_t crc, const uint8_t *data, uint32_t size)
{
    for (; size--; data++) {
        crc ^= *data;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0); /* Castagnoli's polynomial */
    }
    return crc;
}

static uint32_t crc_sse42(uint32_t crc, const uint8_t *data, uint32_t size)
{
    for (; size >= 4; size -= 4, data += 4)
        __asm__("crc32l (%1), %0" : "+r"(crc) : "r"(data) : "memory");
    for (; size--; data++)
        __asm__("crc32b (%1), %0" : "+r"(crc) : "r"(data) : "memory");
    return crc;
}

static uint32_t smaller_c(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t smaller_cmov(uint32_t a, uint32_t b)
{
    __asm__("cmp %1, %0\n\tcmova %1, %0" : "+r"(a) : "r"(b) : "cc");
    return a;
}

static void variants(void)
{
    static uint8_t from[5000], to[5200];
    int sse2 = (features_edx & EDX_SSE2) != 0;
    void (*copy)(uint8_t *, const uint8_t *, uint32_t) =
        features_edx & EDX_SSE ? copy_sse : features_edx & EDX_MMX ? copy_mmx : copy_string;
    uint32_t (*length)(const char *) = sse2 ? length_sse2 : length_string;
    uint32_t (*ones)(uint32_t) = features_ecx & ECX_POPCNT ? ones_popcnt : ones_c;
    uint32_t (*crc)(uint32_t, const uint8_t *, uint32_t) = features_ecx & ECX_SSE42 ? crc_sse42 : crc_c;
    uint32_t (*smaller)(uint32_t, uint32_t) = features_edx & EDX_CMOV ? smaller_cmov : smaller_c;
    AesEncrypt encrypt = features_ecx & ECX_AES ? aes_encrypt_ni : aes_encrypt_c;
    uint32_t state = 12345, least = ~0u, swapped = 0, added = 7;
    for (size_t i = 0; i < sizeof from; i++) {
        state = state * 1664525 + 1013904223;
        from[i] = (uint8_t)(state >> 24) ? (uint8_t)(state >> 24) : 1;
        least = smaller(least, state);
        swapped += __builtin_bswap32(state);
        __asm__("lock xaddl %0, %1" : "+r"(state), "+m"(added));
        state = added ^ i;
    }
    text("least, swapped ");
    hex(least, 8);
    put(' ');
    hex(swapped, 8);
    text("\n");
    for (uint32_t size = 0; size < 4800; size = size * 3 / 2 + 1) {
        copy(to + size % 13, from + size % 7, size);
        to[size % 13 + size] = 0;
        number(size);
        text(" bytes: length ");
        number(length((const char *)to + size % 13));
        text(", checksum ");
        hex(crc(~0u, to, size + 20), 8);
        text(", ones ");
        number(ones(crc(size, from, size)));
        put('\n');
    }
    uint8_t key[16], block[16];
    for (uint8_t i = 0; i < 16; i++) {
        key[i] = i;
        block[i] = (uint8_t)(0x11 * i);
    }
    for (int round = 0; round < 500; round++) {
        encrypt(key, block, block);
        if (round % 100 == 0) {
            text("AES ");
            for (int i = 0; i < 16; i++)
                hex(block[i], 2);
            put('\n');
        }
        key[round % 16] ^= block[(round + 5) % 16];
    }
}

/* --- the processor ------------------------------------------------------------------------------------------------------------ */
static void find_features(void)
{
    uint32_t before, after, eax = 1, ebx;
    __asm__("pushfl\n\tpushfl\n\tpopl %0\n\tmovl %0, %1\n\txorl $0x200000, %1\n\tpushl %1\n\tpopfl\n\tpushfl\n\tpopl %1\n\t"
            "popfl" : "=&r"(before), "=&r"(after));
    if (before == after)
        return; /* no CPUID */
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "=c"(features_ecx), "=d"(features_edx));
    if (is_guest && features_edx & EDX_FXSR) {
        uint32_t cr4, enable = features_edx & EDX_SSE ? 0x600 : 0x200; /* OSFXSR, OSXMMEXCPT */
        __asm__ volatile("movl %%cr4, %0\n\torl %1, %0\n\tmovl %0, %%cr4" : "=&r"(cr4) : "r"(enable));
    }
}

static void say(const char *name, uint32_t is_there)
{
    text(name);
    text(is_there ? "1" : "0");
}

__attribute__((noreturn)) void program(int guest)
{
    is_guest = guest;
    __asm__ volatile("fninit");
    find_features();
    say("processor: fpu ", features_edx & EDX_FPU);
    say(" cmov ", features_edx & EDX_CMOV);
    say(" mmx ", features_edx & EDX_MMX);
    say(" sse ", features_edx & EDX_SSE);
    say(" sse2 ", features_edx & EDX_SSE2);
    say(" ssse3 ", features_ecx & ECX_SSSE3);
    say(" sse4.2 ", features_ecx & ECX_SSE42);
    say(" popcnt ", features_ecx & ECX_POPCNT);
    say(" aes ", features_ecx & ECX_AES);
    put('\n');
    mathematics();
    variants();
    text("the end\n");
    flush();
    if (is_guest)
        __asm__ volatile("outb %0, $0xf4" : : "a"((uint8_t)0));
    __asm__ volatile("int $0x80" : : "a"(1), "b"(0));
    __builtin_unreachable();
}

/* What gcc calls without being asked. */
void *memcpy(void *to, const void *from, size_t size)
{
    copy_string(to, from, size);
    return to;
}

void *memset(void *to, int value, size_t size)
{
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}
