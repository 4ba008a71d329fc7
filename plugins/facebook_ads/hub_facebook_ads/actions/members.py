"""People into and out of audiences: many in one call, in the order in which they came, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from hub import ActionContext, AuthExpired, Batch, Chosen, ConnectorError, Effect, PermanentError, Rejected
from hub_facebook_ads.client import node
from hub_facebook_ads.connector import facebook_ads
from hub_facebook_ads.matching import Identifiers, cells, identifies
from hub_facebook_ads.upload import MOST_ROWS, Uploaded, upload

_LINGER_S = 30.0
# A megabyte takes its time.
_TIMEOUT_S = 40.0


class Member(Identifiers):
    """A person, and the audience they are to be in."""

    audience_id: Annotated[str, Chosen("audiences")]
    limited_data_use: bool = Field(False, description="California and the like: Meta may use it in a limited way only")


class FormerMember(Member):
    """A person, and the audience they are to be out of."""


class Membership(BaseModel):
    """What Meta took. It shows within a day, and whether the person was recognised is never told."""

    audience_id: str
    session_id: str = ""
    """Of the upload that the person went with; empty where none was needed."""
    keys: list[str]
    """What the person could be recognised by: `EMAIL`, `PHONE`, …"""
    overtaken: bool = False
    """Whether the same batch held the opposite for this person, later: then that is what was done."""


@facebook_ads.batch_action(
    "add_to_audience",
    title="Add a person to an audience",
    input=Member,
    output=Membership,
    batch=Batch(size=MOST_ROWS, linger_s=_LINGER_S, group_by=lambda member: member.audience_id),
    effect=Effect.IDEMPOTENT,
    provides="audience.add",
    timeout_s=_TIMEOUT_S,
)
async def add_to_audience(ctx: ActionContext, members: Sequence[Member]) -> Sequence[Membership | ConnectorError]:
    """Add people to an audience. Ask for their consent to advertising first: this is no message, and nothing else does."""
    return await _changed(ctx, members)


@facebook_ads.batch_action(
    "remove_from_audience",
    title="Remove a person from an audience",
    input=FormerMember,
    output=Membership,
    # One batch for an audience, so that nobody who left is added after all.
    batch=Batch(
        size=MOST_ROWS, linger_s=_LINGER_S, group_by=lambda member: member.audience_id, together="add_to_audience"
    ),
    effect=Effect.IDEMPOTENT,
    provides="audience.remove",
    timeout_s=_TIMEOUT_S,
)
async def remove_from_audience(
    ctx: ActionContext, members: Sequence[FormerMember]
) -> Sequence[Membership | ConnectorError]:
    """Remove people from an audience; who is not in it is no error."""
    return await _changed(ctx, members)


async def _changed(ctx: ActionContext, members: Sequence[Member]) -> list[Membership | ConnectorError]:
    """One call for all that are added and one for all that are removed, of whom nobody is in both.

    Who cannot be anybody fails alone, for one empty row can spoil a whole upload.
    """
    rows = [cells(member) for member in members]
    outcomes: dict[int, Membership | ConnectorError] = {}
    for at, row in enumerate(rows):
        if not identifies(row):
            outcomes[at] = _nobody()
    for at in _overtaken(members, rows, (at for at in range(len(rows)) if at not in outcomes)):
        outcomes[at] = Membership(audience_id=members[at].audience_id, keys=list(rows[at]), overtaken=True)
    for method in ("POST", "DELETE"):
        places = [at for at in range(len(rows)) if at not in outcomes and _method(members[at]) == method]
        if places:
            outcomes |= await _uploaded(ctx, method, members, rows, places)
    return [outcomes[at] for at in range(len(rows))]


def _method(member: Member) -> str:
    return "DELETE" if isinstance(member, FormerMember) else "POST"


def _overtaken(members: Sequence[Member], rows: Sequence[dict[str, str]], places: Iterable[int]) -> list[int]:
    """Those whose person the same batch holds again, later, for the opposite: whoever shares a value is the same."""
    later: dict[str, set[tuple[str, str]]] = {"POST": set(), "DELETE": set()}
    opposite = {"POST": "DELETE", "DELETE": "POST"}
    found = []
    for at in sorted(places, reverse=True):
        own = {(key, cell) for key, cell in rows[at].items() if key in _OF_ONE}
        if not own.isdisjoint(later[opposite[_method(members[at])]]):
            found.append(at)
        later[_method(members[at])] |= own
    return found


# What two people do not share, as they may a name or a town.
_OF_ONE = frozenset({"EXTERN_ID", "EMAIL", "PHONE", "MADID"})


async def _uploaded(
    ctx: ActionContext, method: str, members: Sequence[Member], rows: Sequence[dict[str, str]], places: Sequence[int]
) -> dict[int, Membership | ConnectorError]:
    """The outcomes of one call. What Meta refuses for good is refused to all of it, and to nobody else in the batch."""
    audience_id = members[places[0]].audience_id
    limited = [members[at].limited_data_use for at in places]
    try:
        answer = await upload(ctx, method, f"/{node(audience_id)}/users", [rows[at] for at in places], limited=limited)
    except AuthExpired:
        raise  # it waits for a new token, with everybody
    except PermanentError as refused:
        return dict.fromkeys(places, refused)
    return {at: _outcome(audience_id, rows[at], answer) for at in places}


def _outcome(audience_id: str, row: dict[str, str], answer: Uploaded) -> Membership | ConnectorError:
    if not answer.invalid_cells.isdisjoint(row.values()):
        return Rejected("Meta shows one of this person's values as invalid: correct the contact's data")
    return Membership(audience_id=audience_id, session_id=answer.session_id, keys=list(row))


def _nobody() -> ConnectorError:
    return Rejected(
        "nothing is left that Meta could recognise the person by: give an e-mail address, a phone number with its country "
        "code, an external_id or an advertising_id that can be one"
    )


@add_to_audience.simulate
def _pretend_add(member: Member, now_ms: int) -> Membership:
    return Membership(audience_id=member.audience_id, session_id="0", keys=list(cells(member)))


@remove_from_audience.simulate
def _pretend_remove(member: FormerMember, now_ms: int) -> Membership:
    return _pretend_add(member, now_ms)


@add_to_audience.describe
def _describe_add(member: Member) -> str:
    return f"add a person to audience {member.audience_id} by {_by(member)}"


@remove_from_audience.describe
def _describe_remove(member: FormerMember) -> str:
    return f"remove a person from audience {member.audience_id} by {_by(member)}"


def _by(member: Member) -> str:
    return ", ".join(cells(member)) or "nothing that identifies them"
