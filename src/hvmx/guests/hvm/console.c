#include "console.h"

#include "../common/env.h"
#include "../common/options.h"
#include "../common/string.h"
#include "io.h"

#define DEBUGCON 0xe9

#define COM1              0x3f8
#define UART_DATA         (COM1 + 0) /* divisor, low, while DLAB is set */
#define UART_INTERRUPTS   (COM1 + 1) /* divisor, high */
#define UART_FIFO         (COM1 + 2)
#define UART_LINE         (COM1 + 3)
#define UART_MODEM        (COM1 + 4)
#define UART_STATUS       (COM1 + 5)
#define LINE_8N1          0x03
#define LINE_DLAB         0x80
#define FIFO_ON_AND_CLEAR 0x07
#define MODEM_DTR_RTS     0x03
#define STATUS_EMPTY      0x20 /* room for a character */
#define STATUS_IDLE       0x40 /* nothing left in the shift register either */

static bool debugcon;

void console_init(void)
{
    const char *choice = option("console");
    debugcon = choice && memcmp(choice, "debugcon", 8) == 0;
    out8(UART_INTERRUPTS, 0);
    out8(UART_LINE, LINE_DLAB);
    out8(UART_DATA, 1); /* 115200 baud */
    out8(UART_INTERRUPTS, 0);
    out8(UART_LINE, LINE_8N1);
    out8(UART_FIFO, FIFO_ON_AND_CLEAR);
    out8(UART_MODEM, MODEM_DTR_RTS);
}

static void wait_for(uint8_t status)
{
    while (!(in8(UART_STATUS) & status))
        asm volatile("pause");
}

void console_drain(void)
{
    wait_for(STATUS_IDLE);
}

void env_write(const char *text, size_t length)
{
    while (length--) {
        if (debugcon) {
            out8(DEBUGCON, *text++);
        } else {
            wait_for(STATUS_EMPTY);
            out8(UART_DATA, *text++);
        }
    }
}
