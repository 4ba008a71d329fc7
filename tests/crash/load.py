"""People who sign up, click, buy or are thrown out, as their vendor tells it: signed, more than once, until it is believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from pydantic_core import from_json
from typer.testing import CliRunner

from hub import Identity
from hub.cli import app
from hub.plugins import load_plugins
from hub.process import open_hub
from hub.settings import load_settings
from hub.store import contacts
from hub.store.contacts import Sighting
from tests import acme as acme_plugin
from tests.acme import signed
from tests.crash.stage import Stage

BELIEVED_WITHIN_S = 120.0
_AGAIN_S = 0.2


@dataclass(frozen=True)
class Person:
    """Somebody who signs up. `id` begins with what the test calls the place, so that a fault names it.

    `leaves` says what else happens to the run: nothing, an exit event, a cancellation, or that the person is merged into
    another contact of theirs, known as `earlier`, and the run goes on.
    """

    id: str
    n: int
    leaves: Literal["", "exit", "cancel", "merge"] = ""

    @property
    def email(self) -> str:
        return f"{self.id}@example.com"

    @property
    def earlier(self) -> str:
        """An address that they were known by before, as somebody else."""
        return f"earlier-{self.email}"

    @property
    def signup(self) -> dict[str, Any]:
        """The vendor's words."""
        return {"id": self.id, "email": self.email, "phone": f"+1415{5_550_000 + self.n:07d}"}


def people(label: str, count: int, first: int, *, leaving: bool = False) -> list[Person]:
    """`count` people of one place; with `leaving` of each four one is to buy, one to be merged, one to be cancelled."""
    ways: list[Literal["", "exit", "cancel", "merge"]] = ["", "exit", "merge", "cancel"] if leaving else [""]
    return [Person(f"{label}-{n}", first + n, ways[n % len(ways)]) for n in range(count)]


