"""What can be done in a vendor's tool: actions, and what the hub may do when an answer is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from inspect import signature
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from hub.clock import format_duration
from hub.connector.calls import ActionContext
from hub.errors import ConnectorError, PermanentError, PluginError
from hub.misfits import misfits

I = TypeVar("I", bound=BaseModel)  # noqa: E741  (input and output read best as I and O)
O = TypeVar("O", bound=BaseModel)  # noqa: E741


class Effect(StrEnum):
    """What the hub may do after a crash between asking and hearing the answer."""

    IDEMPOTENT = "idempotent"
    """Ask again: the same input gives the same end state (an upsert by natural key)."""
    KEYED = "keyed"
    """Ask again with the same `ctx.idempotency_key`: the vendor recognises it, as long as it remembers (`key_window_s`)."""
    RECONCILABLE = "reconcilable"
    """Look it up by our reference first; ask again only if it is not there."""
    AT_MOST_ONCE = "at_most_once"
    """Never ask again: it ends in the visible state *unknown*, and the recipe decides."""


@dataclass(frozen=True, kw_only=True)
class Message(Generic[I]):
    """Marks an action that writes to a person: consent, suppression and the purpose are checked just before it leaves."""

    channel: str
    to: Callable[[I], str]
    """The address in the input; phone channels normalise it to E.164."""
    senders: tuple[str, ...] = ()
    """The fields of the input that say from whom it is, any of which is enough; then `default_senders` are looked at."""
    default_senders: tuple[str, ...] = ()
    """The connection's fields that say it for all its messages. A recipe whose step has neither is warned of."""


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[I]):
    """Collects calls of one action: up to `size` inputs, at most `linger_s` seconds, grouped by `group_by`."""

    size: int
    linger_s: float
    group_by: Callable[[I], str]
    together: str | None = None
    """A batch action of the connector, declared before and batched alike, whose calls take these inputs along in the order
    in which both were queued: adding somebody and removing them must not overtake each other. Its function gets both."""


Run = Callable[[ActionContext, I], Awaitable[O]]
RunBatch = Callable[[ActionContext, Sequence[I]], Awaitable[Sequence[O | ConnectorError]]]
Lookup = Callable[[ActionContext, I], Awaitable[O | None]]
Simulate = Callable[[I, int], O]
Describe = Callable[[I], str]


