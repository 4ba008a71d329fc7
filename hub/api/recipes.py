"""Recipes and purposes: check, save, publish, pause."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, model_validator

from hub import shown
from hub.api.access import Reading, Writing
from hub.api.given import Body, Cursor, Listing, Most, Page
from hub.api.problems import Place
from hub.choosing import Pinned
from hub.events import Json
from hub.library import Change
from hub.plans import Binding, Call, Planner, RecipePlan, State, StepChange
from hub.previews import Preview, Previewer
from hub.purposes import load_purposes
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


class Sources(Body):
    """Recipes as text, and the purposes file that would be saved before them."""

    recipes: list[Annotated[str, Field(max_length=262_144)]] = Field(min_length=1, max_length=100)
    purposes: str | None = Field(None, max_length=262_144)


class Wanted(Body):
    """A recipe by its name or as text, and for whom: id, e-mail address or phone number."""

    recipe: str | None = None
    source: str | None = Field(None, max_length=262_144)
    contact: str
    event: str | None = Field(None, description="The stored event that would start it; made-up data when left out")
    step: str | None = Field(None, description="Only this step")

    @model_validator(mode="after")
    def _one_of_them(self) -> Wanted:
        if (self.recipe is None) == (self.source is None):
            raise ValueError("give either the name of a recipe or a source")
        return self


class PlannedRecipe(BaseModel):
    """What publishing one recipe would do; `version` is the live one, 0 for none, `inside` the runs by version."""

    name: str
    state: State
    version: int
    inside: dict[int, int]
    steps: list[StepChange]
    fields: list[str]
    bindings: list[Binding]
    choices: list[Pinned]
    warnings: list[str]
    missing_scopes: dict[str, list[str]]
    calls: list[Call]
    errors: list[Place]

    @classmethod
    def of(cls, plan: RecipePlan) -> PlannedRecipe:
        """A plan as it is answered."""
        return cls(
            name=plan.name,
            state=plan.state,
            version=plan.version,
            inside=dict(plan.inside),
            steps=list(plan.steps),
            fields=list(plan.fields),
            bindings=list(plan.bindings),
            choices=list(plan.choices),
            warnings=list(plan.warnings),
            missing_scopes={name: list(scopes) for name, scopes in plan.missing_scopes.items()},
            calls=list(plan.calls),
            errors=[Place.of(error) for error in plan.errors],
        )


class Planned(BaseModel):
    """What publishing would do; `purposes` says of each that differs whether it is new or changed."""

    recipes: list[PlannedRecipe]
    purposes: dict[str, str]
    refused: bool


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


@router.post("/plan")
async def plan_recipes(hub: Reading, given: Sources) -> Planned:
    """What publishing these would do: steps that change and who stands on them, what is called, what is worth a warning."""
    purposes = {} if given.purposes is None else load_purposes(given.purposes)
    planner = Planner(hub.store, hub.library, hub.connections, hub.plugins.catalogue)
    named = {f"recipes/{n}": source for n, source in enumerate(given.recipes)}
    found = await planner.plan(named, purposes)
    recipes = [PlannedRecipe.of(one) for one in found.recipes]
    return Planned(recipes=recipes, purposes=dict(found.purposes), refused=found.refused)


@router.post("/preview")
async def preview_recipe(hub: Reading, given: Wanted) -> Preview:
    """What each action would be for a person, rendered; nothing is called."""
    source = given.source if given.source is not None else (await hub.library.shown(str(given.recipe)))["source"]
    previewer = Previewer(hub.store, hub.connections, hub.plugins.catalogue, hub.clock)
    purposes = await hub.library.purposes()
    return await previewer.preview(source, purposes, contact=given.contact, event=given.event, step=given.step)


@router.get("/recipe-schema")
async def recipe_schema() -> dict[str, Json]:
    """The JSON Schema of a recipe file, for editors."""
    return json_schema()


@router.get("/recipes/{name}")
async def show_recipe(
    hub: Reading,
    name: str,
    version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="A published version instead of the newest text")
    ] = None,
) -> shown.Recipe:
    """A recipe's text and its versions, with how many runs are inside each."""
    return await hub.library.shown(name, version)


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
