"""How the latency and the throughput of each cost class are measured: a table of instructions.

An instruction is a template. In a *chain* all copies have the same register, so each waits for the one before; among
*independent* copies it goes round through several. ``{r}``, ``{d}``, ``{w}`` and ``{b}`` are the same general register
in 64, 32, 16 and 8 bits, ``{x}`` is an XMM, ``{m}`` an MMX and ``{s}`` an x87 register. Where results are of another kind
than operands (flags, other registers) or would run out, the chain is written out; the classes of the other instructions in
it are measured by chains of their own, and what those take is taken off (``less``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

_GENERAL = (
    ("rax", "eax", "ax", "al"), ("rbp", "ebp", "bp", "bpl"), ("r8", "r8d", "r8w", "r8b"), ("r9", "r9d", "r9w", "r9b"),
    ("r10", "r10d", "r10w", "r10b"), ("r11", "r11d", "r11w", "r11b"),
)  # fmt: skip
"""What templates use; RBX, RCX and RDX are for constants, counts and the like."""

_XMM = tuple(f"xmm{number}" for number in range(12))
_MMX = tuple(f"mm{number}" for number in range(6))
_X87 = tuple(f"st({number})" for number in range(1, 7))

DATA = struct.pack("<4f4f2d2d4f", *[1.7] * 4, *[1.3] * 4, *[1.7] * 2, *[1.3] * 2, *[1.0] * 4).ljust(512, b"\0")
"""At RSI: numbers that neither grow out of their format nor make a division or a root end early."""

_SINGLE, _DOUBLE = 0, 32

INTEGERS = (
    "mov eax, 3; mov ebx, 1; mov ecx, 1; mov edx, 0; mov ebp, 5; mov r8, r12; mov r9, r12; mov r10, r12; mov r11, r12"
)


def _vectors(at: int) -> str:
    """All template registers are 1.7, XMM12 is 1.3, XMM13 is 1.0, XMM14 is 0."""
    first = "; ".join(f"movups {register}, [rsi+{at}]".replace("+0", "") for register in _XMM)
    return f"{first}; movups xmm12, [rsi+{at + 16}]; movups xmm13, [rsi+64]; pxor xmm14, xmm14; {INTEGERS}"


SINGLES, DOUBLES = _vectors(_SINGLE), _vectors(_DOUBLE)
_KINDS = (
    ("ss", "single", SINGLES), ("ps", "single", SINGLES), ("sd", "double", DOUBLES), ("pd", "double", DOUBLES),
)  # fmt: skip
X87 = f"fninit; {'fldpi; ' * 6}fld1; {INTEGERS}"
"""ST(1) to ST(6) are pi, ST(0) is 1."""

# A dividend, and a divisor of half its length: the quotient has the other half.
_DIVISIONS = {
    8: (0x0834, 0x21), 16: (0x1234, 0x45), 32: (0x1234_5678, 0x4567), 64: (0x0123_4567_89AB_CDEF, 0x4567_89AB),
}  # fmt: skip
_REGISTERS = {8: ("bl", "ax", "r8w"), 16: ("bx", "ax", "r8w"), 32: ("ebx", "eax", "r8d"), 64: ("rbx", "rax", "r8")}


@dataclass(frozen=True)
class Probe:
    """How a cost class is measured."""

    cost_class: str
    template: str
    chain: str | None = None
    """The template's own with one register, unless given; empty where nothing waits for a result."""
    less: tuple[str, ...] = ()
    """The classes of what else is in the chain."""
    per: int = 1
    """Instructions of the class in the chain."""
    pair: str = ""
    """The class of the other half of the chain, which goes to another kind of register and back."""
    throughput: bool = True
    """Whether independent copies are independent: not where all share a flag or a fixed register."""
    setup: str = INTEGERS
    feature: str = ""
    """The flag in /proc/cpuinfo that the processor needs for it, where x86-64 itself does not have it."""

    @property
    def chained(self) -> str:
        """The text of one link of the chain."""
        return _fill(self.template, 0) if self.chain is None else self.chain

    @property
    def independent(self) -> str:
        """The text of as many copies as there are registers."""
        return "; ".join(self.independents)

    @property
    def independents(self) -> tuple[str, ...]:
        """The copies."""
        count = len(_XMM) if "{x}" in self.template else len(_GENERAL)
        return tuple(_fill(self.template, number) for number in range(count))

    @property
    def others(self) -> int:
        """Instructions in the template besides the one that is meant."""
        return self.template.count("; ")


