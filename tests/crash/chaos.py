"""Chaos by seed: everything a hub stands on is killed, frozen and cut off under load, and in the end nothing may be missing.

`python -m tests.crash.chaos --seconds 60 --seed 7` (or `make chaos`) runs `hub api` and two `hub worker`s on PostgreSQL and
Redis of its own. With `--kills 20` the demo's day is played on them, and that often one of the three is killed, whichever;
with `--kills 20 --embedded` it is one `hub up` on SQLite that is killed, while a crowd comes in. The schedule and the load
are functions of the seed; what the machine does in between is not. Ends with 1 when an invariant does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from hub.process import open_store
from hub.settings import load_settings
from hub.store.invariants import findings
from tests.crash import demo_load, invariants
from tests.crash.demo_load import PROCESSES, Day, DemoStage, Kill, schedule
from tests.crash.load import Person, Vendor
from tests.crash.stage import Stage, meanwhile
from tests.crash.world import World, opened_embedded, opened_world

PER_S = 4.0
RESTS_WITHIN_S = 150.0
_WORKERS = ("at_work", "spare")


@dataclass(frozen=True)
class Fault:
    """Something that happens so many seconds after the start; what it takes away is back after `lasts_s`."""

    at_s: float
    what: str
    lasts_s: float
    which: int

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s  {self.what}" + (f" for {self.lasts_s:.1f} s" if self.lasts_s else "")


@dataclass
class Report:
    """What came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    acked: int = 0
    people: int = 0
    effects: dict[str, invariants.Tally] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


