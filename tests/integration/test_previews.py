"""Previews: what a real person would read, and whether they may; nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from hub.connector import Trigger
from hub.errors import ConfigError
from hub.plugins import Plugins, load_plugins
from hub.previews import Preview, Previewer
from hub.samples import PERSON, sample
from hub.store import views
from tests.conftest import EXAMPLES, OF_SHOP_AND_PHONE
from tests.integration.conftest import Cli

ADA = {"email": "ada@example.com", "phone": "+14155550101", "first_name": "Ada", "sms_ok": True}
BOB = {"email": "bob@example.com", "first_name": "Bob"}
RECIPE = """
recipe: cart
on: {event: acme.carted, where: {event.total: {gte: "50.00 EUR"}}}
vars: {shop: Acme}
steps:
  - {do: acme.send_text, as: first, purpose: cart, with: {to: "{{ contact.phone }}", body: "Hi {{ contact.first_name }}, {{ trigger.cart }} waits at {{ vars.shop }}"}}
  - {wait: 1d}
  - {do: acme.add_keyed, as: coupon, with: {key: "{{ trigger.id }}", text: "{{ steps.first.outcome }}"}}
  - {do: acme.send_text, as: last, purpose: cart, with: {to: "{{ contact.phone }}", body: "{{ steps.coupon.key | upcase }}: {{ contact.first_name }}"}}
  - {do: acme.send_text, as: thanks, purpose: answers, confirms: coupon, with: {to: "{{ trigger.phone }}", body: Done}}
