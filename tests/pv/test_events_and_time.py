"""Event channels, timers and time: all of it a function of guest cycles."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import DOMID_SELF, FREQUENCY, Guest

EVENT_CHANNEL_OP, SCHED_OP, VCPU_OP, SET_TIMER_OP, CALLBACK_OP = 32, 29, 24, 15, 30
BIND_INTERDOMAIN, BIND_VIRQ, CLOSE, SEND, STATUS, ALLOC_UNBOUND, BIND_IPI, UNMASK = 0, 1, 3, 4, 5, 6, 7, 9
PENDING, MASK, SELECTOR = 0x800, 0xA00, 8
"""Offsets in shared_info: evtchn_pending, evtchn_mask; in vcpu_info: evtchn_pending_sel."""
HANDLER = 0xFFFFFFFF80004000
EINVAL, EEXIST, ENOENT, ESRCH = -22, -17, -2, -3
VIRQ_TIMER = 0
MILLISECOND = 1_000_000
RSP = 4


def channel(guest: Guest, command: int, layout: str, *values: int) -> tuple[int, tuple[int, ...]]:
    at = guest.put(struct.pack(layout, *values))
    result = guest.call(EVENT_CHANNEL_OP, command, at)
    return result, struct.unpack(layout, guest.get(struct.calcsize(layout)))


def bind_timer(guest: Guest, *, unmasked: bool = True) -> int:
    result, (_, _, port) = channel(guest, BIND_VIRQ, "<III", VIRQ_TIMER, 0, 0)
    assert result == 0
    if unmasked:
        assert channel(guest, UNMASK, "<I", port)[0] == 0
    return port


def is_pending(guest: Guest, port: int) -> bool:
    return bool(guest.shared_info(512, PENDING)[port >> 3] >> (port & 7) & 1)


def allow_upcalls(guest: Guest) -> None:
    """With a handler, and every channel masked."""
    guest.set_shared_info(MASK, b"\xff" * 512)
    register = struct.pack("<HHxxxxQ", 0, 0, HANDLER)
    assert guest.call(CALLBACK_OP, 0, guest.put(register)) == 0
    guest.set_shared_info(1, b"\0")


def stop_tick(guest: Guest) -> None:
    assert guest.call(VCPU_OP, 7, 0, 0) == 0


def set_timer(guest: Guest, nanoseconds: int, flags: int = 0) -> int:
    return guest.call(VCPU_OP, 8, 0, guest.put(struct.pack("<QI4x", nanoseconds, flags)))


def test_a_virq_is_bound_once_and_can_be_bound_again_after_closing() -> None:
    with Guest() as guest:
        port = bind_timer(guest)
        assert channel(guest, BIND_VIRQ, "<III", VIRQ_TIMER, 0, 0)[0] == EEXIST
        assert channel(guest, BIND_VIRQ, "<III", 24, 0, 0)[0] == EINVAL
        assert channel(guest, BIND_VIRQ, "<III", 1, 1, 0)[0] == ENOENT
        assert channel(guest, CLOSE, "<I", port)[0] == 0
        assert channel(guest, CLOSE, "<I", port)[0] == EINVAL
        assert bind_timer(guest) == port


def test_an_event_is_pending_selected_and_delivered_only_when_nothing_masks_it() -> None:
    with Guest() as guest:
        allow_upcalls(guest)
        result, (_, port) = channel(guest, BIND_IPI, "<II", 0, 0)
        assert result == 0
        stack = guest.virtual(4)
        guest.registers[RSP] = stack
        assert channel(guest, SEND, "<I", port)[0] == 0
        assert is_pending(guest, port) and guest.registers[RSP] == stack, "a masked channel was delivered"
        assert channel(guest, UNMASK, "<I", port)[0] == 0
        assert guest.library.harness_rip(guest.cpu) == HANDLER
        assert guest.shared_info(2, 0) == b"\1\1", "the upcall does not mask further ones"
        assert guest.shared_info(8, SELECTOR)[0] & 1


def test_a_channel_to_itself_has_two_ends() -> None:
    with Guest() as guest:
        _, (_, _, unbound) = channel(guest, ALLOC_UNBOUND, "<HHI", DOMID_SELF, DOMID_SELF, 0)
        result, (_, _, local) = channel(guest, BIND_INTERDOMAIN, "<HxxII", DOMID_SELF, unbound, 0)
        assert result == 0 and local != unbound
        assert is_pending(guest, local), "what came before the binding could be lost"
        assert channel(guest, SEND, "<I", local)[0] == 0 and is_pending(guest, unbound)
        assert channel(guest, BIND_INTERDOMAIN, "<HxxII", DOMID_SELF, unbound, 0)[0] == EINVAL
        assert channel(guest, BIND_INTERDOMAIN, "<HxxII", 7, unbound, 0)[0] == ESRCH
        _, status = channel(guest, STATUS, "<HxxIIIHxxI", DOMID_SELF, local, 0, 0, 0, 0)
        assert status[2] == 2 and status[5] == unbound
        assert channel(guest, CLOSE, "<I", unbound)[0] == 0
        _, status = channel(guest, STATUS, "<HxxIIIHxxI", DOMID_SELF, local, 0, 0, 0, 0)
        assert status[2] == 1, "the other end is not unbound again"


def test_the_single_shot_timer_fires_at_the_first_cycle_that_has_its_time() -> None:
    with Guest() as guest:
        stop_tick(guest)
        port = bind_timer(guest)
        assert set_timer(guest, 5 * MILLISECOND) == 0
        guest.passes(guest.library.harness_deadline(guest.cpu) - guest.cycles - 1)
        assert not is_pending(guest, port) and guest.library.harness_system_time(guest.cpu) < 5 * MILLISECOND
        guest.passes(1)
        assert is_pending(guest, port) and guest.library.harness_system_time(guest.cpu) >= 5 * MILLISECOND
        assert guest.library.harness_deadline(guest.cpu) == (1 << 64) - 1


@pytest.mark.parametrize("flags", [0, 1])
def test_a_timer_in_the_past_fires_at_once_even_where_the_future_is_asked_for(flags: int) -> None:
    with Guest() as guest:
        stop_tick(guest)
        port = bind_timer(guest)
        guest.passes(FREQUENCY)
        assert set_timer(guest, MILLISECOND, flags) == 0
        guest.passes(1)
        assert is_pending(guest, port)


def test_an_unbound_channel_is_for_the_domain_that_it_was_made_for() -> None:
    for flags, own, other in ((0, 1, 0), (3, 0, 1)):
        with Guest(flags) as guest:
            _, (_, _, for_other) = channel(guest, ALLOC_UNBOUND, "<HHI", DOMID_SELF, other, 0)
            _, (_, _, for_itself) = channel(guest, ALLOC_UNBOUND, "<HHI", own, own, 0)
            assert channel(guest, BIND_INTERDOMAIN, "<HxxII", own, for_other, 0)[0] == EINVAL
            for port, whose in ((for_other, other), (for_itself, own)):
                _, status = channel(guest, STATUS, "<HxxIIIHxxI", DOMID_SELF, port, 0, 0, 0, 0)
                assert (status[2], status[4]) == (1, whose)
            assert channel(guest, BIND_INTERDOMAIN, "<HxxII", own, for_itself, 0)[0] == 0


def test_the_first_reason_given_for_a_shutdown_is_the_reason() -> None:
    for reasons, expected in (((1,), 1), ((3, 0), 3), ((77, 1), 77), ((0x10002,), 2)):
        with Guest() as guest:
            for reason in reasons[:-1]:
                assert guest.call(SCHED_OP, 5, guest.put(struct.pack("<I", reason))) == 0
            assert guest.call(SCHED_OP, 2, guest.put(struct.pack("<I", reasons[-1]))) == 0
            assert guest.library.harness_shutdown_code(guest.cpu) == expected


def test_the_tick_of_100_hz_runs_until_it_is_stopped() -> None:
    with Guest() as guest:
        port = bind_timer(guest)
        due = guest.library.harness_deadline(guest.cpu)
        assert due == pytest.approx(FREQUENCY // 100, rel=1e-6)
        guest.passes(due - guest.cycles)
        assert is_pending(guest, port)
        stop_tick(guest)
        assert guest.library.harness_deadline(guest.cpu) == (1 << 64) - 1


def test_a_blocked_domain_wakes_for_an_event_and_its_run_states_say_how_long() -> None:
    with Guest() as guest:
        stop_tick(guest)
        allow_upcalls(guest)
        bind_timer(guest)
        guest.registers[RSP] = guest.virtual(4)
        assert set_timer(guest, 2 * MILLISECOND) == 0
        guest.set_shared_info(1, b"\1")
        assert guest.call(SCHED_OP, 1, 0) == 0
        assert guest.library.harness_halted(guest.cpu)
        assert guest.shared_info(2, 0)[1] == 0, "block unmasks events"
        guest.passes(guest.library.harness_deadline(guest.cpu) - guest.cycles)
        assert not guest.library.harness_halted(guest.cpu)
        assert guest.library.harness_rip(guest.cpu) == HANDLER
        assert guest.call(VCPU_OP, 4, 0, guest.virtual(1)) == 0
        state, _, running, _, blocked, _ = struct.unpack("<i4xQ4Q", guest.get(48))
        assert state == 0 and blocked == pytest.approx(2 * MILLISECOND, abs=10)
        assert running < 1000


def test_poll_ends_with_its_port_or_its_timeout_even_when_all_is_masked() -> None:
    with Guest() as guest:
        stop_tick(guest)
        guest.set_shared_info(MASK, b"\xff" * 512)
        port = bind_timer(guest, unmasked=False)
        ports = guest.put(struct.pack("<I", port), 0x100)
        for timer, timeout, pending in ((1, 3, True), (9, 7, False)):
            assert set_timer(guest, timer * MILLISECOND) == 0
            poll = guest.put(struct.pack("<QI4xQ", ports, 1, timeout * MILLISECOND))
            assert guest.call(SCHED_OP, 3, poll) == 0
            assert guest.library.harness_halted(guest.cpu)
            now = guest.library.harness_system_time(guest.cpu)
            guest.passes((min(timer, timeout) * MILLISECOND - now) * FREQUENCY // 10**9 + 2)
            assert not guest.library.harness_halted(guest.cpu)
            assert is_pending(guest, port) is pending
            guest.set_shared_info(PENDING, bytes(512))


@settings(max_examples=200, deadline=None)
@given(st.integers(100_000_000, 6_000_000_000), st.integers(0, 1 << 44))
def test_the_guest_computes_the_hypervisors_time_to_the_nanosecond(frequency: int, cycles: int) -> None:
    with Guest(frequency=frequency) as guest:
        guest.passes(cycles)
        version, _, tsc, base, multiplier, shift = struct.unpack("<IIQQIb", guest.shared_info(29, 32))
        delta = guest.cycles - tsc
        scaled = delta << shift if shift >= 0 else delta >> -shift
        computed = base + (scaled * multiplier >> 32)
        assert version % 2 == 0, "an update that never ends"
        assert computed == guest.library.harness_system_time(guest.cpu)
        assert computed == pytest.approx(guest.cycles * 10**9 / frequency, rel=1e-8, abs=2)


def test_registering_vcpu_info_moves_it_and_has_the_guest_look_everywhere() -> None:
    with Guest() as guest:
        allow_upcalls(guest)
        guest.registers[RSP] = guest.virtual(4)
        place = struct.pack("<QII", guest.frame(9), 0x40, 0)
        guest.set_shared_info(1, b"\1")
        assert guest.call(VCPU_OP, 10, 0, guest.put(place)) == 0
        assert guest.get(2, 0x40, page=9) == b"\1\1"
        assert guest.get(8, 0x48, page=9) == b"\xff" * 8
        assert guest.call(VCPU_OP, 10, 0, guest.put(place)) == EINVAL
        assert guest.audit() is None
        assert guest.call(VCPU_OP, 10, 1, guest.put(place)) == ENOENT


def test_what_the_domain_prints_reaches_the_console_and_input_reaches_the_domain() -> None:
    with Guest() as guest:
        text = guest.put(b"hello, world")
        assert guest.call(18, 0, 12, text) == 0
        assert guest.console() == b"hello, world"
        assert guest.library.harness_input(guest.cpu, b"typed", 5) == 5
        assert guest.call(18, 1, 3, text) == 3 and guest.get(3) == b"typ"
        assert guest.call(18, 1, 99, text) == 2 and guest.get(2) == b"ed"
        assert guest.call(18, 0, 4, 0x1000) == -14
