#include "print.h"

#include <stdarg.h>

#include "divide.h"
#include "env.h"

/* A line goes to the console in one piece: on PV that is one hypercall. */
static char line[128];
static size_t length;

static void flush(void)
{
    env_write(line, length);
    length = 0;
}

static void put(char c)
{
    line[length++] = c;
    if (c == '\n' || length == sizeof line)
        flush();
}

static void put_string(const char *text)
{
    while (*text)
        put(*text++);
}

static void put_number(uint64_t value, uint32_t base)
{
    char digits[20];
    unsigned count = 0;
    do {
        uint32_t digit = divide(&value, base);
        digits[count++] = "0123456789abcdef"[digit];
    } while (value);
    while (count)
        put(digits[--count]);
}

static void put_signed(int value)
{
    if (value < 0)
        put('-');
    put_number(value < 0 ? 0u - (unsigned)value : (unsigned)value, 10);
}

void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's': put_string(va_arg(arguments, const char *)); break;
        case 'd': put_signed(va_arg(arguments, int)); break;
        case 'u': put_number(va_arg(arguments, unsigned), 10); break;
        case 'x': put_number(va_arg(arguments, unsigned), 16); break;
        case 'p': put_number(va_arg(arguments, uintptr_t), 16); break;
        case 'U': put_number(va_arg(arguments, uint64_t), 10); break;
        default: put(*format); break;
        }
    }
    va_end(arguments);
    if (length)
        flush();
}
