"""The HTTP side over real HTTP: webhooks within their limits, the REST API with its keys and problems."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote

import aiohttp
import pytest

from hub.api import inspect as listed
from hub.api.app import make_app
from hub.api.serving import answering
from hub.apikeys import create_api_key
from hub.cli import inspect as commands
from hub.process import receiving
from tests.acme import signed
from tests.integration.conftest import Cli
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
            key = await create_api_key(it.hub.store, "test", "write", 0)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                async with answering(make_app(it.hub), listener, proxies=["127.0.0.1"]):
                    yield Web(it, session, url, key)

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
        status, found = await w.call("GET", "/api/v1/runs")
        [run] = found["items"]
        assert (status, run["status"], run["recipe"]) == (200, "done", "two-notes")
        _, shown = await w.call("GET", f"/api/v1/runs/{run['id']}")
        assert [e["state"] for e in shown["effects"]] == ["done", "done"]
        _, person = await w.call("GET", "/api/v1/contacts/ada@example.com")
        told = [(moment["what"], moment["about"]) for moment in reversed(person["timeline"])]
        assert told == [("event", "acme.signed_up"), ("run started", "two-notes"), ("run ended", "two-notes")]
        assert person["runs"][0]["id"] == run["id"]


async def test_unknown_address_and_bad_signature_look_alike(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        body, headers = signed("signed_up", {"id": "s-1"})
        assert await w.webhook(body + b" ", headers) == 401
        assert await w.webhook(body, headers, key="nobody") == 401
        await w.it.hub.ingest.flush_refusals()
        _, refused = await w.call("GET", "/api/v1/refusals")
        assert sum(r["count"] for r in refused) == 2
        # then the operator is told whose address it was, and where to look
        told = {r["connection"]: r["remedy"] for r in refused}
        assert told["acme"] == "compare address and secrets with the vendor's settings: GET /api/v1/connections/acme"
        assert "take the address out of the vendor's settings" in told[None]


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
        status, unknown = await w.call("POST", "/api/v1/connections", {**given, "connector": "acmee", "name": "x"})
        assert (status, "did you mean acme?" in unknown["detail"]) == (404, True)
        _, listed = await w.call("GET", "/api/v1/connections")
        _, looked = await w.call("GET", "/api/v1/connections/live")
        # but for whether they are set and, where enough is left unknown, how they end
        assert looked["secrets"] == [
            {"name": "webhook_secret", "set": True, "ends_with": "cret"},
            {"name": "token", "set": True, "ends_with": "oken"},
        ]
        assert (await w.call("GET", "/api/v1/connections/liv"))[0] == 404
        assert (await w.call("GET", "/api/v1/apps/ours"))[0] == 404
        async with w.it.hub.store.read() as c:
            rows = str(await c.all("select * from connection"))
        assert "canary" not in str(added) + str(listed) + str(looked) + rows
        assert "ends_with" not in str(added) + str(listed)


@pytest.mark.parametrize(
    ("body", "says"),
    [
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
        assert (await w.call("GET", "/api/v1/recipes"))[1]["items"] == []


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
        # and a version can be read while a newer draft is written
        newer = TWO_NOTES + "  - wait: 1h\n"
        assert (await w.call("POST", "/api/v1/recipes", {"source": newer}))[0] == 200
        assert (await w.call("GET", "/api/v1/recipes/two-notes"))[1]["source"] == newer
        assert (await w.call("GET", "/api/v1/recipes/two-notes?version=1"))[1]["source"] == TWO_NOTES
        status, problem = await w.call("GET", "/api/v1/recipes/two-notes?version=2")
        assert (status, problem["detail"]) == (404, "the recipe two-notes has no version 2; versions: 1")
        assert (await w.call("GET", "/api/v1/recipes/two-notess"))[1]["detail"].startswith(
            "there is no recipe two-notess; did you mean two-notes?"
        )


def test_lists_take_the_same_states_as_the_commands() -> None:
    for name in ("RunStatus", "Outcome", "Stage", "DeliveryState"):
        assert set(get_args(getattr(listed, name))) == {one.value for one in getattr(commands, name)}, name


async def test_a_waiting_run_can_be_cancelled_and_the_clock_moved(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url) as w:
        await w.it.publish(REMINDER)
        await w.it.deliver(
            "carted", {"id": "c-1", "email": "a@example.com", "total": {"amount_minor": 6000, "currency": "EUR"}}
        )
        await w.it.rest()
        [run] = (await w.call("GET", "/api/v1/runs?status=sleeping"))[1]["items"]
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
        [event] = (await w.call("GET", "/api/v1/events"))[1]["items"]

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
            assert len(problem["detail"]) > len("Not Found"), path
        status, problem = await w.call("PUT", "/api/v1/runs")
        assert (status, "Allow" in problem["detail"]) == (405, True)


async def test_who_saves_the_same_at_the_same_moment_is_told_so_or_gets_the_next_version(
    web: Callable[..., Any], database_url: str
) -> None:
    async with web(database_url, work=False) as w:

        async def at_once(path: str, *bodies: dict[str, Any]) -> list[tuple[int, Any]]:
            return await asyncio.gather(*(w.call("POST", f"/api/v1/{path}", body) for body in bodies))

        # different texts of one recipe are versions of it, whether or not there was one before
        for first in (1, 6):
            changed = [TWO_NOTES.replace("Hello", f"Hello {first + n}") for n in range(5)]
            answers = await at_once("recipes", *({"source": source, "publish": True} for source in changed))
            assert sorted(answer["version"] for _, answer in answers) == list(range(first, first + 5)), answers
        # one name, one account, one app: one of them is there, and the others hear of it
        new = {"connector": "acme", "sandbox": True}
        for path, taken, bodies in (
            (
                "connections",
                "connection same",
                [{**new, "name": "same", "fields": {"account": f"a{n}"}} for n in range(5)],
            ),
            ("connections", "account one", [{**new, "name": f"n{n}", "fields": {"account": "one"}} for n in range(5)]),
            ("apps", "app ours", [{"connector": "acme", "name": "ours", "fields": {"webhook_secret": "x"}}] * 5),
        ):
            answers = await at_once(path, *bodies)
            assert sorted(status for status, _ in answers) == [201, 422, 422, 422, 422], answers
            assert all(taken in told["detail"] for status, told in answers if status == 422), answers


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
        w.it.sandbox.status["/notes"] = 400
        assert (await w.call("DELETE", f"{path}?rate=100/min"))[1]["released"] == 1
        assert (await w.call("DELETE", path))[0] == 404
        assert (await w.call("POST", "/api/v1/pauses", {"kind": "recipe", "target": "x", "reason": "y"}))[0] == 422
        # a failed run is looked at and retried
        await w.it.hub.pauses.known.refresh()
        await w.it.advance(10_000)
        [run] = await w.it.runs()
        assert run["status"] == "failed"
        w.it.sandbox.status.clear()
        status, preview = await w.call("POST", "/api/v1/retries/preview", {"recipe": "two-notes"})
        assert (status, preview["actions"]) == (200, {"acme.put_note": 1})
        started = {"started_after": "2020-01-01T00:00:00Z"}
        assert (await w.call("POST", "/api/v1/retries", started))[1]["runs"] == [run["id"]]
        assert (await w.call("POST", "/api/v1/retries", {"run": run["id"]}))[0] == 404
        assert (await w.call("POST", f"/api/v1/runs/{run['id']}/answer", {"done": True}))[0] == 404
        for path in ("retries", "retries/preview"):
            status, problem = await w.call("POST", f"/api/v1/{path}", {"recipe": "two-nots"})
            assert (status, "did you mean two-notes?" in problem["detail"]) == (404, True)
            status, problem = await w.call("POST", f"/api/v1/{path}", {"run": "nope"})
            assert (status, problem["detail"].partition(";")[0]) == (404, "there is no run nope")
        await w.it.advance(5_000)
        assert (await w.it.runs())[0]["status"] == "done"
        # caps
        new = {"kind": "connection", "target": "acme", "per": "day", "most": 10}
        status, cap = await w.call("POST", "/api/v1/caps", new)
        assert status == 201
        assert [c["used"] for c in (await w.call("GET", "/api/v1/caps"))[1]] == [0]
        assert (await w.call("DELETE", f"/api/v1/caps/{cap['id']}"))[0] == 200
        assert (await w.call("DELETE", f"/api/v1/caps/{cap['id']}"))[0] == 404


# What changes nothing although it is asked by POST.
_ASKING = {"/api/v1/validate", "/api/v1/plan", "/api/v1/preview", "/api/v1/retries/preview"}


async def test_every_route_wants_a_key_and_every_change_one_that_may_write(
    web: Callable[..., Any], sqlite_url: str
) -> None:
    async with web(sqlite_url, work=False) as w:
        reader = await create_api_key(w.it.hub.store, "reader", "read", 0)
        document = (await w.call("GET", "/api/v1/openapi.json", key=""))[1]
        schemas = document["components"]["schemas"]
        asked = 0
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not path.startswith("/api/") or path == "/api/v1/recipe-schema":
                    continue
                address = re.sub(r"{\w+}", "x", path)
                body = _example(operation, schemas)
                assert (await w.call(method.upper(), address, body, key=""))[0] == 401, (method, path)
                status, _ = await w.call(method.upper(), address, body, key=reader)
                refused = method != "get" and path not in _ASKING
                assert (status == 403) == refused, (method, path, status)
                asked += 1
        assert asked > 35


def _example(operation: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A body that fits an operation: what must be there, of the right type."""
    if "requestBody" not in operation:
        return None
    model = schemas[operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    made = {"string": "x", "integer": 1, "boolean": True, "object": {}, "array": ["x"]}
    fields = {name: model["properties"][name] for name in model.get("required", ())}
    return {name: field["enum"][0] if "enum" in field else made[field["type"]] for name, field in fields.items()}


async def test_a_body_of_ten_megabytes_is_refused_whether_or_not_it_says_its_size(
    web: Callable[..., Any], sqlite_url: str
) -> None:
    async with web(sqlite_url, work=False) as w:
        large = b'{"source": "' + b"x" * 10_000_000 + b'"}'

        async def in_pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(large), 65_536):
                yield large[start : start + 65_536]

        headers = {"Authorization": f"Bearer {w.key}", "Content-Type": "application/json"}
        for data in (io.BytesIO(large), in_pieces()):
            try:
                async with w.session.post(f"{w.url}/api/v1/validate", data=data, headers=headers) as answer:
                    assert answer.status == 413
                    assert (await answer.json(content_type=None))["title"] in {
                        "Content Too Large",
                        "Request Entity Too Large",
                    }
            except aiohttp.ClientOSError:
                continue  # the hub closed the connection while more was on its way


