/* Descriptor tables, and the entry from user mode into the kernel. */
#pragma once
void processor_init(void);
