"""One healthy vendor beside another that is well, and then in trouble: dead, hanging, or failing. What that changes for the first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from bench import vendor
from bench.load import Load, percentile
from bench.processes import generate
from bench.report import Row
from bench.servers import postgres
from bench.setting import Setting
from bench.subject import Running, distributed
from hub.plugins import load_plugins
from hub.process import open_hub
from hub.settings import load_settings
from hub.store import runs

_RATE = 60.0
_TARGET = 1.10
# Of a hundred orders the first half is the healthy vendor's business, the other half goes to the one in trouble.
_HEALTHY = 50
_RECIPE = f"""
recipe: healthy
on: {{event: bench.ordered, where: {{event.total: {{lt: {_HEALTHY}}}}}}}
steps:
  - {{do: bench.put_note, with: {{order: "{{{{ trigger.id }}}}", text: ordered}}}}
"""
# How long calls may take that were made before.
_SETTLES_S = 12.0
_OTHER = f"""
recipe: other
on: {{event: bench.ordered, from: [bench], where: {{event.total: {{gte: {_HEALTHY}}}}}}}
connections: {{bench: CONNECTION}}
steps:
  - {{do: bench.put_note, with: {{order: "{{{{ trigger.id }}}}", text: ordered}}}}
"""
# Each kind of trouble, and what the vendor declares: nothing, or more calls at once than a worker has slots. The first one is
# none: how far two measurements of the same thing are apart says what the others are worth.
_WELL = "well"
_CASES = ((_WELL, None), *((trouble, None) for trouble in vendor.TROUBLES), ("hang", 200))
# The machine is faster in one minute than in the next, so they take turns, each as often first as second. All rounds are
# counted together: of one round's six hundred calls, six decide about the 99th percentile.
_ROUNDS = 4


def measure(setting: Setting) -> Iterator[Row]:
    """For each kind of trouble a fresh hub, where the other vendor is well and in trouble in turn.

    PostgreSQL writes into memory: what a disk takes its time for now and then would drown what is looked for.
    """
    with postgres(in_memory=True) as database_url:
        for trouble, declared in _CASES:
            yield from _beside_trouble(replace(setting, postgres=database_url), trouble, declared)


def _beside_trouble(setting: Setting, trouble: str, declared: int | None) -> Iterator[Row]:
    count, warm = (240, 60) if setting.quick else (1_200, 120)
    name = f"isolation-{trouble}-{declared or 'default'}"
    well: list[float] = []
    troubled: list[float] = []
    with distributed(setting, name, _RECIPE, concurrency=declared) as hub:
        asyncio.run(_lead_to(hub, _WELL))
        generate(Load(url=hub.subject.hook, first=0, count=1, connections=1))
        generate(Load(url=hub.subject.hook, first=1, count=warm - 1, rate=_RATE))
        first = warm
        for n in range(_ROUNDS):
            turns = ((_WELL, well), (f"{trouble}-{n}", troubled))
            for account, times in turns if n % 2 == 0 else reversed(turns):
                asyncio.run(_lead_to(hub, account))
                times += _latency_ms(hub, first=first, count=count)
                first += count
    said = "is well, too" if trouble == _WELL else f"{trouble}s"
    said += f" with {declared} calls at once" if declared else ""
    for percent in (50, 99):
        one, other = percentile(well, percent), percentile(troubled, percent)
        yield Row("isolation", f"webhook to action beside one that is well, p{percent}", one, "ms", less=True)
        yield Row("isolation", f"webhook to action beside one that {said}, p{percent}", other, "ms", less=True)
        target = _TARGET if percent == 99 else None
        yield Row("isolation", f"one that {said} / well, p{percent}", other / one, "times", target=target, less=True)


def _latency_ms(hub: Running, *, first: int, count: int) -> list[float]:
    """From each healthy order's first byte sent to its action's arrival."""
    result = generate(Load(url=hub.subject.hook, first=first, count=count, rate=_RATE, keep_times=True))
    mine = {n: sent for n, sent in result.sent.items() if int(n) % 100 < _HEALTHY}
    paths = {n: f"/notes/{vendor.order(int(n))['id']}" for n in mine}
    hub.wait_for_paths(paths.values())
    came = hub.calls.times()
    return [(came[paths[n]] - sent) * 1000 for n, sent in mine.items()]


async def _lead_to(hub: Running, account: str) -> None:
    """Let every other order call this account from now on, and forget what another one has not answered."""
    given = {name.removeprefix("HUB_").lower(): value for name, value in hub.subject.environment.items()}
    for name in ("pythonpath", vendor.CONCURRENCY.lower()):
        given.pop(name, None)
    async with open_hub(load_settings(**given), plugins=load_plugins(extra=[vendor])) as it:
        trouble = account.partition("-")[0]
        sandbox = trouble not in vendor.TROUBLES or trouble in vendor.ANSWERING
        fields = {"account": account, **({} if sandbox else {"token": "t", "webhook_secret": "w"})}
        if account not in {connection.name for connection in await it.connections.all()}:
            await it.connections.add(vendor.NAME, account, fields, sandbox=sandbox)
        await it.library.apply(_OTHER.replace("CONNECTION", account), publish=True)
        async with it.store.write() as c:
            left = await c.all("select id from run where recipe = 'other' and finished_at is null")
            stops = {row["id"]: {"cancel": "cancelled", "event": None} for row in left}
            await runs.stop(c, stops, it.clock.now_ms())
    # The workers see it within a second; calls that hang end within their time.
    await asyncio.sleep(_SETTLES_S if left else 1.5)
