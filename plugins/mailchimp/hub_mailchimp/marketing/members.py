"""What can be done with the members of an audience. Nobody who left is ever subscribed again.

An upsert says what somebody new becomes, and nothing of who is there already (`status_if_new` without `status`). Who left
can come back only by themselves; Mailchimp answers 400 "Member In Compliance State". (Swagger 3.0.55 and issues such as
Automattic/jetpack#21153.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import (
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
    Json,
    NotFound,
    Rejected,
    SkipStep,
)
from hub_mailchimp.addresses import Email
from hub_mailchimp.marketing.client import (
    COMPLIANCE,
    Answer,
    member_id,
    part,
    read,
)
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.triggers import MaybeMoment

BATCH_SIZE = 500
"""The most members of one call. (Marketing API, `POST /lists/{id}`)"""
_SKIP_VALIDATION = {"skip_merge_validation": "true"}


ListId = Annotated[str, StringConstraints(min_length=1), Chosen("lists")]
Tag = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), Chosen("tags", ("list_id",))
]
MergeTag = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,10}$")]
# Mailchimp refuses booleans and nulls here. Addresses are objects of their parts.
MergeValue = StrictStr | StrictInt | StrictFloat | dict[str, StrictStr]
NewStatus = Literal["subscribed", "pending", "unsubscribed", "transactional"]


class Input(BaseModel):
    """What every input has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Whose(Input):
    """One person in one audience."""

    list_id: ListId = Field(description="The audience")
    email: Email

    @property
    def path(self) -> str:
        """Where the member is."""
        return f"/lists/{part(self.list_id)}/members/{member_id(self.email)}"


class Found(Answer):
    """A member, as Mailchimp shows them."""

    id: str
    email_address: str
    status: str


class MemberOutput(BaseModel):
    """A member as Mailchimp has them now; `status` tells whether they may be written to (`subscribed`)."""

    list_id: str
    email: str
    member_id: str
    status: str


def output_of(input: Whose, status: str) -> MemberOutput:
    """A member with the status that they have now."""
    return MemberOutput(list_id=input.list_id, email=input.email, member_id=member_id(input.email), status=status)


class _Gone(Answer):
    last_changed: MaybeMoment = None


async def _left(ctx: ActionContext, input: Whose) -> SkipStep:
    """That somebody left. Mailchimp does not say when, but no later than they changed last: a yes given since is newer."""
    try:
        left_by = read(_Gone, await ctx.http.request("GET", input.path)).last_changed
    except (NotFound, Rejected):
        left_by = None  # deleted for good: nothing of them is left to be read
    signal = ConsentSignal("email", input.email, ConsentState.REVOKED, "mailchimp_compliance", at=left_by)
    return SkipStep(
        "no_consent", "this person left the audience, and was not subscribed again: only they can", signals=[signal]
    )


# -- upsert ------------------------------------------------------------------------------------------------------------


class UpsertInput(Whose):
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
            raise await _left(ctx, input) from refused
        raise
    return output_of(input, read(Found, answer).status)


@upsert_member.simulate
def _pretend_upsert(input: UpsertInput, now_ms: int) -> MemberOutput:
    return output_of(input, input.status_if_new)


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
    new_members: Sequence[Found] = ()
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
    answer = await ctx.http.request("POST", f"/lists/{part(inputs[0].list_id)}", params=_SKIP_VALIDATION, json=body)
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


@add_members.simulate
def _pretend_added(input: AddInput, now_ms: int) -> AddOutput:
    return AddOutput(list_id=input.list_id, email=input.email, member_id=member_id(input.email), outcome="added")


@add_members.describe
def _describe_add(input: AddInput) -> str:
    return f"add {input.email} to audience {input.list_id} as {input.status_if_new}, unless they are there"


# -- fields and tags ---------------------------------------------------------------------------------------------------


class FieldsInput(Whose):
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
    return output_of(input, read(Found, answer).status)


@update_merge_fields.simulate
def _pretend_fields(input: FieldsInput, now_ms: int) -> MemberOutput:
    return output_of(input, "subscribed")


@update_merge_fields.describe
def _describe_fields(input: FieldsInput) -> str:
    return f"set {', '.join(input.merge_fields)} of {input.email} in audience {input.list_id}"


class TagsInput(Whose):
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
