"""A new recipe from a few choices: its text with what the schemas suggest, and a test of its own that passes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.catalogue import Catalogue
from hub.clock import format_duration, parse_duration_ms, parse_time_ms
from hub.connector import Action, Trigger
from hub.errors import ConfigError
from hub.events import Json
from hub.library import PURPOSES_FILE
from hub.playing import GivenConsent
from hub.plugins import Plugins
from hub.purposes import LegalClass, Purpose
from hub.recipes import load
from hub.rehearsal import run_test_file
from hub.samples import PERSON, sample
from hub.shapes import Shape, of_model
from hub.simulation import Path as Way
from hub.simulation import Played, simulate

_START = "2026-01-05T09:00:00Z"
_ADDRESSES = {"sms": "phone", "whatsapp": "phone", "voice": "phone", "email": "email"}
_TEXTS = ("body", "text", "message", "subject")
_HELLO = "Hello {{ contact.first_name | default: 'there' }}!"


@dataclass(frozen=True)
class Act:
    """One action, after a wait if `wait` says so; `does` is its name or the capability it provides."""

    does: str
    input: Mapping[str, Json]
    wait: str | None = None
    purpose: str | None = None


@dataclass(frozen=True)
class Draft:
    """What was chosen."""

    name: str
    event: str
    acts: Sequence[Act]
    connections: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """The texts of the files: the recipe, its test, and the purposes where there was no file of them."""

    recipe: str
    test: str
    purposes: str | None


def suggested(action: Action[Any, Any], trigger: Trigger[Any]) -> dict[str, Json]:
    """A value for each field that an action needs, and the text of a message: of the contact or the event where they
    have it."""
    schema = action.input.model_json_schema(mode="validation")
    fields = Shape(schema, schema.get("$defs", {}))
    needed = [*schema.get("required", []), *(_words(schema) if action.message else ())]
    return {name: suggestion(action, trigger, name, fields) for name in dict.fromkeys(needed)}


def _words(schema: Mapping[str, Json]) -> Sequence[str]:
    """The field that a message's text goes into, which need not be required: a template may stand in for it."""
    return [name for name in _TEXTS if name in schema.get("properties", {}) and name != "subject"][:1]


def suggestion(action: Action[Any, Any], trigger: Trigger[Any], name: str, fields: Shape | None = None) -> Json:
    """A value for one field of an action's input."""
    if fields is None:
        schema = action.input.model_json_schema(mode="validation")
        fields = Shape(schema, schema.get("$defs", {}))
    shape = fields.child(name) or Shape()
    if name == "to" and action.message is not None and action.message.channel in _ADDRESSES:
        return f"{{{{ contact.{_ADDRESSES[action.message.channel]} }}}}"
    if name in of_model(trigger.payload).names():
        return f"{{{{ trigger.{name} }}}}"
    if name in PERSON:
        return f"{{{{ contact.{name} }}}}"
    if choices := shape.choices():
        return choices[0]
    kinds = shape.kinds()
    if "string" in kinds or not kinds:
        return _HELLO if name in _TEXTS else name.replace("_", "-")
    if "number" in kinds:
        return next((one["minimum"] for one in (shape.schema,) if "minimum" in one), 1)
    return [name.replace("_", "-")] if "array" in kinds else False if "boolean" in kinds else {}


# -- the recipe --------------------------------------------------------------------------------------------------------


def recipe_text(draft: Draft, catalogue: Catalogue, purposes: Mapping[str, Purpose]) -> str:
    """The recipe file."""
    lines = [f"recipe: {draft.name}", "", f"on: {{event: {draft.event}}}"]
    if any(act.purpose for act in draft.acts) and all(t.subject for t in catalogue.triggers_for(draft.event)):
        lines += [
            "",
            "# One run per person at a time; say how often with at_most and within.",
            "entry: {per: contact, at_most: 1, within: 1d}",
        ]
    if draft.connections:
        lines += ["", "connections:", *(f"  {thing}: {_value(name)}" for thing, name in draft.connections.items())]
    lines += ["", "steps:", *_steps(draft, catalogue, purposes)]
    return "\n".join(lines) + "\n"


def _steps(draft: Draft, catalogue: Catalogue, purposes: Mapping[str, Purpose]) -> Iterator[str]:
    for address in _addresses(draft):
        yield f"  - if: {{contact.{address}: {{exists: false}}}}"
        yield "    then:"
        yield f"      - stop: no-{address}"
    names = _names(draft)
    for index, act in enumerate(draft.acts):
        if act.wait:
            yield f"  - wait: {act.wait}"
        yield f"  - do: {act.does}"
        yield f"    as: {names[index]}"
        if act.purpose:
            yield f"    purpose: {act.purpose}"
            known = purposes.get(act.purpose)
            if known is not None and known.legal_class is LegalClass.SERVICE and index:
                yield f"    confirms: {names[index - 1]}"
            if any(one.wait for one in draft.acts[: index + 1]):
                yield "    valid_for: 12h"
        if act.input:
            yield "    with:"
            yield from (f"      {name}: {_value(value)}" for name, value in act.input.items())


def _addresses(draft: Draft) -> list[str]:
    """The contact's addresses that messages of the recipe need."""
    texts = " ".join(str(value) for act in draft.acts if act.purpose for value in act.input.values())
    return [name for name in ("phone", "email") if f"contact.{name} }}}}" in texts]


