"""Small loops whose core cycles were measured on the processor of the profile zen4: the model is near them.

Each isolates one thing that the processor does. Measured on an AMD EPYC (Zen 4, family 25 model 17) with
``hvmx.cost.native.measure``, per round of a loop that ends with DEC and JNZ.
"""

from dataclasses import dataclass

import pytest

from hvmx.cost import load_profile
from hvmx.cost.calibrate.assembler import assemble
from hvmx.validation.modelled import predict

ROUNDS = 500
NEAR = 0.08
"""As a share of what was measured."""

OTHERS = ("r8", "r9", "r10", "r11")


@dataclass(frozen=True)
class Code:
    """What ``predict`` takes in place of a program of the suite."""

    code: bytes
    name: str = "loop"
    bits: int = 64

    def image(self) -> bytes:
        return self.code


def cycles(body: str, setup: str = "") -> float:
    """Guest cycles of a round."""
    round_ = assemble(f"{body}; dec r13")
    back = -(len(round_) + 6)
    loop = round_ + b"\x0f\x85" + back.to_bytes(4, "little", signed=True)
    start = assemble(f"mov rsi, rdi; sub rsp, 1024; {setup}; mov r13d, {ROUNDS}")
    program = Code(start + loop + assemble("add rsp, 1024; ret"))
    return predict(program, load_profile("zen4")).guest_cycles / ROUNDS  # type: ignore[arg-type]


def repeated(text: str, times: int) -> str:
    return "; ".join([text] * times)


@pytest.mark.parametrize(
    ("body", "measured"),
    [
        ("shl rax, 1; add rax, 1; shl rax, 1; add rax, 1", 4.00),
        ("add rax, 1; add rax, 1; add rax, 1; add rax, 1; imul r8, rax, 3", 4.01),
        ("add rax, 1; lea r8, [rax+3]", 1.00),
        ("imul rax, r10; imul edx, edx, 5; add rax, r9; add edx, 7", 3.99),
    ],
)
def test_a_chain_takes_its_latencies_where_nothing_is_in_its_way(body: str, measured: float) -> None:
    assert cycles(body) == pytest.approx(measured, rel=NEAR)


@pytest.mark.parametrize(
    ("body", "measured"),
    [
        ("shl rax, 1; add rax, 1; shl rax, 1; add rax, 1; imul r8, rax, 3", 4.50),
        (
            "mov rdx, rax; shr rdx, 12; xor rax, rdx; mov rdx, rax; shl rdx, 25; xor rdx, rax; mov rax, rdx; shr rax, 27; "
            "xor rax, rdx; mov rdx, rax; imul rdx, rbx; add r8, rdx",
            7.16,
        ),
    ],
)
def test_what_is_older_and_has_the_same_pipe_delays_a_chain(body: str, measured: float) -> None:
    assert cycles(body) == pytest.approx(measured, rel=0.13)


@pytest.mark.parametrize(
    ("body", "measured"),
    [
        ("mov [rsi], rax; mov rax, [rsi]; add rax, 1", 1.00),
        ("mov [rsi], eax; mov eax, [rsi]; add rax, 1", 1.00),
        ("mov [rsi], rax; add rax, [rsi]", 8.10),
        ("mov [rsi], rax; movzx eax, word ptr [rsi]; add rax, 1", 7.68),
        ("mov [rsi], eax; movsxd rax, dword ptr [rsi]; add rax, 1", 8.38),
        ("movaps [rsi], xmm0; movaps xmm0, [rsi]", 9.00),
    ],
)
def test_only_whole_loads_find_their_store_by_renaming(body: str, measured: float) -> None:
    assert cycles(repeated(body, 4)) / 4 == pytest.approx(measured, rel=NEAR)


def test_a_read_modify_write_is_renamed_too() -> None:
    assert cycles(repeated("add qword ptr [rsi], 1", 4)) / 4 == pytest.approx(1.00, rel=NEAR)


@pytest.mark.parametrize(("calls", "measured"), [(1, 4.98), (2, 8.97), (4, 16.96)])
def test_calls_and_returns_are_fetched_past_in_two_cycles_each(calls: int, measured: float) -> None:
    # The function is a RET that the loop jumps over.
    to_function = [f"call +{5 * (calls - 1 - number) + 2}" for number in range(calls)]
    assert cycles("; ".join(to_function) + "; jmp +1; ret") == pytest.approx(measured, abs=1.1)


