"""What hvmx implements and what not, against the list of all x86 encodings that iced-x86 has.

An encoding belongs to a level if the level has all its features; ``FEATURES`` translates iced-x86's names for them.
The features of ``OUTSIDE`` belong to no level, for the reason that stands there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from iced_x86 import (
    Code,
    CpuidFeature,
    Decoder,
    DecoderOptions,
    EncodingKind,
    Instruction,
    MandatoryPrefix,
    OpCodeInfo,
    OpCodeTableKind,
)

from hvmx.core.decode.decoder import decode_py

from . import feature_mask
from .levels import FAMILY_6, Level

FEATURES = {
    "INTEL8086": "base", "INTEL186": "base", "INTEL286": "base", "INTEL386": "base",
    "INTEL486": "base", "CPUID": "base", "SMM": "base", "FPU": "fpu", "FPU287": "fpu", "FPU387": "fpu", "TSC": "tsc",
    "MSR": "msr", "CX8": "cx8", "CMOV": "cmov", "SEP": "sep", "RDPMC": FAMILY_6, "MULTIBYTENOP": FAMILY_6, "MMX": "mmx",
    "FXSR": "fxsr", "SSE": "sse", "SSE2": "sse2", "PAUSE": "sse2", "CLFSH": "clflush", "X64": "lm", "SYSCALL": "syscall",
    "PREFETCHW": "prefetchw", "CMPXCHG16B": "cx16", "SSE3": "sse3", "SSSE3": "ssse3", "SSE4_1": "sse4.1",
    "SSE4_2": "sse4.2", "POPCNT": "popcnt", "MOVBE": "movbe", "AES": "aes", "PCLMULQDQ": "pclmulqdq", "RDTSCP": "rdtscp",
    "MOV_TR": "tr", "RDRAND": "rdrand", "RDSEED": "rdseed", "XSAVE": "xsave", "XSAVEOPT": "xsaveopt", "SMAP": "smap",
    "INVPCID": "invpcid",
}  # fmt: skip
"""iced-x86's feature -> that of :mod:`hvmx.isa.levels`."""

OUTSIDE = {
    feature: reason
    for reason, features in {
        "x86-64-v3 and later: VEX, EVEX and their companions": """
            AVX AVX2 FMA F16C BMI1 BMI2 LZCNT ADX FSGSBASE SHA GFNI VAES VPCLMULQDQ AVX_VNNI AVX_IFMA
            AVX_NE_CONVERT AVX_VNNI_INT8 AVX_VNNI_INT16 AVX512F AVX512VL AVX512BW AVX512CD AVX512DQ AVX512ER AVX512PF
            AVX512_BF16 AVX512_BITALG AVX512_IFMA AVX512_VBMI AVX512_VBMI2 AVX512_VNNI AVX512_VPOPCNTDQ AVX512_4FMAPS
            AVX512_4VNNIW AVX512_FP16 AVX512_VP2INTERSECT AMX_TILE AMX_BF16 AMX_INT8 AMX_FP16 AMX_COMPLEX KNC SM3 SM4
            SHA512 CMPCCXADD""",
        "newer than the level, each with a CPUID bit of its own": """
            AESKLE WIDE_KL KL XSAVEC XSAVES PKU MPX CLFLUSHOPT CLWB CLDEMOTE PCOMMIT RDPID PTWRITE WAITPKG MOVDIRI
            MOVDIR64B ENQCMD SERIALIZE RTM HLE_OR_RTM TSXLDTRK CET_IBT CET_SS UINTR HRESET RAO_INT PREFETCHITI
            PREFETCHWT1 PCONFIG WBNOINVD WRMSRNS MSRLIST FRED LKGS TSE CL1INVMB UDBG""",
        "in no psABI level, and hidden from guests by hypervisors": "MONITOR",
        "virtualisation and enclaves: hvmx is the hypervisor": """
            VMX INVEPT INVVPID SVM SKINIT_OR_SVM SEV_ES SEV_SNP RMPQUERY TDX SMX SGX1 OSS INVLPGB""",
        "AMD's alone": "D3NOW D3NOWEXT SSE4A XOP FMA4 TBM LWP CLZERO MONITORX MCOMMIT RDPRU",
        "Cyrix's, Geode's and VIA's alone": """
            CYRIX_D3NOW CYRIX_DDI CYRIX_DMI CYRIX_EMMI CYRIX_FPU CYRIX_SHR CYRIX_SMINT CYRIX_SMINT_0F7E CYRIX_SMM
            PADLOCK_ACE PADLOCK_PHE PADLOCK_PMM PADLOCK_RNG PADLOCK_GMI PADLOCK_UNDOC CENTAUR_AIS""",
        "of one older processor only, or gone before the Pentium": """
            INTEL8086_ONLY INTEL286_ONLY INTEL386_ONLY INTEL386_A0_ONLY INTEL486_A_ONLY FPU287XL_ONLY FPU387SL_ONLY
            UMOV IA64""",
    }.items()
    for feature in features.split()
}
"""iced-x86's features that no level has, and why."""

ONLY_IN_64_BIT_MODE = (Code.SYSCALL, Code.SYSRETD)
"""Encodings that Intel's processors refuse outside of it, which iced-x86 does not say (SDM volume 2, SYSCALL)."""

LATER_IN_64_BIT_MODE: dict[int, str] = {Code.LAHF: "lahf", Code.SAHF: "lahf"}
"""Encodings that need a feature more in it, which iced-x86 does not say either (SDM volume 2, LAHF)."""

