"""Who looks after a record: one owner by name, or the one of a team whose turn it is."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from hub import ActionContext, Chosen, Effect, NotFound
from hub_hubspot import client
from hub_hubspot.actions.fields import Contact, Input
from hub_hubspot.choices import Owner, owners
from hub_hubspot.connector import CONTACTS_WRITE, OWNERS_READ, hubspot


class AssignInput(Input):
    """The record, and either an owner or a team."""

    record: Contact = Field(description="The record's id, or a contact's e-mail address")
    kind: Literal["contacts", "deals", "tickets"] = "contacts"
    owner: Annotated[str | None, Chosen("owners")] = Field(None, description="An owner's id or e-mail address")
    team: Annotated[str | None, Chosen("teams")] = Field(None, description="A team, whose people take turns")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.owner is None) == (self.team is None):
            raise ValueError("give either owner or team")
        if self.kind != "contacts" and "@" in self.record:
            raise ValueError(f"{self.kind} are named by their id")
        return self


class AssignOutput(BaseModel):
    record_id: str
    owner_id: str
    owner_email: str | None = None


@hubspot.action(
    "assign_owner",
    title="Assign an owner",
    input=AssignInput,
    output=AssignOutput,
    effect=Effect.IDEMPOTENT,
    provides="crm.assign",
    # Deals and tickets want the scope of theirs besides.
    scopes=[OWNERS_READ, CONTACTS_WRITE],
    cost=2,
)
async def assign_owner(ctx: ActionContext, input: AssignInput) -> AssignOutput:
    """Assign a record to an owner, or to the one of a team whose turn it is; a step that is repeated takes no further turn."""
    owner = await _owner(ctx, input.owner) if input.owner else await _of_team(ctx, input.team or "")
    record = await client.update_record(ctx, input.kind, input.record, {"hubspot_owner_id": owner.id})
    return AssignOutput(record_id=record.id, owner_id=owner.id, owner_email=owner.email)


async def _owner(ctx: ActionContext, named: str) -> Owner:
    if "@" not in named:
        return Owner(id=named, type="PERSON")
    async for owner in owners(ctx, named):
        if (owner.email or "").lower() == named.lower():
            return owner
    raise NotFound("HubSpot has no owner with this e-mail address: correct `owner`")


async def _of_team(ctx: ActionContext, team: str) -> Owner:
    """The one of the team whose turn it is, in the order of their ids. Who joins or leaves shifts whose turn comes next."""
    people = [
        owner async for owner in owners(ctx) if owner.type == "PERSON" and any(one.id == team for one in owner.teams)
    ]
    if not people:
        raise NotFound("nobody is in this team: correct `team`, or put people into it at HubSpot")
    place = await ctx.rota(f"team {team}")
    return sorted(people, key=lambda owner: (len(owner.id), owner.id))[place % len(people)]


@assign_owner.simulate
def _pretend(input: AssignInput, now_ms: int) -> AssignOutput:
    owner = input.owner or "1"
    return AssignOutput(
        record_id="1" if "@" in input.record else input.record,
        owner_id="1" if "@" in owner else owner,
        owner_email=owner if "@" in owner else None,
    )


@assign_owner.describe
def _describe(input: AssignInput) -> str:
    whom = f"owner {input.owner}" if input.owner else f"the one of team {input.team} whose turn it is"
    return f"assign {input.record} ({input.kind}) to {whom}"
