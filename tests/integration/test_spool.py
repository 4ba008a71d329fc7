"""Deliveries while the database is away: kept, synced, stored once when it is back; turned away when nothing can keep them."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
import socket
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from hub import seams
from hub.api.app import make_app
from hub.api.health import ready
from hub.cli import checkup
from hub.cli.findings import Finding, State
from hub.errors import ConfigError, StoreUnavailable
from hub.events import ConsentSignal, ConsentState, Event, Identity
from hub.process import receiving
from hub.segments import survey
from hub.settings import Settings
from hub.spool import Spool, SpoolShut
from hub.store.events import Incoming, NewEvent
from hub.store.pools import PostgresPool
from hub.store.session import Store
from hub.vault import Vault, generate_key
from tests.acme import signed
from tests.conftest import migrated
from tests.crash.servers import OwnPostgres
from tests.proxy import Proxy

BACK_S = 20.0


@pytest.fixture(autouse=True)
def no_seam_is_left() -> Iterator[None]:
    """What a test armed does not meet the next one."""
    yield
    seams.disarm()


@contextmanager
def _away(place: str = "ingest.commit") -> Iterator[None]:
    """The database takes no deliveries."""
    seams.arm(f"{place}=fail")
    try:
        yield
    finally:
        seams.disarm()


@pytest.fixture
def taking(running: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """`async with taking(database_url) as it`: a hub that takes calls, with its spool."""

    @asynccontextmanager
    async def start(database_url: str, **how: Any) -> AsyncIterator[Any]:
        settings = {"work": False, "spool_dir": tmp_path / "spool", **how}
        async with running(database_url, **settings) as it, receiving(it.hub):
            yield it

    return start


async def _sign_up(it: Any, n: int) -> int:
    status = await it.deliver("signed_up", {"id": f"s-{n}", "email": f"p{n}@example.com"}, delivery=f"d-{n}")
    return int(status)


async def _events(it: Any) -> list[dict[str, Any]]:
    async with it.hub.store.read() as c:
        return [dict(row) for row in await c.all("select * from event order by id")]


async def _until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + BACK_S
    while not holds():
        assert time.monotonic() < until, what
        await asyncio.sleep(0.02)


async def _replayed(it: Any) -> None:
    await _until(lambda: it.hub.ingest.spool.depth.records == 0, "the spool was not replayed")


async def test_what_comes_while_the_database_is_away_is_kept_and_stored_once_when_it_is_back(
    taking: Callable[..., Any], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with taking(database_url) as it:
        await _sign_up(it, 0)
        # when deliveries come while nothing can be stored, one of them twice
        before_ms = it.hub.clock.now_ms()
        with _away():
            replies = await asyncio.gather(*[_sign_up(it, n % 40) for n in range(1, 42)])
            assert set(replies) == {200}
            assert it.hub.ingest.spool.depth.records >= 40
            after_ms = it.hub.clock.now_ms()
        # then all of them are stored, once, with the time at which they came
        await _replayed(it)
        events = await _events(it)
        assert len(events) == 40
        assert sum(event["duplicates"] for event in events) == 2
        assert all(before_ms <= event["received_at"] <= after_ms for event in events[1:])
        # and nothing is left behind, and the log says it once
        assert list((it.settings.data_dir / "spool").iterdir()) == []
        what = [getattr(record, "what", "") for record in caplog.records]
        assert what.count("ingest_outage") == what.count("ingest_outage_over") == 1
        assert await _sign_up(it, 100) == 200
        assert it.hub.ingest.spool.depth.records == 0


async def test_a_delivery_whose_commit_was_not_heard_of_is_no_duplicate_of_itself(
    taking: Callable[..., Any], database_url: str
) -> None:
    async with taking(database_url) as it:
        # given a delivery that was committed, of which the hub heard nothing; and one without id and events
        with _away("ingest.committed"):
            assert await _sign_up(it, 1) == 200
            assert await it.deliver("something_new", {"id": "1"}, delivery="") == 200
        # when the spool is replayed
        await _replayed(it)
        # then nothing is doubled, and nothing counts as one
        [event] = await _events(it)
        assert event["duplicates"] == 0
        async with it.hub.store.read() as c:
            assert await c.first("select count(*) as n from delivery") == {"n": 2}


async def test_the_next_start_replays_what_the_last_one_left(
    running: Callable[..., Any], database_url: str, tmp_path: Path
) -> None:
    async with running(database_url, work=False, spool_dir=tmp_path / "spool") as it:
        with _away():
            async with receiving(it.hub):
                await asyncio.gather(*[_sign_up(it, n) for n in range(5)])
        assert await _events(it) == []
        async with receiving(it.hub):
            await _replayed(it)
        assert len(await _events(it)) == 5


@pytest.mark.parametrize("place", ["spool.replaying", "spool.replayed"])
async def test_a_replay_that_was_cut_off_is_done_again_and_doubles_nothing(
    taking: Callable[..., Any], database_url: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.spool.REPLAY_GROUP", 3)
    async with taking(database_url) as it:
        with _away():
            await asyncio.gather(*[_sign_up(it, n) for n in range(10)])
        seams.arm(f"{place}=fail")
        await asyncio.sleep(0)
        async with it.hub.store.read() as c:
            until = time.monotonic() + BACK_S
            while not await c.all("select id from event"):
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
        assert it.hub.ingest.spool.depth.records == 10
        seams.disarm()
        await _replayed(it)
        events = await _events(it)
        assert len(events) == 10
        assert sum(event["duplicates"] for event in events) == 0


async def test_without_a_spool_the_vendor_is_asked_to_repeat(
    taking: Callable[..., Any], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with taking(sqlite_url, spool_mb=0) as it:
        with _away():
            for n in range(3):
                with pytest.raises(StoreUnavailable):
                    await _sign_up(it, n)
        assert it.hub.ingest.turned_away == 3
        assert [getattr(record, "what", "") for record in caplog.records].count("ingest_turned_away") == 1
        assert await _sign_up(it, 1) == 200
        assert len(await _events(it)) == 1


async def test_a_full_spool_turns_deliveries_away_and_takes_them_again_after_the_replay(
    taking: Callable[..., Any], sqlite_url: str
) -> None:
    async with taking(sqlite_url) as it:
        it.hub.ingest.spool._most_bytes = 5_000
        kept = 0
        with _away():
            for n in range(20):
                try:
                    kept += await _sign_up(it, n) == 200
                except StoreUnavailable:
                    assert not it.hub.ingest.accepts or it.hub.ingest.spool.depth.bytes > 3_000
            assert 1 <= kept < 20
        await _replayed(it)
        assert len(await _events(it)) == kept
        assert it.hub.ingest.accepts


async def test_what_nobody_can_read_is_set_aside_and_the_rest_is_stored(
    running: Callable[..., Any], sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(sqlite_url, work=False) as it:
        with _away():
            async with receiving(it.hub):
                for n in range(3):
                    await _sign_up(it, n)
        # given a spool whose second record was damaged, and whose end was torn
        [file] = (it.settings.data_dir / "spool").glob("*.spool")
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(bytes(raw) + raw[:30])
        # when it is replayed
        async with receiving(it.hub):
            await _replayed(it)
            # then what was whole is stored, and the rest is kept and told
            assert len(await _events(it)) == 2
            assert [getattr(record, "what", "") for record in caplog.records].count("spool_damaged") == 1
            depth = survey(it.settings.data_dir / "spool")
            assert (depth.records, depth.bad) == (0, (file.with_suffix(".bad").name,))
            assert await _sign_up(it, 9) == 200


def _incoming(n: int) -> Incoming:
    return Incoming("scope", f"d-{n}", [], 1_000 + n, connector="acme", body=b"ada@example.com" + bytes([n]))


async def _all(spool: Spool) -> list[Incoming]:
    found: list[Incoming] = []

    async def take(group: Sequence[Incoming]) -> None:
        found.extend(group)

    await spool.replay(take)
    return found


@asynccontextmanager
async def _spool(folder: Path, vault: Vault, most_bytes: int = 1_000_000) -> AsyncIterator[Spool]:
    spool = Spool(folder, vault, most_bytes=most_bytes)
    await spool.open()
    try:
        yield spool
    finally:
        spool.close()


async def test_nothing_in_the_spool_can_be_read_without_the_key(tmp_path: Path) -> None:
    key, other = generate_key(), generate_key()
    folder = tmp_path / "spool"
    async with _spool(folder, Vault([key])) as spool:
        await spool.keep(_incoming(1))
        [file] = folder.iterdir()
        assert b"example" not in file.read_bytes()
        assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    # when the key is gone, it is kept for when it is back
    async with _spool(folder, Vault([other])) as spool:
        assert await _all(spool) == []
    [bad] = folder.iterdir()
    assert bad.suffix == ".bad"
    bad.rename(bad.with_suffix(".spool"))
    async with _spool(folder, Vault([other, key])) as spool:
        assert [one.delivery_id for one in await _all(spool)] == ["d-1"]


async def test_two_processes_share_a_folder_and_take_over_only_what_was_left(tmp_path: Path) -> None:
    vault = Vault([generate_key()])
    async with _spool(tmp_path, vault) as first:
        await first.keep(_incoming(1))
        async with _spool(tmp_path, vault) as second:
            await second.keep(_incoming(2))
            assert [one.delivery_id for one in await _all(second)] == ["d-2"]
            assert first.depth.records == 1
    async with _spool(tmp_path, vault) as third:
        assert third.depth.records == 1
        assert [one.delivery_id for one in await _all(third)] == ["d-1"]


async def test_a_full_disk_confirms_nothing_that_it_does_not_hold(tmp_path: Path) -> None:
    # given a disk on which no file can grow over 20 kB
    vault = Vault([generate_key()])
    kept: list[Incoming] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with _spool(tmp_path / "spool", vault) as spool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            refused = 0
            for n in range(120):
                try:
                    await spool.keep(delivery := _incoming(n))
                    kept.append(delivery)
                except SpoolShut:
                    refused += 1
                    break
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert refused
        assert kept
        assert not spool.accepts
        # when there is room again, it takes more, and what it confirmed is all there
        await _until(lambda: spool.accepts, "it stayed shut")
        await spool.keep(last := _incoming(121))
        assert await _all(spool) == [*kept, last]


async def test_a_folder_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(ConfigError, match="HUB_SPOOL_DIR"):
        await Spool(tmp_path / "spool", Vault([generate_key()]), most_bytes=1).open()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_EVENTS = st.builds(
    NewEvent,
    event=st.builds(
        Event,
        type=st.text(),
        fact_id=st.text(),
        occurred_at_ms=st.integers(0, 2**42),
        data=st.dictionaries(st.text(), _JSON, max_size=4),
        subject=st.none() | st.builds(Identity, email=st.none() | st.text(), first_name=st.text()),
        correlate=st.dictionaries(st.text(), st.text(), max_size=2),
        consents=st.tuples(
            st.builds(
                ConsentSignal,
                st.text(),
                st.text(),
                st.sampled_from(ConsentState),
                st.text(),
                at=st.none() | st.datetimes(timezones=st.just(UTC)),
            )
        ),
    ),
    connection_id=st.text(),
    connection=st.text(),
)
_DELIVERIES = st.builds(
    Incoming,
    scope=st.text(),
    delivery_id=st.none() | st.text(),
    events=st.lists(_EVENTS, max_size=3),
    received_at_ms=st.integers(0, 2**42),
    request=st.dictionaries(st.text(), _JSON, max_size=3),
    body=st.none() | st.binary(),
)


@given(_DELIVERIES)
def test_a_delivery_comes_out_of_the_spool_as_it_went_in(delivery: Incoming) -> None:
    spool = Spool(Path("nowhere"), _VAULT, most_bytes=1)
    aside: list[bytes] = []
    assert spool._opened(spool._seal(delivery), aside) == replace(delivery, events=list(delivery.events))
    assert aside == []


_VAULT = Vault([generate_key()])


NOTE = """
recipe: note
on: {event: acme.signed_up}
steps:
  - {do: acme.put_note, with: {key: "{{ trigger.id }}", text: hello}}
