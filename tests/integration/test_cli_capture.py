"""Stored calls as fixtures: masked, still readable by their connector, and samples for its contract."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from hub.process import open_store
from hub.settings import load_settings
from hub.store import connections, events
from hub.store.events import Incoming
from hub.testing import fixtures
from hub_shopify import shopify
from tests.integration.conftest import Cli

FIXTURES = Path(__file__).parents[2] / "plugins" / "shopify" / "tests" / "fixtures"
ORDER = json.loads((FIXTURES / "order_paid.json").read_text())
ORDER["note"] = "Ring twice, Jane"
HEADERS = {
    "host": "hub.example.com",
    "user-agent": "Shopify-Captain-Hook",
    "content-type": "application/json",
    "x-shopify-topic": "orders/paid",
    "x-shopify-hmac-sha256": "PrC2rAzfOGheTDsK7xQ+qg/wJRsxRH0H9oTkYBwlR4w=",
    "x-shopify-webhook-id": "0f1c1a52-1a2b-4c3d-9e8f-001122334455",
}
# long enough, or quoted, that no masked value holds one of them by chance
PERSONAL = (
    *("jane@", "Jane", '"Doe"', "(415)", "555-0100", "Sample Street", '"94105"'),
    *("84ad78572dae52a8cbea7d55371afe89", "PrC2rAzf"),
)
SMS = (
    "MessageSid=SM00000000000000000000000000000a01&SmsStatus=received&From=%2B14155550100&To=%2B14155550199"
    "&Body=It+is+Jane&AccountSid=AC00000000000000000000000000000001"
)


def _call(id_: str, connector: str, topic: str, body: bytes, headers: dict[str, str], connection: str) -> Incoming:
    request = {"method": "POST", "url": f"https://hub.example.com/webhooks/{connector}/k", "headers": headers}
    given: dict[str, Any] = {"connector": connector, "connection_id": connection, "topic": topic}
    return Incoming(connection, id_, [], 1_767_603_600_000, request=request, body=body, **given)


@pytest.fixture
def stored(cli: Cli) -> Cli:
    """Two orders and a message of one shop and one number, as they were stored."""
    shop = cli.json("connections", "add", "shopify", "shop", "--set", "shop=a.myshopify.com", "--sandbox")
    account = "account_sid=AC00000000000000000000000000000001"
    cli.json("connections", "add", "twilio", "sms", "--set", account, "--sandbox")

    async def store_them() -> None:
        async with open_store(load_settings(data_dir=cli.data_dir)) as store, store.write() as c:
            _, known = await connections.everything(c)
            ids = {row["name"]: row["id"] for row in known}
            orders = [
                _call(f"o{n}", "shopify", "orders/paid", json.dumps(ORDER).encode(), HEADERS, ids["shop"])
                for n in (1, 2)
            ]
            form = {"content-type": "application/x-www-form-urlencoded"}
            await events.ingest(c, [*orders, _call("m1", "twilio", "message", SMS.encode(), form, ids["sms"])])

    assert shop["mode"] == "sandbox"
    asyncio.run(store_them())
    return cli


def test_what_was_stored_becomes_fixtures_without_anything_of_a_person_or_secret(stored: Cli, tmp_path: Path) -> None:
    # when
    captured = stored("deliveries", "capture", "--connection", "shop", "--to", str(tmp_path / "made"))

    # then
    assert captured.exit_code == 0, captured.output
    files = sorted((tmp_path / "made").iterdir())
    assert [file.name for file in files] == ["order_paid-2.delivery.json", "order_paid.delivery.json"]
    text = files[1].read_text()
    assert [personal for personal in PERSONAL if personal in text] == []
    for part in ("e-mail masked in email, contact_email", "token masked in", "headers.x-shopify-hmac-sha256"):
        assert part in " ".join(captured.stdout.split())
    found = json.loads(text)
    assert (found["topic"], found["json"]["total_price"]) == ("orders/paid", "67.49")
    assert set(found["headers"]) == set(HEADERS) - {"host", "user-agent"}


def test_relations_stay_within_one_capture(stored: Cli, tmp_path: Path) -> None:
    made = stored.json("deliveries", "capture", "--topic", "orders/paid", "--to", str(tmp_path))
    first, second = (json.loads(Path(one["file"]).read_text())["json"] for one in made)
    assert first == second
    assert first["email"] == first["customer"]["email"]
    assert first["customer"]["first_name"] == first["billing_address"]["first_name"]


def test_a_captured_fixture_is_a_sample_of_its_trigger(stored: Cli, tmp_path: Path) -> None:
    [one, *_] = stored.json("deliveries", "capture", "--connection", "shop", "--to", str(tmp_path))
    assert one["events"] == ["shopify.order_paid"]
    fixture = fixtures.read(Path(one["file"]))
    assert fixture.topic in shopify.triggers["order_paid"].topics


def test_a_form_is_masked_pair_by_pair(stored: Cli, tmp_path: Path) -> None:
    [one] = stored.json("deliveries", "capture", "--connection", "sms", "--to", str(tmp_path))
    text = fixtures.read(Path(one["file"])).body.decode()
    assert one["events"] == ["twilio.sms_received"]
    assert set(one["masked"]) >= {"phone", "text", "id"}
    assert "Jane" not in text
    assert "4155550100" not in text
    assert "SmsStatus=received" in text


def test_what_does_not_parse_any_more_is_said(stored: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a connector that reads a note only as it stood
    def parse(delivery: Any) -> list[Any]:
        return parsed(delivery) if delivery.json()["note"] == ORDER["note"] else []

    trigger = shopify.triggers["order_paid"]
    parsed: Any = trigger.parse
    monkeypatch.setattr(trigger, "parse", parse)

    # when
    captured = stored("deliveries", "capture", "--connection", "shop", "--to", str(tmp_path))

    # then
    assert captured.exit_code == 1
    assert "masked it no longer parses as it came: mend the file by hand" in " ".join(captured.stdout.split())


def test_an_unknown_topic_is_named_with_the_nearest(stored: Cli, tmp_path: Path) -> None:
    refused = stored("deliveries", "capture", "--topic", "orders/payed", "--to", str(tmp_path / "there"))
    assert refused.exit_code == 3
    assert "no trigger takes the topic orders/payed; did you mean orders/paid?" in refused.stderr
    assert not (tmp_path / "there").exists()
    # one that a trigger takes and that has not come yet is no mistake
    assert stored("deliveries", "capture", "--topic", "checkouts/update", "--to", str(tmp_path)).exit_code == 0


def test_an_unknown_connection_is_named_with_the_nearest(stored: Cli, tmp_path: Path) -> None:
    refused = stored("deliveries", "capture", "--connection", "shopp", "--to", str(tmp_path / "no"))
    assert refused.exit_code == 3
    assert "there is no connection shopp; did you mean shop?" in " ".join(refused.stderr.split())
    assert not (tmp_path / "no").exists()


def test_deliveries_alone_still_lists_them(stored: Cli) -> None:
    assert [one["topic"] for one in stored.json("deliveries")] == ["message", "orders/paid", "orders/paid"]
