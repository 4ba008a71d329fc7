"""Recipes in people's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hub.conditions.words import in_words
from hub.outline import Line, outline
from hub.plugins import load_plugins
from hub.recipes import load
from hub.steps import KINDS

EVERYTHING = """
recipe: everything
journey: carts
on: {any_of: [shopify.order_created, {event: shopify.order_paid, from: [shop-tr, shop-de], where: {event.total: {gte: "50.00 EUR"}}}]}
entry: {per: contact, at_most: 3, within: 30d, while_inside: restart}
exit_on:
  - {event: shopify.order_paid, where: {event.total: {gt: "1.00 EUR"}}, then: [{set: {contact.tags: {add: buyer}}}]}
connections: {shopify: shop-tr}
on_end:
  - {do: shopify.tag_customer, with: {customer_id: "{{ trigger.customer_id }}", tags: [seen]}, on_error: continue}
steps:
  - choose:
      - {if: {contact.language: tr}, then: [{wait: {until: "2027-01-01", offset: -3d, if_past: stop}}]}
      - {else: [{wait: {time: "09:00", weekday: [mon], zone: contact}}]}
  - {do: twilio.send_sms, as: sms, purpose: cart, valid_for: 12h, on_unknown: ask, with: {to: "{{ contact.phone }}", body: Hi}, on_error: [{stop: unlucky}]}
  - wait_for: {failed: {event: sms.failed, match: {event.message_id: "{{ steps.sms.message_id }}"}}}
    timeout: 2d
    failed: [{wait: 1h}]
  - wait_for: {answered: {event: sms.received}}
    timeout: never
  - {do: shopify.tag_customer, require_sent: sms, with: {customer_id: "{{ trigger.customer_id }}", tags: [told]}}
  - if: {contact.phone: exists}
    then: [{wait: exit}]
    else: [{stop: other}]
"""


def _lines(line: Line, depth: int = 0) -> Iterator[str]:
    yield "  " * depth + line.text
    for one in line.under:
        yield from _lines(one, depth + 1)


def test_every_kind_of_step_and_every_option_is_said() -> None:
    # when a recipe with all of them is told
    recipe = load(EVERYTHING, load_plugins().catalogue)
    told = list(_lines(outline(recipe)))

    # then each is there, in its place
    text = "\n".join(told)
    for said in (
        "everything (journey carts)",
        "    when shopify.order_paid comes from shop-tr or shop-de, where event.total is at least 50.00 EUR",
        "    at most 3 times in 30d per contact; a new entry ends the run that is going on",
        "    when shopify.order_paid comes, where event.total is above 1.00 EUR\n      set",
        "    choose the first that fits\n      if contact.language is tr\n        wait until 3d before 2027-01-01",
        "      else\n        wait until 09:00 on mon in the contact's zone",
        "    do twilio.send_sms for cart",
        "      not sent when later than 12h",
        "      if nobody can know, somebody is asked",
        "      if it fails\n        stop: unlucky",
        "    wait up to 2d for failed\n      failed: when sms.failed comes, where event.message_id is {{ steps.sms.message_id }}",
        "      nothing in time: goes on",
        "    wait for ever for answered",
        "      only if sms was sent",
        "    if contact.phone is known\n      then\n        wait for what ends it early\n      else\n        stop: other",
        "  at the end, however it ended\n    do shopify.tag_customer",
        "      if it fails, the run goes on",
        "    shopify: shop-tr",
    ):
        assert said in text, text
    assert {kind for kind in KINDS if kind in EVERYTHING} == set(KINDS)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"trigger.total": {"gte": "50.00 EUR"}}, "trigger.total is at least 50.00 EUR"),
        (
            {"contact.tags": {"contains": "vip"}, "contact.language": "en"},
            "contact.tags contains vip and contact.language is en",
        ),
        ({"any": [{"a": "exists"}, {"b": "unknown"}]}, "(a is known or b is not known)"),
        ({"all": [{"a": 1}, {"not": {"b": {"in": [1, 2]}}}]}, "(a is 1 and not (b is one of 1, 2))"),
        (
            {"any_item": {"in": "trigger.items", "title": {"starts_with": "TV"}}},
            "one of trigger.items has: title starts with TV",
        ),
        ({"contact.phone": {"exists": False}}, "contact.phone is not known"),
    ],
)
def test_conditions_are_said(condition: Any, words: str) -> None:
    assert in_words(condition) == words
