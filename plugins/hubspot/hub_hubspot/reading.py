"""Reads many records in the order that polls and histories need: what is new by a search, all there is by the list."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel

from hub import ActionContext, Page
from hub.events import Json
from hub_hubspot.client import PastValue, Record, RecordPage, paged, read_records, search
from hub_hubspot.paths import path

# A search misses what was written lately, and orders it loosely: each poll looks again at the last two hours.
# (public connectors look again after one hour; HubSpot documents a delay without a number, read 2026-11-22)
SEARCH_OVERLAP_S = 2 * 3600
# A search gives at most 200 at once. (developers.hubspot.com "Search the CRM")
_PAGE = 200

T = TypeVar("T")
P = TypeVar("P", bound=BaseModel)

ENDED = "ended"
"""The cursor of a history that was read to its end."""


async def found_since(
    ctx: ActionContext, kind: str, moment: str, properties: Sequence[str], since_ms: int
) -> AsyncIterator[list[Record]]:
    """Pages of the records whose date property `moment` lies at or after an instant, oldest first.

    Each page is a search of its own that begins where the one before ended: the pages of one search count places, so that
    a record that changes meanwhile moves to the end and another takes its place unseen, and they stop at 10,000.
    """
    floor_ms, told = since_ms, set[tuple[str, str]]()
    while True:
        filters: list[Mapping[str, Json]] = [{"propertyName": moment, "operator": "GTE", "value": str(floor_ms)}]
        page = await search(ctx, kind, filters, [*properties, moment], sort=moment, limit=_PAGE)
        yield [record for record in page.results if (record.id, record.properties[moment]) not in told]
        if page.after is None:
            return
        told = {(record.id, record.properties[moment]) for record in page.results}
        # The last one, not the latest: near now they come in loose order.
        last_ms = milliseconds(page.results[-1].properties[moment])
        if last_ms > floor_ms:
            floor_ms = last_ms
            continue
        async for more in _found_at(ctx, kind, moment, properties, floor_ms):
            yield more
        floor_ms += 1


async def _found_at(
    ctx: ActionContext, kind: str, moment: str, properties: Sequence[str], at_ms: int
) -> AsyncIterator[list[Record]]:
    """Pages of the records of one millisecond, by their ids: an import may leave more there than a search gives."""
    last = 0
    while True:
        filters: list[Mapping[str, Json]] = [
            {"propertyName": moment, "operator": "GTE", "value": str(at_ms)},
            {"propertyName": moment, "operator": "LT", "value": str(at_ms + 1)},
            {"propertyName": "hs_object_id", "operator": "GT", "value": str(last)},
        ]
        page = await search(ctx, kind, filters, [*properties, moment], sort="hs_object_id", limit=_PAGE)
        yield page.results
        if page.after is None:
            return
        last = int(page.results[-1].id)


async def changed_since(
    ctx: ActionContext, kind: str, moment: str, changed: Sequence[str], properties: Sequence[str], since_ms: int
) -> AsyncIterator[list[Record]]:
    """Pages of the records that were modified since, with the past of the properties `changed`, which a search does not tell.

    `moment` is the date property of the last modification. Without a property to look at nothing is asked.
    """
    if not changed:
        return
    async for found in found_since(ctx, kind, moment, (), since_ms):
        yield await read_records(ctx, kind, [record.id for record in found], properties, history=changed)


def values_since(record: Record, since_ms: int) -> Iterator[tuple[str, PastValue]]:
    """Each property whose past was read, with each value that it got at an instant or later."""
    for name, values in record.properties_with_history.items():
        for past in values:
            if past.timestamp.timestamp() * 1000 >= since_ms:
                yield name, past


async def past_records(
    ctx: ActionContext, kind: str, wanted: Mapping[str, Sequence[str]], cursor: str | None, *, limit: int = 100
) -> AsyncIterator[Page[Record]]:
    """Pages of all records there are, each with the cursor to go on from; `wanted` names lists of properties."""
    if cursor == ENDED:
        return
    query = {"limit": str(limit), **{name: ",".join(properties) for name, properties in wanted.items()}}
    async for page in paged(ctx, path(ctx.settings, "objects", f"/{kind}"), query, RecordPage, cursor):
        yield Page(page.results, page.after or ENDED)


async def past_of_each(
    every: Sequence[T],
    name: Callable[[T], str],
    read: Callable[[T, str | None], AsyncIterator[tuple[Sequence[P], str | None]]],
    cursor: str | None,
) -> AsyncIterator[Page[P]]:
    """Pages of what each of several things tells, one after the other; the cursor names it and where in it to go on, as JSON.

    `read` gives what one tells from a place on, with the place after it, which is None at the end.
    """
    if cursor == ENDED:
        return
    begun, place = json.loads(cursor) if cursor else ("", None)
    left = [one for one in sorted(every, key=name) if name(one) >= begun]
    for one, following in zip(left, [*left[1:], None], strict=True):
        then = json.dumps([name(following), None]) if following else ENDED
        async for items, after in read(one, place if name(one) == begun else None):
            yield Page(items, then if after is None else json.dumps([name(one), after]))


def is_since(record: Record, since_ms: int) -> bool:
    """Whether a record was created at an instant or later."""
    return record.created_at.timestamp() * 1000 >= since_ms


def milliseconds(text: str) -> int:
    """A date property, which HubSpot writes as ISO 8601 or as milliseconds since 1970."""
    return int(text) if text.isdecimal() else round(datetime.fromisoformat(text).timestamp() * 1000)
