"""Hub time; in development mode it can be moved forward."""

from __future__ import annotations

from fastapi import APIRouter

from hub import shown
from hub.api.access import Reading, Writing
from hub.api.given import Body
from hub.clock import parse_duration_ms, rfc3339
from hub.errors import ConfigError

router = APIRouter(prefix="/api/v1/clock", tags=["clock"])


class Advance(Body):
    """How far to move, such as `24h`."""

    by: str


@router.get("")
async def show_clock(hub: Reading) -> shown.Clock:
    """Hub time, and how far ahead of real time it is."""
    await hub.time.sync()
    return {
        "now": rfc3339(hub.clock.now_ms()),
        "offset_ms": hub.clock.offset_ms,
        "development": hub.settings.development,
    }


@router.post("/advance")
async def advance(hub: Writing, given: Advance) -> shown.Advanced:
    """Development mode only: jump, stopping at every instant on the way at which something is due."""
    try:
        by_ms = parse_duration_ms(given.by)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    stops = await hub.time.advance(hub.clock.now_ms() + by_ms, ring=hub.ring)
    return {"now": rfc3339(hub.clock.now_ms()), "stops": stops}
