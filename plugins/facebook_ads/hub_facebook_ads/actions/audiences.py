"""Audiences themselves: making one, and one of people who are like those in another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hub import ActionContext, Chosen, Effect, Rejected, RetryableError
from hub_facebook_ads.client import Named, Node, ad_account, call, edge
from hub_facebook_ads.connector import facebook_ads

# Of each kind in one ad account. ("Customer File Custom Audiences", v25.0, read 2026-11-22)
_MOST = 500
# How long a new audience may take to be listed. Meta documents nothing; calls themselves are given up after 20 s.
_APPEARS_WITHIN_MS = 30_000

_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class NewAudience(_Input):
    """An audience of people that the hub knows. One of this name that exists is taken, not made a second time."""

    name: _Name
    description: str = Field("", max_length=300)
    customer_file_source: Literal["USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"] = (
        Field("USER_PROVIDED_ONLY", description="Where you have the people's data from")
    )


class Lookalike(_Input):
    """An audience of people who are like those in another; Meta takes hours to build it, and wants about 100 as a start."""

    name: _Name
    origin_audience_id: Annotated[str, Chosen("audiences")]
    country: str = Field(pattern=r"^[A-Z]{2}$", description="Where they live: US")
    ratio: float = Field(
        0.01, ge=0.01, le=0.2, description="How many of the country: 0.01 is the most alike one percent"
    )
    starting_ratio: float = Field(0.0, ge=0.0, lt=0.2, description="Leaves out the most alike, up to here")
    description: str = Field("", max_length=300)

    @model_validator(mode="after")
    def _somebody_is_left(self) -> Self:
        if self.starting_ratio >= self.ratio:
            raise ValueError("starting_ratio leaves nobody: it must be below ratio")
        return self


class Audience(BaseModel):
    """The audience, and whether it was there before."""

    audience_id: str
    name: str
    existed: bool = False


class _Listed(Named):
    description: str | None = None
    subtype: str = ""


@facebook_ads.action(
    "create_audience",
    title="Create an audience",
    input=NewAudience,
    output=Audience,
    effect=Effect.RECONCILABLE,
)
async def create_audience(ctx: ActionContext, input: NewAudience) -> Audience:
    """Make an audience, or take the one of this name. Raises Rejected when the ad account has 500 already."""
    wanted = {"subtype": "CUSTOM", "customer_file_source": input.customer_file_source}
    return await _create(ctx, input.name, input.description, wanted)


@create_audience.lookup
async def find_audience(ctx: ActionContext, input: NewAudience) -> Audience | None:
    """The audience that an earlier attempt made, or one of this name; None when there is none."""
    return await _look_up(ctx, input.name, "CUSTOM")


@facebook_ads.action(
    "create_lookalike",
    title="Create a lookalike audience",
    input=Lookalike,
    output=Audience,
    effect=Effect.RECONCILABLE,
)
async def create_lookalike(ctx: ActionContext, input: Lookalike) -> Audience:
    """Make a lookalike audience, or take the one of this name. Raises Rejected when the ad account has 500 already."""
    spec = {
        "type": "similarity",
        "country": input.country,
        "ratio": input.ratio,
        "starting_ratio": input.starting_ratio,
    }
    wanted = {
        "subtype": "LOOKALIKE",
        "origin_audience_id": input.origin_audience_id,
        "lookalike_spec": json.dumps(spec),
    }
    return await _create(ctx, input.name, input.description, wanted)


@create_lookalike.lookup
async def find_lookalike(ctx: ActionContext, input: Lookalike) -> Audience | None:
    """The lookalike that an earlier attempt made, or one of this name; None when there is none."""
    return await _look_up(ctx, input.name, "LOOKALIKE")


async def _create(ctx: ActionContext, name: str, description: str, wanted: Mapping[str, str]) -> Audience:
    listed = await _of_subtype(ctx, wanted["subtype"])
    if found := _found(listed, ctx, name):
        return found
    if len(listed) >= _MOST:
        raise Rejected(f"the ad account has {len(listed)} audiences of this kind, and Meta takes {_MOST}: delete some")
    form = {"name": name, "description": f"{description} {_mark(ctx)}".strip(), **wanted}
    made = await call(ctx, "POST", f"/{ad_account(ctx)}/customaudiences", Node, form=form)
    return Audience(audience_id=made.id, name=name)


async def _look_up(ctx: ActionContext, name: str, subtype: str) -> Audience | None:
    found = _found(await _of_subtype(ctx, subtype), ctx, name)
    wait_ms = ctx.intended_at_ms + _APPEARS_WITHIN_MS - ctx.now_ms
    if found is None and wait_ms > 0:
        raise RetryableError("too early to say that Meta has no such audience", retry_after_s=wait_ms / 1000)
    return found


async def _of_subtype(ctx: ActionContext, subtype: str) -> list[_Listed]:
    params = {"fields": "id,name,subtype,description", "limit": "20"}
    path = f"/{ad_account(ctx)}/customaudiences"
    return [one async for page, _ in edge(ctx, path, _Listed, params=params) for one in page if one.subtype == subtype]


def _found(listed: list[_Listed], ctx: ActionContext, name: str) -> Audience | None:
    """Ours by its mark, else one of the name; of several the oldest id, so that all runs take the same."""
    ours = [one for one in listed if (one.description or "").endswith(_mark(ctx))]
    alike = sorted((one for one in listed if one.name == name), key=lambda one: (len(one.id), one.id))
    if ours:
        return Audience(audience_id=ours[0].id, name=ours[0].name)
    return Audience(audience_id=alike[0].id, name=name, existed=True) if alike else None


def _mark(ctx: ActionContext) -> str:
    """Names the effect at the end of the description, so that a lost answer's audience is known again."""
    return f"[{ctx.reference}]"


@create_audience.simulate
def _pretend_audience(input: NewAudience, now_ms: int) -> Audience:
    return Audience(audience_id="0", name=input.name)


@create_lookalike.simulate
def _pretend_lookalike(input: Lookalike, now_ms: int) -> Audience:
    return Audience(audience_id="0", name=input.name)


@create_audience.describe
def _describe_audience(input: NewAudience) -> str:
    return f"create the audience {input.name}, unless there is one of this name"


@create_lookalike.describe
def _describe_lookalike(input: Lookalike) -> str:
    return (
        f"create the audience {input.name} of those of {input.country} who are most like audience "
        f"{input.origin_audience_id}, from {100 * input.starting_ratio:g}% to {100 * input.ratio:g}%"
    )
