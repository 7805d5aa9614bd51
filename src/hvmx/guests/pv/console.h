/* Chooses the console by what kind of domain this is. */
#pragma once
void console_init(void);
