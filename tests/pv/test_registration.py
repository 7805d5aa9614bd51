"""Hypercalls of an embedder's own: from C, Cython and Python, on numbers that the ABI leaves free."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import hvmx
from hvmx import Machine, StopKind
from hvmx.pv.xen import FIRST_FREE, Call

from .harness import ROOT
from .kernel import assemble

EFAULT, ENOSYS = -14 & (1 << 64) - 1, -38 & (1 << 64) - 1


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """tests/extension/, built as its author would."""
    directory = tmp_path_factory.mktemp("extension")
    for source in (ROOT / "tests" / "extension").iterdir():
        if source.is_file():
            shutil.copy(source, directory)
    # Against the hvmx that is tested, be it the sources or installed, in whatever folder.
    imported = str(Path(hvmx.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [imported, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (module_path,) = directory.glob("embedder*.so")
    spec = importlib.util.spec_from_file_location("embedder", module_path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def machine_for(code: str, data: str = "") -> Machine:
    machine = Machine("16M", board=False)
    machine.load(assemble(code, data=data), pv=True)
    return machine


CALL_ADD = """
    mov $40, %edi
    mov $2, %esi
    lea total(%rip), %rdx
    hypercall 64
    mov %rax, %rbx
    mov total(%rip), %rbp
"""
TOTAL = "total: .quad 0\n"


def test_a_cython_function_answers_a_number(embedder: ModuleType) -> None:
    machine = machine_for(CALL_ADD, TOTAL)
    machine.hypercalls.register(64, embedder.add)
    assert machine.run().kind is StopKind.POWEROFF
    assert (machine.cpu.rbx, machine.cpu.rbp) == (0, 42)
    assert machine.hypercalls.counts()["hypercall 64"] == 1
    assert machine.hypercalls.slow == 0


def test_a_c_function_reads_the_guest_and_charges_for_it(embedder: ModuleType) -> None:
    code = """
        lea text(%rip), %rdi
        mov $5, %esi
        hypercall 65
        mov %rax, %rbx
        mov $0x1000, %edi
        mov $5, %esi
        hypercall 65
        mov %rax, %rbp
    """
    cycles = []
    for charged in (False, True):
        machine = machine_for(code, 'text: .ascii "hello"\n')
        if charged:
            machine.hypercalls.register(65, embedder.checksum)
        assert machine.run().kind is StopKind.POWEROFF
        cycles.append(machine.cpu.cycles)
    assert machine.cpu.rbx == sum(b"hello")
    assert machine.cpu.rbp == EFAULT
    assert cycles[1] - cycles[0] >= 2 * 5


def test_a_python_function_is_the_slow_way_and_counted_so() -> None:
    seen: list[tuple[int, bytes]] = []

    def answer(call: Call) -> int:
        seen.append((call.number, call.read(call.args[0], 5)))
        call.write(call.args[0], b"HELLO")
        with pytest.raises(ValueError, match="0x1000"):
            call.read(0x1000, 4)
        return 7

    machine = machine_for(
        "lea text(%rip), %rdi\n hypercall 70\n mov %rax, %rbx\n mov text(%rip), %ebp\n",
        'text: .ascii "hello"\n',
    )
    machine.hypercalls.register(70, answer)
    assert machine.run().kind is StopKind.POWEROFF
    assert seen == [(70, b"hello")]
    assert (machine.cpu.rbx, machine.cpu.rbp) == (7, int.from_bytes(b"HELL", "little"))
    assert machine.hypercalls.slow == 1


def test_what_a_python_function_raises_comes_out_of_run_and_the_guest_goes_on() -> None:
    refusals = [KeyError("no"), KeyError("not yet")]

    def answer(call: Call) -> int:
        if refusals:
            raise refusals.pop()
        return 7

    machine = machine_for("hypercall 70\n mov %rax, %rbx\n")
    machine.hypercalls.register(70, answer)
    for reason in ("not yet", "no"):
        with pytest.raises(KeyError, match=reason):
            machine.run()
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cpu.rbx == 7
    assert machine.hypercalls.slow == 1 and machine.hypercalls.unanswered == 0


def test_a_call_is_of_no_use_after_it_ended() -> None:
    kept: list[Call] = []

    def answer(call: Call) -> int:
        kept.append(call)
        return 0

    machine = machine_for("hypercall 70\n")
    machine.hypercalls.register(70, answer)
    machine.run()
    with pytest.raises(RuntimeError, match="over"):
        kept[0].read(0, 1)


def test_a_taken_number_is_refused_by_name(embedder: ModuleType) -> None:
    machine = machine_for("")
    with pytest.raises(ValueError, match="hypercall 17 has a function already"):
        machine.hypercalls.register(17, embedder.add)
    machine.hypercalls.register(FIRST_FREE, embedder.add)
    with pytest.raises(ValueError, match=f"hypercall {FIRST_FREE} has a function already"):
        machine.hypercalls.register(FIRST_FREE, lambda call: 0)
    with pytest.raises(ValueError, match="hypercall 256 is beyond the table"):
        machine.hypercalls.register(256, lambda call: 0)
    with pytest.raises(TypeError, match="hypercall 71"):
        machine.hypercalls.register(71, 5)


def test_numbers_without_a_function_get_enosys_and_are_counted() -> None:
    machine = machine_for(
        "hypercall 27\n mov %rax, %rbx\n hypercall 100\n mov %rax, %rbp\n hypercall 5000\n mov %rax, %r12\n"
    )
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cpu.rbx == machine.cpu.rbp == machine.cpu.r12 == ENOSYS
    counts = machine.hypercalls.counts()
    assert (counts["xsm_op"], counts["hypercall 100"], counts["beyond the table"]) == (1, 1, 1)
    assert machine.hypercalls.unanswered == 3


def test_operations_that_a_function_has_not_are_counted_as_unanswered() -> None:
    machine = machine_for(
        """
        mov $99, %edi
        hypercall 32
        mov %rax, %rbx
        mov $99, %edi
        hypercall 29
        mov $0, %edi
        hypercall 17
        lea calls(%rip), %rdi
        mov $2, %esi
        hypercall 13
        """,
        "calls: .quad 12, 0, 63, 0, 0, 0, 0, 0\n .quad 17, 0, 0, 0, 0, 0, 0, 0\n",
    )
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cpu.rbx == ENOSYS
    assert machine.hypercalls.unanswered == 3
    assert machine.statistics()["hypercalls_unanswered"] == 3


# --- VMCALL -------------------------------------------------------------------------------------------------------------
KVM_ENOSYS = -1000 & 0xFFFFFFFF


def vmcall_machine(number: int, ebx: int = 0, ecx: int = 0) -> Machine:
    """A flat 32-bit guest that makes one VMCALL and halts."""
    code = bytes([0xB8, *number.to_bytes(4, "little"), 0xBB, *ebx.to_bytes(4, "little")])
    code += bytes([0xB9, *ecx.to_bytes(4, "little"), 0x0F, 0x01, 0xC1, 0xF4])
    machine = Machine("1M", board=False)
    machine.load(code, load_address=0x1000, entry=0x1000, bits=32)
    return machine


def test_kvms_calls_are_answered_by_vmcall() -> None:
    machine = vmcall_machine(1)
    assert machine.run().kind is StopKind.HALTED
    assert machine.cpu.rax == 0
    assert machine.hypercalls.counts() == {"vapic_poll_irq": 1}


def test_an_unknown_vmcall_gets_kvms_enosys() -> None:
    machine = vmcall_machine(99)
    machine.run()
    assert machine.cpu.rax == KVM_ENOSYS
    assert machine.hypercalls.unanswered == 1


def test_clock_pairing_gives_wall_clock_and_tsc_of_the_guests_own_time() -> None:
    machine = vmcall_machine(9, 0x2000)
    machine.run()
    assert machine.cpu.rax == 0
    seconds, nanoseconds, tsc = machine.memory[0x2000:0x2018].view("<i8")
    hz = machine.profile.hz
    assert 0 < tsc <= machine.cpu.cycles
    assert (seconds - 1_577_836_800) * 10**9 + nanoseconds == tsc * 10**9 // hz
    beyond = vmcall_machine(9, 0x100000 - 8)
    beyond.run()
    assert beyond.cpu.rax == -14 & 0xFFFFFFFF


def test_an_embedders_vmcall_has_four_arguments(embedder: ModuleType) -> None:
    seen: list[tuple[int, ...]] = []
    machine = vmcall_machine(80, 11, 12)
    machine.hypercalls.register(80, lambda call: seen.append(call.args) or 5)
    machine.run()
    assert seen[0][:2] == (11, 12) and seen[0][4:] == (0, 0)
    assert machine.cpu.rax == 5
