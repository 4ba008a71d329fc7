"""What can be done with the members of an audience. Nobody who left is ever subscribed again.

An upsert says what somebody new becomes, and nothing of who is there already (`status_if_new` without `status`). Who left
can come back only by themselves; Mailchimp answers 400 "Member In Compliance State". (Swagger 3.0.55 and issues such as
Automattic/jetpack#21153.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from hub import (
    ActionContext,
    Batch,
    Chosen,
    ConnectorError,
    ConsentSignal,
    ConsentState,
    Effect,
    Identity,
    Json,
    NotFound,
    Rejected,
    RetryableError,
    SkipStep,
)
from hub_mailchimp.marketing.client import (
    COMPLIANCE,
    Answer,
    Audience,
    everything,
    member_id,
    pages,
    read,
)
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.triggers import Moment

BATCH_SIZE = 500
"""The most members of one call. (Marketing API, `POST /lists/{id}`)"""
RUN = "hub_run"
"""The property of an event that names the effect it came of."""
# How long an event may take to appear in the list. Nothing is documented; calls themselves are given up after 20 s.
APPEARS_WITHIN_MS = 60_000
_SKIP_VALIDATION = {"skip_merge_validation": "true"}


def _address(text: str) -> str:
    email = text.strip()
    local, at, domain = email.rpartition("@")
    if not (local and at and "." in domain) or any(c.isspace() for c in email):
        raise ValueError("is no e-mail address")
    return email


ListId = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]+$"), Chosen("lists")]
Email = Annotated[str, AfterValidator(_address)]
Tag = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), Chosen("tags", ("list_id",))
]
MergeTag = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,10}$")]
# Mailchimp refuses booleans and nulls here. Addresses are objects of their parts.
MergeValue = StrictStr | StrictInt | StrictFloat | dict[str, StrictStr]
NewStatus = Literal["subscribed", "pending", "unsubscribed", "transactional"]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Whose(_Input):
    list_id: ListId = Field(description="The audience")
    email: Email

    @property
    def path(self) -> str:
        """Where the member is."""
        return f"/lists/{self.list_id}/members/{member_id(self.email)}"


class _Member(Answer):
    id: str
    email_address: str
    status: str


class MemberOutput(BaseModel):
    """A member as Mailchimp has them now; `status` tells whether they may be written to (`subscribed`)."""

    list_id: str
    email: str
    member_id: str
    status: str


def _output(input: _Whose, status: str) -> MemberOutput:
    return MemberOutput(list_id=input.list_id, email=input.email, member_id=member_id(input.email), status=status)


def _left(email: str) -> SkipStep:
    signal = ConsentSignal("email", email, ConsentState.REVOKED, "mailchimp_compliance")
    return SkipStep(
        "no_consent", "this person left the audience, and was not subscribed again: only they can", signals=[signal]
    )


# -- upsert ------------------------------------------------------------------------------------------------------------


class UpsertInput(_Whose):
    """Who is to be in the audience. What is not given stays as it is."""

    merge_fields: dict[MergeTag, MergeValue] = Field(default={}, description="By tag: {FNAME: Ada}")
    interests: dict[str, bool] = Field(default={}, description="By the interest's id")
    language: str | None = Field(None, pattern=r"^[a-zA-Z]{2,3}([_-][a-zA-Z]{2})?$")
    status_if_new: NewStatus = Field(
        "subscribed", description="What somebody becomes who is not in the audience; pending: they are asked by e-mail"
    )


def _details(input: UpsertInput | AddInput) -> dict[str, Json]:
    given = {"merge_fields": input.merge_fields, "interests": input.interests, "language": input.language}
    return {name: value for name, value in given.items() if value}


@mailchimp.action(
    "upsert_member",
    title="Put somebody into an audience",
    input=UpsertInput,
    output=MemberOutput,
    effect=Effect.IDEMPOTENT,
)
async def upsert_member(ctx: ActionContext, input: UpsertInput) -> MemberOutput:
    """Put somebody into an audience, or change them; whoever left stays out."""
    wanted = {"email_address": input.email, "status_if_new": input.status_if_new, **_details(input)}
    try:
        answer = await ctx.http.request("PUT", input.path, params=_SKIP_VALIDATION, json=wanted)
    except Rejected as refused:
        if refused.code == COMPLIANCE:
            raise _left(input.email) from refused
        raise
    return _output(input, read(_Member, answer).status)


@upsert_member.simulate
def _pretend_upsert(input: UpsertInput, now_ms: int) -> MemberOutput:
    return _output(input, input.status_if_new)


@upsert_member.describe
def _describe_upsert(input: UpsertInput) -> str:
    return f"put {input.email} into audience {input.list_id} ({input.status_if_new} if new)"


# -- many at once ------------------------------------------------------------------------------------------------------


class AddInput(UpsertInput):
    """Who is to be added. Whoever is in the audience already stays as they are."""


class AddOutput(BaseModel):
    """`added`, or `known` for whoever was in the audience already, subscribed or not."""

    list_id: str
    email: str
    member_id: str
    outcome: Literal["added", "known"]


class _AddError(Answer):
    email_address: str
    error_code: str = ""


class _Added(Answer):
    new_members: Sequence[_Member] = ()
    errors: Sequence[_AddError] = ()


@mailchimp.batch_action(
    "add_member",
    title="Add somebody to an audience, with many others in one call",
    input=AddInput,
    output=AddOutput,
    batch=Batch(size=BATCH_SIZE, linger_s=5.0, group_by=lambda one: one.list_id),
    effect=Effect.IDEMPOTENT,
    provides="audience.add",
    timeout_s=60.0,
)
async def add_members(ctx: ActionContext, inputs: Sequence[AddInput]) -> Sequence[AddOutput | ConnectorError]:
    """Add people to an audience who are not there yet."""
    # With `update_existing` the call would change the status of who is there, and so subscribe again who left.
    unique = {member_id(one.email): one for one in inputs}
    wanted = [{"email_address": i.email, "status": i.status_if_new, **_details(i)} for i in unique.values()]
    body: Json = {"members": wanted, "update_existing": False}
    answer = await ctx.http.request("POST", f"/lists/{inputs[0].list_id}", params=_SKIP_VALIDATION, json=body)
    made = read(_Added, answer)
    added = {member_id(member.email_address) for member in made.new_members}
    errors = {member_id(error.email_address): error.error_code for error in made.errors}
    return [_outcome(one, added, errors) for one in inputs]


def _outcome(input: AddInput, added: set[str], errors: Mapping[str, str]) -> AddOutput | ConnectorError:
    id_ = member_id(input.email)
    code = errors.get(id_)
    if id_ not in added and code != "ERROR_CONTACT_EXISTS":
        return Rejected("Mailchimp did not add this person: check the address and the merge fields", code=code)
    outcome: Literal["added", "known"] = "added" if id_ in added else "known"
    return AddOutput(list_id=input.list_id, email=input.email, member_id=id_, outcome=outcome)


# -- fields and tags ---------------------------------------------------------------------------------------------------


class FieldsInput(_Whose):
    merge_fields: dict[MergeTag, MergeValue] = Field(min_length=1, description="By tag: {FNAME: Ada}")


@mailchimp.action(
    "update_merge_fields",
    title="Change a member's merge fields",
    input=FieldsInput,
    output=MemberOutput,
    effect=Effect.IDEMPOTENT,
)
async def update_merge_fields(ctx: ActionContext, input: FieldsInput) -> MemberOutput:
    """Change merge fields of a member. Raises NotFound when the person is not in the audience."""
    body: Json = {"merge_fields": input.merge_fields}
    answer = await ctx.http.request("PATCH", input.path, params=_SKIP_VALIDATION, json=body)
    return _output(input, read(_Member, answer).status)


@update_merge_fields.simulate
def _pretend_fields(input: FieldsInput, now_ms: int) -> MemberOutput:
    return _output(input, "subscribed")


@update_merge_fields.describe
def _describe_fields(input: FieldsInput) -> str:
    return f"set {', '.join(input.merge_fields)} of {input.email} in audience {input.list_id}"


class TagsInput(_Whose):
    tags: list[Tag] = Field(min_length=1, max_length=100)
    quietly: bool = Field(False, description="Start none of Mailchimp's own automations")


class TagsOutput(BaseModel):
    list_id: str
    email: str
    tags: list[str]


async def _tag(ctx: ActionContext, input: TagsInput, status: str) -> TagsOutput:
    body: Json = {"tags": [{"name": tag, "status": status} for tag in input.tags], "is_syncing": input.quietly}
    await ctx.http.request("POST", f"{input.path}/tags", json=body)
    return _tagged(input, 0)


def _tagged(input: TagsInput, now_ms: int) -> TagsOutput:
    return TagsOutput(list_id=input.list_id, email=input.email, tags=list(input.tags))


@mailchimp.action("add_tags", title="Tag a member", input=TagsInput, output=TagsOutput, effect=Effect.IDEMPOTENT)
async def add_tags(ctx: ActionContext, input: TagsInput) -> TagsOutput:
    """Add tags to those a member has; unknown ones are made."""
    return await _tag(ctx, input, "active")


@mailchimp.action(
    "remove_tags", title="Take tags off a member", input=TagsInput, output=TagsOutput, effect=Effect.IDEMPOTENT
)
async def remove_tags(ctx: ActionContext, input: TagsInput) -> TagsOutput:
    """Take tags off a member, also those they do not have."""
    return await _tag(ctx, input, "inactive")


add_tags.simulate(_tagged)
remove_tags.simulate(_tagged)


@add_tags.describe
def _describe_add_tags(input: TagsInput) -> str:
    return f"tag {input.email} in audience {input.list_id} with {', '.join(input.tags)}"


@remove_tags.describe
def _describe_remove_tags(input: TagsInput) -> str:
    return f"take the tags {', '.join(input.tags)} off {input.email} in audience {input.list_id}"


# -- leaving -----------------------------------------------------------------------------------------------------------


class LeaveInput(_Whose):
    """Who is to leave the audience."""


@mailchimp.action(
    "unsubscribe_member",
    title="Unsubscribe a member",
    input=LeaveInput,
    output=MemberOutput,
    effect=Effect.IDEMPOTENT,
    provides="email.unsubscribe",
)
async def unsubscribe_member(ctx: ActionContext, input: LeaveInput) -> MemberOutput:
    """Unsubscribe a member; skipped when the person is not in the audience."""
    try:
        answer = await ctx.http.request("PATCH", input.path, json={"status": "unsubscribed"})
    except NotFound as error:
        raise SkipStep("already_done", "this person is not in the audience") from error
    return _output(input, read(_Member, answer).status)


@unsubscribe_member.simulate
def _pretend_unsubscribed(input: LeaveInput, now_ms: int) -> MemberOutput:
    return _output(input, "unsubscribed")


@unsubscribe_member.describe
def _describe_unsubscribe(input: LeaveInput) -> str:
    return f"unsubscribe {input.email} from audience {input.list_id}"


@mailchimp.action(
    "archive_member",
    title="Archive a member",
    input=LeaveInput,
    output=MemberOutput,
    effect=Effect.IDEMPOTENT,
    provides="audience.remove",
)
async def archive_member(ctx: ActionContext, input: LeaveInput) -> MemberOutput:
    """Take a member out of the audience; they can be added again. Nothing is deleted."""
    try:
        await ctx.http.request("DELETE", input.path)
    except (NotFound, Rejected) as refused:
        # Who is archived already is refused, with 404 or 405 by different reports: look.
        if refused.status not in (404, 405):
            raise
        try:
            member = read(_Member, await ctx.http.request("GET", input.path))
        except NotFound:
            raise SkipStep("already_done", "this person is not in the audience") from refused
        if member.status != "archived":
            raise refused from None
    return _output(input, "archived")


@archive_member.simulate
def _pretend_archived(input: LeaveInput, now_ms: int) -> MemberOutput:
    return _output(input, "archived")


@archive_member.describe
def _describe_archive(input: LeaveInput) -> str:
    return f"archive {input.email} in audience {input.list_id}"


@mailchimp.forget
async def forget(ctx: ActionContext, person: Identity) -> None:
    """Unsubscribe a person from every audience of the account, also those that the connection is not about.

    They stay there as unsubscribed, so that no later import writes to them. Deleting for good is left to people: Mailchimp
    never takes such an address again.
    """
    if not person.email:
        return
    for audience in await everything(ctx, "/lists", "lists", Audience, {"email": person.email}):
        try:
            await ctx.http.request(
                "PATCH", f"/lists/{audience.id}/members/{member_id(person.email)}", json={"status": "unsubscribed"}
            )
        except NotFound:
            continue  # they left meanwhile
        except Rejected as refused:
            # Of who bounced or complained the status is Mailchimp's own; nothing is sent to them.
            if refused.code != COMPLIANCE:
                raise


# -- events and journeys -----------------------------------------------------------------------------------------------


class EventInput(_Whose):
    name: str = Field(min_length=2, max_length=30, description="What kind of event: cart_abandoned")
    properties: dict[str, str] = Field(default={}, description="More about it, as texts")
    occurred_at: AwareDatetime | None = Field(None, description="When; without it: when it is sent")
    quietly: bool = Field(False, description="Start none of Mailchimp's own automations")


class EventOutput(BaseModel):
    list_id: str
    email: str
    name: str


class _Event(Answer):
    name: str = ""
    occurred_at: Moment
    properties: Mapping[str, Json] | Sequence[Json] = {}
    """An empty list stands for no properties at vendors that are written in PHP; nothing is documented."""

    @property
    def run(self) -> Json:
        """The effect it came of."""
        return self.properties.get(RUN) if isinstance(self.properties, Mapping) else None


@mailchimp.action(
    "add_event", title="Add an event to a member", input=EventInput, output=EventOutput, effect=Effect.RECONCILABLE
)
async def add_event(ctx: ActionContext, input: EventInput) -> EventOutput:
    """Add an event to a member, by which Mailchimp's own automations can start."""
    body: Json = {
        "name": input.name,
        "properties": {**input.properties, RUN: ctx.reference},
        "is_syncing": input.quietly,
        "occurred_at": _occurred_at(ctx, input).isoformat(),
    }
    await ctx.http.request("POST", f"{input.path}/events", json=body)
    return _event(input, 0)


