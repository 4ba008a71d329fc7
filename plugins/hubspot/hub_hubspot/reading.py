"""Reads many records in the order that polls and histories need: what is new by a search, all there is by the list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime

from hub import ActionContext, Page, Rejected
from hub_hubspot.client import PastValue, Record, RecordPage, paged, read_records, search
from hub_hubspot.paths import path

# A search misses what was written lately, and orders it loosely: each poll looks again at the last two hours.
# (public connectors look again after one hour; HubSpot documents a delay without a number, read 2026-11-22)
SEARCH_OVERLAP_S = 2 * 3600
# A search gives no more than 10,000 results, in pages of at most 200. (developers.hubspot.com "Search the CRM")
_PAGE, _PAGES = 200, 50

ENDED = "ended"
"""The cursor of a history that was read to its end."""


async def found_since(
    ctx: ActionContext, kind: str, moment: str, properties: Sequence[str], since_ms: int
) -> AsyncIterator[list[Record]]:
    """Pages of the records whose date property `moment` lies at or after an instant, oldest first.

    After 10,000 results a new search begins where the last one ended.
    """
    floor_ms = since_ms
    while True:
        newest_ms, after = floor_ms, None
        filters = [{"propertyName": moment, "operator": "GTE", "value": str(floor_ms)}]
        for _ in range(_PAGES):
            wanted = [*properties, moment]
            page = await search(ctx, kind, filters, wanted, sort=moment, limit=_PAGE, after=after)
            newest_ms = max([newest_ms, *(milliseconds(record.properties[moment]) for record in page.results)])
            yield page.results
            after = page.after
            if after is None:
                return
        if newest_ms == floor_ms:
            raise Rejected(f"more than {_PAGE * _PAGES:,} {kind} have the same {moment}: a search cannot tell them all")
        floor_ms = newest_ms


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


def is_since(record: Record, since_ms: int) -> bool:
    """Whether a record was created at an instant or later."""
    return record.created_at.timestamp() * 1000 >= since_ms


def milliseconds(text: str) -> int:
    """A date property, which HubSpot writes as ISO 8601 or as milliseconds since 1970."""
    return int(text) if text.isdecimal() else round(datetime.fromisoformat(text).timestamp() * 1000)
