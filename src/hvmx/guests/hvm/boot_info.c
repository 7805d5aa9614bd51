#include "boot_info.h"

#include "../common/env.h"
#include "../common/panic.h"

#define PVH_MAGIC  0x336ec578
#define USABLE_RAM 1 /* both protocols use E820's types */

/* Multiboot 0.6.96, 3.3. */
#define MULTIBOOT_HAS_MEMORY       0x01
#define MULTIBOOT_HAS_COMMAND_LINE 0x04
#define MULTIBOOT_HAS_MAP          0x40

struct multiboot_info {
    uint32_t flags, lower_kb, upper_kb, boot_device, command_line;
    uint32_t module_count, modules, symbols[4];
    uint32_t map_bytes, map;
};

struct multiboot_region {
    uint32_t size; /* of what follows */
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

/* Xen's public arch-x86/hvm/start_info.h, version 1. */
struct pvh_info {
    uint32_t magic, version, flags, module_count;
    uint64_t modules, command_line, rsdp, map;
    uint32_t map_entries, reserved;
};

struct pvh_region {
    uint64_t base, length;
    uint32_t type, reserved;
};

extern char image_start[], image_end[];

static const char *protocol;
static char command_line[512];
static uint64_t memory_bytes;
static bool image_in_memory;

static void copy_command_line(uint64_t address)
{
    const char *text = (const char *)(uintptr_t)address;
    for (unsigned i = 0; address && i < sizeof command_line - 1 && text[i]; i++)
        command_line[i] = text[i];
}

static void add_region(uint64_t base, uint64_t length, uint32_t type)
{
    if (type != USABLE_RAM)
        return;
    memory_bytes += length;
    if (base <= (uintptr_t)image_start && (uintptr_t)image_end <= base + length)
        image_in_memory = true;
}

static void read_multiboot(const struct multiboot_info *info)
{
    protocol = "multiboot";
    if (info->flags & MULTIBOOT_HAS_COMMAND_LINE)
        copy_command_line(info->command_line);
    if (info->flags & MULTIBOOT_HAS_MAP) {
        for (uintptr_t at = info->map; at < (uintptr_t)info->map + info->map_bytes;) {
            const struct multiboot_region *region = (const void *)at;
            add_region(region->base, region->length, region->type);
            at += sizeof region->size + region->size;
        }
    } else if (info->flags & MULTIBOOT_HAS_MEMORY) {
        add_region(0, (uint64_t)info->lower_kb << 10, USABLE_RAM);
        add_region(1 << 20, (uint64_t)info->upper_kb << 10, USABLE_RAM);
    }
}

static void read_pvh(const struct pvh_info *info)
{
    protocol = "pvh";
    copy_command_line(info->command_line);
    if (info->version < 1)
        return;
    const struct pvh_region *regions = (const void *)(uintptr_t)info->map;
    for (uint32_t i = 0; i < info->map_entries; i++)
        add_region(regions[i].base, regions[i].length, regions[i].type);
}

void boot_info_read(uint32_t magic, uintptr_t address)
{
    if (magic == MULTIBOOT_MAGIC)
        read_multiboot((const void *)address);
    else if (((const struct pvh_info *)address)->magic == PVH_MAGIC)
        read_pvh((const void *)address);
    else
        panic("started by neither Multiboot nor PVH");
}

const char *env_boot_protocol(void)
{
    return protocol;
}

const char *env_command_line(void)
{
    return command_line;
}

uint64_t env_memory_bytes(void)
{
    return memory_bytes;
}

bool env_memory_is_sound(void)
{
    return image_in_memory;
}
