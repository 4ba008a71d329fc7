"""The pages of docs/connectors: what each connector of plugins/ declares, in people's words."""

from __future__ import annotations

import re
import sys
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, only its own folder is there

from pydantic import BaseModel  # noqa: E402
from pydantic_core import PydanticUndefined  # noqa: E402

from hub.clock import format_duration  # noqa: E402
from hub.connector import Action, Auth, ClientCredentials, Concurrency, Connector, Field, OAuth2, Trigger  # noqa: E402
from hub.events import Money  # noqa: E402
from hub.plugins import load_plugins  # noqa: E402
from hub.recipes.chosen import chosen_fields  # noqa: E402

NOTE = "<!-- Made by tools/make_docs.py from the declarations of {source}: change those, then run `python tools/make_docs.py`. -->"

_EFFECTS = {
    "idempotent": "idempotent: asked again when the answer is lost, to the same end",
    "keyed": "keyed: asked again with the same key, which the vendor recognises for {window}; after that it {then}",
    "reconcilable": "reconcilable: looked up when the answer is lost, and asked again only if it is not there",
    "at_most_once": "at most once: never asked again; when the answer is lost it ends as unknown",
}
_PRIVACY = {
    "erase_person": "the person is erased here",
    "export_person": "what is known of the person is gathered for the operator",
    "erase_account": "everybody who is known through this connection only is erased here",
}
_WORDS: Mapping[object, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    Decimal: "number",
    bool: "yes or no",
    datetime: "time",
    date: "date",
    dict: "mapping",
    list: "list",
    Money: "money",
    Any: "anything",
}


def connectors() -> dict[str, Connector]:
    """The connectors of plugins/, by name. Raises SystemExit for a plugin that is not installed."""
    loaded = load_plugins()
    brought = {info.name: info.connectors for info in loaded.infos}
    found: dict[str, Connector] = {}
    for file in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        declared = tomllib.loads(file.read_text(encoding="utf-8"))["project"].get("entry-points", {}).get("hub", {})
        for plugin in declared:
            if plugin not in brought:
                sys.exit(f"{file.parent.relative_to(ROOT)} is not installed; run `make .venv/installed-test`")
            found |= {name: loaded.catalogue.connectors[name] for name in brought[plugin]}
    return dict(sorted(found.items()))


def pages() -> dict[str, Iterable[str]]:
    """The lines of each page, by its name below docs/connectors."""
    found = connectors()
    made: dict[str, Iterable[str]] = {name: _page(connector) for name, connector in found.items()}
    return {"README": _index(found.values()), **made}


# -- the index ---------------------------------------------------------------------------------------------------------


def _index(found: Iterable[Connector]) -> Iterator[str]:
    yield NOTE.format(source="the connectors in plugins")
    yield "\n# Connectors\n"
    yield "What each connector needs, what can happen there, what can be done there."
    yield "How one is written stands in [connectors.md](../connectors.md); what a vendor asks of you, in the plugin's README.\n"
    yield "| connector | triggers | actions | provides | past | choices |\n|---|---|---|---|---|---|"
    for one in found:
        declared: list[Trigger[Any] | Action[Any, Any]] = [*one.triggers.values(), *one.actions.values()]
        provides = sorted({d.provides for d in declared if d.provides})
        cells = [
            f"[{one.title}]({one.name}.md)",
            str(len(one.triggers)),
            str(len(one.actions)),
            _codes(provides),
            _codes(one.histories),
            _codes(one.choices),
        ]
        yield _row(cells)


# -- one connector -----------------------------------------------------------------------------------------------------


def _page(one: Connector) -> Iterator[str]:
    yield NOTE.format(source=f"the connector {one.name}")
    yield f"\n# {one.title}\n"
    yield f"The connector `{one.name}`; calls go to {_codes(one.hosts)}."
    if one.sandbox:
        yield "It has a sandbox: a connection may be made with `--sandbox`."
    yield "[All connectors](README.md)"
    yield from _connecting(one)
    yield from _triggers(one)
    yield from _actions(one)
    yield from _choices(one)
    yield from _budgets(one)
    yield from _versions(one)
    yield from _lacks(one)


