"""Proves the effect class of an action: the connection breaks off around the effect, the sandbox's log is the judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hub import shown
from hub.clock import parse_duration_ms
from hub.connector import Connector, Effect, sandbox_secret
from hub.events import Json
from hub.process import Hub
from hub.store import views
from hub.testing.contract.stage import Prepare, hub_of, webhook

Loss = Literal["answer", "request"]

# Longer than any class needs to find out what became of a call, shorter than what a vendor forgets.
_FOUND_OUT_MS = parse_duration_ms("1h")
_RECIPE = """
recipe: contract
on: {{event: contract.begun}}
steps:
  - {step}
"""


async def prove_effect_class(
    connector: Connector,
    action: str,
    input: Mapping[str, Json],
    *,
    settings: Mapping[str, str],
    prepare: Prepare | None = None,
    extra: Sequence[object] = (),
    losses: Sequence[Loss] = ("answer", "request"),
) -> None:
    """Prove that an action's effect class is what it declares. Raises AssertionError with a sentence.

    `input` is what a recipe's `with` would hold, `settings` the connection's fields that are not secret; `prepare` gets the
    sandbox before anything is called. `extra` are further plugins that are not installed. The class is proved twice: the
    answer is lost after the effect, and the request is lost before it.
    """
    for lost in losses:
        await _prove(connector, action, input, settings, prepare, extra, lost)


async def _prove(
    connector: Connector,
    action: str,
    input: Mapping[str, Json],
    settings: Mapping[str, str],
    prepare: Prepare | None,
    extra: Sequence[object],
    lost: Loss,
) -> None:
    effect = connector.actions[action].effect
    async with hub_of(connector, settings, extra, prepare=prepare, work=True) as (hub, sandbox):
        before = len(sandbox.log)
        setattr(sandbox, f"drop_{lost}s", 1)
        recorded = await play(hub, connector, action, input)
        left = getattr(sandbox, f"drop_{lost}s")
        done = [(entry.operation, entry.account, dict(entry.data)) for entry in sandbox.log[before:]]
    if left and effect is Effect.IDEMPOTENT and not done and recorded["state"] == "done":
        return  # it only reads
    assert not left, f"{connector.name}.{action} made no call that could be cut off"
    _judge(f"{connector.name}.{action}", effect, lost, done, recorded["state"], recorded["reason"] or "")


def _judge(name: str, effect: Effect, lost: Loss, done: list[Any], state: str, reason: str) -> None:
    """Compare what the vendor did with what the class promises."""
    when = f"{name} is {effect.value.replace('_', ' ')}; when the {lost} is lost"
    if effect is Effect.AT_MOST_ONCE:
        assert state == "unknown", f"{when} it must end unknown, and is {state}: {reason}"
        assert len(done) == (lost == "answer"), f"{when} it must not be called again, and happened {len(done)} times"
        return
    assert state == "done", f"{when} it must be done in the end, and is {state}: {reason}"
    if effect is Effect.IDEMPOTENT:
        assert done, f"{when} it must have happened in the end, and the sandbox's log is empty: let it `record` it"
        assert all(one == done[0] for one in done), f"{when} a repeat must say the very same, not {done}"
        return
    assert len(done) == 1, f"{when} it must happen once, and happened {len(done)} times: {done}"


async def play(hub: Hub, connector: Connector, action: str, input: Mapping[str, Json]) -> shown.Effect:
    """One run of a recipe with this one step, to its end an hour later at most; returns what is recorded of its effect."""
    step: dict[str, Json] = {"do": f"{connector.name}.{action}", "with": dict(input), "on_unknown": "continue"}
    message = connector.actions[action].message
    if message is not None:
        await hub.library.apply_purposes(f"contract: {{channel: {message.channel}, class: transactional}}")
        step["purpose"] = "contract"
    await hub.library.apply(_RECIPE.format(step=json.dumps(step)), publish=True)
    connection = await hub.connections.by_name("contract")
    body = b'{"id": "1"}'
    headers = webhook.headers(body, sandbox_secret("contract", "contract", "webhook_secret"))
    await hub.ingest.receive("contract", connection.inbound_key, method="POST", query="", headers=headers, body=body)
    await hub.time.advance(hub.clock.now_ms() + _FOUND_OUT_MS, ring=hub.ring)
    async with hub.store.read() as c:
        [run] = await views.list_runs(c)
        [recorded] = (await views.show_run(c, run["id"]))["effects"]
    return recorded