def _names(draft: Draft) -> list[str]:
    """A name for each action, by what it does."""
    found: list[str] = []
    for act in draft.acts:
        word = act.does.rpartition(".")[2].replace("_", "-")
        same = sum(name == word or name.startswith(f"{word}-") for name in found)
        found.append(f"{word}-{same + 1}" if same else word)
    return found


def _value(value: Json) -> str:
    """A value as YAML, which takes JSON as it is."""
    return json.dumps(value, ensure_ascii=False)


# -- its test ----------------------------------------------------------------------------------------------------------


async def written(draft: Draft, plugins: Plugins, purposes: Mapping[str, Purpose], *, beside: str | None) -> Written:
    """The files of a draft. `beside` is the text of the purposes file that lies there already.

    The test says what came of playing a made-up event, and passes. Raises RecipeErrors, ConfigError.
    """
    catalogue = plugins.catalogue
    recipe = recipe_text(draft, catalogue, purposes)
    load(recipe, catalogue, file=f"{draft.name}.yaml", purposes=purposes)
    [trigger, *_] = catalogue.triggers_for(draft.event)
    at_ms = parse_time_ms(_START)
    data = sample(trigger, at_ms)
    consent = list(_consent(draft, catalogue))
    event = trigger.event(trigger.recall(data), at_ms)
    played = [Played(at_ms, event, consent=consent)]
    [*ways] = (await simulate(recipe, played, plugins, purposes=purposes)).paths
    if not ways:
        raise ConfigError(f"a made-up {draft.event} does not start the recipe; write its test by hand")
    if ways[0].ended_by == "failed":
        raise ConfigError(f"a run of {draft.name} would fail: {ways[0].reason}; give fields by --with FIELD=VALUE")
    needed = None if beside is not None else _purposes_text(draft, purposes)
    found = Written(recipe, _test_text(draft, trigger, data, consent, ways[0]), needed)
    await _try_out(draft, found, beside, plugins)
    return found


def _consent(draft: Draft, catalogue: Catalogue) -> Iterator[GivenConsent]:
    channels = {
        action.message.channel
        for act in draft.acts
        for action in catalogue.actions_for(act.does)
        if act.purpose and action.message is not None
    }
    for channel in sorted(channels & _ADDRESSES.keys()):
        yield GivenConsent(channel=channel, address=str(PERSON[_ADDRESSES[channel]]))


def _purposes_text(draft: Draft, purposes: Mapping[str, Purpose]) -> str | None:
    named = [purposes[name] for name in dict.fromkeys(act.purpose for act in draft.acts if act.purpose)]
    lines = [
        f"{p.name}: {{{f'channel: {p.channel}, ' if p.channel else ''}class: {p.legal_class.value}}}" for p in named
    ]
    return "\n".join(lines) + "\n" if lines else None


def _test_text(
    draft: Draft, trigger: Trigger[Any], data: Mapping[str, Json], consent: Sequence[GivenConsent], way: Way
) -> str:
    start_ms = parse_time_ms(_START)
    lines = [
        "# A made-up event, and what came of it when this file was made. Correct what is not as it should be.",
        f"recipes: [{draft.name}.yaml]",
        "",
        "cases:",
        f"  - name: what {trigger.type} starts",
        f"    start: {_value(_START)}",
    ]
    if consent:
        lines.append("    consent:")
        lines += [f"      - {{channel: {one.channel}, address: {_value(one.address)}}}" for one in consent]
    lines += ["    events:", f"      - event: {trigger.type}", f"        data: {_value(data)}", "    expect:"]
    done = [effect for effect in way.effects if effect.state == "done"]
    lines.append("      effects:" if done else "      effects: []")
    for effect in done:
        given = {name: value for name, value in effect.input.items() if _compares(value)}
        said = f", with: {_value(given)}" if given else ""
        lines.append(f"        - {{at: {_after(effect.at, start_ms)}, do: {effect.action}{said}}}")
    ended = f", at: {_after(way.ended_at, start_ms)}" if way.ended_at else ""
    lines.append(f"      ends: [{{by: {way.ended_by}{ended}}}]")
    return "\n".join(lines) + "\n"


def _compares(value: Json) -> bool:
    """Whether a value stands for itself in a test: mappings are conditions there, and so are two words."""
    return isinstance(value, str | int | float) and value not in ("exists", "unknown", "")


def _after(at: str, start_ms: int) -> str:
    ms = parse_time_ms(at) - start_ms
    text = format_duration(ms) if ms else "0s"
    return text if parse_duration_ms(text) == ms else f"{ms}ms"


async def _try_out(draft: Draft, found: Written, beside: str | None, plugins: Plugins) -> None:
    """Raise ConfigError when the test does not pass, before anything is written where people keep their recipes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{draft.name}.yaml").write_text(found.recipe, encoding="utf-8")
        if (purposes := beside or found.purposes) is not None:
            (folder / PURPOSES_FILE).write_text(purposes, encoding="utf-8")
        test = folder / f"{draft.name}.test.yaml"
        test.write_text(found.test, encoding="utf-8")
        report = await run_test_file(test, plugins)
    if not report.passed:
        problems = "; ".join(problem for case in report.cases for problem in case.problems)
        raise ConfigError(f"the test of {draft.name} would not pass: {problems}")