async def test_what_does_not_fit_is_named_with_the_nearest_right_name(web: Callable[..., Any], sqlite_url: str) -> None:
    async with web(sqlite_url, work=False) as w:
        # a field that there is not
        status, problem = await w.call("POST", "/api/v1/recipes", {"source": "x", "publsh": True})
        assert (status, problem["type"], problem["title"]) == (422, "about:blank", "Unprocessable Entity")
        assert problem["errors"] == [
            {"path": "body/publsh", "detail": "there is no field publsh; did you mean publish?"}
        ]
        # a wrong type, which would have been taken for one that is right
        _, problem = await w.call("POST", "/api/v1/retries/preview", {"newest": 0, "first": "3"})
        assert [e["path"] for e in problem["errors"]] == ["body/newest", "body/first"]
        # a misspelt parameter, for which everything would have been answered
        status, problem = await w.call("GET", "/api/v1/runs?stauts=failed")
        assert (status, problem["errors"][0]["detail"]) == (422, "there is no parameter stauts; did you mean status?")
        # a misspelt word where there is a choice
        _, problem = await w.call("GET", "/api/v1/runs?status=faild")
        assert problem["errors"][0]["detail"].endswith("; did you mean failed?")
        # a misspelt recipe, of which there would have been no runs
        status, problem = await w.call("GET", "/api/v1/runs?recipe=two-nots")
        assert (status, problem["detail"].partition(";")[0]) == (404, "there is no recipe two-nots")
        assert problem["detail"].endswith("; GET /api/v1/recipes shows what there is")
        # and a misspelt type of event
        status, problem = await w.call("GET", "/api/v1/events?type=acme.signd_up")
        assert (status, "did you mean acme.signed_up?" in problem["detail"]) == (404, True)
        assert (await w.call("GET", "/api/v1/events?type=acme.signed_up"))[0] == 200
        # what the hub itself checks is said in its own words
        _, problem = await w.call("POST", "/api/v1/preview", {"contact": "x"})
        assert problem["errors"][0]["detail"] == "give either the name of a recipe or a source"
        # credentials never come back in an error
        secret = {"connector": "acme", "name": "UPPER", "fields": {"token": "tok-secret-1"}}
        async with w.session.post(
            f"{w.url}/api/v1/connections", json=secret, headers={"Authorization": f"Bearer {w.key}"}
        ) as answer:
            assert answer.status == 422
            assert answer.content_type == "application/problem+json"
            assert "tok-secret-1" not in await answer.text()
        # what is no JSON, and what no database can store
        for raw in (b"{", b'{"source": "a\\u0000b"}', b"\xff"):
            headers = {"Authorization": f"Bearer {w.key}", "Content-Type": "application/json"}
            async with w.session.post(f"{w.url}/api/v1/validate", data=raw, headers=headers) as answer:
                assert answer.status in {400, 422}, raw
        assert (await w.call("GET", "/api/v1/contacts/a%00b"))[0] == 422


