/* The GDT's selectors, laid out as SYSCALL and SYSRET want them (SDM vol. 2B, SYSRET): user data right before
 * user code, and both after the base that STAR names. */
#pragma once

#define KERNEL_CODE  0x08
#define KERNEL_DATA  0x10
#define SYSRET_BASE  0x1b
#define USER_DATA    0x23
#define USER_CODE    0x2b
#define TASK_STATE   0x30