def plan(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run over several processes: a function of the seed."""
    draw = random.Random(f"faults {seed}")
    found, at_s = list[Fault](), 1.0
    while (at_s := at_s + draw.uniform(0.4, 2.0)) < seconds:
        what = draw.choice(list(_FAULTS))
        found.append(Fault(round(at_s, 2), what, round(draw.uniform(0.3, 4.0), 1), draw.randrange(100)))
    return found


def kills(seed: int, times: int) -> list[Fault]:
    """So many kills of the one process, one after the other; `lasts_s` is how long it works in peace afterwards."""
    draw = random.Random(f"kills {seed}")
    return [Fault(1.0, "hub killed", round(draw.uniform(0.1, 1.5), 2), 0) for _ in range(times)]


def crowd(seed: int, seconds: float) -> list[tuple[float, Person]]:
    """Who signs up when: a function of the seed."""
    draw = random.Random(f"people {seed}")
    count = int(seconds * PER_S)
    ways = ("", "", "", "exit", "cancel")
    return sorted(
        ((draw.uniform(0, seconds), Person(f"p{n}", n, draw.choice(ways))) for n in range(count)), key=lambda x: x[0]
    )


# -- what can happen ---------------------------------------------------------------------------------------------------


class _Chaos:
    """Carries faults out on a world; each thing is only broken when it is whole."""

    def __init__(self, world: World, session: aiohttp.ClientSession) -> None:
        self._world, self._session = world, session
        self._whole: dict[str, asyncio.Lock] = {}

    async def happen(self, fault: Fault) -> None:
        """One fault, and its end."""
        name = fault.what.split()[0] if fault.what.split()[0] != "worker" else _WORKERS[fault.which % 2]
        async with self._whole.setdefault(name, asyncio.Lock()):
            await _FAULTS[fault.what](self, fault)

    async def supervise(self) -> None:
        """What ended by itself, because it started while the database was away, is started again, as a supervisor does."""
        stage = self._world.stage
        while True:
            await asyncio.sleep(0.5)
            for lock, name, command in (("api", "door", "api"), *((w, w, "worker") for w in _WORKERS)):
                whole = self._whole.setdefault(lock, asyncio.Lock())
                if not whole.locked() and not getattr(stage, name).running:
                    setattr(stage, name, stage.start(command))

    async def end_worker(self, fault: Fault, what: signal.Signals) -> None:
        stage, name = self._world.stage, _WORKERS[fault.which % 2]
        process = getattr(stage, name)
        process.send(what)
        await asyncio.sleep(fault.lasts_s)
        if what is signal.SIGSTOP:
            process.send(signal.SIGCONT)
            return
        stage.kill(process)
        setattr(stage, name, stage.start("worker"))

    async def kill_api(self, fault: Fault) -> None:
        stage = self._world.stage
        stage.kill(stage.door)
        await asyncio.sleep(fault.lasts_s)
        stage.door = stage.start("api")

    async def kill_redis(self, fault: Fault) -> None:
        self._world.redis.kill()
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(self._world.redis.start)

    async def flush_redis(self, fault: Fault) -> None:
        await asyncio.to_thread(self._world.redis.client().flushall)

    async def stop_redis(self, fault: Fault) -> None:
        self._world.redis.send(signal.SIGSTOP)
        await asyncio.sleep(fault.lasts_s)
        self._world.redis.send(signal.SIGCONT)

    async def stop_postgres(self, fault: Fault) -> None:
        await asyncio.to_thread(self._world.postgres.stop_at_once)
        await asyncio.sleep(fault.lasts_s)
        await asyncio.to_thread(self._world.postgres.start)

    async def reset_wire(self, fault: Fault) -> None:
        self._world.wire.reset()

    async def cut_commits(self, fault: Fault) -> None:
        self._world.wire.commits_to_cut = 1 + fault.which % 5

    async def swallow(self, fault: Fault) -> None:
        self._world.wire.swallow()

    async def vendor(self, fault: Fault, **faults: float) -> None:
        await self._world.stage.faults(self._session, **faults)
        if "delay_s" in faults:
            await asyncio.sleep(fault.lasts_s)
            await self._world.stage.faults(self._session, delay_s=0)


_FAULTS: dict[str, Callable[[_Chaos, Fault], Awaitable[None]]] = {
    "worker killed": lambda it, f: it.end_worker(f, signal.SIGKILL),
    "worker frozen": lambda it, f: it.end_worker(f, signal.SIGSTOP),
    "worker told to stop": lambda it, f: it.end_worker(f, signal.SIGTERM),
    "api killed": _Chaos.kill_api,
    "redis killed": _Chaos.kill_redis,
    "redis emptied": _Chaos.flush_redis,
    "redis frozen": _Chaos.stop_redis,
    "postgres stopped at once": _Chaos.stop_postgres,
    "wire cut": _Chaos.reset_wire,
    "commits cut": _Chaos.cut_commits,
    "wire silent": _Chaos.swallow,
    "vendor loses answers": lambda it, f: it.vendor(f, drop_answers=1 + f.which % 8),
    "vendor loses requests": lambda it, f: it.vendor(f, drop_requests=1 + f.which % 4),
    "vendor answers 500": lambda it, f: it.vendor(f, error_next=1 + f.which % 4),
    "vendor answers 503": lambda it, f: it.vendor(f, fail_next=1 + f.which % 4),
    "vendor answers 429": lambda it, f: it.vendor(f, throttle_until_ms=int((time.time() + min(1.0, f.lasts_s)) * 1000)),
    "vendor slow": lambda it, f: it.vendor(f, delay_s=0.3),
}


# -- a run -------------------------------------------------------------------------------------------------------------


async def wreak(world: World, seed: int, seconds: float) -> Report:
    """Faults and people by seed, then rest, then the judgement."""
    faults = plan(seed, seconds)
    async with aiohttp.ClientSession() as session:
        chaos = _Chaos(world, session)
        async with meanwhile(chaos.supervise()):
            return await _play(world.stage, session, faults, chaos.happen, seed, seconds)


async def kill_embedded(stage: Stage, seed: int, times: int) -> Report:
    """`hub up` under kill -9, so many times."""
    faults = kills(seed, times)

    async def kill(fault: Fault) -> None:
        async with whole:
            await asyncio.to_thread(stage.kill, stage.door)
            stage.door = stage.at_work = stage.spare = stage.start("up")
            # It gets to work before it is killed again: a hub that never comes up would prove nothing.
            while not stage.has_said(stage.door, "is running"):
                assert stage.door.running, stage.said(stage.door)
                await asyncio.sleep(0.02)
            await asyncio.sleep(fault.lasts_s)

    whole = asyncio.Lock()
    async with aiohttp.ClientSession() as session:
        return await _play(stage, session, faults, kill, seed, sum(f.lasts_s for f in faults))


async def kill_at_the_demo(world: World, seed: int, times: int, *, most: int | None = None) -> Report:
    """The demo's day, or its first moments, and one of the processes killed at so many of them."""
    stage, report = world.stage, Report()
    assert isinstance(stage, DemoStage), "the demo's day is played on the demo's stage"
    whole, ending = asyncio.Lock(), set[asyncio.Task[None]]()

    async def end(kill: Kill) -> None:
        await asyncio.sleep(kill.after_s)
        async with whole:
            await asyncio.to_thread(stage.kill, getattr(stage, kill.who))
            report.faults[f"{kill.who} killed"] += 1
            await asyncio.sleep(kill.lasts_s)
            started = stage.start(PROCESSES[kill.who])
            setattr(stage, kill.who, started)
            # It gets to work before the next one is killed.
            while not any(stage.has_said(started, word) for word in ("working", "answers at")):
                assert started.running, stage.said(started)
                await asyncio.sleep(0.02)

    async with aiohttp.ClientSession() as session:
        it = Day(stage, session)
        moments = (await it.begin())[:most]
        due = {kill.moment: kill for kill in schedule(seed, times, len(moments))}
        for n, moment in enumerate(moments):
            if n in due:
                ending.add(asyncio.create_task(end(due[n])))
            await it.until(moment.at_s)
            await it.happen(moment)
            if n % 25 == 0:
                print(f"moment {n} of {len(moments)}, {sum(report.faults.values())} killed", flush=True)
        await asyncio.gather(*ending)
        over_ms = await it.over() if most is None else await it.now_ms()
        async with open_store(load_settings(database_url=stage.looked_at), pool=2) as store:
            try:
                await invariants.until_rest(store, [], RESTS_WITHIN_S, over_ms=over_ms)
            except AssertionError as error:
                report.violations.append(str(error))
            report.effects, wrong = await demo_load.tally(stage, session, store)
            report.violations += wrong + await demo_load.violations(
                stage, session, store, it.played, whole=most is None
            )
            async with store.read() as c:
                report.violations += [f"{f.message}: {f.refs}" for f in await findings(c)]
                [counted] = await c.all("select count(*) as n from run")
        report.people, report.acked = counted["n"], len(it.played.acked) + len(it.played.texts)
    return report


async def _play(
    stage: Stage,
    session: aiohttp.ClientSession,
    faults: Sequence[Fault],
    happen: Callable[[Fault], Awaitable[None]],
    seed: int,
    seconds: float,
) -> Report:
    coming = crowd(seed, seconds)
    everybody = [person for _, person in coming]
    vendor, report = Vendor(session, stage), Report(people=len(everybody))

    async def fault_in_time(fault: Fault) -> None:
        await asyncio.sleep(fault.at_s)
        await happen(fault)
        report.faults[fault.what] += 1

    async def person_in_time(at_s: float, person: Person) -> None:
        await asyncio.sleep(at_s)
        await vendor.sign_up([person])
        await vendor.leave([person])

    async with meanwhile(vendor.click(everybody)):
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                tasks.create_task(fault_in_time(fault))
            for at_s, person in coming:
                tasks.create_task(person_in_time(at_s, person))
        async with open_store(load_settings(database_url=stage.looked_at), pool=2) as store:
            try:
                async with meanwhile(_fast_forward(stage, session)):
                    await invariants.until_rest(store, everybody, RESTS_WITHIN_S)
            except AssertionError as error:
                report.violations.append(str(error))
            log = await stage.log(session)
            report.violations += await invariants.violations(store, log, vendor, everybody)
            report.effects = await invariants.tally(store, log, everybody)
    report.acked = len(vendor.acked)
    return report


async def _fast_forward(stage: Stage, session: aiohttp.ClientSession) -> None:
    """Let hub time pass, so that what waits for a later try need not be waited for."""
    while True:
        await asyncio.sleep(2)
        # The API may only just be coming back; it is asked again.
        with suppress(AssertionError, aiohttp.ClientError):
            await stage.api(session).call("POST", "/api/v1/clock/advance", {"by": "20s"})


def show(report: Report) -> None:
    """The report as people read it."""
    print(f"faults    {sum(report.faults.values())}")
    for what, times in sorted(report.faults.items()):
        print(f"          {times:4d}  {what}")
    print(f"acked     {report.acked} deliveries")
    print(f"runs      {report.people}")
    print(f"{'effect':13}{'recorded':>9}{'at vendor':>10}{'calls':>7}{'doubled':>9}{'lost':>6}{'unknown':>9}")
    for action, tally in report.effects.items():
        row = (tally.recorded, tally.happened, tally.calls, tally.doubled, tally.lost, tally.unknown)
        print(f"{action:13}" + "".join(f"{n:>{w}d}" for n, w in zip(row, (9, 10, 7, 9, 6, 9), strict=True)))
    for violation in report.violations:
        print(f"VIOLATED  {violation}")
    print("nothing lost, nothing doubled" if not report.violations else f"{len(report.violations)} violations")


def main() -> int:
    """The command line."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--seconds", type=float, default=60)
    reader.add_argument("--seed", type=int, default=7)
    reader.add_argument(
        "--kills", type=int, default=0, help="play the demo's day and kill a process so many times instead"
    )
    reader.add_argument("--embedded", action="store_true", help="with --kills: kill one embedded hub, under a crowd")
    given = reader.parse_args()
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory(prefix="hub-chaos-") as folder:
        if given.kills and given.embedded:
            print(*kills(given.seed, given.kills), sep="\n")
            with opened_embedded(Path(folder)) as stage:
                report = asyncio.run(kill_embedded(stage, given.seed, given.kills))
        elif given.kills:
            with opened_world(Path(folder), DemoStage) as world:
                report = asyncio.run(kill_at_the_demo(world, given.seed, given.kills))
        else:
            print(*plan(given.seed, given.seconds), sep="\n")
            with opened_world(Path(folder)) as world:
                report = asyncio.run(wreak(world, given.seed, given.seconds))
    show(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
