"""The numbers and structures of cext/xen/xen_abi.h are those of Xen's own headers (Debian's libxen-dev)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from missing import missing

from hvmx.pv.numbers import XEN_SUB_OPERATIONS

from .harness import ROOT, compile_c

XEN_HEADERS = Path("/usr/include/xen")
ABI = ROOT / "cext" / "xen" / "xen_abi.h"
PUBLIC = ROOT / "cext" / "include" / "hvmx_hypercall.h"

INCLUDES = """
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#define __XEN_TOOLS__ 1
#define __XEN_INTERFACE_VERSION__ 0x00041100
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/hvm/e820.h>
#include <xen/io/console.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
"""


@pytest.fixture
def xen_headers() -> None:
    if not XEN_HEADERS.is_dir():
        missing("Xen's headers (libxen-dev) are not installed")


# Structures of the ABI by hvmx's name: what Xen calls them, and their members by hvmx's and by Xen's name.
SAME = {
    "mmu_update": "ptr val",
    "mmuext_op": "cmd arg1 arg2",
    "xen_memory_reservation": "extent_start nr_extents extent_order mem_flags domid",
    "xen_machphys_mapping": "v_start v_end max_mfn",
    "xen_memory_map": "nr_entries buffer",
    "gnttab_setup_table": "dom nr_frames status frame_list",
    "gnttab_query_size": "dom nr_frames max_nr_frames status",
    "gnttab_set_version": "version",
    "gnttab_get_version": "dom version",
    "trap_info": "vector flags cs address",
    "iret_context": "rax r11 rcx flags rip cs rflags rsp ss",
    "callback_register": "type flags address",
    "callback_unregister": "type",
    "vcpu_time_info": "version tsc_timestamp system_time tsc_to_system_mul tsc_shift flags",
    "vcpu_info": "evtchn_upcall_pending evtchn_upcall_mask evtchn_pending_sel arch arch.cr2 time",
    "shared_info": "vcpu_info evtchn_pending evtchn_mask wc_version wc_sec wc_nsec wc_sec_hi arch arch.max_pfn "
    "arch.pfn_to_mfn_frame_list_list arch.nmi_reason arch.p2m_cr3 arch.p2m_vaddr arch.p2m_generation",
    "evtchn_alloc_unbound": "dom remote_dom port",
    "evtchn_bind_interdomain": "remote_dom remote_port local_port",
    "evtchn_bind_virq": "virq vcpu port",
    "evtchn_bind_ipi": "vcpu port",
    "evtchn_status": "dom port status vcpu u u.interdomain.port",
    "evtchn_bind_vcpu": "port vcpu",
    "sched_shutdown": "reason",
    "sched_poll": "ports nr_ports timeout",
    "vcpu_runstate_info": "state state_entry_time time",
    "vcpu_set_singleshot_timer": "timeout_abs_ns flags",
    "vcpu_register_vcpu_info": "mfn offset",
    "xen_compile_info": "compiler compile_by compile_domain compile_date",
    "xen_feature_info": "submap_idx submap",
    "physdev_set_iopl": "iopl",
    "physdev_set_iobitmap": "bitmap nr_ports",
    "multicall_entry": "op result args",
    "start_info": "magic nr_pages shared_info flags store_mfn store_evtchn console console.domU.mfn "
    "console.domU.evtchn pt_base nr_pt_frames mfn_list mod_start mod_len cmd_line first_p2m_pfn nr_p2m_frames",
    "xencons_interface": "in out in_cons in_prod out_cons out_prod",
}
NOT_IN_XEN = {"e820_entry", "evtchn_port"}  # described below, each against what it stands for


def constants() -> list[str]:
    """Every constant that xen_abi.h names."""
    text = re.sub(r"/\*.*?\*/", "", ABI.read_text(), flags=re.DOTALL)
    names = []
    for body in re.findall(r"enum\s*\{(.*?)\}", text, flags=re.DOTALL):
        names += re.findall(r"(\w+)\s*=", body)
    names += [
        name
        for name, value in re.findall(r"^#define (\w+)[ \t]+(\S.*)$", text, flags=re.MULTILINE)
        if name not in {"MMU_UPDATE_PREEMPTED", "MEMOP_EXTENT_SHIFT"}  # Xen's, but not in its public headers
    ]
    return names


def structures() -> set[str]:
    return set(re.findall(r"^struct (\w+) \{", ABI.read_text(), flags=re.MULTILINE))


def observe(directory: Path, name: str, includes: str, lines: list[str]) -> list[str]:
    source = directory / f"{name}.c"
    source.write_text(f"{includes}\nint main(void) {{\n" + "\n".join(lines) + "\nreturn 0; }\n")
    program = directory / name
    compile_c(program, source)
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("header", [ABI, PUBLIC], ids=lambda header: header.name)
def test_every_field_says_who_writes_it(header: Path) -> None:
    text = header.read_text()
    unmarked, looked_at = [], 0
    for name, body in re.findall(r"^struct (\w+) \{[^\n]*\n(.*?)^\}", text, flags=re.DOTALL | re.MULTILINE):
        for line in body.splitlines():
            if re.match(r"    \s*(?!\})[^*/].*;", line):
                looked_at += 1
                if not re.search(r"/\* (in|out|unread|as above)\b", line):
                    unmarked.append(f"{name}: {line.strip()}")
    assert not unmarked, "\n".join(unmarked)
    assert looked_at >= (100 if header == ABI else 8)
    assert len(re.findall(r"^struct \w+ \{", text, flags=re.MULTILINE)) == len(re.findall(r"^struct \w+ \{[^}]*\n", text, flags=re.MULTILINE))


@pytest.mark.usefixtures("xen_headers")
def test_every_number_and_layout_is_xens(tmp_path: Path) -> None:
    assert structures() - NOT_IN_XEN == set(SAME), "a structure is in no comparison"
    errors = [name for name in constants() if re.fullmatch(r"XEN_E[A-Z0-9]+", name)]
    assert len(errors) > 10
    lines = [f'printf("{name} %llx\\n", (unsigned long long){name});' for name in constants()]
    for structure, members in SAME.items():
        lines.append(f'printf("sizeof {structure} %zu\\n", sizeof(struct {structure}));')
        lines += [
            f'printf("{structure}.{member} %zu\\n", offsetof(struct {structure}, {member}));'
            for member in members.split()
        ]
    ours = observe(tmp_path, "ours", f'#include <stddef.h>\n#include <stdio.h>\n#include "{ABI}"', lines)
    theirs = observe(tmp_path, "theirs", INCLUDES, lines)
    assert ours == theirs


@pytest.mark.usefixtures("xen_headers")
def test_the_two_shapes_without_a_name_in_xen_stand_for_xens(tmp_path: Path) -> None:
    theirs = observe(
        tmp_path,
        "shapes",
        INCLUDES,
        [
            'printf("%zu %zu %zu\\n", sizeof(struct evtchn_close), sizeof(struct evtchn_send), sizeof(struct evtchn_unmask));'
        ],
    )
    ours = observe(
        tmp_path,
        "port",
        f'#include <stdio.h>\n#include "{ABI}"',
        ["size_t size = sizeof(struct evtchn_port);", 'printf("%zu %zu %zu\\n", size, size, size);'],
    )
    assert ours == theirs


SUB_OPERATION_HEADERS = {
    "memory_op": ("memory.h", "XENMEM_"),
    "xen_version": ("version.h", "XENVER_"),
    "console_io": ("xen.h", "CONSOLEIO_"),
    "grant_table_op": ("grant_table.h", "GNTTABOP_"),
    "vcpu_op": ("vcpu.h", "VCPUOP_"),
    "mmuext_op": ("xen.h", "MMUEXT_"),
    "sched_op": ("sched.h", "SCHEDOP_"),
    "callback_op": ("callback.h", "CALLBACKOP_"),
    "event_channel_op": ("event_channel.h", "EVTCHNOP_"),
    "physdev_op": ("physdev.h", "PHYSDEVOP_"),
}
"""Where Xen defines the sub-operations of a hypercall, and how their names begin."""


@pytest.mark.usefixtures("xen_headers")
def test_the_names_of_sub_operations_are_xens() -> None:
    assert set(SUB_OPERATION_HEADERS) == set(XEN_SUB_OPERATIONS)
    for hypercall, (header, prefix) in SUB_OPERATION_HEADERS.items():
        text = (XEN_HEADERS / header).read_text()
        defined = {
            (int(number), name.lower())
            for name, number in re.findall(rf"^#define\s+{prefix}(\w+)\s+\(?(\d+)\)?\s*(?:/\*.*)?$", text, re.MULTILINE)
        }
        unknown = {(number, name) for number, name in XEN_SUB_OPERATIONS[hypercall].items()} - defined
        assert not unknown, f"{hypercall}: {unknown}"
