"""Taking people out of audiences: unsubscribed, archived, or forgotten altogether."""

from __future__ import annotations

from contextlib import suppress

from hub import ActionContext, Effect, Identity, NotFound, Rejected, SkipStep
from hub_mailchimp.marketing.client import Audience, everything, member_id, part, read
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.members import Found, MemberOutput, Whose, output_of

_WRITTEN_TO = ("subscribed", "pending", "transactional")


class LeaveInput(Whose):
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
        return output_of(input, await _unsubscribed(ctx, input.path))
    except NotFound as error:
        raise SkipStep("already_done", "this person is not in the audience") from error


async def _unsubscribed(ctx: ActionContext, path: str) -> str:
    """The status of a member who is written to no more. Raises NotFound.

    Who left before is not touched: a change that changes nothing may look as if they had left again.
    """
    member = read(Found, await ctx.http.request("GET", path))
    if member.status not in _WRITTEN_TO:
        return member.status
    return read(Found, await ctx.http.request("PATCH", path, json={"status": "unsubscribed"})).status


@unsubscribe_member.simulate
def _pretend_unsubscribed(input: LeaveInput, now_ms: int) -> MemberOutput:
    return output_of(input, "unsubscribed")


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
            member = read(Found, await ctx.http.request("GET", input.path))
        except NotFound:
            raise SkipStep("already_done", "this person is not in the audience") from refused
        if member.status != "archived":
            raise refused from None
    return output_of(input, "archived")


@archive_member.simulate
def _pretend_archived(input: LeaveInput, now_ms: int) -> MemberOutput:
    return output_of(input, "archived")


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
        with suppress(NotFound):  # they may have left meanwhile
            await _unsubscribed(ctx, f"/lists/{part(audience.id)}/members/{member_id(person.email)}")
