/* Selects the console by the kind of domain. */
#pragma once
void console_init(void);
