"""Linux bzImages by the 32- and 64-bit boot protocols (Linux, Documentation/x86: boot.rst, zero-page.rst)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag

from . import cpu, elf, payload
from .layout import HIGH_MEMORY, PAGE, Placement
from .prepared import ImageError, Octets, Prepared

HEADER, HEADER_MAGIC, BOOT_FLAG = 0x1F1, b"HdrS", b"\x55\xaa"
#: The header ends at the target of the jump at 0x200, and boot_params has room for it up to 0x290.
HEADER_END, HEADER_ROOM = 0x202, 0x290
SECTOR, PARAGRAPH = 512, 16

UNDEFINED_LOADER = 0xFF
ENTRY_64 = 0x200

# The fields of struct boot_params outside of the setup header (zero-page.rst).
EXT_MEM_K, ALT_MEM_K, E820_ENTRIES, E820_TABLE = 0x002, 0x1E0, 0x1E8, 0x2D0


class LoadFlag(IntFlag):
    """The bits of loadflags that the kernel sets (boot.rst, "loadflags"); CAN_USE_HEAP is the loader's."""

    LOADED_HIGH = 1 << 0
    KASLR_FLAG = 1 << 1
    QUIET_FLAG = 1 << 5
    KEEP_SEGMENTS = 1 << 6
    CAN_USE_HEAP = 1 << 7


class XLoadFlag(IntFlag):
    """The bits of xloadflags (boot.rst, "xloadflags"; arch/x86/include/uapi/asm/bootparam.h)."""

    XLF_KERNEL_64 = 1 << 0
    XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
    XLF_EFI_HANDOVER_32 = 1 << 2
    XLF_EFI_HANDOVER_64 = 1 << 3
    XLF_EFI_KEXEC = 1 << 4
    XLF_5LEVEL = 1 << 5
    XLF_5LEVEL_ENABLED = 1 << 6
    XLF_MEM_ENCRYPTION = 1 << 7


@dataclass(frozen=True)
class SetupHeader:
    """The fields of a bzImage's setup header that a loader reads; absent ones have boot.rst's default."""

    setup_bytes: int
    version: int
    loadflags: int
    code32_start: int
    xloadflags: int
    initrd_addr_max: int
    cmdline_size: int
    kernel_alignment: int
    relocatable: bool
    payload_offset: int
    payload_length: int
    pref_address: int
    init_size: int
    kernel_bytes: int
    """What follows the setup code, in paragraphs of 16 bytes, the last of which may be incomplete in the file."""

    @property
    def protocol(self) -> str:
        """The version of the boot protocol, as boot.rst writes it."""
        return f"{self.version >> 8}.{self.version & 0xFF:02}"

    @property
    def bits(self) -> int:
        """The width in which the image is entered where it unpacks itself."""
        return 64 if self.xloadflags & XLoadFlag.XLF_KERNEL_64 else 32

    @property
    def runtime_start(self) -> int:
        """Where a kernel loaded at 1 MiB runs, once decompressed (boot.rst, "init_size")."""
        if self.relocatable and self.kernel_alignment:
            aligned = (
                (HIGH_MEMORY + self.kernel_alignment - 1) // self.kernel_alignment * self.kernel_alignment
            )
            return max(aligned, self.pref_address)
        return self.pref_address or HIGH_MEMORY


def is_linux(image: memoryview) -> bool:
    """Whether ``image`` has the setup header of boot protocol 2.00 or later."""
    return image[0x1FE:0x200] == BOOT_FLAG and image[0x202:0x206] == HEADER_MAGIC


def parse_header(image: memoryview, name: str) -> SetupHeader:
    """Reads the setup header of an image that ``is_linux``; raises ``ImageError`` where it is cut off."""
    if len(image) < HEADER_END + 0x6A:
        raise ImageError(f"{name}: a Linux setup header is cut off at {len(image):#x}")

    def read(offset: int, size: int, since: int, default: int = 0) -> int:
        return int.from_bytes(image[offset : offset + size], "little") if version >= since else default

    version = int.from_bytes(image[0x206:0x208], "little")
    return SetupHeader(
        setup_bytes=((read(0x1F1, 1, 0x0200) or 4) + 1) * SECTOR,
        version=version,
        loadflags=read(0x211, 1, 0x0200),
        code32_start=read(0x214, 4, 0x0200),
        xloadflags=read(0x236, 2, 0x020C),
        initrd_addr_max=read(0x22C, 4, 0x0203, 0x37FFFFFF),
        cmdline_size=read(0x238, 4, 0x0206, 255),
        kernel_alignment=read(0x230, 4, 0x0205),
        relocatable=bool(read(0x234, 1, 0x0205)),
        payload_offset=read(0x248, 4, 0x0208),
        payload_length=read(0x24C, 4, 0x0208),
        pref_address=read(0x258, 8, 0x020A),
        init_size=read(0x260, 4, 0x020A),
        kernel_bytes=read(0x1F4, 4, 0x0204) * PARAGRAPH,
    )


def bootable_header(image: memoryview, name: str) -> SetupHeader:
    """The setup header of an image that ``is_linux``; ``ImageError`` where it cannot be booted."""
    header = parse_header(image, name)
    check_bootable(image, header, name)
    return header


