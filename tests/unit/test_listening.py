"""Which recipes an event is held against: none that it starts is missed, and of very many only those that can match."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub import engine
from hub.conditions import Truth
from hub.listening import FEW, Listeners, Published
from hub.program import Program, Start

TYPE = "acme.carted"


def _recipe(name: str, *starts: Start) -> Published:
    return Published(name, 1, Program(name, {}, starts, (), None, None, {}, None))


def _start(where: Any = None, connections: tuple[str, ...] = ("acme",), type_: str = TYPE) -> Start:
    return Start(frozenset({type_}), frozenset(connections), where)


def _event(connection: str = "acme", **data: Any) -> dict[str, Any]:
    return {**data, "type": TYPE, "connection": connection}


def _names(found: list[Published]) -> list[str]:
    return [one.name for one in found]


def test_all_of_few_are_asked_so_that_each_says_why_not() -> None:
    recipes = [_recipe(f"r{n:02}", _start({"event.shop": f"s{n}"}, ("other",))) for n in range(FEW)]
    assert _names(Listeners(recipes).possible(_event(shop="s3"))) == [f"r{n:02}" for n in range(FEW)]


def test_of_many_only_those_are_asked_that_can_match() -> None:
    # given a thousand recipes for shops of their own, a thousand for other connections and two for everybody
    shops = [_recipe(f"shop-{n}", _start({"event.shop": f"s{n}", "event.total": {"gte": 5}})) for n in range(1000)]
    others = [_recipe(f"other-{n}", _start(None, (f"c{n}",))) for n in range(1000)]
    listeners = Listeners(
        [*shops, *others, _recipe("rich", _start({"event.total": {"gte": 9}})), _recipe("any", _start(None, ()))]
    )
    # then an event is held against its shop's, its connection's and those for everybody
    assert _names(listeners.possible(_event(shop="s7"))) == ["any", "rich", "shop-7"]
    assert _names(listeners.possible(_event(shop="s7", connection="c4"))) == ["any", "other-4"]
    assert _names(listeners.possible(_event())) == ["any", "rich"]


def test_nobody_listens_to_another_type() -> None:
    assert Listeners([_recipe("a", _start(type_="acme.purchased"))]).possible(_event()) == []


values = st.sampled_from(
    [
        "s1",
        "S1",
        "s2",
        "exists",
        "unknown",
        "5",
        5,
        "5.0",
        True,
        None,
        "a@b.c",
        "A@B.C",
        "5 EUR",
        "5.00 EUR",
        "",
        ["s1"],
        "2026-01-01T00:00:00Z",
        "2026-01-01T01:00:00+01:00",
        "1970-01-01T00:00:00Z",
        "1970-01-01T01:00:00+01:00",
        "2026-01-01",
    ]
)
conditions = st.none() | st.dictionaries(
    st.sampled_from(["event.shop", "event.kind"]),
    values | st.builds(lambda v: {"eq": v}, values) | st.builds(lambda v: {"in": [v]}, values),
    max_size=2,
)
connections = st.lists(st.sampled_from(["acme", "other"]), max_size=2).map(tuple)
starts = st.lists(st.builds(_start, conditions, connections), min_size=1, max_size=3)


@given(
    st.lists(starts, max_size=6),
    st.sampled_from(["acme", "other", "third"]),
    st.dictionaries(st.sampled_from(["shop", "kind"]), values),
)
def test_no_recipe_that_an_event_starts_is_passed_over(
    given_: list[list[Start]], connection: str, data: dict[str, Any]
) -> None:
    # given many recipes, most of which never match
    fillers = [_recipe(f"filler-{n}", _start({"event.shop": f"never-{n}"})) for n in range(FEW)]
    recipes = [_recipe(f"r{n}", *starts) for n, starts in enumerate(given_)]
    event = _event(connection, **data)
    # when one event comes
    asked = _names(Listeners([*recipes, *fillers]).possible(event))
    # then whoever says yes to it is asked
    yes = [r.name for r in recipes if engine.admits(r.program, TYPE, event, connection).truth is Truth.TRUE]
    assert set(yes) <= set(asked)
