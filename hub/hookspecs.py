"""Every hook a plugin may implement. A plugin is a module named by an entry point in group `hub`.

Implement with `@hookimpl`, keyword arguments only; take just the ones you need. Names and arguments are checked when the
hub starts: a misspelt hook or argument stops it with the plugin's name. Each plugin runs in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import pluggy

from hub.connector import Action, Connector, Trigger
from hub.events import Event, Json

hookspec = pluggy.HookspecMarker("hub")
hookimpl = pluggy.HookimplMarker("hub")


class RegisterConnector(Protocol):
    """What `hub_register_connectors` is given: call it for each connector."""

    def __call__(self, connector: Connector) -> None: ...


class RegisterTrigger(Protocol):
    """What `hub_register_triggers` is given: call it for each trigger."""

    def __call__(self, trigger: Trigger[Any], *, connector: str) -> None: ...


class RegisterAction(Protocol):
    """What `hub_register_actions` is given: call it for each action."""

    def __call__(self, action: Action[Any, Any], *, connector: str) -> None: ...


@hookspec
def hub_register_connectors(register: RegisterConnector) -> None:
    """Add connectors. Called once, first, when any process of the hub starts.

    Call `register(connector)` for each; its triggers and actions come with it. A name that is taken is an error that
    names both plugins. If it raises, takes longer than 10 s or registers more than 1,000 things, the start stops with the
    plugin's name. Return nothing.
    """


@hookspec
def hub_register_triggers(register: RegisterTrigger) -> None:
    """Add triggers to somebody else's connector. Called once at start, after all connectors are known.

    Call `register(trigger, connector="shopify")`. An unknown connector or a taken name is an error that names the plugin.
    If it raises, takes longer than 10 s or registers more than 1,000 things, the start stops with the plugin's name. Return
    nothing.
    """


@hookspec
def hub_register_actions(register: RegisterAction) -> None:
    """Add actions to somebody else's connector. Called once at start, after all connectors are known.

    Call `register(action, connector="shopify")`. An unknown connector or a taken name is an error that names the plugin.
    If it raises, takes longer than 10 s or registers more than 1,000 things, the start stops with the plugin's name. Return
    nothing.
    """


@hookspec
def hub_event_received(event: Event, event_id: str) -> Awaitable[None] | None:
    """An event was stored, and is routed or set aside. Called in a worker, at least once per event, and again when the event
    is replayed.

    It is told as `hub_after_effect` is: right after the commit, and after a crash by another process. Events are told of
    side by side, in no order, while their runs go on: a slow hook holds nothing up. Of an event that is told late and was
    erased or removed meanwhile, what is left is told, or nothing.

    Of a stored event `fact_id` is its id in the hub; `correlate` and `consents` are empty, for they are stored already.

    May return an awaitable. It runs in the plugin's own thread under a time limit (`HUB_HOOK_LIMIT_S`). What it raises, or
    that it took too long, is logged with the plugin's name and changes nothing for the event and other plugins.
    """


@hookspec
def hub_before_effect(
    action: str, input: Mapping[str, Json], run_id: str, contact_id: str | None
) -> Awaitable[Veto | None] | Veto | None:
    """An action is about to be called. Called in a worker before consent and suppression are checked, outside transactions.

    Return (or await to) a `Veto` to stop the effect with a reason, or to delay it; None lets it pass. It runs in the plugin's
    own thread under a time limit; any veto wins. If it raises, takes too long or returns something else the effect is tried
    again later, never sent.
    """


@hookspec
def hub_after_effect(action: str, run_id: str, outcome: str) -> Awaitable[None] | None:
    """An effect has its outcome, and that is stored. Called in a worker, at least once per effect; again when somebody says
    what became of an unknown one.

    It is told right after the commit. That it is to be told is part of the commit, so that a process which dies in between
    leaves it to another one, which tells it when the lease is over. It may then come twice, and late; implement it so that
    this does no harm. A hook that raises was told. One that ends its process five times is not told again, and the log
    says so (`notice_lost`).

    May return an awaitable. It runs in the plugin's own thread under a time limit; what it raises is logged with the
    plugin's name.
    """


@hookspec
def hub_run_finished(run_id: str, recipe: str, ended_by: str) -> Awaitable[None] | None:
    """A run has ended (`done`, `failed`, `cancelled` or the name of a stop). Called in a worker, at least once per run.

    It is told as `hub_after_effect` is: right after the commit, and after a crash by another process.

    May return an awaitable. It runs in the plugin's own thread under a time limit; what it raises is logged with the
    plugin's name.
    """


class Veto:
    """A plugin's no to an effect: `reason` is shown on the run; with `delay_s` the effect is asked again later."""

    def __init__(self, reason: str, *, delay_s: float | None = None) -> None:
        self.reason, self.delay_s = reason, delay_s