def _connecting(one: Connector) -> Iterator[str]:
    yield "\n## Connecting\n"
    if one.whoami is not None:
        yield "`hub connections test` asks whose account it is."
    if one.subscriptions is not None:
        yield "Webhooks are registered at the vendor by the hub."
    if one.webhook is not None and one.webhook.secrets:
        yield f"Its calls are verified by {_codes(one.webhook.secrets)}."
    if one.forget_ is not None:
        yield "Who is erased, or withdraws their consent to marketing, is taken out of audiences and lists there."
    for kind in one.auth:
        yield f"\n### {kind.name}\n"
        yield f"{_how(kind)}\n"
        yield "| field | what it is | secret | needed | default |\n|---|---|---|---|---|"
        yield from (_field_row(f) for f in (*one.fields, *kind.fields))
        if isinstance(kind, OAuth2) and kind.scopes:
            yield f"\nScopes: {_codes(kind.scopes)}."


def _how(kind: Auth) -> str:
    if isinstance(kind, OAuth2):
        return "Authorised in the browser, for an app of yours (`hub apps add`)."
    if isinstance(kind, ClientCredentials):
        return "A client id and secret, which the hub exchanges for a token again and again."
    return "Credentials that somebody gives once."


def _field_row(f: Field) -> str:
    what = f"{f.title}. {f.help}" if f.help else f.title
    default = f"`{f.default}`" if f.default is not None and not f.secret else ""
    return _row([f"`{f.name}`", what, _yes(f.secret), _yes(f.required), default])


# -- what can happen ---------------------------------------------------------------------------------------------------


def _triggers(one: Connector) -> Iterator[str]:
    if not one.triggers:
        return
    yield "\n## What can happen\n"
    yield "| event | | comes by |\n|---|---|---|"
    for trigger in one.triggers.values():
        yield _row([f"[`{trigger.type}`](#{_anchor(trigger.type)})", trigger.title, "; ".join(_ways(one, trigger))])
    for trigger in one.triggers.values():
        yield f"\n### {trigger.type}\n"
        yield f"{trigger.title}."
        yield from _facts(
            {
                "Comes by": "; ".join(_ways(one, trigger)),
                "Capability": _codes([trigger.provides] if trigger.provides else ()),
                "Scopes": _codes(trigger.scopes),
                "`match` may use": _codes(trigger.correlate),
                "Tells of consent": "yes" if trigger.consent else "",
                "Past": "`hub connections backfill` reads it" if trigger.name in one.histories else "",
                "Privacy": _PRIVACY[trigger.privacy.value] if trigger.privacy else "",
                "Connection": "needs re-authorisation after it" if trigger.ends_access else "",
            }
        )
        yield from _model(trigger.payload, "field")


def _ways(one: Connector, trigger: Trigger[Any]) -> Iterator[str]:
    if trigger.topics and trigger.topics != ("",):
        yield f"webhook {_codes(trigger.topics)}{', filled in by a call' if trigger.enrich_ else ''}"
    elif trigger.topics:
        yield "webhook"
    if poll := one.polls.get(trigger.name):
        yield f"asked for every {format_duration(poll.every_s * 1000)}"
    if quiet := trigger.quiet:
        ends = f", unless {_codes(quiet.cancel)} comes" if quiet.cancel else ""
        asked = "; the vendor is asked whether it is still so" if trigger.confirm_ else ""
        yield f"derived: {format_duration(quiet.after_s * 1000)} without {_codes(quiet.source)}{ends}{asked}"


# -- what can be done --------------------------------------------------------------------------------------------------


def _actions(one: Connector) -> Iterator[str]:
    if not one.actions:
        return
    yield "\n## What can be done\n"
    yield "| action | | provides |\n|---|---|---|"
    for action in one.actions.values():
        provides = _codes([action.provides] if action.provides else ())
        yield _row([f"[`{action.type}`](#{_anchor(action.type)})", action.title, provides])
    for action in one.actions.values():
        yield f"\n### {action.type}\n"
        yield f"{action.title}."
        yield from _facts(
            {
                "Effect": _effect(action),
                "Writes to a person by": _codes([action.message.channel] if action.message else ()),
                "Capability": _codes([action.provides] if action.provides else ()),
                "Together": _together(action),
                "Scopes": _codes(action.scopes),
                "Takes of the budget": str(action.cost) if action.cost != 1 else "",
                "Counts for spending caps": _codes(action.units),
            }
        )
        yield from _model(action.input, "input", chosen_fields(action.input))
        yield from _model(action.output, "output")


def _effect(action: Action[Any, Any]) -> str:
    window = format_duration(int((action.key_window_s or 0) * 1000))
    then = "is looked up" if action.lookup_ else "ends as unknown"
    return _EFFECTS[action.effect.value].format(window=window, then=then)


