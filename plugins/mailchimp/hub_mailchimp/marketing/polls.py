"""Members that changed while no webhook told: the polls of joining, leaving, changing and bouncing off, and the past.

A poll cannot see what a member was before, so that who joined is told from who changed by the time of the opt-in. Nor can
it see who changed them: what the hub itself does comes back as news, which is why only leaving is looked for by default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, Field

from hub import ActionContext, Json, Page
from hub_mailchimp.marketing import client
from hub_mailchimp.marketing.client import Answer, audiences, page_of, rfc3339
from hub_mailchimp.marketing.connector import mailchimp
from hub_mailchimp.marketing.triggers import Cleaned, Leaver, MaybeMoment, Member, Moment, member_fields

# Webhooks are repeated for about 75 minutes; what they bring late is known by then, or found here.
_EVERY_S, _OVERLAP_S = 900, 600
# Joining changes a member too. A change so soon after it is no other.
_SAME_CHANGE_S = 60

P = TypeVar("P", bound=BaseModel)


class _Found(Answer):
    list_id: str
    email_address: str
    status: str
    merge_fields: Mapping[str, Json] = {}
    joined_at: MaybeMoment = Field(None, alias="timestamp_opt")
    last_changed: Moment

    def fields(self, at: Json) -> dict[str, Json]:
        """As fields of `Member`."""
        return member_fields(self.list_id, self.email_address, dict(self.merge_fields), at)


class _Reached(BaseModel):
    """Where reading goes on: audiences before `audience` are read, and of this one who changed before `second`.

    Of those who changed in that very second as many as `of_it` are read, for a whole import may have changed in it.
    """

    audience: str = ""
    second: float | None = None
    of_it: int = 0
    whole: bool = False
    """Whether this audience is read to its end."""

    @property
    def offset(self) -> int:
        """Where in its second reading goes on: a little before, as whoever changes meanwhile moves the others up."""
        return max(0, self.of_it - client.PAGE_SIZE // 10)

    def after(self, found: Sequence[_Found]) -> _Reached:
        """Where reading goes on after another page of the same audience; they come by the time of their change."""
        second = found[-1].last_changed.timestamp() // 1
        if self.second is not None and second <= self.second:
            return self.model_copy(update={"of_it": self.offset + len(found)})
        in_it = sum(one.last_changed.timestamp() // 1 == second for one in found)
        return _Reached(audience=self.audience, second=second, of_it=in_it)


async def _changed(
    ctx: ActionContext, since_ms: int, status: str, make: Callable[[_Found], Iterable[P]], cursor: str | None = None
) -> AsyncIterator[Page[P]]:
    """Members of a status that changed since, audience by audience; the cursor is a `_Reached`, as JSON.

    Each page begins at the second where the one before ended: counted from the beginning, members that change meanwhile
    and so leave their places would push others into places that were read.
    """
    # Both ends count whole seconds; what changes within the running one is left to the next time.
    until = rfc3339(ctx.now_ms - 1000)
    params = {
        "status": status,
        "since_last_changed": rfc3339(since_ms),
        "before_last_changed": until,
        "sort_field": "last_changed",
        "sort_dir": "ASC",
    }
    if status == "unsubscribed":
        # Who left long ago and changes now does not leave again.
        params["unsubscribed_since"] = params["since_last_changed"]
    reached = _Reached.model_validate_json(cursor) if cursor else _Reached()
    for audience in sorted(await audiences(ctx)):
        if audience < reached.audience or (audience == reached.audience and reached.whole):
            continue
        at = reached if audience == reached.audience else _Reached(audience=audience)
        more = True
        while more:
            # The second that is named is left out itself.
            since = params["since_last_changed"] if at.second is None else rfc3339((at.second - 1) * 1000)
            asked = params | {"since_last_changed": since}
            found, more = await page_of(ctx, f"/lists/{audience}/members", "members", _Found, asked, offset=at.offset)
            at = at.after(found) if more else _Reached(audience=audience, whole=True)
            yield Page([made for one in found for made in make(one)], at.model_dump_json())


def _joined(since_ms: int) -> Callable[[_Found], Iterable[Member]]:
    def make(found: _Found) -> Iterable[Member]:
        if found.joined_at is not None and found.joined_at.timestamp() * 1000 > since_ms:
            yield Member.model_validate(found.fields(found.joined_at))

    return make


def _updated(found: _Found) -> Iterable[Member]:
    joined_at = found.joined_at
    if joined_at is None or abs((found.last_changed - joined_at).total_seconds()) > _SAME_CHANGE_S:
        yield Member.model_validate(found.fields(found.last_changed))


def _left(found: _Found) -> Iterable[Leaver]:
    # What Mailchimp calls the reason here is a sentence of the person's, or of whoever took them out.
    yield Leaver.model_validate(found.fields(found.last_changed))


def _cleaned(found: _Found) -> Iterable[Cleaned]:
    yield Cleaned.model_validate(found.fields(found.last_changed))


def _is_asked(ctx: ActionContext, *, leaving: bool) -> bool:
    return ctx.settings.get("member_poll", "leaving") in (("leaving", "all") if leaving else ("all",))


@mailchimp.poll("member_subscribed", every_s=_EVERY_S, overlap_s=_OVERLAP_S)
async def joined_lately(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Member]]:
    """Members who joined since."""
    if _is_asked(ctx, leaving=False):
        async for page in _changed(ctx, since_ms, "subscribed", _joined(since_ms)):
            yield page


@mailchimp.poll("member_updated", every_s=_EVERY_S, overlap_s=_OVERLAP_S)
async def updated_lately(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Member]]:
    """Members who changed since, other than by joining."""
    if _is_asked(ctx, leaving=False):
        async for page in _changed(ctx, since_ms, "subscribed", _updated):
            yield page


@mailchimp.poll("member_unsubscribed", every_s=_EVERY_S, overlap_s=_OVERLAP_S)
async def left_lately(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Leaver]]:
    """Members who left since."""
    if _is_asked(ctx, leaving=True):
        async for page in _changed(ctx, since_ms, "unsubscribed", _left):
            yield page


@mailchimp.poll("member_cleaned", every_s=_EVERY_S, overlap_s=_OVERLAP_S)
async def cleaned_lately(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Cleaned]]:
    """Addresses that were taken out of use since."""
    if _is_asked(ctx, leaving=True):
        async for page in _changed(ctx, since_ms, "cleaned", _cleaned):
            yield page


@mailchimp.history("member_subscribed")
async def joined_before(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Member]]:
    """Members who joined since and are still there."""
    async for page in _changed(ctx, since_ms, "subscribed", _joined(since_ms), cursor):
        yield page


@mailchimp.history("member_unsubscribed")
async def left_before(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Leaver]]:
    """Members who left since and did not come back."""
    async for page in _changed(ctx, since_ms, "unsubscribed", _left, cursor):
        yield page


@mailchimp.history("member_cleaned")
async def cleaned_before(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[Cleaned]]:
    """Addresses that were taken out of use since."""
    async for page in _changed(ctx, since_ms, "cleaned", _cleaned, cursor):
        yield page
