"""Recipes, their versions, and purposes: the rows behind `hub.library`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic_core import from_json, to_json

from hub.events import Json
from hub.purposes import LegalClass, Purpose
from hub.store.connections import changed, generation
from hub.store.session import Connection, Row

_GENERATION = "recipes"


async def recipes_generation(c: Connection) -> int:
    """Counts changes to recipes and purposes."""
    return await generation(c, _GENERATION)


async def listed(c: Connection, *, after: str | None = None, most: int | None = None) -> list[Row]:
    """Recipes by name: name, state, version (0: never published), draft, updated_at; at most so many after a name."""
    where, first = ("where name > :after", {"after": after}) if after is not None else ("", {})
    limit, many = ("limit :most", {"most": most}) if most is not None else ("", {})
    return list(await c.all(f"select * from recipe {where} order by name {limit}", **first, **many))


async def live(c: Connection) -> list[tuple[str, int]]:
    """The published recipes: name and version, by name."""
    found = await c.all("select name, version from recipe where state = 'published' order by name")
    return [(row["name"], row["version"]) for row in found]


async def inside(c: Connection) -> list[tuple[str, int]]:
    """The versions that start nobody any more while somebody is still inside, as the recipe is paused or has a newer one."""
    found = await c.all(
        "select distinct run.recipe as name, run.version as version from run join recipe on recipe.name = run.recipe "
        "where run.finished_at is null and (recipe.state = 'paused' or recipe.version <> run.version) order by 1, 2"
    )
    return [(row["name"], row["version"]) for row in found]


async def awaited(c: Connection) -> list[str]:
    """The event types that runs wait for now; it jumps from type to type along the index."""
    found = await c.all(
        """
        with recursive awaited(type) as (
          select min(type) from waiter
          union all
          select (select min(type) from waiter where type > awaited.type) from awaited where awaited.type is not null
        )
        select type from awaited where type is not null
        """
    )
    return [row["type"] for row in found]


async def definitions(c: Connection, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Mapping[str, Json]]:
    """The definitions of some versions, by name and version."""
    found = await c.group(
        "select v.recipe as recipe, v.version as version, v.definition as definition from recipe_version v "
        "join {rows} on v.recipe = r.recipe and v.version = r.version",
        {"recipe": "text", "version": "bigint"},
        [{"recipe": name, "version": number} for name, number in wanted],
    )
    return {(row["recipe"], row["version"]): definition_of(row) for row in found}


async def version(c: Connection, recipe: str, number: int) -> Row | None:
    """One published version: definition (JSON), source, published_at."""
    return await c.first(
        "select * from recipe_version where recipe = :recipe and version = :version", recipe=recipe, version=number
    )


async def versions(c: Connection, recipe: str) -> list[Row]:
    """All versions of a recipe, newest first, with how many runs are still inside each."""
    return list(
        await c.all(
            "select v.version as version, v.published_at as published_at, v.source as source, "
            "(select count(*) from run where run.recipe = v.recipe and run.version = v.version and run.finished_at is null) "
            "as inside from recipe_version v where v.recipe = :recipe order by v.version desc",
            recipe=recipe,
        )
    )


async def save_draft(c: Connection, name: str, source: str, now_ms: int) -> None:
    """Keep a recipe's source as its draft; what is published stays published."""
    await c.run(
        "insert into recipe (name, state, version, draft, updated_at) values (:name, 'draft', 0, :draft, :now) "
        "on conflict (name) do update set draft = excluded.draft, updated_at = excluded.updated_at",
        name=name,
        draft=source,
        now=now_ms,
    )
    await changed(c, _GENERATION)


async def publish(
    c: Connection,
    name: str,
    definition: Mapping[str, Json],
    source: str,
    now_ms: int,
    *,
    after: int,
    draft: bool = False,
) -> int | None:
    """Make a new version the live one; returns its number, or None when `after` is no longer the newest (0: there is none).

    The draft goes; with `draft` only if it is this text.
    """
    row = await c.first(
        "insert into recipe (name, state, version, draft, updated_at) values (:name, 'published', 1, null, :now) "
        "on conflict (name) do update set state = 'published', version = recipe.version + 1, "
        "draft = case when recipe.draft <> :kept then recipe.draft end, updated_at = excluded.updated_at "
        "where recipe.version = :after returning version",
        name=name,
        now=now_ms,
        kept=source if draft else None,
        after=after,
    )
    if row is None:
        return None
    await c.run(
        "insert into recipe_version (recipe, version, definition, source, published_at) "
        "values (:recipe, :version, :definition, :source, :now)",
        recipe=name,
        version=row["version"],
        definition=to_json(definition).decode(),
        source=source,
        now=now_ms,
    )
    await changed(c, _GENERATION)
    return int(row["version"])


async def set_state(c: Connection, name: str, state: str, now_ms: int) -> bool:
    """Pause a published recipe (no new runs; those inside go on) or publish a paused one again."""
    found = await c.run(
        "update recipe set state = :state, updated_at = :now where name = :name and version > 0",
        state=state,
        now=now_ms,
        name=name,
    )
    await changed(c, _GENERATION)
    return bool(found)


async def purposes(c: Connection) -> dict[str, Purpose]:
    """All purposes by name."""
    rows = await c.all("select * from purpose order by name")
    return {row["name"]: Purpose(row["name"], row["channel"], LegalClass(row["legal_class"])) for row in rows}


async def save_purposes(c: Connection, given: Mapping[str, Purpose]) -> None:
    """Add or replace purposes."""
    await c.group(
        "insert into purpose (name, channel, legal_class) select name, channel, legal_class from {rows} where true "
        "on conflict (name) do update set channel = excluded.channel, legal_class = excluded.legal_class",
        {"name": "text", "channel": "text", "legal_class": "text"},
        [{"name": p.name, "channel": p.channel, "legal_class": p.legal_class.value} for p in given.values()],
    )
    await changed(c, _GENERATION)


def definition_of(row: Row) -> Mapping[str, Json]:
    """A version row's definition."""
    definition: Mapping[str, Json] = from_json(row["definition"])
    return definition


async def state(c: Connection, name: str, *, keep: bool = False) -> tuple[str | None, int]:
    """A recipe's state and live version; None and 0 when it is not there. With `keep` nobody changes them meanwhile."""
    locked = c.for_update if keep else ""
    row = await c.first(f"select state, version from recipe where name = :name {locked}", name=name)
    return (row["state"], row["version"]) if row else (None, 0)


async def standing(c: Connection, name: str) -> list[Row]:
    """How many runs stand on each step of each version: version, at_step, n."""
    return list(
        await c.all(
            "select version, at_step, count(*) as n from run where recipe = :recipe and finished_at is null "
            "group by version, at_step order by version, at_step",
            recipe=name,
        )
    )
