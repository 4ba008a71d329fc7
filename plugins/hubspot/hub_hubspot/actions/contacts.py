"""What can be done with contacts: put them in, change them, move them on, find them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from hub import ActionContext, Batch, Chosen, ConnectorError, Effect, OutcomeUnknown
from hub_hubspot import client
from hub_hubspot.actions.fields import Contact, Email, Input, Properties, Value, texts
from hub_hubspot.connector import CONTACTS_READ, CONTACTS_WRITE, SEARCH, hubspot
from hub_hubspot.paths import path

# -- upsert ------------------------------------------------------------------------------------------------------------


class UpsertInput(Input):
    """Who, by e-mail address, and what is known of them; the rest stays as it is."""

    email: Email
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    properties: Properties = Field(default_factory=dict)


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
    batch=Batch(size=client.READ_AT_ONCE, linger_s=2, group_by=lambda _: ""),
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
        for place, one in left:
            now.setdefault(one.email.lower(), (place, one))
        answers |= await _upsert(ctx, list(now.values()))
        left = [(place, one) for place, one in left if place not in answers]
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


# -- update ------------------------------------------------------------------------------------------------------------


class UpdateInput(Input):
    """What is to be set of one contact."""

    contact: Contact
    properties: Properties = Field(min_length=1)


class UpdateOutput(BaseModel):
    contact_id: str


@hubspot.action(
    "update_contact",
    title="Set properties of a contact",
    input=UpdateInput,
    output=UpdateOutput,
    effect=Effect.IDEMPOTENT,
    scopes=[CONTACTS_WRITE],
)
async def update_contact(ctx: ActionContext, input: UpdateInput) -> UpdateOutput:
    """Set properties of a contact that is there. Raises NotFound, Rejected."""
    record = await client.update_record(ctx, "contacts", input.contact, texts(input.properties))
    return UpdateOutput(contact_id=record.id)


@update_contact.simulate
def _pretend_update(input: UpdateInput, now_ms: int) -> UpdateOutput:
    return UpdateOutput(contact_id=_pretended(input.contact))


@update_contact.describe
def _describe_update(input: UpdateInput) -> str:
    return f"set {_names(texts(input.properties))} of the contact {input.contact}"


# -- life-cycle stage --------------------------------------------------------------------------------------------------


class StageInput(Input):
    """The stage to move to. HubSpot moves forward only, unless `backward` is allowed and the stage cleared before."""

    contact: Contact
    stage: Annotated[str, Chosen("lifecycle_stages"), Field(min_length=1)]
    backward: bool = Field(False, description="Whether the contact may also move to an earlier stage")


class StageOutput(BaseModel):
    """The stage the contact is in now; `moved` is False where it was further already, and stays there."""

    contact_id: str
    stage: str
    moved: bool


_STAGE = "lifecyclestage"


@hubspot.action(
    "move_lifecycle_stage",
    title="Move a contact to a life-cycle stage",
    input=StageInput,
    output=StageOutput,
    effect=Effect.IDEMPOTENT,
    scopes=[CONTACTS_READ, CONTACTS_WRITE],
    cost=2,
)
async def move_lifecycle_stage(ctx: ActionContext, input: StageInput) -> StageOutput:
    """Move a contact to a stage of its life cycle.

    HubSpot keeps the stage where the new one lies before it, without a word, unless it is cleared first
    (developers.hubspot.com "Properties", read 2026-11-22): so what became of it is read afterwards.
    """
    await client.update_record(ctx, "contacts", input.contact, {_STAGE: input.stage})
    record = await client.get_contact(ctx, input.contact, [_STAGE])
    if record.properties.get(_STAGE) != input.stage and input.backward:
        await client.update_record(ctx, "contacts", record.id, {_STAGE: ""})
        await client.update_record(ctx, "contacts", record.id, {_STAGE: input.stage})
        record = await client.get_contact(ctx, record.id, [_STAGE])
    stage = record.properties.get(_STAGE, "")
    return StageOutput(contact_id=record.id, stage=stage, moved=stage == input.stage)


@move_lifecycle_stage.simulate
def _pretend_stage(input: StageInput, now_ms: int) -> StageOutput:
    return StageOutput(contact_id=_pretended(input.contact), stage=input.stage, moved=True)


@move_lifecycle_stage.describe
def _describe_stage(input: StageInput) -> str:
    return f"move the contact {input.contact} to the life-cycle stage {input.stage}"


# -- search ------------------------------------------------------------------------------------------------------------


class SearchInput(Input):
    """By address, or by one property that has a value exactly."""

    email: Email | None = None
    property: str | None = Field(None, pattern=r"^[a-z0-9_]+$", description="An internal name: phone")
    value: Value = None
    properties: list[str] = Field(default_factory=list, description="What else is wanted of the contact")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.email is None) == (self.property is None or self.value is None):
            raise ValueError("give either email, or property and value")
        return self


class SearchOutput(BaseModel):
    """The contact that was found, the oldest of several; `count` says how many there are."""

    found: bool
    count: int = 0
    contact_id: str | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    lifecycle_stage: str | None = None
    owner_id: str | None = None
    properties: dict[str, str] = {}


@hubspot.action(
    "search_contact",
    title="Find a contact",
    input=SearchInput,
    output=SearchOutput,
    effect=Effect.IDEMPOTENT,
    provides="crm.search",
    scopes=[CONTACTS_READ],
    draws=SEARCH,
)
async def search_contact(ctx: ActionContext, input: SearchInput) -> SearchOutput:
    """Find a contact. By address also one that was written just now; by a property HubSpot may need a while to find it."""
    wanted = ["email", "firstname", "lastname", _STAGE, "hubspot_owner_id", *input.properties]
    if input.email:
        found = await client.read_records(ctx, "contacts", [input.email], wanted, by="email")
        return _found(found[0], len(found), input) if found else SearchOutput(found=False)
    filters = [{"propertyName": input.property, "operator": "EQ", "value": texts({"value": input.value})["value"]}]
    page = await client.search(ctx, "contacts", filters, wanted, sort="createdate", limit=1)
    return _found(page.results[0], page.total, input) if page.results else SearchOutput(found=False)


def _found(record: client.Record, count: int, input: SearchInput) -> SearchOutput:
    known = record.properties
    return SearchOutput(
        found=True,
        count=count,
        contact_id=record.id,
        email=known.get("email"),
        first_name=known.get("firstname"),
        last_name=known.get("lastname"),
        lifecycle_stage=known.get(_STAGE),
        owner_id=known.get("hubspot_owner_id"),
        properties={name: known[name] for name in input.properties if name in known},
    )


@search_contact.simulate
def _pretend_search(input: SearchInput, now_ms: int) -> SearchOutput:
    return SearchOutput(found=True, count=1, contact_id="1", email=input.email)


@search_contact.describe
def _describe_search(input: SearchInput) -> str:
    return (
        f"find the contact {input.email}"
        if input.email
        else f"find the contact whose {input.property} is {input.value}"
    )


def _pretended(contact: str) -> str:
    return "1" if "@" in contact else contact
