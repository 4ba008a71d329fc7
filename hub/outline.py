"""A recipe in people's words, as a tree: what starts it, who enters how often, what ends it, and its steps with their ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hub.conditions.words import in_words
from hub.events import Json
from hub.recipes import Recipe
from hub.steps import kind_of

# Longer texts are shortened: the whole of it is in the file.
_MOST_TEXT = 100


@dataclass(frozen=True)
class Line:
    """One line of the tree and what stands under it. `id` is the step's, where it is one."""

    text: str
    under: Sequence[Line] = field(default=())
    id: str | None = None


def outline(recipe: Recipe) -> Line:
    """The tree of a checked recipe."""
    definition = recipe.definition
    parts = [
        Line("starts", [_start(one) for one in definition["on"]]),
        Line("enters", [Line(_entry(definition.get("entry")))]),
    ]
    if exits := definition.get("exit_on"):
        parts.append(Line("ends early", [Line(f"when {_awaited(one)}", _steps(one.get("then"))) for one in exits]))
    parts.append(Line("steps", _steps(definition["steps"])))
    if ending := definition.get("on_end"):
        parts.append(Line("at the end, however it ended", _steps(ending)))
    if lines := definition.get("connections"):
        parts.append(Line("connections", [Line(f"{thing}: {name}") for thing, name in lines.items()]))
    journey = definition.get("journey")
    return Line(f"{recipe.name}{f' (journey {journey})' if journey else ''}", parts)


def _start(start: Mapping[str, Json]) -> Line:
    names = f" from {' or '.join(start['from'])}" if start.get("from") else ""
    where = f", where {in_words(start['where'])}" if start.get("where") else ""
    return Line(f"when {start['event']} comes{names}{where}")


def _entry(entry: Mapping[str, Json] | None) -> str:
    if entry is None:
        return "with every such event"
    per, most, within = entry.get("per", "contact"), entry.get("at_most", 1), entry.get("within", "ever")
    often = "once" if most == 1 else f"at most {most} times"
    span = "ever" if within == "ever" else f"in {within}"
    inside = {
        "restart": "; a new entry ends the run that is going on",
        "parallel": "; several runs may go on at once",
    }.get(str(entry.get("while_inside")), "; not while a run is going on")
    return f"{often} {span} per {per}{inside}"


def _awaited(awaited: Mapping[str, Json]) -> str:
    match = " and ".join(f"{path} is {value}" for path, value in (awaited.get("match") or {}).items())
    where = in_words(awaited["where"]) if awaited.get("where") else ""
    tests = " and ".join(test for test in (match, where) if test)
    return f"{awaited['event']} comes{f', where {tests}' if tests else ''}"


def _steps(raw: Iterable[Mapping[str, Json]] | None) -> list[Line]:
    return [_step(one) for one in raw or ()]


def step_line(raw: Mapping[str, Json]) -> str:
    """One step in one line, without what stands under it."""
    return _step(raw).text


def _step(raw: Mapping[str, Json]) -> Line:
    kind = kind_of(raw)
    assert kind is not None, "only checked steps are shown"
    text, ways = _SAID.get(kind.kind, _other)(raw)
    notes = list(_notes(raw))
    under = [*ways, *(Line(note) for note in notes)]
    if isinstance(raw.get("on_error"), list):
        under.append(Line("if it fails", _steps(raw["on_error"])))
    return Line(text, under, raw.get("id"))


_Said = tuple[str, list[Line]]


def _do(raw: Mapping[str, Json]) -> _Said:
    purpose = f" for {raw['purpose']}" if raw.get("purpose") else ""
    given = [Line(f"{name}: {_short(value)}") for name, value in (raw.get("with") or {}).items()]
    return f"do {raw['do']}{purpose}", given


def _wait(raw: Mapping[str, Json]) -> _Said:
    wait = raw["wait"]
    if wait == "exit":
        return "wait for what ends it early", []
    if isinstance(wait, Mapping):
        wait = wait["until"] if list(wait) == ["until"] and isinstance(wait["until"], Mapping) else wait
        return f"wait until {_until(wait) if 'until' in wait else _local(wait)}", []
    return f"wait {wait}", []


def _until(until: Mapping[str, Json]) -> str:
    offset = str(until.get("offset", ""))
    shift = f"{offset.removeprefix('-')} {'before' if offset.startswith('-') else 'after'} " if offset else ""
    past = "; if that has passed, the run ends" if until.get("if_past") == "stop" else ""
    return f"{shift}{until['until']}{past}"


def _local(wait: Mapping[str, Json]) -> str:
    days = f" on {', '.join(wait['weekday'])}" if wait.get("weekday") else ""
    zone = wait.get("zone")
    whose = "" if zone is None else " in the contact's zone" if zone == "contact" else f" in {zone}"
    return f"{wait['time']}{days}{whose}"


def _wait_for(raw: Mapping[str, Json]) -> _Said:
    timeout = raw["timeout"]
    limit = f"until {_until(timeout)}" if isinstance(timeout, Mapping) else f"up to {timeout}"
    if timeout == "never":
        limit = "for ever"
    ways = [Line(f"{name}: when {_awaited(one)}", _steps(raw.get(name))) for name, one in raw["wait_for"].items()]
    if timeout != "never":
        silent = _steps(raw.get("on_timeout"))
        ways.append(Line("nothing in time" if silent else "nothing in time: goes on", silent))
    return f"wait {limit} for {' or '.join(raw['wait_for'])}", ways


def _if(raw: Mapping[str, Json]) -> _Said:
    ways = [Line("then", _steps(raw["then"]))]
    if raw.get("else"):
        ways.append(Line("else", _steps(raw["else"])))
    return f"if {in_words(raw['if'])}", ways


def _choose(raw: Mapping[str, Json]) -> _Said:
    ways = [
        Line(f"if {in_words(way['if'])}", _steps(way["then"])) if "if" in way else Line("else", _steps(way["else"]))
        for way in raw["choose"]
    ]
    return "choose the first that fits", ways


def _set(raw: Mapping[str, Json]) -> _Said:
    return "set", [Line(f"{name}: {_short(value)}") for name, value in raw["set"].items()]


def _stop(raw: Mapping[str, Json]) -> _Said:
    return f"stop: {raw['stop']}", []


def _other(raw: Mapping[str, Json]) -> _Said:
    return ", ".join(f"{name}: {_short(value)}" for name, value in raw.items() if name != "id"), []


_SAID = {
    "do": _do,
    "wait": _wait,
    "wait_for": _wait_for,
    "if": _if,
    "choose": _choose,
    "set": _set,
    "stop": _stop,
}


def _notes(raw: Mapping[str, Json]) -> Iterable[str]:
    if "valid_for" in raw:
        yield f"not sent when later than {raw['valid_for']}"
    if "confirms" in raw:
        yield f"confirms {raw['confirms']}"
    if "require_sent" in raw:
        yield f"only if {raw['require_sent']} was sent"
    if raw.get("on_error") in ("continue", "stop"):
        yield f"if it fails, {'the run goes on' if raw['on_error'] == 'continue' else 'the run ends'}"
    if "on_unknown" in raw:
        after = {"continue": "the run goes on", "stop": "the run ends", "ask": "somebody is asked"}
        yield f"if nobody can know, {after[raw['on_unknown']]}"


def _short(value: Json) -> str:
    text = value if isinstance(value, str) else str(value)
    line = " ".join(text.split())
    return line if len(line) <= _MOST_TEXT else f"{line[: _MOST_TEXT - 1]}…"
