"""Logs: a line for what operators must know, ids for what it is about, and nobody's name, address or words in any."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hub import hookimpl
from hub.connector import sandbox_secret
from hub.errors import Rejected
from hub.logs import _NOISY, Discreet, JsonLines, setup_logging
from hub.plugins import Plugins, load_plugins
from tests import acme as acme_plugin
from tests.acme import signed
from tests.integration.test_api import web as web
from tests.integration.test_metrics import CHARGE
from tests.integration.test_runs import ADA, HOUR, REMINDER, TEXT, TWO_NOTES, _cart
from tests.integration.test_watchdog import JOIN

GRACE = {"email": "grace.hopper@example.org", "phone": "+14155550177", "first_name": "Grace", "sms_ok": True}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Everything that a process with HUB_LOG_LEVEL=DEBUG writes to standard error, line by line."""
    loggers = [logging.getLogger(name) for name in ("", "hub", *_NOISY)]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    error = io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", error)
        # So that the test's own are not closed by what a process does with those it starts with.
        logging.getLogger().handlers[:] = []
        setup_logging("DEBUG", json_lines=True)
    yield lambda: [json.loads(line) for line in error.getvalue().splitlines()]
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def _with_a_broken_guard() -> Plugins:
    """The plugins, and one whose guard breaks over a person: once, so that the runs go on afterwards."""
    broken: list[str] = []

    @hookimpl
    async def hub_before_effect(input: Any) -> None:
        if not broken and "to" in input:
            broken.append("once")
            raise ValueError(f"I do not like {input['to']}")

    guard = SimpleNamespace(__name__="guard", hub_before_effect=hub_before_effect)
    return load_plugins(extra=[acme_plugin, guard])


async def test_a_day_of_events_leaves_nothing_of_anybody_in_the_logs(
    web: Callable[..., Any], database_url: str, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    async with web(database_url, plugins=_with_a_broken_guard()) as w:
        it = w.it
        connection = await it.hub.connections.by_name("acme")
        for recipe in (REMINDER, TWO_NOTES, TEXT, CHARGE, JOIN):
            await it.publish(recipe)

        # Given a vendor with its troubles: refusals, lost answers, too many calls, credentials that end
        it.sandbox.status |= {"/charges": 500, "/notes": 400}
        for n, person in enumerate((ADA, GRACE)):
            body, headers = signed("signed_up", {"id": f"s-{n}", **person}, delivery=f"d-{n}")
            assert await w.webhook(body, headers) == 200
            assert await w.webhook(body, headers) == 200
            await it.deliver("carted", _cart(**person, id=f"c-{n}"))
        await it.advance(25 * HOUR)
        it.sandbox.status = {"/texts": 503, "/keyed": 429, "/notes": 401}
        await it.deliver("signed_up", {"id": "s-8", **GRACE})
        await it.advance(100 * HOUR)

        # And calls that are refused, cannot be read, hold what no database stores, or carry a ticket in their address
        body, headers = signed("signed_up", {"id": "s-9", **GRACE}, secret="not-the-secret")
        assert await w.webhook(body, headers) == 401
        body, headers = signed("signed_up", None, raw=b'{"email": "grace.hopper@example.org", ')
        assert await w.webhook(body, headers) == 200
        body, headers = signed("signed_up", {"id": "s-10", **GRACE, "first_name": "Grace\0"})
        assert await w.webhook(body, headers) == 200
        await w.call("GET", "/api/v1/contacts/grace.hopper@example.org?ticket=t1ck3t")
        await it.hub.ingest.flush_refusals()
        await it.rest()
        secrets = [
            *(str(value) for person in (ADA, GRACE) for value in person.values() if value is not True),
            "4155550100",
            "4155550177",
            "t1ck3t",
            w.key,
            connection.inbound_key,
            sandbox_secret("acme", "main", "token"),
            sandbox_secret("acme", "main", "webhook_secret"),
            "Your cart waits",
            "Hello",
        ]
    lines = logged()

    # Then the lines are there, each of ours with its kind
    kinds = {line.get("what") for line in lines if line["logger"].startswith("hub")}
    expected = {
        "delivery_taken",
        "step_finished",
        "retry_planned",
        "effect_given_up",
        "webhook_refused",
        "hook_failed",
    }
    assert expected <= kinds
    assert None not in kinds, [line for line in lines if "what" not in line]
    assert all(isinstance(line["message"], str) for line in lines)

    # And nobody is in them
    for line in lines:
        told = json.dumps(line)
        assert not [secret for secret in secrets if secret in told], line


async def test_what_must_be_told_is_told_at_its_level(
    running: Callable[..., Any], sqlite_url: str, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    # Given a vendor that is down for days
    async with running(sqlite_url) as it:
        await it.publish(TWO_NOTES)
        it.sandbox.status["/notes"] = 503
        await it.deliver("signed_up", {"id": "s-1", **ADA})
        await it.advance(100 * HOUR)
        [run] = await it.runs()
    lines = logged()

    # Then each attempt that follows is told as it is planned, and that there is none any more as an error
    retries = [line for line in lines if line.get("what") == "retry_planned"]
    assert [line["attempt"] for line in retries] == list(range(1, len(retries) + 1))
    assert len(retries) > 5
    assert {(line["level"], line["run_id"], line["status"]) for line in retries} == {("INFO", run["id"], 503)}
    assert all(line["delay_ms"] > 0 for line in retries)
    [given_up] = [line for line in lines if line.get("what") == "effect_given_up"]
    assert (given_up["level"], given_up["run_id"], given_up["error"]) == ("ERROR", run["id"], "vendor_unavailable")
    assert "VendorUnavailable" in given_up["traceback"]
    [ended] = [line for line in lines if line.get("what") == "run_ended"]
    assert (ended["level"], ended["status"]) == ("INFO", "failed")
    steps = [line for line in lines if line.get("what") == "step_finished"]
    assert {line["level"] for line in steps} == {"DEBUG"}


async def test_a_flood_of_refused_calls_is_no_flood_of_lines(
    web: Callable[..., Any], sqlite_url: str, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    async with web(sqlite_url, work=False) as w:
        for _ in range(50):
            assert await w.webhook(*signed("signed_up", {}, secret="not-the-secret")) == 401
        await w.it.hub.ingest.flush_refusals()
    lines = [line for line in logged() if line.get("what") == "webhook_refused"]
    assert sum(line["count"] for line in lines) == 50
    assert len(lines) < 10


def test_errors_of_others_keep_their_words_to_themselves() -> None:
    # Given an error of ours that came of one which repeats what it was given
    try:
        try:
            raise sqlite3.IntegrityError("ada@example.com is there already")
        except sqlite3.IntegrityError as error:
            raise Rejected("the vendor refused it") from error
    except Rejected as error:
        record = logging.makeLogRecord({"msg": "m", "exc_info": (type(error), error, error.__traceback__)})

    # Then the traceback tells both and the words of ours only
    for told in (json.loads(JsonLines().format(record))["traceback"], Discreet().format(record)):
        assert "IntegrityError" in told
        assert "Rejected: the vendor refused it" in told
        assert "test_logs.py" in told
        assert "ada@example.com" not in told
