"""How the cost of a run grows with what is stored, what waits, what is published, and how many work."""

from __future__ import annotations

from collections.abc import Iterator

from bench.fill import Copies
from bench.processes import wait_until
from bench.report import Row
from bench.runs import RECIPE
from bench.setting import Setting
from bench.subject import Running, distributed
from bench.waits import WORD, fill, waiting_run


def measure(setting: Setting) -> Iterator[Row | str]:
    """Each on a fresh PostgreSQL database; `--rows` says how many events and waiting runs are the most."""
    most = setting.rows or (2_000 if setting.quick else 1_000_000)
    recipes = 100 if setting.quick else 1_000
    count = 200 if setting.quick else 2_000
    yield from _events(setting, most, count)
    yield from _waiting(setting, most, count)
    yield from _recipes(setting, recipes, count, "of other types", _OF_ANOTHER_TYPE)
    yield from _recipes(setting, recipes, count, "of the same type for other texts", _FOR_ANOTHER_TEXT)
    for workers in (1, 2, 4):
        with distributed(setting, f"growth-workers-{workers}", RECIPE, workers) as hub:
            yield from _Cost(hub, count).rows(f"{workers} worker{'s' if workers > 1 else ''}")


class _Cost:
    """Measures the same hub again and again; the first measurement is the floor of the later ones."""

    def __init__(self, hub: Running, count: int) -> None:
        self._hub, self._count, self._next = hub, count, count
        self._floor: tuple[float, float] | None = None
        hub.throughput(first=0, count=max(1, count // 5))

    def rows(self, what: str) -> Iterator[Row]:
        """Runs per second, and processor time of the hub's processes per run."""
        before = sum(process.cpu_s() for process in self._hub.processes)
        per_s = self._hub.throughput(first=self._next, count=self._count)
        cpu_ms = 1000 * (sum(process.cpu_s() for process in self._hub.processes) - before) / self._count
        self._next += self._count
        floor = self._floor
        self._floor = floor or (per_s, cpu_ms)
        yield Row("growth", f"{what}, throughput", per_s, "runs/s", ("the first", floor[0]) if floor else None)
        yield Row("growth", f"{what}, processor time", cpu_ms, "ms/run", ("the first", floor[1]) if floor else None)


def _events(setting: Setting, most: int, count: int) -> Iterator[Row]:
    with distributed(setting, "growth-events", RECIPE) as hub:
        cost = _Cost(hub, count)
        yield from cost.rows("no events stored before")
        hub.send(WORD, "ordered")
        finished = f"select id from run where trigger_data like '%{WORD}%' and finished_at is not null"
        wait_until(lambda: hub.ask(finished) is not None, "a run to copy")
        template, stored = str(hub.ask(finished)), 0
        for upto in (most // 10, most):
            fill(hub, template, Copies(upto - stored, WORD, first=stored + 1))
            stored = upto
            yield from cost.rows(f"{upto:,} events stored, and their finished runs")


def _waiting(setting: Setting, most: int, count: int) -> Iterator[Row]:
    with distributed(setting, "growth-waiting", RECIPE) as hub:
        cost = _Cost(hub, count)
        yield from cost.rows("no runs waiting")
        fill(hub, waiting_run(hub), Copies(most, WORD))
        yield from cost.rows(f"{most:,} runs waiting")


def _recipes(setting: Setting, most: int, count: int, title: str, recipe: str) -> Iterator[Row]:
    with distributed(setting, "growth-recipes-" + title.replace(" ", "-"), RECIPE) as hub:
        cost, few = _Cost(hub, count), 10
        hub.subject.publish(*(recipe.format(n=n) for n in range(few)))
        yield from cost.rows(f"{few} more recipes {title}")
        hub.subject.publish(*(recipe.format(n=n) for n in range(few, most)))
        yield from cost.rows(f"{most:,} more recipes {title}")


_OF_ANOTHER_TYPE = """
recipe: other-{n}
on: {{event: bench.visited}}
steps:
  - wait: 1d
"""
_FOR_ANOTHER_TEXT = """
recipe: other-{n}
on: {{event: bench.ordered, where: {{event.city: "city-{n}"}}}}
steps:
  - wait: 1d
"""
