"""The recipes of this hub: drafts, versions, what is published, and each version ready to decide with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub import shown
from hub.catalogue import Catalogue, nearest
from hub.choosing import Choosing, Pinned
from hub.clock import Clock, rfc3339
from hub.connections import Connections
from hub.documents import read, text_of
from hub.engine import Program
from hub.engine import compile as compile_program
from hub.errors import ConfigError, NewerRelease, NotThere, RecipeError, RecipeErrors
from hub.events import Json
from hub.listening import Listeners, Published
from hub.purposes import Purpose, load_purposes
from hub.recipes import Recipe, bind, load
from hub.recipes.form import RecipeForm
from hub.steps.do import Do
from hub.steps.wait_for import WaitFor
from hub.store import recipes as rows
from hub.store import subscriptions, views
from hub.store.session import Connection, Row, Store

PURPOSES_FILE = "purposes.yaml"
# Versions that are no longer published are read again when one of their runs needs them and this many others did since.
_OLD_PROGRAMS = 500


@dataclass(frozen=True)
class Change:
    """What `apply` or `publish` did: `version` 0 means the recipe is a draft."""

    name: str
    state: str
    version: int
    unchanged: bool = False


@dataclass(frozen=True)
class _Newest:
    """The newest published version of a recipe; 0 and None when it was never published."""

    version: int
    definition: Mapping[str, Json] | None


class Library:
    """Recipes and purposes, cached; other processes' changes are seen at the next `refresh`.

    Without `choosing` nobody is asked for choices, and what is written of them stays as it is.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        connections: Connections,
        clock: Clock,
        *,
        choosing: Choosing | None = None,
        pretended: bool = False,
    ) -> None:
        self._store, self._catalogue, self._connections, self._clock = store, catalogue, connections, clock
        self.choosing, self._pretended = choosing, pretended
        self._generation, self._looked_at = -1, float("-inf")
        self._listeners = Listeners()
        self._programs: dict[tuple[str, int], Program] = {}
        self._live: frozenset[tuple[str, int]] = frozenset()
        self._purposes: dict[str, Purpose] = {}

    # -- deciding with ---------------------------------------------------------------------------------------------

    async def refresh(self, *, within_s: float = 0.0) -> None:
        """Read again if anything changed, unless it was looked at within so many seconds: one small read."""
        if time.monotonic() - self._looked_at < within_s:
            return
        async with self._store.read() as c:
            looked_at, generation = time.monotonic(), await rows.recipes_generation(c)
            if generation == self._generation:
                self._looked_at = looked_at
                return
            live = await rows.live(c)
            stored = await rows.definitions(c, [one for one in live if one not in self._programs])
            purposes = await rows.purposes(c)
        programs = {one: self._programs[one] for one in live if one in self._programs}
        for (name, version), definition in stored.items():
            programs[name, version] = _compiled(name, version, definition)
            # A hub that starts compiles them all; calls and leases are not to wait for that.
            await asyncio.sleep(0)
        self._programs |= programs
        self._listeners = Listeners(Published(*one, programs[one]) for one in live)
        self._purposes, self._live, self._generation = purposes, frozenset(live), generation
        self._looked_at = looked_at

    async def stale(self, c: Connection) -> bool:
        """Whether recipes changed since the last `refresh`, as this transaction sees it."""
        return await rows.recipes_generation(c) != self._generation

    def listening(self, event: Mapping[str, Json]) -> list[Published]:
        """The published recipes that an event (as recipes see it) may start."""
        return self._listeners.possible(event)

    async def program(self, recipe: str, version: int) -> Program:
        """A version ready to decide with. Raises ConfigError when there is none, NewerRelease."""
        found = self._programs.get((recipe, version))
        if found is None:
            async with self._store.read() as c:
                row = await rows.version(c, recipe, version)
            if row is None:
                raise ConfigError(
                    f"there is no version {version} of the recipe {recipe}; `hub recipes show {recipe}` lists its versions"
                )
            if len(self._programs) > len(self._live) + _OLD_PROGRAMS:
                self._programs = {one: kept for one, kept in self._programs.items() if one in self._live}
            found = self._programs[(recipe, version)] = _compiled(recipe, version, rows.definition_of(row))
        return found

    async def require_unused(self, connection: str) -> None:
        """Raise ConfigError when published recipes start from a connection or act on it, naming them."""
        await self.refresh()
        live = ((name, self._programs[name, version]) for name, version in self._live)
        if found := sorted(name for name, program in live if _uses(program, connection)):
            raise ConfigError(
                f"{connection} is used by the published recipe{'s' if len(found) > 1 else ''} {', '.join(found)}; pause "
                "them or bind them to another connection first, or remove it with force: what calls it waits then"
            )

    async def missing_scopes(self, name: str) -> dict[str, list[str]]:
        """The scopes that published recipes need of a connection and nobody granted, each with the recipes' names."""
        connection = await self._connections.by_name(name)
        if connection.scopes is None:
            return {}
        await self.refresh()
        missing: dict[str, list[str]] = {}
        for recipe, version in sorted(self._live):
            needed = scopes_needed(self._programs[recipe, version], name, connection.connector, self._catalogue)
            for scope in needed - connection.scopes:
                missing.setdefault(scope, []).append(recipe)
        return dict(sorted(missing.items()))

    async def started_by(self, name: str) -> list[str]:
        """The published recipes that an event of this connection may start, by name."""
        connection = await self._connections.by_name(name)
        await self.refresh()
        found = {
            recipe
            for recipe, version in self._live
            for start in self._programs[recipe, version].starts
            if name in (start.connections or {name})
            and any(type_.startswith(f"{connection.connector}.") for type_ in start.types)
        }
        return sorted(found)

    async def heard(self, name: str) -> set[str]:
        """The event types that the hub needs to hear of from a connection: what starts published recipes, what ends their
        runs, what these wait for; also what runs of recipes that are paused or were replaced wait for.
        """
        await self.refresh()
        async with self._store.read() as c:
            inside = await rows.inside(c)
            awaited = await rows.awaited(c)
        found = set(awaited)
        for recipe, version in {*self._live, *inside}:
            program = await self.program(recipe, version)
            steps = [node.step for node in program.nodes.values() if isinstance(node.step, WaitFor)]
            found |= program.exit_types.union(*(types for step in steps for types in step.types.values()))
            if (recipe, version) in self._live:
                found |= {type_ for s in program.starts if name in (s.connections or {name}) for type_ in s.types}
        return found

    def purpose(self, name: str) -> Purpose | None:
        """A purpose by name, or None."""
        return self._purposes.get(name)

    # -- changing --------------------------------------------------------------------------------------------------

    async def purposes(self) -> dict[str, Purpose]:
        """All purposes by name."""
        async with self._store.read() as c:
            return await rows.purposes(c)

    async def apply_purposes(self, source: str, *, file: str | None = None) -> dict[str, Purpose]:
        """Add or replace the purposes of a `purposes.yaml`. Raises RecipeErrors."""
        found = load_purposes(source, file=file)
        async with self._store.write() as c:
            await rows.save_purposes(c, found)
        return found

    async def check(
        self, source: str, *, file: str | None = None, more_purposes: Mapping[str, Purpose] | None = None
    ) -> Recipe:
        """A recipe checked against plugins and purposes, its step ids matched to the published version's."""
        return (await self._checked(source, file, more_purposes))[0]

    async def _checked(
        self, source: str, file: str | None, more_purposes: Mapping[str, Purpose] | None = None
    ) -> tuple[Recipe, _Newest]:
        """A checked recipe, and the version that it was checked against."""
        purposes = {**await self.purposes(), **(more_purposes or {})}
        recipe = load(source, self._catalogue, file=file, purposes=purposes)
        newest = await self._newest(recipe.name)
        if newest.definition is not None:
            recipe = load(source, self._catalogue, file=file, purposes=purposes, previous=newest.definition)
        return recipe, newest

    async def apply(self, source: str, *, file: str | None = None, publish: bool = False) -> Change:
        """Save a recipe as draft, and publish it if asked. Raises RecipeErrors; then nothing is changed."""
        if publish:
            return await self._publish(source, file)
        recipe = await self.check(source, file=file)
        async with self._store.write() as c:
            await rows.save_draft(c, recipe.name, source, self._clock.now_ms())
        row = await self._row(recipe.name)
        return Change(recipe.name, row["state"], row["version"])

    async def publish(self, name: str) -> Change:
        """Make a recipe's draft its live version; one that is paused and has no draft goes on."""
        row = await self._row(name)
        if row["draft"] is None:
            async with self._store.write() as c:
                await rows.set_state(c, name, "published", self._clock.now_ms())
                await subscriptions.hasten(c, self._clock.now_ms())
            return Change(name, "published", row["version"], unchanged=row["state"] == "published")
        return await self._publish(str(row["draft"]), name, draft=True)

    async def pause(self, name: str) -> Change:
        """No new runs; those inside go on."""
        row = await self._row(name)
        async with self._store.write() as c:
            if not await rows.set_state(c, name, "paused", self._clock.now_ms()):
                raise ConfigError(
                    f"{name} was never published, so there is nothing to pause; `hub recipes list` shows its state"
                )
            await subscriptions.hasten(c, self._clock.now_ms())
        return Change(name, "paused", row["version"], unchanged=row["state"] == "paused")

    async def bound(self, recipe: Recipe, *, file: str | None = None) -> tuple[Mapping[str, Json], Sequence[Pinned]]:
        """A recipe's definition as it would be published: a connection for everything, an id for every choice.

        Raises RecipeErrors.
        """
        return await self._bound(recipe, await self.published_definition(recipe.name), file)

    async def _bound(
        self, recipe: Recipe, before: Mapping[str, Json] | None, file: str | None
    ) -> tuple[Mapping[str, Json], Sequence[Pinned]]:
        names = await self._connections.names()
        try:
            bound = bind(recipe.definition, self._catalogue, names, pretended=self._pretended)
            return (bound, ()) if self.choosing is None else await self.choosing.pin(bound, before)
        except RecipeErrors as error:
            raise _located(error, recipe.source, file) from error

    async def _publish(self, source: str, file: str | None, *, draft: bool = False) -> Change:
        """Make a text the live version. With `draft` it is the recipe's own: another one, saved meanwhile, stays."""
        while True:
            recipe, before = await self._checked(source, file)
            bound, _ = await self._bound(recipe, before.definition, file)
            async with self._store.write() as c:
                state, version = await rows.state(c, recipe.name, keep=True)
                if (state, version, before.definition) == ("published", before.version, bound):
                    return Change(recipe.name, "published", version, unchanged=True)
                published = await rows.publish(
                    c, recipe.name, bound, source, self._clock.now_ms(), after=before.version, draft=draft
                )
                # Else somebody published it in this moment: ids and what is unchanged are judged by that.
                if published is not None:
                    await subscriptions.hasten(c, self._clock.now_ms())
                    return Change(recipe.name, "published", published)

    async def published_definition(self, name: str) -> Mapping[str, Json] | None:
        """A recipe's newest published version, or None."""
        return (await self._newest(name)).definition

    async def _newest(self, name: str) -> _Newest:
        async with self._store.read() as c:
            _, number = await rows.state(c, name)
            found = await rows.version(c, name, number) if number else None
        return _Newest(number, rows.definition_of(found) if found else None)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def listed(self, *, after: str | None = None, most: int | None = None) -> list[shown.RecipeLine]:
        """Recipes by name, at most so many of those after a name."""
        async with self._store.read() as c:
            return await views.list_recipes(c, after=after, most=most)

    async def shown(self, name: str, version: int | None = None) -> shown.Recipe:
        """A recipe's text, of its draft if there is one, or that of a version; and its versions. Raises NotThere."""
        row = await self._row(name)
        async with self._store.read() as c:
            found = await rows.versions(c, name)
        sources = {one["version"]: str(one["source"]) for one in found}
        wanted = version or row["version"]
        if version is None and row["draft"] is not None:
            source = str(row["draft"])
        elif wanted in sources:
            source = sources[wanted]
        else:
            known = ", ".join(map(str, sources)) or "none is published yet"
            raise NotThere(f"the recipe {name} has no version {version}; versions: {known}")
        return {
            "name": name,
            "source": source,
            "versions": [
                {"version": v["version"], "published_at": rfc3339(v["published_at"]), "inside": v["inside"]}
                for v in found
            ],
        }

    async def source(self, name: str) -> str:
        """A recipe's text as written: of its draft, else of its live version."""
        row = await self._row(name)
        if row["draft"] is not None:
            return str(row["draft"])
        async with self._store.read() as c:
            found = await rows.version(c, name, row["version"])
        assert found is not None, "a published recipe has its version"
        return str(found["source"])

    async def recipe(self, name: str, version: int | None = None) -> Recipe:
        """A recipe to look at: its newest text, checked, or a version as it was published. Raises ConfigError, RecipeErrors."""
        previous = await self.published_definition(name)
        if version is None:
            return load(await self.source(name), self._catalogue, file=name, previous=previous)
        async with self._store.read() as c:
            row = await rows.version(c, name, version)
        if row is None:
            raise ConfigError(f"there is no version {version} of the recipe {name}")
        return Recipe(name, rows.definition_of(row), row["source"])

    async def _row(self, name: str) -> Row:
        async with self._store.read() as c:
            row = await c.first("select * from recipe where name = :name", name=name)
        if row is None:
            every = [row["name"] for row in await self.listed()]
            raise NotThere(f"there is no recipe {name}{nearest(name, every)}; `hub recipes list` shows what there is")
        return row


