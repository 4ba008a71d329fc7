"""One healthy vendor beside one in trouble: dead, hanging, or failing. Its latency alone and beside, in one program run."""

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
_TROUBLED = f"""
recipe: troubled
on: {{event: bench.ordered, from: [bench], where: {{event.total: {{gte: {_HEALTHY}}}}}}}
connections: {{bench: troubled}}
steps:
  - {{do: bench.put_note, with: {{order: "{{{{ trigger.id }}}}", text: ordered}}}}
"""


def measure(setting: Setting) -> Iterator[Row]:
    """For each kind of trouble a fresh hub: first the healthy vendor alone, then with the other one beside it."""
    count, warm = (240, 60) if setting.quick else (600, 120)
    for trouble in vendor.TROUBLES:
        with distributed(setting, f"isolation-{trouble}", _RECIPE) as hub:
            generate(Load(url=hub.subject.hook, first=0, count=1, connections=1))
            generate(Load(url=hub.subject.hook, first=1, count=warm - 1, rate=_RATE))
            alone = _latency_ms(hub, first=100, count=count)
            asyncio.run(_trouble(hub, trouble))
            beside = _latency_ms(hub, first=100 + count, count=count)
        for percent in (50, 99):
            one, other = percentile(alone, percent), percentile(beside, percent)
            yield Row("isolation", f"webhook to action alone, before: {trouble}, p{percent}", one, "ms", less=True)
            yield Row("isolation", f"webhook to action beside one that {trouble}s, p{percent}", other, "ms", less=True)
            target = _TARGET if percent == 99 else None
            yield Row(
                "isolation", f"{trouble}: beside / alone, p{percent}", other / one, "times", target=target, less=True
            )


def _latency_ms(hub: Running, *, first: int, count: int) -> list[float]:
    """From each healthy order's first byte sent to its action's arrival."""
    result = generate(Load(url=hub.subject.hook, first=first, count=count, rate=_RATE, keep_times=True))
    mine = {n: sent for n, sent in result.sent.items() if int(n) % 100 < _HEALTHY}
    paths = {n: f"/notes/{vendor.order(int(n))['id']}" for n in mine}
    hub.wait_for_paths(paths.values())
    came = hub.calls.times()
    return [(came[paths[n]] - sent) * 1000 for n, sent in mine.items()]


async def _trouble(hub: Running, trouble: str) -> None:
    """Connect the vendor in trouble and let every other order call it."""
    given = {name.removeprefix("HUB_").lower(): value for name, value in hub.subject.environment.items()}
    given.pop("pythonpath", None)
    async with open_hub(load_settings(**given), plugins=load_plugins(extra=[vendor])) as it:
        fields = {"account": trouble, **({} if trouble in vendor.ANSWERING else {"token": "t", "webhook_secret": "w"})}
        await it.connections.add(vendor.NAME, "troubled", fields, sandbox=trouble in vendor.ANSWERING)
        await it.library.apply(_TROUBLED, publish=True)
    # The workers see it within a second.
    await asyncio.sleep(1.5)
