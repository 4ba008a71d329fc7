"""Vendors that answer badly, once to each effect class: what it comes to, and that the run says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from hub import RateLimited, Rejected
from hub.clock import parse_duration_ms
from tests.acme import acme
from tests.integration.test_runs import ADA

LIMIT_S = 0.5
RECIPE = """
recipe: every-class
on: {event: acme.signed_up}
steps:
  - {do: acme.put_note, with: {key: note}, on_error: continue}
  - {do: acme.add_keyed, with: {key: keyed}, on_error: continue}
  - {do: acme.send_text, purpose: cart, with: {to: "{{ trigger.phone }}", body: text}, on_error: continue}
  - {do: acme.charge, with: {key: charge}, on_error: continue, on_unknown: continue}
"""
PATHS = ("/notes", "/keyed", "/texts", "/charges")

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(LIMIT_S * 3)
    return web.json_response({"id": "late"})


async def _begin(request: web.Request, length: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(length), "Content-Type": "application/json"})
    await response.prepare(request)
    return response


async def _byte_by_byte(request: web.Request) -> web.StreamResponse:
    response = await _begin(request, 100)
    for _ in range(30):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


async def _truncated(request: web.Request) -> web.StreamResponse:
    response = await _begin(request, 100)
    await response.write(b'{"id": "m-')
    assert request.transport is not None
    request.transport.close()
    return response


async def _half_close(request: web.Request) -> web.StreamResponse:
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.write_eof()
    return web.Response()


async def _reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _error_500(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="<h1>oops</h1>")


async def _huge(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * 30_000_000, content_type="application/json")


async def _html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>We are back soon</html>", content_type="text/html")


@pytest.fixture
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of Acme's have half a second."""
    for name, action in acme.actions.items():
        monkeypatch.setitem(acme.actions, name, replace(action, timeout_s=LIMIT_S))


async def _run(it: Any) -> tuple[list[str], dict[str, dict[str, Any]], dict[str, Any]]:
    """One run of the recipe to its end: what the vendor did, and the effects and steps by action."""
    await it.publish(RECIPE)
    await it.deliver("signed_up", {"id": "s-1", **ADA})
    await it.advance(parse_duration_ms("2h"))
    [run] = await it.runs()
    assert run["finished_at"] is not None
    did = [str(entry.data.get("key") or entry.data["body"]) for entry in it.sandbox.log]
    effects = {effect["action"].removeprefix("acme."): effect for effect in run["effects"]}
    return did, effects, dict(zip(effects, run["steps"], strict=True))


LOST: dict[str, tuple[Answer, str]] = {
    "slow": (_slow, "no whole answer"),
    "byte by byte": (_byte_by_byte, "no whole answer"),
    "truncated": (_truncated, "no whole answer"),
    "half-close": (_half_close, "no whole answer"),
    "reset": (_reset, "no whole answer"),
    "500": (_error_500, "the vendor answered 500"),
    "30 MB": (_huge, "the answer is larger than"),
}


@pytest.mark.usefixtures("in_haste")
@pytest.mark.parametrize("odd", LOST)
async def test_an_answer_that_says_nothing_is_a_lost_one(
    running: Callable[..., Any], sqlite_url: str, odd: str
) -> None:
    answer, said = LOST[odd]
    async with running(sqlite_url) as it:
        it.sandbox.odd = dict.fromkeys(PATHS, answer)
        did, effects, steps = await _run(it)
        # then idempotent is repeated, keyed is asked again and not repeated, reconcilable is found, at most once is unknown
        assert did == ["note", "note", "keyed", "text", "charge"]
        assert {name: (e["state"], e["attempts"]) for name, e in effects.items()} == {
            "put_note": ("done", 2),
            "add_keyed": ("done", 2),
            "send_text": ("done", 1),
            "charge": ("unknown", 1),
        }
        assert steps["send_text"]["reason"] == "found at the vendor after a lost answer"
        assert (steps["charge"]["outcome"], said in steps["charge"]["reason"]) == ("unknown", True)


@pytest.mark.usefixtures("in_haste")
async def test_a_page_where_json_should_be_is_lost_for_who_reads_it_and_a_yes_for_who_does_not(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url) as it:
        it.sandbox.odd = dict.fromkeys(PATHS, _html)
        did, effects, steps = await _run(it)
        assert did == ["note", "keyed", "text", "charge"]
        assert {effect["state"] for effect in effects.values()} == {"done"}
        assert steps["send_text"]["reason"] == "found at the vendor after a lost answer"


