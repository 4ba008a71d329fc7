"""What every connector must keep to, proved against its sandbox. So far: the effect class of each action.

A whole hub runs in memory; a recipe of one step calls the action; the connection breaks off around the effect.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic import BaseModel

from hub.clock import Clock, parse_duration_ms
from hub.connector import Connector, Delivery, Effect, Field, Hmac, StaticToken, sandbox_secret
from hub.events import Json
from hub.hookspecs import RegisterConnector, hookimpl
from hub.plugins import load_plugins
from hub.process import Hub, open_hub, sandboxes, working
from hub.rehearsal import rehearsal_settings
from hub.store import views
from hub.testing.sandbox import Sandbox

Loss = Literal["answer", "request"]

_NOBODY = "http://127.0.0.1:9"
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
    prepare: Callable[[Sandbox], Awaitable[object] | object] | None = None,
    extra: Sequence[object] = (),
    losses: Sequence[Loss] = ("answer", "request"),
) -> None:
    """Prove that an action's effect class is what it declares. Raises AssertionError with a sentence.

    `input` is what a recipe's `with` would hold, `settings` the connection's fields that are not secret; `prepare` gets the
    sandbox before anything is called. `extra` are plugins that are not installed, such as the one under test. The class is
    proved twice: the answer is lost after the effect, and the request is lost before it.
    """
    for lost in losses:
        await _prove(connector, action, input, settings, prepare, extra, lost)


async def _prove(
    connector: Connector,
    action: str,
    input: Mapping[str, Json],
    settings: Mapping[str, str],
    prepare: Callable[[Sandbox], Awaitable[object] | object] | None,
    extra: Sequence[object],
    lost: Loss,
) -> None:
    effect = connector.actions[action].effect
    async with _hub(connector, settings, extra) as (hub, sandbox):
        waiting = prepare(sandbox) if prepare else None
        if isinstance(waiting, Awaitable):
            await waiting
        before = len(sandbox.log)
        setattr(sandbox, f"drop_{lost}s", 1)
        await _call(hub, connector, action, input)
        assert not getattr(sandbox, f"drop_{lost}s"), f"{connector.name}.{action} made no call that could be cut off"
        done = [(entry.operation, entry.account, dict(entry.data)) for entry in sandbox.log[before:]]
        async with hub.store.read() as c:
            [run] = await views.list_runs(c)
            [recorded] = (await views.show_run(c, run["id"]))["effects"]
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
        assert done, f"{when} it must have happened in the end"
        assert all(one == done[0] for one in done), f"{when} a repeat must say the very same, not {done}"
        return
    assert len(done) == 1, f"{when} it must happen once, and happened {len(done)} times: {done}"


async def _call(hub: Hub, connector: Connector, action: str, input: Mapping[str, Json]) -> None:
    """One run of a recipe with this one step, to its end."""
    step: dict[str, Json] = {"do": f"{connector.name}.{action}", "with": dict(input), "on_unknown": "continue"}
    message = connector.actions[action].message
    if message is not None:
        await hub.library.apply_purposes(f"contract: {{channel: {message.channel}, class: transactional}}")
        step["purpose"] = "contract"
    await hub.library.apply(_RECIPE.format(step=json.dumps(step)), publish=True)
    connection = await hub.connections.by_name("contract")
    body = b'{"id": "1"}'
    assert isinstance(_contract.webhook, Hmac), "it is declared below"
    headers = {"x-signature": _contract.webhook.sign(body, sandbox_secret("contract", "contract", "webhook_secret"))}
    await hub.ingest.receive("contract", connection.inbound_key, method="POST", query="", headers=headers, body=body)
    await hub.time.advance(hub.clock.now_ms() + _FOUND_OUT_MS, ring=hub.ring)


@asynccontextmanager
async def _hub(
    connector: Connector, settings: Mapping[str, str], extra: Sequence[object]
) -> AsyncIterator[tuple[Hub, Sandbox]]:
    """A hub at work in memory, with one sandbox connection of the connector."""
    plugins, clock = load_plugins(extra=[_Starter(), *extra]), Clock()
    async with sandboxes(plugins, clock, host="127.0.0.1", port=0) as server:
        assert connector.name in server.sandboxes, f"{connector.name} declares no sandbox"
        led = rehearsal_settings().model_copy(update={"sandbox_url": server.url, "public_url": _NOBODY})
        async with open_hub(led, plugins=plugins, clock=clock) as hub, working(hub):
            await hub.connections.add("contract", "contract", {}, sandbox=True)
            await hub.connections.add(connector.name, connector.name, dict(settings), sandbox=True)
            async with hub.store.write() as c:
                # A poll is a stop for a clock that jumps, and a call that could be cut off in the action's place.
                await c.run("delete from work where kind = 'poll'")
            yield hub, server.sandboxes[connector.name]


# -- what the recipe starts by -----------------------------------------------------------------------------------------


class _Begun(BaseModel):
    id: str


_contract = Connector(
    name="contract",
    title="What the contract's recipes start by",
    hosts=["contract.invalid"],
    base_url=lambda fields: "https://contract.invalid",
    account=lambda fields: "contract",
    auth=[StaticToken(headers=lambda fields: {})],
    fields=[Field(name="webhook_secret", title="Webhook secret", secret=True)],
    webhook=Hmac(header="X-Signature", encoding="hex"),
)


@_contract.trigger("begun", payload=_Begun, fact=lambda begun: begun.id, topic="")
def _begun(delivery: Delivery) -> list[_Begun]:
    """A run is wanted."""
    return [_Begun.model_validate(delivery.json())]


class _Starter:
    """The plugin that brings it."""

    @hookimpl
    def hub_register_connectors(self, register: RegisterConnector) -> None:
        register(_contract)
