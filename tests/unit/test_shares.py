"""Free slots shared out: fair between recipes, the urgent first, nothing for whom nothing can be done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from hub.store.lanes import Lane, Rank
from hub.worker.shares import most_of_one, share_out

SLOTS = 80


def shares(
    due: Sequence[Lane],
    free: int = SLOTS,
    in_hand: Mapping[str, int] | None = None,
    rooms: Mapping[str, int | None] | None = None,
    draw: float = 0.0,
) -> dict[str, int]:
    found = share_out(
        due, slots=SLOTS, free=free, in_hand=in_hand or {}, room=lambda c: (rooms or {}).get(c), draw=draw
    )
    return {str(lane): n for lane, n in found.items()}


def test_recipes_get_equal_shares() -> None:
    assert shares([Lane("a"), Lane("b")]) == {"a": 35, "b": 35}


def test_what_a_recipe_holds_counts_against_its_share() -> None:
    assert shares([Lane("a"), Lane("b")], free=40, in_hand={"a": 35, "b": 5}) == {"b": 30}


def test_a_lone_recipe_leaves_slots_for_who_comes_next() -> None:
    assert shares([Lane("a")]) == {"a": most_of_one(SLOTS)}
    assert most_of_one(SLOTS) == 70
    assert most_of_one(1) == 1


def test_a_recipe_with_many_lanes_gets_no_more_than_one_with_few() -> None:
    many = [Lane("a", f"shop-{n}") for n in range(9)]
    found = shares([*many, Lane("b")])
    assert sum(n for lane, n in found.items() if lane.startswith("a")) == 35
    assert found["b"] == 35


def test_nothing_is_claimed_for_a_connection_that_can_take_nothing() -> None:
    due = [Lane("a", "dead"), Lane("a", "busy"), Lane("b", "busy"), Lane("b", "open")]
    found = shares(due, rooms={"dead": 0, "busy": 3, "open": None})
    assert "a|dead|0" not in found
    assert sorted([found["a|busy|0"], found["b|busy|0"]]) == [1, 2]
    assert found["b|open|0"] > 20


def test_what_it_takes_grows_with_the_lanes_and_not_with_their_square() -> None:
    due = [Lane(f"r{n}", f"shop-{n % 100}") for n in range(10_000)]
    began = time.process_time()
    found = shares(due, free=100, rooms={f"shop-{n}": 5 for n in range(100)})
    assert sum(found.values()) == 100
    # Ten times what it takes; with the square of the lanes it is a hundred times that.
    assert time.process_time() - began < 1


def test_transactional_goes_first_and_marketing_gets_its_tenth() -> None:
    due = [Lane("news", "sms", Rank.MARKETING), Lane("orders", "sms", Rank.TRANSACTIONAL)]
    assert shares(due, free=30) == {"orders|sms|0": 27, "news|sms|1": 3}
    assert shares(due, free=1, draw=0.5) == {"orders|sms|0": 1}
    assert shares(due, free=1, draw=0.95) == {"news|sms|1": 1}


@given(
    st.lists(
        st.builds(Lane, st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.sampled_from(Rank)),
        unique_by=str,
        max_size=12,
    ),
    st.integers(0, SLOTS),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 60)),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 9)),
    st.floats(0, 1, exclude_max=True),
)
def test_never_more_than_is_free_or_fits_and_something_whenever_it_can(
    due: list[Lane], free: int, in_hand: dict[str, int], rooms: dict[str, int], draw: float
) -> None:
    found = share_out(due, slots=SLOTS, free=free, in_hand=in_hand, room=rooms.get, draw=draw)
    assert all(n > 0 for n in found.values())
    assert sum(found.values()) <= free
    for name, room in rooms.items():
        assert sum(n for lane, n in found.items() if lane.connection == name) <= room
    open_ = [lane for lane in due if rooms.get(lane.connection) != 0]
    owners = {lane.owner for lane in open_}
    if free and any(in_hand.get(owner, 0) < most_of_one(SLOTS) // max(1, len(owners)) for owner in owners):
        assert found
