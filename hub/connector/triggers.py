"""What can happen in a vendor's tool: triggers, the polls that look for what no webhook brought, and subscriptions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from hub.connector.calls import ActionContext
from hub.connector.webhook import Delivery
from hub.events import ConsentSignal, Event, Identity, Json

P = TypeVar("P", bound=BaseModel)

Parse = Callable[[Delivery], Iterable[P]]
Enrich = Callable[[ActionContext, Sequence[P]], Awaitable[Sequence[P]]]
Confirm = Callable[[ActionContext, P], Awaitable[bool]]


class Privacy(StrEnum):
    """What a trigger of a vendor asks the hub to do about somebody's data; it is done when the event is routed."""

    ERASE_PERSON = "erase_person"
    """Erase the subject of the event."""
    EXPORT_PERSON = "export_person"
    """Gather what is known of the subject, for the operator to hand over."""
    ERASE_ACCOUNT = "erase_account"
    """Erase everybody who is known through this connection only."""


@dataclass(frozen=True, kw_only=True)
class Quiet(Generic[P]):
    """A trigger derived from silence: it fires when `key` has been quiet for `after_s` seconds.

    Each event of the `source` triggers (names within the connector) restarts the timer of its key; one of the `cancel`
    triggers with the same key ends it. `key` maps a payload's JSON values to the key, or None to leave the event out.
    The derived event carries the payload of the newest source event.
    """

    source: tuple[str, ...]
    cancel: tuple[str, ...]
    key: Callable[[Mapping[str, Json]], str | None]
    after_s: int


@dataclass(kw_only=True)
class Trigger(Generic[P]):
    """One kind of event that a connector can deliver.

    `fact` names the fact within the trigger (an order's id): the same from webhook, doubled subscription and poll.
    `subject` says whose it is; `correlate` lists top-level payload fields that a recipe's `match` may use; `consent`
    gives what the payload says about consent; `occurred_at` the vendor's own time of it (aware datetime).
    """

    connector: str
    name: str
    title: str
    payload: type[P]
    fact: Callable[[P], str]
    topics: tuple[str, ...] = ()
    sample: str | None = None
    """The name of a fixture file in the plugin's `tests/fixtures` that parses to at least one event."""
    subject: Callable[[P], Identity] | None = None
    occurred_at: Callable[[P], Any] | None = None
    correlate: tuple[str, ...] = ()
    consent: Callable[[P], Iterable[ConsentSignal]] | None = None
    account: Callable[[P], str] | None = None
    """The vendor account a payload belongs to, where one delivery carries events of several accounts."""
    cause: Callable[[P], str | None] | None = None
    """The `ctx.reference` of an action of ours that made this happen, where the vendor gives it back."""
    provides: str | None = None
    scopes: tuple[str, ...] = ()
    """What a person must have granted for it to come (see `OAuth2.scopes`)."""
    always: bool = False
    """Its topics are subscribed to whether or not a recipe uses it; so are those of triggers that tell of consent."""
    privacy: Privacy | None = None
    ends_access: bool = False
    """Its event says that the vendor takes the account's credentials no longer: the connection then needs new ones."""
    parse: Parse[P] | None = None
    quiet: Quiet[P] | None = None
    confirm_: Confirm[P] | None = None
    enrich_: Enrich[P] | None = None

    @property
    def type(self) -> str:
        """The event type: `connector.name`."""
        return f"{self.connector}.{self.name}"

    def event(self, payload: P, received_at_ms: int) -> Event:
        """A payload as an event. Raises PayloadError when a declared function cannot cope with it."""
        data = payload.model_dump(mode="json")
        occurred = self.occurred_at(payload) if self.occurred_at else None
        return Event(
            type=self.type,
            fact_id=f"{self.name}:{self.fact(payload)}",
            occurred_at_ms=round(occurred.timestamp() * 1000) if occurred else received_at_ms,
            data=data,
            subject=self.subject(payload) if self.subject else None,
            correlate={name: str(data[name]) for name in self.correlate if data.get(name) is not None},
            consents=tuple(self.consent(payload)) if self.consent else (),
            account=self.account(payload) if self.account else None,
            cause=self.cause(payload) if self.cause else None,
        )

    def recall(self, data: Mapping[str, Json]) -> P:
        """The payload of an event's data, whose keys are names of fields. Raises pydantic's ValidationError.

        An alias is what the vendor calls a field in its own calls, and counts as well.
        """
        return self.payload.model_validate(data, by_alias=True, by_name=True)

    def confirm(self, function: Confirm[P]) -> Confirm[P]:
        """Decorator: ask the vendor, just before a derived event is made, whether it is still true. False drops it."""
        self.confirm_ = function
        return function

    def enrich(self, function: Enrich[P]) -> Enrich[P]:
        """Decorator: fill in what the webhook left out (it carried only ids), in the worker, before recipes match.

        Gets up to 100 payloads of one connection, returns as many in the same order.
        """
        self.enrich_ = function
        return function


