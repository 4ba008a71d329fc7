"""The demo's day as load: its people, recipes and vendors' stand-ins, on real processes of which some are killed meanwhile.

The sandboxes sign and send the webhooks; one that is not answered 2xx is sent again, as vendors do. What they carried out
stands in their own logs, which are compared with what the hub says.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from pydantic_core import from_json

from hub.clock import Clock, parse_time_ms
from hub.connector import Effect
from hub.demo import day, examples, people
from hub.demo.day import Moment
from hub.demo.people import Part
from hub.demo.proofs import PROOFS, done_at
from hub.demo.stage import CONNECTIONS, OPENING, POLLED, inbound_of, next_morning_ms, register
from hub.library import recipe_files
from hub.plugins import load_plugins
from hub.process import open_store, sandboxes
from hub.settings import load_settings
from hub.store.session import Store
from hub.testing.sandbox import Received
from hub.timetravel import HubTime
from tests import acme as acme_plugin
from tests.acceptance.processes import Api
from tests.crash.invariants import Tally
from tests.crash.stage import Stage

_PATIENCE_S = 120.0
_AGAIN_S = 0.1
# After the day: what a kill has put off comes to its end.
_AFTERWARDS_S = 6 * day.H
PROCESSES = {"door": "api", "at_work": "worker", "spare": "worker"}
"""Who may be killed: the stage's name and the command."""

_REMINDED = {
    Part.LEAVES,
    Part.LEAVES_IN_A_CROWD,
    Part.LEAVES_ANSWER_LOST,
    Part.LEAVES_TWICE,
    Part.LEAVES_FORGED,
    Part.ANSWERS,
    Part.BUYS_AFTER_REMINDER,
    Part.STOPS_AS_ANSWER,
    Part.UNDELIVERABLE,
}
# Whether the purchase of a second before comes first is up to the kills.
_EITHER_WAY = {Part.BUYS_AT_THE_LAST_SECOND}


@dataclass(frozen=True)
class Kill:
    """One process dies so long after a moment of the day begins, and is started again `lasts_s` later."""

    moment: int
    who: str
    after_s: float
    lasts_s: float


def schedule(seed: int, times: int, moments: int) -> list[Kill]:
    """Who is killed when: a function of the seed."""
    draw = random.Random(f"demo {seed}")
    at = sorted(draw.sample(range(moments), min(times, moments)))
    return [
        Kill(n, draw.choice(list(PROCESSES)), round(draw.uniform(0, 0.5), 2), round(draw.uniform(0.1, 1.5), 2))
        for n in at
    ]


class DemoStage(Stage):
    """A hub with the demo's connections, purposes and recipes.

    Its sandboxes run in the process of the test, which looks into them, in a thread, on the hub's clock as it stands in the
    database.
    """

    def start_vendor(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._vendors = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._vendors.start()

    async def _serve(self) -> None:
        clock, settings = Clock(), load_settings(database_url=self.looked_at)
        plugins = load_plugins(extra=[acme_plugin])
        async with (
            open_store(settings, pool=1) as store,
            sandboxes(plugins, clock, host="127.0.0.1", port=self.vendor_port) as server,
        ):
            self.stands = server.sandboxes
            time_ = HubTime(store, clock, development=True)
            while not self._over.is_set():
                await time_.sync()
                await asyncio.sleep(_AGAIN_S / 5)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._vendors.join(10)
        self._loop.close()
        super().close()

    async def furnish(self, api: Api) -> None:
        addresses = {}
        for connector, wanted in CONNECTIONS.items():
            new = {"connector": connector, "name": wanted.name, "sandbox": True, "fields": wanted.fields}
            new |= {"auth": wanted.auth} if wanted.auth else {}
            addresses[connector] = (await api.call("POST", "/api/v1/connections", new))["webhook_url"]
        self.inbound = inbound_of(addresses)
        register(self.stands, self.inbound)
        purposes, *recipes = recipe_files([examples.folder()])
        await api.call("POST", "/api/v1/purposes", {"source": purposes.read_text(encoding="utf-8")})
        for path in recipes:
            source = path.read_text(encoding="utf-8")
            await api.call("POST", "/api/v1/recipes", {"source": source, "publish": True})


@dataclass
class Played:
    """What was answered 2xx: webhook ids of Shopify, message ids of Twilio."""

    acked: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)