@pytest.mark.usefixtures("in_haste")
async def test_too_many_requests_without_a_time_is_tried_again_later_by_every_class(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(sqlite_url) as it:
        monkeypatch.setattr(it.sandbox, "throttled", lambda: web.Response(status=429))
        it.sandbox.throttle_until_ms = it.hub.clock.now_ms() + 20_000
        did, effects, _ = await _run(it)
        assert did == ["note", "keyed", "text", "charge"]
        assert {effect["state"] for effect in effects.values()} == {"done"}
        assert effects["put_note"]["attempts"] > 1


@pytest.mark.usefixtures("in_haste")
async def test_a_yes_with_an_error_in_it_is_what_the_connector_says_it_is(
    running: Callable[..., Any], sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def classify(answer: Any) -> Exception | None:
        return Rejected("no such list", code="list_missing") if b"error" in answer.body else None

    async def error(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "no such list"})

    monkeypatch.setattr(acme, "classify", classify)
    async with running(sqlite_url) as it:
        it.sandbox.odd = dict.fromkeys(PATHS, error)
        _, effects, steps = await _run(it)
        assert {(e["state"], e["attempts"]) for e in effects.values()} == {("failed", 1)}
        assert {step["reason"] for step in steps.values()} == {"no such list"}
        assert {(e["http_status"], e["code"], e["output"]) for e in effects.values()} == {(200, "list_missing", None)}


@pytest.mark.usefixtures("in_haste")
async def test_what_the_vendor_answered_stands_beside_the_reason_of_every_state(
    running: Callable[..., Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, body=b"busy")

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=422)

    def classify(answer: Any) -> Exception | None:
        return RateLimited(code="busy" * 100, retry_after_s=600) if answer.body == b"busy" else None

    monkeypatch.setattr(acme, "classify", classify)
    async with running(database_url) as it:
        # given a vendor that is asked too often, then refuses the input; and an answer that says nothing
        it.sandbox.odd = {"/notes": busy, "/charges": _error_500}
        await it.publish(RECIPE)
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.rest()
        [effect] = (await it.runs())[0]["effects"]
        assert (effect["state"], effect["http_status"], effect["code"]) == ("planned", 403, ("busy" * 100)[:80])
        it.sandbox.odd["/notes"] = refuse
        await it.advance(parse_duration_ms("2h"))
        # then each says what it was answered, and what was done in the end only that
        [run] = await it.runs()
        assert {e["action"]: (e["state"], e["http_status"], e["code"]) for e in run["effects"]} == {
            "acme.put_note": ("failed", 422, None),
            "acme.add_keyed": ("done", None, None),
            "acme.send_text": ("done", None, None),
            "acme.charge": ("unknown", 500, None),
        }


ASKS = """
recipe: asks
on: {event: acme.signed_up}
steps:
  - {do: acme.charge, with: {key: charge}, on_unknown: WAY, as: it}
  - {do: acme.put_note, with: {key: "{{ steps.it.outcome }}"}}
"""


@pytest.mark.parametrize(
    ("way", "status", "did"),
    [("continue", "done", ["charge", "unknown"]), ("stop", "failed", ["charge"]), ("ask", "waiting", ["charge"])],
)
async def test_what_follows_an_unknown_outcome_is_the_recipe_s_to_say(
    running: Callable[..., Any], database_url: str, way: str, status: str, did: list[str]
) -> None:
    from hub.store import views

    async with running(database_url) as it:
        await it.publish(ASKS.replace("WAY", way))
        it.sandbox.drop_answers = 1
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.deliver("signed_up", {"id": "s-2", "email": "bob@example.com"})
        await it.advance(parse_duration_ms("30d"))
        # then
        assert sorted(str(e.data["key"]) for e in it.sandbox.log) == sorted([*did, "charge", "done"])
        async with it.hub.store.read() as c:
            [unknown] = await views.list_runs(c, outcome="unknown")
            shown = await views.show_run(c, unknown["id"])
        assert shown["status"] == status
        assert (shown["effects"][0]["state"], shown["effects"][0]["attempts"]) == ("unknown", 1)
        if way == "ask":
            assert "somebody has to look" in shown["reason"]