def _together(action: Action[Any, Any]) -> str:
    if action.batch is None:
        return ""
    return f"up to {action.batch.size:,} in one call, gathered for at most {action.batch.linger_s:g} s"


def _choices(one: Connector) -> Iterator[str]:
    if not one.choices:
        return
    yield "\n## What can be chosen\n"
    yield "A recipe may write the label; a plan shows the id, and publishing pins it."
    yield "`hub connections choices NAME CHOICES` lists them.\n"
    yield "| choices | taken by | depend on |\n|---|---|---|"
    taken = [(a, name, chosen) for a in one.actions.values() for name, chosen in chosen_fields(a.input).items()]
    for choices in one.choices:
        mine = [(a, name, chosen) for a, name, chosen in taken if chosen.choices == choices]
        within = dict.fromkeys(depends for *_, chosen in mine for depends in chosen.within)
        yield _row([f"`{choices}`", _codes(f"{a.type}.{name}" for a, name, _ in mine), _codes(within)])


def _budgets(one: Connector) -> Iterator[str]:
    if not one.budgets:
        return
    yield "\n## Budgets\n"
    for budget in one.budgets:
        if isinstance(budget, Concurrency):
            yield f"- at most {budget.limit:,} calls in flight"
        else:
            of = ", of the calls that draw on it alone" if budget.apart else ""
            yield f"- {budget.name}: {budget.limit:,g} at once, {budget.per_s:,g} more each second{of}"
    if one.throttle is not None:
        yield "\nWhat the vendor says about its own count corrects them."


def _versions(one: Connector) -> Iterator[str]:
    if one.versions is None:
        return
    yield "\n## Versions of its API\n"
    yield f"The setting `{one.versions.field}` names the version; `hub doctor` and plans warn 90 days before its end.\n"
    yield "| version | may no longer answer from |\n|---|---|"
    yield from (_row([f"`{version}`", f"{day}"]) for version, day in one.versions.ends.items())


def _lacks(one: Connector) -> Iterator[str]:
    if not one.lacks:
        return
    yield "\n## What it lacks\n"
    yield "| capability | what is missing, and what to connect |\n|---|---|"
    yield from (_row([f"`{name}`", what]) for name, what in one.lacks.items())


# -- models ------------------------------------------------------------------------------------------------------------


def _model(model: type[BaseModel], title: str, chosen: Mapping[str, Any] | None = None) -> Iterator[str]:
    if not model.model_fields:
        return
    yield f"\n| {title} | type | |\n|---|---|---|"
    for name, field in model.model_fields.items():
        shown = field.alias or name
        remarks = [field.description or ""]
        if not field.is_required():
            remarks.append(_unless_given(field.default) if title == "input" else _if_empty(field.default))
        if chosen and shown in chosen:
            remarks.append(f"one of the [{chosen[shown].choices}](#what-can-be-chosen)")
        yield _row([f"`{shown}`", _type(field.annotation), "; ".join(one for one in remarks if one)])


def _unless_given(default: object) -> str:
    if default is PydanticUndefined or default in (None, "", [], ()):
        return "may be left out"
    shown = (
        default.value if isinstance(default, Enum) else str(default).lower() if isinstance(default, bool) else default
    )
    return f"default `{shown}`"


def _if_empty(default: object) -> str:
    return "may be empty" if default is PydanticUndefined or default in (None, "", [], ()) else ""


def _type(annotation: Any) -> str:
    """A field's type in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin in (Union, types.UnionType):
        kinds = dict.fromkeys(_type(part) for part in parts if part is not type(None))
        return " or ".join(kinds)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is not None and parts:
        inner = _type(parts[-1] if origin is dict else parts[0])
        return f"mapping to {inner}" if origin is dict else f"list of {inner}"
    if annotation in _WORDS:
        return _WORDS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{one.value}`" for one in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"{{{', '.join(annotation.model_fields)}}}"
    name = str(getattr(annotation, "__name__", annotation))
    return "time" if "datetime" in name.lower() else name


# -- Markdown ----------------------------------------------------------------------------------------------------------


def _facts(given: Mapping[str, str]) -> Iterator[str]:
    lines = [f"- {title}: {what}" for title, what in given.items() if what]
    if lines:
        yield "\n" + "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _yes(true: bool) -> str:
    return "yes" if true else ""


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-")