OTHER_FEATURE: dict[int, str] = {Code.PADDQ_MM_MMM64: "SSE2"}
"""Encodings that came with another feature than the one that iced-x86 has (SDM volume 1, section 5.6.3)."""

FIRST_REGISTER: dict[int, int] = {Code.MOV_R32_TR: 3, Code.MOV_TR_R32: 3}
"""The first register that exists, where iced-x86 begins with 0."""

_NAMES: dict[int, str] = {v: name for name, v in vars(CpuidFeature).items() if isinstance(v, int)}
_PREFIXES = {MandatoryPrefix.P66: b"\x66", MandatoryPrefix.PF3: b"\xf3", MandatoryPrefix.PF2: b"\xf2"}
_ESCAPES = {
    OpCodeTableKind.NORMAL: b"", OpCodeTableKind.T0F: b"\x0f", OpCodeTableKind.T0F38: b"\x0f\x38",
    OpCodeTableKind.T0F3A: b"\x0f\x3a",
}  # fmt: skip
_FILL = bytes(11)
_MODRMS = (0x00, 0x06, 0x05, 0xC0, 0xC1)
"""Memory and registers; 06 and 05 are addresses without a register in 16-bit and in wider code."""


@dataclass(frozen=True)
class Encoding:
    """One of iced-x86's encodings."""

    code: int
    """Its number, of ``iced_x86.Code``."""
    features: frozenset[str]
    """iced-x86's names of the features that it needs."""
    opcode: str
    instruction: str
    """Both as the SDM writes them."""
    examples: dict[int, bytes]
    """An instruction of it for each of the widths 16, 32 and 64 that has it."""

    @property
    def outside(self) -> str | None:
        """The reason why it belongs to no level, if it does not."""
        reasons = [OUTSIDE[name] for name in sorted(self.features) if name in OUTSIDE]
        return reasons[0] if reasons else None

    def belongs_to(self, level: Level) -> bool:
        """Whether the level has all that it needs."""
        return not self.outside and {FEATURES[name] for name in self.features} <= level.features

    @property
    def line(self) -> str:
        """For people: opcode, instruction, features."""
        return f"{self.opcode:24} {self.instruction:44} {' '.join(sorted(self.features))}"

    def missing(self, level: Level) -> tuple[int, ...]:
        """The code widths in which hvmx's decoder does not know it at a level."""
        features = feature_mask(level.features)
        widths = sorted(self.examples)
        if not {"lm", LATER_IN_64_BIT_MODE.get(self.code, "base")} <= level.features:
            widths = [width for width in widths if width < 64]
        return tuple(width for width in widths if decode_py(self.examples[width], width, features) is None)


def _examples(code: Any) -> dict[int, bytes]:
    """By code width: bytes that an Intel processor, as iced-x86 knows it, decodes as this encoding."""
    info = OpCodeInfo(code)
    found: dict[int, bytes] = {}
    for width, exists in ((16, info.intel_decoder16), (32, info.intel_decoder32), (64, info.intel_decoder64)):
        prefixes = _PREFIXES.get(info.mandatory_prefix, b"")
        if info.address_size not in (0, width):
            prefixes += b"\x67"
        if info.operand_size not in (0, 64, min(width, 32)):
            prefixes += b"\x66"
        for rex, opcode, modrm in product((b"", b"\x48"), (info.op_code, info.op_code | 1), _MODRMS):
            modrm |= FIRST_REGISTER.get(code, max(info.group_index, 0)) << 3 | max(info.rm_group_index, 0)
            start = prefixes + rex * (width == 64) + _ESCAPES[info.table]
            data = start + opcode.to_bytes(info.op_code_len, "big") + bytes([modrm, *_FILL])
            exists = exists and (width == 64 or code not in ONLY_IN_64_BIT_MODE)
            if exists and width not in found and Decoder(width, data, DecoderOptions.MOV_TR).decode().code == code:
                found[width] = data
    return found


@cache
def encodings() -> tuple[Encoding, ...]:
    """iced-x86's legacy encodings, of which all levels are made; VEX, EVEX, XOP and 3DNow! have none of them.

    Left out are those that are pairs of instructions (FSTENV is FWAIT and FNSTENV), and those that only other or
    older processors decode.
    """
    found = []
    codes: list[Any] = [value for value in vars(Code).values() if isinstance(value, int)]
    for code in sorted(codes):
        info = OpCodeInfo(code)
        other = info.decoder_option not in (DecoderOptions.NONE, DecoderOptions.MOV_TR)
        if not info.is_instruction or info.encoding != EncodingKind.LEGACY or info.fwait or other:
            continue
        instruction = Instruction()
        instruction.code = code
        features = frozenset(_NAMES[feature] for feature in instruction.cpuid_features())
        if code in OTHER_FEATURE:
            features = frozenset({OTHER_FEATURE[code]})
        examples = _examples(code)
        if examples:
            found.append(Encoding(code, features, info.op_code_string, info.instruction_string, examples))
    return tuple(found)


def missing(level: Level) -> list[tuple[Encoding, tuple[int, ...]]]:
    """The encodings of a level that hvmx does not implement, with the code widths in which it does not."""
    found = ((encoding, encoding.missing(level)) for encoding in encodings() if encoding.belongs_to(level))
    return [(encoding, widths) for encoding, widths in found if widths]