async def test_what_is_nested_too_deep_or_too_large_to_count_is_refused_and_never_a_defect(
    web: Callable[..., Any], database_url: str
) -> None:
    async with web(database_url, work=False) as w:
        headers = {"Authorization": f"Bearer {w.key}", "Content-Type": "application/json"}
        # a body of lists in lists, and texts with half a character, which no database stores
        deep = b'{"connector": ' + b"[" * 900 + b"]" * 900 + b"}"
        for path, raw in (
            ("connections", deep),
            ("retries/preview", rb'{"recipe": "\ud83d"}'),
            ("retries/preview", rb'{"\ud83d": "two-notes"}'),
        ):
            async with w.session.post(f"{w.url}/api/v1/{path}", data=raw, headers=headers) as answer:
                assert (answer.status, bool((await answer.json(content_type=None))["errors"])) == (422, True), raw[:30]
        # a cursor of lists in lists
        cursor = quote(base64.urlsafe_b64encode(b"[" * 1_400).decode())
        status, problem = await w.call("GET", f"/api/v1/connections/acme/choices/lists?cursor={cursor}")
        assert (status, "begin again" in problem["detail"]) == (422, True)
        # a time longer than any, and one that has not begun
        _, pause = await w.call("POST", "/api/v1/pauses", {"kind": "all", "reason": "wrong prices"})
        for older in ("9999999999999d", "-1h"):
            for method in ("GET", "DELETE"):
                status, problem = await w.call(method, f"/api/v1/pauses/{pause['id']}?expire_older_than={older}")
                assert (status, older in problem["detail"]) == (422, True), (method, older)


