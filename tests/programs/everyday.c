/* What programs do with a C library: mathematics, printf of long doubles, strings, AES. Static, for 32 or 64 bits.
 * Lines that begin with "processor:" say what CPUID let it choose; all others must be the same on every processor. As
 * process 1 it is a guest's /init, and powers the machine off at its end. */
#include <complex.h>
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "aes.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static uint32_t digest;

/* FNV-1a over what a great many results are, of which not each gets a line. */
static void mix(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        digest = (digest ^ bytes[i]) * 16777619u;
}

static void start(void)
{
    digest = 2166136261u;
}

static uint32_t random_word(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* --- mathematics ------------------------------------------------------------------------------------------------------ */
/* The C library has long doubles, and with 32 bits doubles too, of the x87's transcendental instructions, whose last bits
 * are not the same on all processors: ten hexadecimal digits are. */
#define FUNCTION(name) { #name, name##f, name, name##l }
static const struct {
    const char *name;
    float (*single)(float);
    double (*twice)(double);
    long double (*extended)(long double);
} functions[] = {
    FUNCTION(sin), FUNCTION(cos), FUNCTION(tan), FUNCTION(asin), FUNCTION(acos), FUNCTION(atan), FUNCTION(sinh),
    FUNCTION(cosh), FUNCTION(tanh), FUNCTION(asinh), FUNCTION(acosh), FUNCTION(atanh), FUNCTION(exp), FUNCTION(exp2),
    FUNCTION(expm1), FUNCTION(log), FUNCTION(log2), FUNCTION(log10), FUNCTION(log1p), FUNCTION(sqrt), FUNCTION(cbrt),
    FUNCTION(erf), FUNCTION(erfc), FUNCTION(lgamma), FUNCTION(tgamma), FUNCTION(j0), FUNCTION(y1), FUNCTION(floor),
    FUNCTION(ceil), FUNCTION(trunc), FUNCTION(round), FUNCTION(rint), FUNCTION(nearbyint),
};

static const long double arguments[] = {
    0.0L, -0.0L, 0.5L, -0.7L, 1.0L, 1.5L, 2.5L, -3.25L, 10.0L, 100.125L, 1e-10L, -1e-300L, 1e22L, 12345.678L,
    3.14159265358979323846L,
};

static void mathematics(void)
{
    for (size_t f = 0; f < COUNT(functions); f++) {
        for (size_t a = 0; a < COUNT(arguments); a++) {
            long double x = arguments[a];
            printf("%s(%Lg) %a %.9a %.9La\n", functions[f].name, x, functions[f].single((float)x),
                   functions[f].twice((double)x), functions[f].extended(x));
        }
        start();
        for (int i = 0; i < 200; i++) {
            double x = (random_word() % 200000) / 3000.0 - 30;
            float single = functions[f].single((float)x);
            double twice = functions[f].twice(x);
            long double extended = functions[f].extended(x);
            char text[80];
            int length = snprintf(text, sizeof text, "%a %.9a %.9La", single, twice, extended);
            if (!isnan(twice))
                mix(text, (size_t)length);
        }
        printf("%s of 200 values: %08x\n", functions[f].name, digest);
    }
    for (size_t a = 0; a < COUNT(arguments); a++)
        for (size_t b = 0; b < COUNT(arguments); b++) {
            double x = (double)arguments[a], y = (double)arguments[b];
            printf("%g, %g: %.9a %.9a %a %a %a %.9La\n", x, y, pow(x, y), atan2(x, y), hypot(x, y), fmod(x, y),
                   remainder(x, y), powl(arguments[a], arguments[b]));
        }
    int modes[] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
    for (size_t m = 0; m < COUNT(modes); m++) {
        volatile double third = 1, root = 2;
        volatile long double tenth = 1;
        fesetround(modes[m]);
        third /= 3;
        root = sqrt(root);
        tenth /= 10;
        printf("rounding %zu: %a %a %La %a %ld %lld\n", m, third, root, tenth, rint(-2.5), lrint(2.5), llrintl(-7.5L));
    }
    fesetround(FE_TONEAREST);
    double complex z = cexp(1.0 + 2.0 * I) * csqrt(-3.0 + 0.5 * I);
    printf("complex %.9a %.9a, fma %a\n", creal(z), cimag(z), fma(0.1, 10.0, -1.0));
}

/* --- numbers as text -------------------------------------------------------------------------------------------------- */
static void numbers(void)
{
    static const char *const texts[] = {
        "1", "0.1", "-123456789.987654321", "1e4000", "1e-4940", "3.6e-4951", "inf", "-nan", "0x1.8p-16445", "1e19",
        "299792458", "6.62607015e-34", "18446744073709551615", "1.189731495357231765e+4932",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        long double value = strtold(texts[i], NULL);
        printf("%s: %.20Lg %La %.3Lf %Le %g\n", texts[i], value, value, fabsl(value) < 1e30L ? value : 0, value,
               strtod(texts[i], NULL));
    }
    printf("%.60Lf %.40Le %.10Le\n", M_PIl, M_El, expl(1));
    start();
    for (int i = 0; i < 300; i++) {
        char text[80];
        union { uint64_t bits; double value; } any = { (uint64_t)random_word() << 32 | random_word() };
        int length = snprintf(text, sizeof text, "%.17g %.5f %La", any.value, any.value / 1e290, (long double)any.value);
        mix(text, length < 80 ? (size_t)length : sizeof text - 1);
        if (!isnan(any.value) && strtod(text, NULL) != any.value)
            printf("%s is not read as it was written\n", text);
    }
    printf("300 numbers as text: %08x\n", digest);
    printf("%lld %llu %#llx\n", 1234567890123456789ll / 1000007, 0xfedcba9876543210ull % 1000000007,
           0xfedcba9876543210ull * 3);
}

/* --- strings and memory: the C library chooses by CPUID among several of each ------------------------------------------ */
static int compare_words(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void strings(void)
{
    static char from[70000], to[70000], text[5000];
    static uint32_t words[5000];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (char)(random_word() % 255 + 1);
    static const size_t sizes[] = { 0, 1, 3, 7, 8, 15, 16, 17, 31, 32, 63, 65, 100, 128, 255, 1000, 4095, 4097, 65000 };
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t n = sizes[s];
        start();
        for (size_t at = 0; at < 19; at += 3) {
            memset(to, 0x5a, n + 64);
            memcpy(to + at, from + 18 - at, n);
            memmove(to + 5, to + at, n);
            memmove(to + at + 1, to + 5, n);
            mix(to, n + 64);
            mix(&(int){ memcmp(from + at, to, n + 1) > 0 }, sizeof(int));
            const char *found = memchr(from + at, from[at + n], sizeof from - at);
            mix(&(size_t){ (size_t)(found - from) }, sizeof(size_t) / 2);
            found = memrchr(from, from[n], n + 1);
            mix(&(uint32_t){ (uint32_t)(found - from) }, 4);
        }
        printf("%zu bytes: %08x\n", n, digest);
    }
    for (size_t n = 0; n < sizeof text - 1; n++)
        text[n] = "the quick brown fox jumps over the lazy dog, "[n % 45];
    start();
    for (size_t cut = 0; cut < 200; cut++) {
        char saved = text[3 * cut + 30];
        text[3 * cut + 30] = 0;
        uint32_t results[] = {
            (uint32_t)strlen(text + cut % 17), (uint32_t)strnlen(text + cut, 77), (uint32_t)strcspn(text + cut, "z,"),
            (uint32_t)strspn(text + cut % 5, "the quickbrown fx"), (uint32_t)(strchr(text, 'x') ? 1 : 0),
            strcmp(text + cut, text) > 0, strncmp(text, "the quick brown fox", cut % 25) == 0,
            (uint32_t)(strrchr(text, 'o') - text), strstr(text, "lazy dog") != NULL, strcasecmp(text, "THE") > 0,
            (uint32_t)(strpbrk(text, "xyz") ? strpbrk(text, "xyz") - text : 0),
        };
        mix(results, sizeof results);
        strcpy(to, text + cut % 9);
        strcat(to, "!");
        strcat(to, text + 4900);
        mix(to, strlen(to));
        text[3 * cut + 30] = saved;
    }
    printf("strings: %08x\n", digest);
    for (size_t i = 0; i < COUNT(words); i++)
        words[i] = random_word();
    qsort(words, COUNT(words), sizeof *words, compare_words);
    start();
    mix(words, sizeof words);
    printf("5000 words in order: %08x\n", digest);
}

/* --- AES ---------------------------------------------------------------------------------------------------------------- */
static void show(const char *what, const uint8_t block[16])
{
    printf("%s ", what);
    for (int i = 0; i < 16; i++)
        printf("%02x", block[i]);
    printf("\n");
}

static void ciphers(AesEncrypt encrypt)
{
    uint8_t key[16], block[16];
    for (int i = 0; i < 16; i++) {
        key[i] = (uint8_t)i;
        block[i] = (uint8_t)(0x11 * i);
    }
    encrypt(key, block, block);
    show("FIPS 197, appendix C.1:", block);
    for (int i = 0; i < 2000; i++) {
        encrypt(key, block, block);
        key[i % 16] ^= block[(i + 5) % 16];
    }
    show("2000 blocks in a chain:", block);
}

int main(void)
{
    __builtin_cpu_init();
    int has_aes = __builtin_cpu_supports("aes") != 0;
    printf("processor: cmov %d mmx %d sse %d sse2 %d sse3 %d ssse3 %d sse4.1 %d sse4.2 %d popcnt %d aes %d avx %d\n",
           __builtin_cpu_supports("cmov") != 0, __builtin_cpu_supports("mmx") != 0, __builtin_cpu_supports("sse") != 0,
           __builtin_cpu_supports("sse2") != 0, __builtin_cpu_supports("sse3") != 0,
           __builtin_cpu_supports("ssse3") != 0, __builtin_cpu_supports("sse4.1") != 0,
           __builtin_cpu_supports("sse4.2") != 0, __builtin_cpu_supports("popcnt") != 0, has_aes,
           __builtin_cpu_supports("avx") != 0);
    mathematics();
    numbers();
    strings();
    ciphers(has_aes ? aes_encrypt_ni : aes_encrypt_c);
    printf("the end\n");
    fflush(stdout);
    if (getpid() == 1) {
        sync();
        reboot(RB_POWER_OFF);
    }
    return 0;
}