class Day:
    """Plays the day; every call is made until it is answered as it should be."""

    def __init__(self, stage: DemoStage, session: aiohttp.ClientSession) -> None:
        self._stage, self._session, self._api = stage, session, stage.api(session)
        self.played = Played()
        self._asking = True

    def _store(self) -> AbstractAsyncContextManager[Store]:
        return open_store(load_settings(database_url=self._stage.looked_at), pool=2)

    async def begin(self) -> list[Moment]:
        """Let it be the next morning; returns everything that happens from then on, delivery by delivery."""
        async with self._store() as store, store.write() as c:
            # As in the demo: each poll of each five minutes is a stop for a clock that jumps.
            polls = await c.all("select ref from work where kind = 'poll'")
            for ref in (row["ref"] for row in polls if row["ref"].partition("|")[2] not in POLLED):
                await c.run("delete from work where kind = 'poll' and ref = :ref", ref=ref)
        self._start_ms = next_morning_ms(await self.now_ms())
        await self.until(0)
        await self.happen(OPENING)
        planned = day.plan(people.everybody(), self._start_ms)
        return [one for n, moment in enumerate(planned) for one in _deliveries(n, moment)]

    async def until(self, at_s: int) -> None:
        """Let hub time pass until so many seconds after the day's start; in time vendors are asked for nothing any more."""
        if self._asking and at_s >= day.ASKED_UNTIL_S:
            self._asking = False
            await self.until(day.ASKED_UNTIL_S)
            async with self._store() as store, store.write() as c:
                await c.run("delete from work where kind = 'poll'")
        while (left_ms := self._start_ms + at_s * 1000 - await self.now_ms()) > 0:
            await self._ask("POST", "/api/v1/clock/advance", {"by": f"{left_ms}ms"})

    async def over(self) -> int:
        """Let everything come to its end, but for who stays in an audience for weeks; returns hub time then (ms)."""
        await self.until(day.LASTS_S + _AFTERWARDS_S)
        return self._start_ms + (day.LASTS_S + _AFTERWARDS_S) * 1000

    async def happen(self, moment: Moment) -> None:
        """Have a sandbox do what a moment says, again and again until the hub answers as it should."""
        url = f"{self._stage.vendor_url.removesuffix('/acme')}/{moment.connector}/_sandbox/{moment.what}"
        sent = {**moment.fields, **(self._stage.inbound[moment.connector] if moment.answered else {})}
        end = time.monotonic() + _PATIENCE_S
        while True:
            async with self._session.post(url, json=sent) as response:
                said = await response.json()
            assert "error" not in said, f"{moment.story}: {said}"
            if moment.answered is None:
                return
            if said["status"] == moment.answered:
                break
            assert time.monotonic() < end, f"{moment.story}: answered {said}, not {moment.answered}"
            await asyncio.sleep(_AGAIN_S)
        if moment.answered == 200:
            self.played.acked |= {str(moment.fields["webhook_id"])} if "webhook_id" in moment.fields else set()
            self.played.texts |= {said["sid"]} if "sid" in said else set()

    async def now_ms(self) -> int:
        """Hub time."""
        return parse_time_ms((await self._ask("GET", "/api/v1/clock"))["now"])

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The API's answer, asked again while it is away."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            with suppress(AssertionError, aiohttp.ClientError):
                return await self._api.call(method, path, body)
            await asyncio.sleep(_AGAIN_S)
        raise AssertionError(f"{method} {path} was not answered within {_PATIENCE_S} s")


def _deliveries(n: int, moment: Moment) -> list[Moment]:
    """A moment's webhooks, each with an id of its own, by which it is known when it is sent again."""
    if moment.connector != "shopify" or moment.answered != 200:
        return [moment]
    topics = moment.fields.get("topics") or (["orders/create", "orders/paid"] if moment.what == "order" else None)
    if topics is None or "webhook_id" in moment.fields:
        return [replace(moment, fields={"webhook_id": f"demo-day-{n}", **moment.fields})]
    return [
        replace(moment, fields={**moment.fields, "topics": [topic], "webhook_id": f"demo-day-{n}-{topic}"})
        for topic in topics
    ]


