"""`hub recipes plan`: what publishing would do, told before it is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.plans import Kind, Plan, Planner, State
from hub.purposes import load_purposes
from tests.conftest import EXAMPLES, OF_SHOP_AND_PHONE, PURPOSES
from tests.integration.conftest import Cli

LIVE = """
recipe: cart
on: {event: acme.carted}
steps:
  - {do: acme.put_note, id: first, with: {key: a}}
  - {wait: 4h, id: pause}
  - {do: acme.send_text, as: text, purpose: cart, with: {to: "{{ contact.phone }}", body: Hi}}
  - if: {contact.tags: {contains: vip}}
    id: vip
    then: [{do: acme.put_note, id: noted, with: {key: b}}]
  - {stop: over, id: over}
"""
NEXT = """
recipe: cart
on: {event: acme.carted, where: {event.cart: exists}}
entry: {per: contact}
steps:
  - {wait: 5h, id: pause}
  - {do: acme.put_note, id: first, with: {key: a}}
  - if: {contact.tags: {contains: vip}}
    id: vip
    then:
      - {do: acme.put_note, id: noted, with: {key: b}}
      - {wait_for: {bought: {event: acme.purchased}}, timeout: never, id: patience}
  - {stop: over, id: over}
"""
ADA = {"email": "ada@example.com", "phone": "+14155550101"}


async def _plan(it: Any, *sources: str, purposes: str = "") -> Plan:
    planner = Planner(it.hub.store, it.hub.library, it.hub.connections, it.hub.plugins.catalogue)
    given = load_purposes(purposes) if purposes else {}
    return await planner.plan({f"{n}.yaml": source for n, source in enumerate(sources)}, given)


async def test_steps_are_compared_by_their_ids_with_the_runs_that_stand_on_them(
    running: Callable[..., Any], database_url: str
) -> None:
    async with running(database_url) as it:
        # given two runs that wait in the live version
        await it.publish(LIVE)
        for number in (1, 2):
            await it.deliver("carted", {"id": f"{number}", "cart": "c", **ADA})
        await it.advance(60_000)

        # when another text is planned
        [plan] = (await _plan(it, NEXT)).recipes

        # then each step says what becomes of it, and who stands there
        assert (plan.state, plan.version, dict(plan.inside)) == (State.CHANGED, 1, {1: 2})
        assert [(one.id, one.change, one.inside) for one in plan.steps] == [
            ("pause", Kind.CHANGED, 2),
            ("patience", Kind.NEW, 0),
            ("text", Kind.REMOVED, 0),
        ]
        assert (plan.steps[0].before, plan.steps[0].after, list(plan.steps[0].fields)) == (
            "wait 4h",
            "wait 5h",
            ["wait", "place"],
        )
        assert list(plan.fields) == ["on", "entry"]
        assert [(one.step, one.action, one.connection) for one in plan.bindings] == [
            ("first", "acme.put_note", "acme"),
            ("noted", "acme.put_note", "acme"),
        ]

        # and nothing was changed
        assert [(row["name"], row["version"], row["draft"]) for row in await it.hub.library.listed()] == [
            ("cart", 1, False)
        ]


async def test_a_step_that_only_stands_elsewhere_is_moved(running: Callable[..., Any], sqlite_url: str) -> None:
    inside = "    then: [{do: acme.put_note, id: noted, with: {key: b}}]\n"
    out = LIVE.replace(inside, "    then: [{wait: 1h, id: more}]\n  - {do: acme.put_note, id: noted, with: {key: b}}\n")
    async with running(sqlite_url, work=False) as it:
        await it.publish(LIVE)
        [plan] = (await _plan(it, out)).recipes
    assert [(one.id, one.change) for one in plan.steps] == [("more", Kind.NEW), ("noted", Kind.MOVED)]


async def test_the_same_text_is_unchanged_and_a_paused_one_would_go_on(
    running: Callable[..., Any], sqlite_url: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        await it.publish(LIVE)
        [same] = (await _plan(it, LIVE)).recipes
        await it.hub.library.pause("cart")
        [paused] = (await _plan(it, LIVE)).recipes
    assert (same.state, list(same.steps), list(same.fields)) == (State.UNCHANGED, [], [])
    assert (paused.state, list(paused.steps)) == (State.RESUMED, [])


async def test_what_is_worth_a_word_is_said(running: Callable[..., Any], sqlite_url: str) -> None:
    destructive = """
