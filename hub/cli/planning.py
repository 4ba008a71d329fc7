"""`hub recipes plan`: what publishing would do, for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli.entry import with_hub
from hub.cli.finding import without_tests
from hub.cli.output import AsJson, counted, note, print_error, print_json, say
from hub.errors import RecipeError, RecipeErrors

if TYPE_CHECKING:
    from hub.events import Json
    from hub.plans import Plan, RecipePlan, StepChange
    from hub.process import Hub

_SIGNS = {"new": "+", "changed": "~", "moved": ">", "removed": "-"}


def add_to(app: typer.Typer) -> None:
    """Add this command to the group."""
    app.command("plan")(plan)


def plan(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.")],
    as_json: AsJson = False,
) -> None:
    """What `hub recipes apply --publish` would do with these files; changes nothing.

    Exit code 1 when it would be refused. Warnings alone are no reason.
    """
    found, errors = with_hub(lambda hub: _planned(hub, paths))
    refused = found.refused or bool(errors)
    if as_json:
        print_json({"refused": refused, **_told(found), "errors": [_place(error) for error in errors]})
    else:
        if errors:
            print_error(RecipeErrors(errors))
        for one in found.recipes:
            _show(one)
        for name, what in found.purposes.items():
            say(f"purpose {name}: {what}")
        if not found.recipes:
            note("there was no recipe in what was given")
        elif refused:
            say("publishing would be refused", style="red")
    if refused:
        raise typer.Exit(1)


async def _planned(hub: Hub, paths: list[Path]) -> tuple[Plan, list[RecipeError]]:
    """The plan, and what is wrong with purposes files."""
    from hub.documents import text_of
    from hub.library import PURPOSES_FILE, recipe_files
    from hub.plans import Planner
    from hub.purposes import Purpose, load_purposes

    purposes: dict[str, Purpose] = {}
    sources: dict[str, str] = {}
    errors: list[RecipeError] = []
    for path in recipe_files(without_tests(paths)):
        try:
            if path.name == PURPOSES_FILE:
                purposes |= load_purposes(text_of(path), file=str(path))
            else:
                sources[str(path)] = text_of(path)
        except RecipeErrors as error:
            errors += error.errors
    planner = Planner(hub.store, hub.library, hub.connections, hub.plugins.catalogue)
    return await planner.plan(sources, purposes), errors


def _told(found: Plan) -> dict[str, Json]:
    recipes = [{**asdict(one), "errors": [_place(error) for error in one.errors]} for one in found.recipes]
    return {"recipes": recipes, "purposes": dict(found.purposes)}


def _place(error: RecipeError) -> dict[str, Json]:
    return {"file": error.file, "line": error.line, "path": error.path, "detail": error.reason}


def _show(one: RecipePlan) -> None:
    if one.errors:
        say(f"{one.name}: refused", style="red")
        print_error(RecipeErrors(one.errors))
        return
    say(f"{one.name}: {_state(one)}", style="bold")
    for version, inside in one.inside.items():
        say(f"  {counted(inside, 'run')} on version {version}, which {'stays' if inside == 1 else 'stay'} on it")
    if one.fields:
        say(f"  changed beside the steps: {', '.join(one.fields)}")
    for change in one.steps:
        say(f"  {_changed(change)}")
    for binding in one.bindings:
        by = f" ({binding.action})" if binding.does != binding.action else ""
        say(f"  {binding.step}: {binding.does}{by} over {binding.connection}")
    for pin in one.choices:
        if pin.unchecked is None and pin.written != pin.id:
            say(f"  {pin.step}: {pin.field} {pin.written} -> {pin.id}, of the {pin.choices} of {pin.connection}")
        elif pin.label is not None:
            say(f"  {pin.step}: {pin.field} {pin.id} is {pin.label}, of the {pin.choices} of {pin.connection}")
    for call in one.calls:
        after = f"after {', '.join(call.after)}" if call.after else "at once"
        given = ", ".join(f"{name}: {value}" for name, value in call.input.items())
        say(f"  would call {after}: {call.action} ({call.title}) over {call.connection} with {given or 'nothing'}")
    for name, scopes in one.missing_scopes.items():
        say(f"  warning: {name} was not granted {', '.join(scopes)}; connect it again", style="yellow")
    for warning in one.warnings:
        say(f"  warning: {warning}", style="yellow")


def _state(one: RecipePlan) -> str:
    match one.state.value:
        case "new":
            return "new, would be version 1"
        case "changed":
            return f"changed, would be version {one.version + 1}"
        case "resumed":
            return f"paused and unchanged, would start runs again as version {one.version + 1}"
    return f"unchanged, stays version {one.version}"


def _changed(change: StepChange) -> str:
    text = change.after or change.before
    fields = f" ({', '.join(change.fields)})" if change.fields else ""
    was = f", was: {change.before}" if change.after is not None and change.before not in (None, change.after) else ""
    inside = f"; {counted(change.inside, 'run')} on it" if change.inside else ""
    return f"{_SIGNS[change.change.value]} {change.change.value} {change.id}: {text}{fields}{was}{inside}"