"""


async def _preview(it: Any, source: str = RECIPE, **how: Any) -> Preview:
    hub = it.hub
    previewer = Previewer(hub.store, hub.connections, hub.plugins.catalogue, hub.clock)
    return await previewer.preview(source, await hub.library.purposes(), **{"contact": "ada@example.com", **how})


async def _people(it: Any) -> None:
    await it.deliver("signed_up", {"id": "1", **ADA})
    await it.deliver("signed_up", {"id": "2", **BOB})
    await it.rest()


async def test_texts_are_rendered_for_a_person_with_consent_and_address(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given somebody who agreed
        await _people(it)

        # when a recipe is previewed without an event
        found = await _preview(it)

        # then the first message stands there as it would be, with made-up trigger data
        first, coupon, last, thanks = found.steps
        assert (found.recipe, found.trigger, found.event, found.notes) == ("cart", "acme.carted", None, [])
        assert dict(first.input) == {"to": "+14155550101", "body": "Hi Ada, cart-1 waits at Acme"}
        assert first.message is not None
        assert (first.message.to, first.message.purpose, first.message.allowed) == ("+14155550101", "cart", True)
        assert first.message.reason == "consent given"

        # and what comes from steps that have not run is shown as such
        assert (coupon.input["text"], coupon.open, coupon.message) == ("[steps.first.outcome]", ["text"], None)
        assert (last.input["body"], last.open) == ("[STEPS.COUPON.KEY]: Ada", ["body"])
        assert last.message is not None
        assert last.message.allowed is True
        assert thanks.message is not None
        assert thanks.message.reason == "service needs no consent, if coupon was done"

        # and nothing was sent
        assert it.sandbox.texts == []
        async with it.hub.store.read() as c:
            assert await c.all("select * from effect") == []
            assert await c.all("select * from message") == []


async def test_the_ledger_decides_as_it_would_at_the_gate(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        await _people(it)
        await it.deliver("signed_up", {"id": "3", **ADA, "sms_ok": False, "stop": True})
        await it.rest()
        found = await _preview(it, step="first")
        assert found.steps[0].message is not None
        assert (found.steps[0].message.allowed, found.steps[0].message.reason) == (False, "suppressed: stop")

        # A person without a phone has no address for a text; what would fail is said.
        found = await _preview(it, contact="bob@example.com", step="first")
        assert found.steps[0].message is not None
        assert (found.steps[0].message.allowed, found.steps[0].message.to) == (False, None)
        assert found.steps[0].problems


async def test_a_stored_event_is_the_trigger(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url) as it:
        # given a cheap cart of Bob's
        await _people(it)
        await it.deliver(
            "carted", {"id": "9", "cart": "blue", **BOB, "total": {"amount_minor": 100, "currency": "EUR"}}
        )
        await it.rest()
        async with it.hub.store.read() as c:
            [event] = await views.list_events(c, type_="acme.carted")
            other = (await views.list_events(c, type_="acme.signed_up"))[0]

        # when Ada's texts are previewed with it
        found = await _preview(it, event=event["id"])

        # then its data are used, and what is odd is said
        assert found.steps[0].input["body"] == "Hi Ada, blue waits at Acme"
        assert found.notes[0] == "the event is about somebody else than the contact"
        assert "would not start the recipe: event.total 1.00 EUR is below 50.00 EUR" in found.notes[1]
        with pytest.raises(ConfigError, match=r"is a acme\.signed_up; this recipe starts by acme\.carted"):
            await _preview(it, event=other["id"])


async def test_a_misspelt_contact_event_or_step_is_answered_with_the_nearest(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        await _people(it)
        async with it.hub.store.read() as c:
            event = (await views.list_events(c))[0]["id"]
        for how, said in (
            ({"contact": "ada@exmaple.com"}, "nobody is known by this"),
            ({"event": f"{event[:-1]}x"}, rf"did you mean {event}\?"),
            ({"step": "frist"}, r"did you mean first\?"),
            ({"step": "wait-1"}, "calls nothing"),
        ):
            with pytest.raises(ConfigError, match=said):
                await _preview(it, **how)


# -- made-up events ----------------------------------------------------------------------------------------------------


def _triggers(plugins: Plugins) -> list[Trigger[Any]]:
    return list(plugins.catalogue.triggers().values())


@pytest.mark.parametrize("trigger", _triggers(load_plugins()), ids=lambda trigger: trigger.type)
def test_a_made_up_event_of_every_trigger_fits(trigger: Trigger[Any]) -> None:
    event = trigger.event(trigger.payload.model_validate(sample(trigger, 1_767_603_600_000)), 0)
    assert event.subject is None or event.subject.keys("here")
    # What it says about consent, as one of joining or of a bounce must, is of the made-up person alone.
    assert {signal.address for signal in event.consents} <= {PERSON["email"], PERSON["phone"]}


def test_a_made_up_event_is_about_the_person(acme_plugins: Plugins) -> None:
    trigger = acme_plugins.catalogue.triggers()["acme.carted"]
    made = sample(trigger, 0, {"email": "eda@example.com", "phone": None, "first_name": "Eda"})
    assert (made["email"], made["phone"], made["first_name"], made["cart"]) == (
        "eda@example.com",
        None,
        "Eda",
        "cart-1",
    )
    assert made["total"] == {"amount_minor": 7200, "currency": "EUR"}


class _Strict(BaseModel):
    code: str

    def model_post_init(self, _: object) -> None:
        raise ValueError("never right")


def test_what_cannot_be_made_up_is_said(acme_plugins: Plugins) -> None:
    trigger = Trigger(connector="acme", name="odd", title="", payload=_Strict, fact=lambda p: p.code)
    with pytest.raises(ConfigError, match=r"no event of acme\.odd can be made up.*--event"):
        sample(trigger, 0)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_shows_each_message(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a hub that knows Ada
    for connector, field in (("shopify", "shop=my-shop.myshopify.com"), ("twilio", f"account_sid=AC{'0' * 32}")):
        assert cli("connections", "add", connector, f"my-{connector}", "--set", field, "--sandbox").exit_code == 0
    assert cli("recipes", "apply", *map(str, OF_SHOP_AND_PHONE)).exit_code == 0
    _know_ada(cli)

    # when a recipe is previewed by name, and by file
    shown = cli("recipes", "preview", "abandoned-cart-sms", "--contact", "ada@example.com")
    told = cli.json(
        "recipes",
        "preview",
        str(EXAMPLES / "abandoned-cart-sms.yaml"),
        "--contact",
        "+14155550101",
        "--step",
        "reminder",
    )

    # then it is there, in words and as data
    assert shown.exit_code == 0, shown.output
    assert "reminder: sms.send (twilio.send_sms) over my-twilio" in shown.stdout
    assert "  sms to +14155550101 for cart: would not be sent, no_consent" in shown.stdout
    assert "  body: Hi Ada, your cart is still here: https://example.com/recovery" in shown.stdout
    assert "with the code [steps.coupon.code]" in shown.stdout
    assert "open until earlier steps have run: body" in shown.stdout
    assert [step["step"] for step in told["steps"]] == ["reminder"]
    assert told["steps"][0]["message"]["reason"] == "no_consent"

    # and a misspelt contact ends with the code for what is not there
    wrong = cli("recipes", "preview", "abandoned-cart-sms", "--contact", "ada@example.cmo")
    assert wrong.exit_code == 3
    assert "nobody is known by this" in wrong.stderr
    assert "ada@example.com" not in wrong.stderr


def _know_ada(cli: Cli) -> None:
    """Put somebody into the hub's database, as an event would."""
    import sqlite3

    with sqlite3.connect(cli.data_dir / "hub.db") as database:
        database.execute(
            "insert into contact (id, tags, attributes, created_at, first_name) values ('ada', '[]', '{}', 0, 'Ada')"
        )
        database.executemany(
            "insert into identity (kind, value, contact_id, added_at) values (?, ?, 'ada', 0)",
            [("email", "ada@example.com"), ("phone", "+14155550101")],
        )
    database.close()
