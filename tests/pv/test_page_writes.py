"""An ordinary instruction that writes to a page table, which the hypervisor makes good: what it costs."""

from __future__ import annotations

from hvmx import Machine, StopKind
from hvmx.cost import FRACTION

from .kernel import assemble

#: Stores the first entry of the first table of level 1, which hvmx puts behind those of the levels above, as it is:
#: there is nothing to update.
STORE = """
    mov start_info(%rip), %rbx
    mov 88(%rbx), %rdi              # pt_base
    add $0x3000, %rdi
    mov (%rdi), %rax
    mov %rax, (%rdi)
    mov %rax, %r12
    mov (%rdi), %rbp
"""


def run(code: str) -> Machine:
    machine = Machine("16M", board=False)
    machine.load(assemble(code), pv=True)
    assert machine.run().kind is StopKind.POWEROFF
    return machine


def test_a_write_to_a_page_table_is_one_exception_and_an_emulation() -> None:
    none, one, two = run(""), run(STORE), run(STORE + "mov %rax, (%rdi)\n")
    assert [machine.cpu.counters()["exceptions"] for machine in (none, one, two)] == [0, 1, 2]
    assert one.cpu.r12 == one.cpu.rbp != 0
    costs = one.profile
    least = costs.exception.units + costs.paravirtual.emulation.units
    twice = least + costs.exception.units
    assert least // FRACTION <= two.cpu.cycles - one.cpu.cycles < twice // FRACTION
