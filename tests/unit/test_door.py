"""How many calls an address takes, and how often somebody may be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.api.door import Door

PUBLIC = "93.184.216.34"


class Watch:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_takes_so_many_a_second_and_twice_as_many_at_once() -> None:
    watch = Watch()
    door = Door(watch)
    taken = sum(door.call("acme/k", 5) is None for _ in range(50))
    assert taken == 10
    assert door.call("acme/other", 5) is None
    watch.now += 1
    assert sum(door.call("acme/k", 5) is None for _ in range(50)) == 5
    assert all(door.call("acme/k", 0) is None for _ in range(50))


def test_whoever_is_wrong_too_often_is_not_listened_to_for_a_while() -> None:
    watch = Watch()
    door = Door(watch)
    for _ in range(59):
        door.wrong(PUBLIC)
    assert door.shut(PUBLIC) is None
    for _ in range(20):
        door.wrong(PUBLIC)
    wait_s = door.shut(PUBLIC)
    assert wait_s is not None
    assert 0 < wait_s <= 1
    assert door.shut("8.8.8.8") is None
    watch.now += wait_s
    assert door.shut(PUBLIC) is None


def test_nobody_is_shut_out_for_the_others_behind_a_proxy() -> None:
    door = Door(Watch())
    for caller in ("10.0.0.7", "127.0.0.1", "fd00::1", "", "unix:"):
        for _ in range(500):
            door.wrong(caller)
        assert door.shut(caller) is None


def test_however_many_come_what_is_remembered_is_bounded() -> None:
    door = Door(Watch())
    for n in range(25_000):
        door.wrong(f"93.{n >> 16}.{(n >> 8) & 255}.{n & 255}")
        door.call(f"acme/{n}", 5)
    assert len(door._wrong) == len(door._calls) == 10_000


@given(st.lists(st.floats(0, 2), max_size=200), st.integers(1, 20))
def test_over_any_time_no_more_are_taken_than_the_rate_and_its_burst(gaps: list[float], per_s: int) -> None:
    watch = Watch()
    door, taken = Door(watch), 0
    for gap in gaps:
        watch.now += gap
        taken += door.call("acme/k", per_s) is None
    assert taken <= 2 * per_s + per_s * sum(gaps) + 1e-6
