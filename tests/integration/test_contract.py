"""The contract of every connector, on the made-up vendor; and that it finds out who does not keep it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hub import Effect
from hub.testing.contract import prove_effect_class
from tests import acme as plugin
from tests.acme import acme

NOTE = {"key": "a", "text": "b"}
INPUTS: dict[str, dict[str, Any]] = {
    "send_text": {"to": "+14155550100", "body": "Hello"},
    "put_note": NOTE,
    "add_keyed": NOTE,
    "charge": NOTE,
    "add_members": {"audience": "vip", "email": "jane@example.com"},
}


async def _prove(action: str) -> None:
    await prove_effect_class(acme, action, INPUTS[action], settings={"account": "main"}, extra=[plugin])


@pytest.mark.parametrize("action", acme.actions)
async def test_an_action_s_effect_class_holds(action: str) -> None:
    await _prove(action)


def test_an_action_that_declares_none_is_at_most_once() -> None:
    assert acme.actions["charge"].effect is Effect.AT_MOST_ONCE


async def _found_always(ctx: object, input: object) -> plugin.Sent:
    return plugin.Sent(message_id="somebody else's")


async def _found_never(ctx: object, input: object) -> None:
    return None


@pytest.mark.parametrize(
    ("action", "declared", "said"),
    [
        ("charge", {"effect": Effect.KEYED}, "it must happen once, and happened 2 times"),
        ("send_text", {"lookup_": _found_never}, "it must happen once, and happened 2 times"),
        ("send_text", {"lookup_": _found_always}, "it must happen once, and happened 0 times"),
    ],
)
async def test_a_class_that_does_not_hold_is_found_out(
    monkeypatch: pytest.MonkeyPatch, action: str, declared: dict[str, Any], said: str
) -> None:
    monkeypatch.setitem(acme.actions, action, replace(acme.actions[action], **declared))
    with pytest.raises(AssertionError, match=said):
        await _prove(action)
