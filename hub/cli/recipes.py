"""Commands for recipes: check, save, publish, pause, look at, test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.cli import planning, previewing, simulating, writing
from hub.cli.entry import read, run, with_hub
from hub.cli.finding import TEST, NameOrFile, is_file, read_file, without_tests
from hub.cli.output import AsJson, counted, note, print_error, print_json, say, show_list, show_tree
from hub.errors import ConfigError, RecipeError, RecipeErrors

if TYPE_CHECKING:
    from hub import shown
    from hub.library import Change
    from hub.process import Hub
    from hub.purposes import Purpose
    from hub.recipes import Recipe
    from hub.rehearsal import TestReport

Paths = Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]

recipes = typer.Typer(help="Recipes: check, publish, pause, test.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(recipes, name="recipes", rich_help_panel="Automate")


@recipes.command("validate")
def validate(paths: Paths, as_json: AsJson = False) -> None:
    """Check recipe files without a database; every mistake is shown as FILE:LINE."""
    from hub.library import load_files
    from hub.plugins import load_plugins

    catalogue = load_plugins(quarantine=True).catalogue
    errors: tuple[RecipeError, ...] = ()
    try:
        _, found = load_files(without_tests(paths), catalogue)
    except RecipeErrors as error:
        errors, found = error.errors, {}
    if as_json:
        print_json(
            {
                "recipes": sorted(found),
                "errors": [{"file": e.file, "line": e.line, "path": e.path, "detail": e.reason} for e in errors],
            }
        )
    elif errors:
        print_error(RecipeErrors(errors))
    else:
        say(f"{counted(len(found), 'recipe')} checked, nothing wrong: {', '.join(sorted(found)) or 'none found'}")
    if errors:
        raise typer.Exit(1)


@recipes.command("apply")
def apply(
    paths: Paths,
    publish: Annotated[bool, typer.Option("--publish", help="Make them live at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Save recipe files as drafts, purposes first. If anything is wrong, nothing is saved."""

    async def apply_all(hub: Hub) -> tuple[list[Change], list[str]]:
        from hub.documents import text_of
        from hub.library import PURPOSES_FILE, recipe_files

        sources = {path: text_of(path) for path in recipe_files(without_tests(paths))}
        await _check_all(hub, sources)
        changes: list[Change] = []
        purposes: list[str] = []
        for path, source in sources.items():
            if path.name == PURPOSES_FILE:
                purposes += await hub.library.apply_purposes(source, file=str(path))
            else:
                changes.append(await hub.library.apply(source, file=str(path), publish=publish))
        hub.ring()
        return changes, purposes

    changes, purposes = with_hub(apply_all)
    if as_json:
        print_json([vars(change) for change in changes])
        return
    if purposes:
        say(f"{counted(len(purposes), 'purpose')} saved: {', '.join(purposes)}")
    for change in changes:
        say(_changed(change, saved=not publish))
    if not changes:
        note("there was no recipe in what was given")


async def _check_all(hub: Hub, sources: dict[Path, str]) -> None:
    """Raise RecipeErrors with everything that is wrong in any of the files."""
    from hub.library import PURPOSES_FILE
    from hub.purposes import load_purposes

    purposes: dict[str, Purpose] = {}
    errors: list[RecipeError] = []
    for path, source in sources.items():
        try:
            if path.name == PURPOSES_FILE:
                purposes |= load_purposes(source, file=str(path))
            else:
                await hub.library.check(source, file=str(path), more_purposes=purposes)
        except RecipeErrors as error:
            errors += error.errors
    if errors:
        raise RecipeErrors(errors)


@recipes.command("publish")
def publish(name: Name, as_json: AsJson = False) -> None:
    """Make a recipe's draft live, or let a paused recipe go on."""
    _report(with_hub(lambda hub: hub.library.publish(name)), as_json=as_json)


@recipes.command("pause")
def pause(name: Name, as_json: AsJson = False) -> None:
    """Start no new runs of a recipe; those inside go on."""
    _report(with_hub(lambda hub: hub.library.pause(name)), as_json=as_json)


@recipes.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """Every recipe: state, live version, whether there is a newer draft."""

    columns = {
        "name": "recipe",
        "state": "state",
        "version": "version",
        "draft": "newer draft",
        "updated_at": "changed (UTC)",
    }
    from hub.store import views

    rows = read(views.list_recipes)
    show_list(rows, columns, as_json=as_json, empty="no recipes yet; add them with `hub recipes apply`")


