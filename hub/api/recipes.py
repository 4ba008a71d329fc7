"""Recipes and purposes: check, save, publish, pause."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hub import shown
from hub.api.access import Reading, Writing
from hub.api.given import Body, Cursor, Listing, Most, Page
from hub.events import Json
from hub.library import Change
from hub.recipes import json_schema

router = APIRouter(prefix="/api/v1", tags=["recipes"])


class Source(Body):
    """A recipe or purposes file as text."""

    source: str = Field(max_length=262_144)
    publish: bool = False


class Checked(BaseModel):
    """A recipe that nothing is wrong with, and what the hub understands by it."""

    name: str
    definition: dict[str, Json]


@router.get("/recipes")
async def list_recipes(hub: Reading, cursor: Cursor = None, limit: Most = 50) -> Page[shown.RecipeLine]:
    """Recipes by name."""
    asked = Listing("recipes")
    return asked.page(await hub.library.listed(after=asked.after(cursor), most=limit + 1), limit, lambda r: r["name"])


@router.post("/recipes")
async def apply_recipe(hub: Writing, given: Source) -> Change:
    """Save a recipe as draft, or publish it at once. A wrong one changes nothing and says where it is wrong."""
    return await hub.library.apply(given.source, publish=given.publish)


@router.post("/validate")
async def validate_recipe(hub: Reading, given: Source) -> Checked:
    """Check a recipe and change nothing."""
    recipe = await hub.library.check(given.source)
    return Checked(name=recipe.name, definition=dict(recipe.definition))


@router.get("/recipe-schema")
async def recipe_schema() -> dict[str, Json]:
    """The JSON Schema of a recipe file, for editors."""
    return json_schema()


@router.get("/recipes/{name}")
async def show_recipe(hub: Reading, name: str) -> shown.Recipe:
    """A recipe's text and its versions, with how many runs are inside each."""
    return await hub.library.shown(name)


@router.post("/recipes/{name}/publish")
async def publish_recipe(hub: Writing, name: str) -> Change:
    """Make the draft live, or let a paused recipe go on."""
    return await hub.library.publish(name)


@router.post("/recipes/{name}/pause")
async def pause_recipe(hub: Writing, name: str) -> Change:
    """No new runs; those inside go on."""
    return await hub.library.pause(name)


@router.get("/purposes")
async def list_purposes(hub: Reading) -> list[shown.Purpose]:
    """Every purpose a message may have."""
    return [
        {"name": p.name, "channel": p.channel, "legal_class": p.legal_class.value}
        for p in (await hub.library.purposes()).values()
    ]


@router.post("/purposes")
async def apply_purposes(hub: Writing, given: Source) -> list[str]:
    """Add or replace the purposes of a purposes file."""
    return sorted(await hub.library.apply_purposes(given.source))