def _fill(template: str, number: int) -> str:
    r, d, w, b = _GENERAL[number % len(_GENERAL)]
    return template.format(r=r, d=d, w=w, b=b, x=_XMM[number % len(_XMM)], m=_MMX[number % len(_MMX)], s=_X87[number % len(_X87)])


def _divisions(mnemonic: str) -> Iterable[Probe]:
    """The remainder is dropped and the dividend made anew from the quotient by an addition, which is taken off."""
    for width, (dividend, divisor) in _DIVISIONS.items():
        source, accumulator, anew = _REGISTERS[width]
        quotient = dividend // divisor if width > 8 else dividend % divisor << 8 | dividend // divisor
        clear = "" if width == 8 else "xor edx, edx; "
        whole = "mov rax, r9" if width == 64 else "mov eax, r9d"
        mask = (1 << max(width, 16)) - 1
        yield Probe(
            f"{mnemonic}{width}",
            f"{clear}{whole}; {mnemonic} {source}",
            f"{clear}{mnemonic} {source}; add {accumulator}, {anew}",
            ("alu",),
            setup=f"mov rax, {dividend}; mov rbx, {divisor}; mov r8, {dividend - quotient & mask}; mov r9, {dividend}",
        )


def _multiplications() -> Iterable[Probe]:
    for width, source in ((8, "bl"), (16, "bx"), (32, "ebx"), (64, "rbx")):
        yield Probe(f"mul{width}", f"mov eax, ecx; mul {source}", f"mul {source}")


