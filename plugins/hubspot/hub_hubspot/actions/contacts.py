"""What can be done with contacts: put them in, change them, move them on, find them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from hub import ActionContext, Batch, ConnectorError, Effect, OutcomeUnknown
from hub_hubspot import client
from hub_hubspot.actions.fields import Email, Input, Properties, texts
from hub_hubspot.connector import CONTACTS_WRITE, hubspot
from hub_hubspot.paths import path

# -- upsert ------------------------------------------------------------------------------------------------------------


class UpsertInput(Input):
    """Who, by e-mail address, and what is known of them; the rest stays as it is."""

    email: Email
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    properties: Properties = {}


class UpsertOutput(BaseModel):
    """The contact, and whether it was made by this."""

    contact_id: str
    created: bool


@hubspot.batch_action(
    "upsert_contact",
    title="Create or update a contact",
    input=UpsertInput,
    output=UpsertOutput,
    effect=Effect.IDEMPOTENT,
    batch=Batch(size=client.READ_AT_ONCE, linger_s=2, group_by=lambda input: ""),
    provides="crm.upsert",
    scopes=[CONTACTS_WRITE],
)
async def upsert_contact(ctx: ActionContext, inputs: Sequence[UpsertInput]) -> Sequence[UpsertOutput | ConnectorError]:
    """Create or update contacts by e-mail address, up to 100 in one call.

    One call may not name an address twice (developers.hubspot.com "Contacts", batch/upsert): a second input for somebody
    goes into a second call, so that the later one wins.
    """
    answers: dict[int, UpsertOutput | ConnectorError] = {}
    left = list(enumerate(inputs))
    while left:
        now: dict[str, tuple[int, UpsertInput]] = {}
        for place, input in left:
            now.setdefault(input.email.lower(), (place, input))
        answers |= await _upsert(ctx, list(now.values()))
        left = [one for one in left if one[0] not in answers]
    return [answers[place] for place in range(len(inputs))]


async def _upsert(
    ctx: ActionContext, inputs: Sequence[tuple[int, UpsertInput]]
) -> dict[int, UpsertOutput | ConnectorError]:
    """One call; per place its output or error. Answers are told apart by the trace id that each input was given."""
    trace = {f"{ctx.reference}/{place}": place for place, _ in inputs}
    asked = [
        {
            "id": i.email,
            "idProperty": "email",
            "properties": _upserted(i),
            "objectWriteTraceId": f"{ctx.reference}/{place}",
        }
        for place, i in inputs
    ]
    answer = await ctx.http.request(
        "POST", path(ctx.settings, "objects", "/contacts/batch/upsert"), json={"inputs": asked}
    )
    batch = client.read(client.Batch, answer)
    found: dict[int, UpsertOutput | ConnectorError] = {}
    for record in batch.results:
        if (place := trace.get(record.object_write_trace_id or "")) is not None:
            found[place] = UpsertOutput(contact_id=record.id, created=bool(record.new))
    for error in batch.errors:
        for named in error.context.get("objectWriteTraceId", ()):
            if named in trace:
                found[trace[named]] = client.item_error(error)
    lost = OutcomeUnknown("HubSpot's answer does not tell what became of this contact", status=answer.status)
    return {place: found.get(place, lost) for place, _ in inputs}


def _upserted(input: UpsertInput) -> dict[str, str]:
    return texts(input.properties, firstname=input.first_name, lastname=input.last_name, phone=input.phone)


@upsert_contact.simulate
def _pretend_upsert(input: UpsertInput, now_ms: int) -> UpsertOutput:
    return UpsertOutput(contact_id="1", created=True)


@upsert_contact.describe
def _describe_upsert(input: UpsertInput) -> str:
    return f"create or update the contact {input.email}: {_names(_upserted(input))}"


def _names(properties: dict[str, str]) -> str:
    return ", ".join(sorted(properties)) or "no properties"