@dataclass(kw_only=True)
class Action(Generic[I, O]):
    """One thing a connector can do in the outside world.

    `run` calls the vendor; `lookup` finds what an earlier call with the same `ctx.reference` did (None: certainly nothing);
    `simulate` gives a made-up output for rehearsals; `describe` says in one line what would be done, without secrets.
    """

    connector: str
    name: str
    title: str
    input: type[I]
    output: type[O]
    run: Run[I, O]
    effect: Effect = Effect.AT_MOST_ONCE
    key_window_s: float | None = None
    """How long the vendor recognises the key of a keyed action, counted from the first try. After it a lost answer is looked
    up where the action can, else it ends as *unknown*."""
    message: Message[I] | None = None
    batch: Batch[I] | None = None
    provides: str | None = None
    scopes: tuple[str, ...] = ()
    """What a person must have granted for it to be done (see `OAuth2.scopes`)."""
    cost: int = 1
    """What one call takes from the connector's budgets, in their unit."""
    draws: Mapping[str, int] = field(default_factory=dict)
    """What one call takes from budgets that are kept apart, by their names."""
    lookup_draws: Mapping[str, int] = field(default_factory=dict)
    """The same of a look-up."""
    units: Mapping[str, Callable[[I], int]] = field(default_factory=dict)
    """What one call spends, in units that spending caps may count: `segments`, or minor units of a currency (`EUR`)."""
    timeout_s: float = 20.0
    simulate_: Simulate[I, O] | None = None
    describe_: Describe[I] | None = None
    lookup_: Lookup[I, O] | None = None
    run_batch: RunBatch[I, O] | None = None

    def __post_init__(self) -> None:
        """Raise PluginError for a keyed action that does not say how long its key counts."""
        if self.effect is Effect.KEYED and self.key_window_s is None:
            raise PluginError(
                self.connector,
                f"the keyed action {self.name} does not say how long the vendor remembers a key; give key_window_s",
            )

    @property
    def type(self) -> str:
        """The action's full name: `connector.name`."""
        return f"{self.connector}.{self.name}"

    @property
    def called_by(self) -> str:
        """The full name of the action whose calls its inputs go with: its own, unless its batch goes with another's."""
        return f"{self.connector}.{self.batch.together}" if self.batch and self.batch.together else self.type

    def read(self, stored: object) -> I:
        """A stored input, as this version of the plugin takes it. Raises PermanentError, which says what does not fit."""
        try:
            return self.input.model_validate(stored)
        except ValidationError as error:
            wrong = "; ".join(misfits(error, whole="the whole"))
            raise PermanentError(f"the input does not fit {self.type}: {wrong}") from error

    def after_loss(self, tried_since_ms: int, until_ms: int) -> Effect:
        """What may be done about a lost answer by a call that has ended at `until_ms`, first tried at `tried_since_ms`.

        A key that the vendor may have forgotten by then makes a keyed action reconcilable, or at most once.
        """
        if self.effect is not Effect.KEYED or until_ms < tried_since_ms + (self.key_window_s or 0) * 1000:
            return self.effect
        # Calls for many have no look-up.
        return Effect.RECONCILABLE if self.lookup_ and self.batch is None else Effect.AT_MOST_ONCE

    @property
    def unrepeatable(self) -> str:
        """Why it is not done again, once `after_loss` says at most once."""
        if self.effect is Effect.KEYED and self.key_window_s is not None:
            window = format_duration(int(self.key_window_s * 1000))
            return f"the answer was lost, and {self.connector} may not recognise a repeat after {window}"
        return "the answer was lost and this action must not be repeated"

    def lookup(self, function: Lookup[I, O]) -> Lookup[I, O]:
        """Decorator: how to find out, after a lost answer, whether the effect happened.

        Gets the context and the input; returns the output of the call that was made, or None when certainly none was.
        """
        self._takes(function, "ctx, input", "look-up")
        self.lookup_ = function
        return function

    def simulate(self, function: Simulate[I, O]) -> Simulate[I, O]:
        """Decorator: the output that a rehearsal pretends, from the input and hub time (ms); deterministic, no I/O."""
        self._takes(function, "input, now_ms", "simulation")
        self.simulate_ = function
        return function

    def describe(self, function: Describe[I]) -> Describe[I]:
        """Decorator: the dry-run text, one line, from the input."""
        self._takes(function, "input", "description")
        self.describe_ = function
        return function

    def _takes(self, function: Callable[..., object], arguments: str, what: str) -> None:
        """Raise PluginError, as the plugin is imported, for a function that cannot be called as it will be."""
        try:
            signature(function).bind(*arguments.split(", "))
        except TypeError:
            raise PluginError(
                self.connector, f"the {what} of {self.name} ({_named(function)}) is called with ({arguments})"
            ) from None

    def spends(self, unit: str, input: I) -> int:
        """What one call spends of a unit: `calls` and `messages` go without saying, others as declared, else 0."""
        if unit == "calls":
            return 1
        if unit == "messages":
            return int(self.message is not None)
        return self.units[unit](input) if unit in self.units else 0

    def rehearse(self, input: I, now_ms: int) -> O:
        """What a rehearsal takes as this action's output: `simulate`'s, else the output model's own defaults.

        Raises PermanentError when the simulation raises: a rehearsal tells it as a call that failed.
        """
        if self.simulate_ is None:
            return self.output.model_construct()
        made: O = self._made("simulation", self.simulate_, input, now_ms)
        return made

    def dry_run(self, input: I) -> str:
        """One line for people: what would be done. Raises PermanentError when the description raises."""
        return str(self._made("description", self.describe_, input)) if self.describe_ else f"{self.title}"

    def _made(self, what: str, function: Callable[..., Any], *given: object) -> Any:  # Any: what the function makes
        try:
            return function(*given)
        except Exception as error:  # a plugin may raise anything
            raise PermanentError(
                f"the {what} of {self.type} ({_named(function)}) raised {type(error).__name__}; mend the plugin"
            ) from error


def _named(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)