# -- what came of it ---------------------------------------------------------------------------------------------------


async def tally(stage: Stage, session: aiohttp.ClientSession, store: Store) -> tuple[dict[str, Tally], list[str]]:
    """The effects by action, by the hub's word and by the sandboxes' own, and every effect on which they differ.

    What may be repeated, as its effect class says, may stand in a log twice. Nobody knows the vendor's name of an effect whose
    answer was lost for good: there may be as many of those in the log as are *unknown*.
    """
    catalogue = load_plugins().catalogue
    logged, recorded, unknown, strange = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for vendor in CONNECTIONS:
        async with session.get(f"{stage.vendor_url.removesuffix('/acme')}/{vendor}/_sandbox/log") as answer:
            logged.update(done_at(vendor, [Received(**entry) for entry in await answer.json()]))
    async with store.read() as c:
        rows = await c.all("select action, request, response, state from effect where state in ('done', 'unknown')")
    for row in rows:
        unknown[row["action"]] += row["state"] == "unknown"
        if row["response"]:
            input_ = from_json(row["request"])["input"]
            named = PROOFS[row["action"]].of_effect(input_, from_json(row["response"]))
            recorded.update([f"{row['action']} {named}"] if named is not None else [])
    found = {row["action"]: Tally(unknown=unknown[row["action"]]) for row in rows}
    wrong = []
    for what in sorted({*logged, *recorded}):
        name = what.partition(" ")[0]
        action, row_ = catalogue.action(name), found.setdefault(name, Tally())
        repeatable = action is not None and action.effect is Effect.IDEMPOTENT
        twice = 0 if repeatable else max(0, logged[what] - 1)
        missing = min(1, recorded[what]) if not logged[what] else 0
        row_.recorded += recorded[what]
        row_.happened += logged[what] > 0
        row_.calls += logged[what]
        row_.doubled += twice
        row_.lost += missing
        strange[name] += logged[what] > 0 and not recorded[what]
        wrong += [f"{what}: {logged[what]} times"] if twice else []
        wrong += [f"{what}: recorded as done, the vendor knows nothing of it"] if missing else []
        if strange[name] > unknown[name]:
            wrong.append(f"{what}: done at the vendor, not recorded")
    return found, wrong


async def violations(
    stage: Stage, session: aiohttp.ClientSession, store: Store, played: Played, *, whole: bool
) -> list[str]:
    """What was acknowledged and is not stored; after the whole day also who was not reminded and should have been, or was."""
    async with store.read() as c:
        stored = {row["id"].removeprefix("delivery:") for row in await c.all("select id from dedupe")}
        texts = [row["data"] for row in await c.all("select data from event where type = 'twilio.sms_received'")]
        odd = await c.all("select id, note from event where stage not in ('routed', 'unconnected')")
        # Who is in an audience for two weeks still waits.
        live = await c.all(
            "select id, status, reason from run where finished_at is null and status not in ('sleeping', 'waiting')"
        )
        failed = await c.all("select id, reason from run where status = 'failed'")
    found = [f"{id_} was acknowledged and is not stored" for id_ in sorted(played.acked - stored)]
    found += [f"the text {sid} was acknowledged and is not stored" for sid in played.texts if sid not in str(texts)]
    found += [f"event {row['id']} is not routed: {row['note']}" for row in odd]
    found += [f"run {row['id']} does not go on: {row['status']} ({row['reason']})" for row in live]
    found += [f"run {row['id']} failed: {row['reason']}" for row in failed]
    if not whole:
        return found
    async with session.get(f"{stage.vendor_url.removesuffix('/acme')}/twilio/_sandbox/log") as answer:
        reminded = Counter(
            e["data"]["to"] for e in await answer.json() if "your cart is still here" in e["data"]["body"]
        )
    for person in people.everybody():
        wanted = int(person.part in _REMINDED)
        if reminded[person.phone] != wanted and person.part not in _EITHER_WAY:
            found.append(f"{person.name} ({person.part}) was reminded {reminded[person.phone]} times, not {wanted}")
    return found