@add_event.lookup
async def added_before(ctx: ActionContext, input: EventInput) -> EventOutput | None:
    """The event that an earlier call added, by our reference in its properties."""
    try:
        async for found in pages(ctx, f"{input.path}/events", "events", _Event):
            if any(one.name == input.name and one.run == ctx.reference for one in found):
                return _event(input, 0)
    except NotFound:
        return None  # nobody of that name could have got an event
    wait_ms = ctx.intended_at_ms + APPEARS_WITHIN_MS - ctx.now_ms
    if wait_ms > 0:
        raise RetryableError("too early to say that Mailchimp has no such event", retry_after_s=wait_ms / 1000)
    return None


@add_event.simulate
def _event(input: EventInput, now_ms: int) -> EventOutput:
    return EventOutput(list_id=input.list_id, email=input.email, name=input.name)


@add_event.describe
def _describe_event(input: EventInput) -> str:
    return f"add the event {input.name} to {input.email} in audience {input.list_id}"


def _occurred_at(ctx: ActionContext, input: EventInput) -> datetime:
    """When it happened: of an event without a time when the first attempt was made, the same at each repeat."""
    at_ms = ctx.intended_at_ms or ctx.now_ms
    return input.occurred_at or datetime.fromtimestamp(at_ms // 1000, UTC)


class JourneyInput(_Input):
    """A step of a journey that begins with "Customer Journeys API"; both ids stand in its settings at Mailchimp."""

    journey_id: int = Field(gt=0)
    step_id: int = Field(gt=0)
    email: Email = Field(description="Must be in the journey's audience")


class JourneyOutput(BaseModel):
    journey_id: int
    step_id: int
    email: str


@mailchimp.action(
    "start_journey_step", title="Start a step of a customer journey", input=JourneyInput, output=JourneyOutput
)
async def start_journey_step(ctx: ActionContext, input: JourneyInput) -> JourneyOutput:
    """Start a step of a customer journey for a person. Whether it was started cannot be looked up: at most once."""
    path = f"/customer-journeys/journeys/{input.journey_id}/steps/{input.step_id}/actions/trigger"
    await ctx.http.request("POST", path, json={"email_address": input.email})
    return _started(input, 0)


@start_journey_step.simulate
def _started(input: JourneyInput, now_ms: int) -> JourneyOutput:
    return JourneyOutput(journey_id=input.journey_id, step_id=input.step_id, email=input.email)


@start_journey_step.describe
def _describe_journey(input: JourneyInput) -> str:
    return f"start step {input.step_id} of journey {input.journey_id} for {input.email}"
