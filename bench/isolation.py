"""One healthy vendor beside another that is well, and then in trouble: dead, hanging, or failing. What that changes for the first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from bench import vendor
from bench.load import Load, percentile
from bench.processes import generate
from bench.report import Row
from bench.setting import Setting
from bench.subject import Running, distributed
from hub.plugins import load_plugins
from hub.process import open_hub
from hub.settings import load_settings

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
_WELL, _TROUBLED = "well", "troubled"
# What the vendor declares: nothing, or more calls at once than a worker has slots.
_DECLARED = (None, 200)
_OTHER = f"""
recipe: other
on: {{event: bench.ordered, from: [bench], where: {{event.total: {{gte: {_HEALTHY}}}}}}}
connections: {{bench: CONNECTION}}
steps:
  - {{do: bench.put_note, with: {{order: "{{{{ trigger.id }}}}", text: ordered}}}}
"""


def measure(setting: Setting) -> Iterator[Row]:
    """For each kind of trouble a fresh hub: first the other vendor is well, then every call to it goes wrong."""
    for declared in _DECLARED:
        for trouble in vendor.TROUBLES:
            yield from _beside_trouble(setting, trouble, declared)


def _beside_trouble(setting: Setting, trouble: str, declared: int | None) -> Iterator[Row]:
    count, warm = (240, 60) if setting.quick else (1_800, 120)
    name = f"isolation-{trouble}-{declared or 'default'}"
    with distributed(setting, name, _RECIPE, concurrency=declared) as hub:
        asyncio.run(_beside(hub, _WELL, _WELL))
        generate(Load(url=hub.subject.hook, first=0, count=1, connections=1))
        generate(Load(url=hub.subject.hook, first=1, count=warm - 1, rate=_RATE))
        well = _latency_ms(hub, first=200, count=count)
        asyncio.run(_beside(hub, _TROUBLED, trouble))
        troubled = _latency_ms(hub, first=200 + count, count=count)
    said = f"{trouble}s" + (f" with {declared} calls at once" if declared else "")
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


async def _beside(hub: Running, name: str, account: str) -> None:
    """Connect the other vendor, and let every other order call it."""
    given = {name.removeprefix("HUB_").lower(): value for name, value in hub.subject.environment.items()}
    given.pop("pythonpath", None)
    async with open_hub(load_settings(**given), plugins=load_plugins(extra=[vendor])) as it:
        sandbox = account not in vendor.TROUBLES or account in vendor.ANSWERING
        fields = {"account": account, **({} if sandbox else {"token": "t", "webhook_secret": "w"})}
        await it.connections.add(vendor.NAME, name, fields, sandbox=sandbox)
        await it.library.apply(_OTHER.replace("CONNECTION", name), publish=True)
    # The workers see it within a second.
    await asyncio.sleep(1.5)
