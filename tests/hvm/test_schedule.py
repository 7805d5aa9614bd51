"""What a device's timers promise: each expires once, at its cycle, in the order of the cycles."""

from __future__ import annotations

from hvm.rig import ManualClock
from hvmx.hvm.schedule import Schedule, Timer


class Diary:
    """A schedule with three timers that write down when they expire."""

    def __init__(self) -> None:
        self.schedule = Schedule(ManualClock())
        self.expired: list[tuple[str, int]] = []
        self.a, self.b, self.c = (self._timer(name) for name in "abc")

    def _timer(self, name: str) -> Timer:
        return self.schedule.timer(lambda cycle: self.expired.append((name, cycle)))


def test_a_timer_that_is_not_set_never_expires() -> None:
    diary = Diary()
    diary.schedule.advance(1 << 62)
    assert diary.schedule.next_event() is None and not diary.expired


def test_timers_expire_once_by_cycle_and_then_by_age() -> None:
    diary = Diary()
    diary.b.due, diary.c.due, diary.a.due = 20, 10, 20
    assert diary.schedule.next_event() == 10
    diary.schedule.advance(19)
    assert diary.expired == [("c", 10)] and diary.schedule.next_event() == 20
    diary.schedule.advance(25)
    assert diary.expired == [("c", 10), ("a", 20), ("b", 20)]
    assert diary.schedule.next_event() is None and diary.a.due is None


def test_a_timer_that_is_taken_back_does_not_expire() -> None:
    diary = Diary()
    diary.a.due, diary.b.due = 10, 20
    diary.a.due = None
    assert diary.schedule.next_event() == 20
    diary.schedule.advance(30)
    assert diary.expired == [("b", 20)]


def test_a_timer_that_another_sets_for_the_same_cycle_expires_at_it() -> None:
    diary = Diary()
    diary.b.expired = lambda cycle: setattr(diary.a, "due", cycle)
    diary.b.due, diary.c.due = 10, 11
    diary.schedule.advance(11)
    assert diary.expired == [("a", 10), ("c", 11)]


def test_a_saved_timer_expires_when_it_would_have() -> None:
    diary, other = Diary(), Diary()
    diary.a.due = 10
    other.a.load(diary.a.save())
    assert other.schedule.next_event() == 10
