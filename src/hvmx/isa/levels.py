"""The processor levels: which features a guest's processor has, and how CPUID and the control registers show it.

A level is a set of features. A row of the instruction table exists at a level that has the row's feature; without it
the encoding is #UD, or what the next row that matches makes of it. Each level has all that the one before has, but for
``GONE``. The levels and where they are from:

- ``486``: the Intel486 DX4 (family 4, model 8), which has CPUID (SDM volume 3, chapter 22; AP-485, table 2-3).
- ``pentium``: the Pentium (family 5, model 2), without MMX.
- ``pentium2``: the Pentium II "Deschutes" (family 6, model 5), the first with FXSAVE.
- ``x86-64-v1``: the baseline of the x86-64 psABI (table 3.1), with what all processors of 2005 had besides.
- ``x86-64-v2``: the psABI's second level, with what a Westmere and its next successors have besides: AES-NI,
  PCLMULQDQ, XSAVE, RDRAND, RDSEED, MOVBE, PCID, INVPCID, SMEP, SMAP and UMIP; and the MSR by which a processor says that it does not
  leak what it should not have executed, as hvmx, which executes nothing ahead of time, may: kernels then leave out
  their mitigations.

No level has an APIC, virtual-8086 extensions (VME) or MONITOR, which real processors of its name had: hvmx has them not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class CpuidBit(NamedTuple):
    """Where CPUID reports a feature."""

    leaf: int
    subleaf: int
    register: str
    bit: int


CPUID_BITS = {
    name: CpuidBit(leaf, subleaf, register, bit)
    for leaf, subleaf, register, names in (
        (1, 0, "edx", {
            "fpu": 0, "de": 2, "pse": 3, "tsc": 4, "msr": 5, "pae": 6, "mce": 7, "cx8": 8, "sep": 11, "mtrr": 12,
            "pge": 13, "mca": 14, "cmov": 15, "pat": 16, "pse36": 17, "clflush": 19, "mmx": 23, "fxsr": 24, "sse": 25, "sse2": 26,
        }),
        (1, 0, "ecx", {
            "sse3": 0, "pclmulqdq": 1, "ssse3": 9, "cx16": 13, "pcid": 17, "sse4.1": 19, "sse4.2": 20, "movbe": 22, "popcnt": 23,
            "aes": 25, "xsave": 26, "rdrand": 30,
        }),
        (7, 0, "ebx", {"smep": 7, "invpcid": 10, "rdseed": 18, "smap": 20}),
        (7, 0, "ecx", {"umip": 2}),
        (7, 0, "edx", {"arch_capabilities": 29}),
        (0xD, 1, "eax", {"xsaveopt": 0}),
        (0x80000001, 0, "ecx", {"lahf": 0, "prefetchw": 8}),
        (0x80000001, 0, "edx", {"syscall": 11, "nx": 20, "page1gb": 26, "rdtscp": 27, "lm": 29}),
    )
    for name, bit in names.items()
}  # fmt: skip
"""By feature (SDM volume 2, CPUID, tables 3-8 to 3-11; of leaf 80000001 also APM volume 3, appendix E)."""

FAMILY_6 = "p6"
"""Without a CPUID bit: a program must look at the family. Long NOPs and hints, 0F 18 to 0F 1F (SDM volume 2, NOP: from
family 6 on), RDPMC, and MSRs that came with that family."""

GONE = {
    "tr": "test registers: in the 486 only (SDM volume 3, chapter 22)",
    "p5_counters": "the Pentium's performance counters, which others followed (SDM volume 3, chapter 18)",
    "p6_counters": "those of the P6 family; later ones are not hvmx's, and CPUID says so (SDM volume 2, leaf 0AH)",
}
"""Features of one level only, and what they are. None has a CPUID bit: a program must look at family and model."""

CR4_BITS = {
    "tsc": 1 << 2, "de": 1 << 3, "pse": 1 << 4, "pae": 1 << 5, "mce": 1 << 6, "pge": 1 << 7, FAMILY_6: 1 << 8,
    "fxsr": 1 << 9, "sse": 1 << 10, "umip": 1 << 11, "pcid": 1 << 17, "xsave": 1 << 18, "smep": 1 << 20, "smap": 1 << 21,
}  # fmt: skip
"""The bits of CR4 that a feature brings: TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, PCIDE, OSXSAVE, SMEP, SMAP
(SDM volume 3, section 2.5). The others are reserved."""

EFER_BITS = {"syscall": 1 << 0, "lm": 1 << 8 | 1 << 10, "nx": 1 << 11}
"""The same of EFER: SCE, LME and LMA, NXE (SDM volume 3, section 2.2.1)."""

MSRS = {
    "mce": (0x0, 0x1),
    "tsc": (0x10,),
    "p5_counters": (0x11, 0x12, 0x13),
    "p6_counters": (0xC1, 0xC2, 0x186, 0x187),
    "arch_capabilities": (0x10A,),
    FAMILY_6: (0x17, 0x1B, 0x79, 0x8B, 0x1D9),
    "mtrr": (0xFE, *range(0x200, 0x210), 0x250, 0x258, 0x259, *range(0x268, 0x270), 0x2FF),
    "sep": (0x174, 0x175, 0x176),
    "mca": (0x179, 0x17A),
    "pat": (0x277,),
    "nx": (0x1A0,),
    "syscall": (0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084),
    "lm": (0xC0000100, 0xC0000101, 0xC0000102),
    "rdtscp": (0xC0000103,),
}
"""The MSRs that a feature brings (SDM volume 4, table 2-2). IA32_MISC_ENABLE is there for its XD-disable bit."""

WRITE_ONLY_MSRS = (0x79,)
"""IA32_BIOS_UPDT_TRIG, by which system software loads microcode: none is for these processors, and nothing is loaded."""


@dataclass(frozen=True, eq=False)
class Level:
    """One level. It equals itself alone, so that it is a cheap key: every CPUID exit looks one up."""

    name: str
    features: frozenset[str]
    """Names of the instruction table's `feature` column and of ``CPUID_BITS``; ``base`` is in all of them."""
    signature: int
    """EAX of CPUID leaf 1: family, model and stepping."""
    basic_leaf: int
    """The highest basic CPUID leaf."""
    extended_leaf: int
    """The highest extended CPUID leaf; 0 for none."""
    physical_bits: int
    """Width of guest-physical addresses."""

    def bits(self, places: dict[str, int]) -> int:
        """The bits of a register that the level's features bring, of ``CR4_BITS`` or ``EFER_BITS``."""
        return sum(bits for feature, bits in places.items() if feature in self.features)


