"""What each process holds after start and after many events: a flat line, or a leak."""

from __future__ import annotations

from collections.abc import Iterator

from bench.load import Load
from bench.processes import generate
from bench.report import Row
from bench.setting import Setting
from bench.subject import Running, distributed, embedded

_TARGET_MB = 250.0
# Of a hundred orders five start a run; of the others is written why not.
_RUNS_OF_100 = 5
_RECIPE = """
recipe: bench
on: {event: bench.ordered, where: {event.total: {gte: 95}}}
steps:
  - {do: bench.put_note, with: {order: "{{ trigger.id }}", text: "{{ trigger.first_name }} ordered"}}
"""


def measure(setting: Setting) -> Iterator[Row | str]:
    """Both ways to run; a sample after each tenth of the events, when all of them are routed and their runs done.

    `--rows` says how many events there are.
    """
    count, samples = (5_000, 5) if setting.quick else (setting.rows or 100_000, 10)
    with distributed(setting, "memory-distributed", _RECIPE) as hub:
        yield from _sampled(hub, count, samples)
    if not setting.quick:
        with embedded(setting, "memory-embedded", _RECIPE) as hub:
            yield from _sampled(hub, count, samples)


def _sampled(hub: Running, count: int, samples: int) -> Iterator[Row | str]:
    lines = {process: [process.resident_mb()] for process in hub.processes}
    each, middle = count // samples, samples // 2
    for n in range(samples):
        generate(Load(url=hub.subject.hook, first=n * each, count=each))
        hub.wait_for_calls((n + 1) * each * _RUNS_OF_100 // 100)
        hub.wait_for_rest()
        for process, line in lines.items():
            line.append(process.resident_mb())
    for process, line in lines.items():
        yield Row("memory", f"{process.name} at start", line[0], "MB", less=True)
        what = f"{process.name} after {count:,} events"
        yield Row("memory", what, line[-1], "MB", target=_TARGET_MB, less=True)
        later = f"{process.name}, grown over the last {count - middle * each:,} of them"
        yield Row("memory", later, line[-1] - line[middle], "MB", less=True)
        yield f"{process.name}, MB at start and after each {each:,} events: {' '.join(f'{mb:.0f}' for mb in line)}"