@dataclass(frozen=True)
class Page(Generic[P]):
    """One page of a poll: its payloads and the cursor to go on from (an opaque string) once they are stored."""

    items: Sequence[P]
    cursor: str


@dataclass(frozen=True, kw_only=True)
class Poll(Generic[P]):
    """Asks the vendor for what a webhook may have missed, or for what has no webhook.

    Called with the cursor of the last stored page (None at first) and `since_ms`, which lies `overlap_s` seconds before the
    last poll's start; the core drops what it has seen, by fact id.
    """

    trigger: str
    every_s: int
    overlap_s: int
    cost: int = 1
    """What one page takes from the connector's budgets, in their unit."""
    draws: Mapping[str, int] = field(default_factory=dict)
    """What one poll takes from budgets that are kept apart, by their names."""
    fetch: Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]


@dataclass(frozen=True, kw_only=True)
class History(Generic[P]):
    """Reads what happened before the hub was there: `hub connections backfill`. It starts and wakes no run.

    Called like a poll, with the cursor of the last stored page (None at first) and the instant to begin at; the facts must
    be named as the trigger names them.
    """

    trigger: str
    fetch: Callable[[ActionContext, str | None, int], AsyncIterator[Page[P]]]


# -- subscriptions: telling the vendor where to call -------------------------------------------------------------------


@dataclass(frozen=True)
class Subscription:
    """A webhook registered at the vendor: its id there, topic, address and expiry (None: does not expire).

    `secret` is what its calls will be signed with, where the vendor tells that only when it is made.
    """

    id: str
    topic: str
    address: str
    expires_at_ms: int | None = None
    secret: str | None = field(default=None, repr=False)


class Subscriptions(ABC):
    """How a vendor's webhook registrations are kept. The hub compares them with what recipes need, and mends them."""

    secret_field: ClassVar[str] = ""
    """The connection's secret field that gathers the `secret` of subscriptions, as `id:secret` separated by spaces."""
    shared: ClassVar[bool] = False
    """Whether they belong to the app and serve all of its accounts: then they lead to the app's address, and one that any
    of the accounts needs stays. Otherwise each account has its own."""

    @abstractmethod
    async def list(self, ctx: ActionContext) -> Sequence[Subscription]:
        """Every subscription of the account, also those that lead elsewhere."""

    @abstractmethod
    async def create(self, ctx: ActionContext, topic: str, address: str) -> Subscription:
        """Subscribe; one that is there already is as good as a new one."""

    @abstractmethod
    async def delete(self, ctx: ActionContext, subscription: Subscription) -> None:
        """Unsubscribe; one that is gone already is no error."""

    async def renew(self, ctx: ActionContext, subscription: Subscription) -> Subscription:
        """Make one that expires last longer. Unless overridden it is made anew."""
        return await self.create(ctx, subscription.topic, subscription.address)

    def is_shared(self, topic: str) -> bool:
        """Whether one of this topic serves all accounts of the app; as `shared` says unless a vendor has both kinds."""
        return self.shared

    async def wanted(self, ctx: ActionContext, topics: Sequence[str]) -> Sequence[str]:
        """The subscriptions' topics for these topics of triggers: the same, unless the vendor subscribes otherwise.

        A vendor with one subscription per list answers with one topic per list.
        """
        return topics


def secrets_in(value: str) -> dict[str, str]:
    """The secrets that the field of `Subscriptions.secret_field` gathers, by the subscription's id: for `Webhook.verify`."""
    parts = (part.rpartition(":") for part in value.split())
    return {id_: secret for id_, colon, secret in parts if colon}
