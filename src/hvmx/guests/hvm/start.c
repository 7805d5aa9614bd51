/* hvm32 and hvm64: the first C function, and the end of the guest. */
#include "../common/env.h"
#include "../common/options.h"
#include "boot_info.h"
#include "console.h"
#include "io.h"
#include "paging.h"
#include "processor.h"
#include "timer.h"

#ifdef __x86_64__
const char env_name[] = "hvm64";
#else
const char env_name[] = "hvm32";
#endif

_Noreturn void hvm_start(uint32_t magic, uintptr_t address)
{
    boot_info_read(magic, address);
    console_init();
    paging_init();
    processor_init();
    timer_init();
    guest_main();
}

/* A kernel on the bare machine may use every port. */
long env_open_ports(void)
{
    return 0;
}

/* Decimal, or hexadecimal after 0x; false if it is neither, or not a port number. */
static bool parse_port(const char *text, uint16_t *port)
{
    uint32_t base = 10, value = 0;
    if (text[0] == '0' && text[1] == 'x') {
        base = 16;
        text += 2;
    }
    if (!*text || *text == ' ')
        return false;
    for (; *text && *text != ' '; text++) {
        uint32_t letter = *text | 0x20, digit = letter >= 'a' ? letter - 'a' + 10 : (uint32_t)*text - '0';
        if (digit >= base || value > 0xffff)
            return false;
        value = value * base + digit;
    }
    *port = value;
    return value <= 0xffff;
}

void env_exit(bool success)
{
    const char *text = option("debug-exit");
    uint16_t port;
    console_drain();
    if (text && parse_port(text, &port))
        out8(port, success ? 0 : 1);
    for (;;)
        asm volatile("cli; hlt");
}
