"""`hub recipes new`: a first recipe out of a few answers, with a test that passes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hub.cli.asking import ask, choose
from hub.cli.entry import run, with_hub
from hub.cli.finding import TEST, there_is_a_hub
from hub.cli.output import say
from hub.errors import ConfigError, NotThere

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hub.catalogue import Catalogue
    from hub.connector import Action, Trigger
    from hub.drafting import Act, Draft
    from hub.events import Json
    from hub.process import Hub
    from hub.purposes import Purpose

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NO_MORE, _ANOTHER = "no more", "a purpose of its own"


def add_to(app: typer.Typer) -> None:
    """Add this command to the group."""
    app.command("new")(new)


def new(
    name: Annotated[str | None, typer.Option("--name", help="The recipe's name, which is the file's, too.")] = None,
    on: Annotated[str | None, typer.Option("--on", metavar="EVENT", help="The event that starts it.")] = None,
    do: Annotated[
        list[str] | None, typer.Option("--do", metavar="ACTION", help="What it does; may be given again.")
    ] = None,
    wait: Annotated[
        list[str] | None,
        typer.Option("--wait", metavar="DURATION", help="Before the first action, the second, …; 0s for none."),
    ] = None,
    purpose: Annotated[
        str | None, typer.Option("--purpose", metavar="NAME[=CLASS]", help="What its messages are for.")
    ] = None,
    with_: Annotated[
        list[str] | None, typer.Option("--with", metavar="FIELD=VALUE", help="A field of every action that takes it.")
    ] = None,
    connection: Annotated[
        list[str] | None,
        typer.Option("--connection", metavar="CONNECTOR=NAME", help="Which one, where there are several."),
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where the files go.")] = Path("recipes"),
) -> None:
    """Write a new recipe and a test of it that passes; asks for what the options leave open. Never overwrites.

    With --name, --on and --do nothing is asked: what is needed beside is suggested by the schemas.
    """
    from hub.plugins import load_plugins

    plugins = load_plugins(quarantine=True)
    connected, known = with_hub(_known) if there_is_a_hub() else ({}, {})
    asked = not (name and on and do)
    answers = _Answers(plugins.catalogue, connected, _purposes_beside(folder), known, asked=asked)
    name = answers.name(name, folder)
    event, trigger = answers.event(on)
    acts = answers.acts(trigger, do or [], wait or [], purpose, _pairs(with_ or [], "--with"))
    draft = answers.draft(name, event, acts, _pairs(connection or [], "--connection"))
    files = run(_written(draft, answers, folder))
    say(f"wrote {' and '.join(map(str, files))}; its test passes")
    say(f"next: `hub recipes show {files[0]}`, then `hub recipes plan {folder}`")


async def _known(hub: Hub) -> tuple[dict[str, list[str]], dict[str, Purpose]]:
    return await hub.connections.names(), await hub.library.purposes()


def _purposes_beside(folder: Path) -> dict[str, Purpose] | None:
    from hub.documents import text_of
    from hub.library import PURPOSES_FILE
    from hub.purposes import load_purposes

    file = folder / PURPOSES_FILE
    return load_purposes(text_of(file), file=str(file)) if file.is_file() else None


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for one in given:
        name, joint, value = one.partition("=")
        if not joint:
            raise typer.BadParameter(f"write {option} NAME=VALUE, not {one}", param_hint=option)
        found[name] = value
    return found


async def _written(draft: Draft, answers: _Answers, folder: Path) -> list[Path]:
    """Write the files, none of which is there. Raises ConfigError, RecipeErrors; then nothing is written."""
    from hub.documents import text_of
    from hub.drafting import written
    from hub.library import PURPOSES_FILE
    from hub.plugins import load_plugins

    beside = folder / PURPOSES_FILE
    there = text_of(beside) if beside.is_file() else None
    texts = await written(draft, load_plugins(quarantine=True), answers.purposes, beside=there)
    files = {folder / f"{draft.name}.yaml": texts.recipe, folder / f"{draft.name}{TEST}": texts.test}
    if texts.purposes is not None:
        files[beside] = texts.purposes
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    return list(files)


class _Answers:
    """What the options say, and what is asked where they do not."""

    def __init__(
        self,
        catalogue: Catalogue,
        connected: Mapping[str, Sequence[str]],
        beside: Mapping[str, Purpose] | None,
        known: Mapping[str, Purpose],
        *,
        asked: bool,
    ) -> None:
        self._catalogue, self._connected, self._beside, self._asked = catalogue, connected, beside, asked
        # Where a purposes file lies beside the recipe, its test knows no others.
        self.purposes: dict[str, Purpose] = dict(known if beside is None else beside)
        self._made: set[str] = set()

    def name(self, given: str | None, folder: Path) -> str:
        def problem(name: str) -> str | None:
            if not _NAME.fullmatch(name):
                return f"{name!r} is no name: use lower-case letters, digits, - and _, beginning with a letter"
            there = [file for file in (folder / f"{name}.yaml", folder / f"{name}{TEST}") if file.exists()]
            return f"{there[0]} is there already; choose another name" if there else None

        if given is None:
            return ask("Name of the recipe", problem)
        if wrong := problem(given):
            raise ConfigError(wrong)
        return given

    def event(self, given: str | None) -> tuple[str, Trigger[Any]]:
        options = {name: self._titled(self._catalogue.triggers_for(name)) for name in self._catalogue.event_names()}
        name = self._one_of(given, options, "What starts it", "event")
        return name, self._catalogue.triggers_for(name)[0]

    def acts(
        self,
        trigger: Trigger[Any],
        does: Sequence[str],
        waits: Sequence[str],
        purpose: str | None,
        given: Mapping[str, str],
    ) -> list[Act]:
        from hub.drafting import Act

        options = {name: self._titled(self._catalogue.actions_for(name)) for name in self._catalogue.action_names()}
        found: list[Act] = []
        taken: set[str] = set()
        while True:
            index = len(found)
            if index < len(does):
                name = self._one_of(does[index], options, "What it does", "action")
            elif found and not self._asked:
                break
            elif found:
                name = choose("What it does next", {_NO_MORE: "", **options}, default=_NO_MORE)
            else:
                name = self._one_of(None, options, "What it does", "action")
            if name == _NO_MORE:
                break
            action = self._action(name, given)
            wait = self._wait(waits, index)
            why = self._purpose(purpose, action) if action.message is not None else None
            input_ = self._input(action, trigger, given)
            taken |= input_.keys()
            found.append(Act(name, input_, wait, why))
        if unused := [field for field in given if field not in taken]:
            raise ConfigError(f"none of the actions takes {unused[0]}; remove --with {unused[0]}=…")
        return found

    def _action(self, does: str, given: Mapping[str, str]) -> Action[Any, Any]:
        """The action that a name stands for: a connected tool's, and of several the one that takes what is given."""
        several = self._catalogue.actions_for(does)
        ready = [one for one in several if self._connected.get(one.connector)] or several
        return min(ready, key=lambda one: len(given.keys() - one.input.model_fields.keys()))

    def draft(self, name: str, event: str, acts: Sequence[Act], given: Mapping[str, str]) -> Draft:
        from hub.catalogue import nearest
        from hub.drafting import Draft

        lines: dict[str, str] = {}
        for does in dict.fromkeys(act.does for act in acts):
            connectors = [action.connector for action in self._catalogue.actions_for(does)]
            names = [one for connector in connectors for one in self._connected.get(connector, ())]
            key = connectors[0] if len(connectors) == 1 else does
            chosen = given.get(key, given.get(connectors[0]))
            if chosen is not None and names and chosen not in names:
                raise NotThere(
                    f"{key} has no connection {chosen}{nearest(chosen, names)}; there are {', '.join(names)}"
                )
            if chosen is None and len(names) > 1:
                if not self._asked:
                    raise ConfigError(
                        f"{key} has several connections: {', '.join(names)}; add --connection {key}={names[0]}"
                    )
                chosen = choose(f"Which connection does {does}", dict.fromkeys(names, ""))
            if chosen is not None:
                lines[key] = chosen
        return Draft(name, event, acts, lines)

    def _titled(self, several: Sequence[Trigger[Any] | Action[Any, Any]]) -> str:
        connectors = {one.connector for one in several}
        missing = "" if not self._connected or connectors & self._connected.keys() else " (not connected)"
        return f"{several[0].title}{missing}"

    def _one_of(self, given: str | None, options: Mapping[str, str], question: str, thing: str) -> str:
        from hub.catalogue import nearest

        if given is None:
            # What is connected comes first.
            ordered = sorted(options, key=lambda name: (options[name].endswith("(not connected)"), name))
            return choose(question, {name: options[name] for name in ordered})
        if given not in options:
            raise NotThere(f"there is no {thing} {given}{nearest(given, options)}; `hub plugins` lists them")
        return given

    def _wait(self, waits: Sequence[str], index: int) -> str | None:
        from hub.clock import parse_duration_ms

        def problem(text: str) -> str | None:
            try:
                return None if parse_duration_ms(text) >= 0 else f"{text} is no time to wait"
            except ValueError as error:
                return str(error)

        if index < len(waits):
            if wrong := problem(waits[index]):
                raise ConfigError(wrong)
            text = waits[index]
        else:
            text = ask("Wait before it (0s: not at all)", problem, default="0s") if self._asked else "0s"
        return text if parse_duration_ms(text) else None

    def _purpose(self, given: str | None, action: Action[Any, Any]) -> str:
        from hub.purposes import LegalClass, Purpose

        assert action.message is not None, "only messages have a purpose"
        name, _, legal = (given or "").partition("=")
        if not name and self._asked:
            options = {p.name: p.legal_class.value for p in self.purposes.values() if self._fits(p, action)}
            name = choose("What is the message for", {**options, _ANOTHER: ""}) if options else _ANOTHER
            if name == _ANOTHER:
                name = ask(
                    "Name of the purpose", lambda text: None if _NAME.fullmatch(text) else f"{text!r} is no name"
                )
        if not name:
            fitting = [p.name for p in self.purposes.values() if self._fits(p, action)]
            there = f": {', '.join(fitting)}" if fitting else ", such as --purpose news=marketing"
            raise ConfigError(f"{action.type} writes to a person, so say what for with --purpose{there}")
        if name in self.purposes:
            if name in self._made and not self._fits(self.purposes[name], action):
                self.purposes[name] = replace(self.purposes[name], channel=None)
            return name
        classes = {one.value: "" for one in (LegalClass.MARKETING, LegalClass.TRANSACTIONAL)}
        if self._asked and not legal:
            legal = choose(f"What kind of message is {name}", classes)
        if legal not in classes:
            raise ConfigError(
                f"there is no purpose {name}; say its class: --purpose {name}=marketing or {name}=transactional"
            )
        if self._beside is not None:
            line = f"{name}: {{channel: {action.message.channel}, class: {legal}}}"
            raise ConfigError(f"purposes.yaml is there and has no {name}; add the line {line} to it")
        self._made.add(name)
        self.purposes[name] = Purpose(name, action.message.channel, LegalClass(legal))
        return name

    def _fits(self, purpose: Purpose, action: Action[Any, Any]) -> bool:
        return action.message is not None and purpose.channel in (None, action.message.channel)

    def _input(self, action: Action[Any, Any], trigger: Trigger[Any], given: Mapping[str, str]) -> dict[str, Json]:
        from hub.drafting import suggested, suggestion

        fields = list(action.input.model_fields)
        input_ = suggested(action, trigger)
        for name in fields:
            if name in given:
                input_[name] = _typed(given[name], input_.get(name, suggestion(action, trigger, name)))
            elif self._asked and name in input_:
                input_[name] = self._field(action, name, input_[name])
        return input_

    def _field(self, action: Action[Any, Any], name: str, value: Json) -> Json:
        from hub.steps.do import input_problems

        def problem(text: str) -> str | None:
            found = input_problems(action, {name: _typed(text, value)})
            return next((message for message, place in found if place[:1] == (name,)), None)

        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return _typed(ask(f"{action.title}: {name}", problem, default=shown), value)


def _typed(text: str, like: Json) -> Json:
    """What was typed, as a value of the kind that the field takes."""
    if isinstance(like, str):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [part.strip() for part in text.split(",")] if isinstance(like, list) else text
