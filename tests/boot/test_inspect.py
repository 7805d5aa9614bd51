"""``hvmx inspect`` says what an image is and how it can run, by the readers and loaders of ``hvmx run``."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from guests import guest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import assert_fits_80_columns

from hvmx import Machine, guests
from hvmx.boot import ImageError
from hvmx.cli import Status, main
from hvmx.inspection import Segment, Verdict, Way, read_facts, ways_to_run

from . import images
from .images import HALT, VIRT_BASE, Load, MiB
from .test_hostile_images import IMAGES, mutated

MEMORY = 16 * MiB
EXAMPLES = 10_000 if os.environ.get("HVMX_NIGHTLY") == "1" else 300
WAYS = [
    "HVM, bzImage",
    "HVM, bzImage that unpacks itself",
    "HVM, Multiboot",
    "HVM, ELF",
    "HVM, ROM",
    "HVM, flat binary",
    "PVH",
    "PV",
]
BY_CONTENT = ["HVM, bzImage", "HVM, Multiboot", "HVM, ELF", "PVH"]
"""Those that `hvmx run` chooses by itself."""
ROM = bytes(0x1FFF0) + b"\xea\x5b\xe0\x00\xf0" + bytes(11)


def ways(image: bytes | Path, memory: int = MEMORY) -> dict[str, Way]:
    return {way.name: way for way in ways_to_run(read_facts(image, memory))}


def verdicts(image: bytes | Path) -> list[str]:
    """The ways that are a yes."""
    return [name for name, way in ways(image).items() if way.verdict is Verdict.YES]


def as_json(capfd: pytest.CaptureFixture[str], image: Path | str, *options: str) -> dict[str, Any]:
    capfd.readouterr()
    main(["inspect", "--json", *options, str(image)])
    found = json.loads(capfd.readouterr().out)
    assert isinstance(found, dict)
    return found


def written(tmp_path: Path, image: bytes) -> Path:
    path = tmp_path / "image"
    path.write_bytes(image)
    return path


# --- what it is ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("image", "formats", "runs"),
    [
        (
            images.xz_bzimage(bits=64),
            ["Linux bzImage, boot protocol 2.15", "xz payload of 0x78 bytes", "ELF64 for x86-64, in the payload, 0x7b bytes"],
            WAYS[:1],
        ),
        (images.bzimage(b"\x28\xb5\x2f\xfd" + bytes(60)), [..., "unknown payload of 0x40 bytes"], WAYS[:2]),
        (images.multiboot_elf(), ["ELF32 for i386", "Multiboot 1 header at 0x54, flags 0x3"], ["HVM, Multiboot"]),
        (images.pvh_elf(), ["ELF64 for x86-64", "Xen ELF notes", "PVH entry note"], ["PVH"]),
        (images.xen_elf(), ["ELF64 for x86-64", "Xen ELF notes"], ["HVM, ELF", "PV"]),
        (images.elf_image(bits=32, loads=[Load(MiB)], entry=MiB), ["ELF32 for i386"], ["HVM, ELF"]),
        (gzip.compress(images.multiboot_elf(), mtime=0), ["gzip, with 0x63 bytes in it", ..., ...], ["HVM, Multiboot"]),
        (ROM, ["firmware ROM (a jump at the reset vector)"], ["HVM, ROM"]),
        (HALT, [], []),
    ],
    ids=["bzimage", "zstd", "multiboot", "pvh", "xen", "elf", "gzip", "rom", "flat"],
)
def test_an_image_has_its_formats_and_the_ways_that_its_content_tells(
    image: bytes, formats: list[Any], runs: list[str]
) -> None:
    found = read_facts(image, MEMORY).formats
    assert len(found) == len(formats)
    assert [text for text, told in zip(found, formats, strict=True) if told not in (..., text)] == []
    assert verdicts(image) == runs
    assert list(ways(image)) == WAYS


def test_a_multiboot_2_header_is_named_and_hvmx_does_not_enter_by_it() -> None:
    header = struct.pack("<4I2HI", 0xE85250D6, 0, 24, -(0xE85250D6 + 24) & 0xFFFFFFFF, 0, 0, 8)
    image = images.elf_image(bits=32, loads=[Load(MiB)], entry=MiB, first=bytes(4) + header)
    assert read_facts(image, MEMORY).multiboot_2 == 0x58
    assert ways(image)["HVM, Multiboot"].says == (
        "It has no Multiboot 1 header in its first 0x2000 bytes; it has a Multiboot 2 header at 0x58, and hvmx does not "
        "enter by that."
    )


def test_the_xen_notes_are_there_by_name_and_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = as_json(capfd, written(tmp_path, images.xen_elf()))
    assert {note["name"]: note["value"] for note in found["notes"]} == {
        "ENTRY": hex(VIRT_BASE + MiB),
        "HYPERCALL_PAGE": hex(VIRT_BASE + MiB + 0x1000),
        "VIRT_BASE": hex(VIRT_BASE),
        "XEN_VERSION": "xen-3.0",
        "GUEST_OS": "test",
        "LOADER": "generic",
        "PAE_MODE": "yes",
        "FEATURES": "!writable_page_tables|pae_pgdir_above_4gb",
        "BSD_SYMTAB": "yes",
        "L1_MFN_VALID": [{"mask": "0x1", "value": "0x1"}],
        "SUPPORTED_FEATURES": "0x801",
    }
    assert found["features"] == {
        "required": ["writable_page_tables"],
        "optional": ["pae_pgdir_above_4gb"],
        "supported": ["writable_page_tables", "dom0"],
    }
    assert found["entries"] == [
        {"what": "ELF", "address": hex(MiB)},
        {"what": "Xen PV", "address": hex(VIRT_BASE + MiB)},
        {"what": "Xen hypercall page", "address": hex(VIRT_BASE + MiB + 0x1000)},
    ]


def test_the_header_of_a_bzimage_is_there_with_its_flags_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capfd, written(tmp_path, images.xz_bzimage(bits=64)))
    linux = found["linux"]
    assert linux.pop("payload")["compression"] == "xz"
    assert linux == {
        "protocol": "2.15",
        "loadflags": "0x1",
        "loadflags_names": ["LOADED_HIGH"],
        "xloadflags": "0x1",
        "xloadflags_names": ["XLF_KERNEL_64"],
        "relocatable": True,
        "kernel_alignment": "0x200000",
        "pref_address": "0x200000",
        "runtime_start": "0x200000",
        "init_size": 0x10000,
        "cmdline_size": 255,
        "initrd_addr_max": "0x7fffffff",
        "setup_bytes": 1024,
    }
    assert found["segments"] == [
        {"offset": "0x78", "file_bytes": 3, "virtual": hex(VIRT_BASE + 2 * MiB), "physical": hex(2 * MiB), "memory_bytes": 0x3000}
    ]


def test_debian_s_kernel_can_run_as_hvm_and_as_pv(capfd: pytest.CaptureFixture[str]) -> None:
    found = as_json(capfd, guest("linux-amd64"))
    assert [way["way"] for way in found["ways"] if way["runs"] == "yes"] == [*WAYS[:2], "PV"]
    assert found["linux"]["payload"]["compression"] == "xz"
    assert found["features"]["required"] == ["writable_page_tables"]
    assert "dom0" in found["features"]["supported"]
    pvh = next(way["says"] for way in found["ways"] if way["way"] == "PVH")
    assert pvh.startswith("As a bzImage it is entered by Linux's boot protocol; its payload, which as a file of its own")


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("linux-686", WAYS[:2]),
        ("memtest-x64", WAYS[:2]),
        ("xen", ["HVM, Multiboot"]),
        ("seabios", ["HVM, ROM"]),
        ("seabios-256k", ["HVM, ROM"]),
    ],
)
def test_debian_s_other_images_run_in_the_ways_that_are_theirs(name: str, runs: list[str]) -> None:
    facts = read_facts(guest(name), 128 * MiB)
    assert [way.name for way in ways_to_run(facts) if way.verdict is Verdict.YES] == runs


@pytest.mark.parametrize(("name", "runs"), [("hvm32", "HVM, Multiboot"), ("hvm64", "HVM, Multiboot"), ("pv64", "PV")])
def test_a_bundled_guest_can_be_named_as_for_hvmx_run(
    capfd: pytest.CaptureFixture[str], name: str, runs: str
) -> None:
    found = as_json(capfd, f"hvmx-{name}")
    assert found["image"] == str(guests.image(name))
    assert [way["way"] for way in found["ways"] if way["runs"] == "yes"] == [runs]


def test_what_multiboot_loads_by_addresses_is_there_beside_the_segments() -> None:
    header = images.multiboot_header(1 << 16, MiB, MiB, MiB + 99, MiB + 200, MiB)
    flat = read_facts(header + bytes(100), MEMORY)
    assert flat.segments == [flat.multiboot_segment] == [Segment(0, 99, None, MiB, 200)]
    both = read_facts(images.elf_image(bits=32, loads=[Load(MiB)], entry=MiB, first=header), MEMORY)
    assert both.segments == [Segment(0x74, 3, MiB, MiB, 3)]


# --- why not ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("image", "way", "says"),
    [
        (HALT, "HVM, bzImage", "It has no Linux setup header, whose magic 48647253 would be at 0x202."),
        (HALT, "HVM, Multiboot", "It has no Multiboot 1 header in its first 0x2000 bytes."),
        (HALT, "HVM, ELF", "It is no ELF file: it starts with f4ebfd, not with 7f454c46."),
        (HALT, "HVM, ROM", "A ROM of 0x3 bytes is not of 0x1 to 0x1000 pages of 0x1000 bytes."),
        (images.xen_elf(), "PVH", "Its ELF file has no PHYS32_ENTRY note (Xen note 0x12), which has the PVH entry point."),
        (images.pvh_elf(), "PV", "No Xen PV kernel: it has no XEN_VERSION note, Xen asks for 'xen-3.0'."),
        (images.pvh_elf(), "HVM, ELF", "It has a PHYS32_ENTRY note, so that hvmx run enters it as PVH."),
        (images.pvh_elf(entry=5), "PVH", "The PVH entry point 0x5 is in no loaded segment."),
        (images.multiboot_elf(0x4), "HVM, Multiboot", "Its Multiboot header asks for features 0x4, which are not provided."),
        (
            images.multiboot_elf(),
            "HVM, ELF",
            "It has a Multiboot header at 0x54, by which hvmx run enters before any other way.",
        ),
        (
            images.bzimage(b"\x28\xb5\x2f\xfd" + bytes(60)),
            "PV",
            "The compression of its payload at 0x440 is unknown (it starts with 28b52ffd00000000), so that no ELF file is "
            "found in it.",
        ),
        (images.bzimage(b""), "PV", "The bzImage does not say where its payload is, which might be an ELF file."),
        (images.bzimage(b"", version=0x0201), "HVM, bzImage", "Linux boot protocol 0x0201 is older than 2.02, the oldest with a command line."),
        (images.bzimage(b"", code32_start=(0x214, 4, 0)), "HVM, bzImage", "Has no 32-bit entry (its code32_start is 0): its setup code needs a BIOS to run on."),
        (images.xz_bzimage()[:0x260], "PV", "A Linux setup header is cut off at 0x260."),
        (
            images.xen_elf(features=b"\xff"),
            "PV",
            "Xen note FEATURES (0x1 bytes: ff) is no ASCII string.",
        ),
    ],
)  # fmt: skip
def test_a_way_that_is_not_is_refused_with_what_is_missing(image: bytes, way: str, says: str) -> None:
    assert ways(image)[way] == Way(way, ways(image)[way].options, Verdict.NO, says)


def test_a_32_bit_pv_kernel_is_refused_with_what_is_supported() -> None:
    notes = b"".join([images.note(1, struct.pack("<I", MiB)), images.note(5, b"xen-3.0\0")])
    image = images.elf_image(bits=32, loads=[Load(MiB)], entry=MiB, notes=notes)
    assert ways(image)["PV"].says == "Xen PV kernel, 32-bit, entry at 0x100000: only 64-bit PV kernels are supported."


def test_a_pv_kernel_whose_start_of_day_does_not_fit_is_refused_as_it_would_be_when_run() -> None:
    image = images.xen_elf()
    with pytest.raises(ImageError, match="the start of day takes 0x400000 bytes") as refused:
        Machine(3 * MiB).load(image, pv=True)
    assert ways(image, 3 * MiB)["PV"].says == f"{refused.value}."


def test_a_payload_that_is_damaged_leaves_a_bzimage_that_may_unpack_itself() -> None:
    kernel = images.vmlinux()
    packed = bytearray(images.sized(lzma.compress(kernel), kernel))
    packed[30] ^= 0xFF
    found = ways(images.bzimage(bytes(packed)))
    assert found["HVM, bzImage"].verdict is Verdict.NO
    assert found["HVM, bzImage"].says.startswith("The xz payload of 0x")
    assert found["HVM, bzImage that unpacks itself"].verdict is Verdict.YES
    assert read_facts(images.bzimage(bytes(packed)), MEMORY).problems == [found["HVM, bzImage"].says]


# --- the command --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("image", "status"),
    [
        (images.pvh_elf(), Status.GOOD),
        (ROM, Status.GOOD),
        (ROM[1:], Status.BAD_IMAGE),
        (HALT, Status.BAD_IMAGE),
        (bytes(0x1000), Status.BAD_IMAGE),
    ],
    ids=["pvh", "rom", "no whole pages", "flat", "zeros"],
)
def test_the_status_says_whether_it_can_run_in_some_way_without_being_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], image: bytes, status: Status
) -> None:
    path = written(tmp_path, image)
    assert main(["inspect", str(path)]) == status
    assert as_json(capfd, path, "--memory", "16M")["runs"] == (status == Status.GOOD)


@pytest.mark.parametrize("command", ["run", "inspect"])
@pytest.mark.parametrize(
    ("content", "says"), [(b"", "the file is empty"), (gzip.compress(b"", mtime=0), "the file that gzip has packed is empty")]
)
def test_an_empty_file_is_said_to_be_empty(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str, content: bytes, says: str
) -> None:
    path = written(tmp_path, content)
    assert main([command, str(path)]) == Status.BAD_IMAGE
    assert capfd.readouterr().err == f"hvmx: {path}: {says}\n"


def test_the_tables_fit_80_columns_and_count_what_they_leave_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notes = images.xen_notes() + b"".join(images.note(0x7FFFFFFF, b"y" * 99, b"Somebodys long name\0") for _ in range(40))
    loads = [Load((1 << 64) - (index + 1) * MiB, memsz=MiB) for index in range(100)]
    image = images.elf_image(bits=64, loads=loads, entry=0, notes=notes)
    assert main(["inspect", str(written(tmp_path, image))]) == Status.BAD_IMAGE
    lines = capfd.readouterr().out.splitlines()[1:]  # the first is the path
    assert_fits_80_columns("\n".join(lines))
    assert "+ 27 more" in [line.strip() for line in lines]
    assert "+ 76 more" in [line.strip() for line in lines]


def test_nothing_in_an_image_reaches_the_terminal_as_a_command_or_as_markup(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notes = images.xen_notes(guest_os=b"\x1b[2J[red]os\0", features=b"[bold]a\x07\0") + images.note(1, b"a", b"\x1bB\0")
    load = Load(MiB, HALT, memsz=0x2000, vaddr=VIRT_BASE + MiB)
    main(["inspect", str(written(tmp_path, images.elf_image(bits=64, loads=[load], entry=MiB, notes=notes)))])
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\\x1b[2J[red]os" in out
    assert "[bold]a\\x07" in out


def test_json_goes_to_a_file_besides_the_tables_or_stands_in_their_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, images.pvh_elf())
    assert main(["inspect", f"--json={tmp_path / 'facts'}", str(path)]) == Status.GOOD
    assert "Ways to run it" in capfd.readouterr().out
    assert json.loads((tmp_path / "facts").read_text()) == as_json(capfd, path)
    assert main(["inspect", f"--json={path}", str(path)]) == Status.BAD_OPTION


# --- hostile images -----------------------------------------------------------------------------------------------------
def assert_agrees(image: bytes) -> None:
    """What is said of ``image`` is what a machine then makes of it."""
    try:
        found = ways(image)
    except ImageError:
        found = {}
    for names, options in ((BY_CONTENT, {}), (["PV"], {"pv": True}), (WAYS[1:2], {"decompress": False})):
        can = any(name in found and found[name].verdict is Verdict.YES for name in names)
        try:
            Machine(MEMORY).load(image, **options)
        except ValueError as problem:  # ImageError, or what Xen refuses of the page tables
            assert not can, f"{names} could not: {problem}"
        else:
            assert can, f"{names} could, and {found} says no"


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_said_of_an_image_is_what_a_machine_makes_of_it(name: str) -> None:
    assert_agrees(IMAGES[name])


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_cut_off_anywhere_is_said_to_be_what_a_machine_makes_of_it(name: str) -> None:
    for size in range(0, len(IMAGES[name]), 61):
        assert_agrees(IMAGES[name][:size])


@settings(max_examples=EXAMPLES, deadline=None)
@given(image=mutated())
def test_a_mutated_image_is_said_to_be_what_a_machine_makes_of_it(image: bytes) -> None:
    assert_agrees(image)


@settings(max_examples=EXAMPLES, deadline=None)
@given(image=st.one_of(mutated(), st.binary(max_size=0x3000)))
def test_any_image_is_inspected_with_a_status_of_its_own(tmp_path_factory: pytest.TempPathFactory, image: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), image)
    assert main(["inspect", "--memory", "16M", str(path)]) in (Status.GOOD, Status.BAD_IMAGE)
    assert main(["inspect", "--memory", "16M", "--json", str(path)]) in (Status.GOOD, Status.BAD_IMAGE)