async def test_lists_come_in_pages_whose_cursors_are_good_for_nothing_else(
    web: Callable[..., Any], database_url: str
) -> None:
    async with web(database_url) as w:
        await w.it.publish(TWO_NOTES)
        for n in range(7):
            await w.it.deliver("signed_up", {"id": f"s-{n}", "first_name": "Ada", "email": f"ada{n}@example.com"})
        await w.it.rest()
        for path in ("/api/v1/runs?recipe=two-notes", "/api/v1/events?type=acme.signed_up", "/api/v1/contacts?"):
            seen, cursor = [], ""
            for _ in range(4):
                _, page = await w.call("GET", f"{path}&limit=3{cursor}")
                seen += [item["id"] for item in page["items"]]
                if page["next"] is None:
                    break
                cursor = f"&cursor={quote(page['next'])}"
            assert len(seen) == len(set(seen)) == 7
            assert seen == sorted(seen, reverse=True)
        # a cursor of another list, of another filter, or that somebody made up
        _, page = await w.call("GET", "/api/v1/runs?limit=3")
        good = quote(page["next"])
        made_up = quote(base64.urlsafe_b64encode(b'[["runs", {}], 5]').decode())
        for wrong in (
            f"/api/v1/events?cursor={good}",
            f"/api/v1/runs?status=done&cursor={good}",
            f"/api/v1/runs?cursor={made_up}",
            f"/api/v1/runs?cursor={good[:-6]}",
            "/api/v1/runs?cursor=nonsense",
            "/api/v1/runs?cursor=%F0%9F%98%80",
            "/api/v1/runs?cursor=" + "W" * 3000,
        ):
            status, problem = await w.call("GET", wrong)
            assert status == 422, wrong
            assert "begin again" in problem["detail"] or problem["errors"], wrong


