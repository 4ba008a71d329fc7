"""What the engine is told and what it answers: frozen values only, so that decisions can be stored and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from hub.events import Json
from hub.values import value

# -- what is known -----------------------------------------------------------------------------------------------------


@value(frozen=True)
class RunState:
    """Where one run stands. `position` is the id of its step, None before the first decision.

    `trigger` is the event's data plus `type`, `occurred_at` (RFC 3339), `event_id` and `connection`; `ctx` is what the last decision
    returned (at first {}, or `since` alone).
    """

    run_id: str
    contact_id: str | None
    started_at_ms: int
    trigger: Mapping[str, Json]
    position: str | None
    ctx: Mapping[str, Json]

    @property
    def since_ms(self) -> int:
        """From when on what comes counts for it: its trigger's receipt, where that was before its start."""
        return int(self.ctx.get("since", self.started_at_ms))


@value(frozen=True)
class Facts:
    """What was loaded for a decision. `contact` None means not loaded.

    A contact holds id, email, phone, first_name, last_name, language, zone, tags (a list) and attributes (a mapping).
    """

    contact: Mapping[str, Json] | None = None
    vars: Mapping[str, Json] = field(default_factory=dict)
    """The environment's values; they win over the recipe's own `vars:`."""
    links: Mapping[str, Json] = field(default_factory=dict)
    default_zone: str = "UTC"
    """The zone of contacts that have none."""


# -- what arrived ------------------------------------------------------------------------------------------------------


@value(frozen=True)
class Started:
    """The run is new."""


@value(frozen=True)
class TimerFired:
    """The instant of a sleep or the timeout of a wait has come."""


@value(frozen=True)
class Answered:
    """The awaited event of an answer came. `event` has the shape of `RunState.trigger`."""

    name: str
    event: Mapping[str, Json]


@value(frozen=True)
class ActionDone:
    """An action has its outcome: `done`, `skipped` (`reason` begins with the outcome word), `failed` or `unknown`."""

    outcome: Literal["done", "skipped", "failed", "unknown"]
    output: Mapping[str, Json] | None = None
    reason: str = ""


@value(frozen=True)
class Exited:
    """The event of exit `index` came."""

    index: int
    event: Mapping[str, Json]


@value(frozen=True)
class Cancelled:
    """Somebody ended the run; `on_end` still runs."""

    reason: str


@value(frozen=True)
class Resumed:
    """Nothing new: decide the same again, such as after a crash."""


Arrival = Started | TimerFired | Answered | ActionDone | Exited | Cancelled | Resumed


# -- what is to be done ------------------------------------------------------------------------------------------------


@value(frozen=True)
class Need:
    """Facts that are missing: load exactly these (`contact`) and ask again."""

    facts: frozenset[str]


@value(frozen=True)
class Watch:
    """An event to look out for, found by equality on (type, key_field, key) and then judged by `where`.

    `name` is the index of an exit as text, or the name of an answer. `key_field` is `contact`, or a field that the
    trigger lists in `correlate`. `where` is a condition over {"event": …} with every template rendered.
    """

    kind: Literal["exit", "answer"]
    name: str
    type: str
    key_field: str
    key: str
    where: Json | None
    since_ms: int


@value(frozen=True)
class Act:
    """Call an action with this input. A message is not sent after `valid_until_ms`.

    `on_error` other than `retry` means: when it fails, do not try for days, tell the engine.
    """

    step_id: str
    path: str
    action: str
    connection: str
    input: Mapping[str, Json]
    purpose: str | None = None
    valid_until_ms: int | None = None
    on_unknown: str = "stop"
    confirms: str | None = None
    on_error: str = "retry"


@value(frozen=True)
class Sleep:
    """Come back with TimerFired at this instant."""

    until_ms: int
    reason: str


@value(frozen=True)
class Wait:
    """Come back with Answered when a watch sees its event, with TimerFired at `until_ms` (None: never)."""

    watches: tuple[Watch, ...]
    until_ms: int | None
    reason: str


@value(frozen=True)
class Finish:
    """The run has ended. `ended_by` is `done`, `failed`, `cancelled`, the word of a stop, or the event of an exit."""

    ended_by: str
    status: Literal["done", "failed"]
    reason: str


Next = Act | Sleep | Wait | Finish


@value(frozen=True)
class StepRecord:
    """One step passed, for people: what it came to and why."""

    step_id: str
    path: str
    kind: str
    outcome: str
    reason: str


@value(frozen=True)
class ContactChange:
    """A change to the run's contact. `field` is `tags` (operation add or remove) or `attributes.NAME` (operation set)."""

    field: str
    operation: Literal["set", "add", "remove"]
    value: Json


@value(frozen=True)
class Decision:
    """What to do next, and what to store with it in the same transaction.

    `exits` are the exit watches that this decision arms; `trail` the steps it passed, in order.
    """

    next: Next
    position: str | None
    ctx: Mapping[str, Json]
    trail: tuple[StepRecord, ...] = ()
    changes: tuple[ContactChange, ...] = ()
    exits: tuple[Watch, ...] = ()
