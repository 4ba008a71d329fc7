"""People into and out of audiences: many in one call, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from hub import ActionContext, Batch, Chosen, ConnectorError, Effect, Rejected
from hub_facebook_ads.connector import facebook_ads
from hub_facebook_ads.matching import Identifiers, cells, identifies
from hub_facebook_ads.upload import MOST_ROWS, Uploaded, upload

_LINGER_S = 30.0
# A megabyte takes its time.
_TIMEOUT_S = 40.0


class Member(Identifiers):
    """A person, and the audience they are to be in or out of."""

    audience_id: Annotated[str, Chosen("audiences"), Field(pattern=r"^[0-9]{1,20}$", description="The audience")]
    limited_data_use: bool = Field(False, description="California and the like: Meta may use it in a limited way only")


class Membership(BaseModel):
    """What Meta took. It shows within a day, and whether the person was recognised is never told."""

    audience_id: str
    session_id: str
    """Of the upload that the person went with."""
    keys: list[str]
    """What the person could be recognised by: `EMAIL`, `PHONE`, …"""


def _audience(member: Member) -> str:
    return member.audience_id


@facebook_ads.batch_action(
    "add_to_audience",
    title="Add a person to an audience",
    input=Member,
    output=Membership,
    batch=Batch(size=MOST_ROWS, linger_s=_LINGER_S, group_by=_audience),
    effect=Effect.IDEMPOTENT,
    provides="audience.add",
    timeout_s=_TIMEOUT_S,
)
async def add_to_audience(ctx: ActionContext, members: Sequence[Member]) -> Sequence[Membership | ConnectorError]:
    """Add people to an audience. Ask for their consent to advertising first: this is no message, and nothing else does."""
    return await _changed(ctx, "POST", members)


@facebook_ads.batch_action(
    "remove_from_audience",
    title="Remove a person from an audience",
    input=Member,
    output=Membership,
    batch=Batch(size=MOST_ROWS, linger_s=_LINGER_S, group_by=_audience),
    effect=Effect.IDEMPOTENT,
    provides="audience.remove",
    timeout_s=_TIMEOUT_S,
)
async def remove_from_audience(ctx: ActionContext, members: Sequence[Member]) -> Sequence[Membership | ConnectorError]:
    """Remove people from an audience; who is not in it is no error."""
    return await _changed(ctx, "DELETE", members)


async def _changed(ctx: ActionContext, method: str, members: Sequence[Member]) -> list[Membership | ConnectorError]:
    """One call for all that can be somebody; the others fail alone, for one empty row can spoil a whole upload."""
    rows = [cells(member) for member in members]
    sent = [at for at, row in enumerate(rows) if identifies(row)]
    if not sent:
        return [_nobody() for _ in members]
    audience_id = members[0].audience_id
    answer = await upload(
        ctx,
        method,
        f"/{audience_id}/users",
        [rows[at] for at in sent],
        limited=[members[at].limited_data_use for at in sent],
    )
    taken = set(sent)
    return [
        _outcome(audience_id, list(row), answer, frozenset(row.values())) if at in taken else _nobody()
        for at, row in enumerate(rows)
    ]


def _outcome(audience_id: str, keys: list[str], answer: Uploaded, row: frozenset[str]) -> Membership | ConnectorError:
    if row & answer.invalid_cells:
        return Rejected("Meta shows one of this person's values as invalid: correct the contact's data")
    return Membership(audience_id=audience_id, session_id=answer.session_id, keys=keys)


def _nobody() -> ConnectorError:
    return Rejected(
        "nothing is left that Meta could recognise the person by: give an e-mail address, a phone number with its country "
        "code, an external_id or an advertising_id that can be one"
    )


@add_to_audience.simulate
@remove_from_audience.simulate
def _pretend(member: Member, now_ms: int) -> Membership:
    return Membership(audience_id=member.audience_id, session_id="0", keys=list(cells(member)))


@add_to_audience.describe
def _describe_add(member: Member) -> str:
    return f"add a person to audience {member.audience_id} by {_by(member)}"


@remove_from_audience.describe
def _describe_remove(member: Member) -> str:
    return f"remove a person from audience {member.audience_id} by {_by(member)}"


def _by(member: Member) -> str:
    return ", ".join(cells(member)) or "nothing that identifies them"
