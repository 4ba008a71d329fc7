"""Lists for people: at a hundred columns, with names and reasons as long as they come, every word is in one piece."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hub.cli.columns import GAP, layout, wrapped
from hub.events import Event, Identity
from hub.process import open_store
from hub.settings import load_settings
from hub.store import contacts, deliveries, events, runs
from hub.store.events import Incoming, NewEvent
from hub.store.runs import Lease, NewRun
from tests.integration.conftest import Cli

_AT_MS = 1_767_603_600_000  # 2026-01-05T09:00:00Z
SHOP, NUMBER, RECIPE = "shopify-germany-wholesale", "twilio-customer-service", "abandoned-cart-reminder-germany"
WHY = "the plugin hub-loyalty failed in hub_event_received: KeyError, and it is tried again"
_SOURCE = f"""
recipe: {RECIPE}
on: {{event: shopify.checkout_abandoned}}
connections: {{shopify: {SHOP}}}
steps:
  - {{do: shopify.tag_customer, with: {{customer_id: "7", tags: [cart]}}}}
"""


# The column that people copy from, by command.
_WITH_IDS = {
    "events list": "id",
    "runs list": "id",
    "deliveries": "id",
    "contacts list": "id",
    "caps list": "id",
    "connections list": "webhook_url",
    "apps list": "webhook_url",
}


@pytest.fixture
def full(cli: Cli, tmp_path: Path) -> Cli:
    """A hub that has one of everything, named as in a large firm."""
    (tmp_path / "recipe.yaml").write_text(_SOURCE)
    for command in (
        ["connections", "add", "shopify", SHOP, "--set", "shop=our-wholesale-customers.myshopify.com", "--sandbox"],
        ["connections", "add", "twilio", NUMBER, "--set", "account_sid=AC" + "0" * 31 + "1", "--sandbox"],
        ["apps", "add", "shopify", "our-own-application-for-wholesale", "--set", "client_secret=planted"],
        ["recipes", "apply", str(tmp_path / "recipe.yaml"), "--publish"],
        ["api-keys", "create", "the-reporting-of-the-finance-team", "--scope", "read"],
        ["caps", "set", "1250000", "--per", "month", "--connection", NUMBER, "--unit", "segments"],
        ["pause", "--recipe", RECIPE, "--reason", "the legal department still looks at the wording"],
    ):
        result = cli(*command)
        assert result.exit_code == 0, result.output
    shop = next(c["id"] for c in cli.json("connections", "list") if c["name"] == SHOP)
    asyncio.run(_store(cli.data_dir, shop))
    with closing(sqlite3.connect(cli.data_dir / "hub.db")) as database:
        database.execute("update event set stage = 'quarantined', note = ?", (WHY,))
        database.execute("update run set status = 'sleeping', reason = ?", (WHY,))
        database.execute("update connection set health = 'needs re-authorisation', health_reason = ?", (WHY,))
        database.commit()
    return cli


async def _store(data_dir: Path, shop: str) -> None:
    who = Identity(
        email="alexandra.vanderbilt@wholesale.example.com",
        phone="+4915112345678",
        first_name="Alexandra",
        last_name="Vanderbilt-Montgomery",
    )
    left = NewEvent(Event("shopify.checkout_abandoned", "checkout_abandoned:1", _AT_MS, {"id": "1"}, who), shop, SHOP)
    why = "no trigger takes the topic customers_marketing_consent/update"
    odd = Incoming(
        shop, "d1", [left], _AT_MS, "shopify", shop, "customers_marketing_consent/update", body=b"{}",
        state="unrecognised", note=why,
    )  # fmt: skip
    async with open_store(load_settings(data_dir=data_dir)) as store, store.write() as c:
        await events.ingest(c, [odd])
        known = (await contacts.resolve(c, [contacts.Sighting(left.id, SHOP, who, _AT_MS)]))[left.id]
        begun = NewRun(
            "0198f7c0-0000-7000-8000-000000000001", RECIPE, 1, known, f"ev:{left.id}:", known or "", {}, _AT_MS
        )
        await runs.start(c, [begun], Lease("", 0, 0))
        reason = "the signature does not match any of the configured secrets"
        refused = deliveries.Refusal("shopify", "3f2a9c81d04b", reason, 29_460_060, 123_456, "[]")
        await deliveries.count_refusals(c, [refused])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("events list", ["checkout_abandoned", "wholesale", "quarantined", "2026-01-05", "09:00:00"]),
        ("runs list", ["abandoned-", "reminder-", "sleeping", "hub_event_received", "2026-01-05", "09:00:00"]),
        ("deliveries", ["customers_marketing_consent", "unrecognised", "2026-01-05", "09:00:00"]),
        ("deliveries --refused", ["signature", "configured", "3f2a9c81d04b", "2026-01-05 09:00:00"]),
        ("contacts list", ["alexandra", "vanderbilt", "wholesale", "+4915112345678", "Montgomery"]),
        ("connections list", [SHOP, NUMBER, "customers", "myshopify", "authorisation", "hub_event_received", "sandbox"]),
        ("apps list", ["our-own-application-for-wholesale", "shopify"]),
        ("recipes list", [RECIPE, "published"]),
        ("api-keys list", ["the-reporting-of-the-finance-team", "read"]),
        ("keys list", ["seals and opens"]),
        ("caps list", ["connection", "customer-", "1,250,000", "segments"]),
        ("pauses", ["reminder-", "department", "wording"]),
        ("plugins", ["checkout_abandoned", "create_discount", "send_sms"]),
        ("settings", ["HUB_KEEP_MESSAGES_DAYS", "environment"]),
    ],
)  # fmt: skip
def test_no_list_breaks_a_word_or_an_address_at_a_hundred_columns(full: Cli, command: str, words: list[str]) -> None:
    # when somebody looks at it
    shown = full(*command.split())
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    # then it fits, and what is long goes on in the next line between words
    assert max(map(len, lines)) <= 100, shown.stdout
    assert [word for word in words if not any(word in line for line in lines)] == [], shown.stdout
    # and what people copy is in one piece
    for row in full.json(*command.split()) if command in _WITH_IDS else []:
        assert any(row[_WITH_IDS[command]] in line for line in lines), shown.stdout


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (
            {"id": "event", "type": "type", "connection": "connection", "stage": "stage", "received_at": "came (UTC)"},
            ["0198f7c0-0000-7000-8000-000000000001", "shopify.checkout_updated", "my-shop", "routed", "2026-01-05 09:00:00"],
        ),
        (
            {"id": "delivery", "what": "what", "state": "state", "received_at": "came (UTC)"},
            [
                "0198f7c0-0000-7000-8000-000000000001",
                "shopify:checkouts/create",
                "unrecognised: no trigger takes this topic",
                "2026-01-05 09:00:00",
            ],
        ),
    ],
)  # fmt: skip
def test_names_with_dots_stay_whole_beside_an_id_and_times_are_broken_first(
    columns: dict[str, str], row: list[str]
) -> None:
    cells = {key: [cell] for key, cell in zip(columns, row, strict=True)}
    widths, breaks = layout(columns, cells, 100)
    assert sum(widths.values()) + GAP * (len(columns) - 1) <= 100
    for key in list(columns)[:2]:
        assert wrapped(cells[key][0], widths[key], breaks[key]) == cells[key]


def test_what_cannot_be_narrower_is_wider_than_the_terminal_and_not_cut_off() -> None:
    name = "a" * 150
    widths, breaks = layout({"name": "name", "note": "note"}, {"name": [name], "note": ["one two"]}, 100)
    assert widths == {"name": 150, "note": 4}
    assert wrapped("one two", widths["note"], breaks["note"]) == ["one", "two"]


def test_what_is_no_word_is_broken_anywhere() -> None:
    token = "x" * 500
    widths, breaks = layout({"field": "field", "value": "value"}, {"field": ["token"], "value": [token]}, 100)
    assert sum(widths.values()) + GAP == 100
    lines = wrapped(token, widths["value"], breaks["value"])
    assert "".join(lines) == token
    assert max(map(len, lines)) <= widths["value"]


def test_words_of_other_scripts_take_the_room_that_they_have_on_a_terminal() -> None:
    cells = {"name": ["ab"], "text": ["東京 東京 東京"]}
    widths, breaks = layout({"name": "n", "text": "t"}, cells, 2 + GAP + 9)
    assert widths["text"] == 9
    assert wrapped(cells["text"][0], 9, breaks["text"]) == ["東京 東京", "東京"]