PROBES = (
    Probe("alu", "add {r}, rbx"),
    Probe("carry", "adc {r}, rbx", throughput=False),
    Probe("inc", "inc {r}"),
    Probe("lea", "lea {r}, [{r}+rbx]"),
    Probe("lea-complex", "lea {r}, [{r}+rbx+8]"),
    Probe("extend", "movsx {r}, {b}"),
    Probe("bswap32", "bswap {d}"),
    Probe("bswap64", "bswap {r}"),
    Probe("cmov", "cmovne {r}, rbx"),
    Probe("setcc", "setne {b}", "test al, al; setne al", ("alu",)),
    Probe("flag", "cmc", throughput=False),
    Probe("flag-move", "sahf", "sahf; lahf", per=2, throughput=False, feature="lahf_lm"),
    Probe("shift", "shl {r}, 3"),
    Probe("shift-cl", "shl {r}, cl"),
    Probe("shift-double", "shld {r}, rbx, 3"),
    Probe("shift-double-cl", "shld {r}, rbx, cl"),
    Probe("rotate", "rol {r}, 3"),
    Probe("rotate-cl", "rol {r}, cl"),
    Probe("rotate-carry", "rcl {r}, 1", throughput=False),
    Probe("rotate-carry-count", "rcl {r}, 3", throughput=False),
    Probe("bit", "bt {r}, rbx", "bt rax, rbx; sbb rax, rax", ("carry",)),
    Probe("bit-change", "bts {r}, rbx"),
    Probe("bit-scan", "bsf {r}, rbx", "bsf rax, rax; or rax, rbp", ("alu",)),
    Probe("popcnt", "popcnt {r}, {r}", feature="popcnt"),
    Probe("crc32", "crc32 {r}, rbx", feature="sse4_2"),
    Probe("imul", "imul {r}, rbx"),
    *_multiplications(),
    *_divisions("div"),
    *_divisions("idiv"),
    Probe("xchg", "xchg rbx, {r}", "xchg rbx, rax", throughput=False),
    Probe("xadd", "xadd {r}, rbx"),
    Probe("cmpxchg", "cmpxchg {r}, rcx", "cmpxchg rbx, rcx", throughput=False),
    Probe("sse-from-general", "movd {x}, ebx", "movd xmm0, eax; movd eax, xmm0", pair="sse-to-general"),
    Probe("sse-to-general", "movd {d}, xmm0", "movd xmm0, eax; movd eax, xmm0", pair="sse-from-general"),
    Probe("sse-move-scalar", "movss {x}, xmm12", setup=SINGLES),
    Probe("sse-add", "addps {x}, xmm12", setup=SINGLES),
    Probe("sse-multiply-single", "mulps {x}, xmm13", setup=SINGLES),
    Probe("sse-multiply-double", "mulpd {x}, xmm12", setup=DOUBLES),
    Probe("sse-minimum", "minps {x}, xmm12", setup=SINGLES),
    Probe("sse-compare", "cmpps {x}, xmm12, 1", setup=SINGLES),
    Probe(
        "sse-compare-flags", "comiss {x}, xmm12", "comiss xmm0, xmm12; sbb eax, eax; movd xmm0, eax",
        ("carry", "sse-from-general"), setup=SINGLES,
    ),
    Probe("sse-reciprocal", "rcpps {x}, {x}", setup=SINGLES),
    *(Probe(f"sse-divide-{kind}", f"div{kind} {{x}}, xmm12", f"div{kind} xmm0, xmm12; mul{kind} xmm0, xmm12",
            (f"sse-multiply-{width}",), setup=setup) for kind, width, setup in _KINDS),
    *(Probe(f"sse-root-{kind}", f"sqrt{kind} {{x}}, {{x}}", f"sqrt{kind} xmm0, xmm0; mul{kind} xmm0, xmm0",
            (f"sse-multiply-{width}",), setup=setup) for kind, width, setup in _KINDS),
    Probe("sse-round", "roundps {x}, {x}, 0", setup=SINGLES, feature="sse4_1"),
    Probe("sse-horizontal", "haddps {x}, xmm13", setup=SINGLES, feature="pni"),
    Probe("sse-dot-product-ps", "dpps {x}, xmm13, 113", setup=SINGLES, feature="sse4_1"),
    Probe("sse-dot-product-pd", "dppd {x}, xmm13, 49", setup=SINGLES, feature="sse4_1"),
    Probe("sse-convert", "cvtps2dq {x}, xmm12", "cvtps2dq xmm0, xmm0; cvtdq2ps xmm0, xmm0", per=2, setup=SINGLES),
    Probe("sse-convert-widen", "cvtps2pd {x}, xmm12", "cvtps2pd xmm0, xmm0; cvtpd2ps xmm0, xmm0",
          pair="sse-convert-narrow", setup=SINGLES),
    Probe("sse-convert-narrow", "cvtpd2ps {x}, xmm12", "cvtps2pd xmm0, xmm0; cvtpd2ps xmm0, xmm0",
          pair="sse-convert-widen", setup=SINGLES),
    Probe(
        "sse-convert-from-general", "cvtsi2sd {x}, ebx", "cvtsi2sd xmm0, eax; movd eax, xmm0", ("sse-to-general",),
    ),
    Probe("sse-convert-to-general", "cvttsd2si {d}, xmm12", "cvttsd2si eax, xmm0; movd xmm0, eax", ("sse-from-general",)),
    Probe("sse-integer", "paddd {x}, xmm12", setup=SINGLES),
    Probe("sse-logic", "por {x}, xmm12", setup=SINGLES),
    Probe("sse-shift", "pslld {x}, 1", setup=SINGLES),
    Probe("sse-shift-count", "pslld {x}, xmm14", setup=SINGLES),
    Probe("sse-shuffle", "pshufd {x}, {x}, 27", setup=SINGLES),
    Probe("sse-shuffle-bytes", "pshufb {x}, xmm12", setup=SINGLES, feature="ssse3"),
    Probe("sse-pack", "packsswb {x}, xmm12", setup=SINGLES),
    Probe("sse-extend", "pmovzxbw {x}, {x}", setup=SINGLES, feature="sse4_1"),
    Probe("sse-blend", "blendps {x}, xmm12, 5", setup=SINGLES, feature="sse4_1"),
    Probe("sse-blend-variable", "pblendvb {x}, xmm12, xmm0", setup=SINGLES, feature="sse4_1"),
    Probe("sse-integer-multiply", "pmullw {x}, xmm12", setup=SINGLES),
    Probe("sse-integer-multiply-double", "pmulld {x}, xmm12", setup=SINGLES, feature="sse4_1"),
    Probe("sse-integer-horizontal", "phaddd {x}, xmm12", setup=SINGLES, feature="ssse3"),
    Probe("sse-compare-quad", "pcmpgtq {x}, xmm12", setup=SINGLES, feature="sse4_2"),
    Probe("sse-difference", "psadbw {x}, xmm12", setup=SINGLES),
    Probe("sse-difference-multiple", "mpsadbw {x}, xmm12, 0", setup=SINGLES, feature="sse4_1"),
    Probe("sse-minimum-position", "phminposuw {x}, {x}", setup=SINGLES, feature="sse4_1"),
    Probe("sse-mask", "movmskps {d}, xmm12", "movmskps eax, xmm0; movd xmm0, eax", ("sse-from-general",), setup=SINGLES),
    Probe("sse-extract", "pextrw {d}, xmm12, 0", "pextrw eax, xmm0, 0; movd xmm0, eax", ("sse-from-general",), setup=SINGLES),
    Probe("sse-insert", "pinsrw {x}, ebx, 0", "pinsrw xmm0, eax, 0; movd eax, xmm0", ("sse-to-general",), setup=SINGLES),
    Probe(
        "sse-test", "ptest {x}, xmm12", "ptest xmm0, xmm12; sbb eax, eax; movd xmm0, eax",
        ("carry", "sse-from-general"), setup=SINGLES, feature="sse4_1",
    ),
    Probe(
        "sse-string-implicit-index", "pcmpistri {x}, xmm12, 0", "pcmpistri xmm0, xmm12, 0; movd xmm0, ecx",
        ("sse-from-general",), setup=SINGLES, feature="sse4_2",
    ),
    Probe("sse-string-implicit-mask", "pcmpistrm {x}, xmm12, 0", "pcmpistrm xmm0, xmm12, 0", setup=SINGLES, feature="sse4_2"),
    Probe(
        "sse-string-explicit-index", "pcmpestri {x}, xmm12, 0", "pcmpestri xmm0, xmm12, 0; movd xmm0, ecx",
        ("sse-from-general",), setup=SINGLES, feature="sse4_2",
    ),
    Probe("sse-string-explicit-mask", "pcmpestrm {x}, xmm12, 0", "pcmpestrm xmm0, xmm12, 0", setup=SINGLES, feature="sse4_2"),
    Probe("aes", "aesenc {x}, xmm12", setup=SINGLES, feature="aes"),
    Probe("aes-inverse", "aesimc {x}, {x}", setup=SINGLES, feature="aes"),
    Probe("aes-key", "aeskeygenassist {x}, {x}, 1", setup=SINGLES, feature="aes"),
    Probe("clmul", "pclmulqdq {x}, xmm12, 0", setup=SINGLES, feature="pclmulqdq"),
    Probe("mmx-to-sse", "movq2dq {x}, mm0", "movq2dq xmm0, mm0; movdq2q mm0, xmm0", per=2, setup=SINGLES),
    Probe("mmx-convert", "cvtpi2ps {x}, mm0", "cvtpi2ps xmm0, mm0; cvttps2pi mm0, xmm0", per=2, setup=SINGLES),
    Probe("mmx-to-general", "movd {d}, mm0", "movd mm0, eax; movd eax, mm0", pair="mmx-from-general"),
    Probe("mmx-from-general", "movd {m}, ebx", "movd mm0, eax; movd eax, mm0", pair="mmx-to-general"),
    Probe("lods", "lodsb", throughput=False),
    Probe("stos", "stosb", throughput=False),
    Probe("scas", "scasb", throughput=False),
    Probe("movs", "movsb", throughput=False),
    Probe("cmps", "cmpsb", throughput=False),
    Probe("x87-add", "fadd {s}, st", "fadd st, st(1)", setup=X87),
    Probe("x87-multiply", "fmul {s}, st", "fmul st, st(1)", setup=X87),
    Probe("x87-divide", "fdiv {s}, st", "fdiv st, st(1); fmul st, st(1)", ("x87-multiply",), setup=X87),
    Probe("x87-root", "fsqrt", "fsqrt; fmul st, st(0)", ("x87-multiply",), setup=f"{X87}; fadd st, st(1)", throughput=False),
    Probe("x87-sign", "fchs", setup=X87, throughput=False),
    Probe("x87-round", "frndint", setup=X87, throughput=False),
    Probe("x87-scale", "fscale", setup=X87, throughput=False),
    Probe("x87-move-condition", "fcmovne st, st(1)", setup=X87, throughput=False),
    Probe("x87-sine", "fsin", setup=X87, throughput=False),
    Probe("x87-sine-cosine", "fsincos; fstp st(0)", setup=X87, throughput=False),
    Probe("x87-tangent", "fptan; fstp st(0)", setup=X87, throughput=False),
    Probe("x87-arctangent", "fld1; fpatan", setup=X87, throughput=False),
    Probe("x87-logarithm", "fldpi; fyl2x", setup=X87, throughput=False),
    Probe("x87-power", "f2xm1", setup=X87, throughput=False),
    Probe("x87-extract", "fxtract; fstp st(1)", setup=X87, throughput=False),
)  # fmt: skip
"""Classes whose results something waits for."""