@recipes.command("show")
def show(
    name: NameOrFile,
    version: Annotated[int | None, typer.Option(min=1, help="A published version instead of the newest text.")] = None,
    source: Annotated[bool, typer.Option("--source", help="The text as it was written.")] = False,
    as_json: AsJson = False,
) -> None:
    """A recipe in people's words: what starts it, who enters, what ends it, and its steps. A file needs no database."""
    if is_file(name) and version is not None:
        raise typer.BadParameter("a file has no versions", param_hint="--version")
    recipe: Recipe | None
    if is_file(name):
        told, recipe = _of_file(name)
    else:
        told, recipe = with_hub(lambda hub: _of_hub(hub, name, version, checked=not (source or as_json)))
    if as_json:
        print_json(told)
        return
    if source or recipe is None:
        print(told["source"].rstrip("\n"))
    else:
        from hub.outline import outline

        show_tree(outline(recipe))
    for one in told["versions"]:
        inside = counted(one["inside"], "run")
        note(f"version {one['version']} was published at {one['published_at']}, {inside} inside")


def _of_file(name: str) -> tuple[shown.Recipe, Recipe]:
    from hub.plugins import load_plugins
    from hub.recipes import load

    source, _ = read_file(name)
    recipe = load(source, load_plugins(quarantine=True).catalogue, file=name)
    return {"name": recipe.name, "source": source, "versions": []}, recipe


async def _of_hub(hub: Hub, name: str, version: int | None, *, checked: bool) -> tuple[shown.Recipe, Recipe | None]:
    return await hub.library.shown(name, version), await hub.library.recipe(name, version) if checked else None


@recipes.command("test")
def run_tests(
    paths: Paths,
    trace: Annotated[bool, typer.Option("--trace", help="Show every step of passed cases, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rehearse recipe tests (*.test.yaml) on a clock of their own; nothing leaves the machine."""

    async def rehearse() -> list[TestReport]:
        from hub.plugins import load_plugins
        from hub.rehearsal import run_test_file

        plugins = load_plugins(quarantine=True)
        return [await run_test_file(file, plugins) for file in _test_files(paths)]

    reports = run(rehearse())
    cases = [(report.file, case) for report in reports for case in report.cases]
    failed = sum(not case.passed for _, case in cases)
    if as_json:
        print_json([{"file": file, "passed": case.passed, **vars(case)} for file, case in cases])
    else:
        for file, case in cases:
            say(
                f"{'passed' if case.passed else 'FAILED'}  {file}: {case.name}", style="green" if case.passed else "red"
            )
            say(*(f"        {problem}" for problem in case.problems))
            if trace or not case.passed:
                say(*(f"        | {line}" for line in case.trace), style="dim")
        say(f"{counted(len(cases), 'case')}, {failed} failed")
    if failed:
        raise typer.Exit(1)


@recipes.command("schema")
def schema() -> None:
    """The JSON Schema of a recipe file, for editors."""
    from hub.recipes import json_schema

    print_json(json_schema())


writing.add_to(recipes)
planning.add_to(recipes)
previewing.add_to(recipes)
simulating.add_to(recipes)


def _report(change: Change, *, as_json: bool) -> None:
    if as_json:
        print_json(vars(change))
    else:
        say(_changed(change))


def _changed(change: Change, *, saved: bool = False) -> str:
    """What was done to a recipe, in one line."""
    if saved:
        live = f"version {change.version} stays {change.state}; " if change.version else ""
        return f"{change.name}: draft saved; {live}`hub recipes publish {change.name}` makes it live"
    again = ", as it was already" if change.unchanged else ""
    return f"{change.name}: {change.state}, version {change.version}{again}"


def _test_files(paths: Iterable[Path]) -> list[Path]:
    """The test files among files and folders. Raises ConfigError when there is none."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no file or folder {path}; give the path of one that is there")
        found += sorted(path.rglob(f"*{TEST}")) if path.is_dir() else [path]
    if not found:
        raise ConfigError(f"there is no recipe test in {', '.join(map(str, paths))}; they are named *{TEST}")
    return found