def _uses(program: Program, connection: str) -> bool:
    acts = any(isinstance(node.step, Do) and node.step.connection == connection for node in program.nodes.values())
    return acts or any(connection in start.connections for start in program.starts)


def scopes_needed(program: Program, connection: str, connector: str, catalogue: Catalogue) -> set[str]:
    """What must have been granted for a recipe to act on a connection and to hear of its events."""
    steps = [node.step for node in program.nodes.values()]
    starts = [start for start in program.starts if connection in (start.connections or {connection})]
    awaited = [names for step in steps if isinstance(step, WaitFor) for names in step.types.values()]
    heard = program.exit_types.union(*(start.types for start in starts), *awaited)
    triggers = [trigger for name in heard if (trigger := catalogue.trigger(name)) and trigger.connector == connector]
    acts = [step.action for step in steps if isinstance(step, Do) and step.connection == connection]
    actions = [action for name in acts if name and (action := catalogue.action(name))]
    return {scope for one in triggers for scope in one.scopes} | {scope for one in actions for scope in one.scopes}


def _compiled(recipe: str, version: int, definition: Mapping[str, Json]) -> Program:
    """A stored definition as a program. It was checked when it was stored: what is wrong with it now is news to us."""
    unknown = sorted(definition.keys() - RecipeForm.model_fields.keys())
    try:
        if not unknown:
            return compile_program(definition)
    except Exception as error:  # whatever a step that we do not know makes of our model of it
        raise NewerRelease(
            f"version {version} of the recipe {recipe} has steps that this release does not know ({type(error).__name__}); "
            "upgrade this process"
        ) from error
    raise NewerRelease(
        f"version {version} of the recipe {recipe} has {', '.join(unknown)}, which this release does not know; "
        "upgrade this process"
    )


