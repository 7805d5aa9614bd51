/* Descriptor tables and the way from user mode to the kernel. */
#pragma once
void processor_init(void);
