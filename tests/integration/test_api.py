"""The HTTP side over real HTTP: webhooks within their limits, the REST API with its keys and problems."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import uvicorn

from hub.api.app import make_app
from hub.process import create_api_key, receiving
from tests.acme import signed
from tests.conftest import free_port
from tests.integration.test_runs import REMINDER, TWO_NOTES


@dataclass
class Web:
    """A hub that answers HTTP."""

    it: Any
    session: aiohttp.ClientSession
    url: str
    key: str

    async def webhook(
        self, body: bytes | io.BytesIO, headers: dict[str, str], *, key: str | None = None, method: str = "POST"
    ) -> int:
        connection = await self.it.hub.connections.by_name("acme")
        address = f"{self.url}/webhooks/acme/{key or connection.inbound_key}"
        async with self.session.request(method, address, data=body, headers=headers) as answer:
            return answer.status

    async def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key or self.key}"} if key != "" else {}
        async with self.session.request(method, self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


@pytest.fixture
def web(running: Callable[..., Any]) -> Callable[..., Any]:
    """`async with web(database_url) as w`: a hub at work behind real HTTP."""

    @asynccontextmanager
    async def start(database_url: str, **how: Any) -> AsyncIterator[Web]:
        async with running(database_url, **how) as it, receiving(it.hub), aiohttp.ClientSession() as session:
            port = free_port()
            server = uvicorn.Server(
                uvicorn.Config(make_app(it.hub), port=port, log_config=None, access_log=False, lifespan="off")
            )
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110  (uvicorn tells it in no other way)
                await asyncio.sleep(0.01)
            key = await create_api_key(it.hub.store, "test", "write", 0)
            try:
                yield Web(it, session, f"http://127.0.0.1:{port}", key)
            finally:
                server.should_exit = True
                await serving

    return start


async def test_a_signed_webhook_is_answered_2xx_and_its_run_is_there_to_see(
    web: Callable[..., Any], database_url: str
) -> None:
    async with web(database_url) as w:
        await w.it.publish(TWO_NOTES)
        body, headers = signed(
            "signed_up", {"id": "s-1", "first_name": "Ada", "email": "ada@example.com"}, delivery="d-1"
        )
        assert await w.webhook(body, headers) == 200
        await w.it.rest()
        status, [run] = await w.call("GET", "/api/v1/runs")
        assert (status, run["status"], run["recipe"]) == (200, "done", "two-notes")
        _, shown = await w.call("GET", f"/api/v1/runs/{run['id']}")
        assert [e["state"] for e in shown["effects"]] == ["done", "done"]
        _, person = await w.call("GET", "/api/v1/contacts/ada@example.com")
        assert person["runs"][0]["id"] == run["id"]


async def test_unknown_address_and_bad_signature_look_alike(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        body, headers = signed("signed_up", {"id": "s-1"})
        assert await w.webhook(body + b" ", headers) == 401
        assert await w.webhook(body, headers, key="nobody") == 401
        await w.it.hub.ingest.flush_refusals()
        _, refused = await w.call("GET", "/api/v1/deliveries/refused")
        assert sum(r["count"] for r in refused) == 2


async def test_a_body_over_the_limit_is_refused_before_it_is_read(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        body, headers = signed("signed_up", None, raw=b"x" * 2_000_000)
        assert await w.webhook(io.BytesIO(body), headers) == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b"x" * 50_000

        connection = await w.it.hub.connections.by_name("acme")
        address = f"{w.url}/webhooks/acme/{connection.inbound_key}"
        async with w.session.post(address, data=chunks(), headers=headers) as answer:
            assert answer.status == 413
        async with w.it.hub.store.read() as c:
            assert await c.all("select id from delivery") == []


async def test_other_methods_are_refused(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        body, headers = signed("signed_up", {"id": "s-1"})
        assert await w.webhook(body, headers, method="PUT") == 405


async def test_when_nothing_can_be_stored_the_vendor_is_asked_to_come_again(
    web: Callable[..., Any], sqlite_url: str
) -> None:
    async with web(sqlite_url, work=False, spool_mb=0) as w:
        async with w.it.hub.store.write() as c:
            await c.run("pragma query_only = on")
        body, headers = signed("signed_up", {"id": "s-1"}, delivery="d-1")
        connection = await w.it.hub.connections.by_name("acme")
        address = f"{w.url}/webhooks/acme/{connection.inbound_key}"
        async with w.session.post(address, data=body, headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        async with w.it.hub.store.read() as c:
            assert await c.all("select id from event") == []
        # when it can be written again, the vendor's retry is stored
        async with w.it.hub.store._writer.lend() as driver:
            await driver.run("pragma query_only = off", {})
        assert await w.webhook(body, headers) == 200


async def test_secrets_that_do_not_open_lose_no_webhook(web: Callable[..., Any], sqlite_url: str) -> None:
    from hub.vault import Vault, generate_key

    async with web(sqlite_url, work=False) as w:
        w.it.hub.connections._vault = Vault([generate_key()])
        w.it.hub.connections._known.opened.clear()
        body, headers = signed("signed_up", {"id": "s-1"})
        assert await w.webhook(body, headers) == 503


async def test_keys_say_who_may_read_and_who_may_write(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        reader = await create_api_key(w.it.hub.store, "reader", "read", 0)
        assert (await w.call("GET", "/api/v1/runs", key=""))[0] == 401
        assert (await w.call("GET", "/api/v1/runs", key="hub_wrong"))[0] == 401
        assert (await w.call("GET", "/api/v1/runs", key=reader))[0] == 200
        status, problem = await w.call("POST", "/api/v1/recipes", {"source": TWO_NOTES}, key=reader)
        assert (status, problem["title"]) == (403, "Forbidden")
        assert (await w.call("GET", "/health/live", key=""))[0] == 200
        assert (await w.call("GET", "/health/ready", key=""))[0] == 200


async def test_secrets_go_in_and_never_come_out(web: Callable[..., Any], database_url: str) -> None:
    async with web(database_url) as w:
        given = {
            "connector": "acme",
            "name": "live",
            "fields": {"account": "live", "token": "canary-token", "webhook_secret": "canary-secret"},
        }
        status, added = await w.call("POST", "/api/v1/connections", given)
        assert status == 201
        _, listed = await w.call("GET", "/api/v1/connections")
        async with w.it.hub.store.read() as c:
            rows = str(await c.all("select * from connection"))
        assert "canary" not in str(added) + str(listed) + rows


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"connector": "acmee", "name": "x"}, "did you mean acme?"),
        ({"connector": "acme", "name": "x"}, "acme needs account"),
        ({"connector": "acme", "name": "x", "fields": {"account": "a"}}, "acme needs token"),
        ({"connector": "acme", "name": "x", "fields": {"acount": "a"}}, "did you mean account?"),
        ({"connector": "acme", "name": "x", "fields": {"account": "A B", "token": "t"}}, "does not look like"),
        ({"connector": "acme", "name": "acme", "fields": {"account": "z", "token": "t"}}, "choose another name"),
        ({"connector": "acme", "name": "x", "fields": {"account": "main", "token": "t"}}, "connected already, as acme"),
        ({"connector": "acme", "name": "X!"}, "does not fit"),
        ({"connector": "acme", "name": "x", "colour": "red"}, "does not fit"),
    ],
)
async def test_a_wrong_connection_is_refused_with_what_to_write(
    web: Callable[..., Any], sqlite_url: str, body: dict[str, Any], says: str
) -> None:
    async with web(sqlite_url, work=False) as w:
        status, problem = await w.call("POST", "/api/v1/connections", body)
        assert status == 422
        assert says in problem["detail"]


async def test_a_wrong_recipe_says_where_and_changes_nothing(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        wrong = REMINDER.replace("sms.send", "sms.sent").replace("wait: 24h", "wait: soon")
        status, problem = await w.call("POST", "/api/v1/recipes", {"source": wrong, "publish": True})
        assert status == 422
        assert {e["path"] for e in problem["errors"]} >= {"steps/0/wait", "steps/1/do"}
        assert all(e["line"] for e in problem["errors"])
        assert (await w.call("GET", "/api/v1/recipes"))[1] == []


async def test_recipes_are_drafted_published_paused(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        assert (await w.call("POST", "/api/v1/recipes", {"source": TWO_NOTES}))[1]["state"] == "draft"
        assert (await w.call("POST", "/api/v1/recipes/two-notes/publish"))[1]["version"] == 1
        assert (await w.call("POST", "/api/v1/recipes", {"source": TWO_NOTES, "publish": True}))[1]["unchanged"] is True
        assert (await w.call("POST", "/api/v1/recipes/two-notes/pause"))[1]["state"] == "paused"
        await w.it.deliver("signed_up", {"id": "s-1", "first_name": "Ada", "email": "a@example.com"})
        await w.it.rest()
        assert await w.it.runs() == []
        assert (await w.call("POST", "/api/v1/recipes/two-notes/publish"))[1]["version"] == 1
        await w.it.deliver("signed_up", {"id": "s-2", "first_name": "Ada", "email": "a@example.com"})
        await w.it.rest()
        assert len(await w.it.runs()) == 1
        assert (await w.call("GET", "/api/v1/recipes/two-notess"))[1]["detail"].startswith(
            "there is no recipe two-notess; did you mean two-notes?"
        )


async def test_a_waiting_run_can_be_cancelled_and_the_clock_moved(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        await w.it.publish(REMINDER)
        await w.it.deliver(
            "carted", {"id": "c-1", "email": "a@example.com", "total": {"amount_minor": 6000, "currency": "EUR"}}
        )
        await w.it.rest()
        _, [run] = await w.call("GET", "/api/v1/runs?status=sleeping")
        assert (await w.call("POST", f"/api/v1/runs/{run['id']}/cancel"))[0] == 200
        status, moved = await w.call("POST", "/api/v1/clock/advance", {"by": "48h"})
        assert status == 200
        assert moved["stops"] >= 0
        assert (await w.call("GET", f"/api/v1/runs/{run['id']}"))[1]["status"] == "cancelled"
        assert (await w.call("POST", "/api/v1/clock/advance", {"by": "soon"}))[0] == 422


async def test_an_event_can_be_replayed(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        # given an event that no recipe listened for, and one that does now
        await w.it.deliver("carted", {"id": "c-1", "email": "a@example.com"})
        await w.it.rest()
        await w.it.publish("recipe: late\non: {event: acme.carted}\nsteps: [{wait: 30d}]\n")
        _, [event] = await w.call("GET", "/api/v1/events")

        # when it is replayed, then the answer says what came of it
        status, found = await w.call("POST", f"/api/v1/events/{event['id']}/replay")
        assert (status, found["stage"], [run["recipe"] for run in found["started"]]) == (200, "routed", ["late"])

        # and what there is not is refused
        status, missing = await w.call("POST", "/api/v1/events/x/replay")
        assert (status, "there is no event x" in missing["detail"]) == (404, True)


async def test_the_clock_stays_outside_development_mode(running: Callable[..., Any], sqlite_url: str) -> None:
    from hub.errors import ConfigError

    async with running(sqlite_url, work=False) as it:
        it.hub.time._development = False
        with pytest.raises(ConfigError, match="development mode"):
            await it.advance(1_000)


async def test_what_is_not_there_is_said_plainly(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False) as w:
        for path in (
            "/api/v1/runs/nothing",
            "/api/v1/events/nothing",
            "/api/v1/contacts/nobody@example.com",
            "/nowhere",
        ):
            status, problem = await w.call("GET", path)
            assert status == 404, path
            assert problem["detail"]


async def test_addresses_come_from_the_configured_url_and_never_from_headers(
    web: Callable[..., Any], sqlite_url: str
) -> None:
    async with web(sqlite_url, work=False) as w:
        forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
        headers = {"Authorization": f"Bearer {w.key}", **forged}
        async with w.session.get(w.url + "/api/v1/connections", headers=headers) as answer:
            [shown] = await answer.json()
        assert shown["webhook_url"].startswith("https://hub.example.com/webhooks/acme/")


async def test_pauses_caps_and_retries_are_there_for_programs_too(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        await w.it.publish(TWO_NOTES)
        # a pause is told by the name of the key, shows what waits, and ends once
        status, pause = await w.call("POST", "/api/v1/pauses", {"kind": "all", "reason": "wrong prices"})
        assert (status, pause["who"], pause["about"]) == (201, "test", "everything")
        await w.it.hub.pauses.known.refresh()
        await w.it.deliver("signed_up", {"id": "s-1", "first_name": "Ada", "email": "ada@example.com"})
        await w.it.advance(5_000)
        assert [p["runs"] for p in (await w.call("GET", "/api/v1/pauses"))[1]] == [1]
        path = f"/api/v1/pauses/{pause['id']}"
        assert (await w.call("GET", f"{path}?expire_older_than=1h"))[1]["late"] == 0
        assert (await w.call("GET", f"{path}?expire_older_than=soon"))[0] == 422
        assert (await w.call("DELETE", f"{path}?rate=100/min"))[1]["released"] == 1
        assert (await w.call("DELETE", path))[0] == 422
        assert (await w.call("POST", "/api/v1/pauses", {"kind": "recipe", "target": "x", "reason": "y"}))[0] == 422
        # a failed run is looked at and retried
        w.it.sandbox.status["/notes"] = 400
        await w.it.hub.pauses.known.refresh()
        await w.it.advance(10_000)
        [run] = await w.it.runs()
        assert run["status"] == "failed"
        w.it.sandbox.status.clear()
        status, preview = await w.call("POST", "/api/v1/runs/retry/preview", {"recipe": "two-notes"})
        assert (status, preview["actions"]) == (200, {"acme.put_note": 1})
        started = {"started_after": "2020-01-01T00:00:00Z"}
        assert (await w.call("POST", "/api/v1/runs/retry", started))[1]["runs"] == [run["id"]]
        assert (await w.call("POST", "/api/v1/runs/retry", {"run": run["id"]}))[0] == 404
        assert (await w.call("POST", f"/api/v1/runs/{run['id']}/answer", {"done": True}))[0] == 404
        await w.it.advance(5_000)
        assert (await w.it.runs())[0]["status"] == "done"
        # caps
        new = {"kind": "connection", "target": "acme", "per": "day", "most": 10}
        status, cap = await w.call("POST", "/api/v1/caps", new)
        assert status == 201
        assert [c["used"] for c in (await w.call("GET", "/api/v1/caps"))[1]] == [0]
        assert (await w.call("DELETE", f"/api/v1/caps/{cap['id']}"))[0] == 200
        assert (await w.call("DELETE", f"/api/v1/caps/{cap['id']}"))[0] == 422


async def test_a_key_that_may_only_read_changes_nothing_of_these(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False) as w:
        key = await create_api_key(w.it.hub.store, "reader", "read", 0)
        changes = [
            ("POST", "/api/v1/pauses", {"kind": "all", "reason": "x"}),
            ("DELETE", "/api/v1/pauses/x", None),
            ("POST", "/api/v1/runs/retry", {}),
            ("POST", "/api/v1/runs/x/answer", {"done": True}),
            ("POST", "/api/v1/caps", {"kind": "connection", "target": "acme", "per": "day", "most": 10}),
            ("DELETE", "/api/v1/caps/x", None),
        ]
        for method, path, body in changes:
            assert (await w.call(method, path, body, key=key))[0] == 403, path
        for method, path, body in (("GET", "/api/v1/pauses", None), ("POST", "/api/v1/runs/retry/preview", {})):
            assert (await w.call(method, path, body, key=key))[0] == 200, path