_486 = frozenset({"base", "fpu", "tr"})
_PENTIUM = _486 - {"tr"} | {"de", "pse", "tsc", "msr", "mce", "cx8", "p5_counters"}
_PENTIUM2 = _PENTIUM - {"p5_counters"} | {
    FAMILY_6, "pae", "sep", "mtrr", "pge", "mca", "cmov", "pat", "pse36", "mmx", "fxsr", "p6_counters",
}  # fmt: skip
_V1 = _PENTIUM2 - {"p6_counters"} | {"clflush", "sse", "sse2", "syscall", "nx", "lm", "prefetchw"}
_V2 = _V1 | {
    "cx16", "lahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2", "aes", "pclmulqdq", "movbe", "rdrand", "rdseed", "xsave",
    "xsaveopt", "rdtscp", "page1gb", "pcid", "invpcid", "smep", "smap", "umip", "arch_capabilities",
}  # fmt: skip

LEVELS = {
    level.name: level
    for level in (
        Level("486", _486, 0x00000480, 1, 0, 32),
        Level("pentium", _PENTIUM, 0x0000052C, 1, 0, 32),
        Level("pentium2", _PENTIUM2, 0x00000652, 2, 0, 36),
        Level("x86-64-v1", _V1, 0x00000F4A, 2, 0x80000008, 40),
        Level("x86-64-v2", _V2, 0x000206C2, 0xD, 0x80000008, 40),
    )
}
"""All levels by name, in the order of time. A DX4, a P54C, a Deschutes, a Prescott, a Westmere."""

DEFAULT_LEVEL = LEVELS["x86-64-v2"]
"""What a processor is unless its maker says otherwise: the highest level."""


def level(name: str) -> Level:
    """The level of that name; ValueError names those that there are."""
    if name not in LEVELS:
        raise ValueError(f"no processor level {name!r}: there are {', '.join(LEVELS)}")
    return LEVELS[name]
