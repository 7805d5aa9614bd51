/* The boot loader's information, from either of two protocols. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define MULTIBOOT_MAGIC 0x2badb002

/* `magic` is Multiboot's or anything else for PVH; `address` is where its information lies. Copies what it needs. */
void boot_info_read(uint32_t magic, uintptr_t address);