"""

# -- the database itself -----------------------------------------------------------------------------------------------


async def test_a_full_database_keeps_deliveries_in_the_spool_and_its_runs_go_on_when_there_is_room(
    taking: Callable[..., Any], sqlite_url: str
) -> None:
    async with taking(sqlite_url, work=True) as it:
        await it.publish(NOTE)
        async with it.hub.store.write() as c:
            pages = await c.first("pragma page_count")
            await c.run(f"pragma max_page_count = {pages['page_count']}")
        # when the database has no room, nothing is lost that was confirmed
        replies = [await it.deliver("signed_up", _large(n), delivery=f"d-{n}") for n in range(30)]
        assert set(replies) == {200}
        await _until(lambda: it.hub.ingest.spool.depth.records > 0, "nothing went to the spool")
        async with it.hub.store._writer.lend() as driver:
            await driver.run("pragma max_page_count = 1000000", {})
        # then, when there is room, all of it is stored and done
        await _replayed(it)
        until = time.monotonic() + BACK_S
        while [run["status"] for run in await it.runs()].count("done") < 30:
            assert time.monotonic() < until, await it.runs()
            await asyncio.sleep(0.1)
        assert len(await _events(it)) == len(await it.runs()) == 30


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    server = OwnPostgres()
    yield server
    server.close()


async def test_a_full_disk_under_postgresql_loses_nothing_and_everything_goes_on_when_there_is_room(
    taking: Callable[..., Any], own_postgres: OwnPostgres
) -> None:
    await migrated(own_postgres.url)
    async with taking(own_postgres.url, work=True, lease_s=1) as it:
        await it.publish(NOTE)
        # when no table can grow, what comes is kept in the spool, and turned away when that is full as well
        await asyncio.to_thread(own_postgres.fill)
        assert {await _sign_up(it, n) for n in range(20)} == {200}
        assert it.hub.ingest.spool.depth.records == 20
        it.hub.ingest.spool._most_bytes = 1
        with pytest.raises(StoreUnavailable):
            await _sign_up(it, 99)
        assert await _events(it) == []
        # and when there is room for what comes, and none for what is done about it, nothing is called
        await asyncio.to_thread(own_postgres.make_room)
        await asyncio.to_thread(own_postgres.fill, "effect")
        await _replayed(it)
        await asyncio.sleep(3)  # three leases
        assert it.sandbox.log == []
        # then, when there is room, everything is done, once
        await asyncio.to_thread(own_postgres.make_room)
        await _until(lambda: len(it.sandbox.log) >= 20, "nothing was called")
        await it.rest()
        assert {run["status"] for run in await it.runs()} == {"done"}
        assert sorted(entry.data["key"] for entry in it.sandbox.log) == sorted(f"s-{n}" for n in range(20))
        assert len(await _events(it)) == 20


def _large(n: int) -> dict[str, Any]:
    return {"id": f"s-{n}", "email": f"p{n}@example.com", "first_name": "x" * 20_000}


async def test_a_file_that_another_process_locked_keeps_nobody_waiting(
    taking: Callable[..., Any], sqlite_url: str
) -> None:
    async with taking(sqlite_url) as it:
        other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("begin immediate")
        try:
            began = time.monotonic()
            assert set(await asyncio.gather(*[_sign_up(it, n) for n in range(20)])) == {200}
            assert time.monotonic() - began < 5
            assert it.hub.ingest.spool.depth.records == 20
        finally:
            other.execute("rollback")
            other.close()
        await _replayed(it)
        assert len(await _events(it)) == 20


async def test_bodies_in_hand_have_a_bound(
    taking: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.ingest._MOST_IN_HAND_BYTES", 100)
    async with taking(sqlite_url) as it:
        with pytest.raises(StoreUnavailable, match="More is waiting"):
            await it.deliver("signed_up", _large(1), delivery="d-1")
        body, _ = signed("signed_up", {"id": "s-1"})
        assert len(body) < 100
        assert await it.deliver("signed_up", {"id": "s-1"}, delivery="d-1") == 200


async def _spool_finding(settings: Settings) -> Finding:
    [found] = [finding async for finding in checkup._spool(settings)]
    return found


async def test_readiness_and_doctor_say_what_waits(taking: Callable[..., Any], sqlite_url: str) -> None:
    async with taking(sqlite_url) as it:
        request = Request({"type": "http", "app": make_app(it.hub)})
        with _away():
            await _sign_up(it, 1)
            body = json.loads(bytes((await ready(request)).body))
            assert (body["status"], body["spool"]["records"]) == ("ok", 1)
            assert body["spool"]["oldest"] is not None
            # and when the database cannot be asked either, the process is ready all the same, for it takes deliveries
            with _unreachable(it.hub.store):
                answer = await ready(request)
            assert (answer.status_code, json.loads(bytes(answer.body))["status"]) == (200, "spooling")
            found = await _spool_finding(it.settings)
            assert (found.state, "stored: 1 (" in found.message) == (State.WARNING, True)
        await _replayed(it)
        assert (await _spool_finding(it.settings)).state is State.OK
    (it.settings.spool_folder() / "x.bad").write_bytes(b"")
    assert "x.bad" in (await _spool_finding(it.settings)).message


@contextmanager
def _unreachable(store: Store) -> Iterator[None]:
    reader, store._reader = store._reader, PostgresPool("postgresql://nobody@127.0.0.1:1/nothing", 1, {})
    try:
        yield
    finally:
        store._reader = reader


# -- PostgreSQL behind a bad network -----------------------------------------------------------------------------------


async def _timed(it: Any, n: int) -> float:
    began = time.monotonic()
    assert await _sign_up(it, n) == 200
    return time.monotonic() - began


@pytest.mark.parametrize("how", ["freeze", "cut"])
async def test_a_network_that_fails_under_load_costs_no_delivery_and_nobody_waits_long(
    taking: Callable[..., Any], postgres_url: str, how: str
) -> None:
    async with Proxy.to(postgres_url) as network, taking(network.url) as it:
        answered: list[float] = []

        async def caller(first: int) -> None:
            for n in range(first, first + 1_000_000, 8):
                if stop.is_set():
                    return
                answered.append(await _timed(it, n))
                await asyncio.sleep(0.005)

        # given deliveries that come all the time
        stop = asyncio.Event()
        callers = [asyncio.create_task(caller(n)) for n in range(8)]
        await _until(lambda: len(answered) > 50, "no delivery was taken")
        # when the database is out of reach for a while
        getattr(network, how)()
        await _until(lambda: it.hub.ingest.spool.depth.records > 50, "nothing went to the spool")
        network.mend()
        await _replayed(it)
        stop.set()
        await asyncio.gather(*callers)
        await _replayed(it)
        # then each was answered in time, and each is stored, once
        assert max(answered) < 5
        events = await _events(it)
        assert len(events) == len(answered)
        assert sum(event["duplicates"] for event in events) == 0


async def test_a_dead_connection_is_noticed_by_the_system(postgres_url: str) -> None:
    async with Proxy.to(postgres_url) as network:
        store = Store(network.url)
        async with store.read() as c:
            end = c.driver._connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
            assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        await store.close()


async def test_a_transaction_that_hears_nothing_ends_at_its_limit_and_the_next_one_works(postgres_url: str) -> None:
    async with Proxy.to(postgres_url) as network:
        store = Store(network.url, pool=1)
        async with store.write() as c:
            await c.run("select 1")
        network.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            async with store.write(limit_s=0.3) as c:
                await c.run("select 1")
        assert time.monotonic() - began < 3
        network.mend()
        async with store.write() as c:
            assert await c.first("select 1 as one") == {"one": 1}
        await store.close()