recipe: goodbye
on: {event: acme.carted}
steps:
  - {do: acme.send_text, as: told, purpose: cart, with: {to: "{{ contact.phone }}", body: Bye}}
  - {wait: 1d}
  - {do: acme.remove_note, id: gone, with: {key: a}}
  - {do: acme.remove_note, id: safe, require_sent: told, with: {key: a}}
  - {do: acme.send_text, id: late, purpose: cart, with: {to: "{{ contact.phone }}", body: Late}}
  - {do: acme.send_text, id: soon, purpose: cart, valid_for: 1h, with: {to: "{{ contact.phone }}", body: Soon}}
"""
    async with running(sqlite_url, work=False) as it:
        # given an action that takes something away, and a vendor that rests
        acme = it.hub.plugins.catalogue.connectors["acme"]
        acme.actions["remove_note"] = acme.actions["put_note"]
        try:
            [gone] = (await _plan(it, destructive)).recipes
        finally:
            del acme.actions["remove_note"]
        connection = await it.hub.connections.by_name("acme")
        await it.hub.connections.unhealthy(connection, "the token was refused")
        [waits] = (await _plan(it, NEXT)).recipes
    assert [warning.partition(" ")[0] for warning in gone.warnings] == ["gone", "late", "there"]
    assert "require_sent" in gone.warnings[0]
    assert any(warning.startswith("patience waits for ever") for warning in waits.warnings)
    assert any("the connection acme is" in warning and "the token was refused" in warning for warning in waits.warnings)


async def test_the_first_calls_stand_with_the_waits_before_them(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        [plan] = (await _plan(it, LIVE)).recipes
    assert [(call.step, list(call.after), dict(call.input)) for call in plan.calls] == [
        ("first", [], {"key": "a"}),
        ("text", ["wait 4h"], {"to": "{{ contact.phone }}", "body": "Hi"}),
        ("noted", ["wait 4h"], {"key": "b"}),
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (LIVE.replace("purpose: cart", "purpose: crat"), "did you mean cart?"),
        (LIVE.replace("acme.carted", "acme.cartet"), "did you mean acme.carted?"),
        (LIVE.replace("recipe: cart", "recipe: cart\nconnections: {acme: acne}"), "did you mean acme?"),
    ],
)
async def test_what_publishing_would_refuse_is_refused_with_its_place(
    running: Callable[..., Any], sqlite_url: str, source: str, said: str
) -> None:
    async with running(sqlite_url, work=False) as it:
        plan = await _plan(it, source)
    assert plan.refused
    assert said in str(plan.recipes[0].errors[0])
    assert "0.yaml" in str(plan.recipes[0].errors[0])


async def test_two_recipes_of_one_name_are_refused(running: Callable[..., Any], sqlite_url: str) -> None:
    async with running(sqlite_url, work=False) as it:
        plan = await _plan(it, LIVE, NEXT)
    assert [one.state for one in plan.recipes] == [State.NEW, State.REFUSED]


async def test_purposes_that_come_with_the_files_count(running: Callable[..., Any], sqlite_url: str) -> None:
    more = PURPOSES.replace("orders: {channel: sms, class: transactional}", "orders: {channel: sms, class: marketing}")
    async with running(sqlite_url, work=False) as it:
        plan = await _plan(
            it, LIVE.replace("purpose: cart", "purpose: news"), purposes=f"{more}\nnews: {{class: marketing}}"
        )
    assert not plan.refused
    assert dict(plan.purposes) == {"orders": "changed", "news": "new"}


# -- the command -------------------------------------------------------------------------------------------------------

_FILES = list(map(str, OF_SHOP_AND_PHONE))


@pytest.fixture
def shop(cli: Cli) -> Cli:
    """The command line of a hub with a shop and a phone number, both sandboxes."""
    for connector, name, field in (
        ("shopify", "shop", "shop=my-shop.myshopify.com"),
        ("twilio", "phone", f"account_sid=AC{'0' * 32}"),
    ):
        assert cli("connections", "add", connector, name, "--set", field, "--sandbox").exit_code == 0
    return cli


def test_a_folder_is_planned_and_nothing_is_saved(shop: Cli) -> None:
    # when it is planned
    result = shop("recipes", "plan", *_FILES)

    # then it says so in words and as data, with warnings or without, and nothing was saved
    assert result.exit_code == 0, result.output
    assert "abandoned-cart-sms: new, would be version 1" in result.stdout
    assert "reminder: sms.send (twilio.send_sms) over phone" in result.stdout
    assert "purpose welcome: new" in result.stdout
    told = shop.json("recipes", "plan", *_FILES)
    assert told["refused"] is False
    assert [one["state"] for one in told["recipes"]] == ["new"] * 3
    assert shop.json("recipes", "list") == []


def test_recipes_of_tools_that_are_not_connected_are_refused_with_what_to_connect(shop: Cli) -> None:
    result = shop("recipes", "plan", str(EXAMPLES))

    assert result.exit_code == 1
    for tool in ("facebook_ads", "hubspot", "mailchimp", "mandrill"):
        assert f"has no connection; add one with hub connections add {tool}" in result.stderr


def test_warnings_alone_are_no_reason_and_a_refusal_is(shop: Cli, tmp_path: Path) -> None:
    # given a recipe that is worth a warning
    file = tmp_path / "odd.yaml"
    file.write_text(
        "recipe: odd\non: {event: shopify.order_paid}\nsteps:\n"
        "  - {wait_for: {answered: {event: sms.received}}, timeout: never, id: waits}\n"
    )
    result = shop("recipes", "plan", str(file))
    assert result.exit_code == 0
    assert "warning: waits waits for ever" in result.stdout

    # when it is wrong
    file.write_text(file.read_text().replace("sms.received", "sms.recieved"))
    result = shop("recipes", "plan", str(file))

    # then the place is told and the exit code says so
    assert result.exit_code == 1
    assert f"{file}:4: " in result.stderr
    told = json.loads(shop("recipes", "plan", str(file), "--json").stdout)
    assert told["refused"] is True
    assert told["recipes"][0]["errors"][0]["line"] == 4


def test_a_message_without_a_sender_is_warned_of_before_it_fails(shop: Cli, tmp_path: Path) -> None:
    # given an e-mail and a text, one with a sender of its own, and connections that have none
    assert shop("connections", "add", "mandrill", "post", "--set", "account=main", "--sandbox").exit_code == 0
    file = tmp_path / "hello.yaml"
    (tmp_path / "purposes.yaml").write_text(
        "letters: {channel: email, class: transactional}\ntexts: {channel: sms, class: transactional}\n"
    )
    to = 'to: "{{ contact.email }}", subject: Hi, text: Hi'
    file.write_text(
        "recipe: hello\non: {event: shopify.order_paid}\nentry: {per: contact}\nsteps:\n"
        f"  - {{do: mandrill.send_email, purpose: letters, id: mail, with: {{{to}}}}}\n"
        f"  - {{do: mandrill.send_email, purpose: letters, id: own, with: {{{to}, from_email: a@example.com}}}}\n"
        '  - {do: twilio.send_sms, purpose: texts, id: text, with: {to: "{{ contact.phone }}", body: Hi}}\n'
    )

    # when it is planned, then both are told with what to do
    result = shop("recipes", "plan", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert (
        "warning: mail says no sender, and neither does the connection post, so it would fail: write from_email in the "
        "step, or `hub connections set post from_email=…`\n"
    ) in result.stdout
    assert (
        "warning: text says no sender, and neither does the connection phone, so it would fail: write from_number or "
        "messaging_service_sid in the step, or `hub connections set phone from_number=…`\n"
    ) in result.stdout
    assert "own says no sender" not in result.stdout

    # and when the connections say it, nothing is left to tell
    assert shop("connections", "set", "post", "from_email=shop@example.com").exit_code == 0
    assert shop("connections", "set", "phone", "from_number=+14155550199").exit_code == 0
    assert shop.json("recipes", "plan", str(tmp_path))["recipes"][0]["warnings"] == []


def test_changes_are_told_line_by_line(shop: Cli, tmp_path: Path) -> None:
    assert shop("recipes", "apply", *_FILES, "--publish").exit_code == 0
    file = tmp_path / "abandoned-cart-sms.yaml"
    source = (EXAMPLES / "abandoned-cart-sms.yaml").read_text()
    file.write_text(source.replace("wait: 4h", "wait: 5h").replace("  - stop: offered\n", ""))
    result = shop("recipes", "plan", str(file))
    assert "abandoned-cart-sms: changed, would be version 2" in result.stdout
    assert "~ changed wait-1: wait 5h (wait), was: wait 4h" in result.stdout
    assert "- removed stop-6: stop: offered" in result.stdout
    assert "unchanged, stays version 1" in shop("recipes", "plan", *_FILES).stdout