@pytest.mark.parametrize(("jumps", "measured"), [(1, 2.00), (4, 4.99), (8, 8.99)])
def test_a_taken_branch_a_cycle(jumps: int, measured: float) -> None:
    assert cycles(repeated("jmp +3; nop; nop; nop", jumps)) == pytest.approx(measured, rel=NEAR)


def test_fetching_gets_ahead_of_dispatch_but_not_far() -> None:
    assert cycles("; ".join([repeated("mov rax, rbx", 96), repeated("jmp +0", 8)])) == pytest.approx(19.99, rel=NEAR)


@pytest.mark.parametrize(("leas", "measured"), [(3, 3.57), (4, 4.51)])
def test_a_fused_branch_leaves_the_pipe_of_its_comparison_free(leas: int, measured: float) -> None:
    body = "; ".join(["test rbx, rbx", "jne +0", *(f"lea {name}, [rsi+1]" for name in OTHERS[:leas])])
    assert cycles(repeated(body, 4)) == pytest.approx(measured, rel=0.2)


ADDITIONS = [f"add {name}, 1" for name in (*OTHERS, "rbx", "rcx")]


@pytest.mark.parametrize(("additions", "measured"), [(0, 1.00), (2, 1.63), (3, 1.83), (4, 2.00), (5, 2.30), (6, 2.50)])
def test_a_move_from_a_vector_register_holds_up_all_that_adds(additions: int, measured: float) -> None:
    body = "; ".join(["pmovmskb eax, xmm0", *ADDITIONS[:additions]])
    assert cycles(repeated(body, 4)) / 4 == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize(
    ("body", "measured"),
    [
        ("movd eax, xmm0; movups [rsi], xmm1", 1.00),
        ("movd xmm0, eax; movd ecx, xmm1", 1.20),
        ("movd xmm0, eax; mov [rsi], rbx; mov [rsi+8], rbx", 1.57),
        ("movd dword ptr [rsi], xmm1; movd dword ptr [rsi+4], xmm1", 2.00),
    ],
)
def test_moves_between_kinds_of_register_and_stores_share_what_they_share(body: str, measured: float) -> None:
    assert cycles(repeated(body, 4)) / 4 == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize(("others", "measured"), [(120, 207), (160, 369)])
def test_two_chains_overlap_while_vector_registers_last(others: int, measured: float) -> None:
    """Per round: two chains of eight roots, each with so many additions behind it."""
    between = "; ".join(f"paddd xmm{2 + number % 12}, xmm{2 + number % 12}" for number in range(others))
    round_ = "; ".join(f"{repeated(f'sqrtsd xmm{chain}, xmm{chain}', 8)}; {between}" for chain in (0, 1))
    assert cycles(round_) == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("store", "moves", "additions"),
    [
        ("mov [rsi+64], rbx", 1.04, 1.09),
        ("mov [rsi+rdi+64], rbx", 1.25, 1.31),
        ("mov [rsi+rdi+64], bl", 1.25, 1.31),
        ("movups [rsi+rdi+64], xmm0", 1.04, 1.09),
    ],
)
def test_a_store_by_an_index_takes_another_slot_and_an_alu(store: str, moves: float, additions: float) -> None:
    """With five moves, which take slots only, and with four additions."""
    with_moves = f"{store}; {repeated('mov r8, r9', 5)}"
    assert cycles(repeated(with_moves, 4), "mov edi, 0") / 4 == pytest.approx(moves, rel=0.1)
    with_additions = "; ".join([store, *ADDITIONS[:4]])
    assert cycles(repeated(with_additions, 4), "mov edi, 0") / 4 == pytest.approx(additions, rel=0.1)


def test_a_locked_operation_lets_others_overlap() -> None:
    assert cycles("lock add [rsi], rax; " + repeated("add rcx, 1", 12)) == pytest.approx(12.0, rel=NEAR)
    assert cycles("lock add [rsi], rax; lock add [rsi+64], rax") == pytest.approx(15.0, rel=NEAR)


def test_the_window_holds_micro_operations_not_cycles() -> None:
    # A chain of 145 cycles in 42 micro-operations, and the next does not depend on it: seven are in the window at a time.
    chain = "mov rax, rbx; " + repeated("imul rax, rcx", 48)
    assert cycles(chain) < 48 * 3 / 2