def check_bootable(image: memoryview, header: SetupHeader, name: str) -> None:
    """Raises ``ImageError`` for an image that cannot be booted, whatever is inside."""
    if header.version < 0x0202:
        raise ImageError(
            f"{name}: Linux boot protocol {header.version:#06x} is older than 2.02, the oldest with a command line"
        )
    if not header.loadflags & LoadFlag.LOADED_HIGH:
        raise ImageError(f"{name}: a Linux zImage, loaded low; only bzImages have a 32-bit entry at 0x100000")
    if header.setup_bytes >= len(image):
        raise ImageError(f"{name}: Linux setup code of {header.setup_bytes:#x} bytes, the file has {len(image):#x}")
    end = header.setup_bytes + header.kernel_bytes
    if end - PARAGRAPH >= len(image):
        raise ImageError(f"{name}: a Linux kernel that ends at {end:#x} is cut off at {len(image):#x}")


def find_payload(image: memoryview, header: SetupHeader, name: str) -> memoryview | None:
    """The compressed kernel, if the image says where it is."""
    if not header.payload_offset or not header.payload_length:
        return None
    start = header.setup_bytes + header.payload_offset
    end = start + header.payload_length
    if end > len(image):
        raise ImageError(
            f"{name}: the Linux payload at {start:#x} to {end:#x} lies behind the end of the file ({len(image):#x})"
        )
    return image[start:end]


def extract(image: memoryview, header: SetupHeader, name: str, memory_bytes: int) -> elf.Elf | None:
    """The decompressed vmlinux of a bootable bzImage; None where it has no payload, or one of a compression that is
    unknown here."""
    compressed = find_payload(image, header, name)
    title = None if compressed is None else payload.compression(compressed)
    if compressed is None or title is None:
        return None
    vmlinux = payload.decompress(compressed, memory_bytes, name)
    return elf.parse(vmlinux, f"{name} (its {title} payload)")


def prepare_linux(
    image: memoryview,
    header: SetupHeader,
    vmlinux: elf.Elf | None,
    placement: Placement,
    *,
    command_line: str,
    initrd: Octets | None,
) -> Prepared:
    """Loads a bootable bzImage, whose header is ``header``, with its boot_params.

    ``vmlinux``, the kernel inside, is placed where the image's own decompressor would put it and entered as that
    would, at its first instruction; without, the whole image is loaded at 1 MiB and decompresses itself.
    """
    if vmlinux is not None:
        # The kernel is loaded where it was linked, so it needs none of the relocations that follow it in the payload.
        vmlinux.place(placement)
        entry, bits = vmlinux.physical_entry(), vmlinux.bits
        kernel_end = max(load.paddr + load.memsz for load in vmlinux.loads)
        how = f"decompressed from {len(image):#x} bytes"
    else:
        if not header.code32_start:
            raise placement.error("has no 32-bit entry (its code32_start is 0): its setup code needs a BIOS to run on")
        kernel = image[header.setup_bytes :]
        placement.place(HIGH_MEMORY, kernel, "the Linux kernel")
        bits = header.bits
        entry = HIGH_MEMORY + (ENTRY_64 if bits == 64 else 0)
        if entry >= HIGH_MEMORY + len(kernel):
            raise placement.error(
                f"{len(kernel):#x} bytes of Linux kernel do not reach its entry at {entry:#x}"
            )
        kernel_end = max(header.runtime_start + header.init_size, HIGH_MEMORY + len(kernel))
        how = "as it is"
    if kernel_end > placement.high_memory_end:
        raise placement.error(
            f"Linux runs at up to {kernel_end:#x}, the guest's RAM ends at {placement.high_memory_end:#x}"
        )

    placement.add_bios_data()
    boot_params = _add_boot_params(image, header, placement, command_line, initrd, kernel_end)
    gdt, rsp = placement.add_gdt(long=bits == 64), placement.add_stack()
    registers = {"rsi": boot_params}
    if bits == 64:
        cr3 = placement.add_identity_map()
        state = cpu.long_mode(rip=entry, gdt=gdt, cr3=cr3, rsp=rsp, registers=registers)
    else:
        state = cpu.protected_mode(rip=entry, gdt=gdt, rsp=rsp, registers=registers)
    description = f"Linux bzImage, protocol {header.protocol}, {how}, {bits}-bit entry at {entry:#x}"
    return Prepared("linux", description, state, placement.segments)


def _add_boot_params(
    image: memoryview,
    header: SetupHeader,
    placement: Placement,
    command_line: str,
    initrd: Octets | None,
    kernel_end: int,
) -> int:
    params = bytearray(PAGE)
    end = min(HEADER_END + image[0x201], HEADER_ROOM)
    params[HEADER:end] = image[HEADER:end]

    def write(offset: int, size: int, value: int) -> None:
        params[offset : offset + size] = value.to_bytes(size, "little")

    write(0x210, 1, UNDEFINED_LOADER)
    # Not KASLR_FLAG, which a kernel that has randomised its own address sets for itself.
    write(0x211, 1, LoadFlag.LOADED_HIGH)
    write(0x214, 4, HIGH_MEMORY)
    write(0x218, 8, 0)
    if initrd:
        limit = min(header.initrd_addr_max + 1, placement.high_memory_end)
        address = placement.add(initrd, "the initrd", align=PAGE, start=kernel_end, end=limit, high=True)
        write(0x218, 4, address)
        write(0x21C, 4, len(initrd))
    write(0x228, 4, placement.add_string(command_line, "the command line", limit=header.cmdline_size))

    high_memory_k = (placement.high_memory_end - HIGH_MEMORY) >> 10
    write(EXT_MEM_K, 2, min(high_memory_k, 0xFFFF))
    write(ALT_MEM_K, 4, high_memory_k)
    write(E820_ENTRIES, 1, len(placement.regions))
    for index, region in enumerate(placement.regions):
        struct.pack_into("<QQI", params, E820_TABLE + 20 * index, *region)
    return placement.add(params, "boot_params", align=PAGE)
