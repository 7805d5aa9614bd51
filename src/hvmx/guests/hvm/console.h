/* The console: a 16550 at COM1, polled; or, with console=debugcon, the debug console of QEMU and Bochs. */
#pragma once
void console_init(void);
void console_drain(void); /* until the last character has left the UART */
