"""A run in hand, what works on it, and the small words that the rooms of this package share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hub import engine
from hub.clock import Clock
from hub.connections import Connections
from hub.connector import Action
from hub.deadline import Deadline, call_limit_s, margin_s
from hub.engine import Arrival
from hub.errors import HubError
from hub.events import Json
from hub.library import Library
from hub.limits import Limits
from hub.metrics import Metrics
from hub.notices import Notices
from hub.pauses import Pauses
from hub.plugins import Plugins
from hub.spending import Spending
from hub.store.runs import EffectResult, EffectRow, RunRow, refusal
from hub.store.session import Store
from hub.store.work import Claim
from hub.traces import Traces


class LetGo(Exception):  # (not a failure: the run is somebody else's now, or waits for its next due time)
    """Stop working on this run; everything that had to be written is written."""


@dataclass
class Hand:
    """A run in hand."""

    claim: Claim
    row: RunRow
    deadline: Deadline
    position: str | None = None
    ctx: Mapping[str, Json] = field(default_factory=dict)
    seq: int = 0
    watches: int = 0
    result: EffectResult | None = None
    in_doubt: bool = False
    """An earlier call of this effect may have been carried out: that a later one was not says nothing about it."""
    given_back: bool = False
    """Its wait is being armed: until that is done anybody may take the run, and an end that is found is theirs to make."""
    touched: float = field(default_factory=time.monotonic)
    """When something of it was last committed (monotonic)."""

    def __post_init__(self) -> None:
        self.position, self.ctx = self.row.position, self.row.ctx
        self.seq, self.watches = self.row.steps, self.row.watches

    @property
    def outcome(self) -> EffectResult | None:
        """What may be written of the effect in hand: nothing that would deny an earlier call."""
        result = self.result
        if result is None or not self.in_doubt or result.state in {"done", "unknown"}:
            return result
        if result.state == "planned":
            return None
        reason = f"the answer to an earlier try was lost; then: {result.reason}"
        return replace(result, state="unknown", outcome="unknown", reason=reason)


@dataclass(frozen=True)
class Tools:
    """What a runner works with."""

    store: Store
    library: Library
    connections: Connections
    plugins: Plugins
    clock: Clock
    limits: Limits
    pauses: Pauses
    spending: Spending
    notices: Notices
    metrics: Metrics
    traces: Traces
    zone: str = "UTC"
    hook_limit_s: float = 2.0
    lease_s: float = 30.0
    rehearsal: bool = False
    """Actions give their simulated output instead of calling anybody."""
    jitter: Callable[[], float] = random.random

    @property
    def margin_s(self) -> float:
        """How long before the end of a lease every call must have ended."""
        return margin_s(self.lease_s)

    def limit_s(self, action: Action[Any, Any]) -> float:
        """How long a call of this action may take."""
        return call_limit_s(self.lease_s, action.timeout_s)


def effect_key(run_id: str, step_id: str) -> str:
    """Names an effect for ever: its run and step."""
    return f"{run_id}:{step_id}"


def stopped(stop: Mapping[str, Json]) -> Arrival:
    """What a stop says to the engine."""
    if "cancel" in stop:
        return engine.Cancelled(str(stop["cancel"]))
    return engine.Exited(int(stop["name"]), stop["event"])


def result_of(
    effect: EffectRow,
    state: str,
    outcome: str,
    reason: str,
    response: Mapping[str, Json] | None,
    at_ms: int,
    *,
    message: bool = True,
    unspent: bool = False,
    error: Exception | None = None,
) -> EffectResult:
    """What became of an effect, as T5 writes it; `error` is what its call failed with."""
    response = response if error is None else refusal(error)
    about, spent = (effect.key, effect.token, effect.action), bool(effect.request.get("spent"))
    return EffectResult(*about, state, outcome, reason, response, at_ms, message=message, unspent=unspent, spent=spent)


def planned(
    effect: EffectRow, at_ms: int, *, message: bool = True, unspent: bool = False, error: Exception | None = None
) -> EffectResult:
    """An effect that certainly was not done and is to be tried again; `unspent` says that the attempt does not count."""
    why = "to be tried again"
    return result_of(effect, "planned", "planned", why, None, at_ms, message=message, unspent=unspent, error=error)


def say(error: Exception) -> str:
    """An error for a run's trace: our own words, or only the type of somebody else's, which may repeat personal data."""
    return str(error) if isinstance(error, HubError) else type(error).__name__