def recipe_files(paths: Iterable[Path]) -> list[Path]:
    """The recipe files among files and folders, purposes files first, since recipes name purposes."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"there is no file or folder {path}; give the path of one that is there")
        found += (
            sorted(p for p in path.glob("*.yaml") if not p.name.endswith(".test.yaml")) if path.is_dir() else [path]
        )
    return sorted(found, key=lambda p: (p.name != PURPOSES_FILE, str(p)))


def _located(error: RecipeErrors, source: str, file: str | None) -> RecipeErrors:
    """Errors that know a place in a recipe, with the lines of its text."""
    document = read(source, file=file)
    for one in error.errors:
        document.report(one.reason, tuple(int(part) if part.isdecimal() else part for part in one.path.split("/")))
    return RecipeErrors(document.errors)


def load_files(paths: Iterable[Path], catalogue: Catalogue) -> tuple[dict[str, Purpose] | None, dict[str, Recipe]]:
    """Every recipe of some files and folders, checked together without a database.

    Raises RecipeErrors with all that is wrong, two recipes of one name included. Purposes are None when no file has any.
    """
    purposes: dict[str, Purpose] | None = None
    recipes: dict[str, Recipe] = {}
    files: dict[str, Path] = {}
    errors: list[RecipeError] = []
    for path in recipe_files(paths):
        try:
            source = text_of(path)
            if path.name == PURPOSES_FILE:
                purposes = {**(purposes or {}), **load_purposes(source, file=str(path))}
                continue
            recipe = load(source, catalogue, file=str(path), purposes=purposes)
        except RecipeErrors as problems:
            errors += problems.errors
            continue
        if recipe.name in files:
            errors.append(
                RecipeError(
                    f"the recipe {recipe.name} is also in {files[recipe.name]}; rename one", file=str(path), line=1
                )
            )
        recipes[recipe.name], files[recipe.name] = recipe, path
    if errors:
        raise RecipeErrors(errors)
    return purposes, recipes
