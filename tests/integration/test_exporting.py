"""What people may ask for about their own data, by the API and by commands: an export, an erasure, and what became of both."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.api.app import make_app
from hub.api.serving import answering
from hub.apikeys import create_api_key
from hub.events import Event, Identity
from hub.process import open_hub, open_store, working
from hub.settings import load_settings
from hub.store import contacts, erasures, events, views
from hub.store.events import Incoming, NewEvent
from tests.conftest import Running, free_port
from tests.integration.conftest import Cli, Process, Start
from tests.planted import BODY, EMAIL, GUEST, NAMES, PERSON, PHONE, ended, erase, left_in, person, plant, tell


class Api:
    """The REST API of a hub in hand."""

    def __init__(self, session: aiohttp.ClientSession, url: str, keys: dict[str, str]) -> None:
        self._session, self._url, self._keys = session, url, keys

    async def __call__(self, method: str, path: str, *, scope: str = "write") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._keys[scope]}"}
        async with self._session.request(method, f"{self._url}/api/v1{path}", headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


async def by_api(it: Running, act: Any) -> None:
    """Answer HTTP while `act` asks."""
    keys = {scope: await create_api_key(it.hub.store, f"the {scope} key", scope, 0) for scope in ("read", "write")}
    async with aiohttp.ClientSession() as session:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with answering(make_app(it.hub), listener, proxies=[]):
                await act(Api(session, url, keys))


async def test_an_export_holds_everything_that_is_known_of_somebody(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await plant(it)

        async def ask(api: Api) -> None:
            status, found = await api("GET", f"/contacts/{EMAIL}/export", scope="read")
            assert status == 200
            contact = found["contact"]
            assert {i["value"] for i in contact["identities"]} == {EMAIL, PHONE, GUEST}
            assert {s["channel"] for s in contact["consent"]} == {"email", "sms"}
            types = [event["type"] for event in found["events"]]
            assert types == ["guestbook.signed", "acme.signed_up", "acme.carted", "acme.clicked", "acme.delivered"]
            assert found["events"][0]["data"]["text"] == BODY
            assert {run["recipe"] for run in found["runs"]} == {"done", "pending", "waiting", "listed"}
            [done] = [run for run in found["runs"] if run["recipe"] == "done"]
            assert [effect["input"]["body"] for effect in done["effects"] if "body" in effect["input"]] == [
                f"{NAMES[0]}, s1"
            ]
            assert [step["step"] for step in done["steps"]]
            assert contact["timeline"]
            # and nothing of anybody else
            assert "friend@example.org" not in json.dumps(found)

        await by_api(it, ask)


async def test_the_api_erases_and_tells_what_became_of_it(erasing: Start, database_url: str) -> None:
    async with erasing(database_url) as it:
        await plant(it)

        async def ask(api: Api) -> None:
            assert (await api("DELETE", f"/contacts/{EMAIL}?reason=no", scope="read"))[0] == 403
            assert (await api("DELETE", f"/contacts/{EMAIL}"))[0] == 422
            status, record = await api("DELETE", f"/contacts/{EMAIL}?reason={EMAIL}+wrote")
            assert (status, record["state"], record["reason"]) == (200, "open", "(erased) wrote")
            # from this moment on nobody is known by it
            assert (await api("GET", f"/contacts/{EMAIL}"))[0] == 404
            await ended(it, record["id"])
            status, record = await api("GET", f"/erasures/{record['id']}", scope="read")
            assert (status, record["state"], record["connections_done"], record["connections_pending"]) == (
                200,
                "done",
                1,
                0,
            )
            assert record["who"] == "the write key"
            assert [one["id"] for one in (await api("GET", "/erasures"))[1]["items"]] == [record["id"]]
            assert (await api("GET", "/erasures/none"))[0] == 404

        await by_api(it, ask)
        assert await left_in(it.hub.store) == []


async def test_a_request_that_a_vendor_passes_on_stays_open_until_it_is_answered(
    erasing: Start, database_url: str
) -> None:
    async with erasing(database_url) as it:
        await tell(it, "signed", {"id": "1", **PERSON, "guest": GUEST})
        await it.rest()
        # when somebody asks, and somebody whom nobody knows
        await tell(it, "tell_me", {"id": "t1", **PERSON, "guest": GUEST})
        await tell(it, "tell_me", {"id": "t2", "email": "stranger@example.org"})
        await it.rest()

        async def ask(api: Api) -> None:
            _, page = await api("GET", "/export-requests?state=open", scope="read")
            known = {one["contact"]: one for one in page["items"]}
            assert set(known) == {await person(it), None}
            assert known[None]["event"] == "guestbook.tell_me"
            id_ = known[None]["id"]
            assert (await api("POST", f"/export-requests/{id_}/answered", scope="read"))[0] == 403
            assert (await api("POST", f"/export-requests/{id_}/answered"))[0] == 200
            assert (await api("POST", f"/export-requests/{id_}/answered"))[0] == 404
            _, page = await api("GET", "/export-requests?state=done")
            assert [one["who"] for one in page["items"]] == ["the write key"]

        await by_api(it, ask)
        # nobody was made known by asking
        async with it.hub.store.read() as c:
            assert len(await views.list_contacts(c)) == 1
        # whoever is erased before they were answered is nobody who could be
        await erase(it)
        async with it.hub.store.read() as c:
            assert (await erasures.open_requests(c))[0] == 0


def test_commands_export_and_erase_a_person(cli: Cli, tmp_path: Path, known: None) -> None:
    # given a request that waits, which doctor shows
    assert "hub contacts requests" in cli("doctor").stdout
    [request] = cli.json("contacts", "requests")
    # when it is answered by an export
    file = tmp_path / "ada.json"
    done = cli.json("contacts", "export", "ada@example.com", "--to", str(file))
    assert (done["requests_answered"], done["events"]) == (1, 1)
    assert json.loads(file.read_text())["contact"]["email"] == "ada@example.com"
    assert file.stat().st_mode & 0o077 == 0
    assert cli.json("contacts", "requests") == []
    assert [one["id"] for one in cli.json("contacts", "requests", "--all")] == [request["id"]]
    assert cli("contacts", "requests", "--done", request["id"]).exit_code == 3
    # then a file that is there is not written over
    assert cli("contacts", "export", "ada@example.com", "--to", str(file)).exit_code == 1
    # when the person is erased
    assert cli("contacts", "erase", "ada@example.com", "--reason", "she asked").exit_code == 2
    record = cli.json("contacts", "erase", "ada@example.com", "--reason", "ada@example.com asked", "--yes")
    assert record["reason"] == "(erased) asked"
    assert cli("contacts", "show", "ada@example.com").exit_code == 3
    assert [one["state"] for one in cli.json("contacts", "erasures")] == ["open"]
    asyncio.run(_work(cli.data_dir))
    assert [one["state"] for one in cli.json("contacts", "erasures")] == ["done"]
    assert "(erased)" in cli("contacts", "erasures").stdout


def test_a_process_killed_in_the_midst_of_an_erasure_leaves_it_to_others(
    cli: Cli, known: None, started: Callable[..., Process]
) -> None:
    record = cli.json("contacts", "erase", "ada@example.com", "--reason", "she asked", "--yes")
    environment = {"HUB_PORT": str(free_port()), "HUB_DEVELOPMENT": "true"}
    for place in ("erase.commit#3=kill", "erase.committed#2=kill", "erase.commit#5=kill"):
        dying = started("up", **environment, HUB_SEAM=place, HUB_LEASE_S="3")
        assert dying.popen.wait(timeout=60) == -signal.SIGKILL
        assert cli.json("contacts", "erasures")[0]["state"] == "open"
    asyncio.run(_work(cli.data_dir))
    [done] = cli.json("contacts", "erasures")
    assert (done["id"], done["state"], done["counts"]) == (
        record["id"],
        "done",
        {"people": 1, "events": 1, "calls": 1},
    )


async def _work(data_dir: Path) -> None:
    async with open_hub(load_settings(data_dir=data_dir)) as hub, working(hub):
        async with asyncio.timeout(20):
            while True:
                async with hub.store.read() as c:
                    if await c.first("select 1 as one from work where kind = 'erase'") is None:
                        break
                await asyncio.sleep(0.05)
        assert await left_in(hub.store, ["ada@example.com"]) == []


@pytest.fixture
def known(cli: Cli) -> None:
    """Ada, whom an event tells of, and who asked what is known of her."""
    asyncio.run(_store(cli.data_dir))


async def _store(data_dir: Path) -> None:
    at_ms, subject = 1_767_603_600_000, Identity(email="Ada@Example.com")
    new = NewEvent(Event("shopify.order_paid", "order_paid:1", at_ms, {"email": "Ada@Example.com"}, subject), "c1", "s")
    async with open_store(load_settings(data_dir=data_dir)) as store, store.write() as c:
        await events.ingest(c, [Incoming("c1", "d1", [new], at_ms, "shopify", "c1", "orders/paid", body=b"{}")])
        who = (await contacts.resolve(c, [contacts.Sighting(new.id, "s", subject, at_ms)]))[new.id]
        await c.together(events.mark_routed({new.id: who}))
        await erasures.request(c, "e-1", who, "c1", "shopify.data_requested", at_ms)
