"""A vendor that says by an event that it takes an account's credentials no longer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from hub import replays
from hub.clock import rfc3339
from hub.connections import kind_of
from hub.store import connections, views
from tests.conftest import Running
from tests.planted import tell

Start = Callable[..., AbstractAsyncContextManager[Running]]
ENDED = ("needs re-authorisation", "guestbook.locked_out came: the vendor takes its credentials no longer")


async def test_access_that_a_vendor_ends_is_over_before_any_call(
    erasing: Start, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with erasing(database_url) as it:
        # given something else that the vendor tells
        await tell(it, "signed", {"id": "1", "email": "jane@example.com"})
        await it.rest()
        assert await it.hub.connections.healths() == {}

        # when the account is locked out, which no recipe listens to
        await tell(it, "locked_out", {"id": "2"})
        await it.rest()

        # then this connection alone is known not to work, and nobody was called to find out
        assert await it.hub.connections.healths() == {"guestbook": ENDED}
        assert it.more["guestbook"].log == []
        assert [r.what for r in caplog.records if getattr(r, "what", "") == "access_ended"] == ["access_ended"]


async def test_an_end_of_access_that_is_routed_again_ends_no_new_one(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        # given an account that was connected again
        await tell(it, "locked_out", {"id": "2"})
        await it.rest()
        connection = await it.hub.connections.by_name("guestbook")
        async with it.hub.store.write() as c:
            await connections.set_health(c, connection.id, "ok", None)

        # when the event of then comes to be routed again
        async with it.hub.store.read() as c:
            [event] = await views.list_events(c, type_="guestbook.locked_out")
        hub = it.hub
        await replays.replay(hub.store, hub.clock, event["id"], who="ops", keep_runs_days=90, ring=hub.ring)
        await replays.outcome(hub.store, event["id"], limit_s=20)

        # then it says nothing of the new credentials
        await it.hub.connections.refresh(force=True)
        assert await it.hub.connections.healths() == {}


async def test_an_end_of_access_from_before_the_account_was_connected_again_ends_nothing(
    erasing: Start, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with erasing(database_url) as it:
        # given an account that was locked out, and was given new credentials before that is told
        locked_out = it.hub.clock.now_ms()
        await it.advance(60_000)
        await _reauthorise(it, "guestbook")
        await it.advance(60_000)

        # when it is told at last, then the new credentials are as good as before
        await tell(it, "locked_out", {"id": "2", "at": rfc3339(locked_out)})
        await it.rest()
        assert await it.hub.connections.healths() == {}
        assert [r for r in caplog.records if getattr(r, "what", "") == "access_ended"] == []

        # when it is locked out again, whichever of both is told first
        await tell(it, "locked_out", {"id": "3", "at": rfc3339(it.hub.clock.now_ms())})
        await tell(it, "locked_out", {"id": "4", "at": rfc3339(locked_out)})
        await it.rest()
        assert await it.hub.connections.healths() == {"guestbook": ENDED}


async def _reauthorise(it: Running, name: str) -> None:
    known = it.hub.connections
    connection = await known.by_name(name)
    connector, values = known.connector(connection.connector), await known.fields(connection)
    kind = kind_of(connector, values, auth=connection.auth, app=False)
    await known.replace(connection, connector, kind, connection.account, values)


async def test_accounts_whose_access_ends_at_once_are_all_told_of(running: Start, database_url: str) -> None:
    async with running(database_url, work=False) as it:
        await it.hub.connections.add("acme", "another", {"account": "other"}, sandbox=True)
        both = await it.hub.connections.all()
        async with it.hub.store.write() as c:
            await connections.end_access(c, {one.id: connections.Ended(2**52, f"{one.name} is over") for one in both})
        await it.hub.connections.refresh(force=True)
        assert await it.hub.connections.healths() == {
            one: (connections.NEEDS_REAUTHORISATION, f"{one} is over") for one in ("acme", "another")
        }