REPEATED = (
    Probe("pause", "pause"),
    Probe("rdtsc", "rdtsc"),
    Probe("rdtscp", "rdtscp", feature="rdtscp"),
    Probe("fence", "mfence"),
    Probe("fence-load", "lfence"),
    Probe("fence-store", "sfence"),
    Probe("cpuid", "mov eax, 0; cpuid"),
    Probe("xgetbv", "xgetbv", setup="mov ecx, 0", feature="xsave"),
    Probe("rdrand", "rdrand {r}", feature="rdrand"),
    Probe("rdseed", "rdseed {r}", feature="rdseed"),
    Probe("popf", "pushfq; popfq", less=("pushf",)),
    Probe("pushf", "pushfq; add rsp, 8"),
    Probe("direction-flag", "cld"),
    Probe("segment", "mov es, bx", setup="mov ebx, 43"),
    Probe("mov-segment", "mov {d}, es"),
    Probe("segment-check", "verr bx", setup="mov ebx, 43"),
    Probe("fxsave", "fxsave [rsi]"),
    Probe("fxrstor", "fxrstor [rsi]", setup="fxsave [rsi]"),
    Probe("xsave", "xsave [r12]", setup="mov eax, 3; mov edx, 0", feature="xsave"),
    Probe("xrstor", "xrstor [r12]", setup="mov eax, 3; mov edx, 0; xsave [r12]", feature="xsave"),
    Probe("emms", "emms"),
    Probe("enter", "enter 16, 0; leave"),
    Probe("cmpxchg8b", "cmpxchg8b qword ptr [rsi]"),
    Probe("cmpxchg16b", "cmpxchg16b [rsi]", feature="cx16"),
    Probe("x87-control-load", "fldcw [r12]", setup="fninit; fnstcw [r12]"),
    Probe("mxcsr-load", "ldmxcsr [r12]", setup="stmxcsr [r12]"),
    Probe("x87-state-store", "fnsave [r12]"),
    Probe("x87-state-load", "frstor [r12]", setup="fninit; fnsave [r12]"),
    Probe("x87-environment-store", "fnstenv [r12]"),
    Probe("x87-environment-load", "fldenv [r12]", setup="fninit; fnstenv [r12]"),
    Probe("x87-bcd-load", "fbld tbyte ptr [r12]; fstp st(0)", setup="fninit"),
    Probe("x87-bcd-store", "fld1; fbstp tbyte ptr [r12]", setup="fninit"),
    Probe("x87-initialise", "fninit"),
    Probe("x87-clear", "fnclex", setup="fninit"),
    Probe("x87-status", "fnstsw ax", setup="fninit"),
    Probe("x87-compare", "ftst", setup=X87),
    Probe("x87-compare-flags", "fucomi st, st(1)", setup=X87),
    Probe("x87-examine", "fxam", setup=X87),
    Probe("x87-stack", "fincstp", setup="fninit"),
    Probe("x87-wait", "wait", setup="fninit"),
    Probe("x87-control-store", "fnstcw [r12]", setup="fninit"),
    Probe("mxcsr-store", "stmxcsr [r12]"),
    Probe("movbe", "movbe {r}, [rsi]", feature="movbe"),
    Probe("branch", "je +0", setup="cmp r12, rsp"),
    Probe("clflush", "clflush [rsi]", feature="clflush"),
)
"""Classes of which one waits for the other, or that have no result: what one takes among its like."""