async def test_a_key_that_was_revoked_is_refused_at_once(
    web: Callable[..., Any], sqlite_url: str, empty_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(sqlite_url, work=False) as w:
        key = await create_api_key(w.it.hub.store, "gone", "write", 0)
        assert (await w.call("GET", "/api/v1/counts", key=key))[0] == 200
        monkeypatch.setenv("HUB_DATABASE_URL", sqlite_url)
        assert (await asyncio.to_thread(empty_cli, "api-keys", "revoke", "gone")).exit_code == 0
        status, problem = await w.call("GET", "/api/v1/counts", key=key)
        assert (status, "hub api-keys create" in problem["detail"]) == (401, True)


async def test_a_plan_and_a_preview_are_there_for_programs_and_change_nothing(
    web: Callable[..., Any], sqlite_url: str
) -> None:
    async with web(sqlite_url) as w:
        await w.it.publish(TWO_NOTES)
        await w.it.deliver("signed_up", {"id": "s-1", "first_name": "Ada", "email": "ada@example.com"})
        await w.it.rest()
        changed = TWO_NOTES.replace("Hello", "Dear")
        # what publishing would do
        status, plan = await w.call("POST", "/api/v1/plan", {"recipes": [changed, "recipe: broken"]})
        assert (status, plan["refused"]) == (200, True)
        first, second = plan["recipes"]
        assert (first["state"], first["version"], second["state"]) == ("changed", 1, "refused")
        assert [step["change"] for step in first["steps"]] == ["changed"]
        assert second["errors"][0]["detail"]
        # what somebody would get
        asked = {"recipe": "two-notes", "contact": "ada@example.com"}
        status, preview = await w.call("POST", "/api/v1/preview", asked)
        assert (status, [step["action"] for step in preview["steps"]]) == (200, ["acme.put_note", "acme.put_note"])
        assert (await w.call("POST", "/api/v1/preview", {**asked, "source": changed}))[0] == 422
        assert (await w.call("POST", "/api/v1/preview", {**asked, "contact": "nobody@example.com"}))[0] == 404
        # and nothing was changed or called
        assert (await w.call("GET", "/api/v1/recipes/two-notes"))[1]["source"] == TWO_NOTES
        assert len(w.it.sandbox.log) == 2
