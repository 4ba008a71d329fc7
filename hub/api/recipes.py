"""Recipes and purposes: check, save, publish, pause."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from hub.api.access import Reading, Writing
from hub.clock import rfc3339
from hub.events import Json
from hub.recipes import json_schema

router = APIRouter(prefix="/api/v1", tags=["recipes"])


class Source(BaseModel):
    """A recipe or purposes file as text."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=262_144)
    publish: bool = False


@router.get("/recipes")
async def list_recipes(hub: Reading) -> list[dict[str, Json]]:
    """Every recipe: state, live version (0: never published), whether there is a newer draft."""
    return [
        {
            "name": row["name"],
            "state": row["state"],
            "version": row["version"],
            "draft": row["draft"] is not None,
            "updated_at": rfc3339(row["updated_at"]),
        }
        for row in await hub.library.all()
    ]


@router.post("/recipes")
async def apply_recipe(hub: Writing, given: Source) -> dict[str, Json]:
    """Save a recipe as draft, or publish it at once. A wrong one changes nothing and says where it is wrong."""
    return vars(await hub.library.apply(given.source, publish=given.publish))


@router.post("/recipes/validate")
async def validate_recipe(hub: Reading, given: Source) -> dict[str, Json]:
    """Check a recipe and change nothing."""
    recipe = await hub.library.check(given.source)
    return {"name": recipe.name, "definition": dict(recipe.definition)}


@router.get("/recipes/schema")
async def recipe_schema() -> dict[str, Json]:
    """The JSON Schema of a recipe file, for editors."""
    return json_schema()


@router.get("/recipes/{name}")
async def show_recipe(hub: Reading, name: str) -> dict[str, Json]:
    """A recipe's text and its versions, with how many runs are inside each."""
    versions = [
        {"version": v["version"], "published_at": rfc3339(v["published_at"]), "inside": v["inside"]}
        for v in await hub.library.versions(name)
    ]
    return {"name": name, "source": await hub.library.source(name), "versions": versions}


@router.post("/recipes/{name}/publish")
async def publish_recipe(hub: Writing, name: str) -> dict[str, Json]:
    """Make the draft live, or let a paused recipe go on."""
    return vars(await hub.library.publish(name))


@router.post("/recipes/{name}/pause")
async def pause_recipe(hub: Writing, name: str) -> dict[str, Json]:
    """No new runs; those inside go on."""
    return vars(await hub.library.pause(name))


@router.get("/purposes")
async def list_purposes(hub: Reading) -> list[dict[str, Json]]:
    """Every purpose a message may have."""
    return [
        {"name": p.name, "channel": p.channel, "class": p.legal_class.value}
        for p in (await hub.library.purposes()).values()
    ]


@router.post("/purposes")
async def apply_purposes(hub: Writing, given: Source) -> list[str]:
    """Add or replace the purposes of a purposes file."""
    return sorted(await hub.library.apply_purposes(given.source))
