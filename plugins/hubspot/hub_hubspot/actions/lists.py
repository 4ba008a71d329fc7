"""Who is on a static list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BaseModel, Field

from hub import ActionContext, Batch, Chosen, ConnectorError, Effect, NotFound
from hub_hubspot import client
from hub_hubspot.actions.fields import Contact, Input
from hub_hubspot.connector import CONTACTS_READ, LISTS_WRITE, hubspot
from hub_hubspot.paths import path


class MemberInput(Input):
    """A contact and a list; HubSpot fills lists that are no static ones by itself, and refuses these."""

    list_id: Annotated[str, Chosen("static_lists"), Field(min_length=1)]
    contact: Contact


class MemberOutput(BaseModel):
    """`changed` is False where it was so already."""

    contact_id: str
    list_id: str
    changed: bool


class _Updated(client.Answer):
    # HubSpot spells the first one differently from the others. (hubspot-api-client 12.0.0, MembershipsUpdateResponse)
    records_ids_added: tuple[str, ...] = ()
    record_ids_removed: tuple[str, ...] = ()
    record_ids_missing: tuple[str, ...] = ()


Answers = Sequence[MemberOutput | ConnectorError]


def _declare(name: str, title: str, way: Literal["add", "remove"], done: Callable[[_Updated], Sequence[str]]) -> None:
    @hubspot.batch_action(
        name,
        title=title,
        input=MemberInput,
        output=MemberOutput,
        effect=Effect.IDEMPOTENT,
        batch=Batch(size=client.READ_AT_ONCE, linger_s=2, group_by=lambda member: member.list_id),
        provides=f"list.{way}",
        scopes=[LISTS_WRITE, CONTACTS_READ],
        cost=2,
    )
    async def change(ctx: ActionContext, inputs: Sequence[MemberInput]) -> Answers:
        ids = await client.contact_ids(ctx, [member.contact for member in inputs])
        list_id, updated = inputs[0].list_id, _Updated()
        if ids:
            rest = f"/{quote(list_id, safe='')}/memberships/{way}"
            answer = await ctx.http.request(
                "PUT", path(ctx.settings, "lists", rest), json=sorted(dict.fromkeys(ids.values()))
            )
            updated = client.read(_Updated, answer)
        return [_outcome(ids.get(member.contact), list_id, updated, done(updated)) for member in inputs]

    @change.simulate
    def pretend(input: MemberInput, now_ms: int) -> MemberOutput:
        contact = "1" if "@" in input.contact else input.contact
        return MemberOutput(contact_id=contact, list_id=input.list_id, changed=True)

    @change.describe
    def describe(input: MemberInput) -> str:
        return f"{way} the contact {input.contact} {'to' if way == 'add' else 'from'} the list {input.list_id}"


def _outcome(
    contact: str | None, list_id: str, updated: _Updated, changed: Sequence[str]
) -> MemberOutput | ConnectorError:
    if contact is None or contact in updated.record_ids_missing:
        return NotFound("HubSpot has no such contact: put it in first, or correct `contact`")
    return MemberOutput(contact_id=contact, list_id=list_id, changed=contact in changed)


_declare("add_to_list", "Add a contact to a static list", "add", lambda updated: updated.records_ids_added)
_declare(
    "remove_from_list", "Remove a contact from a static list", "remove", lambda updated: updated.record_ids_removed
)
