"""Exporting: everything that is known of a person, for the operator to hand over."""

from __future__ import annotations

from hub import shown
from hub.clock import Clock, rfc3339
from hub.store import erasures, views
from hub.store.session import Store

_EVERYTHING = 10_000_000
_PAGE = 200


async def gather(store: Store, clock: Clock, contact_id: str) -> shown.Export:
    """A person, their events and their runs, each whole. Raises NotThere.

    The calls that events came in are left out: they may tell of other people, and events hold what was understood of them.
    """
    async with store.read() as c:
        contact = await views.show_contact(c, contact_id, most=_EVERYTHING)
    events: list[shown.WholeEvent] = []
    after = (-1, "")
    while True:
        async with store.read() as c:
            page = await views.events_of(c, contact_id, after, _PAGE)
        events += [event for _, event in page]
        if len(page) < _PAGE:
            break
        last = page[-1][0]
        after = (last["received_at"], last["id"])
    runs: list[shown.Run] = []
    for run in contact["runs"]:
        async with store.read() as c:
            runs.append(await views.show_run(c, run["id"]))
    return {"exported_at": rfc3339(clock.now_ms()), "contact": contact, "events": events, "runs": runs}


async def answer(store: Store, clock: Clock, request_id: str, *, who: str) -> bool:
    """A request is answered; False when it was not open."""
    async with store.write() as c:
        return bool(await erasures.answered(c, id_=request_id, who=who, at_ms=clock.now_ms()))