class Vendor:
    """Sends signed webhooks until each is answered 2xx, as vendors do. `acked` holds the delivery ids that were."""

    def __init__(self, session: aiohttp.ClientSession, stage: Stage) -> None:
        self._session, self._stage = session, stage
        self.acked: set[str] = set()

    async def tell(self, topic: str, body: dict[str, Any], delivery: str) -> None:
        """One delivery. Raises AssertionError when nobody believes it in a minute."""
        payload, headers = signed(topic, body, delivery=delivery)
        end = time.monotonic() + BELIEVED_WITHIN_S
        last = "nothing"
        while delivery not in self.acked:
            assert time.monotonic() < end, f"{delivery} was not taken within {BELIEVED_WITHIN_S} s: {last}"
            try:
                limit = aiohttp.ClientTimeout(total=5)
                async with self._session.post(
                    self._stage.webhook_url, data=payload, headers=headers, timeout=limit
                ) as answer:
                    if answer.status < 300:
                        self.acked.add(delivery)
                        return
                    last = f"{answer.status} {await answer.text()}"
            except (aiohttp.ClientError, TimeoutError) as error:
                last = repr(error)  # nobody there, or gone in the middle of it: said again below
            await asyncio.sleep(_AGAIN_S)

    async def sign_up(self, crowd: Iterable[Person]) -> None:
        """Everybody signs up; each is told twice, the second time under the same delivery id."""
        await asyncio.gather(*(self.tell("signed_up", p.signup, f"signed_up-{p.id}") for p in crowd for _ in range(2)))

    async def come_in(self, crowd: Sequence[Person], *, over_s: float) -> None:
        """Everybody signs up, one after the other, within about so long."""
        for person in crowd:
            await self.sign_up([person])
            await asyncio.sleep(over_s / len(crowd))

    async def leave(self, crowd: Iterable[Person]) -> None:
        """Those who leave do, once they are inside: they buy, or an operator merges them or cancels their runs."""
        for person in (p for p in crowd if p.leaves):
            run_id = await self._run_of(person)
            if person.leaves == "exit":
                await self.tell("purchased", {"id": f"buy-{person.id}", "email": person.email}, f"buy-{person.id}")
            elif person.leaves == "merge":
                await self.tell("delivered", {"id": f"was-{person.id}", "email": person.earlier}, f"was-{person.id}")
                await self._merge(person)
            else:
                await self._cancel(run_id)

    async def leave_at_once(self, crowd: Iterable[Person]) -> list[Person]:
        """Those who leave and are inside do so now, while nobody works: what they buy is stored and not routed, and who is
        cancelled or merged is so by `hub runs cancel` and `hub contacts merge`. Returns them.
        """
        stage = self._stage
        names = {name.removeprefix("HUB_").lower(): value for name, value in stage.settings.items() if "HUB_" in name}
        settings = load_settings(**{**names, "database_url": stage.looked_at, "keys": [names["keys"]], "seam": None})
        leaving = {p.id: p for p in crowd if p.leaves}
        left = list[Person]()
        async with open_hub(settings, plugins=load_plugins(extra=[acme_plugin])) as hub:
            connection = await hub.connections.by_name("acme")
            async with hub.store.read() as c:
                inside = await c.all("select id, trigger_data from run where finished_at is null")
            for row in inside:
                person = leaving.get(from_json(row["trigger_data"])["id"])
                if person is None:
                    continue
                if person.leaves == "exit":
                    bought, delivery = {"id": f"buy-{person.id}", "email": person.email}, f"buy-{person.id}"
                    body, headers = signed("purchased", bought, delivery=delivery)
                    given = {"method": "POST", "query": "", "headers": headers, "body": body}
                    assert (await hub.ingest.receive("acme", connection.inbound_key, **given)).status == 200
                    self.acked.add(delivery)
                else:
                    command = ["runs", "cancel", row["id"]]
                    if person.leaves == "merge":
                        async with hub.store.write() as c:
                            await contacts.resolve(c, [Sighting("", "acme", Identity(email=person.earlier), 1)])
                        command = ["contacts", "merge", person.earlier, person.email, "--yes"]
                    said = await asyncio.to_thread(CliRunner().invoke, app, command, env=stage.settings)
                    assert said.exit_code == 0, said.output
                left.append(person)
        return left

    async def _cancel(self, run_id: str) -> None:
        api = self._stage.api(self._session)
        end = time.monotonic() + BELIEVED_WITHIN_S
        while True:
            try:
                await api.call("POST", f"/api/v1/runs/{run_id}/cancel")
                return
            except (AssertionError, aiohttp.ClientError):
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(_AGAIN_S)  # the hub said that it could not, or is away: an operator asks again

    async def _merge(self, person: Person) -> None:
        api = self._stage.api(self._session)
        end = time.monotonic() + BELIEVED_WITHIN_S
        while True:
            try:
                kept, other = [
                    (await api.call("GET", f"/api/v1/contacts/{email}"))["id"]
                    for email in (person.earlier, person.email)
                ]
                if kept == other:
                    return
                await api.call("POST", f"/api/v1/contacts/{kept}/merge", {"other": other})
            except (AssertionError, aiohttp.ClientError):
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(_AGAIN_S)  # not known yet, or the answer was lost: an operator looks again

    async def _run_of(self, person: Person) -> str:
        api = self._stage.api(self._session)
        end = time.monotonic() + BELIEVED_WITHIN_S
        while time.monotonic() < end:
            try:
                contact = await api.call("GET", f"/api/v1/contacts/{person.email}")
                if contact["runs"]:
                    return str(contact["runs"][0]["id"])
            except (AssertionError, aiohttp.ClientError):
                pass  # not routed yet, or the hub is away: asked again
            await asyncio.sleep(_AGAIN_S)
        raise AssertionError(f"{person.id} has no run after {BELIEVED_WITHIN_S} s")

    async def until_done(self, action: str, crowd: Sequence[Person]) -> None:
        """Wait until the vendor has carried out an action for one of these people. Raises AssertionError."""
        wanted = tuple(f"{p.id}:" for p in crowd)
        end = time.monotonic() + BELIEVED_WITHIN_S
        while True:
            for entry in await self._stage.log(self._session):
                if entry["operation"] == action and str(entry["data"].get("key", "")).startswith(wanted):
                    return
            assert time.monotonic() < end, f"nobody has had a {action} within {BELIEVED_WITHIN_S} s"
            await asyncio.sleep(0.02)

    async def click(self, crowd: Sequence[Person]) -> None:
        """Everybody who is sent a text clicks, as soon as it is there. Never ends by itself: cancel it."""
        waiting = {f"{p.id}:text": p for p in crowd}
        while waiting:
            for entry in await self._stage.log(self._session):
                person = waiting.pop(str(entry["data"].get("body")), None)
                if person is not None:
                    click = {"id": f"click-{person.id}", "cart": person.id, "email": person.email}
                    await self.tell("clicked", click, f"clicked-{person.id}")
            await asyncio.sleep(_AGAIN_S)


def numbers() -> Callable[[int], int]:
    """Hands out runs of numbers, so that no two people of one stage share a phone number."""
    taken = 0

    def take(count: int) -> int:
        nonlocal taken
        taken += count
        return taken - count

    return take
