"""Who joined and who left the watched lists. There is no webhook for it that a connection could use: members are asked for.

HubSpot tells joins with their times, so a join is found by its time. Of those who left it tells nothing: the members are
compared with those of the last poll, which its cursor holds. (hubspot-api-client 12.0.0, lists; read 2026-11-22)
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime

from hub import ActionContext, Delivery, NotFound, Page
from hub.events import Json
from hub_hubspot.client import READ_AT_ONCE, Answer, PagedAnswer, chunks, paged, read, read_records
from hub_hubspot.connector import CONTACTS_READ, LISTS_READ, hubspot
from hub_hubspot.paths import path
from hub_hubspot.reading import past_of_each
from hub_hubspot.triggers.changes import Moment, Person, at, contact_properties, identity, named, of_contact

logger = logging.getLogger(__name__)

MOST_MEMBERS = 10_000
"""Of larger lists those who left are not told: all members have to be remembered between two polls."""

_CONTACTS = "0-1"
_AT_ONCE = 250
_BY_JOINING = "/join-order"

# Contact id to when it joined, in milliseconds since 1970.
Members = dict[str, int]


class _List(Answer):
    list_id: str
    name: str
    object_type_id: str


class _ListAnswer(Answer):
    list: _List


class _Member(Answer):
    record_id: str
    membership_timestamp: datetime


class _MemberPage(PagedAnswer):
    results: list[_Member]


class ListJoined(Person):
    """Somebody who is on a list since `joined_at`."""

    list_id: str
    list_name: str
    joined_at: Moment


class ListLeft(ListJoined):
    """Somebody who was on a list since `joined_at`, and is not any more; when they left, HubSpot does not tell."""


def _fact(one: ListJoined) -> str:
    return f"{one.list_id}:{one.contact_id}:{at(one.joined_at)}"


@hubspot.trigger(
    "list_joined",
    title="Joined a list",
    payload=ListJoined,
    sample="list_joined.json",
    fact=_fact,
    subject=identity,
    occurred_at=lambda joined: joined.joined_at,
    correlate=("list_id", "contact_id"),
    provides="list.joined",
    scopes=[LISTS_READ, CONTACTS_READ],
)
def list_joined(delivery: Delivery) -> Iterable[ListJoined]:
    """Somebody has joined a watched list."""
    return [ListJoined.model_validate(delivery.json())]


@hubspot.trigger(
    "list_left",
    title="Left a list",
    payload=ListLeft,
    sample="list_left.json",
    fact=_fact,
    subject=identity,
    correlate=("list_id", "contact_id"),
    provides="list.left",
    scopes=[LISTS_READ, CONTACTS_READ],
)
def list_left(delivery: Delivery) -> Iterable[ListLeft]:
    """Somebody has left a watched list."""
    return [ListLeft.model_validate(delivery.json())]


@hubspot.poll("list_joined", every_s=300, overlap_s=900)
async def recent_joins(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ListJoined]]:
    """Who joined since, list by list; HubSpot tells the latest first."""
    async for watched in _watched(ctx):
        new: Members = {}
        async for page in _members(ctx, watched, _BY_JOINING):
            some = {member.record_id: _ms(member) for member in page if _ms(member) >= since_ms}
            new |= some
            if len(some) < len(page):
                break
        for who in chunks(reversed(new), READ_AT_ONCE):
            people = await _people(ctx, who)
            yield Page([ListJoined(**_membership(watched, one, new[one], people)) for one in who], "")


@hubspot.history("list_joined")
async def past_joins(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ListJoined]]:
    """Who joined since and is still there, list by list."""

    async def read(watched: _List, after: str | None) -> AsyncIterator[tuple[list[ListJoined], str | None]]:
        async for page in _member_pages(ctx, watched, _BY_JOINING, after):
            some = {member.record_id: _ms(member) for member in page.results if _ms(member) >= since_ms}
            people = await _people(ctx, some)
            following = page.after if len(some) == len(page.results) else None
            yield [ListJoined(**_membership(watched, one, some[one], people)) for one in some], following
            if following is None:
                return

    every = [watched async for watched in _watched(ctx)]
    async for made in past_of_each(every, lambda watched: watched.list_id, read, cursor):
        yield made


@hubspot.poll("list_left", every_s=900, overlap_s=0)
async def recent_leaves(ctx: ActionContext, cursor: str | None, since_ms: int) -> AsyncIterator[Page[ListLeft]]:
    """Who is missing since the last poll, list by list. A list that was not watched before is only remembered."""
    known = remembered(cursor)
    watched = [one async for one in _watched(ctx)]
    known = {one.list_id: known[one.list_id] for one in watched if one.list_id in known}
    for one in watched:
        present = await _all_members(ctx, one)
        if present is None:
            continue
        gone = set(known.get(one.list_id, {})) - set(present)
        if gone:
            # Whoever moved between two pages while they were read seems to be missing once, not twice.
            if (again := await _all_members(ctx, one)) is None:
                continue
            gone -= set(again)
            present |= again
        before = known.get(one.list_id, {})
        people = await _people(ctx, sorted(gone))
        items = [ListLeft(**_membership(one, who, before[who], people)) for who in sorted(gone)]
        known[one.list_id] = present
        yield Page(items, remember(known))


def remember(known: Mapping[str, Members]) -> str:
    """The members of each list as a cursor: JSON, compressed, as text."""
    return base64.b64encode(zlib.compress(json.dumps(known).encode())).decode()


def remembered(cursor: str | None) -> dict[str, Members]:
    """The members that a cursor holds; none at first."""
    found: dict[str, Members] = json.loads(zlib.decompress(base64.b64decode(cursor))) if cursor else {}
    return found


# -- asking ------------------------------------------------------------------------------------------------------------


async def _watched(ctx: ActionContext) -> AsyncIterator[_List]:
    """The lists of the setting that are there and hold contacts; the others are logged, and do not stop these."""
    for list_id in named(ctx.settings, "watched_lists"):
        try:
            answer = await ctx.http.request("GET", path(ctx.settings, "lists", f"/{list_id}"))
        except NotFound:
            _leave_out(ctx, list_id, "there is no such list")
            continue
        found = read(_ListAnswer, answer).list
        if found.object_type_id == _CONTACTS:
            yield found
        else:
            _leave_out(ctx, list_id, "it does not hold contacts")


def _leave_out(ctx: ActionContext, list_id: str, why: str) -> None:
    logger.warning(
        "a watched list is left out",
        extra={"what": "list_left_out", "connection_id": ctx.connection_id, "list": list_id, "why": why},
    )


async def _members(ctx: ActionContext, watched: _List, order: str = "") -> AsyncIterator[list[_Member]]:
    async for page in _member_pages(ctx, watched, order):
        yield page.results


def _member_pages(
    ctx: ActionContext, watched: _List, order: str, after: str | None = None
) -> AsyncIterator[_MemberPage]:
    address = path(ctx.settings, "lists", f"/{watched.list_id}/memberships{order}")
    return paged(ctx, address, {"limit": str(_AT_ONCE)}, _MemberPage, after)


async def _all_members(ctx: ActionContext, watched: _List) -> Members | None:
    """Everybody on a list; None, and a line in the log, where they are too many to remember."""
    found: Members = {}
    async for page in _members(ctx, watched):
        found |= {member.record_id: _ms(member) for member in page}
        if len(found) > MOST_MEMBERS:
            _leave_out(ctx, watched.list_id, f"it has more than {MOST_MEMBERS:,} members; those who leave are not told")
            return None
    return found


async def _people(ctx: ActionContext, ids: Iterable[str]) -> dict[str, dict[str, Json]]:
    records = await read_records(ctx, "contacts", ids, contact_properties(ctx.settings))
    return {record.id: of_contact(record, ctx.settings) for record in records}


def _membership(
    watched: _List, contact: str, joined_ms: int, people: Mapping[str, Mapping[str, Json]]
) -> dict[str, Json]:
    known = {"list_id": watched.list_id, "list_name": watched.name, "contact_id": contact, "joined_at": joined_ms}
    return {**people.get(contact, {}), **known}


def _ms(member: _Member) -> int:
    return round(member.membership_timestamp.timestamp() * 1000)
